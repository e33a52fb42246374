//! Sharing out what the link of a receiver carries: when, of which sources, and what follows.
#![expect(clippy::arithmetic_side_effects, reason = "times of this process, and rates of 64 bits")]

use std::{sync::Arc, time::Duration};

use rialto_media::{MAX_ENCODINGS, encodings::EncodingMask};

use super::{Core, Event};
use crate::{
    Allocation, LayerId, MediaEvent, SourceAllocation, VideoKind, Wish, Wishes,
    egress::{
        Feed, Receiver,
        allocation::{Explanation, Layer, Totals, Wanted},
    },
    slots::{EndpointSlot, OutStreamSlot},
};

/// Links that are shared out in one tick; the others follow in the next.
const AT_A_TIME: usize = 32;
/// Small changes of an estimate, and of what sources cost, count this often.
const SETTLE_INTERVAL: Duration = Duration::from_secs(1);
/// What a layer of a height costs while it is not measured, bits a second for each pixel of the square of
/// its height: 720 lines are taken for 2.4 Mbit/s.
const BPS_PER_SQUARE: u64 = 46;
const TENTHS: u64 = 10;
/// A link that is new may be given so much more, as its part: the usual camera of 720 lines takes 2.6
/// Mbit/s and the initial estimate is 2.5, so that a stage went from its full size to half of it and back
/// within a second. JVB ignores its estimates for the first ten.
const YOUNG_PART: u64 = 5;
/// What is sent may exceed an estimate by so much, as its part, while no queue stands: an estimate that falls because
/// packets are lost, and rises again, changed layers 25 times a minute, and each change costs a keyframe.
const HELD_PART: u64 = 7;
/// The lowest spatial layer is taken for so much at most while it is not measured, bit/s: nobody is refused a
/// picture on a guess, and a third of a second later it is known.
const LOWEST_BPS: u64 = 100_000;

impl Core {
    /// A receiver wants something else.
    pub(super) fn set_wishes(&mut self, slot: EndpointSlot, wishes: Arc<Wishes>) {
        if let Some(e) = self.endpoints.get_mut(slot) {
            e.receiver.allotment.wishes = Some(wishes);
        }
        self.want_allocation(slot);
    }

    /// The link of a receiver is to be shared out anew before the end of this tick, or soon after.
    pub(super) fn want_allocation(&mut self, slot: EndpointSlot) {
        let Some(e) = self.endpoints.get_mut(slot) else { return };
        if e.receiver.link.is_none() && e.receiver.allotment.wishes.is_none() {
            return;
        }
        if !std::mem::replace(&mut e.receiver.allotment.listed, true) {
            self.to_allocate.push_back(slot);
        }
    }

    /// The estimate of a receiver's link may be another.
    pub(super) fn estimate_changed(&mut self, slot: EndpointSlot) {
        let Some(e) = self.endpoints.get_mut(slot) else { return };
        let Receiver { link, allotment, .. } = &mut e.receiver;
        let Some(link) = link else { return };
        if allotment.hysteresis.estimated(link.estimator.target_bps()) {
            self.want_allocation(slot);
        }
    }

    /// Shares out the links of some of those for whom something has changed.
    pub(super) fn allocate_due(&mut self) {
        for _ in 0..AT_A_TIME {
            let Some(slot) = self.to_allocate.pop_front() else { return };
            self.allocate(slot);
        }
    }

    /// Small changes that lasted count as well, and what control has not been told leaves. To be called
    /// periodically: control is told of a receiver once between two calls, however often what it gets
    /// changes. Who makes it change is a peer: by its reports, its wishes, or the encodings that it sends.
    pub(super) fn settle_allocations(&mut self) {
        let now = self.now;
        self.for_each_endpoint(|core, slot| {
            let Some(e) = core.endpoints.get_mut(slot) else { return };
            let a = &mut e.receiver.allotment;
            let untold = a.begin_interval();
            let settles = now.saturating_duration_since(a.at) >= SETTLE_INTERVAL;
            if settles {
                a.hysteresis.settle();
            }
            if settles || untold {
                core.want_allocation(slot);
            }
        });
    }

    fn allocate(&mut self, slot: EndpointSlot) {
        let now = self.now;
        let Some(e) = self.endpoints.get_mut(slot) else { return };
        let wishes = e.receiver.allotment.wishes.clone();
        e.receiver.allotment.listed = false;
        e.receiver.allotment.at = now;
        let mut order = std::mem::take(&mut self.allocation_order);
        order.clear();
        let mut layers = std::mem::take(&mut self.layer_list);
        rank(&mut e.receiver, &e.subscriptions, wishes.as_deref(), &mut order);
        self.allocator.begin();
        for (stream, wish) in &order {
            let Some(s) = e.receiver.streams.get(*stream) else { continue };
            let Some(feed) = self.feeds.get(s.feed) else { continue };
            let mut wanted = Wanted::new(s.source);
            wanted.kind = wish.kind;
            (wanted.on_stage, wanted.selected) = (wish.on_stage, wish.selected);
            (wanted.max_height, wanted.muted) = (wish.max_height, wish.muted);
            wanted.current = s.projection.current_layers().map(|layer| feed.existing(layer));
            list_layers(feed, &mut layers);
            self.allocator.add(wanted, &layers);
        }
        self.layer_list = layers;
        let aside = e.receiver.allotment.set_aside_bps(now);
        let assumed = wishes.and_then(|wishes| wishes.assumed_bandwidth_bps);
        let estimate = e.receiver.allotment.hysteresis.bandwidth();
        let estimate = estimate.filter(|_| e.receiver.link.is_some());
        let young = e.receiver.link.as_ref().is_some_and(|link| link.is_young(now));
        let held = e.receiver.link.as_ref().filter(|link| link.holds());
        let held = held.map_or(0, |_| e.receiver.allotment.decided_bps.saturating_add(aside));
        let lent = estimate.map(|bps| {
            if young { bps + bps / YOUNG_PART } else { bps.max(held.min(bps + bps / HELD_PART)) }
        });
        let budget = self.config.allocation.budget(lent, assumed);
        let totals = self.allocator.run(budget.map(|bps| bps.saturating_sub(aside)));
        e.receiver.allotment.decided_bps = totals.target_bps;
        if let Some(link) = e.receiver.link.as_mut() {
            // What is sent beyond the estimate has to be shown before anything else.
            let sent = totals.target_bps.saturating_add(aside);
            let next = match estimate {
                Some(estimate) if sent > estimate => Some(sent),
                _ => totals.next_bps.map(|bps| bps.saturating_add(aside)),
            };
            link.estimator.set_useful(now, totals.ideal_bps.saturating_add(aside), next);
        }
        let changed = self.apply_decisions(slot, &order);
        self.allocation_order = order;
        self.tell_allocation(slot, totals, changed);
    }

    /// Has each stream follow what was decided. Returns whether there is something to tell.
    fn apply_decisions(&mut self, slot: EndpointSlot, order: &[(OutStreamSlot, Wish)]) -> bool {
        let (mut changed, mut exceeded) = (false, false);
        for (at, (stream, _)) in order.iter().enumerate() {
            let Some(decision) = self.allocator.decisions().get(at).copied() else { break };
            let e = self.endpoints.get_mut(slot);
            let Some(s) = e.and_then(|e| e.receiver.streams.get_mut(*stream)) else { continue };
            let target = decision.target;
            if s.allocated.replace(target) != Some(target) {
                self.retarget_stream(slot, *stream);
                changed = true;
            }
            let e = self.endpoints.get_mut(slot);
            let Some(s) = e.and_then(|e| e.receiver.streams.get_mut(*stream)) else { continue };
            let Some(feed) = self.feeds.get(s.feed) else { continue };
            let current = s.projection.current_layers().map(|layer| feed.existing(layer));
            if let Some(current) = current.filter(|current| target != Some(*current)) {
                exceeded |= u64::from(feed.rate(current).bps) > decision.target_bps;
            }
            let sent = current.filter(|_| decision.arrives);
            let explanation = s.explanation.get_or_insert_with(|| Explanation::new(self.now));
            changed |= explanation.update(&decision, sent, self.now);
        }
        let e = self.endpoints.get_mut(slot);
        if let Some(link) = e.and_then(|e| e.receiver.link.as_mut()) {
            link.set_exceeded(self.now, exceeded);
        }
        changed
    }

    fn tell_allocation(&mut self, slot: EndpointSlot, totals: Totals, changed: bool) {
        let Some(e) = self.endpoints.get_mut(slot) else { return };
        let estimate = e.receiver.link.as_ref().map(|link| link.estimator.target_bps());
        let videos = self.allocator.decisions().len();
        if !e.receiver.allotment.tells(estimate, videos, changed) {
            return;
        }
        let told = |decision: &crate::egress::allocation::Decision| {
            let stream = e.subscriptions.get(decision.source)?;
            let explanation = e.receiver.streams.get(stream)?.explanation?;
            Some(SourceAllocation {
                source: decision.source,
                wanted: decision.ideal,
                wanted_height: decision.ideal_height,
                target: decision.target,
                target_height: decision.target_height,
                sent: explanation.sent,
                reason: explanation.reason,
                since: explanation.since,
            })
        };
        let allocation = Allocation {
            receiver: e.id,
            estimate_bps: estimate,
            target_bps: totals.target_bps,
            ideal_bps: totals.ideal_bps,
            oversend_bps: totals.oversend_bps,
            suspended: totals.suspended,
            sources: self.allocator.decisions().iter().filter_map(told).collect(),
        };
        self.event(Event::Media(MediaEvent::Allocated(Box::new(allocation))));
    }
}

/// Puts the videos of a receiver in the order in which they get their share: as it wishes, then those of
/// which it has said nothing, the oldest first.
fn rank(
    receiver: &mut Receiver,
    subscriptions: &super::endpoint::SubscriptionList,
    wishes: Option<&Wishes>,
    order: &mut Vec<(OutStreamSlot, Wish)>,
) {
    for s in receiver.streams.values_mut() {
        s.rank = u16::MAX;
    }
    for wish in wishes.into_iter().flat_map(|wishes| &wishes.sources).take(crate::MAX_WISHES) {
        let Some(stream) = subscriptions.get(wish.source) else { continue };
        let Some(s) = receiver.streams.get_mut(stream) else { continue };
        if s.is_video() && s.rank == u16::MAX {
            s.rank = u16::try_from(order.len()).unwrap_or(u16::MAX);
            order.push((stream, *wish));
        }
    }
    for (source, stream) in subscriptions.iter() {
        let Some(s) = receiver.streams.get_mut(stream) else { continue };
        if s.is_video() && s.rank == u16::MAX {
            s.rank = u16::try_from(order.len()).unwrap_or(u16::MAX);
            let wish = Wish {
                source,
                kind: VideoKind::Camera,
                max_height: s.terms.max_height,
                on_stage: false,
                selected: false,
                muted: false,
            };
            order.push((stream, wish));
        }
    }
}

/// Lists the layers of a source, from the lowest to the highest.
fn list_layers(feed: &Feed, layers: &mut Vec<Layer>) {
    layers.clear();
    let count = feed.info.spec.encodings.len().min(MAX_ENCODINGS);
    for encoding in (0u8..).take(count) {
        let active = feed.active >> encoding & 1 == EncodingMask::from(true);
        let targets = feed.layers_of(encoding).targets;
        let whole = targets.is_empty().then_some((0, 0));
        for (spatial, temporal) in targets.iter().chain(whole) {
            let id = LayerId { encoding, spatial, temporal };
            let rate = feed.rate(id);
            let height = Some(feed.layer_height(encoding, spatial)).filter(|height| *height > 0);
            let fps = (rate.fps > 0).then_some(rate.fps.into());
            let mut layer = Layer { id, bps: rate.bps.into(), height, fps, active };
            if layer.active && layer.bps == 0 {
                layer.bps = guess(&layer);
            }
            layers.push(layer);
        }
    }
    // A group may list its streams in any order.
    layers.sort_by_key(|layer| (supposed_height(layer), layer.id));
    // With all its temporal layers.
    let place = |layer: &Layer| (layer.id.encoding, layer.id.spatial);
    if let Some(lowest) = layers.iter().find(|layer| layer.active).map(place) {
        for layer in layers.iter_mut().filter(|layer| place(layer) == lowest) {
            if feed.rate(layer.id).bps == 0 {
                layer.bps = layer.bps.min(LOWEST_BPS);
            }
        }
    }
}

/// The height of a layer, pixels, supposed where it is not known.
fn supposed_height(layer: &Layer) -> u16 {
    let place = layer.id.encoding.saturating_add(layer.id.spatial);
    layer.height.unwrap_or(180 << place.min(4))
}

/// What a layer is taken to cost while it is not measured, bit/s.
fn guess(layer: &Layer) -> u64 {
    let height = u64::from(supposed_height(layer));
    height * height * BPS_PER_SQUARE / TENTHS
}
