//! Entry points of the fuzz targets of this crate, so that a stable toolchain can replay their corpora. A
//! target panics when an invariant is broken, and only then.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a fuzz target panics when an invariant is broken"
)]

use crate::{Profile, RxContext};

/// A fuzz target: it panics when an invariant is broken.
pub type Target = fn(&[u8]);

/// Name and function of each fuzz target.
pub const TARGETS: &[(&str, Target)] = &[("srtp_open", srtp_open)];

/// Nothing that was not sealed opens, and it leaves no state behind.
pub fn srtp_open(data: &[u8]) {
    let Some((profile, packet)) = data.split_first() else { return };
    let profile = Profile::ALL[usize::from(*profile) % Profile::ALL.len()];
    let key = vec![0x5a; profile.key_len() + profile.salt_len()];
    let mut context = RxContext::new(profile, &key).expect("the key has the right length");
    let mut buf = packet.to_vec();
    if rialto_rtp::demux(&buf) == rialto_rtp::Kind::Rtcp {
        let _ = context.open_rtcp(&mut buf);
        return;
    }
    let header_len = rialto_rtp::RtpHeader::parse(&buf).map_or(12, |header| header.len);
    let mut stream = None;
    if context.open_rtp(&mut stream, &mut buf, header_len).is_err() {
        assert!(stream.is_none());
    }
}
