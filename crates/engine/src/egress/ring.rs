//! The packet ring of one encoding on one shard: the single copy of each packet, from which all
//! receivers on the shard are sent, first transmissions and retransmissions alike.
//!
//! Packets lie behind one another in one byte buffer that wraps; descriptions lie in a fixed array.
//! The newest packets overwrite the oldest. The buffer grows (doubling, up to a limit) only while
//! it holds less than `RETENTION_MS` of media, so that nothing is allocated in the steady state.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "places in one buffer, each checked against it"
)]

use crate::ingress::PacketMeta;

/// How much media a ring tries to hold, milliseconds: a few round trips of a bad link.
const RETENTION_MS: u32 = 1_000;

/// Sizes of a ring.
#[derive(Clone, Copy, Debug)]
pub struct RingSize {
    /// Initial size of the buffer, bytes.
    pub initial: usize,
    /// Maximum size of the buffer, bytes.
    pub max: usize,
    /// Maximum number of packets; a power of two.
    pub slots: usize,
}

impl RingSize {
    /// For video: up to 1 MiB, about 3 s at 2.5 Mbit/s.
    pub const VIDEO: Self = Self { initial: 64 << 10, max: 1 << 20, slots: 1024 };
    /// For audio, which is not retransmitted: only as much as one batch may hold.
    pub const AUDIO: Self = Self { initial: 16 << 10, max: 64 << 10, slots: 64 };
}

/// The index of a packet: counts up from 0 for the life of the ring.
pub type RingIndex = u64;

#[derive(Clone, Copy, Debug)]
struct Slot {
    meta: PacketMeta,
    start: u32,
    len: u16,
}

/// The packet ring of one encoding.
#[derive(Debug)]
pub struct PacketRing {
    size: RingSize,
    bytes: Vec<u8>,
    slots: Vec<Slot>,
    /// Index of the oldest packet in the ring.
    tail: RingIndex,
    /// Index of the next packet.
    head: RingIndex,
    /// Where the bytes of the next packet go.
    write: usize,
}

impl PacketRing {
    /// Creates an empty ring and allocates its initial buffers.
    pub fn new(size: RingSize) -> Self {
        debug_assert!(size.slots.is_power_of_two());
        Self {
            size,
            bytes: vec![0; size.initial],
            slots: Vec::with_capacity(size.slots),
            tail: 0,
            head: 0,
            write: 0,
        }
    }

    /// The index that the next packet will get.
    pub fn head(&self) -> RingIndex {
        self.head
    }

    /// The last assigned index with these low bits.
    pub fn nearest(&self, low: u32) -> RingIndex {
        self.head.saturating_sub(u64::from((self.head as u32).wrapping_sub(low)))
    }

    /// Number of packets in the ring.
    pub fn len(&self) -> usize {
        (self.head - self.tail) as usize
    }

    /// Returns whether the ring is empty.
    pub fn is_empty(&self) -> bool {
        self.head == self.tail
    }

    /// Bytes allocated.
    pub fn memory(&self) -> usize {
        self.bytes.len() + self.slots.capacity() * size_of::<Slot>()
    }

    /// Copies a packet into the ring and returns its index, or `None` if it is larger than the
    /// ring.
    pub fn push(&mut self, meta: PacketMeta, packet: &[u8]) -> Option<RingIndex> {
        let len = u16::try_from(packet.len()).ok()?;
        self.grow_if_young(meta.arrival_ms, packet.len());
        if packet.len() > self.bytes.len() {
            return None;
        }
        let start = if self.write + packet.len() > self.bytes.len() { 0 } else { self.write };
        self.make_room(start, start + packet.len());
        self.bytes.get_mut(start..start + packet.len())?.copy_from_slice(packet);
        self.write = start + packet.len();
        let slot = Slot { meta, start: start as u32, len };
        let at = (self.head & (self.size.slots as u64 - 1)) as usize;
        match self.slots.get_mut(at) {
            Some(place) => *place = slot,
            None => self.slots.push(slot),
        }
        self.head += 1;
        Some(self.head - 1)
    }

    /// Returns a packet that is still in the ring.
    #[inline]
    pub fn get(&self, index: RingIndex) -> Option<(&PacketMeta, &[u8])> {
        if index < self.tail || index >= self.head {
            return None;
        }
        let slot = self.slots.get((index & (self.size.slots as u64 - 1)) as usize)?;
        let start = slot.start as usize;
        Some((&slot.meta, self.bytes.get(start..start + usize::from(slot.len))?))
    }

    fn oldest(&self) -> Option<&Slot> {
        if self.is_empty() {
            return None;
        }
        self.slots.get((self.tail & (self.size.slots as u64 - 1)) as usize)
    }

    /// Drops the oldest packets until the byte range and a slot are free.
    fn make_room(&mut self, start: usize, end: usize) {
        // If the write position wraps, everything between it and the end of the buffer is older
        // than what lies at the start, and is dropped first.
        let wrapped = start < self.write;
        while let Some(slot) = self.oldest() {
            let at = slot.start as usize;
            let overlaps = at < end && at + usize::from(slot.len) > start;
            let skipped = wrapped && at >= self.write;
            if !overlaps && !skipped && self.len() < self.size.slots {
                break;
            }
            self.tail += 1;
        }
    }

    /// Doubles the buffer if the next packet would overwrite one that is younger than the retention
    /// time.
    fn grow_if_young(&mut self, now_ms: u32, len: usize) {
        if self.bytes.len() >= self.size.max {
            return;
        }
        let Some(oldest) = self.oldest() else { return };
        let used: usize = self.bytes.len() - len.min(self.bytes.len());
        let young = now_ms.wrapping_sub(oldest.meta.arrival_ms) < RETENTION_MS;
        let at = oldest.start as usize;
        // Only if the write position is about to run into the oldest packet (or the buffer's end).
        let close = if at >= self.write { at - self.write < len } else { self.write > used };
        if young && close {
            self.grow();
        }
    }

    /// Moves the packets to the start of a buffer of twice the size.
    fn grow(&mut self) {
        let size = (self.bytes.len() * 2).min(self.size.max);
        let mut bytes = vec![0; size];
        let mut write = 0;
        for index in self.tail..self.head {
            let at = (index & (self.size.slots as u64 - 1)) as usize;
            let Some(slot) = self.slots.get_mut(at) else { continue };
            let (start, len) = (slot.start as usize, usize::from(slot.len));
            if let (Some(to), Some(from)) =
                (bytes.get_mut(write..write + len), self.bytes.get(start..start + len))
            {
                to.copy_from_slice(from);
            }
            slot.start = write as u32;
            write += len;
        }
        self.bytes = bytes;
        self.write = write;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn meta(index: u64, arrival_ms: u32) -> PacketMeta {
        PacketMeta { index, arrival_ms, ..PacketMeta::default() }
    }

    fn fill(index: u64, len: usize) -> Vec<u8> {
        (0..len).map(|i| (index as u8).wrapping_mul(31).wrapping_add(i as u8)).collect()
    }

    proptest! {
        /// Whatever is pushed, `get` returns what was pushed under that index, the newest packet is
        /// always there, and the limits hold.
        #[test]
        fn returns_what_was_pushed(
            lens in proptest::collection::vec((1usize..1500, 0u32..40), 1..400),
        ) {
            let size = RingSize { initial: 4 << 10, max: 32 << 10, slots: 64 };
            let mut ring = PacketRing::new(size);
            // Made once: each push compares everything that the ring holds.
            let packets: Vec<_> = (0..).zip(&lens).map(|(i, (len, _))| fill(i, *len)).collect();
            let mut now = 0;
            for (i, (_, step)) in lens.iter().enumerate() {
                now += step;
                let index = ring.push(meta(i as u64, now), &packets[i]).unwrap();
                prop_assert_eq!(index, i as u64);
                prop_assert!(ring.len() <= size.slots);
                prop_assert!(ring.bytes.len() <= size.max);
                for at in ring.tail..ring.head {
                    let (meta, bytes) = ring.get(at).unwrap();
                    prop_assert_eq!(meta.index, at);
                    prop_assert_eq!(bytes, &packets[at as usize][..]);
                }
            }
        }
    }

    #[test]
    fn grows_while_it_holds_less_than_the_retention() {
        let mut ring = PacketRing::new(RingSize::VIDEO);
        for i in 0..500u64 {
            ring.push(meta(i, i as u32), &[0; 1200]);
        }
        assert_eq!(ring.len(), 500, "half a second at 1 packet a millisecond is kept");
        for i in 500..5_000u64 {
            ring.push(meta(i, i as u32), &[0; 1200]);
        }
        assert_eq!(ring.bytes.len(), RingSize::VIDEO.max);
    }

    #[test]
    fn does_not_grow_for_slow_media() {
        let mut ring = PacketRing::new(RingSize::VIDEO);
        for i in 0..5_000u64 {
            ring.push(meta(i, i as u32 * 100), &[0; 1200]);
        }
        assert_eq!(ring.bytes.len(), RingSize::VIDEO.initial);
    }

    #[test]
    fn refuses_what_is_larger_than_itself() {
        let mut ring = PacketRing::new(RingSize { initial: 100, max: 100, slots: 4 });
        assert_eq!(ring.push(meta(0, 0), &[0; 101]), None);
        assert_eq!(ring.push(meta(0, 0), &[0; 100]), Some(0));
    }
}
