//! Who gets what: every receiver gets every source of the others that it can take and has not
//! declined: audio by its subscription, videos by their constraints and up to its last-N, first those
//! that it named, then those of who spoke last. How much of each fits its link is decided by the engine.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use rialto_engine::Control;
use rialto_media::{EndpointId, MediaType, Mid, SourceId, SourceSpec, Terms};

use super::{effects::Effects, endpoint::Endpoint, state::Conference, wishes::Telling};
use crate::channel::Constraint;

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

/// Upper bounds of the videos of every receiver; `None`: there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Caps {
    /// By the size of the conference.
    pub size: Option<usize>,
    /// By the load of the bridge.
    pub load: Option<usize>,
}

impl Conference {
    /// The load of the bridge bounds the videos of every receiver from now on.
    pub fn limit_by_load(&mut self, videos: Option<usize>, effects: &mut Effects) {
        if self.caps.load != videos {
            self.caps.load = videos;
            self.allocate_all(effects);
        }
    }

    /// Somebody came or left: the bound of videos may be another.
    pub(super) fn size_changed(&mut self, effects: &mut Effects) {
        let limits = &self.rules.last_n_by_size;
        let size = limits.range(..=self.endpoints.len()).next_back().map(|(_, videos)| *videos);
        if self.caps.size != size {
            self.caps.size = size;
            self.allocate_all(effects);
        }
    }

    fn allocate_all(&mut self, effects: &mut Effects) {
        self.demand_changed = true;
        let (ranking, caps, now) = (self.ranking(), self.caps, self.latest);
        for receiver in self.endpoints.values_mut() {
            receiver.allocate(&ranking, caps, now, effects);
        }
    }

    pub(super) fn ranking(&self) -> Ranking {
        let mut ranking = Ranking { sources: Vec::new(), videos: HashMap::new() };
        for sender in self.speech_order.iter().filter_map(|id| self.endpoints.get(id)) {
            for source in &sender.sources {
                let spec = &source.spec;
                if spec.media == MediaType::Video {
                    ranking.videos.insert(spec.name.clone(), ranking.sources.len());
                }
                ranking.sources.push(Ranked {
                    owner: sender.engine_id,
                    id: spec.id,
                    name: spec.name.clone(),
                    media: spec.media,
                    counts: source.shows(),
                });
            }
        }
        ranking
    }

    /// Offers a new source to everybody but its sender; not a video to those who do not get every
    /// video.
    pub(super) fn offer_source(&mut self, owner: &str, source: &SourceSpec, effects: &mut Effects) {
        let caps = self.caps;
        for (id, receiver) in &mut self.endpoints {
            let limited = source.media == MediaType::Video && receiver.last_n(caps).is_some();
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
        let (caps, now) = (self.caps, self.latest);
        if self.endpoints.values().all(|receiver| receiver.last_n(caps).is_none()) {
            return;
        }
        let ranking = self.ranking();
        for receiver in self.endpoints.values_mut().filter(|e| e.last_n(caps).is_some()) {
            receiver.allocate(&ranking, caps, now, effects);
        }
    }

    /// Brings what a receiver gets up to date after what it can take or wants has changed.
    pub(super) fn offer_all(&mut self, receiver: &str, effects: &mut Effects) {
        self.demand_changed = true;
        let ranking = self.ranking();
        if let Some(receiver) = self.endpoints.get_mut(receiver) {
            receiver.allocate(&ranking, self.caps, self.latest, effects);
        }
    }

    /// Forgets a source that ended. The engine ends its subscriptions by itself. `renewed`: another
    /// of the same name follows, to which the MIDs given to that name go.
    pub(super) fn forget_source(&mut self, source: &SourceSpec, renewed: bool) {
        for receiver in self.endpoints.values_mut() {
            if receiver.subscriptions.remove(&source.id).is_some() {
                receiver.telling = receiver.telling.max(Telling::Soon);
            }
            receiver.ceased.remove(&source.id);
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
    pub(super) fn last_n(&self, caps: Caps) -> Option<usize> {
        self.own_last_n(caps).into_iter().chain(caps.load).min()
    }

    /// The same on an idle bridge.
    pub(super) fn own_last_n(&self, caps: Caps) -> Option<usize> {
        let own = self.wishes.video_limit(self.initial_last_n);
        own.into_iter().chain(caps.size).min()
    }

    /// It can take a source, and has not declined it.
    pub(super) fn wants(&self, media: MediaType, source: &str) -> bool {
        self.accepts(media)
            && match media {
                MediaType::Audio => !self.v1.no_audio && self.wishes.wants_audio(source),
                MediaType::Video if self.v1.no_video => false,
                MediaType::Video => {
                    self.wishes.constraint(source).is_none_or(|bound| !bound.is_nothing())
                }
            }
    }

    /// What it gets of all sources when `limit` bounds its videos.
    pub(super) fn choose(&self, ranking: &Ranking, limit: Option<usize>) -> HashSet<SourceId> {
        let mut chosen = HashSet::new();
        for source in ranking.sources.iter().filter(|source| source.media == MediaType::Audio) {
            if source.owner != self.engine_id && self.wants(source.media, &source.name) {
                chosen.insert(source.id);
            }
        }
        let named = self.wishes.on_stage.iter().chain(&self.wishes.selected);
        let named = named.filter_map(|name| ranking.videos.get(name.as_str()).copied());
        let mut left = limit.unwrap_or(usize::MAX);
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

    fn allocate(&mut self, ranking: &Ranking, caps: Caps, now: Instant, effects: &mut Effects) {
        let chosen = self.choose(ranking, self.last_n(caps));
        let mut gone: Vec<SourceId> =
            self.subscriptions.keys().copied().filter(|id| !chosen.contains(id)).collect();
        gone.sort_unstable();
        for source in gone {
            self.subscriptions.remove(&source);
            self.ceased.insert(source, now);
            self.telling = self.telling.max(Telling::Soon);
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
        Terms {
            mid: self.mid(media, source),
            max_height: bound.and_then(Constraint::height),
            included: media == MediaType::Audio && self.wishes.includes_audio(source),
        }
    }

    fn subscribe(&mut self, source: SourceId, terms: Terms, effects: &mut Effects) {
        if self.ssrc_rewriting && self.mapped.insert(source) {
            effects.unmapped.push((self.engine_id, source));
        }
        self.ceased.remove(&source);
        self.telling = self.telling.max(Telling::Soon);
        self.subscriptions.insert(source, terms);
        effects.control(Control::Subscribe { receiver: self.engine_id, source, terms });
    }
}
