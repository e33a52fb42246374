//! The receiver constraints that the engine gets, and how its allocations are reported. Time is virtual.

use std::{sync::Arc, time::Duration};

use rialto_engine::{
    Allocation, AllocationConstraints, Control, LayerId, MediaEvent, Reason, ShardSnapshot,
    SourceAllocation, SourceConstraint, VideoKind,
};
use rialto_media::{EndpointId, SourceId};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    channel::take_messages,
    rig::{Rig, rig, sources},
};
use crate::{
    bridge::{BridgeConfig, Channel, ConferenceEvent, LoadConfig, Measure, ReducerConfig},
    channel::ChannelKind,
};

pub(super) const M: &str = "m";
pub(super) const BOB: EndpointId = EndpointId(2);

/// Alice sends 1 (audio) and 2 (video), carol 3 and 4, dave 5 and 6; bob, the second, receives.
pub(super) async fn four(config: BridgeConfig) -> (Rig, Channel) {
    let rig = rig(config);
    rig.create(M, "alice").await.unwrap();
    for who in ["bob", "carol", "dave"] {
        rig.join(M, who).await.unwrap();
    }
    for (who, ssrc) in [("alice", 100), ("carol", 200), ("dave", 300)] {
        rig.ask(&sources(M, who, ssrc)).await.unwrap();
    }
    let bob = rig.bridge.open_channel(M, "bob", ChannelKind::WebSocket).await.unwrap();
    take_messages(&bob).await;
    (rig, bob)
}

/// The receiver constraints of Bob that the engine got since the last call.
async fn sent_constraints(rig: &Rig) -> Vec<Arc<AllocationConstraints>> {
    let constraints = |control| match control {
        Control::SetAllocation { receiver: BOB, wishes } => Some(wishes),
        _ => None,
    };
    rig.take_controls().await.into_iter().filter_map(constraints).collect()
}

/// The sources of the last of them, in their order.
async fn order(rig: &Rig) -> Option<Vec<u32>> {
    Some(sent_constraints(rig).await.last()?.sources.iter().map(|c| c.source.0).collect())
}

fn receives_text(channel: &Channel, message: &Value) {
    channel.received(&message.to_string());
}

fn constrain(channel: &Channel, mut constraints: Value) {
    constraints["colibriClass"] = "ReceiverVideoConstraints".into();
    receives_text(channel, &constraints);
}

#[tokio::test(start_paused = true)]
async fn constraints_reach_the_engine_in_order_of_priority_when_they_change() {
    let (rig, bob) = four(BridgeConfig::default()).await;
    assert_eq!(order(&rig).await, Some(vec![2, 4, 6]), "as they came");
    constrain(&bob, json!({"selectedSources": ["dave-v0"], "onStageSources": ["carol-v0"]}));
    let told = sent_constraints(&rig).await;
    assert_eq!(told.len(), 1, "once");
    let constraint = |source, on_stage, selected| SourceConstraint {
        source: SourceId(source),
        kind: VideoKind::Camera,
        max_height: Some(180),
        on_stage,
        selected,
        muted: false,
    };
    let expected =
        vec![constraint(4, true, false), constraint(6, false, true), constraint(2, false, false)];
    assert_eq!(told[0].sources, expected);
    constrain(&bob, json!({"selectedSources": ["dave-v0"]}));
    assert_eq!(sent_constraints(&rig).await, [], "nothing is new");
    constrain(&bob, json!({"constraints": {"dave-v0": {"maxHeight": 0}}}));
    assert_eq!(order(&rig).await, Some(vec![4, 2]), "it does not want that");
    constrain(&bob, json!({"lastN": 1, "assumedBandwidthBps": 7}));
    let told = sent_constraints(&rig).await;
    let last = told.last().unwrap();
    assert_eq!((last.sources.len(), last.assumed_bandwidth_bps), (1, Some(7)));
}

#[tokio::test(start_paused = true)]
async fn constraints_of_unknown_sources_are_ignored() {
    let (rig, bob) = four(BridgeConfig::default()).await;
    sent_constraints(&rig).await;
    let mut named: Vec<String> = (0..3_000).map(|n| format!("nobody{n}-v0")).collect();
    named.extend(["dave-v0".to_owned(), "dave-v0".to_owned(), "bob-v0".to_owned()]);
    constrain(&bob, json!({"onStageSources": named}));
    let told = sent_constraints(&rig).await;
    assert_eq!(told.last().unwrap().sources.len(), 3);
    assert!(told.last().unwrap().sources[0].on_stage);
    let gone = json!({"id": "dave", "expire": true});
    rig.ask(&json!({"meeting-id": M, "endpoints": [gone]})).await.unwrap();
    assert_eq!(order(&rig).await, Some(vec![2, 4]));
}

#[tokio::test(start_paused = true)]
async fn what_videos_show_decides_what_they_are_and_where_they_stand() {
    let (rig, _bob) = four(BridgeConfig::default()).await;
    sent_constraints(&rig).await;
    let alice = rig.bridge.open_channel(M, "alice", ChannelKind::WebSocket).await.unwrap();
    let shows = async |what| {
        let class = "SourceVideoTypeMessage";
        receives_text(
            &alice,
            &json!({"colibriClass": class, "videoType": what, "sourceName": "alice-v0"}),
        );
        let told = sent_constraints(&rig).await;
        let sources = &told.last().unwrap().sources;
        let place = sources.iter().position(|c| c.source.0 == 2).unwrap();
        (place, sources[place].kind, sources[place].muted)
    };
    assert_eq!(shows("desktop").await, (0, VideoKind::Desktop, false));
    assert_eq!(shows("none").await, (2, VideoKind::Camera, true), "nothing comes last");
    assert_eq!(shows("desktop_high_fps").await, (0, VideoKind::Desktop, false));
    let mute = json!({"id": "carol", "force-mute": {"audio": false, "video": true}});
    rig.ask(&json!({"meeting-id": M, "endpoints": [mute]})).await.unwrap();
    let told = sent_constraints(&rig).await;
    assert!(told.last().unwrap().sources[1].muted);
}

#[tokio::test(start_paused = true)]
async fn who_speaks_comes_first() {
    let (rig, _bob) = four(BridgeConfig::default()).await;
    sent_constraints(&rig).await;
    let mut now = None;
    for n in 0..200 {
        let (endpoint, source) = (EndpointId(4), SourceId(5));
        let level = if n % 4 == 0 { 30 } else { 5 };
        rig.media.send(MediaEvent::AudioLevel { endpoint, source, level }).await.unwrap();
        sleep(Duration::from_millis(20)).await;
        now = order(&rig).await.or(now);
    }
    assert_eq!(now, Some(vec![6, 2, 4]));
}

#[tokio::test(start_paused = true)]
async fn in_a_large_conference_constraints_wait_for_the_next_tick() {
    let (rig, bob) = four(BridgeConfig::default()).await;
    for n in 0..40 {
        rig.join(M, &format!("e{n}")).await.unwrap();
    }
    sleep(Duration::from_secs(1)).await;
    sent_constraints(&rig).await;
    rig.ask(&sources(M, "e1", 1_000)).await.unwrap();
    assert_eq!(order(&rig).await, None);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(order(&rig).await, Some(vec![2, 4, 6, 8]));
    constrain(&bob, json!({"selectedSources": ["dave-v0"]}));
    assert_eq!(order(&rig).await, Some(vec![6, 2, 4, 8]), "what it says itself does not wait");
}

pub(super) fn decided(
    source: u32,
    encodings: (u8, Option<u8>),
    reason: Reason,
) -> SourceAllocation {
    let height = |encoding: u8| 180 << encoding;
    let (wanted, target) = encodings;
    SourceAllocation {
        source: SourceId(source),
        wanted: Some(LayerId::encoding(wanted)),
        wanted_height: Some(height(wanted)),
        target: target.map(LayerId::encoding),
        target_height: target.map(height),
        sent: target.map(LayerId::encoding),
        reason,
        since: tokio::time::Instant::now().into_std(),
    }
}

pub(super) fn allocation(estimate_bps: Option<u64>, sources: Vec<SourceAllocation>) -> Allocation {
    Allocation {
        receiver: BOB,
        estimate_bps,
        target_bps: 600_000,
        ideal_bps: 3_000_000,
        oversend_bps: 1,
        suspended: 1,
        sources,
    }
}

pub(super) async fn decide(rig: &Rig, allocation: &Allocation) {
    let event = MediaEvent::Allocated(Box::new(allocation.clone()));
    rig.media.send(event).await.unwrap();
    sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn allocations_are_reported_at_once_and_explained() {
    let (rig, bob) = four(BridgeConfig::default()).await;
    let mut events = rig.bridge.watch(M).unwrap();
    constrain(
        &bob,
        json!({"lastN": 2, "constraints": {
            "alice-v0": {"maxHeight": 720}, "carol-v0": {"maxHeight": 720}, "dave-v0": {"maxHeight": 90},
        }}),
    );
    let both = vec![decided(2, (2, Some(1)), Reason::Link), decided(4, (2, None), Reason::Link)];
    decide(&rig, &allocation(Some(700_000), both)).await;
    let decision = ConferenceEvent::Decision {
        endpoint: "bob".into(),
        source: "alice-v0".into(),
        current: Some(1),
        target: Some(1),
    };
    assert_eq!(events.try_recv().unwrap(), decision);
    let forwarded = json!({"colibriClass": "ForwardedSources", "forwardedSources": ["alice-v0"]});
    let stats =
        |bps: u64| json!({"colibriClass": "ConnectionStats", "estimatedDownlinkBandwidth": bps});
    assert_eq!(take_messages(&bob).await, [stats(700_000), forwarded]);
    sleep(Duration::from_secs(3)).await;
    let id =
        rig.bridge.debug(false).await["conferences"].as_object().unwrap().keys().next().cloned();
    let debug = rig.bridge.debug_conference(id.as_deref().unwrap(), Some("bob"), true).await;
    let debug = &debug["conferences"][id.as_deref().unwrap()]["endpoints"]["bob"]["allocation"];
    assert_eq!(debug["estimate_bps"], 700_000);
    let why = |name: &str| -> Value {
        let all = debug["sources"].as_array().unwrap();
        all.iter().find(|source| source["name"] == name).unwrap().clone()
    };
    let alice = why("alice-v0");
    assert_eq!((&alice["reason"], &alice["wanted_height"]), (&json!("link"), &json!(720)));
    assert_eq!((&alice["sent"], &alice["target_height"]), (&json!("1/0/0"), &json!(360)));
    assert!(alice["since_ms"].as_u64().unwrap() >= 2_000);
    assert_eq!(why("carol-v0")["sent"], Value::Null);
    assert_eq!(why("dave-v0")["reason"], "last_n");
    let stats = rig.bridge.stats();
    let counted = |reason: Reason| {
        stats.video_reasons.iter().find(|(name, _)| *name == reason.as_str()).unwrap().1
    };
    assert_eq!((counted(Reason::Link), counted(Reason::LastN)), (2, 1));
    assert_eq!((stats.num_eps_oversending, stats.endpoints_with_suspended_sources), (1, 1));
    let view = rig.bridge.endpoint_view(M, "bob").await.unwrap();
    let alice = view.sources.iter().find(|source| source.name == "alice-v0").unwrap();
    assert_eq!(alice.reason.unwrap().0, Reason::Link);
    assert_eq!((alice.wanted_height, view.estimate_bps), (Some(720), Some(700_000)));
    let reasons = rig.bridge.video_reasons(M, "bob").await.unwrap();
    let mut reasons: Vec<_> = reasons.iter().map(|why| (&*why.source, why.reason)).collect();
    reasons.sort_unstable_by_key(|(source, _)| *source);
    let link = Reason::Link;
    assert_eq!(
        reasons,
        [("alice-v0", link), ("carol-v0", link), ("dave-v0", Reason::LastN)],
        "what is not sent at all has a reason too"
    );
}

#[tokio::test(start_paused = true)]
async fn clients_hear_what_their_link_carries_by_the_interval_and_when_it_changes() {
    let (rig, bob) = four(BridgeConfig::default()).await;
    let told = async |bps: u64, wait: u64| {
        decide(&rig, &allocation(Some(bps), vec![])).await;
        sleep(Duration::from_secs(wait)).await;
        let estimates = take_messages(&bob).await.into_iter();
        let estimates = estimates.filter_map(|m| m["estimatedDownlinkBandwidth"].as_u64());
        estimates.collect::<Vec<_>>()
    };
    assert_eq!(told(1_000, 0).await, [1_000], "the first at once");
    assert_eq!(told(3_000, 0).await, [0; 0], "not twice in a second");
    assert_eq!(told(2_000, 2).await, [2_000]);
    assert_eq!(told(2_100, 5).await, [0; 0], "that is nearly the same");
    assert_eq!(told(2_100, 6).await, [2_100], "every ten seconds");
    let silent = BridgeConfig { connection_stats: None, ..BridgeConfig::default() };
    let (rig, bob) = four(silent).await;
    decide(&rig, &allocation(Some(1_000), vec![])).await;
    sleep(Duration::from_secs(20)).await;
    assert!(
        take_messages(&bob)
            .await
            .iter()
            .all(|message| message["colibriClass"] != "ConnectionStats")
    );
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_stays_below_its_requested_height_is_reported_once_each_time() {
    let (rig, bob) = four(BridgeConfig::default()).await;
    constrain(
        &bob,
        json!({"onStageSources": ["alice-v0"], "defaultConstraints": {"maxHeight": 720}}),
    );
    let mut events = rig.bridge.watch(M).unwrap();
    let mut short = async |alice: SourceAllocation, seconds| {
        // A thumbnail that is short is nothing to report.
        let carol = decided(4, (2, Some(0)), Reason::Link);
        decide(&rig, &allocation(Some(600_000), vec![alice, carol])).await;
        sleep(Duration::from_secs(seconds)).await;
        std::iter::from_fn(|| events.try_recv().ok())
            .filter(|event| matches!(event, ConferenceEvent::ShortStage { .. }))
            .collect::<Vec<_>>()
    };
    let low = || decided(2, (2, Some(1)), Reason::Link);
    let full = || decided(2, (2, Some(2)), Reason::Nothing);
    assert_eq!(short(low(), 9).await, []);
    assert_eq!(short(full(), 1).await, [], "it was not for long");
    assert_eq!(short(low(), 9).await, []);
    let waiting = decided(2, (2, Some(1)), Reason::WaitingForKeyframe);
    let reported = short(waiting, 3).await;
    let expected = ConferenceEvent::ShortStage {
        endpoint: "bob".into(),
        source: "alice-v0".into(),
        wanted_height: Some(720),
        height: Some(360),
        reason: "waiting_for_keyframe",
        estimate_bps: Some(600_000),
    };
    assert_eq!(reported, [expected], "whatever the reason is by then");
    assert_eq!(short(low(), 60).await, [], "once");
    assert_eq!(short(decided(2, (2, Some(1)), Reason::NotSent), 60).await, []);
    assert_eq!(short(low(), 12).await.len(), 1, "and once again");
}

#[tokio::test(start_paused = true)]
async fn the_size_of_a_conference_limits_videos() {
    let limits = [(4, 2), (5, 1)].into();
    let (rig, _bob) =
        four(BridgeConfig { last_n_by_size: Arc::new(limits), ..BridgeConfig::default() }).await;
    assert_eq!(order(&rig).await, Some(vec![2, 4]));
    rig.join(M, "erin").await.unwrap();
    assert_eq!(order(&rig).await, Some(vec![2]));
    for gone in ["erin", "dave"] {
        let gone = json!({"id": gone, "expire": true});
        rig.ask(&json!({"meeting-id": M, "endpoints": [gone]})).await.unwrap();
    }
    assert_eq!(order(&rig).await, Some(vec![2, 4]));
}

#[tokio::test(start_paused = true)]
async fn load_takes_videos_from_everybody_and_gives_them_back() {
    let reducer = ReducerConfig { impact_time: Duration::from_secs(5), ..ReducerConfig::default() };
    let load = LoadConfig {
        measure: Measure::PacketRate,
        packet_threshold: 1_000,
        packet_recovery: 500,
        reducer: Some(reducer),
        ..LoadConfig::default()
    };
    let (rig, bob) = four(BridgeConfig { load, ..BridgeConfig::default() }).await;
    let three = [2, 4, 6].map(|source| decided(source, (2, Some(2)), Reason::Nothing));
    decide(&rig, &allocation(None, three.to_vec())).await;
    sent_constraints(&rig).await;
    let carries = async |packets| {
        let endpoint = super::life::measured(BOB);
        let endpoints = vec![rialto_engine::EndpointSnapshot { send_pps: packets, ..endpoint }];
        let snapshot = ShardSnapshot { endpoints, ..ShardSnapshot::default() };
        rig.media.send(MediaEvent::Snapshot(Box::new(snapshot))).await.unwrap();
        sleep(Duration::from_secs(3)).await;
    };
    carries(1_000).await;
    assert_eq!(order(&rig).await, Some(vec![2, 4]), "three quarters of three");
    let of = async |name: &str| {
        let debug = rig.bridge.debug(true).await;
        let mut conferences = debug["conferences"].as_object().unwrap().values();
        let bobs = conferences.find_map(|c| c["endpoints"].get("bob")).unwrap();
        let sources = bobs["allocation"]["sources"].as_array().unwrap();
        let source = sources.iter().find(|s| s["name"] == name).unwrap();
        (source["reason"].clone(), debug["load_management"].clone())
    };
    let (reason, management) = of("dave-v0").await;
    assert_eq!((reason, &management["reducer"]["jvbLastN"]), (json!("bridge_load"), &json!(2)));
    assert_eq!(management["reducer_enabled"], "true");
    assert_eq!(rig.bridge.stats().last_n_by_load, Some(2));
    // A new conference is limited too, and a receiver that asks for less gets less.
    rig.create("other", "x").await.unwrap();
    rig.take_controls().await;
    constrain(&bob, json!({"lastN": 1}));
    assert_eq!(of("dave-v0").await.0, "last_n");
    constrain(&bob, json!({"lastN": -1}));
    sent_constraints(&rig).await;
    carries(700).await;
    carries(700).await;
    assert_eq!(order(&rig).await, None, "between the thresholds nothing changes");
    carries(100).await;
    assert_eq!(order(&rig).await, Some(vec![2, 4, 6]));
}
