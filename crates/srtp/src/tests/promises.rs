//! Guarantees of the contexts: packets that are not authentic create or change nothing.

use proptest::prelude::*;

use super::*;

#[test]
fn key_material_must_fit_the_profile() {
    for profile in Profile::ALL {
        let key = key_and_salt(profile);
        assert!(TxContext::new(profile, &key).is_ok());
        assert_eq!(TxContext::new(profile, &key[1..]).unwrap_err(), SrtpError::KeyLength);
        assert_eq!(RxContext::new(profile, &[]).unwrap_err(), SrtpError::KeyLength);
        assert_eq!(Profile::from_name(profile.name()), Some(profile));
        assert_eq!(Profile::from_id(profile.id()), Some(profile));
    }
    assert_eq!(Profile::from_name("SRTP_NULL"), None);
    assert_eq!(Profile::from_id(5), None);
}

#[test]
fn room_and_lengths_are_checked() {
    for profile in Profile::ALL {
        let (mut tx, mut rx) = pair(profile);
        let mut buf = packet(1, 2, &[3; 20]);
        let len = buf.len();
        assert_eq!(tx.seal_rtp(&mut buf, 12, len, 1, 2), Err(SrtpError::NoRoom));
        assert_eq!(tx.seal_rtp(&mut buf, 12, 1000, 1, 2), Err(SrtpError::NoRoom));
        assert_eq!(tx.seal_rtcp(&mut buf, len), Err(SrtpError::NoRoom));
        buf.resize(100, 0);
        assert_eq!(tx.seal_rtp(&mut buf, 13, 12, 1, 2), Err(SrtpError::Short));
        assert_eq!(tx.seal_rtp(&mut buf, 12, 40, 1 << 48, 2), Err(SrtpError::Exhausted));
        assert_eq!(tx.seal_rtcp(&mut buf, 7), Err(SrtpError::Short));
        let mut stream = None;
        for len in 0..12 + profile.rtp_overhead() {
            let mut short = vec![0x80; len];
            assert_eq!(rx.open_rtp(&mut stream, &mut short, 12), Err(SrtpError::Short), "{len}");
        }
        for len in 0..8 + profile.rtcp_overhead() {
            assert_eq!(rx.open_rtcp(&mut vec![0x80; len]), Err(SrtpError::Short), "{len}");
        }
        assert_eq!(rx.open_rtp(&mut stream, &mut [0x80; 60], 11), Err(SrtpError::Short));
        assert_eq!(rx.open_rtp(&mut stream, &mut [0x80; 60], usize::MAX), Err(SrtpError::Short));
        assert!(stream.is_none());
    }
}

#[test]
fn an_unencrypted_srtcp_packet_is_refused() {
    for profile in Profile::ALL {
        let (mut tx, mut rx) = pair(profile);
        let mut buf = [0x80; 100];
        let len = tx.seal_rtcp(&mut buf, 40).unwrap();
        let word = match profile {
            Profile::Aes128CmSha1_80 | Profile::Aes128CmSha1_32 => 40,
            _ => 56,
        };
        buf[word] &= 0x7f;
        assert_eq!(rx.open_rtcp(&mut buf[..len]), Err(SrtpError::Unencrypted));
    }
}

/// RFC 3711 section 4.2.1 cuts the same authentication code off; RFC 5764 section 4.1.2 leaves SRTCP at
/// 80 bits.
#[test]
fn tags_of_32_bits_are_for_rtp_only() {
    let (mut long, _) = pair(Profile::Aes128CmSha1_80);
    let (mut short, _) = pair(Profile::Aes128CmSha1_32);
    let cut = seal(&short, 5, 9, b"payload");
    assert_eq!(cut.len(), 12 + 7 + 4);
    assert_eq!(cut, seal(&long, 5, 9, b"payload")[..12 + 7 + 4]);

    let rtcp = |tx: &mut TxContext| {
        let mut buf = [0x80; 60];
        let len = tx.seal_rtcp(&mut buf, 40).unwrap();
        buf[..len].to_vec()
    };
    assert_eq!(rtcp(&mut short).len(), 40 + 4 + 10);
    assert_eq!(rtcp(&mut short), {
        rtcp(&mut long);
        rtcp(&mut long)
    });
}

#[test]
fn a_stream_whose_first_packets_were_lost_before_it_wrapped() {
    for profile in Profile::ALL {
        let (tx, rx) = pair(profile);
        let mut stream = None;
        let opened = rx.open_rtp(&mut stream, &mut seal(&tx, 0x1_0003, 9, b"late"), 12).unwrap();
        assert_eq!(opened, Opened { len: 16, index: 0x1_0003 });
        // One from before the wrap.
        let opened = rx.open_rtp(&mut stream, &mut seal(&tx, 0xfffe, 9, b"early"), 12).unwrap();
        assert_eq!(opened.index, 0xfffe);
        assert_eq!(stream.as_ref().map(RxStream::highest), Some(0x1_0003));
    }
}

#[test]
fn nothing_is_older_than_roll_over_counter_zero() {
    let (tx, rx) = pair(Profile::AeadAes128Gcm);
    let mut stream = None;
    rx.open_rtp(&mut stream, &mut seal(&tx, 3, 9, b"first"), 12).unwrap();
    let mut before = packet(65_535, 9, &[0; 30]);
    assert_eq!(rx.open_rtp(&mut stream, &mut before, 12), Err(SrtpError::TooOld));
}

#[test]
fn long_losses_and_the_window() {
    for profile in Profile::ALL {
        let (tx, rx) = pair(profile);
        let mut stream = None;
        let mut open =
            |index| rx.open_rtp(&mut stream, &mut seal(&tx, index, 9, b"x"), 12).map(|o| o.index);
        let mut index = 60_000;
        for _ in 0..20 {
            assert_eq!(open(index), Ok(index));
            index += 30_000;
        }
        let highest = index - 30_000;
        assert_eq!(open(highest - 1023), Ok(highest - 1023));
        assert_eq!(open(highest - 1024), Err(SrtpError::TooOld));
        assert_eq!(open(highest), Err(SrtpError::Replay));
        assert_eq!(open(highest - 1023), Err(SrtpError::Replay));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any changed bit is noticed, and the genuine packets still open afterwards.
    #[test]
    fn forged_packets_change_nothing(
        profile in prop::sample::select(Profile::ALL.to_vec()),
        payload in proptest::collection::vec(any::<u8>(), 0..40),
        bit in any::<prop::sample::Index>(),
        seq in any::<u16>(),
    ) {
        let (mut tx, mut rx) = pair(profile);
        let index = u64::from(seq);
        let flip = |packet: &[u8]| {
            let mut forged = packet.to_vec();
            let at = bit.index(forged.len() * 8);
            forged[at / 8] ^= 1 << (at % 8);
            forged
        };
        let first = seal(&tx, index, 7, &payload);
        let mut stream = None;
        prop_assert!(rx.open_rtp(&mut stream, &mut flip(&first), 12).is_err());
        prop_assert!(stream.is_none());
        prop_assert!(rx.open_rtp(&mut stream, &mut first.clone(), 12).is_ok());

        let second = seal(&tx, index + 1, 7, &payload);
        prop_assert!(rx.open_rtp(&mut stream, &mut flip(&second), 12).is_err());
        prop_assert_eq!(stream.as_ref().map(RxStream::highest), Some(index));
        prop_assert!(rx.open_rtp(&mut stream, &mut second.clone(), 12).is_ok());

        let mut rtcp = packet(seq, 7, &payload);
        rtcp[1] = 201;
        let len = rtcp.len();
        rtcp.resize(len + profile.rtcp_overhead(), 0);
        tx.seal_rtcp(&mut rtcp, len).unwrap();
        prop_assert!(rx.open_rtcp(&mut flip(&rtcp)).is_err());
        prop_assert_eq!(rx.open_rtcp(&mut rtcp), Ok(len));
    }
}
