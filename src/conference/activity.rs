//! Handles time and the engine's events: the dominant speaker, endpoints that go inactive or expire, and
//! measurements.

use std::{collections::HashMap, time::Instant};

use rialto_engine::{Control, EndpointSnapshot};
use rialto_media::{EndpointId, SourceId};

use super::{
    effects::{ConferenceEvent, Effects},
    endpoint::TransportState,
    speaker::{Changed, SpeakerChange},
    state::Conference,
};
use crate::channel::ToClient;

impl Conference {
    /// A source's loudness, RFC 6464: 0 is loudest, 127 silence.
    pub fn audio_level(
        &mut self,
        endpoint: EndpointId,
        level: u8,
        now: Instant,
        effects: &mut Effects,
    ) {
        if !self.by_engine_id.contains_key(&endpoint) {
            return;
        }
        self.latest = self.latest.max(now);
        self.speakers.level(endpoint, 127u8.saturating_sub(level), now);
        if let Some(change) = self.speakers.decide(now) {
            self.announce_speaker(&change, effects);
        }
    }

    /// Measurements of an endpoint.
    pub fn measured(&mut self, snapshot: EndpointSnapshot, effects: &mut Effects) {
        let Some(id) = self.by_engine_id.get(&snapshot.endpoint).cloned() else { return };
        self.report_measured(&id, &snapshot, effects);
        if let Some(endpoint) = self.endpoints.get_mut(&id) {
            endpoint.last_activity = endpoint.last_activity.max(snapshot.last_received);
            endpoint.snapshot = Some(snapshot);
        }
        self.update_forwarded(&id, effects);
    }

    /// Until the engine reports an allocation for a receiver, forwarded sources are taken from measurements.
    fn report_measured(&self, id: &str, snapshot: &EndpointSnapshot, effects: &mut Effects) {
        let Some(endpoint) = self.endpoints.get(id) else { return };
        if endpoint.allocation.is_some() {
            return;
        }
        let before = endpoint.snapshot.iter().flat_map(|before| &before.subscriptions);
        let before: HashMap<SourceId, _> =
            before.map(|s| (s.source, (s.current, s.target))).collect();
        for subscription in &snapshot.subscriptions {
            let now = (subscription.current, subscription.target);
            if before.get(&subscription.source).copied().unwrap_or_default() == now {
                continue;
            }
            if let Some((_, source)) = self.source(subscription.source) {
                effects.event(ConferenceEvent::Decision {
                    endpoint: id.to_owned(),
                    source: source.spec.name.to_string(),
                    current: now.0,
                    target: now.1,
                });
            }
        }
    }

    /// A transport changed. `now` counts as activity when it came up.
    pub fn transport_changed(
        &mut self,
        endpoint: EndpointId,
        state: TransportState,
        now: Instant,
        effects: &mut Effects,
    ) {
        let Some(endpoint) =
            self.by_engine_id.get(&endpoint).and_then(|id| self.endpoints.get_mut(id))
        else {
            return;
        };
        if matches!(state, TransportState::Connected | TransportState::Ready) {
            endpoint.last_activity = endpoint.last_activity.max(Some(now));
        }
        let was_keyed = endpoint.keyed;
        endpoint.keyed |= state == TransportState::Ready;
        endpoint.transport = match state {
            TransportState::Connected if endpoint.keyed => TransportState::Ready,
            other => other,
        };
        if endpoint.keyed && !was_keyed {
            endpoint.keyed_since = Some(now);
            let id = endpoint.id.clone();
            if std::mem::take(&mut endpoint.inactive) {
                let message = ToClient::Connectivity { endpoint: &id, active: true };
                self.send_to_all(&message, effects);
            }
            effects.event(ConferenceEvent::EndpointConnected { endpoint: id });
        }
    }

    /// Decides the dominant speaker and which endpoints are inactive. `consent` returns when transports last
    /// received something from an endpoint. Returns how many endpoints became inactive and how many became
    /// active.
    pub fn tick(
        &mut self,
        now: Instant,
        consent: &dyn Fn(EndpointId) -> Option<Instant>,
        effects: &mut Effects,
    ) -> (u64, u64) {
        self.latest = self.latest.max(now);
        if let Some(change) = self.speakers.decide(now) {
            self.announce_speaker(&change, effects);
        }
        self.count_silent_newcomers(now);
        self.send_demand(effects);
        self.send_all_constraints(effects);
        self.watch_links(now, effects);
        self.repeat_slots(now, effects);
        let (mut disconnected, mut reconnected) = (0, 0);
        let mut changed = Vec::new();
        for endpoint in self.endpoints.values_mut() {
            let heard = consent(endpoint.engine_id);
            endpoint.last_activity = endpoint.last_activity.max(heard);
            let up =
                matches!(endpoint.transport, TransportState::Connected | TransportState::Ready);
            // Transports that do not report when they last received something report the loss of consent.
            let trusted = up && heard.is_none();
            if trusted {
                endpoint.up_until = Some(now);
            }
            if endpoint.is_visitor() {
                continue;
            }
            let since = |then| now.saturating_duration_since(then);
            let last = endpoint.last_activity;
            let active =
                trusted || last.is_some_and(|last| since(last) <= self.rules.max_inactivity);
            let early =
                last.is_none() && since(endpoint.created) <= self.rules.first_transfer_timeout;
            if early {
                continue;
            }
            if active != endpoint.inactive {
                continue;
            }
            endpoint.inactive = !active;
            let id = endpoint.id.clone();
            changed.push((id.clone(), active));
            if active {
                reconnected += 1;
                effects.event(ConferenceEvent::EndpointConnected { endpoint: id });
            } else {
                disconnected += u64::from(endpoint.last_activity.is_some());
                effects.event(ConferenceEvent::EndpointDisconnected { endpoint: id });
            }
        }
        for (endpoint, active) in &changed {
            self.send_to_all(&ToClient::Connectivity { endpoint, active: *active }, effects);
        }
        (disconnected, reconnected)
    }

    /// Expires endpoints whose transport failed, that never connected, or from which nothing has
    /// come for too long; with why.
    pub fn expire_idle(
        &mut self,
        now: Instant,
        effects: &mut Effects,
    ) -> Vec<(String, &'static str)> {
        let idle: Vec<(String, &'static str)> = self
            .endpoints
            .values()
            .filter_map(|endpoint| {
                let since = |then| now.saturating_duration_since(then);
                let timeout = endpoint.v1.idle_timeout.unwrap_or(self.rules.expiration_timeout);
                let why = match endpoint.last_activity.max(endpoint.up_until) {
                    _ if endpoint.transport == TransportState::Failed => "its transport failed",
                    None if since(endpoint.created) > self.rules.connect_timeout => {
                        "it never connected"
                    }
                    Some(last) if since(last) > timeout => "nothing came from it",
                    _ => return None,
                };
                Some((endpoint.id.clone(), why))
            })
            .collect();
        for (id, _) in &idle {
            self.expire_endpoint(id, effects);
        }
        idle
    }

    pub(super) fn announce_speaker(
        &mut self,
        change: &SpeakerChange<EndpointId>,
        effects: &mut Effects,
    ) {
        let Some(endpoint) = self.by_engine_id.get(&change.dominant).cloned() else { return };
        let previous = self.names(change.previous.iter().copied());
        let silence = change.silence;
        let message =
            ToClient::DominantSpeaker { endpoint: &endpoint, previous: &previous, silence };
        if change.what == Changed::Silence {
            self.send_to_all(&message, effects);
            return;
        }
        if let Some(at) = self.speech_order.iter().position(|id| *id == endpoint) {
            let id = self.speech_order.remove(at);
            self.speech_order.insert(0, id);
            self.videos_came_first(&endpoint);
            self.allocate_limited(effects);
        }
        let before = self.told_dominant.replace(change.dominant);
        for other in before.iter().copied().filter(|before| *before != change.dominant) {
            effects.control(Control::SetDominant(other, false));
        }
        effects.control(Control::SetDominant(change.dominant, true));
        if before != Some(change.dominant) {
            self.request_keyframe_ahead(change.dominant, effects);
        }
        self.send_to_all(&message, effects);
        effects.event(ConferenceEvent::DominantSpeaker { endpoint, previous });
    }
}
