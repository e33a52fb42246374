//! A model of the engine: follows a conference's commands.

use std::collections::BTreeMap;

use rialto_engine::Control;
use rialto_media::{EndpointId, SourceId, SubscriptionParams};

/// The engine's state as the commands define it.
#[derive(Debug, Default, PartialEq, Eq, Clone)]
pub(in crate::conference) struct Model {
    /// The sources of each endpoint, by name.
    pub(in crate::conference) endpoints: BTreeMap<EndpointId, BTreeMap<SourceId, String>>,
    /// Who gets which source, and how.
    pub(in crate::conference) subscriptions: BTreeMap<(EndpointId, SourceId), SubscriptionParams>,
}

impl Model {
    /// Panics at a command that makes no sense.
    pub(in crate::conference) fn apply(&mut self, control: &Control) {
        match control {
            Control::AddEndpoint(id, _) => {
                assert!(self.endpoints.insert(*id, BTreeMap::new()).is_none(), "{id:?} twice");
            }
            Control::RemoveEndpoint(id) => {
                let sources = self.endpoints.remove(id).expect("it was there");
                self.subscriptions.retain(|(receiver, source), _| {
                    receiver != id && !sources.contains_key(source)
                });
            }
            Control::SetSources(id, specs) => {
                let sources = self.endpoints.get_mut(id).expect("it is there");
                let now: BTreeMap<SourceId, String> =
                    specs.iter().map(|spec| (spec.id, spec.name.to_string())).collect();
                let gone: Vec<SourceId> =
                    sources.keys().filter(|id| !now.contains_key(id)).copied().collect();
                self.subscriptions.retain(|(_, source), _| !gone.contains(source));
                *sources = now;
            }
            Control::Subscribe { receiver, source, terms } => {
                assert!(self.endpoints.contains_key(receiver), "{receiver:?} is not there");
                let shares =
                    |((to, other), also): (&(EndpointId, SourceId), &SubscriptionParams)| {
                        to == receiver && other != source && also.slot == terms.slot
                    };
                let taken = terms.slot.is_some() && self.subscriptions.iter().any(shares);
                assert!(!taken, "one leaves a slot before another comes");
                self.subscriptions.insert((*receiver, *source), *terms);
            }
            Control::Unsubscribe { receiver, source } => {
                assert!(self.subscriptions.remove(&(*receiver, *source)).is_some());
            }
            Control::SetMedia(id, _)
            | Control::SetForceMute { endpoint: id, .. }
            | Control::SetAllocation { receiver: id, .. } => {
                assert!(self.endpoints.contains_key(id), "{id:?} is not there");
            }
            Control::SetDominant(id, speaks) => {
                assert!(!speaks || self.endpoints.contains_key(id), "{id:?} is not there");
            }
            Control::RequestKeyframeAhead { speaker, .. } => {
                assert!(self.endpoints.contains_key(speaker));
            }
            other => panic!("not for a conference to say: {other:?}"),
        }
    }
}
