//! What bridge-channel messages do to a conference, and what it tells over the channels.

use std::sync::Arc;

use super::{effects::Effects, endpoint::Endpoint, state::Conference};
use crate::{
    channel::{Dropped, ToBridge, ToClient, message::VideoType},
    engine::{EndpointId, MediaType},
};

impl Conference {
    /// An endpoint has a new channel: it hears how things are.
    pub fn channel_opened(&self, endpoint: EndpointId, effects: &mut Effects) {
        let Some(endpoint) = self.by_engine_id(endpoint) else { return };
        let mut tell = |message: &ToClient| effects.message(endpoint.engine_id, message.text());
        for other in self.endpoints.values().filter(|other| other.inactive) {
            tell(&ToClient::Connectivity { endpoint: &other.id, active: false });
        }
        let dominant = self.speakers.dominant().and_then(|id| self.by_engine_id.get(&id));
        if let Some(dominant) = dominant {
            let previous = self.names(self.speakers.previous());
            tell(&ToClient::DominantSpeaker { endpoint: dominant, previous: &previous });
        }
        tell(&ToClient::ForwardedSources(&endpoint.forwarded));
    }

    /// A message of an endpoint. The error says why nobody gets it.
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
                if to.is_empty() {
                    self.tell_others(from, &text, effects);
                } else {
                    let to = self.endpoints.get(&to).ok_or(Dropped::UnknownReceiver)?;
                    effects.message(to.engine_id, text);
                }
            }
            ToBridge::Stats { fields } => {
                let from = &sender.id.clone();
                let text = ToClient::Stats { from, fields: &fields }.text();
                self.tell_others(from, &text, effects);
            }
            ToBridge::LastN(last_n) => {
                sender.wishes.last_n = Some(last_n);
                let id = id.clone();
                self.offer_all(&id, effects);
            }
            ToBridge::VideoConstraints(update) => {
                sender.wishes.update(update);
                let id = id.clone();
                self.offer_all(&id, effects);
            }
            ToBridge::AudioSubscription(audio) => {
                sender.wishes.audio = Some(audio);
                let id = id.clone();
                self.offer_all(&id, effects);
            }
            ToBridge::VideoType { source, video_type } => {
                sender.set_video_type(source.as_deref(), video_type);
                self.allocate_limited(effects);
            }
        }
        Ok(())
    }

    /// Tells everybody.
    pub(super) fn tell_all(&self, message: &ToClient, effects: &mut Effects) {
        let text = message.text();
        for endpoint in self.endpoints.values() {
            effects.message(endpoint.engine_id, text.clone());
        }
    }

    fn tell_others(&self, from: &str, text: &Arc<str>, effects: &mut Effects) {
        for endpoint in self.endpoints.values().filter(|endpoint| endpoint.id != from) {
            effects.message(endpoint.engine_id, text.clone());
        }
    }

    /// The videos that are decided to be forwarded to a receiver have been measured: it hears of it
    /// when they are others than before.
    pub(super) fn update_forwarded(&mut self, receiver: &str, effects: &mut Effects) {
        let Some(endpoint) = self.endpoints.get(receiver) else { return };
        let Some(snapshot) = &endpoint.snapshot else { return };
        let forwarded = |source: crate::engine::SourceId| {
            snapshot.subscriptions.iter().any(|s| s.source == source && s.target.is_some())
        };
        let names: Vec<String> = self
            .endpoints
            .values()
            .flat_map(|sender| &sender.sources)
            .filter(|source| source.spec.media == MediaType::Video && forwarded(source.spec.id))
            .map(|source| source.spec.name.to_string())
            .collect();
        let Some(endpoint) = self.endpoints.get_mut(receiver) else { return };
        if endpoint.forwarded != names {
            effects.message(endpoint.engine_id, ToClient::ForwardedSources(&names).text());
            endpoint.forwarded = names;
        }
    }

    pub(super) fn names(&self, endpoints: impl Iterator<Item = EndpointId>) -> Vec<String> {
        endpoints.filter_map(|id| self.by_engine_id.get(&id).cloned()).collect()
    }
}

impl Endpoint {
    /// Does nothing when it does not send that source.
    fn set_video_type(&mut self, source: Option<&str>, video_type: VideoType) {
        let first = format!("{}-v0", self.id);
        let name = source.unwrap_or(&first);
        let own = self
            .sources
            .iter_mut()
            .find(|own| own.spec.media == MediaType::Video && *own.spec.name == *name);
        if let Some(own) = own {
            own.video_type = Some(video_type.as_str().to_owned());
        }
    }
}
