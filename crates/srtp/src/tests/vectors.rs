//! RFC 7714 sections 16 and 17: packets under given session keys.

use super::super::gcm::Gcm;
use super::hex;

const SALT: &[u8; 12] = b"Quid pro quo";
const RTP: &str = "8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973 20646976
    69736120 696e2070 61727465 73207472 6573";
const RTCP: &str = "81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61
    deadbeef deadbeef deadbeef deadbeef deadbeef";

fn key(len: u8) -> Vec<u8> {
    (0..len).collect()
}

#[test]
fn srtp_packets() {
    // Sections 16.1.1 and 16.2.1.
    for (key_len, sealed) in [
        (
            16,
            "f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f 42a5f47a 51c7d19b 36de3adf
             8833899d 7f27beb1 6a9152cf 765ee439 0cce",
        ),
        (
            32,
            "32b1de78 a822fe12 ef9f78fa 332e33aa b1801238 9a58e2f3 b50b2a02 76ffae0f 1ba63799
             b87b7aa3 db36dfff d6b0f9bb 7878d7a7 6c13",
        ),
    ] {
        let gcm = Gcm::new(&key(key_len), *SALT).unwrap();
        let plain = hex(RTP);
        let mut buf = plain.clone();
        buf.resize(plain.len() + 16, 0);
        let len = gcm.seal_rtp(&mut buf, 12, plain.len(), 0x5501_a0b2, 0xf17b).unwrap();
        assert_eq!(len, buf.len());
        assert_eq!(buf[..12], plain[..12]);
        assert_eq!(buf[12..], hex(sealed));
        assert_eq!(gcm.open_rtp(&mut buf, 12, 0x5501_a0b2, 0xf17b), Ok(plain.len()));
        assert_eq!(buf[..plain.len()], plain);
    }
}

#[test]
fn srtcp_packets() {
    // Sections 17.1 and 17.2.
    for (key_len, sealed) in [
        (
            16,
            "63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d c676a5f1 730d6fda 4ce09b46
             86303ded 0bb9275b c84aa458 96cf4d2f c5abf872 45d9eade 800005d4",
        ),
        (
            32,
            "d50ae4d1 f5ce5d30 4ba297e4 7d470c28 2c3ece5d bffe0a50 a2eaa5c1 110555be 8415f658
             c61de047 6f1b6fad 1d1eb30c 4446839f 57ff6f6c b26ac3be 800005d4",
        ),
    ] {
        let gcm = Gcm::new(&key(key_len), *SALT).unwrap();
        let plain = hex(RTCP);
        let mut buf = plain.clone();
        buf.resize(plain.len() + 20, 0);
        let len = gcm.seal_rtcp(&mut buf, plain.len(), 0x4d61_7273, 0x5d4).unwrap();
        assert_eq!(len, buf.len());
        assert_eq!(buf[..8], plain[..8]);
        assert_eq!(buf[8..], hex(sealed));
        assert_eq!(gcm.open_rtcp(&mut buf, 0x4d61_7273, 0x5d4), Ok(plain.len()));
        assert_eq!(buf[..plain.len()], plain);
    }
}
