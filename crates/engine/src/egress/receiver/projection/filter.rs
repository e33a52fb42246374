//! Decides which frames of an encoding with layers a receiver gets. This needs no knowledge of
//! codecs: a frame says which targets include it and which become decodable with it
//! ([`FrameLayers`](rialto_rtp::codec::FrameLayers)), and the filter tracks which targets are
//! intact at this receiver, so that everything they need was forwarded.

use rialto_rtp::codec::{MAX_SPATIAL, MAX_TEMPORAL, Targets};

use crate::ingress::PacketMeta;

/// A spatial and a temporal layer, including all layers below them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Layers {
    /// The spatial layer.
    pub spatial: u8,
    /// The temporal layer.
    pub temporal: u8,
}

impl Layers {
    /// All layers.
    pub const ALL: Self = Self { spatial: MAX_SPATIAL - 1, temporal: MAX_TEMPORAL - 1 };

    /// Limits the spatial layer to `top`.
    fn below(self, top: u8) -> Self {
        Self { spatial: self.spatial.min(top), ..self }
    }

    fn is_in(self, targets: Targets) -> bool {
        targets.has(self.spatial, self.temporal)
    }

    fn fits(self, bound: Self) -> bool {
        self.spatial <= bound.spatial && self.temporal <= bound.temporal
    }
}

/// Remembered decisions, so that late packets are treated like the rest of their frame.
const FRAMES: usize = 32;
/// Pictures within which a switching point to a higher temporal layer should have come.
const PATIENCE: u8 = 60;
/// Nothing from before a change arrives later than this, in ticks of 90 kHz: 30 s.
const SINCE: u32 = 30 * 90_000;
/// Pictures for which it is remembered whether they were forwarded.
const PICTURES: u16 = 64;

/// A frame and whether it is forwarded: 29 bits of its timestamp, two of its spatial layer, one for
/// the decision.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Decided(u32);

impl Decided {
    fn new(meta: &PacketMeta, forwarded: bool) -> Self {
        let spatial = u32::from(meta.layers.spatial) & 0b11;
        Self(meta.timestamp << 3 | spatial << 1 | u32::from(forwarded))
    }

    fn is_of(self, meta: &PacketMeta) -> bool {
        self.0 | 1 == Self::new(meta, true).0
    }

    fn forwarded(self) -> bool {
        self.0 & 1 == 1
    }
}

/// Decides which frames of an encoding a receiver gets.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    current: Layers,
    target: Layers,
    /// Timestamp of the first picture since the forwarded layers last changed, or became decodable
    /// again.
    since: Option<u32>,
    /// The layers that were forwarded before.
    former: Layers,
    intact: Targets,
    /// Number of pictures for which fewer temporal layers than allocated have been forwarded.
    short: u8,
    top: u8,
    /// The last decision; most packets belong to that frame.
    last: Option<Decided>,
    /// The last decisions, each at its count modulo [`FRAMES`]; empty until the first. They are
    /// kept apart from what each packet touches: there are as many filters as receivers of all
    /// sources.
    frames: Box<[Decided]>,
    /// Number of decisions so far.
    decided: usize,
    /// Timestamp of the newest picture.
    picture: Option<u32>,
    /// Whether a wanted frame of that picture was dropped.
    broken: bool,
    /// Pictures with a picture id that were not forwarded and must leave no gap: how many, the
    /// newest one seen, and a bit mask of the last ones (bit 0 is the newest).
    dropped: u16,
    newest_id: Option<u16>,
    dropped_ids: u64,
    /// The TL0PICIDX of the newest picture.
    newest_tl0: Option<u8>,
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            current: Layers::ALL,
            target: Layers::ALL,
            since: None,
            former: Layers::ALL,
            intact: Targets::NONE,
            short: 0,
            top: Layers::ALL.spatial,
            last: None,
            frames: Box::default(),
            decided: 0,
            picture: None,
            broken: false,
            dropped: 0,
            newest_id: None,
            dropped_ids: 0,
            newest_tl0: None,
        }
    }
}

impl Filter {
    /// Starts forwarding anew, at the next frame to be decided. `blind`: as if all frames before it
    /// had been forwarded.
    pub(super) fn restart(&mut self, blind: bool) {
        let target = self.target;
        let intact = if blind { Targets::ALL } else { Targets::NONE };
        let mut frames = std::mem::take(&mut self.frames);
        frames.fill(Decided::default());
        *self = Self { current: target, target, intact, frames, ..Self::default() };
    }

    pub(super) fn set_target(&mut self, target: Layers) {
        self.target = target;
    }

    /// The layers that are being forwarded.
    pub(super) fn current(&self) -> Layers {
        self.current
    }

    /// The layers that were allocated.
    pub(super) fn target(&self) -> Layers {
        self.target
    }

    /// Records that frames of these targets were lost for good on the way to the bridge.
    #[cold]
    pub(super) fn lose(&mut self, targets: Targets) {
        self.intact &= !targets;
        self.broken |= self.current.below(self.top).is_in(targets);
    }

    /// Returns whether only a keyframe can bring the allocated layers: the forwarded spatial layer
    /// is another one and cannot be left, or part of what is forwarded, down to its lowest temporal
    /// layer, is missing. Higher temporal layers have switching points of their own, which not
    /// every sender marks.
    pub(super) fn waits(&self) -> bool {
        let (current, target) = (self.current.below(self.top), self.target.below(self.top));
        let spatial = Targets::of_spatial(current.spatial, 0);
        let within = Targets::of_temporal_up_to(current.temporal);
        !(spatial & within).meets(self.intact)
            || current.spatial != target.spatial && !target.is_in(self.intact)
            || self.short > PATIENCE
    }

    /// Number of dropped pictures so far, modulo 2^16.
    pub(super) fn dropped_pictures(&self) -> u16 {
        self.dropped
    }

    /// Decides whether a packet is forwarded. `newer`: it is newer than all before.
    #[inline]
    pub(super) fn takes(&mut self, meta: &PacketMeta, newer: bool) -> bool {
        if let Some(last) = self.last.filter(|last| last.is_of(meta)) {
            return last.forwarded();
        }
        if newer { self.decide(meta) } else { self.decide_late(meta) }
    }

    /// Returns whether pictures are forwarded whatever their temporal layer.
    pub(super) fn takes_all_temporal(&self) -> bool {
        let all = |layers: Layers| layers.temporal >= MAX_TEMPORAL - 1;
        all(self.current) && all(self.target) && self.current.below(self.top).is_in(self.intact)
    }

    /// Returns whether a packet is the last of its picture for the receiver, which gets no higher
    /// spatial layer.
    #[inline]
    pub(super) fn ends_picture(&self, meta: &PacketMeta) -> bool {
        let layers = if self.is_from_before(meta) { self.former } else { self.current };
        meta.end && meta.layers.spatial == layers.below(self.top).spatial
    }

    /// Returns whether the next packet must be seen to know if this one is the last of its picture
    /// for the receiver. That is so if it ends a frame below the forwarded layer and a higher layer
    /// has the marker: encoders leave out frames of single layers (libaom does to keep its
    /// bitrate), so the forwarded layer may be missing.
    #[inline]
    pub(super) fn may_end_picture(&self, meta: &PacketMeta) -> bool {
        let spatial = meta.layers.spatial;
        let between =
            |layers: Layers| (spatial.saturating_add(1)..meta.top).contains(&layers.spatial);
        meta.end && !meta.marker && (between(self.current) || between(self.target))
    }

    /// Returns whether the packet after that one belongs to nothing that the receiver gets of the
    /// picture.
    pub(super) fn ends_before(&self, meta: &PacketMeta, next: &PacketMeta) -> bool {
        let current = self.current.below(self.top).spatial;
        next.timestamp != meta.timestamp || next.layers.spatial > current
    }

    /// Number of dropped pictures that are newer than that of `meta`: they are to be added to its
    /// picture id.
    #[inline]
    pub(super) fn dropped_behind(&self, meta: &PacketMeta) -> u16 {
        if self.dropped_ids == 0 || !meta.numbers.dense {
            return 0;
        }
        let back = self.back(meta);
        if back > meta.numbers.picture_id_mask() / 2 {
            // It is newer than all.
            return 0;
        }
        let behind = if back < PICTURES { (1u64 << back).wrapping_sub(1) } else { u64::MAX };
        u16::try_from((self.dropped_ids & behind).count_ones()).unwrap_or(0)
    }

    /// How far the newest picture is ahead, modulo the width of the picture id.
    fn back(&self, meta: &PacketMeta) -> u16 {
        let newest = self.newest_id.unwrap_or(meta.numbers.picture_id);
        newest.wrapping_sub(meta.numbers.picture_id) & meta.numbers.picture_id_mask()
    }

    /// Decides about a frame that is newer than all before.
    fn decide(&mut self, meta: &PacketMeta) -> bool {
        let layers = &meta.layers;
        // A packet that arrived before the one with the template structure does not know how many
        // layers there are.
        if meta.keyframe || meta.top < Layers::ALL.spatial {
            self.top = meta.top;
        }
        let begins = self.picture != Some(meta.timestamp);
        self.picture = Some(meta.timestamp);
        self.broken &= !begins;
        // Layers above the highest one can be neither missing nor intact.
        let there = Targets::up_to(self.top);
        self.intact &= there;
        let opens = layers.opens(self.intact) & there;
        if begins && self.is_long_since(meta) {
            // Nothing arrives as late as this, and after 6.6 h the difference would say the
            // opposite.
            self.since = None;
        }
        let lacks = !self.current.below(self.top).is_in(self.intact | opens);
        let before = self.current;
        if begins && (self.current != self.target || meta.keyframe || lacks) {
            self.change(self.intact | opens, meta.keyframe);
            if self.current != before {
                (self.since, self.former) = (Some(meta.timestamp), before);
            }
        }
        if begins {
            let short = self.current.temporal < self.target.temporal;
            self.short = if short { self.short.saturating_add(1) } else { 0 };
        }
        let current = self.current.below(self.top);
        let taken = layers.is_decodable(self.intact) && current.is_in(layers.present);
        if taken {
            self.mark_opened(meta, current, opens);
            self.intact |= opens;
        } else {
            self.intact &= !layers.present;
            self.broken |= current.is_in(layers.present);
        }
        self.remember(Decided::new(meta, taken));
        if meta.numbers.dense && meta.numbers.picture_id_bits != 0 {
            let base_only = before.temporal.min(self.current.temporal) == 0;
            self.count_picture(meta, taken, base_only);
        }
        taken
    }

    /// Moves as close to the target as is possible at the start of a picture. `reach`: what can be
    /// decoded from here on.
    fn change(&mut self, reach: Targets, keyframe: bool) {
        let (current, target) = (self.current.below(self.top), self.target.below(self.top));
        // All layers of a keyframe's picture are available, and those above the first follow.
        if keyframe || target.is_in(reach) {
            self.current = self.target;
            return;
        }
        let within = reach
            .iter()
            .map(|(spatial, temporal)| Layers { spatial, temporal })
            .filter(|layers| layers.fits(target))
            .max();
        if let Some(best) = within
            && (best > current || !current.fits(target) || !current.is_in(reach))
        {
            self.current = best;
        }
    }

    /// Decides about a late packet: like the rest of its frame, if that is known. If it is from
    /// before the last change, what it refers to was not forwarded.
    #[cold]
    fn decide_late(&mut self, meta: &PacketMeta) -> bool {
        if let Some(frame) = self.frames.iter().find(|frame| frame.is_of(meta)) {
            return frame.forwarded();
        }
        let (current, present) = (self.current.below(self.top.min(meta.top)), meta.layers.present);
        // A frame without dependencies is useful whatever was forwarded before it.
        let taken = (meta.layers.independent || !self.is_from_before(meta))
            && !self.is_dropped(meta)
            && current.is_in(present)
            && meta.layers.is_decodable(self.intact);
        let own = Targets::one(current.spatial, current.temporal);
        if !taken {
            self.intact &= !present | own;
        } else if self.picture == Some(meta.timestamp) && !self.broken {
            // Of what is to be forwarded, nothing was decided without it.
            let opens = meta.layers.opens(self.intact) & own;
            self.mark_opened(meta, current, opens);
            self.intact |= opens;
        }
        taken
    }

    /// Handles a frame that makes the forwarded layers decodable again: older packets refer to what
    /// is missing.
    fn mark_opened(&mut self, meta: &PacketMeta, current: Layers, opens: Targets) {
        if !current.is_in(self.intact) && current.is_in(opens) {
            (self.since, self.former) = (Some(meta.timestamp), self.former_at(meta));
        }
    }

    /// The layers that were forwarded before a picture.
    fn former_at(&self, meta: &PacketMeta) -> Layers {
        if self.since == Some(meta.timestamp) { self.former } else { self.current }
    }

    fn is_long_since(&self, meta: &PacketMeta) -> bool {
        self.since.is_some_and(|since| {
            (SINCE..=u32::MAX / 2).contains(&meta.timestamp.wrapping_sub(since))
        })
    }

    /// Returns whether a packet is from before the last change of layers.
    fn is_from_before(&self, meta: &PacketMeta) -> bool {
        self.since.is_some_and(|since| meta.timestamp.wrapping_sub(since) > u32::MAX / 2)
    }

    fn remember(&mut self, decided: Decided) {
        if self.frames.is_empty() {
            self.frames = Box::new([Decided::default(); FRAMES]);
        }
        self.last = Some(decided);
        self.decided = self.decided.wrapping_add(1);
        if let Some(place) = self.frames.get_mut(self.decided % FRAMES) {
            *place = decided;
        }
    }

    /// Counts a picture that is newer than all before. `base_only`: pictures of upper temporal
    /// layers before it are not forwarded.
    fn count_picture(&mut self, meta: &PacketMeta, taken: bool, base_only: bool) {
        let numbers = &meta.numbers;
        let id = numbers.picture_id;
        let ahead = self
            .newest_id
            .map_or(0, |newest| id.wrapping_sub(newest) & meta.numbers.picture_id_mask());
        let first = self.newest_id.is_none();
        let tl0 = (numbers.tl0_at != 0).then_some(numbers.tl0);
        let bases = tl0.zip(self.newest_tl0).map(|(now, before)| {
            now.wrapping_sub(before).wrapping_sub(u8::from(meta.layers.temporal == 0))
        });
        (self.newest_id, self.newest_tl0) = (Some(id), tl0);
        self.dropped_ids = self.dropped_ids.checked_shl(ahead.into()).unwrap_or(0);
        // Of the pictures that were lost, those of upper layers would have been dropped.
        if (2..PICTURES).contains(&ahead) && base_only && bases == Some(0) {
            self.dropped_ids |= (1u64 << ahead).wrapping_sub(2);
            self.dropped = self.dropped.wrapping_add(ahead).wrapping_sub(1);
        }
        if !taken && (first || ahead != 0) {
            self.dropped_ids |= 1;
            self.dropped = self.dropped.wrapping_add(1);
        }
    }

    /// Returns whether a late packet belongs to a picture that counts as dropped.
    fn is_dropped(&self, meta: &PacketMeta) -> bool {
        let back = self.back(meta);
        meta.numbers.dense && back < PICTURES && self.dropped_ids >> back & 1 == 1
    }
}
