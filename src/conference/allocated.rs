//! The engine's allocations: reports them to clients and watchers, and explains why a receiver gets no more.

use std::time::{Duration, Instant};

use rialto_engine::{Allocation, LayerId, Reason, SourceAllocation};
use rialto_media::{EndpointId, MediaType, SourceId};
use serde_json::{Value, json};

use super::{
    allocate::Ranking,
    effects::{ConferenceEvent, Effects},
    endpoint::{Endpoint, EndpointSource},
    state::Conference,
    tally::Tally,
};
use crate::channel::ToClient;

/// A source on stage that has been below its requested height for this long is logged.
const SHORT_STAGE: Duration = Duration::from_secs(10);

/// An estimate that differs by this fraction is sent to the client before the interval has passed.
const SIGNIFICANT_CHANGE: f64 = 0.15;

/// The least time between two estimates.
const SHORTEST_BETWEEN: Duration = Duration::from_secs(1);

/// What was reported about a receiver's link.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct LinkReports {
    /// Since when a source on its stage is below its requested height.
    short_since: Option<Instant>,
    /// Whether that was logged.
    logged: bool,
    /// The last estimate that the client was sent, and when.
    sent_estimate: Option<(u64, Instant)>,
}

/// Why a receiver gets no more of a video.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Explained {
    /// What it would get over a link that carries everything: layer, and height in pixels where known.
    pub wanted: (Option<LayerId>, Option<u16>),
    /// What it is sent.
    pub sent: Option<LayerId>,
    /// What it is to be sent: layer, and height in pixels where known.
    pub target: (Option<LayerId>, Option<u16>),
    /// Why that is no more.
    pub reason: Reason,
    /// Since when that is the reason.
    pub since: Instant,
}

impl Conference {
    /// Takes the engine's allocation for a receiver.
    pub fn allocated(&mut self, allocation: Allocation, now: Instant, effects: &mut Effects) {
        let Some(id) = self.by_engine_id.get(&allocation.receiver).cloned() else { return };
        self.latest = self.latest.max(now);
        self.report_decisions(&id, &allocation, effects);
        if let Some(endpoint) = self.endpoints.get_mut(&id) {
            endpoint.allocation = Some(allocation);
            endpoint.send_estimate(self.rules.connection_stats, now, effects);
        }
        self.update_forwarded(&id, effects);
    }

    fn report_decisions(&self, id: &str, allocation: &Allocation, effects: &mut Effects) {
        let Some(endpoint) = self.endpoints.get(id) else { return };
        let before = endpoint.allocation.as_ref();
        for decided in &allocation.sources {
            let was = before.and_then(|before| find(before, decided.source));
            let layers = |one: &SourceAllocation| (one.sent, one.target);
            if was.map(layers).unwrap_or_default() == layers(decided) {
                continue;
            }
            if let Some((_, source)) = self.source(decided.source) {
                let encoding = |layer: Option<LayerId>| layer.map(|layer| layer.encoding);
                effects.event(ConferenceEvent::Decision {
                    endpoint: id.to_owned(),
                    source: source.spec.name.to_string(),
                    current: encoding(decided.sent),
                    target: encoding(decided.target),
                });
            }
        }
    }

    /// Sends clients the estimates of their links when these are due, and logs stages that have been below
    /// their requested height for long.
    pub(super) fn watch_links(&mut self, now: Instant, effects: &mut Effects) {
        let mut short = Vec::new();
        for endpoint in self.endpoints.values_mut() {
            endpoint.send_estimate(self.rules.connection_stats, now, effects);
            if let Some(source) = endpoint.short_stage(now) {
                short.push((endpoint.engine_id, source));
            }
        }
        for (endpoint, source) in short {
            self.report_short_stage(endpoint, source, effects);
        }
    }

    fn report_short_stage(&self, endpoint: EndpointId, source: SourceId, effects: &mut Effects) {
        let Some(endpoint) = self.by_engine_id(endpoint) else { return };
        let allocation = endpoint.allocation.as_ref();
        let Some(why) = allocation.and_then(|allocation| find(allocation, source)) else { return };
        let name = self.source(source).map(|(_, source)| source);
        effects.event(ConferenceEvent::ShortStage {
            endpoint: endpoint.id.clone(),
            source: name.map(|source| source.spec.name.to_string()).unwrap_or_default(),
            wanted_height: why.wanted_height,
            height: why.target_height,
            reason: why.reason.as_str(),
            estimate_bps: allocation.and_then(|allocation| allocation.estimate_bps),
        });
    }

    /// Why a receiver gets no more of each video of the others, by its name.
    pub(super) fn explain<'a>(
        &'a self,
        receiver: &'a Endpoint,
        ranking: &Ranking,
    ) -> Vec<(&'a EndpointSource, Explained)> {
        let own = receiver.choose(ranking, receiver.own_last_n(self.caps));
        let senders = self.endpoints.values().filter(|sender| sender.id != receiver.id);
        let videos = senders.flat_map(|sender| {
            let videos = sender.sources.iter().filter(|s| s.spec.media == MediaType::Video);
            videos.map(move |video| (sender, video))
        });
        let explain = |(sender, video): (&'a Endpoint, &'a EndpointSource)| {
            let id = video.spec.id;
            let decided = receiver.allocation.as_ref().and_then(|all| find(all, id));
            if let (Some(decided), true) = (decided, receiver.subscriptions.contains_key(&id)) {
                return Some((video, Explained::from(decided)));
            }
            let reason = if receiver.subscriptions.contains_key(&id) {
                // The engine has not decided yet.
                return None;
            } else if !receiver.wants(MediaType::Video, &video.spec.name) {
                Reason::NotWanted
            } else if own.contains(&id) {
                Reason::SuspendedByLoad
            } else {
                Reason::LastN
            };
            let ceased = receiver.ceased.get(&id).copied();
            let since = match reason {
                Reason::NotWanted => ceased.unwrap_or(receiver.asked),
                _ => ceased.unwrap_or(sender.created.max(receiver.created)),
            };
            let nothing = (None, None);
            Some((video, Explained { wanted: nothing, sent: None, target: nothing, reason, since }))
        };
        videos.filter_map(explain).collect()
    }

    /// The estimate of a receiver's link and how the allocation divides it, for debug output.
    pub(super) fn debug_allocation(&self, receiver: &Endpoint, ranking: &Ranking) -> Value {
        let explained = self.explain(receiver, ranking).into_iter().map(|(source, why)| {
            let layer = |layer: Option<LayerId>| layer.map(|layer| layer.to_string());
            json!({
                "name": &*source.spec.name,
                "wanted": layer(why.wanted.0),
                "wanted_height": why.wanted.1,
                "target": layer(why.target.0),
                "target_height": why.target.1,
                "sent": layer(why.sent),
                "reason": why.reason.as_str(),
                "since_ms": self.latest.saturating_duration_since(why.since).as_millis() as u64,
            })
        });
        let sources: Vec<Value> = explained.collect();
        let sum = receiver.allocation.as_ref();
        json!({
            "estimate_bps": sum.and_then(|all| all.estimate_bps),
            "target_bps": sum.map(|all| all.target_bps),
            "ideal_bps": sum.map(|all| all.ideal_bps),
            "oversend_bps": sum.map(|all| all.oversend_bps),
            "suspended": sum.map(|all| all.suspended),
            "sources": sources,
        })
    }

    /// Adds a receiver to the counts of reasons. Of videos that it does not get, all count as beyond its
    /// last-N once that is full.
    pub(super) fn count_reasons(&self, receiver: &Endpoint, videos: usize, tally: &mut Tally) {
        let mut count = |reason: Reason, more: usize| {
            let place = Reason::ALL.iter().position(|other| *other == reason);
            if let Some(counted) = place.and_then(|place| tally.reasons.get_mut(place)) {
                *counted = counted.saturating_add(more as u64);
            }
        };
        if let Some(allocation) = &receiver.allocation {
            for decided in &allocation.sources {
                count(decided.reason, 1);
            }
            tally.oversending += usize::from(allocation.oversend_bps > 0);
            tally.with_suspended += usize::from(allocation.suspended > 0);
        }
        let got = receiver.sent_constraints.sources.len();
        let (limit, own) = (receiver.last_n(self.caps), receiver.own_last_n(self.caps));
        let reason = match limit {
            Some(limit) if got >= limit && limit < own.unwrap_or(usize::MAX) => {
                Reason::SuspendedByLoad
            }
            Some(limit) if got >= limit => Reason::LastN,
            _ => Reason::NotWanted,
        };
        count(reason, videos.saturating_sub(receiver.videos()).saturating_sub(got));
        let forwarded = receiver.forwarded.len();
        tally.most_forwarded = tally.most_forwarded.max(forwarded);
    }
}

fn find(allocation: &Allocation, source: SourceId) -> Option<&SourceAllocation> {
    allocation.sources.iter().find(|decided| decided.source == source)
}

impl From<&SourceAllocation> for Explained {
    fn from(decided: &SourceAllocation) -> Self {
        Self {
            wanted: (decided.wanted, decided.wanted_height),
            sent: decided.sent,
            target: (decided.target, decided.target_height),
            reason: decided.reason,
            since: decided.since,
        }
    }
}

impl Endpoint {
    /// Videos that it sends.
    pub(super) fn videos(&self) -> usize {
        self.sources.iter().filter(|source| source.spec.media == MediaType::Video).count()
    }

    /// The sources that the allocation forwards to it or, without an allocation, that are measured to be
    /// forwarded, in ascending order; `None`: nothing is known.
    pub(super) fn forwarded_sources(&self) -> Option<Vec<SourceId>> {
        let mut forwarded: Vec<SourceId> = if let Some(allocation) = &self.allocation {
            let forwarded = allocation.sources.iter().filter(|source| source.target.is_some());
            forwarded.map(|source| source.source).collect()
        } else {
            let subscriptions = &self.snapshot.as_ref()?.subscriptions;
            let forwarded = subscriptions.iter().filter(|source| source.target.is_some());
            forwarded.map(|source| source.source).collect()
        };
        forwarded.sort_unstable();
        Some(forwarded)
    }

    /// Sends the client the estimate of its link, if that is due.
    fn send_estimate(&mut self, interval: Option<Duration>, now: Instant, effects: &mut Effects) {
        let estimate = self.allocation.as_ref().and_then(|allocation| allocation.estimate_bps);
        let (Some(interval), Some(estimate)) = (interval, estimate) else { return };
        let due = self.link.sent_estimate.is_none_or(|(sent, at)| {
            let by = (estimate as f64 - sent as f64).abs() / (sent as f64).max(1.0);
            let passed = now.saturating_duration_since(at);
            passed >= interval || by > SIGNIFICANT_CHANGE && passed >= SHORTEST_BETWEEN
        });
        if due {
            self.link.sent_estimate = Some((estimate, now));
            effects.message(self.engine_id, ToClient::ConnectionStats(estimate).text());
        }
    }

    /// A source on its stage that has been below its requested height for long. Returned once each time.
    fn short_stage(&mut self, now: Instant) -> Option<SourceId> {
        let allocation = self.allocation.as_ref();
        let staged = self.sent_constraints.sources.iter().filter(|constraint| constraint.on_stage);
        let mut decided = staged.filter_map(|constraint| find(allocation?, constraint.source));
        let Some(source) = decided.find(|decided| decided.reason.is_shortage()) else {
            (self.link.short_since, self.link.logged) = (None, false);
            return None;
        };
        let source = source.source;
        let since = *self.link.short_since.get_or_insert(now);
        if self.link.logged || now.saturating_duration_since(since) < SHORT_STAGE {
            return None;
        }
        self.link.logged = true;
        Some(source)
    }
}
