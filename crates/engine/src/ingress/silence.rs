//! Silent audio that ends here: of packets whose level is silence (RFC 6464) a few in a row are
//! forwarded, as a client needs to end what it plays, and no more.
//!
//! What follows is numbered as if those had never been: receivers would take a gap for a loss. The
//! packets are opened and counted like all others, for the same reason towards the sender.

/// Silence: -127 dBov.
const SILENCE: u8 = 127;

/// How much silence is forwarded (`jmt.audio.level`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SilenceLimit {
    /// `discard-silence`: true. Otherwise all of it.
    pub discard: bool,
    /// `forwarded-silence-packets-limit`: so many packets in a row. 3.
    pub forwarded: u32,
}

impl Default for SilenceLimit {
    fn default() -> Self {
        Self { discard: true, forwarded: 3 }
    }
}

/// What was discarded of one stream.
#[derive(Clone, Copy, Debug, Default)]
pub struct SilenceFilter {
    /// Silent packets in a row.
    run: u32,
    discarded: u64,
    /// Numbers below are given away.
    from: u64,
    /// The next index after all that were seen.
    next: u64,
}

impl SilenceFilter {
    /// The index under which a packet goes on. `None`: it ends here, as more silence, or because it
    /// was overtaken by silence and its number is given away.
    #[inline]
    pub fn pass(&mut self, index: u64, level: Option<u8>, limit: SilenceLimit) -> Option<u64> {
        let late = index < self.next;
        self.next = self.next.max(index.saturating_add(1));
        if index < self.from {
            return None;
        }
        self.run = if level == Some(SILENCE) { self.run.saturating_add(1) } else { 0 };
        if limit.discard && self.run > limit.forwarded {
            // The number of a late one is not given away: a later one has gone on already.
            if !late {
                self.discarded = self.discarded.saturating_add(1);
                self.from = self.next;
            }
            return None;
        }
        index.checked_sub(self.discarded)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: SilenceLimit = SilenceLimit { discard: true, forwarded: 3 };

    fn pass_all(packets: &[(u64, u8)], limit: SilenceLimit) -> Vec<(u64, u64)> {
        let mut filter = SilenceFilter::default();
        let through = packets
            .iter()
            .filter_map(|(index, level)| Some((*index, filter.pass(*index, Some(*level), limit)?)));
        through.collect()
    }

    #[test]
    fn three_silent_packets_go_on_and_speech_follows_without_a_gap() {
        let silent = (2..12).map(|index| (index, 127));
        let packets: Vec<_> = [(1, 30)].into_iter().chain(silent).chain([(12, 30)]).collect();
        assert_eq!(pass_all(&packets, LIMIT), [(1, 1), (2, 2), (3, 3), (4, 4), (12, 5)]);
        let all = SilenceLimit { discard: false, ..LIMIT };
        assert_eq!(pass_all(&packets, all).len(), packets.len());
        let none = SilenceLimit { forwarded: 0, ..LIMIT };
        assert_eq!(pass_all(&packets, none), [(1, 1), (12, 2)]);
    }

    #[test]
    fn what_does_not_tell_its_level_is_not_silent() {
        let mut filter = SilenceFilter::default();
        assert!((0..10).all(|index| filter.pass(index, None, LIMIT) == Some(index)));
    }

    #[test]
    fn a_loss_stays_a_gap() {
        assert_eq!(pass_all(&[(1, 127), (2, 127), (4, 30)], LIMIT), [(1, 1), (2, 2), (4, 4)]);
    }

    #[test]
    fn what_silence_overtook_ends_here() {
        let packets = [(1, 127), (2, 127), (3, 127), (5, 127), (4, 30), (6, 30)];
        assert_eq!(pass_all(&packets, LIMIT), [(1, 1), (2, 2), (3, 3), (6, 5)]);
    }

    proptest! {
        /// In whatever order packets come: no number is given twice, and their order is kept.
        #[test]
        fn numbers_keep_their_order(
            silent in proptest::collection::vec(any::<bool>(), 1..60),
            swaps in proptest::collection::vec((0usize..60, 0usize..6), 0..40),
            forwarded in 0u32..4,
        ) {
            let level = |silent: &bool| if *silent { 127 } else { 30 };
            let mut packets: Vec<_> =
                silent.iter().enumerate().map(|(at, s)| (at as u64 + 9, level(s))).collect();
            for (at, by) in swaps {
                if at + by < packets.len() {
                    packets.swap(at, at + by);
                }
            }
            let mut through = pass_all(&packets, SilenceLimit { discard: true, forwarded });
            through.sort_unstable();
            prop_assert!(through.windows(2).all(|two| two[0].1 < two[1].1), "{:?}", through);
        }
    }
}
