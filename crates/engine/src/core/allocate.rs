//! Bandwidth allocation of a receiver: when it runs, over which sources, and how its result is
//! applied.
#![expect(clippy::arithmetic_side_effects, reason = "times of this process, and rates of 64 bits")]

use std::{sync::Arc, time::Duration};

use rialto_media::{MAX_ENCODINGS, encodings::EncodingMask};

use super::{ControlEvent, Core};
use crate::{
    Allocation, AllocationConstraints, LayerId, MediaEvent, SourceAllocation, SourceConstraint,
    VideoKind,
    egress::{
        Receiver, SourceFeed,
        allocation::{Explanation, Layer, Totals, Wanted},
    },
    slots::{EndpointSlot, OutStreamSlot},
};

/// Allocations per tick; the rest follow in the next tick.
const MAX_PER_TICK: usize = 32;
/// How often small changes of an estimate, or of the sources' bitrates, are taken into account.
const SETTLE_INTERVAL: Duration = Duration::from_secs(1);
/// Supposed cost of a layer whose bitrate was not measured yet, bit/s per pixel of the square of
/// its height: 720 lines cost 2.4 Mbit/s.
const BPS_PER_SQUARE: u64 = 46;
const TENTHS: u64 = 10;
/// A new link may be allocated more than its estimate, by this fraction. The usual camera of 720
/// lines takes 2.6 Mbit/s and the initial estimate is 2.5, so that the stage went from its full
/// size to half of it and back within a second. JVB ignores its estimates for the first ten
/// seconds.
const YOUNG_PART: u64 = 5;
/// What is sent may exceed the estimate by this fraction while there is no queue: an estimate that
/// falls because packets are lost, and rises again, changed layers 25 times a minute, and each change
/// costs a keyframe.
const HELD_PART: u64 = 7;
/// Most that the lowest spatial layer is supposed to cost until it is measured, bit/s. No receiver
/// goes without a picture because of a guess; the measurement follows a third of a second later.
const LOWEST_BPS: u64 = 100_000;

impl Core {
    /// Replaces a receiver's constraints.
    pub(super) fn set_constraints(
        &mut self,
        slot: EndpointSlot,
        wishes: Arc<AllocationConstraints>,
    ) {
        if let Some(e) = self.endpoints.get_mut(slot) {
            e.receiver.allocation.wishes = Some(wishes);
        }
        self.want_allocation(slot);
    }

    /// Schedules an allocation for a receiver, before the end of this tick or soon after.
    pub(super) fn want_allocation(&mut self, slot: EndpointSlot) {
        let Some(e) = self.endpoints.get_mut(slot) else { return };
        if e.receiver.link.is_none() && e.receiver.allocation.wishes.is_none() {
            return;
        }
        if !std::mem::replace(&mut e.receiver.allocation.listed, true) {
            self.to_allocate.push_back(slot);
        }
    }

    /// Schedules an allocation if a receiver's estimate changed enough.
    pub(super) fn estimate_changed(&mut self, slot: EndpointSlot) {
        let Some(e) = self.endpoints.get_mut(slot) else { return };
        let Receiver { link, allocation, .. } = &mut e.receiver;
        let Some(link) = link else { return };
        if allocation.hysteresis.estimated(link.estimator.target_bps()) {
            self.want_allocation(slot);
        }
    }

    /// Runs some of the scheduled allocations.
    pub(super) fn allocate_due(&mut self) {
        for _ in 0..MAX_PER_TICK {
            let Some(slot) = self.to_allocate.pop_front() else { return };
            self.allocate(slot);
        }
    }

    /// Schedules allocations for small changes that have lasted, and for results that were not
    /// reported yet. To be called periodically. Control gets at most one event per receiver between
    /// two calls, however often its allocation changes: a peer can cause changes, with its reports,
    /// its constraints, or the encodings that it sends.
    pub(super) fn settle_allocations(&mut self) {
        let now = self.now;
        self.for_each_endpoint(|core, slot| {
            let Some(e) = core.endpoints.get_mut(slot) else { return };
            let a = &mut e.receiver.allocation;
            let unreported = a.begin_interval();
            let settles = now.saturating_duration_since(a.at) >= SETTLE_INTERVAL;
            if settles {
                a.hysteresis.settle();
            }
            if settles || unreported {
                core.want_allocation(slot);
            }
        });
    }

    fn allocate(&mut self, slot: EndpointSlot) {
        let now = self.now;
        let Some(e) = self.endpoints.get_mut(slot) else { return };
        let wishes = e.receiver.allocation.wishes.clone();
        e.receiver.allocation.listed = false;
        e.receiver.allocation.at = now;
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
        let reserved = e.receiver.allocation.reserved_bps(now);
        let assumed = wishes.and_then(|wishes| wishes.assumed_bandwidth_bps);
        let estimate = e.receiver.allocation.hysteresis.bandwidth();
        let estimate = estimate.filter(|_| e.receiver.link.is_some());
        let young = e.receiver.link.as_ref().is_some_and(|link| link.is_young(now));
        let holds = e.receiver.link.as_ref().is_some_and(|link| link.holds());
        let decided = e.receiver.allocation.decided_bps.saturating_add(reserved);
        let held = if holds { decided } else { 0 };
        let available = estimate.map(|bps| {
            if young { bps + bps / YOUNG_PART } else { bps.max(held.min(bps + bps / HELD_PART)) }
        });
        let budget = self.config.allocation.budget(available, assumed);
        let totals = self.allocator.run(budget.map(|bps| bps.saturating_sub(reserved)));
        e.receiver.allocation.decided_bps = totals.target_bps;
        if let Some(link) = e.receiver.link.as_mut() {
            // Probe first for what is sent beyond the estimate.
            let sent = totals.target_bps.saturating_add(reserved);
            let next = match estimate {
                Some(estimate) if sent > estimate => Some(sent),
                _ => totals.next_bps.map(|bps| bps.saturating_add(reserved)),
            };
            link.estimator.set_useful(now, totals.ideal_bps.saturating_add(reserved), next);
        }
        let changed = self.apply_decisions(slot, &order);
        self.allocation_order = order;
        self.report_allocation(slot, totals, changed);
    }

    /// Applies the decisions to the streams. Returns whether there is a change to report.
    fn apply_decisions(
        &mut self,
        slot: EndpointSlot,
        order: &[(OutStreamSlot, SourceConstraint)],
    ) -> bool {
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

    fn report_allocation(&mut self, slot: EndpointSlot, totals: Totals, changed: bool) {
        let Some(e) = self.endpoints.get_mut(slot) else { return };
        let estimate = e.receiver.link.as_ref().map(|link| link.estimator.target_bps());
        let videos = self.allocator.decisions().len();
        if !e.receiver.allocation.should_report(estimate, videos, changed) {
            return;
        }
        let describe = |decision: &crate::egress::allocation::Decision| {
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
            sources: self.allocator.decisions().iter().filter_map(describe).collect(),
        };
        self.event(ControlEvent::Media(MediaEvent::Allocated(Box::new(allocation))));
    }
}

/// Lists the videos of a receiver in order of priority: first those with a constraint, in its
/// order, then the others, the oldest first.
fn rank(
    receiver: &mut Receiver,
    subscriptions: &super::endpoint::SubscriptionList,
    wishes: Option<&AllocationConstraints>,
    order: &mut Vec<(OutStreamSlot, SourceConstraint)>,
) {
    for s in receiver.streams.values_mut() {
        s.rank = u16::MAX;
    }
    for wish in
        wishes.into_iter().flat_map(|wishes| &wishes.sources).take(crate::MAX_CONSTRAINED_SOURCES)
    {
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
            let wish = SourceConstraint {
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
fn list_layers(feed: &SourceFeed, layers: &mut Vec<Layer>) {
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
    // A simulcast group may list its streams in any order.
    layers.sort_by_key(|layer| (supposed_height(layer), layer.id));
    // Applies to all temporal layers of the lowest layer.
    let place = |layer: &Layer| (layer.id.encoding, layer.id.spatial);
    if let Some(lowest) = layers.iter().find(|layer| layer.active).map(place) {
        for layer in layers.iter_mut().filter(|layer| place(layer) == lowest) {
            if feed.rate(layer.id).bps == 0 {
                layer.bps = layer.bps.min(LOWEST_BPS);
            }
        }
    }
}

/// The height of a layer, pixels, or a guess where it is not known.
fn supposed_height(layer: &Layer) -> u16 {
    let place = layer.id.encoding.saturating_add(layer.id.spatial);
    layer.height.unwrap_or(180 << place.min(4))
}

/// The supposed bitrate of a layer that was not measured yet, bit/s.
fn guess(layer: &Layer) -> u64 {
    let height = u64::from(supposed_height(layer));
    height * height * BPS_PER_SQUARE / TENTHS
}
