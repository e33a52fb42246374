//! State of the SSRCs that a sender no longer signals.
//!
//! Roll-over counter and replay window belong to an SSRC for as long as the key (RFC 3711 section
//! 3.2.3), whatever is signalled: a camera that is switched off and on again continues its numbers.

use std::collections::VecDeque;

use rialto_srtp::RxStream;

use super::{numbers::ForwardNumbers, seen::SeenWindow};

/// SSRCs that are remembered under one key, in addition to those signalled now: four times as many
/// as may be signalled at once. 170 KiB at most.
const MAX_RETIRED: usize = 512;

/// The state of one SSRC from which at least one packet was authentic.
#[derive(Clone, Debug)]
pub(crate) struct SsrcState {
    /// Roll-over counter and replay window.
    pub srtp: RxStream,
    /// Packets that arrived plain or as RTX; empty for the SSRC of retransmissions.
    pub seen: SeenWindow,
    /// Its numbering.
    pub numbers: ForwardNumbers,
}

/// The SSRCs that were signalled before, the one that left first in front.
#[derive(Debug, Default)]
pub(crate) struct RetiredSsrcs(VecDeque<(u32, SsrcState)>);

impl RetiredSsrcs {
    /// Stores the state of an SSRC that is no longer signalled.
    pub(crate) fn put(&mut self, ssrc: u32, state: SsrcState) {
        self.0.retain(|(other, _)| *other != ssrc);
        self.0.push_back((ssrc, state));
    }

    /// Takes the state of an SSRC that is signalled again.
    pub(crate) fn take(&mut self, ssrc: u32) -> Option<SsrcState> {
        let at = self.0.iter().position(|(other, _)| *other == ssrc)?;
        self.0.remove(at).map(|(_, state)| state)
    }

    /// Removes those that left first, beyond the limit.
    pub(crate) fn trim(&mut self) {
        let excess = self.0.len().saturating_sub(MAX_RETIRED);
        self.0.drain(..excess);
    }

    /// Removes everything: with new keys, none of it holds.
    pub(crate) fn clear(&mut self) {
        self.0 = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashMap,
        time::{Duration, Instant},
    };

    use rialto_media::{
        Codec, Drop, EncodingSpec, MediaParams, MediaType, PayloadType, SourceId, SourceSpec,
        Tables,
    };
    use rialto_rtp::{Seq, header::write_header};
    use rialto_srtp::{Profile, RxContext, TxContext};

    use super::MAX_RETIRED;
    use crate::{
        Loudest,
        ingress::{Context, Gate, Sender, silence::SilenceLimit},
    };

    const VP8: u8 = 100;
    const RTX: u8 = 101;

    /// A sender with keys, and its SRTP contexts.
    struct Rig {
        sender: Sender,
        tx: TxContext,
        tables: Tables,
        epoch: Instant,
    }

    impl Rig {
        fn new() -> Self {
            let payload = |pt, codec| PayloadType {
                pt,
                codec,
                media: MediaType::Video,
                clock_rate: 90_000,
                profile: String::new(),
                nack: true,
                pli: true,
                fir: false,
                transport_cc: false,
            };
            let payload_types =
                vec![payload(VP8, Codec::Vp8), payload(RTX, Codec::Rtx { apt: VP8 })];
            let tables = Tables::new(&MediaParams { payload_types, ..MediaParams::default() });
            let tx = TxContext::new(Profile::AeadAes128Gcm, &[0; 28]).unwrap();
            let mut rig = Self { sender: Sender::default(), tx, tables, epoch: Instant::now() };
            rig.key(1);
            rig
        }

        fn key(&mut self, key: u8) {
            self.tx = TxContext::new(Profile::AeadAes128Gcm, &[key; 28]).unwrap();
            let rx = RxContext::new(Profile::AeadAes128Gcm, &[key; 28]).unwrap();
            self.sender.set_keys(rx);
        }

        /// Signals one source for each pair of SSRCs.
        fn signal(&mut self, ssrcs: &[(u32, Option<u32>)]) {
            let specs = ssrcs.iter().map(|(ssrc, rtx)| SourceSpec {
                id: SourceId(*ssrc),
                name: "v0".into(),
                media: MediaType::Video,
                encodings: vec![EncodingSpec { ssrc: *ssrc, rtx: *rtx }],
            });
            self.sender.set_sources(specs.collect());
        }

        /// Returns why a packet is dropped, if it is.
        fn send(&mut self, ssrc: u32, pt: u8, index: u64) -> Option<Drop> {
            let mut bytes = [0; 60];
            write_header(&mut bytes, true, pt, Seq(index as u16), 1, ssrc).unwrap();
            // An RTX packet without content, or a frame of VP8.
            let len = if pt == RTX { 12 } else { 44 };
            let len = self.tx.seal_rtp(&mut bytes, 12, len, index, ssrc).unwrap();
            let silence = SilenceLimit::default();
            let (now, since_epoch) = (self.epoch, Duration::ZERO);
            let cx = Context {
                now,
                since_epoch,
                tables: &self.tables,
                silence,
                believes_costs: false,
                rtt: Duration::ZERO,
            };
            let gate = Gate { rules: Loudest::default(), speakers: None };
            self.sender.on_rtp(&cx, gate, &mut bytes[..len]).err()
        }

        /// Advances to this index in leaps that a network could make.
        fn come_to(&mut self, ssrc: u32, pt: u8, index: u64) {
            for at in (0..index).step_by(30_000).chain([index]) {
                self.send(ssrc, pt, at);
            }
        }
    }

    #[test]
    fn who_returns_continues_under_the_same_key_and_replays_are_known() {
        let mut rig = Rig::new();
        rig.signal(&[(1, Some(2))]);
        rig.come_to(1, VP8, 200_000);
        rig.come_to(2, RTX, 300_000);
        // Removed and restored, without retransmissions and with them again.
        for ssrcs in [&[][..], &[(1, None)], &[(1, Some(2))], &[(1, Some(3))], &[(1, Some(2))]] {
            rig.signal(ssrcs);
        }
        assert_eq!(rig.send(1, VP8, 200_000), Some(Drop::Replayed));
        assert_eq!(rig.send(1, VP8, 200_001), None);
        assert_eq!(rig.send(2, RTX, 300_000), Some(Drop::Replayed));
        assert_eq!(rig.send(2, RTX, 300_001), Some(Drop::RtxProbe), "it was opened");
        rig.signal(&[]);
        rig.key(2);
        rig.signal(&[(1, Some(2))]);
        assert_eq!(rig.send(1, VP8, 200_002), Some(Drop::Unauthenticated), "not under new keys");
        assert_eq!(rig.send(1, VP8, 7), None);
    }

    #[test]
    fn slots_stay_with_their_source_and_stream_and_lead_nowhere_afterwards() {
        let mut rig = Rig::new();
        rig.signal(&[(1, None), (2, None), (3, None)]);
        let slots = |rig: &Rig| {
            let sources = rig.sender.sources.iter().map(|(slot, s)| (s.spec.id.0, slot));
            let streams = rig.sender.streams.iter().map(|(slot, s)| (s.ssrc, slot));
            (sources.collect::<HashMap<_, _>>(), streams.collect::<HashMap<_, _>>())
        };
        let before = slots(&rig);
        // In another order, and one replaced.
        rig.signal(&[(3, None), (4, None), (1, None)]);
        let after = slots(&rig);
        for stays in [1, 3] {
            assert_eq!(after.0[&stays], before.0[&stays]);
            assert_eq!(after.1[&stays], before.1[&stays]);
        }
        assert!(rig.sender.sources.get(before.0[&2]).is_none());
        assert!(rig.sender.streams.get(before.1[&2]).is_none(), "whatever has taken its place");
        for (ssrc, stream) in after.1 {
            let source = rig.sender.streams[stream].source;
            assert_eq!(rig.sender.sources[source].spec.id.0, ssrc);
        }
    }

    #[test]
    fn an_ssrc_may_change_its_part() {
        let mut rig = Rig::new();
        rig.signal(&[(1, Some(2))]);
        rig.come_to(1, VP8, 200_000);
        rig.come_to(2, RTX, 300_000);
        rig.signal(&[(2, Some(1))]);
        assert_eq!(rig.send(2, VP8, 300_001), None);
        assert_eq!(rig.send(1, RTX, 200_001), Some(Drop::RtxProbe));
    }

    #[test]
    fn those_that_left_first_are_forgotten_and_none_that_is_signalled() {
        let mut rig = Rig::new();
        let last = 1_000 + MAX_RETIRED as u32;
        for ssrc in 1_000..=last {
            rig.signal(&[(1, None), (ssrc, None)]);
            rig.come_to(1, VP8, 200_000);
            rig.come_to(ssrc, VP8, 200_000);
            // An SSRC without authentic packets is not remembered.
            rig.signal(&[(1, None), (5_000 + ssrc, None)]);
            rig.tx = TxContext::new(Profile::AeadAes128Gcm, &[9; 28]).unwrap();
            assert_eq!(rig.send(5_000 + ssrc, VP8, 1), Some(Drop::Unauthenticated));
            rig.tx = TxContext::new(Profile::AeadAes128Gcm, &[1; 28]).unwrap();
        }
        assert_eq!(rig.send(1, VP8, 200_001), None);
        rig.signal(&[(1, None), (1_000, None), (1_001, None), (last, None)]);
        assert_eq!(rig.send(1_000, VP8, 200_001), Some(Drop::Unauthenticated), "forgotten");
        assert_eq!(rig.send(1_001, VP8, 200_001), None);
        assert_eq!(rig.send(last, VP8, 200_001), None);
        assert_eq!(rig.send(1, VP8, 200_002), None);
    }

    #[test]
    fn the_roll_over_counter_stays_known_however_long_a_mute_lasts_and_much_is_lost() {
        let mut rig = Rig::new();
        rig.signal(&[(1, Some(2))]);
        rig.come_to(1, VP8, 10);
        rig.sender.mute.1 = true;
        // Signalled only while muted so far; the retransmissions begin now.
        for index in (11..2_000_000).step_by(999) {
            assert_eq!(rig.send(1, VP8, index), Some(Drop::ForceMuted));
            assert_eq!(rig.send(2, RTX, index), Some(Drop::ForceMuted));
        }
        rig.sender.mute.1 = false;
        assert_eq!(rig.send(1, VP8, 2_000_000), None);
        assert_eq!(rig.send(2, RTX, 2_000_000), Some(Drop::RtxProbe));
    }

    #[test]
    fn what_is_seen_of_a_stream_begins_anew_with_new_keys() {
        let mut rig = Rig::new();
        rig.signal(&[(1, Some(2))]);
        rig.come_to(1, VP8, 200_000);
        rig.key(2);
        assert_eq!(rig.send(1, VP8, 50_000), None, "its indices begin anew as well");
        assert_eq!(rig.send(1, VP8, 50_001), None);
        rig.key(3);
        assert_eq!(rig.send(1, VP8, 50_001), None);
    }
}
