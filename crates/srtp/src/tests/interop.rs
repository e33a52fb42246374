//! Interoperation with webrtc-srtp, which shares no code with ours, over lossy and reordering paths.

use proptest::collection::vec;
use proptest::prelude::*;
use rialto_rtp::rtcp::RtcpWriter;
use webrtc_srtp::context::Context;
use webrtc_srtp::protection_profile::ProtectionProfile;

use super::*;

const SSRC: u32 = 0x1234_5678;

fn theirs(profile: Profile) -> Context {
    let material = key_and_salt(profile);
    let (key, salt) = material.split_at(profile.key_len());
    let profile = match profile {
        Profile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        Profile::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
        Profile::Aes128CmSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
        Profile::Aes128CmSha1_32 => ProtectionProfile::Aes128CmHmacSha1_32,
    };
    Context::new(key, salt, profile, None, None).unwrap()
}

fn profile() -> impl Strategy<Value = Profile> {
    prop::sample::select(Profile::ALL.to_vec())
}

/// In what order which of the packets arrive: each is lost or comes up to 30 places late. The first
/// one is never overtaken, because it fixes the roll-over counter.
fn path() -> impl Strategy<Value = Vec<usize>> {
    vec(prop_oneof![1 => Just(None), 6 => (0usize..30).prop_map(Some)], 1..150).prop_map(|fates| {
        let mut arrivals: Vec<_> = fates
            .into_iter()
            .enumerate()
            .filter_map(|(n, delay)| Some((n + 1 + delay?, n + 1)))
            .collect();
        arrivals.push((0, 0));
        arrivals.sort_unstable();
        arrivals.into_iter().map(|(_, n)| n).collect()
    })
}

/// Around the end of the sequence numbers, so that the counter rolls over during the test.
fn start() -> impl Strategy<Value = u16> {
    prop_oneof![4 => 65_400u16..=65_535, 1 => any::<u16>().prop_map(|seq| seq.max(40))]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn ours_opens_theirs(
        profile in profile(), start in start(), path in path(),
        payload in vec(any::<u8>(), 0..64),
    ) {
        let mut tx = theirs(profile);
        let rx = RxContext::new(profile, &key_and_salt(profile)).unwrap();
        let last = path.iter().max().unwrap();
        let sealed: Vec<_> = (0..=*last)
            .map(|n| tx.encrypt_rtp(&packet(start.wrapping_add(n as u16), SSRC, &payload)).unwrap())
            .collect();
        let mut stream = None;
        for n in &path {
            let mut buf = sealed[*n].to_vec();
            let opened = rx.open_rtp(&mut stream, &mut buf, 12);
            let index = u64::from(start) + *n as u64;
            prop_assert_eq!(opened, Ok(Opened { len: 12 + payload.len(), index }));
            prop_assert_eq!(&buf[..12 + payload.len()], &packet(index as u16, SSRC, &payload)[..]);
        }
        for n in &path {
            let refused = rx.open_rtp(&mut stream, &mut sealed[*n].to_vec(), 12);
            prop_assert_eq!(refused, Err(SrtpError::Replay));
        }
    }

    #[test]
    fn theirs_opens_ours(
        profile in profile(), start in start(), path in path(),
        payload in vec(any::<u8>(), 0..64),
    ) {
        let tx = TxContext::new(profile, &key_and_salt(profile)).unwrap();
        let mut rx = theirs(profile);
        for n in path {
            let index = u64::from(start) + n as u64;
            let opened = rx.decrypt_rtp(&seal(&tx, index, SSRC, &payload));
            prop_assert_eq!(&opened.unwrap()[..], &packet(index as u16, SSRC, &payload)[..]);
        }
    }

    #[test]
    fn rtcp_both_ways(
        profile in profile(), ssrc in any::<u32>(), count in 1usize..20,
        lost in any::<u16>(),
    ) {
        let key = key_and_salt(profile);
        let (mut tx, mut rx) =
            (TxContext::new(profile, &key).unwrap(), RxContext::new(profile, &key).unwrap());
        let (mut their_tx, mut their_rx) = (theirs(profile), theirs(profile));
        for _ in 0..count {
            let mut buf = [0; 200];
            let mut writer = RtcpWriter::new(&mut buf);
            writer.receiver_report(ssrc, &[]).unwrap();
            writer.nack(ssrc, 1, [lost.into()]).unwrap();
            let len = writer.len();
            let plain = buf[..len].to_vec();

            let sealed = tx.seal_rtcp(&mut buf, len).unwrap();
            prop_assert_eq!(sealed, len + profile.rtcp_overhead());
            prop_assert_eq!(&their_rx.decrypt_rtcp(&buf[..sealed]).unwrap()[..], &plain[..]);

            let sealed = their_tx.encrypt_rtcp(&plain).unwrap();
            let mut opened = sealed.to_vec();
            let len = rx.open_rtcp(&mut opened).unwrap();
            prop_assert_eq!(&opened[..len], &plain[..]);
            prop_assert_eq!(rx.open_rtcp(&mut sealed.to_vec()), Err(SrtpError::Replay));
        }
    }
}
