//! A source on one shard: its packets (one ring for each encoding) and the receivers there.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "the head of a ring is never behind what was forwarded"
)]

use std::{sync::Arc, time::Instant};

use rialto_media::{
    Description, MAX_ENCODINGS, MediaType,
    encodings::{self, EncodingMask, Heights},
};

use super::{
    SourceInfo,
    receiver::Subscription,
    report::ClockReport,
    ring::{PacketRing, RingIndex, RingSize},
};
use crate::{ingress::PacketMeta, slots::Place};

/// A feed is flushed early when so many packets wait in one ring.
const FLUSH_AT: u64 = 32;

/// One encoding's packets on this shard.
#[derive(Debug, Default)]
pub struct EncodingFeed {
    /// Allocated when the first packet comes.
    pub ring: Option<PacketRing>,
    /// First packet that was not yet given to the receivers.
    pub fresh: RingIndex,
    /// What the sender last said of its clocks.
    pub report: Option<ClockReport>,
    /// Payload type of the last packet, as the sender numbers it.
    pub payload_type: Option<u8>,
}

impl EncodingFeed {
    /// Packets not yet given to the receivers.
    pub fn fresh_range(&self) -> std::ops::Range<RingIndex> {
        self.fresh..self.ring.as_ref().map_or(self.fresh, PacketRing::head)
    }
}

/// How many receivers get or wait for each encoding, so that nobody must ask all of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct WantedCounts {
    receivers: [u32; MAX_ENCODINGS],
    /// How many of them wait.
    waiting: u32,
}

impl WantedCounts {
    /// A receiver wants other encodings than before, or waits for one, or no longer does (see
    /// [`Subscription::wanted`]).
    #[inline]
    pub fn change(&mut self, before: (EncodingMask, bool), after: (EncodingMask, bool)) {
        if before == after {
            return;
        }
        for (encoding, count) in self.receivers.iter_mut().enumerate() {
            let (before, after) = (before.0 >> encoding & 1, after.0 >> encoding & 1);
            *count = count.saturating_add(after.into()).saturating_sub(before.into());
        }
        self.waiting = self.waiting.saturating_add(after.1.into()).saturating_sub(before.1.into());
    }

    /// The encodings that any receiver wants.
    pub fn mask(&self) -> EncodingMask {
        let bits = self
            .receivers
            .iter()
            .enumerate()
            .map(|(at, count)| EncodingMask::from(*count > 0) << at);
        bits.fold(0, |mask, bit| mask | bit)
    }
}

/// See the module's description.
#[derive(Debug)]
pub struct Feed {
    /// The source.
    pub info: Arc<SourceInfo>,
    /// What its sender negotiated.
    pub media: Description,
    /// One for each signalled encoding.
    pub encodings: [EncodingFeed; MAX_ENCODINGS],
    /// The receivers on this shard.
    pub subscriptions: Vec<Subscription>,
    /// How many of them get or wait for each encoding.
    pub wanted: WantedCounts,
    /// It is among those that somebody waits for; see [`Self::is_waited_for`].
    pub waits: bool,
    /// Encodings that arrive at the sender's home, as last told.
    pub active: EncodingMask,
    /// How high each encoding is, as last told.
    pub heights: Heights,
    /// Encodings that receivers here need, as last told to the sender's home.
    pub told_wanted: EncodingMask,
    /// What the sender calls itself, if it has said so.
    pub cname: Option<Box<str>>,
    /// When a receiver is next to be told what the sender said of its clocks; `None`: it is time to
    /// look.
    pub next_report: Option<Instant>,
    /// When fresh packets must leave; `None`: there are none.
    pub due: Option<Instant>,
    /// When the oldest of them came to this shard.
    pub since: Option<Instant>,
}

impl Feed {
    /// A feed without packets and receivers.
    pub fn new(info: Arc<SourceInfo>, media: Description) -> Self {
        Self {
            info,
            media,
            encodings: Default::default(),
            subscriptions: Vec::new(),
            wanted: WantedCounts::default(),
            waits: false,
            active: 0,
            heights: Heights::default(),
            told_wanted: 0,
            cname: None,
            next_report: None,
            due: None,
            since: None,
        }
    }

    /// Takes a packet. `hold`: until when a packet without company may wait. Returns whether the feed
    /// has just become one with fresh packets.
    pub fn push(
        &mut self,
        encoding: u8,
        meta: PacketMeta,
        packet: &[u8],
        now: Instant,
        hold: Instant,
    ) -> bool {
        let audio = self.info.spec.media == MediaType::Audio;
        let Some(feed) = self.encodings.get_mut(usize::from(encoding)) else { return false };
        feed.payload_type = Some(meta.payload_type);
        let size = if audio { RingSize::AUDIO } else { RingSize::VIDEO };
        let ring = feed.ring.get_or_insert_with(|| PacketRing::new(size));
        if ring.push(meta, packet).is_none() {
            return false;
        }
        let full = ring.head() - feed.fresh >= FLUSH_AT;
        // The last packet of a frame has nothing to wait for; audio never waits.
        let at = if audio || meta.marker || full { now } else { hold };
        let first = self.due.is_none();
        self.since.get_or_insert(now);
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
        first
    }

    /// Keeps what the sender said of an encoding's clocks and, unless it is empty, of its name.
    pub fn on_report(&mut self, encoding: u8, report: ClockReport, cname: &str) {
        if let Some(feed) = self.encodings.get_mut(usize::from(encoding)) {
            feed.report = Some(report);
        }
        self.next_report = None;
        if !cname.is_empty() && self.cname.as_deref() != Some(cname) {
            self.cname = Some(cname.into());
        }
    }

    /// Whether the sender has said anything of its clocks.
    pub fn has_reports(&self) -> bool {
        self.encodings.iter().any(|e| e.report.is_some())
    }

    /// Encodings that receivers here get or wait for.
    pub fn wanted(&self) -> EncodingMask {
        let wanted = self.wanted.mask();
        debug_assert_eq!(wanted, self.subscriptions.iter().fold(0, |mask, s| mask | s.wanted().0));
        wanted
    }

    /// Whether a receiver waits for a keyframe, be it that it cannot use one yet. No audio is waited for.
    pub fn is_waited_for(&self) -> bool {
        let waiting = self.wanted.waiting;
        debug_assert_eq!(
            waiting as usize,
            self.subscriptions.iter().filter(|s| s.projection.waits()).count()
        );
        waiting > 0 && self.info.spec.media == MediaType::Video
    }

    /// Takes a receiver and returns its place.
    pub fn subscribe(&mut self, subscription: Subscription) -> Place {
        self.wanted.change((0, false), subscription.wanted());
        self.next_report = None;
        let place = Place::new(self.subscriptions.len());
        self.subscriptions.push(subscription);
        place
    }

    /// Gives up the receiver at a place; the last one takes the place.
    pub fn unsubscribe(&mut self, at: Place) -> Option<Subscription> {
        let at = at.index();
        if at >= self.subscriptions.len() {
            return None;
        }
        let gone = self.subscriptions.swap_remove(at);
        self.wanted.change(gone.wanted(), (0, false));
        Some(gone)
    }

    /// Decides anew what the receiver at a place gets. Returns the encoding of which it then needs a
    /// keyframe, as a mask.
    pub fn retarget(&mut self, at: Place, now: Instant, now_ms: u32) -> EncodingMask {
        let only = self.info.spec.encodings.len() == 1;
        let active = if only { 1 } else { self.active };
        let Some(s) = self.subscriptions.get_mut(at.index()) else { return 0 };
        let before = s.wanted();
        // With nothing arriving, what was forwarded last is what will be recognised first.
        let target =
            encodings::choose(active, self.heights, s.terms.max_height).or(s.projection.current());
        if !s.projection.set_target(target, now_ms) || s.asked != target {
            s.asked = None;
        }
        let current = s.projection.current();
        s.projection.set_orphaned(active & encodings::bit(current) == 0);
        self.wanted.change(before, s.wanted());
        self.keyframe_for(at, now)
    }

    /// The encoding of which the receiver at a place needs a keyframe that it could use, as a mask: of
    /// audio there are none, and neither keys nor codec may be missing. Who switches too often waits
    /// longer.
    pub fn keyframe_for(&mut self, at: Place, now: Instant) -> EncodingMask {
        if self.info.spec.media != MediaType::Video {
            return 0;
        }
        let Some(s) = self.subscriptions.get_mut(at.index()) else { return 0 };
        if !s.ready || !s.projection.waits() {
            return 0;
        }
        let Some(target) = s.projection.target() else { return 0 };
        let sent = self.encodings.get(usize::from(target)).and_then(|e| e.payload_type);
        let reads = sent.is_none_or(|pt| s.payload_types.media(pt).is_some());
        if !reads || s.asked != Some(target) && !s.keyframes.switches.take(now) {
            return 0;
        }
        s.asked = Some(target);
        encodings::bit(Some(target))
    }

    /// The receiver at a place has new keys.
    pub fn on_new_keys(&mut self, at: Place, now_ms: u32) {
        let Some(s) = self.subscriptions.get_mut(at.index()) else { return };
        let before = s.wanted();
        s.on_new_keys(now_ms);
        self.wanted.change(before, s.wanted());
    }

    /// Bytes allocated for packets.
    pub fn memory(&self) -> usize {
        self.encodings.iter().filter_map(|e| e.ring.as_ref()).map(PacketRing::memory).sum()
    }
}
