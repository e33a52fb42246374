//! What a change costs in a large conference: looks at sources and endpoints, counted. With twice the
//! participants it may be twice as many, and not four times.

use super::*;
use crate::{
    channel::ToBridge,
    conference::{speaker::SpeakerChange, work},
};

/// A conference of this many endpoints, each of which sends audio and video and named a few videos.
fn large(participants: u32) -> Room {
    let mut room = Room::new();
    for nth in 0..participants {
        join(&mut room, nth);
    }
    settle(&mut room);
    room
}

fn join(room: &mut Room, nth: u32) {
    let id = format!("e{nth}");
    let mut endpoint = Colibri2Endpoint {
        create: true,
        capabilities: vec![capability::SOURCE_NAMES.into()],
        transport: Some(Transport::default()),
        ..Colibri2Endpoint::new(&id)
    };
    endpoint.media =
        vec![media(MediaType::Audio, 111, "opus"), media(MediaType::Video, 100, "VP8")];
    ask(room, endpoint);
    let sources = [(MediaType::Audio, "a0"), (MediaType::Video, "v0")];
    let sources =
        sources.into_iter().zip([2 * nth + 1, 2 * nth + 2]).map(|((kind, name), ssrc)| {
            MediaSource {
                r#type: kind,
                id: format!("{id}-{name}"),
                synthetic: false,
                sources: vec![Source { ssrc, ..Source::default() }],
                ssrc_groups: Vec::new(),
            }
        });
    ask(room, Colibri2Endpoint { sources: Some(sources.collect()), ..Colibri2Endpoint::new(&id) });
    let wants = r#"{"colibriClass":"ReceiverVideoConstraints","lastN":9,
        "defaultConstraints":{"maxHeight":180},"onStageSources":["e1-v0"]}"#;
    let engine_id = room.conference.endpoint(&id).unwrap().engine_id;
    act(room, |conference, effects| {
        conference.channel_message(engine_id, ToBridge::parse(wants).unwrap(), effects).unwrap();
    });
}

fn media(kind: MediaType, id: u8, name: &str) -> Media {
    let payload_types = vec![PayloadType { id, name: name.into(), ..PayloadType::default() }];
    Media { r#type: kind, payload_types, rtp_hdrexts: Vec::new(), extmap_allow_mixed: false }
}

fn ask(room: &mut Room, endpoint: Colibri2Endpoint) {
    let endpoints = vec![endpoint];
    let request =
        ConferenceModify { meeting_id: "m".into(), endpoints, ..ConferenceModify::default() };
    let (now, mut effects) = (room.now, Effects::default());
    room.conference.modify(&request, &mut room.ids, now, &mut effects).unwrap();
    room.conference.send_constraints(&mut effects);
    room.conference.send_slots(&mut effects);
}

fn act(room: &mut Room, act: impl FnOnce(&mut Conference, &mut Effects)) -> Effects {
    let mut effects = Effects::default();
    act(&mut room.conference, &mut effects);
    room.conference.send_constraints(&mut effects);
    room.conference.send_slots(&mut effects);
    effects
}

/// What waits for the next tick is done.
fn settle(room: &mut Room) {
    room.now += std::time::Duration::from_millis(500);
    let now = room.now;
    act(room, |conference, effects| {
        conference.tick(now, &|_| Some(now), effects);
    });
}

/// How much of it a change is in a conference of 100 and in one of 200, with the tick that follows.
fn both(change: impl Fn(&mut Room, u32)) -> [usize; 2] {
    [100, 200].map(|participants| {
        let mut room = large(participants);
        work::take();
        change(&mut room, participants);
        settle(&mut room);
        work::take()
    })
}

fn is_linear([few, many]: [usize; 2]) {
    assert!(few > 0 && many < 5 * few / 2, "{few} of 100, {many} of 200");
}

#[test]
fn a_join_is_linear() {
    is_linear(both(join));
}

#[test]
fn a_leave_is_linear() {
    is_linear(both(|room, _| {
        act(room, |conference, effects| assert!(conference.expire_endpoint("e50", effects)));
    }));
}

#[test]
fn another_speaker_is_linear() {
    is_linear(both(|room, participants| {
        let speaker = format!("e{}", participants - 1);
        let dominant = room.conference.endpoint(&speaker).unwrap().engine_id;
        let change = SpeakerChange {
            dominant,
            previous: Vec::new(),
            silence: false,
            what: Changed::Speaker,
        };
        let effects =
            act(room, |conference, effects| conference.announce_speaker(&change, effects));
        let told = effects
            .controls
            .iter()
            .filter(|control| matches!(control, rialto_engine::Control::Subscribe { .. }));
        assert_eq!(told.count(), participants as usize - 1, "everybody sees who speaks");
    }));
}

#[test]
fn what_one_receiver_wants_is_linear() {
    is_linear(both(|room, _| {
        let wants = r#"{"colibriClass":"ReceiverVideoConstraints","lastN":9,
            "onStageSources":["e2-v0"],"defaultConstraints":{"maxHeight":360}}"#;
        let engine_id = room.conference.endpoint("e50").unwrap().engine_id;
        act(room, |conference, effects| {
            conference
                .channel_message(engine_id, ToBridge::parse(wants).unwrap(), effects)
                .unwrap();
        });
    }));
}

/// An unchanged measurement of each endpoint, once a second.
#[test]
fn what_is_measured_as_before_is_looked_at_once() {
    let mut room = large(50);
    let measured = |room: &Room| -> Vec<_> {
        let endpoints = room.conference.endpoints();
        let snapshot = |endpoint: &Endpoint| {
            let subscriptions =
                endpoint.subscriptions.keys().map(|source| rialto_engine::SubscriptionSnapshot {
                    source: *source,
                    current: Some(0),
                    target: Some(0),
                    bps: 1,
                    packets: 1,
                    retransmissions: 0,
                });
            rialto_engine::EndpointSnapshot {
                subscriptions: subscriptions.collect(),
                ..rialto_engine::EndpointSnapshot::silent(endpoint.engine_id)
            }
        };
        endpoints.map(snapshot).collect()
    };
    for expected in [true, false] {
        work::take();
        for snapshot in measured(&room) {
            act(&mut room, |conference, effects| conference.measured(snapshot, effects));
        }
        assert_eq!(work::take() > 0, expected);
    }
}

/// When all leave, no receiver is subscribed to others in the place of those that left.
#[test]
fn the_end_of_a_conference_gives_nobody_anything() {
    let mut room = large(30);
    let dominant = room.conference.endpoint("e0").unwrap().engine_id;
    let change =
        SpeakerChange { dominant, previous: Vec::new(), silence: false, what: Changed::Speaker };
    act(&mut room, |conference, effects| conference.announce_speaker(&change, effects));
    let effects = act(&mut room, Conference::expire);
    let subscribed = effects
        .controls
        .iter()
        .filter(|control| matches!(control, rialto_engine::Control::Subscribe { .. }));
    assert_eq!((subscribed.count(), effects.removed.len()), (0, 30));
}
