//! A source on one shard: its packets (one ring for each encoding) and the receivers there.

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
}

impl EncodingFeed {
    /// Packets not yet given to the receivers.
    pub fn fresh_range(&self) -> std::ops::Range<RingIndex> {
        self.fresh..self.ring.as_ref().map_or(self.fresh, PacketRing::head)
    }
}

/// How many receivers get or wait for each encoding, so that nobody must ask all of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct WantedCounts([u32; MAX_ENCODINGS]);

impl WantedCounts {
    /// A receiver that wanted the encodings of one mask wants those of another.
    #[inline]
    pub fn change(&mut self, before: EncodingMask, after: EncodingMask) {
        if before == after {
            return;
        }
        for (encoding, count) in self.0.iter_mut().enumerate() {
            let (before, after) = (before >> encoding & 1, after >> encoding & 1);
            *count = count.saturating_add(after.into()).saturating_sub(before.into());
        }
    }

    /// The encodings that any receiver wants.
    pub fn mask(&self) -> EncodingMask {
        let bits =
            self.0.iter().enumerate().map(|(at, count)| EncodingMask::from(*count > 0) << at);
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
        debug_assert_eq!(wanted, self.subscriptions.iter().fold(0, |mask, s| mask | s.wanted()));
        wanted
    }

    /// Takes a receiver and returns its place.
    pub fn subscribe(&mut self, subscription: Subscription) -> Place {
        self.wanted.change(0, subscription.wanted());
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
        self.wanted.change(gone.wanted(), 0);
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
        let waits = s.projection.set_target(target, now_ms);
        self.wanted.change(before, s.wanted());
        if !waits {
            return 0;
        }
        s.asked_at = Some(now);
        encodings::bit(target)
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
