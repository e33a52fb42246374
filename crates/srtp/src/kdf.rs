//! Session key derivation (RFC 3711 section 4.3; RFC 6188 for 256 bits; RFC 7714 section 11).

use aes::cipher::{BlockEncrypt, KeyInit};
use aes::{Aes128Enc, Aes256Enc};

use super::SrtpError;

/// The derivation labels of RTP or RTCP.
#[derive(Clone, Copy)]
pub(super) struct Labels {
    /// Of the encryption key.
    pub(super) key: u8,
    /// Of the authentication key.
    pub(super) auth: u8,
    /// Of the salt.
    pub(super) salt: u8,
}

/// Labels for SRTP.
pub(super) const RTP: Labels = Labels { key: 0, auth: 1, salt: 2 };
/// Labels for SRTCP.
pub(super) const RTCP: Labels = Labels { key: 3, auth: 4, salt: 5 };

/// The pseudo-random function: AES in counter mode, keyed with the master key. The key derivation
/// rate is always zero (RFC 5764 section 4.1.2), so that session keys last.
pub(super) struct Kdf {
    aes: Aes,
    /// The master salt as the upper 112 bits of the counter block; the 12-byte salt of GCM fills
    /// the upper 96 (RFC 7714 section 11).
    salt: u128,
}

enum Aes {
    Aes128(Box<Aes128Enc>),
    Aes256(Box<Aes256Enc>),
}

impl Kdf {
    /// Takes a master key of 16 or 32 bytes and a salt of at most 14.
    pub(super) fn new(key: &[u8], salt: &[u8]) -> Result<Self, SrtpError> {
        let aes = match key.len() {
            16 => Aes::Aes128(Box::new(
                Aes128Enc::new_from_slice(key).map_err(|_| SrtpError::KeyLength)?,
            )),
            32 => Aes::Aes256(Box::new(
                Aes256Enc::new_from_slice(key).map_err(|_| SrtpError::KeyLength)?,
            )),
            _ => return Err(SrtpError::KeyLength),
        };
        let mut block = [0u8; 16];
        block
            .get_mut(..salt.len())
            .filter(|block| block.len() <= 14)
            .ok_or(SrtpError::KeyLength)?
            .copy_from_slice(salt);
        Ok(Self { aes, salt: u128::from_be_bytes(block) })
    }

    /// Fills `out` with the key for `label`.
    pub(super) fn derive(&self, label: u8, out: &mut [u8]) {
        // The label sits above the 48 bits of (index DIV rate), which are zero, and the 16 bits of
        // the block counter.
        let start = self.salt ^ (u128::from(label) << 64);
        for (n, chunk) in out.chunks_mut(16).enumerate() {
            let mut block = start.wrapping_add(n as u128).to_be_bytes();
            match &self.aes {
                Aes::Aes128(aes) => aes.encrypt_block((&mut block).into()),
                Aes::Aes256(aes) => aes.encrypt_block((&mut block).into()),
            }
            for (out, byte) in chunk.iter_mut().zip(block) {
                *out = byte;
            }
        }
    }

    /// The key for `label`, with a length known at compile time.
    pub(super) fn array<const N: usize>(&self, label: u8) -> [u8; N] {
        let mut out = [0; N];
        self.derive(label, &mut out);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::hex;

    /// RFC 3711 appendix B.3.
    #[test]
    fn key_derivation_vectors() {
        let key = hex("E1F97A0D3E018BE0D64FA32C06DE4139");
        let salt = hex("0EC675AD498AFEEBB6960B3AABE6");
        let kdf = Kdf::new(&key, &salt).unwrap();
        assert_eq!(kdf.array::<16>(RTP.key).to_vec(), hex("C61E7A93744F39EE10734AFE3FF7A087"));
        assert_eq!(kdf.array::<14>(RTP.salt).to_vec(), hex("30CBBC08863D8C85D49DB34A9AE1"));
        assert_eq!(
            kdf.array::<94>(RTP.auth).to_vec(),
            hex("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA48F0A0ACF3C34E2359E6CDBCE\
                 E049646C43D9327AD175578EF72270986371C10C9A369AC2F94A8C5FBCDDDC25\
                 6D6E919A48B610EF17C2041E474035766B68642C59BBFC2F34DB60DBDFB2")
        );
    }

    /// RFC 6188 section 7.2.
    #[test]
    fn key_derivation_vectors_of_256_bits() {
        let key = hex("f0f04914b513f2763a1b1fa130f10e2998f6f6e43e4309d1e622a0e332b9f1b6");
        let salt = hex("3b04803de51ee7c96423ab5b78d2");
        let kdf = Kdf::new(&key, &salt).unwrap();
        assert_eq!(
            kdf.array::<32>(RTP.key).to_vec(),
            hex("5ba1064e30ec51613cad926c5a28ef731ec7fb397f70a960653caf06554cd8c4")
        );
        assert_eq!(kdf.array::<14>(RTP.salt).to_vec(), hex("fa31791685ca444a9e07c6c64e93"));
        assert_eq!(
            kdf.array::<20>(RTP.auth).to_vec(),
            hex("fd9c32d39ed5fbb5a9dc96b30818454d1313dc05")
        );
    }

    #[test]
    fn odd_lengths_are_refused() {
        assert!(Kdf::new(&[0; 15], &[0; 14]).is_err());
        assert!(Kdf::new(&[0; 16], &[0; 15]).is_err());
    }
}
