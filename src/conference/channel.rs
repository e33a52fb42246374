//! Handles bridge-channel messages, and sends the conference's own.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rialto_media::{EndpointId, MediaType, SourceId, SourceSpec};
use serde_json::{Map, Value};

use super::{constraints::Due, effects::Effects, endpoint::Endpoint, state::Conference, work};
use crate::channel::{Dropped, ToBridge, ToClient, message::VideoType};

/// An endpoint that has been connected for this long and has no channel will not open one.
const CHANNEL_DELAY: Duration = Duration::from_secs(30);

/// Upper bound of the videos whose type an endpoint may signal. No endpoint sends so many.
const MAX_SHOWN: usize = 64;

/// In a conference with more endpoints, sender constraints, and receiver constraints that changed because of
/// other endpoints, are sent twice a second and not at once.
pub(crate) const SMALL: usize = 32;

impl Conference {
    /// Whether no endpoint has opened a channel although one had the time to. Returns `true` once.
    pub fn lacks_channels(&mut self, now: Instant) -> bool {
        let settled = |endpoint: &Endpoint| {
            endpoint.keyed && now.saturating_duration_since(endpoint.created) > CHANNEL_DELAY
        };
        !self.channels_settled && self.endpoints.values().any(settled) && {
            self.channels_settled = true;
            true
        }
    }

    /// Sends the current state over the new channel of an endpoint.
    pub fn channel_opened(&mut self, endpoint: EndpointId, effects: &mut Effects) {
        self.channels_settled = true;
        self.count_demand();
        let demand = self.demand_of(endpoint);
        let Some(endpoint) = self.by_engine_id(endpoint) else { return };
        let mut tell = |message: &ToClient| effects.message(endpoint.engine_id, message.text());
        for other in self.endpoints.values().filter(|other| other.inactive) {
            tell(&ToClient::Connectivity { endpoint: &other.id, active: false });
        }
        let dominant = self.speakers.dominant().and_then(|id| self.by_engine_id.get(&id));
        if let Some(dominant) = dominant {
            let previous = self.names(self.speakers.previous());
            let silence = self.speakers.silence();
            tell(&ToClient::DominantSpeaker { endpoint: dominant, previous: &previous, silence });
        }
        for (source, max_height) in &demand {
            tell(&ToClient::SenderConstraints { source, max_height: *max_height });
        }
        tell(&ToClient::ForwardedSources(&endpoint.forwarded));
        self.send_all_slots(endpoint, effects);
        let (id, now) = (endpoint.id.clone(), self.latest);
        if let Some(endpoint) = self.endpoints.get_mut(&id) {
            endpoint.demand = demand;
            if let Some(slots) = &mut endpoint.slots {
                slots.introduce_all(now);
            }
        }
    }

    /// Handles a message of an endpoint. The error is the reason for which it was dropped.
    pub fn channel_message(
        &mut self,
        from: EndpointId,
        message: ToBridge,
        effects: &mut Effects,
    ) -> Result<(), Dropped> {
        let id = self.by_engine_id.get(&from).ok_or(Dropped::Malformed)?;
        let sender = self.endpoints.get_mut(id).ok_or(Dropped::Malformed)?;
        match message {
            // The bridge answers: it knows its version.
            ToBridge::Hello => {}
            ToBridge::Endpoint { .. } | ToBridge::Stats { .. } if sender.is_visitor() => {
                return Err(Dropped::Visitor);
            }
            ToBridge::Endpoint { to, fields } => {
                let from = &sender.id.clone();
                let text = ToClient::Endpoint { to: &to, from, fields: &fields }.text();
                if to.trim().is_empty() {
                    self.send_to_others(from, &text, effects);
                } else {
                    let to = self.endpoints.get(&to).ok_or(Dropped::UnknownReceiver)?;
                    effects.message(to.engine_id, text);
                }
            }
            ToBridge::Stats { fields } => {
                let id = id.clone();
                self.send_stats(&id, &fields, effects);
            }
            ToBridge::LastN(last_n) => {
                sender.constraints.last_n = Some(last_n);
                sender.constraints_due = Due::Now;
                let id = id.clone();
                self.offer_all(&id, effects);
                self.demand_changed(effects);
            }
            ToBridge::VideoConstraints(update) => {
                sender.constraints.update(update);
                sender.counts = true;
                sender.shares.all_changed();
                sender.constraints_due = Due::Now;
                sender.asked = self.latest;
                let id = id.clone();
                self.offer_all(&id, effects);
                self.demand_changed(effects);
            }
            ToBridge::AudioSubscription(audio) => {
                sender.constraints.audio = Some(audio);
                let id = id.clone();
                self.offer_all(&id, effects);
                self.demand_changed(effects);
            }
            ToBridge::VideoType { source, video_type } => {
                let changed = sender.set_video_type(source.as_deref(), video_type);
                let id = id.clone();
                self.order_changed();
                if let Some((video, shows)) = changed {
                    self.shows_changed(&id, &video, shows, effects);
                }
                self.allocate_limited(effects);
                self.demand_changed(effects);
            }
        }
        Ok(())
    }

    /// Sends a message to all endpoints.
    pub(super) fn send_to_all(&self, message: &ToClient, effects: &mut Effects) {
        let text = message.text();
        for endpoint in self.endpoints.values() {
            effects.message(endpoint.engine_id, text.clone());
        }
    }

    /// Relays a client's statistics to all others; in a large conference only to receivers that get its
    /// video, have it selected or on stage, or for which it is a recent speaker.
    fn send_stats(&self, from: &str, fields: &Map<String, Value>, effects: &mut Effects) {
        let Some(sender) = self.endpoints.get(from) else { return };
        let text = ToClient::Stats { from, fields }.text();
        let mut speakers = self.speakers.dominant().into_iter().chain(self.speakers.previous());
        if self.endpoints.len() <= self.rules.stats_filter_threshold
            || speakers.any(|speaker| speaker == sender.engine_id)
        {
            return self.send_to_others(from, &text, effects);
        }
        let videos = || sender.sources.iter().filter(|s| s.spec.media == MediaType::Video);
        for receiver in self.endpoints.values().filter(|receiver| receiver.id != from) {
            let interested = videos().any(|video| {
                receiver.subscriptions.contains_key(&video.spec.id)
                    || receiver.constraints.names(&video.spec.name)
            });
            if interested {
                effects.message(receiver.engine_id, text.clone());
            }
        }
    }

    fn send_to_others(&self, from: &str, text: &Arc<str>, effects: &mut Effects) {
        for endpoint in self.endpoints.values().filter(|endpoint| endpoint.id != from) {
            effects.message(endpoint.engine_id, text.clone());
        }
    }

    /// Updates the videos that are forwarded to a receiver by allocation or measurement, and sends them when
    /// they are others than before.
    pub(super) fn update_forwarded(&mut self, receiver: &str, effects: &mut Effects) {
        let Some(endpoint) = self.endpoints.get(receiver) else { return };
        let Some(forwarded) = endpoint.forwarded_sources() else { return };
        let forwarded = (self.sources_version, forwarded);
        if endpoint.forwarded_of.as_ref() == Some(&forwarded) {
            return;
        }
        let names = self.video_names(&forwarded.1);
        let Some(endpoint) = self.endpoints.get_mut(receiver) else { return };
        endpoint.forwarded_of = Some(forwarded);
        if endpoint.forwarded != names {
            effects.message(endpoint.engine_id, ToClient::ForwardedSources(&names).text());
            endpoint.forwarded = names;
        }
    }

    /// The names of those of some sources that are videos, by their owners' ids and then as each owner has
    /// them.
    fn video_names(&self, sources: &[SourceId]) -> Vec<String> {
        work::count(sources.len());
        let mut videos: Vec<_> = sources
            .iter()
            .filter_map(|id| {
                let (owner, source) = self.source(*id)?;
                let nth = owner.sources.iter().position(|own| own.spec.id == *id)?;
                let video = source.spec.media == MediaType::Video;
                video.then_some((owner.id.as_str(), nth, &source.spec.name))
            })
            .collect();
        videos.sort_unstable_by_key(|(owner, nth, _)| (*owner, *nth));
        videos.into_iter().map(|(_, _, name)| name.to_string()).collect()
    }

    pub(super) fn names(&self, endpoints: impl Iterator<Item = EndpointId>) -> Vec<String> {
        endpoints.filter_map(|id| self.by_engine_id.get(&id).cloned()).collect()
    }
}

impl Endpoint {
    /// Also applies to a source that is signalled later. Returns the video if it begins or ceases to show
    /// something, and which of both.
    fn set_video_type(
        &mut self,
        source: Option<&str>,
        video_type: VideoType,
    ) -> Option<(SourceSpec, bool)> {
        let first = format!("{}-v0", self.id);
        let name = source.unwrap_or(&first);
        if self.shown.len() < MAX_SHOWN || self.shown.contains_key(name) {
            self.shown.insert(name.to_owned(), video_type);
        }
        let own = self
            .sources
            .iter_mut()
            .find(|own| own.spec.media == MediaType::Video && *own.spec.name == *name);
        let own = own?;
        let before = own.shows();
        own.video_type = Some(video_type.as_str().to_owned());
        (own.shows() != before).then(|| (own.spec.clone(), own.shows()))
    }
}
