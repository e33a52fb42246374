//! A conference beside a model of the engine, and the invariants of both.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use rialto_media::{EndpointId, MediaType, SourceId};

use super::{
    super::{
        Conference, Effects, Endpoint, EndpointSource, Identity, Rules, SequentialIds, SsrcLimits,
        slots::Slots,
    },
    client::ClientSlots,
    model::Model,
};
use crate::{
    channel::{Limits, ToBridge, message::MAX_BYTES},
    colibri::ConferenceModify,
};

/// Bounds of what one endpoint can make a conference hold.
const MAX_SOURCES: usize = 32;
const MAX_SSRCS: usize = 128;
const MAX_MIDS: usize = 4_096;
const MAX_SHOWN: usize = 64;

pub(super) struct Room {
    pub(super) conference: Conference,
    pub(super) now: Instant,
    ids: SequentialIds,
    model: Model,
    clients: BTreeMap<EndpointId, ClientSlots>,
}

impl Room {
    /// `choice`: some of the rules.
    pub(super) fn new(choice: u8) -> Self {
        let second = Duration::from_secs(1);
        let now = Instant::now();
        let identity = Identity {
            id: "00000000000000ff".into(),
            meeting_id: "m".into(),
            name: None,
            rtcstats_enabled: false,
            audio_ssrc: 1,
            video_ssrc: 2,
        };
        let limits = Limits {
            last_n: (choice & 1 != 0).then_some(2),
            initial_max_height: (choice & 2 != 0).then_some(360),
            ..Limits::default()
        };
        let rules = Rules {
            initial_last_n: if choice & 4 == 0 { -1 } else { 1 },
            limits,
            ssrc_limits: SsrcLimits {
                audio: 1 + 2 * usize::from(choice >> 5 & 1),
                video: 1 + usize::from(choice >> 6),
            },
            stats_filter_threshold: 2,
            last_n_by_size: Arc::default(),
            last_n_by_load: None,
            connection_stats: Some(10 * second),
            recent_speakers: 3,
            silence_after: Some(second),
            sctp: choice & 8 == 0,
            relays_wanted: choice & 16 == 0,
            expiration_timeout: 60 * second,
            connect_timeout: 120 * second,
            empty_timeout: 20 * second,
            first_transfer_timeout: 15 * second,
            max_inactivity: 8 * second,
        };
        let conference = Conference::new(identity, rules, now);
        let (ids, model, clients) = Default::default();
        Self { conference, now, ids, model, clients }
    }

    /// A focus asks; a refusal leaves everything as it was.
    pub(super) fn ask(&mut self, request: &ConferenceModify) -> bool {
        let (mut effects, before) = (Effects::default(), self.model.clone());
        let answer = self.conference.modify(request, &mut self.ids, self.now, &mut effects);
        if let Ok(answered) = &answer {
            assert_eq!(answered.endpoints.len(), request.endpoints.len());
            for (answer, asked) in answered.endpoints.iter().zip(&request.endpoints) {
                assert_eq!(answer.id, asked.id);
                let gone = self.conference.endpoint(&asked.id).is_none();
                assert!(gone || !answer.expire || asked.expire);
                let steps = answer.transport.iter().map(|step| step.endpoint);
                assert!(steps.into_iter().all(|id| self.conference.by_engine_id(id).is_some()));
            }
        }
        self.apply(effects);
        if answer.is_err() {
            assert_eq!(self.model, before, "a refused request has no effects");
        }
        answer.is_ok()
    }

    /// A client's message over its channel.
    pub(super) fn channel_message(&mut self, from: EndpointId, text: &str) {
        let Ok(message) = ToBridge::parse(text) else { return };
        self.act(|conference, effects| {
            let _ = conference.channel_message(from, message, effects);
        });
    }

    /// Applies a change and checks the invariants.
    pub(super) fn act<T>(&mut self, act: impl FnOnce(&mut Conference, &mut Effects) -> T) -> T {
        let mut effects = Effects::default();
        let made = act(&mut self.conference, &mut effects);
        self.apply(effects);
        made
    }

    fn apply(&mut self, mut effects: Effects) {
        self.conference.send_slots(&mut effects);
        self.conference.count_demand();
        for (to, text) in &effects.messages {
            self.clients.entry(*to).or_default().receive(text);
        }
        for gone in &effects.removed {
            self.clients.remove(gone);
        }
        for control in &effects.controls {
            self.model.apply(control);
        }
        // Bound of the messages that one change causes: some to each endpoint, about each video or endpoint.
        let people = self.conference.endpoints().len() + effects.removed.len();
        let sources: usize = self.conference.endpoints().map(|e| e.sources.len()).sum();
        let most = (people + 1) * (people + sources + 8);
        assert!(effects.messages.len() <= most, "{} of {most}", effects.messages.len());
        let mut texts = effects.messages.iter().map(|(_, text)| text.len());
        assert!(texts.all(|len| len <= 2 * MAX_BYTES));
    }

    /// Everybody leaves, and nothing is left behind.
    pub(super) fn end(mut self) {
        self.act(Conference::expire);
        assert_eq!(self.model, Model::default());
        let conference = &self.conference;
        assert!(conference.ssrc_owners.is_empty() && conference.by_engine_id.is_empty());
        assert!(conference.speech_order.is_empty() && conference.source_owners.is_empty());
        assert!(conference.demand.is_empty());
        assert_eq!(conference.speakers.dominant(), None);
        assert_eq!(conference.speakers.previous().count(), 0);
    }

    /// Panics when conference and engine do not agree, or when a bound is passed.
    pub(super) fn check(&self) {
        let conference = &self.conference;
        assert_eq!(self.model.endpoints.len(), conference.endpoints().len());
        assert_eq!(conference.by_engine_id.len(), conference.endpoints().len());
        let mut owned = BTreeSet::new();
        for endpoint in conference.endpoints() {
            self.check_endpoint(endpoint);
            self.check_demand(endpoint);
            if endpoint.slots.is_none() {
                self.check_choice(endpoint);
            }
            for source in &endpoint.sources {
                let owner = conference.source_owners.get(&source.spec.id);
                assert_eq!(owner, Some(&endpoint.engine_id));
            }
            let encodings = endpoint.sources.iter().flat_map(|source| &source.spec.encodings);
            for ssrc in encodings.flat_map(|e| [Some(e.ssrc), e.rtx]).flatten() {
                assert!(owned.insert(ssrc), "SSRC {ssrc} belongs to two");
                assert_eq!(conference.ssrc_owners.get(&ssrc), Some(&endpoint.engine_id));
            }
        }
        assert_eq!(owned.len(), conference.ssrc_owners.len());
        let sources = conference.endpoints().map(|e| e.sources.len());
        assert_eq!(sources.sum::<usize>(), conference.source_owners.len());
        let speakers: BTreeSet<_> = conference.speech_order.iter().collect();
        assert_eq!(speakers.len(), conference.speech_order.len());
        let heard = conference.endpoints().filter(|e| !e.is_visitor()).map(|e| &e.id);
        assert_eq!(speakers, heard.collect());
    }

    /// Counts that are updated with each change equal counts made anew.
    fn check_demand(&self, sender: &Endpoint) {
        let conference = &self.conference;
        let or_unbounded = |height: i32| if height < 0 { 2160 } else { height };
        let unnamed = or_unbounded(conference.rules.limits.default_max_height);
        let videos = sender.sources.iter().filter(|own| own.spec.media == MediaType::Video);
        let anew = videos.map(|own| {
            let (name, id) = (&own.spec.name, own.spec.id);
            let told = sender.demand.iter().find(|(told, height)| told == name && *height > 0);
            let bounds = conference.endpoints().filter_map(|r| {
                let would_get = r.slots.is_some() && r.engine_id != sender.engine_id;
                let would_get = would_get && !own.shows() && r.wants(MediaType::Video, name);
                let gets = r.subscriptions.contains_key(&id) || would_get;
                let bound = r.constraints.constraint(name).map_or(-1, |bound| bound.max_height);
                let bound = or_unbounded(bound);
                let newcomer = || told.map_or(unnamed.min(bound), |(_, height)| *height);
                gets.then(|| if r.counts { bound } else { newcomer() })
            });
            (name.clone(), bounds.max().unwrap_or(0))
        });
        let anew: Vec<_> = anew.collect();
        assert_eq!(conference.demand_of(sender.engine_id), anew, "of {}", sender.id);
    }

    /// A receiver without slots gets the videos that a new choice would give it.
    fn check_choice(&self, receiver: &Endpoint) {
        let (ranking, limit) = (self.conference.ranking(), receiver.last_n(self.conference.caps));
        let chosen = receiver.choose(&ranking, limit);
        let shows = |id: &&SourceId| {
            self.conference
                .source(**id)
                .is_some_and(|(_, source)| source.spec.media == MediaType::Video && source.shows())
        };
        let chosen: BTreeSet<_> = chosen.iter().filter(shows).collect();
        let got: BTreeSet<_> = receiver.subscriptions.keys().filter(shows).collect();
        assert_eq!(got, chosen, "{}", receiver.id);
    }

    fn check_endpoint(&self, endpoint: &Endpoint) {
        let id = endpoint.engine_id;
        let own: BTreeSet<SourceId> = endpoint.sources.iter().map(|s| s.spec.id).collect();
        assert_eq!(self.model.endpoints[&id].keys().copied().collect::<BTreeSet<_>>(), own);
        assert!(own.len() <= MAX_SOURCES && own.len() == endpoint.sources.len());
        let ssrcs: usize = endpoint.sources.iter().map(|s| 2 * s.spec.encodings.len()).sum();
        assert!(ssrcs <= 2 * MAX_SSRCS);
        assert!(endpoint.payload_types.len() <= 128 && endpoint.extensions.len() <= 255);
        assert!(endpoint.mids.len() <= MAX_MIDS && endpoint.shown.len() <= MAX_SHOWN);
        assert!(!endpoint.is_visitor() || own.is_empty());

        let told = self.model.subscriptions.range((id, SourceId(0))..=(id, SourceId(u32::MAX)));
        let told: Vec<_> = told.map(|((_, source), terms)| (*source, *terms)).collect();
        let mut known: Vec<_> = endpoint.subscriptions.iter().map(|(s, t)| (*s, *t)).collect();
        known.sort_unstable_by_key(|(source, _)| *source);
        assert_eq!(told, known, "{} and the engine", endpoint.id);

        if let Some(slots) = &endpoint.slots {
            let client = self.clients.get(&id).cloned().unwrap_or_default();
            client.check(&self.conference, endpoint);
            let limits = [MediaType::Audio, MediaType::Video].map(|m| slots.bank(m).limit());
            assert!(client.audio() <= limits[0] && client.video() <= limits[1], "few SSRCs");
        }
        let mut wanted = BTreeSet::new();
        let (mut counted, mut uncounted_wanted) = (0, 0);
        for (source, bound) in self.offered(endpoint) {
            wanted.insert(source.spec.id);
            let video = source.spec.media == MediaType::Video;
            let counts =
                video && !matches!(source.video_type.as_deref(), Some("disabled" | "none"));
            uncounted_wanted += usize::from(counts);
            if let Some(terms) = endpoint.subscriptions.get(&source.spec.id) {
                counted += usize::from(counts);
                assert_eq!(terms.max_height, bound.filter(|_| video), "{}", source.spec.name);
            } else {
                let limited = video && endpoint.last_n(self.conference.caps).is_some();
                let full = |slots: &Slots| !video && slots.bank(MediaType::Audio).is_full();
                let full = endpoint.slots.as_deref().is_some_and(full);
                assert!(limited || full, "{} is missing", source.spec.name);
            }
        }
        assert!(endpoint.subscriptions.keys().all(|source| wanted.contains(source)));
        let all = endpoint.last_n(self.conference.caps).unwrap_or(usize::MAX).min(uncounted_wanted);
        assert_eq!(counted, all, "{} gets as many videos as it may", endpoint.id);
    }

    /// What a receiver can take of the others and has not declined, with the bound of its height.
    fn offered<'a>(
        &'a self,
        receiver: &'a Endpoint,
    ) -> impl Iterator<Item = (&'a EndpointSource, Option<u16>)> {
        let others = self.conference.endpoints().filter(|other| other.id != receiver.id);
        others.flat_map(|other| &other.sources).filter_map(|source| {
            let name = &*source.spec.name;
            let constraint = receiver.constraints.constraint(name);
            let wanted = match source.spec.media {
                MediaType::Audio => !receiver.v1.no_audio && receiver.constraints.wants_audio(name),
                MediaType::Video => {
                    let nothing =
                        constraint.is_some_and(|c| c.max_height == 0 || c.max_frame_rate == 0.0);
                    !receiver.v1.no_video && !nothing
                }
            };
            let height = constraint.filter(|c| c.max_height >= 0).map(|c| c.max_height);
            let height = height.map(|height| u16::try_from(height).unwrap_or(u16::MAX));
            (wanted && receiver.accepts(source.spec.media)).then_some((source, height))
        })
    }
}
