//! What time and the engine do: expiry, activity, speakers, numbers, shutdown. Time is virtual.

use std::time::Duration;

use rialto_engine::{
    Control, EndpointSnapshot, MediaEvent, ShardSnapshot, ShardTotals, SourceSnapshot,
    SubscriptionSnapshot,
};
use rialto_media::{EndpointId, Mid, SourceId};
use rialto_transport::{FailReason, TransportUpdate};
use serde_json::{Value, json};
use tokio::{sync::broadcast::Receiver, time::sleep};

use super::rig::{Rig, creation, rig, sources};
use crate::{
    bridge::{BridgeConfig, ConferenceEvent, HealthConfig, LoadConfig, Measure, ShutdownState},
    channel::ChannelKind,
};

const M: &str = "meeting";
const ALICE: EndpointId = EndpointId(1);
const BOB: EndpointId = EndpointId(2);

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Takes the events since the last call, once everything that was sent has been handled.
async fn take_events(events: &mut Receiver<ConferenceEvent>) -> Vec<ConferenceEvent> {
    sleep(Duration::from_millis(1)).await;
    std::iter::from_fn(|| events.try_recv().ok()).collect()
}

fn about(endpoint: &str) -> String {
    endpoint.to_owned()
}

fn now() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}

pub(super) fn measured(endpoint: EndpointId) -> EndpointSnapshot {
    EndpointSnapshot { last_received: Some(now()), ..EndpointSnapshot::silent(endpoint) }
}

async fn report(rig: &Rig, shard: u16, endpoints: Vec<EndpointSnapshot>) {
    let totals = ShardTotals { rtp_sent: 10, ..ShardTotals::default() };
    let drops = vec![("replayed", 2), ("truncated", u64::from(shard))];
    let snapshot = ShardSnapshot { shard, totals, drops, endpoints, ..ShardSnapshot::default() };
    rig.media.send(MediaEvent::Snapshot(Box::new(snapshot))).await.unwrap();
    sleep(Duration::from_millis(1)).await;
}

async fn two() -> (Rig, Receiver<ConferenceEvent>) {
    let rig = rig(BridgeConfig::default());
    rig.create(M, "alice").await.unwrap();
    rig.join(M, "bob").await.unwrap();
    let events = rig.bridge.watch(M).unwrap();
    (rig, events)
}

#[tokio::test(start_paused = true)]
async fn an_empty_conference_expires_after_its_time_to_fill() {
    let rig = rig(BridgeConfig::default());
    sleep(seconds(45)).await;
    rig.ask(&json!({ "meeting-id": M, "create": true })).await.unwrap();
    let mut events = rig.bridge.watch(M).unwrap();
    sleep(seconds(16)).await;
    assert!(rig.bridge.conference_exists(M), "looked at after 15 s");
    sleep(seconds(60)).await;
    assert!(!rig.bridge.conference_exists(M));
    assert_eq!(take_events(&mut events).await, [ConferenceEvent::ConferenceExpired]);
    let stats = rig.bridge.stats();
    assert_eq!((stats.conferences, stats.total_conferences_completed), (0, 1));
    assert_eq!(stats.total_conference_seconds, 75);
}

#[tokio::test(start_paused = true)]
async fn a_conference_that_the_last_one_leaves_is_gone_with_the_answer() {
    let (rig, mut events) = two().await;
    let expire = |id: &str| json!({ "meeting-id": M, "endpoints": [{ "id": id, "expire": true }] });
    rig.ask(&expire("bob")).await.unwrap();
    assert!(rig.bridge.conference_exists(M));
    rig.ask(&expire("alice")).await.unwrap();
    assert!(!rig.bridge.conference_exists(M));
    assert_eq!(
        take_events(&mut events).await,
        [
            ConferenceEvent::EndpointExpired { endpoint: about("bob") },
            ConferenceEvent::EndpointExpired { endpoint: about("alice") },
            ConferenceEvent::ConferenceExpired,
        ]
    );
    assert_eq!(rig.transports.calls(1), ["create alice true false", "remove"]);
    rig.create(M, "alice").await.expect("the meeting may begin again");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_never_connects_expires() {
    let (rig, mut events) = two().await;
    rig.updates.send(TransportUpdate::Ready { endpoint: BOB }).unwrap();
    assert_eq!(
        take_events(&mut events).await,
        [ConferenceEvent::EndpointConnected { endpoint: about("bob") }]
    );
    sleep(seconds(16)).await;
    assert_eq!(
        take_events(&mut events).await,
        [ConferenceEvent::EndpointDisconnected { endpoint: about("alice") }]
    );
    assert_eq!(rig.bridge.stats().endpoints_disconnected, 0, "it never was connected");
    sleep(seconds(90)).await;
    assert!(rig.bridge.endpoint_view(M, "alice").await.is_some());
    sleep(seconds(80)).await;
    assert!(rig.bridge.endpoint_view(M, "alice").await.is_none());
    assert!(rig.bridge.endpoint_view(M, "bob").await.is_some());
    assert_eq!(
        take_events(&mut events).await,
        [ConferenceEvent::EndpointExpired { endpoint: about("alice") }]
    );
}

#[tokio::test(start_paused = true)]
async fn a_failed_transport_takes_its_endpoint_along() {
    let (rig, mut events) = two().await;
    let reason = FailReason::IceTimeout;
    rig.updates.send(TransportUpdate::Failed { endpoint: ALICE, reason }).unwrap();
    sleep(seconds(1)).await;
    assert_eq!(rig.bridge.stats().endpoints_ice_failed, 1);
    sleep(seconds(60)).await;
    assert_eq!(rig.bridge.stats().endpoints_ice_failed, 1, "a counter never falls");
    assert!(rig.bridge.endpoint_view(M, "alice").await.is_none());
    let gone = ConferenceEvent::EndpointExpired { endpoint: about("alice") };
    assert!(take_events(&mut events).await.contains(&gone));
}

#[tokio::test(start_paused = true)]
async fn a_dead_peer_goes_silent_and_then_away() {
    let (rig, mut events) = two().await;
    for endpoint in [ALICE, BOB] {
        rig.updates.send(TransportUpdate::Ready { endpoint }).unwrap();
    }
    sleep(seconds(100)).await;
    assert_eq!(take_events(&mut events).await.len(), 2, "consent alone keeps both");
    rig.updates.send(TransportUpdate::Disconnected { endpoint: ALICE }).unwrap();
    sleep(seconds(1)).await;
    let silent = ConferenceEvent::EndpointDisconnected { endpoint: about("alice") };
    assert_eq!(take_events(&mut events).await, std::slice::from_ref(&silent));
    rig.updates.send(TransportUpdate::Connected { endpoint: ALICE }).unwrap();
    sleep(seconds(1)).await;
    let back = ConferenceEvent::EndpointConnected { endpoint: about("alice") };
    assert_eq!(take_events(&mut events).await, [back]);
    assert!(rig.bridge.endpoint_view(M, "alice").await.unwrap().connected, "DTLS needs no other");
    rig.updates.send(TransportUpdate::Disconnected { endpoint: ALICE }).unwrap();
    sleep(seconds(9)).await;
    assert_eq!(take_events(&mut events).await, std::slice::from_ref(&silent));
    report(&rig, 0, vec![measured(ALICE)]).await;
    sleep(seconds(1)).await;
    let back = ConferenceEvent::EndpointConnected { endpoint: about("alice") };
    assert_eq!(take_events(&mut events).await, [back]);
    sleep(seconds(10)).await;
    assert_eq!(take_events(&mut events).await, [silent]);
    let stats = rig.bridge.stats();
    assert_eq!((stats.endpoints_disconnected, stats.endpoints_reconnected), (3, 2));
    sleep(seconds(120)).await;
    let gone = ConferenceEvent::EndpointExpired { endpoint: about("alice") };
    assert_eq!(take_events(&mut events).await, [gone]);
    assert!(rig.take_controls().await.iter().any(|c| matches!(c, Control::RemoveEndpoint(ALICE))));
}

#[tokio::test(start_paused = true)]
async fn who_answers_consent_without_media_is_there() {
    let (rig, mut events) = two().await;
    for endpoint in [ALICE, BOB] {
        rig.updates.send(TransportUpdate::Ready { endpoint }).unwrap();
        rig.transports.answer_consent(endpoint);
    }
    for _ in 0..20 {
        sleep(seconds(6)).await;
        rig.transports.answer_consent(ALICE);
        rig.transports.answer_consent(BOB);
    }
    assert_eq!(take_events(&mut events).await.len(), 2, "both connected, and nothing else");
    // ICE does not know for 15 s that Alice is gone; her silence shows it after 8.
    for _ in 0..4 {
        sleep(seconds(2)).await;
        rig.transports.answer_consent(BOB);
    }
    sleep(seconds(1)).await;
    let silent = ConferenceEvent::EndpointDisconnected { endpoint: about("alice") };
    assert_eq!(take_events(&mut events).await, std::slice::from_ref(&silent));
    rig.transports.answer_consent(ALICE);
    sleep(seconds(1)).await;
    let back = ConferenceEvent::EndpointConnected { endpoint: about("alice") };
    assert_eq!(take_events(&mut events).await, [back]);
    for _ in 0..30 {
        sleep(seconds(5)).await;
        rig.transports.answer_consent(BOB);
    }
    let gone = ConferenceEvent::EndpointExpired { endpoint: about("alice") };
    assert_eq!(take_events(&mut events).await, [silent, gone]);
    assert!(rig.bridge.endpoint_view(M, "bob").await.is_some());
}

#[tokio::test(start_paused = true)]
async fn who_speaks_is_announced() {
    let (rig, mut events) = two().await;
    for (speaker, tenths) in [(ALICE, 20), (BOB, 20)] {
        for tenth in 0..tenths {
            let level = if tenth % 10 == 0 { 100 } else { 27 };
            let source = SourceId(1);
            let event = MediaEvent::AudioLevel { endpoint: speaker, source, level };
            rig.media.send(event).await.unwrap();
            sleep(Duration::from_millis(100)).await;
        }
    }
    let speaks = |endpoint: &str, previous: &[&str]| ConferenceEvent::DominantSpeaker {
        endpoint: endpoint.to_owned(),
        previous: previous.iter().map(ToString::to_string).collect(),
    };
    assert_eq!(take_events(&mut events).await, [speaks("alice", &[]), speaks("bob", &["alice"])]);
    let dominant = async |rig: &Rig| {
        let told = rig.take_controls().await.into_iter().filter_map(|control| match control {
            Control::SetDominant(endpoint, speaks) => Some((endpoint, speaks)),
            _ => None,
        });
        told.collect::<Vec<(EndpointId, bool)>>()
    };
    assert_eq!(
        dominant(&rig).await,
        [(ALICE, true), (ALICE, false), (BOB, true)],
        "the engine hears it"
    );
    let activity = rig.bridge.speech_activity(M).await.unwrap();
    assert_eq!(activity["dominantEndpoint"], "bob");
    assert_eq!(activity["endpointsBySpeechActivity"], json!(["bob", "alice"]));
    let leaves = json!({ "meeting-id": M, "endpoints": [{ "id": "bob", "expire": true }] });
    rig.ask(&leaves).await.unwrap();
    assert_eq!(take_events(&mut events).await.last(), Some(&speaks("alice", &[])));
    assert_eq!(dominant(&rig).await, [(BOB, false), (ALICE, true)]);
    assert_eq!(rig.bridge.stats().total_dominant_speaker_changes, 2);
    rig.bridge.expire_all().await;
    assert_eq!(rig.bridge.stats().total_dominant_speaker_changes, 2, "of the gone too");
}

/// JVB's `Conference` does the same.
#[tokio::test(start_paused = true)]
async fn a_keyframe_of_a_new_speaker_is_requested_ahead_where_a_receiver_has_a_stage() {
    let (rig, _events) = two().await;
    rig.join(M, "carol").await.unwrap();
    let rtt = |(id, ms)| {
        let rtt = Some(Duration::from_millis(ms));
        EndpointSnapshot { rtt, ..measured(EndpointId(id)) }
    };
    report(&rig, 0, [(1, 20), (2, 60), (3, 140)].map(rtt).into()).await;
    let speaks = async |speaker: EndpointId| {
        for tenth in 0..20 {
            let level = if tenth % 10 == 0 { 100 } else { 27 };
            let event = MediaEvent::AudioLevel { endpoint: speaker, source: SourceId(1), level };
            rig.media.send(event).await.unwrap();
            sleep(Duration::from_millis(100)).await;
        }
        let told = rig.take_controls().await.into_iter().filter_map(|control| match control {
            Control::RequestKeyframeAhead { speaker, after } => Some((speaker, after.as_millis())),
            _ => None,
        });
        told.collect::<Vec<_>>()
    };
    assert_eq!(speaks(ALICE).await, [], "nobody has a stage");
    let bob = rig.bridge.open_channel(M, "bob", ChannelKind::WebSocket).await.unwrap();
    bob.received(r#"{"colibriClass":"ReceiverVideoConstraints","onStageSources":["alice-v0"]}"#);
    assert_eq!(speaks(BOB).await, [], "it is the speaker's own");
    assert_eq!(speaks(ALICE).await, [(ALICE, 130)], "carol's round trip less alice's, and 10 ms");
    let counted = rig.bridge.stats().keyframes_ahead;
    assert_eq!((counted.asked, counted.suppressed), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn decisions_and_numbers_come_from_snapshots() {
    let (rig, mut events) = two().await;
    rig.ask(&sources(M, "alice", 100)).await.unwrap();
    let mut alice = measured(ALICE);
    alice.receive_bps = 2_000_000;
    alice.receive_pps = 90;
    alice.receive_loss = 0.1;
    alice.sources = vec![
        SourceSnapshot { source: SourceId(1), encoding_bps: vec![30], encoding_height: vec![None] },
        SourceSnapshot {
            source: SourceId(2),
            encoding_bps: vec![0, 1],
            encoding_height: vec![Some(180), Some(360)],
        },
    ];
    let mut bob = measured(BOB);
    bob.send_bps = 1_500_000;
    bob.send_pps = 200;
    bob.send_loss = 0.25;
    bob.rtt = Some(Duration::from_millis(40));
    bob.subscriptions = vec![SubscriptionSnapshot {
        source: SourceId(2),
        current: Some(1),
        target: Some(1),
        bps: 1_400_000,
        packets: 77,
        retransmissions: 3,
    }];
    report(&rig, 0, vec![alice]).await;
    report(&rig, 1, vec![bob.clone()]).await;
    report(&rig, 1, vec![bob]).await;
    let decision = ConferenceEvent::Decision {
        endpoint: about("bob"),
        source: "alice-v0".into(),
        current: Some(1),
        target: Some(1),
    };
    assert_eq!(take_events(&mut events).await, [decision], "once, though measured twice");

    let view = rig.bridge.endpoint_view(M, "bob").await.unwrap();
    assert_eq!((view.send_bps, view.rtt), (1_500_000, Some(Duration::from_millis(40))));
    let names: Vec<&str> = view.sources.iter().map(|source| source.name.as_str()).collect();
    assert_eq!(names, ["alice-a0", "alice-v0"]);
    let video = &view.sources[1];
    assert_eq!((video.current, video.height, video.encodings), (Some(1), Some(360), 2));
    assert_eq!((video.bps, video.packets, video.retransmissions), (1_400_000, 77, 3));

    let stats = rig.bridge.stats();
    assert_eq!((stats.receive_bps, stats.send_bps), (2_000_000, 1_500_000));
    assert_eq!((stats.endpoints_sending_audio, stats.endpoints_sending_video), (1, 1));
    assert_eq!((stats.receive_only_endpoints, stats.inactive_conferences), (1, 0));
    assert_eq!(stats.endpoints_with_high_outgoing_loss, 1);
    assert!((stats.incoming_loss - 0.1).abs() < 1e-6 && (stats.outgoing_loss - 0.25).abs() < 1e-6);
    assert!((stats.rtt_aggregate - 40.0).abs() < 1e-6);
    assert_eq!((stats.shards, stats.engine.rtp_sent), (2, 20));
    assert_eq!(stats.drops, [("replayed", 4), ("truncated", 1)]);
}

#[tokio::test(start_paused = true)]
async fn an_idle_pair_counts_as_one_that_talks_past_the_bridge() {
    let (rig, _events) = two().await;
    let stats = rig.bridge.stats();
    assert_eq!((stats.inactive_conferences, stats.p2p_conferences), (1, 1));
    assert_eq!((stats.inactive_endpoints, stats.local_active_endpoints), (2, 0));
    assert_eq!((stats.largest_conference, stats.conference_sizes), (2, vec![2]));
}

#[tokio::test(start_paused = true)]
async fn transports_are_asked_in_order() {
    let (rig, _events) = two().await;
    let ice = |ufrag: &str| json!({ "xmlns": "urn:xmpp:jingle:transports:ice-udp:1", "ufrag": ufrag, "pwd": "p" });
    let update = |transport: Value| json!({ "meeting-id": M, "endpoints": [{ "id": "alice", "transport": transport }] });
    let answer = rig.ask(&update(json!({ "transport": ice("one") }))).await.unwrap();
    assert_eq!(answer, json!({ "endpoints": [{ "id": "alice" }] }));
    let restart = json!({ "transport": ice("two"), "ice-restart": true });
    let answer = rig.ask(&update(restart)).await.unwrap();
    let described = &answer["endpoints"][0]["transport"]["transport"];
    assert_eq!(described["ice-generation"], "1");
    assert_eq!(answer.get("sources"), None, "nothing was created");
    let calls = ["create alice true false", "remote one", "remote two", "restart"];
    assert_eq!(rig.transports.calls(1), calls);
    let mut jibri = creation(M, "jibri");
    let capabilities = json!(["source-names", "private-address-connectivity"]);
    jibri["endpoints"][0]["capabilities"] = capabilities;
    jibri["endpoints"][0]["transport"] = json!({});
    rig.ask(&jibri).await.unwrap();
    assert_eq!(rig.transports.calls(3), ["create jibri false true"]);
}

#[tokio::test(start_paused = true)]
async fn mids_reach_sources_that_come_before_and_after() {
    let (rig, _events) = two().await;
    rig.ask(&sources(M, "alice", 100)).await.unwrap();
    rig.take_controls().await;
    let mid = |text: &str| Mid::new(text).unwrap();
    let mids = vec![("alice-a0".to_owned(), mid("5")), ("alice-v1".to_owned(), mid("6"))];
    rig.bridge.assign_mids(M, "bob", mids.clone()).await;
    rig.bridge.assign_mids(M, "bob", mids).await;
    rig.bridge.assign_mids(M, "nobody", vec![]).await;
    assert!(
        matches!(rig.take_controls().await[..], [Control::Subscribe { receiver: BOB, source: SourceId(1), terms }] if terms.mid == Some(mid("5"))),
        "once"
    );
    let mut more = sources(M, "alice", 100);
    let screen = json!({ "type": "video", "id": "alice-v1", "sources": [900] });
    more["endpoints"][0]["sources"].as_array_mut().unwrap().push(screen);
    rig.ask(&more).await.unwrap();
    let subscribed = rig.take_controls().await.into_iter().find_map(|control| match control {
        Control::Subscribe { receiver: BOB, terms, .. } => Some(terms.mid),
        _ => None,
    });
    assert_eq!(subscribed, Some(Some(mid("6"))));
}

#[tokio::test(start_paused = true)]
async fn a_graceful_shutdown_runs_its_course() {
    let (rig, _events) = two().await;
    rig.bridge.graceful_shutdown();
    sleep(seconds(3600)).await;
    // Nobody connected: both expire, and nothing is left to wait for.
    assert_eq!(rig.bridge.stats().endpoints, 0);
    sleep(seconds(1)).await;
    assert_eq!(rig.bridge.shutdown_state(), ShutdownState::ShuttingDown);
    tokio::time::timeout(seconds(61), rig.bridge.stopped()).await.expect("the end");
}

#[tokio::test(start_paused = true)]
async fn an_announced_end_comes_in_its_time() {
    let (rig, _events) = two().await;
    rig.bridge.shutdown();
    assert_eq!(rig.bridge.debug(false).await["shutdown_state"], "SHUTTING_DOWN");
    tokio::time::timeout(seconds(59), rig.bridge.stopped()).await.expect_err("too early");
    tokio::time::timeout(seconds(2), rig.bridge.stopped()).await.expect("the end");
}

#[tokio::test(start_paused = true)]
async fn health_tells_what_is_wrong_and_when_it_is_over() {
    let rig = rig(BridgeConfig { shards: 2, ..BridgeConfig::default() });
    assert_eq!(rig.bridge.health(), Ok(()), "shards have a while to begin");
    sleep(seconds(11)).await;
    report(&rig, 0, vec![]).await;
    let error = rig.bridge.health().unwrap_err();
    assert!(!error.hard && error.message.starts_with("Engine thread 1 is silent"), "{error}");
    assert!(!rig.bridge.stats().healthy);
    report(&rig, 1, vec![]).await;
    assert_eq!(rig.bridge.health(), Ok(()));
    let Rig { bridge, media, updates, .. } = rig;
    drop(updates);
    sleep(Duration::from_millis(1)).await;
    let error = bridge.health().unwrap_err();
    assert!(error.hard && error.message == "The transports have stopped");
    drop(media);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(bridge.health().unwrap_err().message, "The engine has stopped");
    assert_eq!(bridge.debug(false).await["health"]["success"], false);
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_sticks_outlasts_its_cause() {
    let health = HealthConfig { sticky_failures: true, ..HealthConfig::default() };
    let rig = rig(BridgeConfig { shards: 1, health, ..BridgeConfig::default() });
    assert_eq!(rig.bridge.health(), Ok(()));
    sleep(seconds(11)).await;
    let error = rig.bridge.health().unwrap_err();
    report(&rig, 0, vec![]).await;
    assert_eq!(rig.bridge.health(), Err(error), "the first that was seen");
    assert!(!rig.bridge.stats().healthy);
}

#[tokio::test(start_paused = true)]
async fn stress_is_by_packets_where_that_is_configured() {
    let load = LoadConfig {
        measure: Measure::PacketRate,
        packet_threshold: 1_000,
        ..LoadConfig::default()
    };
    let rig = rig(BridgeConfig { load, ..BridgeConfig::default() });
    rig.create(M, "alice").await.unwrap();
    rig.join(M, "bob").await.unwrap();
    let loud = |endpoint, receive_pps, send_pps| EndpointSnapshot {
        receive_pps,
        send_pps,
        ..measured(endpoint)
    };
    report(&rig, 0, vec![loud(ALICE, 100, 200)]).await;
    report(&rig, 1, vec![loud(BOB, 50, 150)]).await;
    assert!((rig.bridge.stress_level() - 0.5).abs() < 1e-9);
    assert!((rig.bridge.stats().stress_level - 0.5).abs() < 1e-9);
    report(&rig, 1, vec![]).await;
    assert!((rig.bridge.stress_level() - 0.3).abs() < 1e-9, "what was said last counts");
}

#[tokio::test(start_paused = true)]
async fn who_has_no_channel_after_half_a_minute_is_counted_once() {
    let (rig, _events) = two().await;
    let channel = rig.bridge.open_channel(M, "bob", ChannelKind::WebSocket).await.unwrap();
    let counted = || rig.bridge.stats().num_eps_no_msg_transport_after_delay;
    sleep(seconds(29)).await;
    assert_eq!(counted(), 0, "there is time");
    rig.join(M, "carol").await.unwrap();
    sleep(seconds(3)).await;
    assert_eq!(counted(), 1, "alice; bob has one, and carol has time");
    let gone = json!({ "meeting-id": M, "endpoints": [{ "id": "carol", "expire": true }] });
    rig.ask(&gone).await.unwrap();
    drop(channel);
    sleep(seconds(60)).await;
    assert_eq!(counted(), 1, "who left in time is nobody, and who had one is looked at no more");
}

#[tokio::test(start_paused = true)]
async fn debug_output_has_the_shape_of_jvbs() {
    let (rig, _events) = two().await;
    rig.ask(&sources(M, "alice", 100)).await.unwrap();
    let all = rig.bridge.debug(false).await;
    assert_eq!(all["health"]["success"], true);
    let (id, conference) = all["conferences"].as_object().unwrap().iter().next().unwrap();
    assert_eq!(id.len(), 16);
    assert_eq!(conference["meeting_id"], M);
    assert_eq!(conference["endpoints"], json!({ "alice": null, "bob": null }));
    let one = rig.bridge.debug_conference(id, Some("alice"), true).await;
    let endpoints = one["conferences"][id]["endpoints"].as_object().unwrap();
    assert_eq!(endpoints.len(), 1);
    assert_eq!(endpoints["alice"]["sources"][1]["encodings"][1]["ssrc"], 102);
    assert_eq!(
        rig.bridge.debug_conference(id, None, true).await["conferences"][id]["expired"],
        false
    );
    assert_eq!(rig.bridge.debug_conference("x", None, true).await["conferences"]["x"], "null");
}

#[tokio::test(start_paused = true)]
async fn conferences_do_not_know_each_other() {
    let (rig, mut events) = two().await;
    rig.create("other", "alice").await.expect("the same endpoint id elsewhere");
    rig.ask(&sources(M, "alice", 100)).await.unwrap();
    rig.ask(&sources("other", "alice", 100)).await.expect("the same SSRCs elsewhere");
    let told = rig.take_controls().await;
    let subscribers: Vec<EndpointId> = told
        .iter()
        .filter_map(|control| match control {
            Control::Subscribe { receiver, .. } => Some(*receiver),
            _ => None,
        })
        .collect();
    assert_eq!(subscribers, [BOB, BOB], "nobody in the other conference");
    rig.ask(&json!({ "meeting-id": "other", "expire": true })).await.unwrap();
    assert!(rig.bridge.conference_exists(M) && !rig.bridge.conference_exists("other"));
    assert!(take_events(&mut events).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_when_the_bridge_goes() {
    let (rig, mut events) = two().await;
    let Rig { bridge, media, .. } = rig;
    drop(bridge);
    sleep(seconds(1)).await;
    assert!(media.is_closed(), "the housekeeping ended");
    assert!(matches!(events.recv().await, Err(tokio::sync::broadcast::error::RecvError::Closed)));
}
