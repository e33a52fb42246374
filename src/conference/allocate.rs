//! Who gets what: every receiver gets every source of the others that it can take and has not
//! declined: audio by its subscription, videos by their constraints and up to its last-N, first those
//! that it named, then those of who spoke last. Bandwidth belongs here when it is estimated.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use rialto_engine::Control;
use rialto_media::{EndpointId, MediaType, Mid, SourceId, SourceSpec, Terms};

use super::{effects::Effects, endpoint::Endpoint, state::Conference};
use crate::channel::{Constraint, message::VideoType};

/// Upper bound of MIDs that a receiver may give, or be given.
pub(super) const MAX_MIDS: usize = 4096;

/// All sources, of who spoke last first.
pub(super) struct Ranking {
    sources: Vec<Ranked>,
    videos: HashMap<Arc<str>, usize>,
}

struct Ranked {
    owner: EndpointId,
    id: SourceId,
    name: Arc<str>,
    media: MediaType,
    /// It counts for last-N: its sender has not said that it shows nothing.
    counts: bool,
}

impl Conference {
    fn ranking(&self) -> Ranking {
        let mut ranking = Ranking { sources: Vec::new(), videos: HashMap::new() };
        for sender in self.speech_order.iter().filter_map(|id| self.endpoints.get(id)) {
            for source in &sender.sources {
                let nothing = [VideoType::Disabled, VideoType::None].map(VideoType::as_str);
                let shown = source.video_type.as_deref();
                let spec = &source.spec;
                if spec.media == MediaType::Video {
                    ranking.videos.insert(spec.name.clone(), ranking.sources.len());
                }
                ranking.sources.push(Ranked {
                    owner: sender.engine_id,
                    id: spec.id,
                    name: spec.name.clone(),
                    media: spec.media,
                    counts: !shown.is_some_and(|shown| nothing.contains(&shown)),
                });
            }
        }
        ranking
    }

    /// Offers a new source to everybody but its sender; not a video to those who do not get every
    /// video.
    pub(super) fn offer_source(&mut self, owner: &str, source: &SourceSpec, effects: &mut Effects) {
        for (id, receiver) in &mut self.endpoints {
            let limited = source.media == MediaType::Video && receiver.last_n().is_some();
            if id != owner && !limited && receiver.wants(source.media, &source.name) {
                let terms = receiver.terms(source.media, &source.name);
                receiver.subscribe(source.id, terms, effects);
            }
        }
    }

    /// Decides anew for those receivers that do not get every video, because who is to be seen has
    /// changed.
    pub(super) fn allocate_limited(&mut self, effects: &mut Effects) {
        self.demand_changed = true;
        if self.endpoints.values().all(|receiver| receiver.last_n().is_none()) {
            return;
        }
        let ranking = self.ranking();
        for receiver in self.endpoints.values_mut().filter(|e| e.last_n().is_some()) {
            receiver.allocate(&ranking, effects);
        }
    }

    /// Brings what a receiver gets up to date after what it can take or wants has changed.
    pub(super) fn offer_all(&mut self, receiver: &str, effects: &mut Effects) {
        self.demand_changed = true;
        let ranking = self.ranking();
        if let Some(receiver) = self.endpoints.get_mut(receiver) {
            receiver.allocate(&ranking, effects);
        }
    }

    /// Forgets a source that ended. The engine ends its subscriptions by itself. `renewed`: another
    /// of the same name follows, to which the MIDs given to that name go.
    pub(super) fn forget_source(&mut self, source: &SourceSpec, renewed: bool) {
        for receiver in self.endpoints.values_mut() {
            receiver.subscriptions.remove(&source.id);
            receiver.mapped.remove(&source.id);
            if !renewed {
                receiver.mids.remove(&*source.name);
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
        let known: HashMap<String, SourceId> = self
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
            if let Some(terms) = receiver.subscriptions.get_mut(&source)
                && terms.mid != Some(mid)
            {
                terms.mid = Some(mid);
                let terms = *terms;
                let receiver = receiver.engine_id;
                effects.control(Control::Subscribe { receiver, source, terms });
            }
        }
        true
    }
}

impl Endpoint {
    /// Upper bound of its videos; `None`: there is none.
    pub(super) fn last_n(&self) -> Option<usize> {
        self.wishes.video_limit(self.initial_last_n)
    }

    /// It can take a source, and has not declined it.
    fn wants(&self, media: MediaType, source: &str) -> bool {
        self.accepts(media)
            && match media {
                MediaType::Audio => !self.v1.no_audio && self.wishes.wants_audio(source),
                MediaType::Video if self.v1.no_video => false,
                MediaType::Video => {
                    self.wishes.constraint(source).is_none_or(|bound| !bound.is_nothing())
                }
            }
    }

    fn choose(&self, ranking: &Ranking) -> HashSet<SourceId> {
        let mut chosen = HashSet::new();
        for source in ranking.sources.iter().filter(|source| source.media == MediaType::Audio) {
            if source.owner != self.engine_id && self.wants(source.media, &source.name) {
                chosen.insert(source.id);
            }
        }
        let named = self.wishes.on_stage.iter().chain(&self.wishes.selected);
        let named = named.filter_map(|name| ranking.videos.get(name.as_str()).copied());
        let mut left = self.last_n().unwrap_or(usize::MAX);
        for source in named.chain(0..ranking.sources.len()) {
            let Some(source) = ranking.sources.get(source) else { continue };
            if left == 0 {
                break;
            }
            let other = source.media == MediaType::Video && source.owner != self.engine_id;
            if other && self.wants(source.media, &source.name) && chosen.insert(source.id) {
                left -= usize::from(source.counts);
            }
        }
        chosen
    }

    fn allocate(&mut self, ranking: &Ranking, effects: &mut Effects) {
        let chosen = self.choose(ranking);
        let mut gone: Vec<SourceId> =
            self.subscriptions.keys().copied().filter(|id| !chosen.contains(id)).collect();
        gone.sort_unstable();
        for source in gone {
            self.subscriptions.remove(&source);
            effects.control(Control::Unsubscribe { receiver: self.engine_id, source });
        }
        for source in ranking.sources.iter().filter(|source| chosen.contains(&source.id)) {
            let terms = self.terms(source.media, &source.name);
            if self.subscriptions.get(&source.id) != Some(&terms) {
                self.subscribe(source.id, terms, effects);
            }
        }
    }

    /// How it gets a source that it wants.
    fn terms(&mut self, media: MediaType, source: &str) -> Terms {
        let bound = self.wishes.constraint(source).filter(|_| media == MediaType::Video);
        Terms { mid: self.mid(media, source), max_height: bound.and_then(Constraint::height) }
    }

    fn subscribe(&mut self, source: SourceId, terms: Terms, effects: &mut Effects) {
        if self.ssrc_rewriting && self.mapped.insert(source) {
            effects.unmapped.push((self.engine_id, source));
        }
        self.subscriptions.insert(source, terms);
        effects.control(Control::Subscribe { receiver: self.engine_id, source, terms });
    }
}
