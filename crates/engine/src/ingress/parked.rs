//! Packets that arrived before the template structure that their dependency descriptors refer to:
//! those of a keyframe whose first packet was overtaken or lost, and all that follow it. Their
//! layers are unknown, so they wait here until the structure arrives. Nobody could decode them
//! earlier.

use std::time::{Duration, Instant};

use super::meta::PacketMeta;

/// Most packets that wait: a large keyframe, and what arrives within a round trip.
pub(super) const MAX_PACKETS: usize = 128;
/// Most structures that may arrive before a packet is given up: keyframes in a row whose first
/// packets were lost. Otherwise a sender whose structures describe nothing would have all waiting
/// packets read again with each.
const MAX_STRUCTURES: u8 = 4;
/// Longest wait: a few requests for the packet with the structure. After that only another keyframe
/// helps.
pub(super) const MAX_WAIT: Duration = Duration::from_millis(500);

/// A waiting packet.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    meta: PacketMeta,
    start: usize,
    len: usize,
    wire_len: usize,
}

/// How long a packet has waited.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waited {
    pub(super) since: Instant,
    /// Structures that arrived meanwhile.
    pub(super) structures: u8,
}

impl Waited {
    /// The start of a wait.
    pub(super) fn none(now: Instant) -> Self {
        Self { since: now, structures: 0 }
    }

    /// Returns whether it may wait for another structure.
    pub(super) fn may_wait(self) -> bool {
        self.structures < MAX_STRUCTURES
    }
}

/// A packet that has waited.
#[derive(Clone, Copy, Debug)]
pub struct Unparked<'a> {
    /// Its metadata, except for its codec.
    pub meta: PacketMeta,
    /// The decrypted packet.
    pub packet: &'a [u8],
    /// Its length as it arrived.
    pub wire_len: usize,
    pub(super) waited: Waited,
}

/// The waiting packets of a stream. Exists only while there are some.
#[derive(Debug)]
pub struct Parked {
    waited: Waited,
    /// There was another structure before.
    pub(super) structured: bool,
    bytes: Vec<u8>,
    packets: Vec<Waiting>,
    /// Packets before this SRTP index cannot be read, since their structure did not arrive.
    readable_from: u64,
}

impl Parked {
    pub(super) fn new(waited: Waited, structured: bool) -> Self {
        let (bytes, packets) = (Vec::new(), Vec::new());
        Self { waited, structured, bytes, packets, readable_from: 0 }
    }

    /// Returns whether another packet can wait.
    pub(super) fn has_room(&self) -> bool {
        self.packets.len() < MAX_PACKETS
    }

    /// Returns whether it has waited for long enough.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.waited.since) >= MAX_WAIT
    }

    /// Adds a packet.
    pub(super) fn push(&mut self, meta: PacketMeta, packet: &[u8], wire_len: usize) {
        let (start, len) = (self.bytes.len(), packet.len());
        self.bytes.extend_from_slice(packet);
        self.packets.push(Waiting { meta, start, len, wire_len });
    }

    /// Gives up waiting for the structure of packets older than this one.
    pub(super) fn give_up_before(&mut self, index: u64) {
        self.readable_from = index;
    }

    /// Number of packets that are dropped because their structure did not arrive.
    pub fn ended(&self) -> u64 {
        self.packets.iter().filter(|waiting| !self.is_readable(waiting)).count() as u64
    }

    fn is_readable(&self, waiting: &Waiting) -> bool {
        waiting.meta.index >= self.readable_from
    }

    /// The SRTP index of the newest packet.
    pub(super) fn newest(&self) -> u64 {
        self.packets.iter().map(|waiting| waiting.meta.index).max().unwrap_or(0)
    }

    /// The packets that can be read now, in sending order.
    pub fn packets(&mut self) -> impl Iterator<Item = Unparked<'_>> {
        self.packets.sort_unstable_by_key(|waiting| waiting.meta.index);
        let this = &*self;
        let Waited { since, structures } = this.waited;
        let waited = Waited { since, structures: structures.saturating_add(1) };
        let readable = this.packets.iter().filter(|waiting| this.is_readable(waiting));
        readable.filter_map(move |waiting| {
            let Waiting { meta, start, len, wire_len } = *waiting;
            let packet = this.bytes.get(start..start.saturating_add(len))?;
            Some(Unparked { meta, packet, wire_len, waited })
        })
    }
}
