//! What a stream sent lately: maps the sequence numbers that the receiver saw to places in the
//! ring.
#![expect(clippy::cast_possible_truncation, reason = "the low bits are what is kept")]

use std::time::Duration;

use crate::egress::wire::{Shift, Stamp};

/// Packets remembered per subscription, as many as in JVB's cache.
const SLOTS: usize = 512;

/// Most retransmissions of one packet.
pub const MAX_RESENDS: u8 = 8;

/// Shortest time between two retransmissions of a packet, whatever the round-trip time.
const MIN_QUIET_MS: u32 = 10;

/// A packet that was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// The packet index that it was sent with.
    pub index: u64,
    /// The low bits of its index in the ring of its encoding.
    pub ring: u32,
    /// What was added to its RTP timestamp.
    pub timestamp_delta: u32,
    /// When it was last sent, milliseconds since the engine's epoch.
    pub at_ms: u32,
    /// What was added to the codec's running numbers.
    pub shift: Shift,
    /// How many pictures had been dropped before it, modulo 2^16; `shift` includes them.
    pub dropped: u16,
    /// Its RTP marker.
    pub marker: bool,
    /// Its encoding.
    pub encoding: u8,
    /// The padding it was sent with: a plain retransmission must be the same bytes.
    pub padding: u8,
    /// The stamp it was sent with, for the same reason. Recorded only where retransmissions are
    /// plain.
    pub stamp: Stamp,
}

/// Why a packet is not retransmitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Never sent, or no longer remembered.
    Unknown,
    /// It was sent within the last round-trip time, and that copy may still arrive.
    TooSoon,
    /// It was retransmitted [`MAX_RESENDS`] times.
    TooOften,
    /// It may only be late, and is retransmitted when it is requested again.
    Premature,
}

/// The last packets of one subscription. Its 8 KiB of memory are allocated with the first packet.
#[derive(Clone, Debug, Default)]
pub struct History {
    slots: Box<[Slot]>,
    /// The stamp of each slot; empty if retransmissions have a stream of their own.
    stamps: Box<[Stamp]>,
    newest: u64,
    /// The last runs, each at its number modulo their count.
    runs: [Run; RUNS],
    /// The number of the newest run.
    run: u16,
}

/// Runs that are remembered: switches are several seconds apart.
const RUNS: usize = 8;

/// The offsets that apply to all packets between two switches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Run {
    timestamp_delta: u32,
    /// The shift if no picture had been dropped.
    shift: Shift,
}

/// A [`Sent`] in 16 bytes: there are some five hundred for each receiver of each source.
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Low bits. The distance from the newest packet gives the others.
    index: u32,
    ring: u32,
    /// Low bits, enough to measure a round trip.
    at_ms: u16,
    /// The number of its run. Each run has at least one packet, so there are fewer runs than
    /// numbers.
    run: u16,
    dropped: u16,
    padding: u8,
    bits: Bits,
}

/// The encoding, the RTP marker, and how often a packet was requested or retransmitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bits(u8);

impl Bits {
    /// An empty slot.
    const UNUSED: Self = Self(u8::MAX);

    const fn new(encoding: u8, marker: bool) -> Self {
        Self((encoding & 0b111) | (marker as u8) << 3)
    }

    const fn encoding(self) -> u8 {
        self.0 & 0b111
    }

    const fn marker(self) -> bool {
        self.0 & 0b1000 != 0
    }

    const fn resent(self) -> u8 {
        self.0 >> 4
    }

    const fn again(self) -> Self {
        Self(self.0.saturating_add(0b1_0000))
    }
}

const _: () = assert!(size_of::<Slot>() == 16);

impl History {
    /// Records a packet, replacing the one `SLOTS` before. `plain`: there is no stream for
    /// retransmissions, so it would be sent again unchanged.
    #[inline]
    pub fn record(&mut self, sent: Sent, plain: bool) {
        if self.slots.is_empty() {
            self.slots = vec![Slot::UNUSED; SLOTS].into();
        }
        self.newest = self.newest.max(sent.index);
        if plain {
            self.record_stamp(&sent);
        }
        let run = self.run_of(&sent);
        if let Some(slot) = self.slots.get_mut(sent.index as usize % SLOTS) {
            *slot = Slot {
                index: sent.index as u32,
                ring: sent.ring,
                at_ms: sent.at_ms as u16,
                run,
                dropped: sent.dropped,
                padding: sent.padding,
                bits: Bits::new(sent.encoding, sent.marker),
            };
        }
    }

    /// Returns the number of the run that a packet belongs to: the newest, or a new one.
    #[inline]
    fn run_of(&mut self, sent: &Sent) -> u16 {
        let picture_id = sent.shift.picture_id.wrapping_add(sent.dropped);
        let shift = Shift { picture_id, ..sent.shift };
        let run = Run { timestamp_delta: sent.timestamp_delta, shift };
        if self.runs.get(usize::from(self.run) % RUNS) != Some(&run) {
            self.run = self.run.wrapping_add(1);
            if let Some(place) = self.runs.get_mut(usize::from(self.run) % RUNS) {
                *place = run;
            }
        }
        self.run
    }

    /// The offsets of a packet's run; `None` if it was too many switches ago.
    fn run(&self, slot: &Slot) -> Option<Run> {
        let back = usize::from(self.run.wrapping_sub(slot.run));
        self.runs.get(usize::from(slot.run) % RUNS).copied().filter(|_| back < RUNS)
    }

    #[cold]
    fn record_stamp(&mut self, sent: &Sent) {
        if self.stamps.is_empty() {
            self.stamps = vec![Stamp::default(); SLOTS].into();
        }
        if let Some(stamp) = self.stamps.get_mut(sent.index as usize % SLOTS) {
            *stamp = sent.stamp;
        }
    }

    /// One of the packets sent last, for a probe. `back` counts from the newest.
    pub fn recent(&self, back: u64) -> Option<Sent> {
        let index = self.newest.checked_sub(back)?;
        let slot = self.slots.get(index as usize % SLOTS)?;
        let known = slot.bits != Bits::UNUSED && slot.index == index as u32;
        let run = self.run(slot).filter(|_| known)?;
        Some(slot.sent(index, slot.at_ms.into(), run, Stamp::default()))
    }

    /// The index after the newest that was recorded.
    pub fn next(&self) -> u64 {
        self.newest.saturating_add(1)
    }

    /// Removes all packets and keeps the memory.
    pub fn clear(&mut self) {
        self.newest = 0;
        for slot in &mut self.slots {
            slot.bits = Bits::UNUSED;
        }
    }

    /// Returns the packet that the receiver saw under `sequence`, if it may be retransmitted at
    /// `now_ms`, and records the retransmission. Not again within min(0.9 RTT, RTT - 5 ms), as in
    /// JVB. `premature` is asked whether this request, the first one for this packet or another, is
    /// to be repeated before it is answered.
    ///
    /// # Errors
    /// [`Refused`]: it is not to be retransmitted.
    pub fn resend(
        &mut self,
        sequence: u16,
        now_ms: u32,
        rtt: Duration,
        premature: impl FnOnce(bool) -> bool,
    ) -> Result<Sent, Refused> {
        let place = usize::from(sequence) % SLOTS;
        let known = |s: &&Slot| s.bits != Bits::UNUSED && s.index as u16 == sequence;
        let slot = self.slots.get(place).filter(known).ok_or(Refused::Unknown)?;
        let run = self.run(slot).ok_or(Refused::Unknown)?;
        let slot = self.slots.get_mut(place).ok_or(Refused::Unknown)?;
        let rtt = u16::try_from(rtt.as_millis()).unwrap_or(u16::MAX);
        let quiet = (u32::from(rtt) * 9 / 10).min(u32::from(rtt.saturating_sub(5)));
        let quiet = quiet.max(MIN_QUIET_MS);
        if u32::from((now_ms as u16).wrapping_sub(slot.at_ms)) < quiet {
            return Err(Refused::TooSoon);
        }
        if slot.bits.resent() >= MAX_RESENDS {
            return Err(Refused::TooOften);
        }
        let premature = premature(slot.bits.resent() == 0);
        slot.bits = slot.bits.again();
        if premature {
            return Err(Refused::Premature);
        }
        slot.at_ms = now_ms as u16;
        let since = (self.newest as u32).wrapping_sub(slot.index);
        let stamp = self.stamps.get(place).copied().unwrap_or_default();
        Ok(slot.sent(self.newest.saturating_sub(u64::from(since)), now_ms, run, stamp))
    }

    /// Counts a second copy of a retransmission. Returns false if the packet was already sent
    /// [`MAX_RESENDS`] times, or is no longer recorded.
    pub fn count_copy(&mut self, index: u64) -> bool {
        let slot = self.slots.get_mut(index as usize % SLOTS);
        let known = |s: &&mut Slot| s.bits != Bits::UNUSED && s.index == index as u32;
        let Some(slot) = slot.filter(known) else { return false };
        let counts = slot.bits.resent() < MAX_RESENDS;
        if counts {
            slot.bits = slot.bits.again();
        }
        counts
    }
}

impl Slot {
    const UNUSED: Self =
        Self { index: 0, ring: 0, at_ms: 0, run: 0, dropped: 0, padding: 0, bits: Bits::UNUSED };

    fn sent(&self, index: u64, at_ms: u32, run: Run, stamp: Stamp) -> Sent {
        Sent {
            index,
            ring: self.ring,
            timestamp_delta: run.timestamp_delta,
            at_ms,
            shift: Shift {
                picture_id: run.shift.picture_id.wrapping_sub(self.dropped),
                ..run.shift
            },
            dropped: self.dropped,
            marker: self.bits.marker(),
            encoding: self.bits.encoding(),
            padding: self.padding,
            stamp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(100);

    #[test]
    fn resends_once_a_round_trip() {
        let mut h = History::default();
        assert_eq!(h.resend(7, 0, RTT, |_| false), Err(Refused::Unknown));
        h.record(Sent { index: 0x1_0007, ring: 3, at_ms: 1_000, ..Sent::default() }, false);
        assert_eq!(h.resend(7, 1_089, RTT, |_| false), Err(Refused::TooSoon));
        assert_eq!(h.resend(7, 1_090, RTT, |_| false).unwrap().ring, 3);
        assert_eq!(h.resend(7, 1_100, RTT, |_| false), Err(Refused::TooSoon));
        assert_eq!(h.resend(8, 1_100, RTT, |_| false), Err(Refused::Unknown));
    }

    #[test]
    fn resends_a_packet_a_bounded_number_of_times() {
        let mut h = History::default();
        h.record(Sent { index: 7, ..Sent::default() }, false);
        let ms = |n: u8| u32::from(n) * 1_000;
        for n in 1..=MAX_RESENDS {
            assert!(h.resend(7, ms(n), RTT, |_| false).is_ok());
        }
        assert_eq!(h.resend(7, ms(MAX_RESENDS + 1), RTT, |_| false), Err(Refused::TooOften));
        h.record(Sent { index: 8, ..Sent::default() }, false);
        assert!(h.resend(8, 1_000, RTT, |_| false).is_ok(), "each packet has its own count");
    }

    #[test]
    fn a_premature_request_is_answered_when_it_is_repeated() {
        let mut h = History::default();
        h.record(Sent { index: 7, ring: 3, at_ms: 1_000, ..Sent::default() }, false);
        let premature = |first| first;
        assert_eq!(h.resend(7, 1_100, RTT, premature), Err(Refused::Premature));
        assert_eq!(h.resend(7, 1_101, RTT, premature).unwrap().ring, 3);
        assert_eq!(h.resend(7, 1_102, RTT, premature), Err(Refused::TooSoon));
    }

    #[test]
    fn copies_count() {
        let mut h = History::default();
        assert!(!h.count_copy(7), "nothing was sent");
        h.record(Sent { index: 7, ..Sent::default() }, false);
        for n in 1..=u32::from(MAX_RESENDS) / 2 {
            assert!(h.resend(7, n * 1_000, RTT, |_| false).is_ok() && h.count_copy(7), "{n}");
        }
        assert!(!h.count_copy(7));
        assert_eq!(h.resend(7, 10_000, RTT, |_| false), Err(Refused::TooOften));
        assert!(!h.count_copy(7 + SLOTS as u64), "another packet in its place");
    }

    #[test]
    fn a_round_trip_of_nothing_is_no_leave_to_resend_at_once() {
        let mut h = History::default();
        h.record(Sent { index: 7, at_ms: 0, ..Sent::default() }, false);
        assert_eq!(h.resend(7, MIN_QUIET_MS - 1, Duration::ZERO, |_| false), Err(Refused::TooSoon));
        assert!(h.resend(7, MIN_QUIET_MS, Duration::ZERO, |_| false).is_ok());
    }

    #[test]
    fn knows_what_was_added_to_the_numbers_of_each() {
        let mut h = History::default();
        let shift = |n: u64| Shift { picture_id: n as u16, tl0: n as u8, frame_number: n as u16 };
        let sent = |index: u64| Sent {
            index,
            timestamp_delta: (index / 10) as u32,
            shift: shift(index / 10),
            ..Sent::default()
        };
        for index in 0..100 {
            h.record(sent(index), false);
        }
        assert_eq!(
            h.resend(19, 1_000, RTT, |_| false),
            Err(Refused::Unknown),
            "too many switches ago"
        );
        for index in 20..100 {
            let again = h.resend(index as u16, 1_000, RTT, |_| false).unwrap();
            assert_eq!(again, Sent { at_ms: 1_000, ..sent(index) });
            assert_eq!(h.recent(99 - index).map(|sent| sent.shift), Some(shift(index / 10)));
        }
    }

    #[test]
    fn forgets_the_oldest() {
        let mut h = History::default();
        for index in 0..=SLOTS as u64 {
            h.record(Sent { index, ..Sent::default() }, false);
        }
        assert_eq!(h.resend(0, 1_000, RTT, |_| false), Err(Refused::Unknown));
        assert!(h.resend(1, 1_000, RTT, |_| false).is_ok());
    }

    #[test]
    fn knows_the_whole_index_and_time_when_their_low_bits_wrap() {
        let mut h = History::default();
        let sent = |index| Sent { index, at_ms: 0xffff, ..Sent::default() };
        // Late packets are recorded after newer ones.
        for index in [0xffff_fff0, 0x1_0000_0003, 0x1_0000_0001] {
            h.record(sent(index), false);
        }
        assert_eq!(h.resend(0xfff0, 0x1_000f, RTT, |_| false), Err(Refused::TooSoon));
        for index in [0xffff_fff0, 0x1_0000_0003, 0x1_0000_0001] {
            assert_eq!(h.resend(index as u16, 0x1_00ff, RTT, |_| false).unwrap().index, index);
        }
        assert_eq!(h.resend(2, 0x1_00ff, RTT, |_| false), Err(Refused::Unknown));
    }
}
