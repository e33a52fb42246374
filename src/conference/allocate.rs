//! Decides subscriptions. A receiver gets every source of the others that it can receive and has not
//! declined: audio by its audio subscription, videos by its constraints and up to its last-N, first those
//! that it named, then those of who spoke last. The engine decides which layers fit the link. A receiver with
//! slots gets no more sources than fit into them, and keeps the audio that it has.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use rialto_engine::Control;
use rialto_media::{EndpointId, MediaType, Mid, SourceId, SourceSpec, SubscriptionParams};

use super::{
    constraints::Due,
    effects::Effects,
    endpoint::{Endpoint, EndpointSource},
    slots::Entrant,
    state::Conference,
    work,
};
use crate::channel::Constraint;

/// Upper bound of the MIDs that a receiver may assign.
pub(super) const MAX_MIDS: usize = 4096;

/// All sources, in the order in which their senders last spoke.
pub(super) struct Ranking {
    audio: Vec<Ranked>,
    videos: Vec<Ranked>,
    /// Places of videos.
    by_name: HashMap<Arc<str>, usize>,
}

impl Ranking {
    fn of(&self, media: MediaType) -> &[Ranked] {
        match media {
            MediaType::Audio => &self.audio,
            MediaType::Video => &self.videos,
        }
    }
}

struct Ranked {
    owner: EndpointId,
    owner_id: Arc<str>,
    id: SourceId,
    name: Arc<str>,
    /// It counts for last-N: its sender has not signalled that it shows nothing.
    counts: bool,
}

impl Ranked {
    fn entrant(&self) -> Entrant<'_> {
        let Self { owner, owner_id, id, name, .. } = self;
        Entrant { id: *id, owner: *owner, owner_id, name }
    }
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

    /// Updates the bound by the conference's size after a join or leave.
    pub(super) fn size_changed(&mut self, effects: &mut Effects) {
        let limits = &self.rules.last_n_by_size;
        let size = limits.range(..=self.endpoints.len()).next_back().map(|(_, videos)| *videos);
        if self.caps.size != size {
            self.caps.size = size;
            self.allocate_all(effects);
        }
    }

    fn allocate_all(&mut self, effects: &mut Effects) {
        self.voices.missing_anew();
        let (ranking, caps, now) = (self.ranking(), self.caps, self.latest);
        for receiver in self.endpoints.values_mut() {
            receiver.allocate(&ranking, caps, now, effects);
        }
    }

    pub(super) fn ranking(&self) -> Ranking {
        let mut ranking =
            Ranking { audio: Vec::new(), videos: Vec::new(), by_name: HashMap::new() };
        for sender in self.speech_order.iter().filter_map(|id| self.endpoints.get(id)) {
            for source in &sender.sources {
                let spec = &source.spec;
                let ranked = Ranked {
                    owner: sender.engine_id,
                    owner_id: sender.shared_id.clone(),
                    id: spec.id,
                    name: spec.name.clone(),
                    counts: source.shows(),
                };
                if spec.media == MediaType::Audio {
                    ranking.audio.push(ranked);
                } else {
                    ranking.by_name.insert(spec.name.clone(), ranking.videos.len());
                    ranking.videos.push(ranked);
                }
            }
        }
        work::count(ranking.audio.len() + ranking.videos.len());
        ranking
    }

    /// Offers a new source to everybody but its sender. A receiver that does not get every video may have to
    /// get this one instead of another, unless it comes after as many as the receiver gets.
    pub(super) fn offer_source(&mut self, owner: &str, source: &SourceSpec, effects: &mut Effects) {
        let Some(sender) = self.endpoints.get(owner) else { return };
        let shows = sender.source(source.id).is_some_and(EndpointSource::shows);
        let (owner_id, engine_id) = (sender.shared_id.clone(), sender.engine_id);
        let entrant =
            Entrant { id: source.id, owner: engine_id, owner_id: &owner_id, name: &source.name };
        self.voices.missing_anew();
        let (caps, now, ahead) = (self.caps, self.latest, self.videos_before(owner, source));
        work::count(self.endpoints.len());
        for (id, receiver) in &mut self.endpoints {
            receiver.undecided_videos |= receiver.is_full_and_names(&source.name, caps);
            if id == owner || !receiver.wants(source.media, &source.name) {
                continue;
            }
            let video = source.media == MediaType::Video;
            if receiver.slots.is_some() {
                if !video || shows {
                    receiver.offer_slot(source.media, entrant, ahead, caps, now, effects);
                } else {
                    receiver.shares.changed(source.id);
                }
            } else if !video || receiver.last_n(caps).is_none() {
                receiver.subscribe(source.media, entrant, now, effects);
            } else {
                receiver.undecided_videos |= receiver.got_videos.contains(&source.id)
                    || receiver.may_come_first(ahead, caps);
            }
        }
    }

    /// Moves the videos of an endpoint before all others: receivers that do not get all of them may have to,
    /// and for those that get them their priority rises. Everything else stays as it is.
    pub(super) fn videos_came_first(&mut self, owner: &str) {
        let Some(sender) = self.endpoints.get(owner) else { return };
        let videos = sender.sources.iter().filter(|own| own.spec.media == MediaType::Video);
        let videos: Vec<_> = videos.map(|video| (video.spec.id, video.spec.name.clone())).collect();
        let caps = self.caps;
        work::count(videos.len() * self.endpoints.len());
        for receiver in self.endpoints.values_mut() {
            let got = videos.iter().filter(|(id, _)| receiver.got_videos.contains(id)).count();
            // Of two of one name the one that comes last counts.
            let named = videos.iter().any(|(_, name)| receiver.constraints.names(name));
            receiver.undecided_videos |=
                (got < videos.len() || named) && receiver.gets_all_it_may(MediaType::Video, caps);
            if got > 0 {
                receiver.constraints_due = receiver.constraints_due.max(Due::NextTick);
            }
        }
    }

    /// Decides anew for all receivers, after a change of the sources' order or types.
    pub(super) fn anybody_may_get_others(&mut self) {
        let caps = self.caps;
        for receiver in self.endpoints.values_mut() {
            receiver.undecided_videos |= receiver.gets_all_it_may(MediaType::Video, caps);
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

    /// A video begins or ceases to show something. A receiver with slots gets it only while it does.
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
        let (caps, now) = (self.caps, self.latest);
        for receiver in self.endpoints.values_mut() {
            if receiver.slots.is_some() {
                receiver.shares.changed(video.id);
            }
            if !receiver.got_videos.contains(&video.id) {
                continue;
            }
            receiver.undecided_videos |= receiver.gets_all_it_may(MediaType::Video, caps);
            if receiver.slots.is_some() {
                receiver.unsubscribe(video.id, now, effects);
            }
        }
    }

    /// Decides anew for the receivers that do not get every source and that the change of order can affect.
    pub(super) fn allocate_limited(&mut self, effects: &mut Effects) {
        let (caps, now) = (self.caps, self.latest);
        let concerned = |receiver: &Endpoint| receiver.undecided_audio || receiver.undecided_videos;
        if !self.endpoints.values().any(concerned) {
            return;
        }
        let ranking = self.ranking();
        for receiver in self.endpoints.values_mut().filter(|receiver| concerned(receiver)) {
            if receiver.undecided_audio {
                receiver.allocate(&ranking, caps, now, effects);
            } else {
                receiver.allocate_videos(&ranking, caps, now, effects);
            }
        }
    }

    /// Updates a receiver's subscriptions after a change of what it can receive or of its constraints.
    pub(super) fn offer_all(&mut self, receiver: &str, effects: &mut Effects) {
        self.voices.missing_anew();
        let ranking = self.ranking();
        if let Some(receiver) = self.endpoints.get_mut(receiver) {
            receiver.allocate(&ranking, self.caps, self.latest, effects);
        }
    }

    /// Forgets a source that ended. The engine ends its subscriptions by itself. `renewed`: another of the
    /// same name follows and takes over the MIDs of that name.
    pub(super) fn forget_source(&mut self, source: &SourceSpec, renewed: bool) {
        self.voices.forget(source.id);
        self.demand.forget(source.id);
        self.source_owners.remove(&source.id);
        self.sources_version = self.sources_version.wrapping_add(1);
        let (caps, now) = (self.caps, self.latest);
        work::count(self.endpoints.len());
        for receiver in self.endpoints.values_mut() {
            receiver.shares.forget(source.id);
            receiver.undecided_videos |= receiver.is_full_and_names(&source.name, caps);
            if receiver.subscriptions.remove(&source.id).is_some() {
                let room = receiver.gets_all_it_may(source.media, caps);
                match source.media {
                    MediaType::Audio => receiver.undecided_audio |= room,
                    MediaType::Video => receiver.undecided_videos |= room,
                }
                if receiver.got_videos.remove(&source.id) {
                    receiver.constraints_due = receiver.constraints_due.max(Due::NextTick);
                }
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
            // It uses the MIDs of its slots.
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
        let own = self.constraints.video_limit(self.initial_last_n);
        let slots = self.slots.as_ref().map(|slots| slots.bank(MediaType::Video).limit());
        own.into_iter().chain(caps.size).chain(slots).min()
    }

    /// Whether it can receive a source and has not declined it.
    pub(super) fn wants(&self, media: MediaType, source: &str) -> bool {
        self.accepts(media) && !self.declines(media, source)
    }

    fn declines(&self, media: MediaType, source: &str) -> bool {
        match media {
            MediaType::Audio => self.v1.no_audio || !self.constraints.wants_audio(source),
            MediaType::Video => {
                self.v1.no_video
                    || self.constraints.constraint(source).is_some_and(Constraint::is_nothing)
            }
        }
    }

    /// Whether another source may take the place of one that it loses: only if it gets as much as it may.
    /// Otherwise it gets all that it wants already.
    fn gets_all_it_may(&self, media: MediaType, caps: Caps) -> bool {
        match (media, &self.slots) {
            (MediaType::Audio, Some(_)) => self.all_audio,
            (MediaType::Video, Some(_)) => self.all_videos,
            // It gets all that it wants.
            (MediaType::Audio, None) => false,
            (MediaType::Video, None) => self.last_n(caps).is_some(),
        }
    }

    /// A source of this name may take another's place, or leave it to another of the same name.
    fn is_full_and_names(&self, source: &str, caps: Caps) -> bool {
        self.gets_all_it_may(MediaType::Video, caps) && self.constraints.names(source)
    }

    /// What it gets of all sources when `limit` bounds its videos.
    pub(super) fn choose(&self, ranking: &Ranking, limit: Option<usize>) -> HashSet<SourceId> {
        let audio = self.choose_audio(ranking).into_iter();
        let audio = audio.filter_map(|at| ranking.audio.get(at));
        let videos = self.choose_videos(ranking, limit).into_iter();
        let videos = videos.filter_map(|at| ranking.videos.get(at));
        audio.chain(videos).map(|source| source.id).collect()
    }

    /// All audio that it wants, in order; at most as much as it has slots for, and then what is in the slots
    /// first: a source leaves its slot only to another one that is active.
    fn choose_audio(&self, ranking: &Ranking) -> Vec<usize> {
        if !self.accepts(MediaType::Audio) {
            return Vec::new();
        }
        work::count(ranking.audio.len());
        let wanted = |(_, source): &(usize, &Ranked)| {
            source.owner != self.engine_id && !self.declines(MediaType::Audio, &source.name)
        };
        let wanted = ranking.audio.iter().enumerate().filter(wanted);
        let Some(slots) = &self.slots else { return wanted.map(|(at, _)| at).collect() };
        let bank = slots.bank(MediaType::Audio);
        let (held, others): (Vec<_>, Vec<_>) =
            wanted.partition(|(_, source)| bank.holds(source.id));
        let all = held.into_iter().chain(others).take(bank.limit());
        let mut chosen: Vec<usize> = all.map(|(at, _)| at).collect();
        chosen.sort_unstable();
        chosen
    }

    /// In order: first those that it named, then those of who spoke last.
    fn choose_videos(&self, ranking: &Ranking, limit: Option<usize>) -> Vec<usize> {
        if !self.accepts(MediaType::Video) {
            return Vec::new();
        }
        let named = self.constraints.on_stage.iter().chain(&self.constraints.selected);
        let named = named.filter_map(|name| ranking.by_name.get(name.as_str()).copied());
        let mut left = limit.unwrap_or(usize::MAX);
        let mut chosen = BTreeSet::new();
        for at in named.chain(0..ranking.videos.len()) {
            let Some(source) = ranking.videos.get(at) else { continue };
            if left == 0 {
                break;
            }
            work::count(1);
            // A video that shows nothing needs no slot.
            let shows = source.counts || self.slots.is_none();
            if source.owner != self.engine_id
                && shows
                && self.wants(MediaType::Video, &source.name)
                && chosen.insert(at)
            {
                left -= usize::from(source.counts);
            }
        }
        chosen.into_iter().collect()
    }

    fn allocate(&mut self, ranking: &Ranking, caps: Caps, now: Instant, effects: &mut Effects) {
        let chosen = self.choose(ranking, self.last_n(caps));
        let mut gone: Vec<SourceId> =
            self.subscriptions.keys().copied().filter(|id| !chosen.contains(id)).collect();
        gone.sort_unstable();
        for source in gone {
            self.unsubscribe(source, now, effects);
        }
        for media in [MediaType::Audio, MediaType::Video] {
            let all = ranking.of(media).iter();
            for source in all.filter(|source| chosen.contains(&source.id)) {
                self.subscribe(media, source.entrant(), now, effects);
            }
        }
        (self.undecided_audio, self.undecided_videos) = (false, false);
        self.count_slots(caps);
    }

    /// Of videos only: what a receiver of a few pays does not depend on how many there are.
    fn allocate_videos(
        &mut self,
        ranking: &Ranking,
        caps: Caps,
        now: Instant,
        effects: &mut Effects,
    ) {
        let chosen = self.choose_videos(ranking, self.last_n(caps)).into_iter();
        let chosen: Vec<&Ranked> = chosen.filter_map(|at| ranking.videos.get(at)).collect();
        let ids: BTreeSet<SourceId> = chosen.iter().map(|video| video.id).collect();
        let gone: Vec<SourceId> = self.got_videos.difference(&ids).copied().collect();
        for video in gone {
            self.unsubscribe(video, now, effects);
        }
        for video in chosen {
            self.subscribe(MediaType::Video, video.entrant(), now, effects);
        }
        self.undecided_videos = false;
        self.count_slots(caps);
    }

    /// Notes whether its slots are full.
    fn count_slots(&mut self, caps: Caps) {
        let most = self.last_n(caps).unwrap_or(usize::MAX);
        let Some(slots) = &self.slots else { return };
        self.all_audio = slots.bank(MediaType::Audio).is_full();
        self.all_videos = slots.bank(MediaType::Video).held() >= most;
    }

    /// Offers a new source that it wants: subscribes to it in a slot, if there is one left. If not, an audio
    /// source waits until it is active, and a video until it precedes others. `ahead`: how many videos
    /// precede it.
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
            self.undecided_videos |= self.may_come_first(ahead, caps);
        }
    }

    /// Whether a video that it did not name may be among those it gets, when `ahead` videos precede it.
    fn may_come_first(&self, ahead: usize, caps: Caps) -> bool {
        let most = self.last_n(caps).unwrap_or(usize::MAX);
        // Its own videos are among them, and those that it declines.
        ahead < most.saturating_add(self.videos()) || self.constraints.declines_some()
    }

    /// The parameters of its subscription to a source that it wants.
    fn terms(&self, media: MediaType, source: Entrant<'_>) -> SubscriptionParams {
        let bound = self.constraints.constraint(source.name).filter(|_| media == MediaType::Video);
        let slot = self.slots.as_ref().and_then(|slots| slots.bank(media).of(source.id));
        let mid = slot.and_then(|slot| slot.mid);
        SubscriptionParams {
            mid: mid.or_else(|| self.mids.get(&**source.name).copied()),
            max_height: bound.and_then(Constraint::height),
            included: media == MediaType::Audio && self.constraints.includes_audio(source.name),
            slot: slot.map(|slot| slot.ssrcs),
        }
    }

    /// Subscribes to a source, in a slot if the receiver has slots, or changes the subscription.
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
        if media == MediaType::Video {
            self.got_videos.insert(id);
        }
        if self.subscriptions.insert(id, terms) != Some(terms) {
            if media == MediaType::Video {
                self.shares.changed(id);
                self.constraints_due = self.constraints_due.max(Due::NextTick);
            }
            self.ceased.remove(&id);
            effects.control(Control::Subscribe { receiver, source: id, terms });
        }
    }

    /// Ends the subscription to a source.
    pub(super) fn unsubscribe(&mut self, source: SourceId, now: Instant, effects: &mut Effects) {
        self.subscriptions.remove(&source);
        if self.got_videos.remove(&source) {
            self.shares.changed(source);
            self.constraints_due = self.constraints_due.max(Due::NextTick);
        }
        if let Some(slots) = &mut self.slots {
            slots.release(source, now);
        }
        self.ceased.insert(source, now);
        effects.control(Control::Unsubscribe { receiver: self.engine_id, source });
    }
}
