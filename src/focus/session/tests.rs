//! Sessions over a bridge with a detached engine and pretended transports.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use rialto_engine::{Control, Engine, Recorder};
use rialto_media::EndpointId;
use rialto_transport::TransportCounters;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::*;
use crate::{
    bridge::{BridgeConfig, RestartAnswer, TransportPort},
    conference::CreateTransport,
    focus::{
        message::{Peer, SendState},
        room::{RoomLimits, Rooms},
        sdp::Direction,
    },
};

/// Transports that are always up; each restart changes the credentials.
#[derive(Default)]
struct FakeTransports(AtomicU32);

impl FakeTransports {
    fn ice(&self) -> IceUdp {
        let generation = self.0.load(Ordering::Relaxed);
        IceUdp {
            ufrag: Some(format!("bridge{generation}")),
            pwd: Some("password".to_owned()),
            ice_generation: (generation > 0).then_some(generation),
            rtcp_mux: true,
            ..IceUdp::default()
        }
    }
}

impl TransportPort for FakeTransports {
    fn create(&self, _: EndpointId, _: CreateTransport, _: Arc<str>) {}
    fn set_remote(&self, _: EndpointId, _: &IceUdp) {}
    fn restart_ice(&self, _: EndpointId) -> RestartAnswer {
        self.0.fetch_add(1, Ordering::Relaxed);
        RestartAnswer::Started(self.ice())
    }
    fn describe(&self, _: EndpointId) -> Option<IceUdp> {
        Some(self.ice())
    }
    fn remove(&self, _: EndpointId) {}
    fn debug(&self, _: EndpointId) -> Value {
        Value::Null
    }
    fn counters(&self) -> TransportCounters {
        TransportCounters::default()
    }
}

struct House {
    bridge: Bridge,
    rooms: Arc<Rooms>,
    engine: Arc<Recorder>,
    _media: mpsc::Sender<rialto_engine::MediaEvent>,
    _updates: mpsc::UnboundedSender<rialto_transport::TransportUpdate>,
}

impl House {
    fn new() -> Self {
        let (engine, recorder) = Engine::detached(Vec::new());
        let (media, media_events) = mpsc::channel(8);
        let (updates, update_events) = mpsc::unbounded_channel();
        let bridge = Bridge::new(
            BridgeConfig::default(),
            engine,
            FakeTransports::default(),
            media_events,
            update_events,
        );
        let rooms = Rooms::new(RoomLimits::default());
        Self { bridge, rooms, engine: recorder, _media: media, _updates: updates }
    }

    async fn enter(&self, name: &str) -> Session {
        let membership = self.rooms.join("room", name).unwrap();
        Session::open(self.bridge.clone(), membership).await.unwrap()
    }
}

/// What a browser would answer: everything that is asked for, with SSRCs counted from `first`.
fn answer_to(offer: &str, ufrag: &str, first: u32) -> (String, Vec<Value>) {
    let mut answer = Description::parse(offer).unwrap();
    let mut encodings = Vec::new();
    let mut ssrc = first;
    for section in &mut answer.sections {
        section.transport = sdp::Transport {
            ufrag: ufrag.to_owned(),
            pwd: "p".repeat(24),
            fingerprints: vec![("sha-256".to_owned(), "AA:BB".to_owned())],
            setup: Some(sdp::Setup::Active),
            candidates: Vec::new(),
        };
        section.ssrcs.clear();
        section.groups.clear();
        section.msid = None;
        section.direction = match section.direction {
            Direction::RecvOnly => Direction::SendOnly,
            Direction::SendOnly => Direction::RecvOnly,
            other => other,
        };
        if !section.direction.sends() {
            continue;
        }
        if section.rids.is_empty() {
            section.ssrcs.push(sdp::Ssrc { id: ssrc, cname: "c".to_owned(), msid: None });
            ssrc += 1;
        }
        for rid in &mut section.rids {
            rid.send = true;
            encodings
                .push(json!({ "mid": section.mid, "rid": rid.id, "ssrc": ssrc, "rtx": ssrc + 50 }));
            ssrc += 1;
        }
    }
    (answer.to_string(), encodings)
}

fn offer_in(messages: &[ToPage]) -> Option<(u64, String, Vec<Slot>)> {
    messages.iter().find_map(|message| match message {
        ToPage::Offer { version, sdp, slots } => Some((*version, sdp.clone(), slots.clone())),
        _ => None,
    })
}

fn peers_in(messages: &[ToPage]) -> Vec<Peer> {
    let found = messages.iter().find_map(|message| match message {
        ToPage::Peers { peers } => Some(peers.clone()),
        _ => None,
    });
    found.unwrap_or_default()
}

/// Answers the offer among these messages, and what follows from that.
async fn settle(session: &mut Session, messages: &[ToPage], ufrag: &str, first: u32) {
    let mut next = offer_in(messages);
    while let Some((version, sdp, _)) = next {
        let (sdp, encodings) = answer_to(&sdp, ufrag, first);
        let text =
            json!({ "type": "answer", "version": version, "sdp": sdp, "encodings": encodings });
        next = offer_in(&session.on_text(&text.to_string()).await.unwrap());
    }
}

const ALL_ON: &str = r#"{"type":"sending","microphone":"on","camera":"on"}"#;

#[tokio::test]
async fn two_pages_are_offered_each_other() {
    let house = House::new();
    let mut ann = house.enter("Ann").await;
    let mut bob = house.enter("Bob").await;
    let greeting = ann.greet().await;
    ann.on_text(ALL_ON).await.unwrap();
    settle(&mut ann, &greeting, "ann", 100).await;
    let greeting = bob.greet().await;
    assert_eq!(peers_in(&greeting).len(), 2);
    let (_, sdp, slots) = offer_in(&greeting).unwrap();
    assert_eq!(slots.len(), 2, "microphone and camera");
    let offered = Description::parse(&sdp).unwrap();
    assert_eq!(offered.sections[3].ssrcs[0].id, 100);
    assert_eq!(offered.sections[4].groups[0].ssrcs, [101, 151], "the lowest encoding and its RTX");
    bob.on_text(ALL_ON).await.unwrap();
    settle(&mut bob, &greeting, "bob", 200).await;

    let news = ann.on_room_change().await;
    let (_, _, slots) = offer_in(&news).unwrap();
    assert!(slots.iter().all(|slot| slot.endpoint == bob.id()));
    assert_eq!(peers_in(&news)[0].sending.camera, SendState::On);
    settle(&mut ann, &news, "ann", 100).await;
    let controls = house.engine.take();
    let subscriptions = controls.iter().filter(|c| matches!(c, Control::Subscribe { .. })).count();
    assert!(subscriptions >= 4, "two sources each: {controls:?}");

    bob.close().await;
    let news = ann.on_room_change().await;
    assert_eq!(peers_in(&news).len(), 1);
    assert!(offer_in(&news).unwrap().2.is_empty());
    ann.close().await;
}

#[tokio::test]
async fn the_bridge_connects_to_a_page_that_does_not_know_its_encodings_yet() {
    let house = House::new();
    let mut ann = house.enter("Ann").await;
    let greeting = ann.greet().await;
    ann.on_text(ALL_ON).await.unwrap();
    let (version, sdp, _) = offer_in(&greeting).unwrap();
    let (sdp, encodings) = answer_to(&sdp, "ann", 100);
    let text = json!({ "type": "answer", "version": version, "sdp": sdp });
    ann.on_text(&text.to_string()).await.unwrap();
    assert_eq!(ann.told.transport.as_ref().unwrap().ufrag.as_deref(), Some("ann"));
    assert!(ann.told.sources.iter().all(|source| !source.id.ends_with("-v0")));
    let text = json!({ "type": "encodings", "encodings": encodings });
    ann.on_text(&text.to_string()).await.unwrap();
    let camera = ann.told.sources.iter().find(|source| source.id.ends_with("-v0")).unwrap();
    assert_eq!(camera.ssrc_groups[0].semantics, "SIM");
    assert_eq!(ann.room().sources_for("another").len(), 2, "microphone and camera");
}

#[tokio::test]
async fn there_is_one_offer_at_a_time() {
    let house = House::new();
    let mut ann = house.enter("Ann").await;
    let greeting = ann.greet().await;
    let (version, sdp, _) = offer_in(&greeting).unwrap();
    let mut bob = house.enter("Bob").await;
    let to_bob = bob.greet().await;
    bob.on_text(ALL_ON).await.unwrap();
    settle(&mut bob, &to_bob, "bob", 200).await;
    assert!(offer_in(&ann.on_room_change().await).is_none(), "the first waits for its answer");
    let (sdp, _) = answer_to(&sdp, "ann", 100);
    let stale = json!({ "type": "answer", "version": version + 7, "sdp": sdp });
    assert!(ann.on_text(&stale.to_string()).await.unwrap().is_empty());
    let text = json!({ "type": "answer", "version": version, "sdp": sdp });
    let next = ann.on_text(&text.to_string()).await.unwrap();
    assert_eq!(offer_in(&next).unwrap().2.len(), 2);
}

#[tokio::test]
async fn a_restart_offers_new_credentials() {
    let house = House::new();
    let mut ann = house.enter("Ann").await;
    let greeting = ann.greet().await;
    settle(&mut ann, &greeting, "ann", 100).await;
    let news = ann.on_text(r#"{"type":"restart"}"#).await.unwrap();
    let (version, sdp, _) = offer_in(&news).unwrap();
    assert_eq!(version, 2);
    assert_eq!(Description::parse(&sdp).unwrap().sections[0].transport.ufrag, "bridge1");
    settle(&mut ann, &news, "ann2", 100).await;
    assert_eq!(ann.told.transport.as_ref().unwrap().ufrag.as_deref(), Some("ann2"));
    assert_eq!(ann.told.transport.as_ref().unwrap().ice_generation, Some(1));
}

#[tokio::test]
async fn what_is_no_message_ends_the_session() {
    let house = House::new();
    let mut ann = house.enter("Ann").await;
    let greeting = ann.greet().await;
    assert!(matches!(ann.on_text("{").await, Err(SessionError::Message(_))));
    let (version, ..) = offer_in(&greeting).unwrap();
    let many = vec![json!({ "mid": "1", "ssrc": 1 }); 17];
    let many = json!({ "type": "answer", "version": version, "sdp": "v=0", "encodings": many });
    assert!(matches!(ann.on_text(&many.to_string()).await, Err(SessionError::TooManyEncodings)));
    let later =
        json!({ "type": "encodings", "encodings": vec![json!({ "mid": "1", "ssrc": 1 }); 17] });
    assert!(matches!(ann.on_text(&later.to_string()).await, Err(SessionError::TooManyEncodings)));
    let bad = json!({ "type": "answer", "version": version, "sdp": "v=1" });
    assert!(matches!(ann.on_text(&bad.to_string()).await, Err(SessionError::Answer(_))));
}

#[tokio::test]
async fn who_returns_to_an_empty_room_finds_a_conference() {
    let house = House::new();
    for _ in 0..3 {
        let ann = house.enter("Ann").await;
        let bob = house.enter("Bob").await;
        ann.close().await;
        bob.close().await;
    }
    let ann = house.enter("Ann").await;
    // The conference ends with its last endpoint while the room is still there.
    let mut expire = Colibri2Endpoint::new(ann.id());
    expire.expire = true;
    ann.modify(expire).await.unwrap();
    let bob = house.enter("Bob").await;
    assert!(house.bridge.watch(&bob.room().meeting_id).is_some());
}

#[tokio::test]
async fn a_page_that_does_not_answer_is_let_go() {
    let house = House::new();
    let mut ann = house.enter("Ann").await;
    let greeting = ann.greet().await;
    for _ in 0..MAX_ANSWER_TICKS {
        assert!(matches!(ann.on_tick().await, Ok(Some(ToPage::Bridge(_)))));
    }
    assert!(matches!(ann.on_tick().await, Err(SessionError::NoAnswer)));
    settle(&mut ann, &greeting, "ann", 100).await;
    assert!(ann.on_tick().await.is_ok());
}
