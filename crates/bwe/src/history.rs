//! The packets that were sent, by transport sequence number.

use crate::{
    ClusterId,
    num::{Micros, whole},
};

/// Packets remembered at first: 3 KiB.
const MIN_LEN: usize = 256;
/// Most packets remembered: 2 s of 40 Mbit/s, 96 KiB.
const MAX_LEN: usize = 8192;
/// The ring grows rather than forget a packet that is younger than this. It is longer than any
/// queue that a sender causes, so that feedback always finds its packet.
const COVERED: Micros = 2_000_000;
/// A full ring checks the age of its oldest packet once per this many packets.
const LOOKS_EACH: u64 = 16;

/// One packet's fate as the receiver reports it, in the order of a feedback packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// The transport sequence number.
    pub number: u16,
    /// When it arrived by the receiver's clock, in microseconds since no particular time, or `None`
    /// if it had not arrived when the feedback was written.
    pub received: Option<i64>,
}

/// Counts over the entries of one feedback packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FeedbackSummary {
    /// Arrivals of packets that were sent and not reported before.
    pub known: u32,
    /// Entries for numbers that were never sent or are forgotten.
    pub unknown: u32,
    /// Arrivals that were reported before.
    pub duplicate: u32,
    /// Packets newly reported as lost.
    pub lost: u32,
    /// Arrivals of packets that were reported as lost before: others overtook them.
    pub late: u32,
    /// Arrivals at impossible times: they are acknowledged, but not used for estimates.
    pub bad_time: u32,
}

/// The fate of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing was reported.
    Outstanding,
    /// It was reported as not arrived; it may still come.
    Lost,
    /// Its arrival was reported.
    Received,
}

/// A packet that was sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) at: Micros,
    pub(crate) size: u16,
    slot: Slot,
}

/// The same in 12 bytes, since each receiver has up to 8,192 of them.
#[derive(Debug, Clone, Copy)]
struct Slot {
    /// Low bits of the sending time: the distance from the newest packet gives the others. They
    /// suffice for an hour.
    at: u32,
    size: u16,
    cluster: u16,
    /// The delay that the sender itself explains, in units of 100 µs.
    own: u16,
    flags: u8,
}

const RECEIVED: u8 = 1;
const LOST: u8 = 2;
const IN_FLIGHT: u8 = 4;
const PROBED: u8 = 8;
const OVERTAKEN: u8 = 16;

const _: () = assert!(size_of::<Slot>() == 12);

impl Slot {
    const NONE: Self = Self { at: 0, size: 0, cluster: 0, own: 0, flags: RECEIVED };
}

impl Sent {
    /// The probe that the packet belonged to.
    pub(crate) fn cluster(&self) -> Option<ClusterId> {
        (self.slot.flags & PROBED != 0).then_some(ClusterId(self.slot.cluster))
    }

    pub(crate) fn fate(&self) -> Fate {
        if self.slot.flags & RECEIVED != 0 {
            Fate::Received
        } else if self.slot.flags & LOST != 0 {
            Fate::Lost
        } else {
            Fate::Outstanding
        }
    }

    /// Returns whether a later packet was reported and this one was not mentioned: its feedback was
    /// lost.
    pub(crate) fn is_overtaken(&self) -> bool {
        self.slot.flags & OVERTAKEN != 0
    }

    /// The delay that the sender itself explains, in milliseconds.
    pub(crate) fn own_ms(&self) -> f64 {
        f64::from(self.slot.own) / 10.0
    }
}

/// A ring that maps transport sequence numbers to sent packets.
///
/// Numbers have 16 bits on the wire and are unwrapped here. A look-up and a record cost the same
/// however many packets are outstanding. The ring grows by doubling, from 256 packets to 8,192, as
/// long as it would otherwise forget a packet that is younger than two seconds.
#[derive(Debug, Clone)]
pub(crate) struct SentHistory {
    /// Its length is a power of two.
    ring: Vec<Slot>,
    /// The unwrapped number of the next packet.
    next: u64,
    /// The lowest number still in the ring.
    oldest: u64,
    in_flight: u64,
    /// When the newest packet was sent.
    newest_at: Micros,
    /// All lower numbers were reported or overtaken by a report, and are not in flight.
    settled: u64,
}

impl SentHistory {
    /// Creates an empty history; it allocates with the first packet.
    pub(crate) fn new() -> Self {
        Self { ring: Vec::new(), next: 0, oldest: 0, in_flight: 0, newest_at: 0, settled: 0 }
    }

    /// The number of the next packet.
    pub(crate) fn next_number(&self) -> u16 {
        low(self.next)
    }

    /// Records a packet of `size` bytes, whose delay the sender itself explains by `own`
    /// microseconds, and returns its number.
    pub(crate) fn record(
        &mut self,
        at: Micros,
        size: u16,
        cluster: Option<ClusterId>,
        own_micros: f64,
    ) -> u16 {
        self.make_room(at);
        let number = self.next;
        self.newest_at = self.newest_at.max(at);
        let sent = Slot {
            at: low_time(at),
            size,
            cluster: cluster.map_or(0, |cluster| cluster.0),
            own: u16::try_from(whole(own_micros / 100.0)).unwrap_or(u16::MAX),
            flags: if cluster.is_some() { IN_FLIGHT | PROBED } else { IN_FLIGHT },
        };
        if let Some(slot) = self.slot(number) {
            *slot = sent;
        }
        self.in_flight = self.in_flight.saturating_add(u64::from(size));
        self.next = number.saturating_add(1);
        low(number)
    }

    /// Bytes sent and neither reported nor overtaken by the report of a later packet.
    pub(crate) fn in_flight_bytes(&self) -> u64 {
        self.in_flight
    }

    /// Memory of the ring, bytes.
    pub(crate) fn memory(&self) -> usize {
        self.ring.capacity().saturating_mul(size_of::<Slot>())
    }

    /// The unwrapped number of a packet in the ring.
    pub(crate) fn find(&self, number: u16) -> Option<u64> {
        let back = match self.next_number().wrapping_sub(number) {
            0 => 1 << 16,
            back => u64::from(back),
        };
        self.next.checked_sub(back).filter(|number| *number >= self.oldest)
    }

    /// The packet with an unwrapped number from [`Self::find`].
    pub(crate) fn get(&self, number: u64) -> Option<Sent> {
        let slot = *self.ring.get(place(number, self.ring.len()))?;
        let age = low_time(self.newest_at).wrapping_sub(slot.at);
        let at = self.newest_at.saturating_sub(age.into());
        Some(Sent { at, size: slot.size, slot })
    }

    /// Sets the fate of a packet, which is then no longer in flight.
    pub(crate) fn set_fate(&mut self, number: u64, fate: Fate) {
        self.land(number);
        if let Some(slot) = self.slot(number) {
            slot.flags |= match fate {
                Fate::Outstanding => 0,
                Fate::Lost => LOST,
                Fate::Received => RECEIVED,
            };
        }
    }

    /// Settles everything below `number`, since a later packet was reported. Passes on the packets
    /// that were not mentioned, not even as lost.
    pub(crate) fn settle_below(&mut self, number: u64, mut unsaid: impl FnMut(Sent)) {
        let number = number.min(self.next);
        for below in self.settled.max(self.oldest)..number {
            self.land(below);
            let Some(sent) = self.get(below) else { continue };
            if sent.fate() == Fate::Outstanding {
                unsaid(sent);
                if let Some(slot) = self.slot(below) {
                    slot.flags |= OVERTAKEN;
                }
            }
        }
        self.settled = self.settled.max(number);
    }

    fn land(&mut self, number: u64) {
        let Some(slot) = self.slot(number) else { return };
        if slot.flags & IN_FLIGHT != 0 {
            slot.flags &= !IN_FLIGHT;
            let size = u64::from(slot.size);
            self.in_flight = self.in_flight.saturating_sub(size);
        }
    }

    fn slot(&mut self, number: u64) -> Option<&mut Slot> {
        let at = place(number, self.ring.len());
        self.ring.get_mut(at)
    }

    /// Grows the ring, or drops the oldest packet, if there is no place for the next one.
    fn make_room(&mut self, at: u64) {
        let held = usize::try_from(self.next.saturating_sub(self.oldest)).unwrap_or(usize::MAX);
        if held < self.ring.len() {
            return;
        }
        let grows = self.ring.len() < MAX_LEN && {
            // The age is looked up once for several packets: each look-up waits for memory that
            // nothing else needs.
            let looks = self.ring.is_empty() || self.next.is_multiple_of(LOOKS_EACH);
            let young = |sent: Sent| at.saturating_sub(sent.at) < COVERED;
            looks && self.get(self.oldest).is_none_or(young)
        };
        if grows {
            let mut ring = vec![Slot::NONE; self.ring.len().saturating_mul(2).max(MIN_LEN)];
            std::mem::swap(&mut ring, &mut self.ring);
            for number in self.oldest..self.next {
                let sent = ring.get(place(number, ring.len())).copied();
                if let (Some(slot), Some(sent)) = (self.slot(number), sent) {
                    *slot = sent;
                }
            }
        } else {
            if self.oldest >= self.settled {
                self.land(self.oldest);
            }
            self.oldest = self.oldest.saturating_add(1);
        }
    }
}

/// The place of a number in a ring whose length is a power of two.
#[expect(clippy::cast_possible_truncation, reason = "the low bits are what is kept")]
fn place(number: u64, len: usize) -> usize {
    number as usize & len.wrapping_sub(1)
}

/// The low bits of a time.
#[expect(clippy::cast_possible_truncation, reason = "the low bits are what is kept")]
fn low_time(at: Micros) -> u32 {
    at as u32
}

/// The 16 bits on the wire.
fn low(number: u64) -> u16 {
    let [.., a, b] = number.to_be_bytes();
    u16::from_be_bytes([a, b])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_wrap_and_are_found_as_long_as_they_are_held() {
        let mut history = SentHistory::new();
        assert_eq!(history.find(0), None);
        for n in 0..200_000_u64 {
            let number = history.record(n * 1_000, 100, None, 0.0);
            assert_eq!(u64::from(number), n % 65_536);
            assert_eq!(history.find(number), Some(n));
            let sent = history.get(n).unwrap();
            assert_eq!((sent.size, sent.fate(), sent.at), (100, Fate::Outstanding, n * 1_000));
        }
        assert_eq!(history.find(history.next_number()), None, "never sent");
        assert_eq!(history.find(history.next_number().wrapping_sub(3_000)), None, "forgotten");
    }

    #[test]
    fn the_ring_covers_two_seconds_up_to_its_bound() {
        for (per_second, held) in [(100, 256), (1_000, 2_048), (100_000, 8_192)] {
            let mut history = SentHistory::new();
            for n in 0..per_second * 4 {
                history.record(n * 1_000_000 / per_second, 1_000, None, 0.0);
            }
            assert_eq!(history.memory(), held * 12, "{per_second}");
            let last = history.next_number().wrapping_sub(u16::try_from(held).unwrap());
            assert!(history.find(last).is_some());
            assert_eq!(history.in_flight_bytes(), 1_000 * held as u64);
        }
    }

    #[test]
    fn what_is_reported_or_overtaken_is_in_flight_no_more() {
        let mut history = SentHistory::new();
        for _ in 0..10 {
            history.record(0, 100, Some(ClusterId(3)), 0.0);
        }
        history.set_fate(4, Fate::Received);
        assert_eq!(history.in_flight_bytes(), 900);
        history.set_fate(0, Fate::Lost);
        let mut unsaid = 0;
        history.settle_below(4, |_| unsaid += 1);
        assert_eq!((history.in_flight_bytes(), unsaid), (500, 3));
        assert!(history.get(1).unwrap().is_overtaken());
        assert!(!history.get(0).unwrap().is_overtaken());
        history.settle_below(100, |_| ());
        assert_eq!(history.in_flight_bytes(), 0);
        let sent = history.get(2).unwrap();
        assert_eq!((sent.fate(), sent.cluster()), (Fate::Outstanding, Some(ClusterId(3))));
        history.set_fate(2, Fate::Lost);
        assert_eq!(history.get(2).unwrap().fate(), Fate::Lost);
        history.set_fate(2, Fate::Received);
        assert_eq!(history.get(2).unwrap().fate(), Fate::Received);
    }
}
