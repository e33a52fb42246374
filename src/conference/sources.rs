//! What an endpoint sends.

use std::{collections::BTreeSet, sync::Arc};

use rialto_engine::Control;
use rialto_media::{EndpointId, SourceId, SourceSpec};

use super::{
    effects::{Effects, Ids},
    endpoint::EndpointSource,
    state::Conference,
};
use crate::colibri::{ColibriError, Condition, MediaSource, PlannedSource, plan_sources};

impl Conference {
    /// Checks a set of sources for an endpoint, `None` for one that is about to be created.
    pub(super) fn check_sources(
        &self,
        endpoint: Option<EndpointId>,
        signalled: &[MediaSource],
    ) -> Result<Vec<PlannedSource>, ColibriError> {
        let planned = plan_sources(signalled)
            .map_err(|error| ColibriError::bad_request(error.to_string()))?;
        for source in &planned {
            for ssrc in source.ssrcs() {
                let owner = self.ssrc_owners.get(&ssrc).filter(|owner| Some(**owner) != endpoint);
                if let Some(owner) = owner.and_then(|owner| self.by_engine_id.get(owner)) {
                    return Err(ColibriError::conflict(format!(
                        "SSRC {ssrc} of source {} is endpoint {owner}'s",
                        source.name
                    )));
                }
            }
        }
        Ok(planned)
    }

    /// Replaces an endpoint's sources. A source whose name and streams did not change stays; the others end
    /// or begin.
    pub(super) fn set_sources(
        &mut self,
        id: &str,
        planned: Vec<PlannedSource>,
        ids: &mut dyn Ids,
        effects: &mut Effects,
    ) -> Result<(), ColibriError> {
        let Some(endpoint) = self.endpoints.get_mut(id) else { return Ok(()) };
        let before = std::mem::take(&mut endpoint.sources);
        let mut after = Vec::with_capacity(planned.len());
        let mut begun = Vec::new();
        for plan in planned {
            let same = before.iter().map(|old| &old.spec).find(|old| {
                *old.name == *plan.name
                    && old.media == plan.media
                    && old.encodings == plan.encodings
            });
            let spec = if let Some(same) = same {
                same.clone()
            } else {
                let Some(source) = ids.source() else {
                    endpoint.sources = before;
                    return Err(out_of_ids());
                };
                let spec = SourceSpec {
                    id: source,
                    name: Arc::from(plan.name),
                    media: plan.media,
                    encodings: plan.encodings,
                };
                begun.push(spec.clone());
                spec
            };
            // A type sent over the channel is newer than the one that was signalled.
            let shown = endpoint.shown.get(&*spec.name).map(|shown| shown.as_str().to_owned());
            after.push(EndpointSource { spec, video_type: shown.or(plan.video_type) });
        }
        let ended: Vec<SourceSpec> = before
            .iter()
            .filter(|old| !after.iter().any(|new| new.spec.id == old.spec.id))
            .map(|old| old.spec.clone())
            .collect();
        let changed = kept(&before, &after) != kept(&after, &before);
        let owner = endpoint.engine_id;
        let specs = after.iter().map(|source| source.spec.clone()).collect();
        endpoint.sources = after;
        if changed {
            self.anybody_may_get_others();
        }
        if begun.is_empty() && ended.is_empty() {
            if changed {
                self.order_changed();
                self.allocate_limited(effects);
            }
            return Ok(());
        }
        for source in &ended {
            self.forget_ssrcs(source);
        }
        self.source_owners.extend(begun.iter().map(|source| (source.id, owner)));
        self.sources_version = self.sources_version.wrapping_add(1);
        self.demand.sender_changed(owner);
        for encoding in begun.iter().flat_map(|new| &new.encodings) {
            self.ssrc_owners.insert(encoding.ssrc, owner);
            encoding.rtx.map(|rtx| self.ssrc_owners.insert(rtx, owner));
        }
        effects.control(Control::SetSources(owner, specs));
        for source in &ended {
            let renewed = begun.iter().any(|new| new.name == source.name);
            self.forget_source(source, renewed);
        }
        for source in &begun {
            self.offer_source(id, source, effects);
        }
        self.allocate_limited(effects);
        Ok(())
    }

    /// The SSRCs of a source are free.
    pub(super) fn forget_ssrcs(&mut self, source: &SourceSpec) {
        for encoding in &source.encodings {
            self.ssrc_owners.remove(&encoding.ssrc);
            encoding.rtx.map(|rtx| self.ssrc_owners.remove(&rtx));
        }
    }
}

/// The sources of `all` that are also among `others`, with their order and types.
fn kept(all: &[EndpointSource], others: &[EndpointSource]) -> Vec<(SourceId, bool)> {
    let others: BTreeSet<SourceId> = others.iter().map(|source| source.spec.id).collect();
    let kept = all.iter().filter(|source| others.contains(&source.spec.id));
    kept.map(|source| (source.spec.id, source.shows())).collect()
}

/// All 2^32 have been used.
pub(super) fn out_of_ids() -> ColibriError {
    ColibriError::new(Condition::ResourceConstraint, "The bridge must be restarted")
}
