//! Decisions, against a model of what the engine makes of them.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rialto_media::{EndpointId, MediaType, Mid, SourceId};

use super::{fuzz::model::Model, *};
use crate::{
    channel::Limits,
    colibri::{
        Colibri2Endpoint, ConferenceModify, ForceMute, Media, MediaSource, MucRole, PayloadType,
        RtcpFb, Source, Transport, capability,
    },
};

mod slots;
mod work;

struct Room {
    conference: Conference,
    ids: SequentialIds,
    model: Model,
    now: std::time::Instant,
}

impl Room {
    fn new() -> Self {
        let second = std::time::Duration::from_secs(1);
        let now = std::time::Instant::now();
        let identity = Identity {
            id: "00000000000000ff".into(),
            meeting_id: "m".into(),
            name: None,
            rtcstats_enabled: false,
            audio_ssrc: 1,
            video_ssrc: 2,
        };
        let rules = Rules {
            initial_last_n: -1,
            limits: Limits::default(),
            last_n_by_size: std::sync::Arc::default(),
            last_n_by_load: None,
            connection_stats: None,
            ssrc_limits: SsrcLimits::default(),
            stats_filter_threshold: 20,
            recent_speakers: 10,
            silence_after: None,
            sctp: false,
            relays_wanted: false,
            expiration_timeout: 60 * second,
            connect_timeout: 120 * second,
            empty_timeout: 20 * second,
            first_transfer_timeout: 15 * second,
            max_inactivity: 8 * second,
        };
        Self {
            conference: Conference::new(identity, rules, now),
            ids: SequentialIds::default(),
            model: Model::default(),
            now,
        }
    }

    fn apply(&mut self, effects: &Effects) {
        for control in &effects.controls {
            self.model.apply(control);
        }
    }

    fn ask(&mut self, endpoint: Colibri2Endpoint) -> bool {
        let request = ConferenceModify {
            meeting_id: "m".into(),
            endpoints: vec![endpoint],
            ..ConferenceModify::default()
        };
        let mut effects = Effects::default();
        let before = self.model.clone();
        let answer = self.conference.modify(&request, &mut self.ids, self.now, &mut effects);
        self.apply(&effects);
        if answer.is_err() {
            assert_eq!(self.model, before, "a refused request has no effects");
        }
        answer.is_ok()
    }

    fn engine_id(&self, id: &str) -> EndpointId {
        self.conference.endpoint(id).unwrap().engine_id
    }

    /// Names of what a receiver gets.
    fn gets(&self, id: &str) -> BTreeSet<String> {
        let receiver = self.engine_id(id);
        let names: BTreeMap<SourceId, &String> =
            self.model.endpoints.values().flatten().map(|(id, name)| (*id, name)).collect();
        self.model
            .subscriptions
            .keys()
            .filter(|(to, _)| *to == receiver)
            .map(|(_, source)| names[source].clone())
            .collect()
    }

    /// The rule: everybody gets every source of the others that it can take.
    fn check(&self) {
        let mut expected = BTreeSet::new();
        for receiver in self.conference.endpoints() {
            for sender in self.conference.endpoints().filter(|sender| sender.id != receiver.id) {
                for source in &sender.sources {
                    if receiver.accepts(source.spec.media) {
                        expected.insert((receiver.engine_id, source.spec.id));
                    }
                }
            }
        }
        let told: BTreeSet<_> = self.model.subscriptions.keys().copied().collect();
        assert_eq!(told, expected);
        for endpoint in self.conference.endpoints() {
            let own: BTreeSet<SourceId> = endpoint.sources.iter().map(|s| s.spec.id).collect();
            let known = &self.model.endpoints[&endpoint.engine_id];
            assert_eq!(known.keys().copied().collect::<BTreeSet<_>>(), own);
            let subscribed: BTreeSet<_> = endpoint.subscriptions.keys().copied().collect();
            let told = expected.iter().filter(|(to, _)| *to == endpoint.engine_id);
            assert_eq!(subscribed, told.map(|(_, source)| *source).collect::<BTreeSet<_>>());
        }
        assert_eq!(self.model.endpoints.len(), self.conference.endpoints().len());
    }
}

fn media(media: MediaType) -> Media {
    let (id, name) = match media {
        MediaType::Audio => (111, "opus"),
        MediaType::Video => (100, "VP8"),
    };
    Media {
        r#type: media,
        payload_types: vec![PayloadType { id, name: name.into(), ..PayloadType::default() }],
        rtp_hdrexts: vec![],
        extmap_allow_mixed: false,
    }
}

fn joins(id: &str, accepts: &[MediaType]) -> Colibri2Endpoint {
    Colibri2Endpoint {
        create: true,
        capabilities: vec![capability::SOURCE_NAMES.into()],
        transport: Some(Transport::default()),
        media: accepts.iter().map(|kind| media(*kind)).collect(),
        ..Colibri2Endpoint::new(id)
    }
}

fn sends(id: &str, sources: &[(MediaType, &str, u32)]) -> Colibri2Endpoint {
    let sources = sources.iter().map(|(media, name, ssrc)| MediaSource {
        r#type: *media,
        id: (*name).into(),
        synthetic: false,
        sources: vec![Source { ssrc: *ssrc, ..Source::default() }],
        ssrc_groups: vec![],
    });
    Colibri2Endpoint { sources: Some(sources.collect()), ..Colibri2Endpoint::new(id) }
}

const BOTH: [MediaType; 2] = [MediaType::Audio, MediaType::Video];

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

#[test]
fn everybody_gets_what_the_others_send() {
    let mut room = Room::new();
    for id in ["a", "b"] {
        assert!(room.ask(joins(id, &BOTH)));
    }
    assert!(room.ask(sends("a", &[(MediaType::Audio, "a-a0", 1), (MediaType::Video, "a-v0", 2)])));
    assert!(room.ask(joins("c", &BOTH)));
    assert_eq!(room.gets("a"), names(&[]));
    assert_eq!(room.gets("b"), names(&["a-a0", "a-v0"]));
    assert_eq!(room.gets("c"), names(&["a-a0", "a-v0"]), "who comes later gets it too");
    room.check();
    let mut gone = Colibri2Endpoint::new("a");
    gone.expire = true;
    assert!(room.ask(gone));
    assert_eq!(room.gets("b"), names(&[]));
    room.check();
}

#[test]
fn nobody_gets_what_it_cannot_take() {
    let mut room = Room::new();
    room.ask(joins("a", &BOTH));
    room.ask(sends("a", &[(MediaType::Audio, "a-a0", 1), (MediaType::Video, "a-v0", 2)]));
    room.ask(joins("phone", &[MediaType::Audio]));
    room.ask(joins("mute", &[]));
    assert_eq!(room.gets("phone"), names(&["a-a0"]));
    assert_eq!(room.gets("mute"), names(&[]));
    let mut rtx_only = Colibri2Endpoint::new("mute");
    let mut rtx = media(MediaType::Video);
    rtx.payload_types[0].name = "rtx".into();
    rtx_only.media = vec![rtx];
    assert!(room.ask(rtx_only));
    assert_eq!(room.gets("mute"), names(&[]), "retransmissions alone are nothing");
    let mut later = Colibri2Endpoint::new("phone");
    later.media = vec![media(MediaType::Video)];
    assert!(room.ask(later));
    assert_eq!(room.gets("phone"), names(&["a-a0", "a-v0"]), "media only adds");
    room.check();
}

#[test]
fn feedback_on_what_is_sent_is_of_the_kind_that_was_signalled() {
    let signalled = |kind: &str, subtype: Option<&str>| {
        let mut room = Room::new();
        let mut request = joins("a", &[MediaType::Video]);
        let feedback = RtcpFb { r#type: kind.into(), subtype: subtype.map(Into::into) };
        request.media[0].payload_types[0].rtcp_fbs = vec![feedback];
        assert!(room.ask(request));
        let media = room.conference.endpoint("a").unwrap().media_params();
        (media.payload_types[0].transport_cc, media.congestion_feedback, media.remb)
    };
    assert_eq!(signalled("transport-cc", None), (true, false, false));
    assert_eq!(signalled("ack", Some("ccfb")), (false, true, false));
    assert_eq!(signalled("ack", Some("rpsi")), (false, false, false));
    assert_eq!(signalled("goog-remb", None), (false, false, true));
}

#[test]
fn a_visitor_receives_and_does_not_send() {
    let mut room = Room::new();
    room.ask(joins("a", &BOTH));
    room.ask(sends("a", &[(MediaType::Audio, "a-a0", 1)]));
    let mut visitor = joins("v", &BOTH);
    visitor.muc_role = Some(MucRole::Visitor);
    visitor.sources = Some(vec![]);
    assert!(room.ask(visitor), "no sources are no sources");
    assert_eq!(room.gets("v"), names(&["a-a0"]));
    assert!(!room.ask(sends("v", &[(MediaType::Audio, "v-a0", 9)])));
    let activity = room.conference.speech_activity();
    assert_eq!(activity["endpointsBySpeechActivity"], serde_json::json!(["a"]));
}

#[test]
fn an_unchanged_source_stays_the_same() {
    let mut room = Room::new();
    room.ask(joins("a", &BOTH));
    room.ask(joins("b", &BOTH));
    room.ask(sends("a", &[(MediaType::Audio, "a-a0", 1), (MediaType::Video, "a-v0", 2)]));
    let ids = |room: &Room| -> Vec<SourceId> {
        room.conference.endpoint("a").unwrap().sources.iter().map(|s| s.spec.id).collect()
    };
    let before = ids(&room);
    let mid = Mid::new("7").unwrap();
    let mut effects = Effects::default();
    let mids = vec![("a-v0".to_owned(), mid), ("a-v1".to_owned(), mid)];
    assert!(room.conference.assign_mids("b", mids, &mut effects));
    room.apply(&effects);
    room.ask(sends("a", &[(MediaType::Video, "a-v0", 2), (MediaType::Video, "a-v1", 3)]));
    assert_eq!(ids(&room).first(), before.get(1), "the video stayed");
    room.ask(sends("a", &[(MediaType::Video, "a-v0", 20), (MediaType::Video, "a-v1", 3)]));
    assert!(!before.contains(&ids(&room)[0]), "another stream is another source");
    let receiver = room.engine_id("b");
    let stamped = &room.model.subscriptions[&(receiver, ids(&room)[0])];
    assert_eq!(stamped.mid, Some(mid), "the name keeps its MID");
    room.check();
    room.ask(sends("a", &[]));
    assert_eq!(room.gets("b"), names(&[]));
    room.ask(sends("a", &[(MediaType::Video, "a-v0", 20)]));
    let again = &room.model.subscriptions[&(receiver, ids(&room)[0])];
    assert_eq!(again.mid, None, "a MID is not kept for who left");
    room.check();
}

#[test]
fn repeated_constraints_are_not_sent_to_the_engine() {
    let mut room = Room::new();
    room.ask(joins("a", &BOTH));
    let update = Colibri2Endpoint {
        media: vec![media(MediaType::Audio)],
        ..sends("a", &[(MediaType::Audio, "a-a0", 1)])
    };
    let request = ConferenceModify {
        meeting_id: "m".into(),
        endpoints: vec![update],
        ..ConferenceModify::default()
    };
    let mut counts = Vec::new();
    for _ in 0..2 {
        let mut effects = Effects::default();
        room.conference.modify(&request, &mut room.ids, room.now, &mut effects).unwrap();
        counts.push(effects.controls.len());
    }
    assert_eq!(counts, [1, 0]);
}

#[test]
fn force_mute_and_last_n_are_kept() {
    let mut room = Room::new();
    room.ask(joins("a", &BOTH));
    let mute = ForceMute { audio: true, video: false };
    room.ask(Colibri2Endpoint {
        force_mute: Some(mute),
        initial_last_n: Some(2),
        ..Colibri2Endpoint::new("a")
    });
    room.ask(Colibri2Endpoint::new("a"));
    let endpoint = room.conference.endpoint("a").unwrap();
    assert_eq!((endpoint.force_mute, endpoint.initial_last_n), (mute, Some(2)));
}

#[test]
fn expiry_and_mute_in_one_request_take_their_turn() {
    let mut room = Room::new();
    room.ask(joins("a", &BOTH));
    room.ask(joins("b", &BOTH));
    let mut expire = Colibri2Endpoint::new("a");
    expire.expire = true;
    let mute = |id: &str| Colibri2Endpoint {
        force_mute: Some(ForceMute { audio: true, video: true }),
        ..Colibri2Endpoint::new(id)
    };
    let request = ConferenceModify {
        meeting_id: "m".into(),
        endpoints: vec![expire, mute("a"), mute("b")],
        ..ConferenceModify::default()
    };
    let mut effects = Effects::default();
    let answer = room.conference.modify(&request, &mut room.ids, room.now, &mut effects).unwrap();
    assert_eq!(answer.endpoints.iter().map(|e| e.expire).collect::<Vec<_>>(), [true, false, false]);
    assert!(!answer.expire, "b is there");
    room.apply(&effects);
    room.check();
}

/// One thing that a focus may ask, sensible or not.
fn step() -> impl Strategy<Value = Colibri2Endpoint> {
    let id = prop::sample::select(vec!["a", "b", "c", "d"]);
    let kinds = prop::sample::subsequence(BOTH.to_vec(), 0..=2);
    let source = (0..3usize, 0..8u32);
    let sources = prop::collection::vec(source, 0..4);
    (id, 0..6u8, kinds, sources, any::<bool>()).prop_map(|(id, what, kinds, sources, flag)| {
        let named: Vec<(MediaType, String, u32)> =
            sources.into_iter().map(|(n, ssrc)| (BOTH[n % 2], format!("{id}-{n}"), ssrc)).collect();
        let named: Vec<(MediaType, &str, u32)> =
            named.iter().map(|(kind, name, ssrc)| (*kind, name.as_str(), *ssrc)).collect();
        match what {
            0 | 1 => {
                let mut request = joins(id, &kinds);
                request.muc_role = flag.then_some(MucRole::Visitor);
                request
            }
            2 | 3 => sends(id, &named),
            4 => {
                let mut request = Colibri2Endpoint::new(id);
                request.media = kinds.iter().map(|kind| media(*kind)).collect();
                request
            }
            _ => {
                let mut request = Colibri2Endpoint::new(id);
                request.expire = true;
                request
            }
        }
    })
}

proptest! {
    #[test]
    fn engine_and_conference_agree_whatever_is_asked(steps in prop::collection::vec(step(), 1..40)) {
        let mut room = Room::new();
        for request in steps {
            room.ask(request);
            room.check();
        }
        let mut effects = Effects::default();
        room.conference.expire(&mut effects);
        room.apply(&effects);
        prop_assert_eq!(room.model, Model::default());
        prop_assert!(room.conference.ssrc_owners.is_empty());
    }
}
