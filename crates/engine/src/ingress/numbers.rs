//! The packet numbers under which the packets of one stream are forwarded.
//!
//! They are the sender's own, shifted so that packets dropped at the bridge leave no gap: receivers
//! would take it for a loss, and a gap of half the number space hides a wrap, after which SRTP
//! never decrypts again (RFC 3711 section 3.3.1). Packets lost in the network stay a gap.

use super::silence::{SilenceLimit, SilenceRun};

/// The number of a forwarded packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Forwarded {
    /// It counts up for as long as the stream exists, across changes of the sender's keys.
    pub number: u64,
    /// Packets before it were dropped, so that a decoder may lack what it refers to.
    pub resumes: bool,
}

/// Assigns the numbers of one stream.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ForwardNumbers {
    silence: SilenceRun,
    /// `number = index + shift`, modulo 2^64.
    shift: u64,
    /// The numbers of lower indices were reassigned.
    from: u64,
    /// The next index after all that were seen.
    next: u64,
    /// The next packet continues after the last forwarded one, whatever its index.
    interrupted: bool,
    /// No packet was forwarded since.
    resumes: bool,
    /// Undecrypted packets dropped since the last one that was seen: their numbers are reassigned.
    passed: u32,
}

impl ForwardNumbers {
    /// Returns the number for the packet with this SRTP index. `None` if it is to be dropped, as
    /// more silence than is forwarded, or because its number was reassigned.
    #[inline]
    pub(crate) fn assign(
        &mut self,
        index: u64,
        level: Option<u8>,
        limit: SilenceLimit,
    ) -> Option<Forwarded> {
        if self.interrupted {
            self.resume_at(index);
        }
        let late = index < self.next;
        if !late && self.passed_over(index) {
            self.from = index;
        }
        self.next = self.next.max(index.saturating_add(1));
        if index < self.from {
            return None;
        }
        if self.silence.exceeds(level, limit) {
            // The number of a late one is not reassigned: a later one was forwarded already.
            if !late {
                self.shift = self.shift.wrapping_sub(1);
                self.from = self.next;
            }
            return None;
        }
        let number = index.wrapping_add(self.shift);
        Some(Forwarded { number, resumes: std::mem::take(&mut self.resumes) })
    }

    /// Handles an undecrypted packet that is dropped and is ahead of all that were seen. Its header
    /// may be forged: at worst it hides a loss.
    #[inline]
    pub(crate) fn pass(&mut self) {
        self.passed = self.passed.saturating_add(1);
    }

    /// Returns whether a silent packet that arrives now is to be dropped.
    #[inline]
    pub(crate) fn ends_silence(&self, limit: SilenceLimit) -> bool {
        self.silence.is_over(limit)
    }

    /// Reassigns the numbers of packets before this one that were dropped undecrypted. Returns
    /// whether there were any.
    #[inline]
    fn passed_over(&mut self, index: u64) -> bool {
        let passed = u64::from(std::mem::take(&mut self.passed));
        let gap = index.saturating_sub(self.next).min(passed);
        self.shift = self.shift.wrapping_sub(gap);
        gap > 0
    }

    /// Handles an interruption: packets of the stream are dropped, or its indices start anew.
    /// Numbers continue with the next packet.
    #[inline]
    pub(crate) fn interrupt(&mut self) {
        self.interrupted = self.next > 0;
    }

    /// Returns whether the next packet is the first after an interruption.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupted
    }

    #[cold]
    fn resume_at(&mut self, index: u64) {
        let number = self.next.wrapping_add(self.shift);
        self.shift = number.wrapping_sub(index);
        (self.from, self.next) = (index, index);
        (self.interrupted, self.resumes, self.passed) = (false, true, 0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: SilenceLimit = SilenceLimit { discard: true, forwarded: 3 };

    fn pass_all(packets: &[(u64, u8)], limit: SilenceLimit) -> Vec<(u64, u64)> {
        let mut numbers = ForwardNumbers::default();
        let through = packets.iter().filter_map(|(index, level)| {
            Some((*index, numbers.assign(*index, Some(*level), limit)?.number))
        });
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
        let mut numbers = ForwardNumbers::default();
        let through = |f: Forwarded| (f.number, f.resumes);
        let mut give = |index| numbers.assign(index, None, LIMIT).map(through);
        assert!((0..10).all(|index| give(index) == Some((index, false))));
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

    #[test]
    fn what_ended_unopened_leaves_no_gap_and_a_loss_among_it_does() {
        let mut numbers = ForwardNumbers::default();
        let give = |numbers: &mut ForwardNumbers, index| {
            numbers.assign(index, Some(30), LIMIT).map(|f| (f.number, f.resumes))
        };
        assert_eq!(give(&mut numbers, 100), Some((100, false)));
        (0..70_000).for_each(|_| numbers.pass());
        assert_eq!(give(&mut numbers, 70_101), Some((101, false)));
        assert_eq!(give(&mut numbers, 70_050), None, "it is older");
        (0..3).for_each(|_| numbers.pass());
        assert_eq!(give(&mut numbers, 70_107), Some((104, false)), "two of five were lost");
        numbers.pass();
        assert_eq!(give(&mut numbers, 70_108), Some((105, false)), "it came twice");
        assert_eq!(give(&mut numbers, 70_110), Some((107, false)));
    }

    #[test]
    fn after_an_interruption_numbers_continue_whatever_the_index() {
        let mut numbers = ForwardNumbers::default();
        numbers.interrupt();
        let give = |numbers: &mut ForwardNumbers, index| {
            numbers.assign(index, None, LIMIT).map(|f| (f.number, f.resumes))
        };
        assert_eq!(give(&mut numbers, 70_000), Some((70_000, false)), "the first of all");
        assert_eq!(give(&mut numbers, 70_003), Some((70_003, false)));
        for (index, number) in [(500_000, 70_004), (3, 70_006), (3_000, 70_008)] {
            numbers.interrupt();
            numbers.interrupt();
            assert_eq!(give(&mut numbers, index), Some((number, true)));
            assert_eq!(give(&mut numbers, index - 1), None, "from before");
            assert_eq!(give(&mut numbers, index + 1), Some((number + 1, false)));
        }
    }

    proptest! {
        /// Whatever the order of packets: no number is used twice, and their order is kept.
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
