//! The projection of a source for one receiver: which encoding the receiver gets, and how that
//! encoding's running numbers continue the ones that the receiver has seen.
//!
//! The receiver has its own sequence numbers. They are the source's, shifted by a constant as long
//! as all of the source is forwarded, so that a packet lost on the way to the bridge stays a gap
//! that the receiver can request. Whatever is skipped leaves no gap: a switch, a pause, a packet
//! whose codec the receiver lacks, a sender whose numbers leap. So the numbers never run away from
//! a receiver (RFC 3711 section 3.3.1 allows gaps of less than 2^15). A switch happens at a
//! keyframe of the target; packets of the old encoding that arrive after it are late and dropped.
//! Within an encoding that has layers, the module `filter` decides which frames the receiver gets.

mod filter;
mod skipped;
#[cfg(test)]
mod tests;

use filter::Filter;
pub use filter::Layers;
use skipped::Skipped;

use crate::{
    egress::{allocation::LayerId, wire::Shift},
    ingress::PacketMeta,
};

/// If a codec's keyframes can be recognised but none arrives (end-to-end encryption may hide them),
/// forwarding starts anyway after this time. JVB starts at once.
const START_ANYWAY_MS: u32 = 3_000;
/// The same for a stream that has never shown a keyframe, most likely because it cannot.
const START_HIDDEN_MS: u32 = 1_000;

/// The widest gap that is passed on, packets: no wider gap is requested from the sender
/// ([`crate::ingress::nack::MAX_GAP`]).
const MAX_GAP: i64 = crate::ingress::nack::MAX_GAP as i64;
/// A packet that is further behind is not taken for late, as at ingress. Its numbers start anew.
const MAX_LATE: i64 = skipped::WINDOW as i64;

/// Stands for the last forwarded encoding if that was of another source.
const OTHER_SOURCE: u8 = u8::MAX;

/// The numbers for a projected packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Projected {
    /// Packet index: its low 16 bits are the sequence number, the rest is the ROC.
    pub index: u64,
    /// RTP timestamp.
    pub timestamp: u32,
    /// To be added to the codec's running numbers.
    pub shift: Shift,
    /// Number of dropped pictures so far; `shift` includes them.
    pub dropped: u16,
    /// The RTP marker: whether it is the last packet of its picture for the receiver.
    pub marker: bool,
    /// Only its number is needed: the packet is of a layer that the receiver does not get, but
    /// arrived too late to give its number to another.
    pub filler: bool,
}

/// The numbers of the newest packet, as the receiver saw them.
#[derive(Clone, Copy, Debug, Default)]
struct Newest {
    timestamp: u32,
    at_ms: u32,
    picture_id: u16,
    tl0: u8,
    frame_number: u16,
}

impl Newest {
    /// Advances to the numbers of a late packet, as far as they are ahead.
    fn advance(&mut self, projected: &Projected, meta: &PacketMeta) {
        let Projected { timestamp, shift, .. } = *projected;
        if timestamp.wrapping_sub(self.timestamp) < 1 << 31 {
            self.timestamp = timestamp;
        }
        let ahead = |now: u16, before: u16| now.wrapping_sub(before) < 1 << 15;
        if !meta.numbers.is_none() {
            let id = meta.numbers.picture_id.wrapping_add(shift.picture_id);
            let wide = if meta.numbers.picture_id_bits == 7 { 9 } else { 1 };
            if ahead(id << wide, self.picture_id << wide) {
                self.picture_id = id;
            }
            let tl0 = meta.numbers.tl0.wrapping_add(shift.tl0);
            if tl0.wrapping_sub(self.tl0) < 1 << 7 {
                self.tl0 = tl0;
            }
        }
        let number = meta.frame_number.map(|number| number.wrapping_add(shift.frame_number));
        if let Some(number) = number.filter(|number| ahead(*number, self.frame_number)) {
            self.frame_number = number;
        }
    }
}

/// The projection of a source for one receiver.
#[derive(Clone, Debug)]
pub struct Projection {
    clock_rate: u32,
    current: Option<u8>,
    target: Option<u8>,
    /// The encoding that was forwarded last.
    last: Option<u8>,
    /// Whether it began without a keyframe, since none could be recognised.
    blind: bool,
    /// Smallest forwarded index of the current encoding.
    floor: u64,
    /// `out = in + delta`, modulo 2^64, of the newest packet.
    delta: u64,
    /// Recently skipped packets of the current encoding.
    skipped: Skipped,
    filter: Filter,
    timestamp_delta: u32,
    shift: Shift,
    /// The next index that was never given to a packet.
    next: u64,
    /// The next index under which no packet was sent.
    left: u64,
    newest: Newest,
    waiting_since_ms: Option<u32>,
    /// Whether the current encoding is no longer received.
    orphaned: bool,
}

impl Projection {
    /// `first`: the first index that may be used under this SSRC and the receiver's key. No index
    /// is used twice.
    pub fn new(clock_rate: u32, first: u64) -> Self {
        Self {
            clock_rate,
            current: None,
            target: None,
            last: None,
            blind: false,
            floor: 0,
            delta: 0,
            skipped: Skipped::default(),
            filter: Filter::default(),
            timestamp_delta: 0,
            shift: Shift::default(),
            next: first,
            left: first,
            newest: Newest::default(),
            waiting_since_ms: None,
            orphaned: false,
        }
    }

    /// The projection of another source that is sent under the same SSRC from index `first` on. The
    /// running numbers continue those of this one, as they do at a switch between encodings.
    #[must_use]
    pub fn of_next_source(&self, clock_rate: u32, first: u64) -> Self {
        Self {
            last: self.last.map(|_| OTHER_SOURCE),
            newest: self.newest,
            ..Self::new(clock_rate, first)
        }
    }

    /// The encoding that is being forwarded.
    pub fn current(&self) -> Option<u8> {
        self.current
    }

    /// The encoding that was allocated.
    pub fn target(&self) -> Option<u8> {
        self.target
    }

    /// The first index that was never used.
    pub fn next_index(&self) -> u64 {
        self.next
    }

    /// The RTP clock rate, Hz.
    pub fn clock_rate(&self) -> u32 {
        self.clock_rate
    }

    /// What is added to the current encoding's timestamps.
    pub fn timestamp_delta(&self) -> u32 {
        self.timestamp_delta
    }

    /// The encoding that is being forwarded, and its first forwarded index.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn began(&self) -> (Option<u8>, u64) {
        (self.current, self.floor)
    }

    /// The layers that are being forwarded.
    pub fn current_layers(&self) -> Option<LayerId> {
        let Layers { spatial, temporal } = self.filter.current();
        self.current.map(|encoding| LayerId { encoding, spatial, temporal })
    }

    /// The layers that were allocated.
    pub fn target_layers(&self) -> Option<LayerId> {
        let Layers { spatial, temporal } = self.filter.target();
        self.target.map(|encoding| LayerId { encoding, spatial, temporal })
    }

    /// Sets the encoding and its layers. Returns whether a keyframe is now needed.
    pub fn set_target(&mut self, target: Option<LayerId>, now_ms: u32) -> bool {
        let encoding = target.map(|layer| layer.encoding);
        if self.target != encoding {
            self.target = encoding;
            self.waiting_since_ms = None;
        }
        if let Some(LayerId { spatial, temporal, .. }) = target {
            self.filter.set_target(Layers { spatial, temporal });
        }
        let waits = self.waits();
        if waits && self.waiting_since_ms.is_none() {
            self.waiting_since_ms = Some(now_ms);
        }
        waits
    }

    /// Sets whether the current encoding has stopped arriving.
    pub fn set_orphaned(&mut self, orphaned: bool) {
        self.orphaned = orphaned && self.current.is_some();
    }

    /// Starts the wait for a keyframe now: from now on the receiver can be sent something.
    pub fn restart_waiting(&mut self, now_ms: u32) {
        self.waiting_since_ms = self.waits().then_some(now_ms);
    }

    /// Returns whether a keyframe of the target is needed before it can be forwarded.
    pub fn waits(&self) -> bool {
        self.target.is_some() && (self.target != self.current || self.filter.waits())
    }

    /// Pauses forwarding. It continues at a keyframe, without a gap.
    pub fn pause(&mut self, now_ms: u32) {
        if self.current.take().is_some() {
            self.waiting_since_ms = Some(now_ms);
        }
    }

    /// Restarts at index `first` for new keys of the receiver.
    pub fn restart(&mut self, first: u64, now_ms: u32) {
        self.pause(now_ms);
        (self.next, self.left) = (first, first);
    }

    /// Records that the packet with this index was sent.
    #[inline]
    pub fn on_sent(&mut self, index: u64) {
        self.left = self.left.max(index.saturating_add(1));
    }

    /// Reuses the numbers of packets that could not be sent, before the numbers run away from the
    /// receiver.
    #[inline]
    pub fn reclaim(&mut self, now_ms: u32) {
        if self.next.saturating_sub(self.left) > MAX_GAP.unsigned_abs() {
            self.pause(now_ms);
            self.next = self.left;
        }
    }

    /// Skips a packet that the receiver cannot get because it lacks the codec.
    pub fn skip(&mut self, encoding: u8, meta: &PacketMeta) {
        if self.current != Some(encoding) || meta.index < self.floor || self.ahead(meta) < 0 {
            // Later packets have their numbers already.
            return;
        }
        if meta.keyframes_known {
            // Packets that follow may refer to it.
            return self.pause(meta.arrival_ms);
        }
        self.leave_out(meta);
    }

    /// Skips a packet that is newer than all before, without leaving a gap.
    fn leave_out(&mut self, meta: &PacketMeta) {
        self.skipped.skip(self.newest_index(), meta.index);
        // Packets that are missing before it stay a gap.
        self.next = meta.index.wrapping_add(self.delta);
        self.delta = self.delta.wrapping_sub(1);
    }

    /// The index of the newest packet of the current encoding, forwarded or not.
    fn newest_index(&self) -> u64 {
        self.next.wrapping_sub(self.delta).wrapping_sub(1)
    }

    /// How far a packet is ahead of the next one, if it were of the current encoding.
    #[inline]
    fn ahead(&self, meta: &PacketMeta) -> i64 {
        meta.index.wrapping_add(self.delta).wrapping_sub(self.next) as i64
    }

    /// Returns whether a packet has to wait for the next one, which shows if it is the last of its
    /// picture for the receiver. A decoder shows nothing of a picture whose last packet lacks the
    /// marker, nor of anything that refers to it.
    #[inline]
    pub fn may_end_picture(&self, encoding: u8, meta: &PacketMeta) -> bool {
        self.current == Some(encoding) && self.filter.may_end_picture(meta)
    }

    /// Returns whether a packet's layers are needed to decide if it is forwarded. If not, the whole
    /// encoding is forwarded.
    #[inline]
    pub fn depends_on_layers(&self, encoding: u8) -> bool {
        self.current == Some(encoding) && !self.filter.takes_all_temporal()
    }

    /// Returns whether a packet that was just accepted is the last of its picture for the receiver,
    /// given the packet `next` after it.
    #[inline]
    fn ends_before(&self, meta: &PacketMeta, next: &PacketMeta) -> bool {
        // Between packets that are not adjacent anything may be missing.
        next.index == meta.index.wrapping_add(1)
            && self.filter.may_end_picture(meta)
            && self.filter.ends_before(meta, next)
    }

    /// Sets the marker on a packet that was just accepted, if `next` shows that it is the last of
    /// its picture for the receiver.
    #[inline]
    pub fn mark(&self, projected: &mut Projected, meta: &PacketMeta, next: Option<&PacketMeta>) {
        projected.marker |=
            !projected.filler && next.is_some_and(|next| self.ends_before(meta, next));
    }

    /// Returns the numbers for this packet, or `None` if it is not forwarded.
    #[inline]
    pub fn accept(&mut self, encoding: u8, meta: &PacketMeta) -> Option<Projected> {
        if self.current == Some(encoding)
            && (meta.resumes || !(-MAX_LATE..=MAX_GAP).contains(&self.ahead(meta)))
        {
            self.pause(meta.arrival_ms);
        }
        if !meta.lost.is_empty() && self.current == Some(encoding) && meta.index >= self.floor {
            self.filter.lose(meta.lost);
        }
        if self.current != Some(encoding) {
            if self.target != Some(encoding) || !self.may_switch(encoding, meta) {
                return None;
            }
            self.switch(encoding, meta);
        }
        if self.ahead(meta) < 0 {
            return self.late(meta);
        }
        // Padding-only packets just probe the path to the bridge.
        if meta.payload_len == 0 || !self.filter.takes(meta, true) {
            self.leave_out(meta);
            return None;
        }
        let index = meta.index.wrapping_add(self.delta);
        self.skipped.pass(self.newest_index(), meta.index);
        self.next = index.saturating_add(1);
        let projected = self.project(index, meta);
        let Projected { timestamp, shift, .. } = projected;
        self.newest.timestamp = timestamp;
        self.newest.at_ms = meta.arrival_ms;
        if !meta.numbers.is_none() {
            self.newest.picture_id = meta.numbers.picture_id.wrapping_add(shift.picture_id);
            self.newest.tl0 = meta.numbers.tl0.wrapping_add(shift.tl0);
        }
        if let Some(number) = meta.frame_number {
            self.newest.frame_number = number.wrapping_add(shift.frame_number);
        }
        Some(projected)
    }

    #[inline]
    fn project(&self, index: u64, meta: &PacketMeta) -> Projected {
        let behind = self.filter.dropped_behind(meta);
        let dropped = self.filter.dropped_pictures().wrapping_sub(behind);
        let mut shift = self.shift;
        shift.picture_id = shift.picture_id.wrapping_sub(dropped);
        Projected {
            index,
            timestamp: meta.timestamp.wrapping_add(self.timestamp_delta),
            shift,
            dropped,
            marker: meta.marker || self.filter.ends_picture(meta),
            filler: false,
        }
    }

    /// A packet that is older than the newest gets the number that was left for it.
    #[cold]
    fn late(&mut self, meta: &PacketMeta) -> Option<Projected> {
        if meta.index < self.floor {
            return None;
        }
        let newest = self.newest_index();
        let index = meta.index.wrapping_add(self.delta);
        let index = index.wrapping_add(self.skipped.between(meta.index, newest));
        let projected = self.project(index, meta);
        let filler = meta.payload_len == 0 || !self.filter.takes(meta, false);
        if !filler {
            // If newer packets were skipped, this one may be the newest that the receiver has.
            self.newest.advance(&projected, meta);
        }
        Some(Projected { filler, marker: projected.marker && !filler, ..projected })
    }

    fn may_switch(&self, encoding: u8, meta: &PacketMeta) -> bool {
        if meta.payload_len == 0 {
            return false;
        }
        if !meta.keyframes_known || meta.keyframe {
            return true;
        }
        if self.blind && self.last == Some(encoding) {
            // Waiting for a keyframe that cannot be recognised would only lengthen a pause.
            return true;
        }
        let patience = if meta.keyframes_hidden { START_HIDDEN_MS } else { START_ANYWAY_MS };
        // A receiver that gets nothing meanwhile must not wait for ever.
        (self.current.is_none() || self.orphaned)
            && self.waiting_since_ms.is_some_and(|since| {
                let waited = meta.arrival_ms.wrapping_sub(since);
                waited > patience && waited <= u32::MAX / 2
            })
    }

    /// Returns whether a switch can happen at a packet.
    #[inline]
    pub fn may_begin(&self, encoding: u8, meta: &PacketMeta) -> bool {
        self.current != Some(encoding) && self.target == Some(encoding) && meta.keyframe
    }

    /// Makes `encoding` the current one, and its packet `meta` the next to be sent.
    fn switch(&mut self, encoding: u8, meta: &PacketMeta) {
        // A late keyframe may be older than packets that were skipped.
        let dropped = self.filter.dropped_pictures().wrapping_sub(self.filter.dropped_behind(meta));
        self.shift.picture_id = self.shift.picture_id.wrapping_sub(dropped);
        self.filter.restart(!meta.keyframe);
        self.delta = self.next.wrapping_sub(meta.index);
        self.skipped.clear();
        self.floor = meta.index;
        if self.last.is_some() {
            // The old encoding's newest packet may have arrived after this one, since both wait to
            // be flushed.
            let elapsed = (meta.arrival_ms.wrapping_sub(self.newest.at_ms) as i32).max(0);
            let ticks = i64::from(elapsed).wrapping_mul(i64::from(self.clock_rate)) / 1000;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "RTP timestamps count modulo 2^32"
            )]
            let timestamp = self.newest.timestamp.wrapping_add((ticks as u32).max(1));
            let own = meta.timestamp.wrapping_add(self.timestamp_delta);
            // An encoding that continues after a pause keeps its own timestamps, if that is
            // plausible.
            let same = self.last == Some(encoding)
                && (own.wrapping_sub(timestamp) as i32).unsigned_abs() < self.clock_rate
                && (own.wrapping_sub(self.newest.timestamp) as i32) > 0;
            if !same {
                self.timestamp_delta = timestamp.wrapping_sub(meta.timestamp);
                self.continue_numbers(meta);
            }
        }
        self.blind = meta.keyframes_known && !meta.keyframe;
        self.last = Some(encoding);
        self.current = Some(encoding);
        self.waiting_since_ms = None;
    }

    /// Continues the codec's running numbers where those of the old encoding ended: a decoder takes
    /// a keyframe with lower numbers than it has seen for a late one.
    fn continue_numbers(&mut self, meta: &PacketMeta) {
        let after = |newest: u16, own: u16| newest.wrapping_add(1).wrapping_sub(own);
        if !meta.numbers.is_none() {
            self.shift.picture_id = after(self.newest.picture_id, meta.numbers.picture_id);
            self.shift.tl0 = self.newest.tl0.wrapping_add(1).wrapping_sub(meta.numbers.tl0);
        }
        if let Some(own) = meta.frame_number {
            self.shift.frame_number = after(self.newest.frame_number, own);
        }
    }
}
