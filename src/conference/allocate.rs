//! Who gets what: every receiver gets every source of the others that it can take and has not
//! declined: audio by its subscription, videos by their constraints and up to its last-N, first those
//! that it named, then those of who spoke last. How much of each fits its link is decided by the engine.
//! Who has slots gets no more than fit into them, and of audio keeps what it has.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use rialto_engine::Control;
use rialto_media::{EndpointId, MediaType, Mid, SourceId, SourceSpec, Terms};

use super::{
    effects::Effects,
    endpoint::{Endpoint, EndpointSource},
    slots::Entrant,
    state::Conference,
    wishes::Telling,
};
use crate::channel::Constraint;

/// Upper bound of MIDs that a receiver may give.
pub(super) const MAX_MIDS: usize = 4096;

/// All sources, of who spoke last first.
pub(super) struct Ranking {
    sources: Vec<Ranked>,
    videos: HashMap<Arc<str>, usize>,
}

struct Ranked {
    owner: EndpointId,
    owner_id: Arc<str>,
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
    /// The load of the bridge bounds the videos of every receiver from now on. `false` when it did so
    /// before.
    pub fn limit_by_load(&mut self, videos: Option<usize>, effects: &mut Effects) -> bool {
        let changed = self.caps.load != videos;
        if changed {
            self.caps.load = videos;
            self.allocate_all(effects);
        }
        changed
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
        self.voices.missing_anew();
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
                    owner_id: sender.shared_id.clone(),
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
        let Some(sender) = self.endpoints.get(owner) else { return };
        let shows = sender.source(source.id).is_some_and(EndpointSource::shows);
        let (owner_id, engine_id) = (sender.shared_id.clone(), sender.engine_id);
        let entrant =
            Entrant { id: source.id, owner: engine_id, owner_id: &owner_id, name: &source.name };
        self.voices.missing_anew();
        let (caps, now, ahead) = (self.caps, self.latest, self.videos_before(owner, source));
        for (id, receiver) in &mut self.endpoints {
            if id == owner || !receiver.wants(source.media, &source.name) {
                continue;
            }
            let video = source.media == MediaType::Video;
            if receiver.slots.is_some() {
                if !video || shows {
                    receiver.offer_slot(source.media, entrant, ahead, caps, now, effects);
                }
            } else if !video || receiver.last_n(caps).is_none() {
                receiver.subscribe(source.media, entrant, now, effects);
            }
        }
    }

    /// How many videos that show something come before a source.
    fn videos_before(&self, owner: &str, source: &SourceSpec) -> usize {
        if source.media == MediaType::Audio {
            return 0;
        }
        let others = self.speech_order.iter().take_while(|id| *id != owner);
        let own = self.speech_order.iter().find(|id| *id == owner);
        let sources =
            others.chain(own).filter_map(|id| self.endpoints.get(id)).flat_map(|e| &e.sources);
        let before = sources.take_while(|before| before.spec.id != source.id);
        before.filter(|s| s.spec.media == MediaType::Video && s.shows()).count()
    }

    /// A video begins or ceases to show something. Who has slots gets it only while it does.
    pub(super) fn shows_changed(
        &mut self,
        owner: &str,
        video: &SourceSpec,
        shows: bool,
        effects: &mut Effects,
    ) {
        if shows {
            return self.offer_source(owner, video, effects);
        }
        let now = self.latest;
        for receiver in self.endpoints.values_mut().filter(|receiver| receiver.slots.is_some()) {
            if receiver.subscriptions.contains_key(&video.id) {
                receiver.undecided |= receiver.all_videos;
                receiver.unsubscribe(video.id, now, effects);
            }
        }
    }

    /// Decides anew for those receivers that do not get every video, because who is to be seen has
    /// changed; of those with slots only for whom that can mean something.
    pub(super) fn allocate_limited(&mut self, effects: &mut Effects) {
        self.demand_changed = true;
        let (caps, now) = (self.caps, self.latest);
        let concerned = |receiver: &Endpoint| match receiver.slots {
            Some(_) => receiver.undecided,
            None => receiver.last_n(caps).is_some(),
        };
        if !self.endpoints.values().any(concerned) {
            return;
        }
        let ranking = self.ranking();
        for receiver in self.endpoints.values_mut().filter(|receiver| concerned(receiver)) {
            receiver.allocate(&ranking, caps, now, effects);
        }
    }

    /// Brings what a receiver gets up to date after what it can take or wants has changed.
    pub(super) fn offer_all(&mut self, receiver: &str, effects: &mut Effects) {
        self.demand_changed = true;
        self.voices.missing_anew();
        let ranking = self.ranking();
        if let Some(receiver) = self.endpoints.get_mut(receiver) {
            receiver.allocate(&ranking, self.caps, self.latest, effects);
        }
    }

    /// Forgets a source that ended. The engine ends its subscriptions by itself. `renewed`: another
    /// of the same name follows, to which the MIDs given to that name go.
    pub(super) fn forget_source(&mut self, source: &SourceSpec, renewed: bool) {
        self.voices.forget(source.id);
        let now = self.latest;
        for receiver in self.endpoints.values_mut() {
            if receiver.subscriptions.remove(&source.id).is_some() {
                receiver.telling = receiver.telling.max(Telling::Soon);
                receiver.undecided |= match source.media {
                    MediaType::Audio => receiver.all_audio,
                    MediaType::Video => receiver.all_videos,
                };
            }
            receiver.ceased.remove(&source.id);
            if let Some(slots) = &mut receiver.slots {
                slots.forget(source.id, renewed, now);
            }
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
        if receiver.mid_demux {
            // It goes by the MIDs of its slots.
            return true;
        }
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
        let slots = self.slots.as_ref().map(|slots| slots.bank(MediaType::Video).limit());
        own.into_iter().chain(caps.size).chain(slots).min()
    }

    /// It can take a source, and has not declined it.
    pub(super) fn wants(&self, media: MediaType, source: &str) -> bool {
        self.accepts(media) && !self.declines(media, source)
    }

    fn declines(&self, media: MediaType, source: &str) -> bool {
        match media {
            MediaType::Audio => self.v1.no_audio || !self.wishes.wants_audio(source),
            MediaType::Video => {
                self.v1.no_video
                    || self.wishes.constraint(source).is_some_and(Constraint::is_nothing)
            }
        }
    }

    /// What it gets of all sources when `limit` bounds its videos.
    pub(super) fn choose(&self, ranking: &Ranking, limit: Option<usize>) -> HashSet<SourceId> {
        let mut chosen = HashSet::new();
        if self.accepts(MediaType::Audio) {
            self.choose_audio(ranking, &mut chosen);
        }
        if self.accepts(MediaType::Video) {
            self.choose_videos(ranking, limit, &mut chosen);
        }
        chosen
    }

    /// All that it wants; as many as it has slots for, and then first what is in them: a voice leaves its
    /// slot to another one that speaks, and for nothing else.
    fn choose_audio(&self, ranking: &Ranking, chosen: &mut HashSet<SourceId>) {
        let wanted = |source: &&Ranked| {
            source.media == MediaType::Audio
                && source.owner != self.engine_id
                && !self.declines(source.media, &source.name)
        };
        let wanted = ranking.sources.iter().filter(wanted).map(|source| source.id);
        let Some(slots) = &self.slots else { return chosen.extend(wanted) };
        let bank = slots.bank(MediaType::Audio);
        let (held, others): (Vec<_>, Vec<_>) = wanted.partition(|source| bank.holds(*source));
        chosen.extend(held.into_iter().chain(others).take(bank.limit()));
    }

    fn choose_videos(
        &self,
        ranking: &Ranking,
        limit: Option<usize>,
        chosen: &mut HashSet<SourceId>,
    ) {
        let named = self.wishes.on_stage.iter().chain(&self.wishes.selected);
        let named = named.filter_map(|name| ranking.videos.get(name.as_str()).copied());
        let mut left = limit.unwrap_or(usize::MAX);
        for source in named.chain(0..ranking.sources.len()) {
            let Some(source) = ranking.sources.get(source) else { continue };
            if left == 0 {
                break;
            }
            let other = source.media == MediaType::Video && source.owner != self.engine_id;
            // What shows nothing needs no slot.
            let shows = source.counts || self.slots.is_none();
            if other && shows && self.wants(source.media, &source.name) && chosen.insert(source.id)
            {
                left -= usize::from(source.counts);
            }
        }
    }

    fn allocate(&mut self, ranking: &Ranking, caps: Caps, now: Instant, effects: &mut Effects) {
        let chosen = self.choose(ranking, self.last_n(caps));
        let mut gone: Vec<SourceId> =
            self.subscriptions.keys().copied().filter(|id| !chosen.contains(id)).collect();
        gone.sort_unstable();
        for source in gone {
            self.unsubscribe(source, now, effects);
        }
        for source in ranking.sources.iter().filter(|source| chosen.contains(&source.id)) {
            let entrant = Entrant {
                id: source.id,
                owner: source.owner,
                owner_id: &source.owner_id,
                name: &source.name,
            };
            self.subscribe(source.media, entrant, now, effects);
        }
        self.undecided = false;
        self.count_slots(caps);
    }

    /// Notes whether its slots hold as much as they may.
    fn count_slots(&mut self, caps: Caps) {
        let most = self.last_n(caps).unwrap_or(usize::MAX);
        let Some(slots) = &self.slots else { return };
        self.all_audio = slots.bank(MediaType::Audio).is_full();
        self.all_videos = slots.bank(MediaType::Video).held() >= most;
    }

    /// A source that it wants is new: it gets it in a slot, if it may have one more. If not, a voice waits
    /// until it is heard, and a video until it comes before others. `ahead`: so many videos come before it.
    fn offer_slot(
        &mut self,
        media: MediaType,
        source: Entrant<'_>,
        ahead: usize,
        caps: Caps,
        now: Instant,
        effects: &mut Effects,
    ) {
        let full = match media {
            MediaType::Audio => self.all_audio,
            MediaType::Video => self.all_videos,
        };
        if !full {
            self.subscribe(media, source, now, effects);
            self.count_slots(caps);
        } else if media == MediaType::Video {
            self.undecided |= self.wishes.names(source.name) || self.may_come_first(ahead, caps);
        }
    }

    /// Whether a video that it did not name may be among those it gets, when so many come before.
    fn may_come_first(&self, ahead: usize, caps: Caps) -> bool {
        let most = self.last_n(caps).unwrap_or(usize::MAX);
        // Its own videos are among them, and those that it declines.
        ahead < most.saturating_add(self.videos()) || self.wishes.declines_some()
    }

    /// How it gets a source that it wants.
    fn terms(&self, media: MediaType, source: Entrant<'_>) -> Terms {
        let bound = self.wishes.constraint(source.name).filter(|_| media == MediaType::Video);
        let slot = self.slots.as_ref().and_then(|slots| slots.bank(media).of(source.id));
        let mid = slot.and_then(|slot| slot.mid);
        Terms {
            mid: mid.or_else(|| self.mids.get(&**source.name).copied()),
            max_height: bound.and_then(Constraint::height),
            included: media == MediaType::Audio && self.wishes.includes_audio(source.name),
            slot: slot.map(|slot| slot.ssrcs),
        }
    }

    /// Gets a source from now on, in a slot if it has any, or gets it on other terms.
    pub(super) fn subscribe(
        &mut self,
        media: MediaType,
        source: Entrant<'_>,
        now: Instant,
        effects: &mut Effects,
    ) {
        let Self { slots, sources, .. } = self;
        if let Some(slots) = slots {
            let encodings = sources.iter().flat_map(|source| &source.spec.encodings);
            let own = |ssrc| encodings.clone().any(|e| e.ssrc == ssrc || e.rtx == Some(ssrc));
            let Some(place) = slots.hold(media, source, now, &own) else { return };
            if place.news {
                effects.remapped.push((self.engine_id, media, place.at));
            }
        }
        let (receiver, id, terms) = (self.engine_id, source.id, self.terms(media, source));
        if self.subscriptions.insert(id, terms) != Some(terms) {
            self.ceased.remove(&id);
            self.telling = self.telling.max(Telling::Soon);
            effects.control(Control::Subscribe { receiver, source: id, terms });
        }
    }

    /// Gets a source no more.
    pub(super) fn unsubscribe(&mut self, source: SourceId, now: Instant, effects: &mut Effects) {
        self.subscriptions.remove(&source);
        if let Some(slots) = &mut self.slots {
            slots.release(source, now);
        }
        self.ceased.insert(source, now);
        self.telling = self.telling.max(Telling::Soon);
        effects.control(Control::Unsubscribe { receiver: self.engine_id, source });
    }
}
