//! Channels of endpoints, without what carries them.

use rialto_engine::{Control, EndpointSnapshot, MediaEvent, ShardSnapshot, SubscriptionSnapshot};
use rialto_media::{EndpointId, SourceId};
use rialto_transport::TransportUpdate;
use serde_json::{Value, json};

use super::rig::{Rig, creation, rig, sources};
use crate::{
    bridge::{BridgeConfig, Channel},
    channel::{ChannelKind, Close, Dropped, Limits, Outgoing},
};

const MEETING: &str = "m";

/// A conference of two with channels, whose first messages have been taken.
pub(crate) async fn two() -> (Rig, Channel, Channel) {
    let rig =
        rig(BridgeConfig { announced_version: Some("Rialto 1".into()), ..BridgeConfig::default() });
    rig.create(MEETING, "alice").await.unwrap();
    rig.join(MEETING, "bob").await.unwrap();
    let alice = rig.bridge.open_channel(MEETING, "alice", ChannelKind::WebSocket).await.unwrap();
    let bob = rig.bridge.open_channel(MEETING, "bob", ChannelKind::Sctp).await.unwrap();
    assert_eq!(
        take_messages(&alice).await,
        [
            json!({"colibriClass": "ServerHello", "version": "Rialto 1"}),
            json!({"colibriClass": "ForwardedSources", "forwardedSources": []}),
        ]
    );
    assert_eq!(
        take_messages(&bob).await,
        [json!({"colibriClass": "ForwardedSources", "forwardedSources": []})],
        "over SCTP the client says hello first"
    );
    (rig, alice, bob)
}

/// Takes the messages that wait for a client, once its conference has handled earlier ones.
pub(crate) async fn take_messages(channel: &Channel) -> Vec<Value> {
    channel.conference.mailbox.ask(|_, _| ()).await;
    std::iter::from_fn(|| match channel.try_next()? {
        Outgoing::Text(text) => Some(serde_json::from_str(&text).unwrap()),
        Outgoing::Close(_) => None,
    })
    .collect()
}

async fn dropped(rig: &Rig, why: Dropped) -> u64 {
    rig.settle().await;
    rig.bridge.stats().channels.dropped[why as usize]
}

#[tokio::test(start_paused = true)]
async fn hello_is_answered() {
    let (_rig, alice, bob) = two().await;
    for channel in [&alice, &bob] {
        channel.received(r#"{"colibriClass":"ClientHello"}"#);
        assert_eq!(take_messages(channel).await[0]["colibriClass"], "ServerHello");
    }
    assert!(take_messages(&alice).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn messages_go_to_one_or_to_all_others() {
    let (rig, alice, bob) = two().await;
    rig.join(MEETING, "carol").await.unwrap();
    let carol = rig.bridge.open_channel(MEETING, "carol", ChannelKind::Sctp).await.unwrap();
    take_messages(&carol).await;
    alice.received(r#"{"colibriClass":"EndpointMessage","to":"bob","from":"carol","n":1}"#);
    let expected = json!({"colibriClass":"EndpointMessage","to":"bob","from":"alice","n":1});
    assert_eq!(take_messages(&bob).await, [expected]);
    alice.received(r#"{"colibriClass":"EndpointMessage","to":"","msgPayload":{"a":[1]}}"#);
    let expected =
        json!({"colibriClass":"EndpointMessage","to":"","from":"alice","msgPayload":{"a":[1]}});
    assert_eq!(take_messages(&bob).await, std::slice::from_ref(&expected));
    assert_eq!(take_messages(&carol).await, [expected]);
    bob.received(r#"{"colibriClass":"EndpointStats","from":"x","bitrate":{"upload":10}}"#);
    let expected = json!({"colibriClass":"EndpointStats","from":"bob","bitrate":{"upload":10}});
    assert_eq!(take_messages(&alice).await, std::slice::from_ref(&expected));
    assert_eq!(take_messages(&carol).await, [expected]);
    assert!(take_messages(&bob).await.is_empty());

    alice.received(r#"{"colibriClass":"EndpointMessage","to":"nobody"}"#);
    alice.received("not json");
    alice.received_binary(7);
    assert_eq!(dropped(&rig, Dropped::UnknownReceiver).await, 1);
    assert_eq!(dropped(&rig, Dropped::Malformed).await, 2);
    let counters = rig.bridge.stats().channels;
    assert_eq!((counters.web_socket_received, counters.sctp_received), (5, 1));
}

#[tokio::test(start_paused = true)]
async fn conferences_do_not_hear_each_other() {
    let (rig, alice, _bob) = two().await;
    rig.create("other", "bob").await.unwrap();
    let stranger = rig.bridge.open_channel("other", "bob", ChannelKind::Sctp).await.unwrap();
    take_messages(&stranger).await;
    alice.received(r#"{"colibriClass":"EndpointMessage","to":"","n":1}"#);
    alice.received(r#"{"colibriClass":"EndpointMessage","to":"bob","n":1}"#);
    assert!(take_messages(&stranger).await.is_empty());
    assert!(rig.bridge.open_channel("other", "alice", ChannelKind::Sctp).await.is_none());
    assert!(rig.bridge.open_channel("none", "alice", ChannelKind::Sctp).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn visitors_receive_messages_and_send_none() {
    let (rig, alice, bob) = two().await;
    let mut request = creation(MEETING, "visitor");
    request["endpoints"][0]["muc-role"] = "visitor".into();
    rig.ask(&request).await.unwrap();
    let visitor =
        rig.bridge.open_channel(MEETING, "visitor", ChannelKind::WebSocket).await.unwrap();
    take_messages(&visitor).await;
    for message in [
        r#"{"colibriClass":"EndpointMessage","to":""}"#,
        r#"{"colibriClass":"EndpointMessage","to":"bob"}"#,
        r#"{"colibriClass":"EndpointStats"}"#,
    ] {
        visitor.received(message);
    }
    assert!(take_messages(&alice).await.is_empty());
    assert!(take_messages(&bob).await.is_empty());
    assert_eq!(dropped(&rig, Dropped::Visitor).await, 3);
    alice.received(r#"{"colibriClass":"EndpointMessage","to":"visitor"}"#);
    assert_eq!(take_messages(&visitor).await.len(), 1);
    visitor.received(r#"{"colibriClass":"LastNChangedEvent","lastN":2}"#);
    assert_eq!(wishes(&rig, "visitor").await["lastN"], 2);
}

/// The receiver constraints of an endpoint in `/debug`.
async fn wishes(rig: &Rig, endpoint: &str) -> Value {
    let debug = rig.bridge.debug(true).await;
    let conference = debug["conferences"].as_object().unwrap().values().next().unwrap();
    conference["endpoints"][endpoint]["wishes"].clone()
}

#[tokio::test(start_paused = true)]
async fn what_receivers_ask_for_is_kept_and_shown() {
    let (rig, alice, _bob) = two().await;
    rig.ask(&sources(MEETING, "alice", 100)).await.unwrap();
    alice.received(
        r#"{"colibriClass":"ReceiverVideoConstraints","lastN":3,"selectedSources":["bob-v0"],
            "constraints":{"bob-v0":{"maxHeight":720}}}"#,
    );
    alice.received(
        r#"{"colibriClass":"ReceiverAudioSubscription","mode":"Exclude","list":["bob-a0"]}"#,
    );
    alice.received(
        r#"{"colibriClass":"SourceVideoTypeMessage","videoType":"DESKTOP","sourceName":"alice-v0"}"#,
    );
    let wishes = wishes(&rig, "alice").await;
    assert_eq!(wishes["lastN"], 3);
    assert_eq!(wishes["defaultConstraints"]["maxHeight"], 180);
    assert_eq!(wishes["constraints"]["bob-v0"]["maxHeight"], 720);
    assert_eq!(wishes["audio"]["exclude"], json!(["bob-a0"]));
    let debug = rig.bridge.debug(true).await;
    let conference = debug["conferences"].as_object().unwrap().values().next().unwrap();
    let alice = &conference["endpoints"]["alice"];
    assert_eq!(alice["sources"][1]["video_type"], "desktop");
    assert_eq!(alice["channels"], json!(["websocket"]));
}

#[tokio::test(start_paused = true)]
async fn channels_are_replaced_and_end_with_the_endpoint() {
    let (rig, alice, bob) = two().await;
    let second = rig.bridge.open_channel(MEETING, "alice", ChannelKind::WebSocket).await.unwrap();
    assert_eq!(alice.try_next(), Some(Outgoing::Close(Close::Replaced)));
    alice.received(r#"{"colibriClass":"EndpointMessage","to":""}"#);
    drop(alice);
    assert!(take_messages(&bob).await.is_empty());
    second.received(r#"{"colibriClass":"EndpointMessage","to":""}"#);
    assert_eq!(take_messages(&bob).await.len(), 1);
    take_messages(&second).await;
    rig.ask(&json!({"meeting-id": MEETING, "endpoints": [{"id": "alice", "expire": true}]}))
        .await
        .unwrap();
    assert_eq!(second.try_next(), Some(Outgoing::Close(Close::Expired)));
    rig.bridge.expire_all().await;
    assert_eq!(bob.try_next(), Some(Outgoing::Close(Close::Expired)));
}

/// Of two open channels, the bridge uses the one over which the endpoint's last message came.
#[tokio::test(start_paused = true)]
async fn the_channel_of_the_last_message_is_used() {
    let (rig, alice, bob) = two().await;
    let socket = &alice;
    let sctp = rig.bridge.open_channel(MEETING, "alice", ChannelKind::Sctp).await.unwrap();
    take_messages(&sctp).await;
    for (speaks, silent) in [(socket, &sctp), (&sctp, socket), (socket, &sctp)] {
        speaks.received(r#"{"colibriClass":"ClientHello"}"#);
        bob.received(r#"{"colibriClass":"EndpointMessage","to":"alice"}"#);
        assert_eq!(take_messages(speaks).await.len(), 2);
        assert!(take_messages(silent).await.is_empty());
    }
    drop(alice);
    bob.received(r#"{"colibriClass":"EndpointMessage","to":"alice"}"#);
    assert_eq!(take_messages(&sctp).await.len(), 1, "the one that is left");
}

/// With `enable-silence-detection`.
#[tokio::test(start_paused = true)]
async fn clients_hear_that_nobody_speaks() {
    let three = std::time::Duration::from_secs(3);
    let tenth = three / 30;
    let silence_after = Some(three);
    let rig = rig(BridgeConfig { silence_after, ..BridgeConfig::default() });
    rig.create(MEETING, "alice").await.unwrap();
    rig.join(MEETING, "bob").await.unwrap();
    let bob = rig.bridge.open_channel(MEETING, "bob", ChannelKind::WebSocket).await.unwrap();
    let speaks = async |level: u8| {
        for word in 0..20 {
            let level = if word % 10 == 0 { 100 } else { level };
            let (endpoint, source) = (EndpointId(1), SourceId(1));
            rig.media.send(MediaEvent::AudioLevel { endpoint, source, level }).await.unwrap();
            tokio::time::sleep(tenth).await;
        }
    };
    let told = async |channel: &Channel| {
        let all = take_messages(channel).await.into_iter();
        let speaker = all.filter(|m| m["colibriClass"] == "DominantSpeakerEndpointChangeEvent");
        speaker.collect::<Vec<Value>>()
    };
    let message = |silence: bool| {
        json!({"colibriClass": "DominantSpeakerEndpointChangeEvent",
            "dominantSpeakerEndpoint": "alice", "previousSpeakers": [], "silence": silence})
    };
    speaks(27).await;
    assert_eq!(told(&bob).await, [message(false)]);
    tokio::time::sleep(three + tenth * 10).await;
    assert_eq!(told(&bob).await, [message(true)]);
    let late = rig.bridge.open_channel(MEETING, "alice", ChannelKind::Sctp).await.unwrap();
    assert_eq!(told(&late).await, [message(true)], "who comes later hears how it is");
    speaks(27).await;
    assert_eq!(told(&bob).await, [message(false)]);
    assert_eq!(rig.bridge.stats().total_dominant_speaker_changes, 1);
}

/// An endpoint that sends without end takes no memory and delays no other.
#[tokio::test(start_paused = true)]
async fn a_million_messages_are_counted_and_harm_nobody() {
    const MILLION: u64 = 1_000_000;
    let (rig, alice, bob) = two().await;
    rig.join(MEETING, "carol").await.unwrap();
    let carol = rig.bridge.open_channel(MEETING, "carol", ChannelKind::Sctp).await.unwrap();
    take_messages(&carol).await;
    let head = r#"{"colibriClass":"EndpointMessage","to":"","x":""#;
    let flood = format!("{head}{}\"}}", "x".repeat((64 << 10) - head.len() - 2));
    assert_eq!(flood.len(), 64 << 10);
    for n in 0..MILLION {
        alice.received(&flood);
        if n.is_multiple_of(MILLION / 10) {
            carol.received(r#"{"colibriClass":"EndpointMessage","to":"alice"}"#);
            assert_eq!(take_messages(&alice).await.len(), 1, "carol is heard meanwhile");
        }
    }
    // A burst of 1 MiB passed, of which bob, who reads nothing, keeps no more than that.
    let waiting: usize =
        take_messages(&bob).await.iter().map(|message| message.to_string().len()).sum();
    assert!((512 << 10..=1 << 20).contains(&waiting), "{waiting}");
    let counters = rig.bridge.stats().channels;
    assert_eq!(counters.web_socket_received, MILLION);
    assert_eq!(dropped(&rig, Dropped::RateLimited).await, MILLION - 16);
    carol.received(r#"{"colibriClass":"EndpointMessage","to":"bob"}"#);
    assert_eq!(take_messages(&bob).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn connectivity_is_sent_and_sent_again_to_later_endpoints() {
    let (rig, alice, bob) = two().await;
    rig.updates.send(TransportUpdate::Ready { endpoint: EndpointId(1) }).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(15_600)).await;
    let status = |endpoint: &str, active: &str| {
        json!({
            "colibriClass": "EndpointConnectivityStatusChangeEvent",
            "endpoint": endpoint,
            "active": active,
        })
    };
    assert_eq!(take_messages(&alice).await, [status("bob", "false")]);
    assert_eq!(take_messages(&bob).await, [status("bob", "false")]);
    let again = rig.bridge.open_channel(MEETING, "alice", ChannelKind::Sctp).await.unwrap();
    assert_eq!(take_messages(&again).await[0], status("bob", "false"));
    rig.updates.send(TransportUpdate::Ready { endpoint: EndpointId(2) }).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    assert_eq!(take_messages(&again).await, [status("bob", "true")]);
}

#[tokio::test(start_paused = true)]
async fn forwarded_sources_are_sent_when_they_change() {
    let (rig, alice, bob) = two().await;
    rig.ask(&sources(MEETING, "alice", 100)).await.unwrap();
    let subscription = |source, target| SubscriptionSnapshot {
        source: SourceId(source),
        current: None,
        target,
        bps: 0,
        packets: 0,
        retransmissions: 0,
    };
    let snapshot = |target| {
        MediaEvent::Snapshot(Box::new(ShardSnapshot {
            endpoints: vec![EndpointSnapshot {
                subscriptions: vec![subscription(1, Some(0)), subscription(2, target)],
                ..EndpointSnapshot::silent(EndpointId(2))
            }],
            ..ShardSnapshot::default()
        }))
    };
    let mut told = Vec::new();
    for target in [Some(1), Some(0), None] {
        rig.media.send(snapshot(target)).await.unwrap();
        // Of what a conference has not looked at yet the latest counts.
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        told.extend(take_messages(&bob).await);
    }
    let forwarded =
        |names: &[&str]| json!({"colibriClass": "ForwardedSources", "forwardedSources": names});
    assert_eq!(told, [forwarded(&["alice-v0"]), forwarded(&[])]);
    assert!(take_messages(&alice).await.is_empty());
}

/// The subscriptions of a receiver that began and ended since the last call.
async fn changes(rig: &Rig, receiver: u32) -> (Vec<u32>, Vec<u32>) {
    let (mut begun, mut ended) = (Vec::new(), Vec::new());
    for control in rig.take_controls().await {
        match control {
            Control::Subscribe { receiver: EndpointId(id), source, .. } if id == receiver => {
                begun.push(source.0);
            }
            Control::Unsubscribe { receiver: EndpointId(id), source } if id == receiver => {
                ended.push(source.0);
            }
            _ => {}
        }
    }
    (begun, ended)
}

/// Alice sends 1 (audio) and 2 (video), carol 3 and 4; bob, the second endpoint, receives.
async fn two_senders() -> (Rig, Channel) {
    let (rig, _, bob) = two().await;
    rig.join(MEETING, "carol").await.unwrap();
    rig.ask(&sources(MEETING, "alice", 100)).await.unwrap();
    rig.ask(&sources(MEETING, "carol", 200)).await.unwrap();
    assert_eq!(changes(&rig, 2).await, (vec![1, 2, 3, 4], vec![]));
    (rig, bob)
}

#[tokio::test(start_paused = true)]
async fn what_nobody_wants_is_not_forwarded() {
    let (rig, bob) = two_senders().await;
    bob.received(r#"{"colibriClass":"ReceiverVideoConstraints"}"#);
    assert_eq!(changes(&rig, 2).await, (vec![2, 4], vec![]), "the same at another height");
    bob.received(
        r#"{"colibriClass":"ReceiverVideoConstraints","constraints":{"alice-v0":{"maxHeight":0}}}"#,
    );
    assert_eq!(changes(&rig, 2).await, (vec![], vec![2]));
    bob.received(
        r#"{"colibriClass":"ReceiverVideoConstraints","defaultConstraints":{"maxHeight":0},
            "constraints":{"alice-v0":{"maxHeight":360}}}"#,
    );
    assert_eq!(changes(&rig, 2).await, (vec![2], vec![4]));
    bob.received(
        r#"{"colibriClass":"ReceiverAudioSubscription","mode":"Exclude","list":["alice-a0"]}"#,
    );
    assert_eq!(changes(&rig, 2).await, (vec![], vec![1]));
    bob.received(r#"{"colibriClass":"ReceiverAudioSubscription","all":true}"#);
    assert_eq!(changes(&rig, 2).await, (vec![1], vec![]));
    // What comes later is not forwarded either.
    rig.join(MEETING, "dave").await.unwrap();
    rig.ask(&sources(MEETING, "dave", 300)).await.unwrap();
    assert_eq!(changes(&rig, 2).await, (vec![5], vec![]));
}

/// The audio that a receiver newly gets, and whether it requested it by name.
async fn audio_terms(rig: &Rig, receiver: u32) -> Vec<(u32, bool)> {
    let told = rig.take_controls().await.into_iter().filter_map(|control| match control {
        Control::Subscribe { receiver: EndpointId(id), source, terms } if id == receiver => {
            Some((source.0, terms.included))
        }
        _ => None,
    });
    told.collect()
}

#[tokio::test(start_paused = true)]
async fn audio_that_is_asked_for_by_name_is_known_to_be() {
    let (rig, bob) = two_senders().await;
    let subscribe = |fields: &str| {
        bob.received(&format!(r#"{{"colibriClass":"ReceiverAudioSubscription",{fields}}}"#));
    };
    subscribe(r#""all":true,"include":["alice-a0","nobody-a0"]"#);
    assert_eq!(audio_terms(&rig, 2).await, [(1, true)]);
    subscribe(r#""include":["carol-a0"],"exclude":["alice-a0"]"#);
    assert_eq!(audio_terms(&rig, 2).await, [(3, true)]);
    subscribe(r#""all":true,"include":["carol-a0"],"exclude":["carol-a0"]"#);
    assert_eq!(changes(&rig, 2).await, (vec![1], vec![3]), "excluded is more than included");
    subscribe(r#""mode":"None""#);
    assert_eq!(changes(&rig, 2).await, (vec![], vec![1]));
    subscribe(r#""mode":"Include","list":["nobody-a0"]"#);
    assert_eq!(changes(&rig, 2).await, (vec![], vec![]), "to nobody");
    // What is not read changes nothing, and is counted.
    let before = dropped(&rig, Dropped::Malformed).await;
    let many: Vec<String> = (0..2_000).map(|name| format!("{name}-a0")).collect();
    subscribe(&format!(r#""all":true,"exclude":{}"#, json!(many)));
    assert_eq!(dropped(&rig, Dropped::Malformed).await, before + 1);
    assert_eq!(changes(&rig, 2).await, (vec![], vec![]));
    assert_eq!(wishes(&rig, "bob").await["audio"]["include"], json!(["nobody-a0"]));
    // An endpoint that joins later has the type that was signalled before.
    subscribe(r#""include":["dave-a0"]"#);
    rig.join(MEETING, "dave").await.unwrap();
    rig.ask(&sources(MEETING, "dave", 300)).await.unwrap();
    assert_eq!(audio_terms(&rig, 2).await, [(5, true), (6, false)]);
}

#[tokio::test(start_paused = true)]
async fn last_n_takes_the_named_first_and_then_those_who_came_first() {
    let (rig, bob) = two_senders().await;
    bob.received(r#"{"colibriClass":"LastNChangedEvent","lastN":1}"#);
    assert_eq!(changes(&rig, 2).await, (vec![], vec![4]));
    bob.received(r#"{"colibriClass":"ReceiverVideoConstraints","selectedSources":["carol-v0"]}"#);
    assert_eq!(changes(&rig, 2).await, (vec![4], vec![2]));
    bob.received(
        r#"{"colibriClass":"ReceiverVideoConstraints","onStageSources":["alice-v0","bob-v0"]}"#,
    );
    assert_eq!(changes(&rig, 2).await, (vec![2], vec![4]));
    bob.received(r#"{"colibriClass":"ReceiverVideoConstraints","lastN":0}"#);
    assert_eq!(changes(&rig, 2).await, (vec![], vec![2]));
    bob.received(r#"{"colibriClass":"ReceiverVideoConstraints","lastN":1}"#);
    assert_eq!(changes(&rig, 2).await, (vec![2], vec![]));
    // Who leaves makes room; a video that shows nothing takes none.
    rig.ask(&json!({"meeting-id": MEETING, "endpoints": [{"id": "alice", "expire": true}]}))
        .await
        .unwrap();
    assert_eq!(changes(&rig, 2).await, (vec![4], vec![]));
    let carol = rig.bridge.open_channel(MEETING, "carol", ChannelKind::Sctp).await.unwrap();
    rig.join(MEETING, "dave").await.unwrap();
    rig.ask(&sources(MEETING, "dave", 300)).await.unwrap();
    assert_eq!(changes(&rig, 2).await, (vec![5], vec![]));
    carol.received(
        r#"{"colibriClass":"SourceVideoTypeMessage","videoType":"none","sourceName":"carol-v0"}"#,
    );
    assert_eq!(changes(&rig, 2).await, (vec![6], vec![]));
    bob.received(r#"{"colibriClass":"ReceiverVideoConstraints","lastN":-1}"#);
    assert_eq!(changes(&rig, 2).await, (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn the_focus_says_what_last_n_is_at_first() {
    let rig = rig(BridgeConfig::default());
    rig.create(MEETING, "alice").await.unwrap();
    rig.ask(&sources(MEETING, "alice", 100)).await.unwrap();
    let mut request = creation(MEETING, "bob");
    request["endpoints"][0]["initial-last-n"] = json!({"value": 0});
    rig.ask(&request).await.unwrap();
    assert_eq!(changes(&rig, 2).await, (vec![1], vec![]));
    let bob = rig.bridge.open_channel(MEETING, "bob", ChannelKind::Sctp).await.unwrap();
    bob.received(r#"{"colibriClass":"ReceiverVideoConstraints","lastN":-1}"#);
    assert_eq!(changes(&rig, 2).await, (vec![2], vec![]));
}

/// The sender constraints that a sender got.
async fn demand(channel: &Channel) -> Vec<(String, i64)> {
    let constraints = take_messages(channel).await.into_iter().filter_map(|message| {
        let height = message.get("maxHeight")?.as_i64()?;
        Some((message["sourceName"].as_str()?.to_owned(), height))
    });
    constraints.collect()
}

#[tokio::test(start_paused = true)]
async fn senders_hear_what_is_wanted_of_them() {
    let (rig, alice, bob) = two().await;
    rig.ask(&sources(MEETING, "alice", 100)).await.unwrap();
    let alices = |height: i64| vec![("alice-v0".to_owned(), height)];
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    assert_eq!(demand(&alice).await, alices(180), "bob may still say what it wants");
    rig.updates.send(TransportUpdate::Ready { endpoint: EndpointId(2) }).unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(demand(&alice).await, alices(2160), "nobody has set a bound");
    let want = |height: i32| {
        bob.received(&format!(
            r#"{{"colibriClass":"ReceiverVideoConstraints","defaultConstraints":{{"maxHeight":{height}}}}}"#
        ));
    };
    want(720);
    assert_eq!(demand(&alice).await, alices(720));
    want(720);
    assert_eq!(demand(&alice).await, []);
    want(0);
    assert_eq!(demand(&alice).await, alices(0));
    let again = rig.bridge.open_channel(MEETING, "alice", ChannelKind::Sctp).await.unwrap();
    assert_eq!(demand(&again).await, alices(0));
    rig.join(MEETING, "carol").await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    assert_eq!(demand(&again).await, alices(180));
    rig.updates.send(TransportUpdate::Ready { endpoint: EndpointId(3) }).unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(demand(&again).await, alices(2160));
    assert_eq!(demand(&bob).await, []);
}

#[tokio::test(start_paused = true)]
async fn senders_hear_of_a_newcomer_when_it_has_spoken() {
    let (rig, alice, bob) = two().await;
    rig.ask(&sources(MEETING, "alice", 100)).await.unwrap();
    let alices = |height: i64| vec![("alice-v0".to_owned(), height)];
    let second = std::time::Duration::from_secs(1);
    let want = |channel: &Channel, height: i32| {
        channel.received(&format!(
            r#"{{"colibriClass":"ReceiverVideoConstraints","defaultConstraints":{{"maxHeight":{height}}}}}"#
        ));
    };
    want(&bob, 180);
    assert_eq!(demand(&alice).await, alices(180));
    rig.join(MEETING, "carol").await.unwrap();
    // However long it takes to connect: nothing reaches it before.
    tokio::time::sleep(10 * second).await;
    rig.updates.send(TransportUpdate::Ready { endpoint: EndpointId(3) }).unwrap();
    tokio::time::sleep(second / 4).await;
    let carol = rig.bridge.open_channel(MEETING, "carol", ChannelKind::Sctp).await.unwrap();
    assert_eq!(demand(&alice).await, []);
    want(&carol, 180);
    assert_eq!(demand(&alice).await, [], "it wants what the others get");
    want(&carol, 720);
    assert_eq!(demand(&alice).await, alices(720), "others' wishes count at once");
    // A newcomer that can receive and sends no constraints counts as unbounded after a moment.
    rig.join(MEETING, "dave").await.unwrap();
    rig.updates.send(TransportUpdate::Ready { endpoint: EndpointId(4) }).unwrap();
    tokio::time::sleep(second / 2).await;
    assert_eq!(demand(&alice).await, []);
    tokio::time::sleep(2 * second).await;
    assert_eq!(demand(&alice).await, alices(2160));
}

#[tokio::test(start_paused = true)]
async fn last_n_of_the_configuration_holds_until_somebody_says() {
    let rig = rig(BridgeConfig { initial_last_n: 0, ..BridgeConfig::default() });
    rig.create(MEETING, "alice").await.unwrap();
    rig.join(MEETING, "bob").await.unwrap();
    rig.ask(&sources(MEETING, "alice", 100)).await.unwrap();
    assert_eq!(changes(&rig, 2).await, (vec![1], vec![]));
    let request = json!({"id": "bob", "initial-last-n": {"value": 1}});
    rig.ask(&json!({"meeting-id": MEETING, "endpoints": [request]})).await.unwrap();
    assert_eq!(changes(&rig, 2).await, (vec![2], vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_conference_without_channels_is_noticed_once() {
    let now = || tokio::time::Instant::now().into_std();
    let late = std::time::Duration::from_secs(31);
    for (opens, expected) in [(false, true), (true, false)] {
        let rig = rig(BridgeConfig::default());
        rig.create(MEETING, "alice").await.unwrap();
        rig.updates.send(TransportUpdate::Ready { endpoint: EndpointId(1) }).unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        let channel = rig.bridge.open_channel(MEETING, "alice", ChannelKind::Sctp);
        let _channel = if opens { channel.await } else { None };
        let handle = rig.bridge.inner.registry.by_meeting(MEETING).unwrap();
        let lacks =
            async |at| handle.mailbox.ask(move |task, _| task.conference.lacks_channels(at)).await;
        assert_eq!(lacks(now()).await, Some(false), "there is time");
        assert_eq!(lacks(now() + late).await, Some(expected));
        assert_eq!(lacks(now() + late + late).await, Some(false), "once");
    }
}

/// The bounds of a receiver's videos, by source.
async fn bounds(rig: &Rig, receiver: u32) -> Vec<(u32, Option<u16>)> {
    let bounds = rig.take_controls().await.into_iter().filter_map(|control| match control {
        Control::Subscribe { receiver: EndpointId(id), source, terms } if id == receiver => {
            Some((source.0, terms.max_height))
        }
        _ => None,
    });
    bounds.collect()
}

#[tokio::test(start_paused = true)]
async fn the_engine_hears_how_high_receivers_want_videos() {
    let (rig, bob) = two_senders().await;
    bob.received(
        r#"{"colibriClass":"ReceiverVideoConstraints","onStageSources":["carol-v0"],
            "constraints":{"carol-v0":{"maxHeight":720}}}"#,
    );
    assert_eq!(bounds(&rig, 2).await, [(2, Some(180)), (4, Some(720))], "audio has no height");
    bob.received(
        r#"{"colibriClass":"ReceiverVideoConstraints","defaultConstraints":{"maxHeight":-1}}"#,
    );
    assert_eq!(bounds(&rig, 2).await, [(2, None)]);
    let debug = rig.bridge.debug(true).await;
    let conference = debug["conferences"].as_object().unwrap().values().next().unwrap();
    let shown = conference["endpoints"]["bob"]["receives"].as_array().unwrap();
    let carols = shown.iter().find(|source| source["name"] == "carol-v0").unwrap();
    assert_eq!(carols["max_height"], 720);
    bob.received(r#"{"colibriClass":"ReceiverVideoConstraints","lastN":1}"#);
    assert_eq!(changes(&rig, 2).await, (vec![], vec![2]));
    bob.received(
        r#"{"colibriClass":"ReceiverVideoConstraints","constraints":{"carol-v0":{"maxHeight":720,"maxFrameRate":0}}}"#,
    );
    assert_eq!(changes(&rig, 2).await, (vec![2], vec![4]), "no frames are wanted of it");
}

#[tokio::test(start_paused = true)]
async fn the_configuration_bounds_what_receivers_get() {
    let limits = Limits { initial_max_height: Some(0), default_max_height: 90, last_n: Some(1) };
    let rig = rig(BridgeConfig { limits, ..BridgeConfig::default() });
    rig.create(MEETING, "alice").await.unwrap();
    rig.join(MEETING, "bob").await.unwrap();
    rig.ask(&sources(MEETING, "alice", 100)).await.unwrap();
    assert_eq!(bounds(&rig, 2).await, [(1, None)], "no video before it asks");
    let bob = rig.bridge.open_channel(MEETING, "bob", ChannelKind::Sctp).await.unwrap();
    bob.received(r#"{"colibriClass":"ReceiverVideoConstraints","lastN":-1}"#);
    assert_eq!(bounds(&rig, 2).await, [(2, Some(90))]);
    rig.join(MEETING, "carol").await.unwrap();
    rig.ask(&sources(MEETING, "carol", 200)).await.unwrap();
    assert_eq!(bounds(&rig, 2).await, [(3, None)], "one video at most");
}

#[tokio::test(start_paused = true)]
async fn a_video_type_may_come_before_its_source_and_stays() {
    let (rig, alice, _bob) = two().await;
    let shown = async |rig: &Rig| {
        let debug = rig.bridge.debug(true).await;
        let conference = debug["conferences"].as_object().unwrap().values().next().unwrap();
        conference["endpoints"]["alice"]["sources"][1]["video_type"].clone()
    };
    alice.received(r#"{"colibriClass":"VideoTypeMessage","videoType":"desktop"}"#);
    rig.ask(&sources(MEETING, "alice", 100)).await.unwrap();
    assert_eq!(shown(&rig).await, "desktop");
    alice.received(
        r#"{"colibriClass":"SourceVideoTypeMessage","videoType":"None","sourceName":"alice-v0"}"#,
    );
    assert_eq!(shown(&rig).await, "none");
    rig.ask(&sources(MEETING, "alice", 300)).await.unwrap();
    assert_eq!(shown(&rig).await, "none", "other SSRCs, the same video");
    for n in 0..1000 {
        alice.received(&format!(
            r#"{{"colibriClass":"SourceVideoTypeMessage","videoType":"camera","sourceName":"{n}"}}"#
        ));
    }
    assert_eq!(shown(&rig).await, "none");
}

#[tokio::test(start_paused = true)]
async fn a_blank_receiver_is_everybody() {
    let (_rig, alice, bob) = two().await;
    alice.received(r#"{"colibriClass":"EndpointMessage","to":"  ","n":1}"#);
    assert_eq!(take_messages(&bob).await.len(), 1);
}
