//! The greatest height that any receiver requests of each video. Senders get it as sender constraints, so
//! that they encode no more than that.
//!
//! Each video has a count of its receivers by requested height. A receiver that changes its constraints moves
//! from one height to another; nothing is summed over all receivers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use rialto_media::{EndpointId, MediaType, SourceId};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    channel::SMALL,
    effects::Effects,
    endpoint::{Endpoint, EndpointSource},
    state::Conference,
    work,
};
use crate::channel::ToClient;

/// Height in sender constraints for a receiver that set no bound, pixels.
const UNBOUNDED: i32 = 2160;

/// A newcomer that has been able to receive for this long without sending constraints counts as unbounded.
/// Clients send constraints as soon as their channel is open, some round trips after DTLS.
const NEWCOMER_SPEAKS: Duration = Duration::from_secs(1);

/// How many receivers of a video request each height, pixels.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Heights(BTreeMap<i32, usize>);

impl Heights {
    fn add(&mut self, height: i32) {
        let receivers = self.0.entry(height).or_default();
        *receivers = receivers.saturating_add(1);
    }

    fn remove(&mut self, height: i32) {
        if let Some(receivers) = self.0.get_mut(&height) {
            *receivers = receivers.saturating_sub(1);
            if *receivers == 0 {
                self.0.remove(&height);
            }
        }
    }

    fn highest(&self) -> Option<i32> {
        self.0.last_key_value().map(|(height, _)| *height)
    }
}

/// Receivers of one video.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Wanted {
    /// Receivers that count.
    counted: Heights,
    /// Newcomers that have not sent constraints yet.
    newcomers: Heights,
}

/// How a receiver counts for a video that it gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Share {
    counts: bool,
    height: i32,
}

/// The receivers of all videos.
#[derive(Debug, Default)]
pub(super) struct Demand {
    videos: FxHashMap<SourceId, Wanted>,
    /// Senders whose sender constraints may have changed.
    senders: BTreeSet<EndpointId>,
}

impl Demand {
    /// Notes that the sources of a sender have changed.
    pub(super) fn sender_changed(&mut self, sender: EndpointId) {
        self.senders.insert(sender);
    }

    /// Forgets a video that has ended.
    pub(super) fn forget(&mut self, video: SourceId) {
        self.videos.remove(&video);
    }

    /// Forgets a sender that has left.
    pub(super) fn forget_sender(&mut self, sender: EndpointId) {
        self.senders.remove(&sender);
    }

    fn count(&mut self, video: SourceId, before: Option<Share>, after: Option<Share>) {
        if let Some(share) = before
            && let Some(wanted) = self.videos.get_mut(&video)
        {
            wanted.heights(share).remove(share.height);
        }
        if let Some(share) = after {
            self.videos.entry(video).or_default().heights(share).add(share.height);
        }
    }

    /// Whether no receiver gets any video.
    pub(super) fn is_empty(&self) -> bool {
        self.videos.is_empty()
    }
}

impl Wanted {
    fn heights(&mut self, share: Share) -> &mut Heights {
        if share.counts { &mut self.counted } else { &mut self.newcomers }
    }
}

/// A receiver's share of the counts, and what has changed since.
#[derive(Debug, Default)]
pub(super) struct Shares {
    known: FxHashMap<SourceId, Share>,
    stale: FxHashSet<SourceId>,
    all_stale: bool,
}

impl Shares {
    /// The shares of a new receiver, none of which are counted yet.
    pub(super) fn new() -> Self {
        Self { all_stale: true, ..Self::default() }
    }

    /// Notes that the receiver's subscription to a video began, ended, or changed.
    pub(super) fn changed(&mut self, video: SourceId) {
        self.stale.insert(video);
    }

    /// Notes that the receiver sent constraints, or counts from now on.
    pub(super) fn all_changed(&mut self) {
        self.all_stale = true;
    }

    /// Forgets a video that has ended.
    pub(super) fn forget(&mut self, video: SourceId) {
        self.known.remove(&video);
        self.stale.remove(&video);
    }

    fn are_stale(&self) -> bool {
        self.all_stale || !self.stale.is_empty()
    }
}

impl Conference {
    /// The greatest height that receivers request of each video of a sender. A newcomer does not count before
    /// it has sent constraints, or the sender would change its encodings twice within a second. Until then
    /// the sender's last constraint stays, or, where nobody else gets the video, the default for unnamed
    /// videos applies.
    pub(super) fn demand_of(&self, sender: EndpointId) -> Vec<(Arc<str>, i32)> {
        let Some(sender) = self.by_engine_id(sender) else { return Vec::new() };
        let unnamed = or_unbounded(Some(self.rules.limits.default_max_height));
        let wanted = |source: &EndpointSource| {
            let wanted = self.demand.videos.get(&source.spec.id)?;
            let told = sender.demand.iter().find(|(name, _)| *name == source.spec.name);
            let told = told.map(|(_, height)| *height).filter(|height| *height > 0);
            let newcomers =
                wanted.newcomers.highest().map(|bound| told.unwrap_or(unnamed.min(bound)));
            wanted.counted.highest().max(newcomers)
        };
        let videos = sender.sources.iter().filter(|own| own.spec.media == MediaType::Video);
        videos.map(|own| (own.spec.name.clone(), wanted(own).unwrap_or(0))).collect()
    }

    /// How a receiver counts for a video of another.
    fn share(receiver: &Endpoint, owner: EndpointId, video: &EndpointSource) -> Option<Share> {
        let source = &video.spec;
        // A video that shows nothing is in no slot, but still counts as requested.
        let would_get = || {
            receiver.slots.is_some()
                && receiver.engine_id != owner
                && !video.shows()
                && receiver.wants(source.media, &source.name)
        };
        let gets = receiver.subscriptions.contains_key(&source.id) || would_get();
        let bound = || receiver.constraints.constraint(&source.name).map(|bound| bound.max_height);
        gets.then(|| Share { counts: receiver.counts, height: or_unbounded(bound()) })
    }

    /// Brings the counts up to date.
    pub(super) fn count_demand(&mut self) {
        let stale = self.endpoints.values().filter(|receiver| receiver.shares.are_stale());
        let stale: Vec<EndpointId> = stale.map(|receiver| receiver.engine_id).collect();
        for receiver in stale {
            self.count_demand_of(receiver);
        }
    }

    fn count_demand_of(&mut self, receiver: EndpointId) {
        let Some(endpoint) = self.by_engine_id(receiver) else { return };
        let shares = &endpoint.shares;
        let changed: Vec<SourceId> = if shares.all_stale {
            let others = self.endpoints.values().flat_map(|sender| &sender.sources);
            let videos = others.filter(|own| own.spec.media == MediaType::Video);
            videos.map(|video| video.spec.id).collect()
        } else {
            shares.stale.iter().copied().collect()
        };
        work::count(changed.len());
        let after: Vec<_> = changed
            .into_iter()
            .filter_map(|id| {
                let (owner, video) = self.source(id)?;
                let share = Self::share(endpoint, owner.engine_id, video);
                Some((id, owner.engine_id, share))
            })
            .collect();
        let id = endpoint.id.clone();
        let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
        endpoint.shares.stale.clear();
        endpoint.shares.all_stale = false;
        for (video, owner, after) in after {
            let before = match after {
                Some(share) => endpoint.shares.known.insert(video, share),
                None => endpoint.shares.known.remove(&video),
            };
            if before != after {
                self.demand.count(video, before, after);
                self.demand.senders.insert(owner);
            }
        }
    }

    /// Takes a receiver that leaves out of the counts.
    pub(super) fn forget_demand_of(&mut self, gone: &Endpoint) {
        for (video, share) in &gone.shares.known {
            self.demand.count(*video, Some(*share), None);
            if let Some(owner) = self.source_owners.get(video) {
                self.demand.senders.insert(*owner);
            }
        }
        self.demand.forget_sender(gone.engine_id);
    }

    /// Counts newcomers from now on that had the time to send constraints.
    pub(super) fn count_silent_newcomers(&mut self, now: Instant) {
        for endpoint in self.endpoints.values_mut().filter(|endpoint| !endpoint.counts) {
            let had_time = |since| now.saturating_duration_since(since) >= NEWCOMER_SPEAKS;
            if endpoint.keyed_since.is_some_and(had_time) {
                endpoint.counts = true;
                endpoint.shares.all_changed();
            }
        }
    }

    /// Sends senders their sender constraints where these have changed.
    pub(super) fn send_demand(&mut self, effects: &mut Effects) {
        self.count_demand();
        let senders = std::mem::take(&mut self.demand.senders);
        let ids = senders.into_iter().filter_map(|id| self.by_engine_id.get(&id).cloned());
        // In the order of their signalled ids, as everywhere.
        for id in ids.collect::<BTreeSet<_>>() {
            let Some(sender) = self.endpoints.get(&id) else { continue };
            let demand = self.demand_of(sender.engine_id);
            let Some(sender) = self.endpoints.get_mut(&id) else { continue };
            for (source, max_height) in demand.iter().filter(|now| !sender.demand.contains(now)) {
                let message = ToClient::SenderConstraints { source, max_height: *max_height };
                effects.message(sender.engine_id, message.text());
            }
            sender.demand = demand;
        }
    }

    /// Sends sender constraints after a change of subscriptions or receiver constraints. A large conference
    /// leaves that to its tick, twice a second.
    pub(super) fn demand_changed(&mut self, effects: &mut Effects) {
        if self.endpoints.len() <= SMALL {
            self.send_demand(effects);
        }
    }
}

fn or_unbounded(height: Option<i32>) -> i32 {
    height.filter(|height| *height >= 0).unwrap_or(UNBOUNDED)
}
