//! Packets that came before the structure which their dependency descriptors refer to: those of a keyframe whose
//! first packet was overtaken or lost, and all that follows it. Nothing is known of their layers, so that they
//! wait here until the structure comes. Nobody could decode them earlier.

use std::time::{Duration, Instant};

use super::meta::PacketMeta;

/// Packets that wait, at most: a large keyframe, and what comes within a round trip.
pub(super) const MAX_PACKETS: usize = 128;
/// Structures that come until a packet is given up, at most: keyframes in a row whose first packets were lost. Else who
/// sends structures that describe nothing would have all that waits read again with each.
const MAX_STRUCTURES: u8 = 4;
/// For so long, at most: a few requests for the packet that has the structure. Then only another keyframe helps.
pub(super) const MAX_WAIT: Duration = Duration::from_millis(500);

/// A packet that waits.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    meta: PacketMeta,
    start: usize,
    len: usize,
    wire_len: usize,
}

/// How long something has waited.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waited {
    pub(super) since: Instant,
    /// Structures that came meanwhile.
    pub(super) structures: u8,
}

impl Waited {
    /// It has waited for nothing yet.
    pub(super) fn none(now: Instant) -> Self {
        Self { since: now, structures: 0 }
    }

    /// Whether it may wait for another structure.
    pub(super) fn goes_on(self) -> bool {
        self.structures < MAX_STRUCTURES
    }
}

/// A packet that has waited.
#[derive(Clone, Copy, Debug)]
pub struct Unparked<'a> {
    /// What was read from it, but for its codec.
    pub meta: PacketMeta,
    /// The plain packet.
    pub packet: &'a [u8],
    /// Its length as it came.
    pub wire_len: usize,
    pub(super) waited: Waited,
}

/// See the module's description. It is there only while something waits.
#[derive(Debug)]
pub struct Parked {
    waited: Waited,
    /// There was another structure before.
    pub(super) structured: bool,
    bytes: Vec<u8>,
    packets: Vec<Waiting>,
    /// The SRTP index before which nothing can be read, as its structure did not come.
    readable_from: u64,
}

impl Parked {
    pub(super) fn new(waited: Waited, structured: bool) -> Self {
        let (bytes, packets) = (Vec::new(), Vec::new());
        Self { waited, structured, bytes, packets, readable_from: 0 }
    }

    /// Whether another packet can wait.
    pub(super) fn has_room(&self) -> bool {
        self.packets.len() < MAX_PACKETS
    }

    /// Whether it has waited for long enough.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.waited.since) >= MAX_WAIT
    }

    /// Keeps a packet.
    pub(super) fn push(&mut self, meta: PacketMeta, packet: &[u8], wire_len: usize) {
        let (start, len) = (self.bytes.len(), packet.len());
        self.bytes.extend_from_slice(packet);
        self.packets.push(Waiting { meta, start, len, wire_len });
    }

    /// The structure of what is older than this packet will not be waited for.
    pub(super) fn give_up_before(&mut self, index: u64) {
        self.readable_from = index;
    }

    /// How many packets end here, as their structure did not come.
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

    /// The packets that can be read by now, in the order in which they were sent.
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
