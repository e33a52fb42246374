//! Who gets what: every receiver gets every source of the others that it can take. Selection by
//! constraints and bandwidth belongs here when it comes.

use super::{effects::Effects, state::Conference};
use crate::engine::{Control, Mid, SourceSpec};

/// Upper bound of MIDs that a receiver may give.
const MAX_MIDS: usize = 4096;

impl Conference {
    /// Offers a new source to everybody but its sender.
    pub(super) fn offer_source(&mut self, owner: &str, source: &SourceSpec, effects: &mut Effects) {
        for (id, receiver) in &mut self.endpoints {
            if id == owner || !receiver.accepts(source.media) {
                continue;
            }
            let mid = receiver.mids.get(&*source.name).copied();
            receiver.subscriptions.insert(source.id, mid);
            effects.control(Control::Subscribe {
                receiver: receiver.engine_id,
                source: source.id,
                mid,
            });
        }
    }

    /// Forgets a source that ended. The engine ends its subscriptions by itself. `renewed`: another
    /// of the same name follows, to which the MIDs given to that name go.
    pub(super) fn forget_source(&mut self, source: &SourceSpec, renewed: bool) {
        for receiver in self.endpoints.values_mut() {
            receiver.subscriptions.remove(&source.id);
            if !renewed {
                receiver.mids.remove(&*source.name);
            }
        }
    }

    /// Brings what a receiver gets up to date after what it can take has changed.
    pub(super) fn offer_all(&mut self, receiver: &str, effects: &mut Effects) {
        let offers: Vec<SourceSpec> = self
            .endpoints
            .iter()
            .filter(|(id, _)| *id != receiver)
            .flat_map(|(_, sender)| sender.sources.iter().map(|source| source.spec.clone()))
            .collect();
        let Some(receiver) = self.endpoints.get_mut(receiver) else { return };
        for source in offers {
            let accepted = receiver.accepts(source.media);
            let subscribed = receiver.subscriptions.contains_key(&source.id);
            if accepted && !subscribed {
                let mid = receiver.mids.get(&*source.name).copied();
                receiver.subscriptions.insert(source.id, mid);
                effects.control(Control::Subscribe {
                    receiver: receiver.engine_id,
                    source: source.id,
                    mid,
                });
            } else if subscribed && !accepted {
                receiver.subscriptions.remove(&source.id);
                effects.control(Control::Unsubscribe {
                    receiver: receiver.engine_id,
                    source: source.id,
                });
            }
        }
    }

    /// Takes the MIDs that a receiver gave to sources, by name; the source may come later. `false`
    /// when there is no such endpoint.
    pub fn assign_mids(
        &mut self,
        receiver: &str,
        mids: Vec<(String, Mid)>,
        effects: &mut Effects,
    ) -> bool {
        let known: std::collections::HashMap<String, crate::engine::SourceId> = self
            .endpoints
            .values()
            .flat_map(|sender| &sender.sources)
            .map(|source| (source.spec.name.to_string(), source.spec.id))
            .collect();
        let Some(receiver) = self.endpoints.get_mut(receiver) else { return false };
        for (name, mid) in mids {
            if receiver.mids.len() >= MAX_MIDS && !receiver.mids.contains_key(&name) {
                continue;
            }
            let source = known.get(&name).copied();
            receiver.mids.insert(name, mid);
            let Some(source) = source else { continue };
            if let Some(current) = receiver.subscriptions.get_mut(&source)
                && *current != Some(mid)
            {
                *current = Some(mid);
                effects.control(Control::Subscribe {
                    receiver: receiver.engine_id,
                    source,
                    mid: Some(mid),
                });
            }
        }
        true
    }
}
