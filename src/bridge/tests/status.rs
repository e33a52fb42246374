//! The data of the status page and of `rialto top`. Time is virtual.

use std::time::Duration;

use rialto_engine::{
    DelayHistogram, EndpointSnapshot, MediaEvent, Reason, ShardSnapshot, ShardTotals,
    SourceSnapshot, SubscriptionSnapshot, Waiting,
};
use rialto_media::{EndpointId, SourceId};
use serde_json::json;
use tokio::time::sleep;

use super::{
    allocation::{BOB, M, allocation, decide, decided, four},
    life::measured,
    rig::{Rig, creation, rig},
};
use crate::bridge::{BridgeConfig, Delay, SelfReport, Status};

async fn status(rig: &Rig, conference: Option<&str>) -> Status {
    let report = SelfReport::new(rig.bridge.clone(), "test").at(None, Some("eu"));
    report.status(conference).await
}

async fn report(rig: &Rig, snapshot: ShardSnapshot) {
    rig.media.send(MediaEvent::Snapshot(Box::new(snapshot))).await.unwrap();
    sleep(Duration::from_millis(1)).await;
}

/// What bob is sent: alice's first encoding, and what it is sent of carol.
fn bobs() -> EndpointSnapshot {
    let got = |source, bps| SubscriptionSnapshot {
        source: SourceId(source),
        current: Some(1),
        target: Some(1),
        bps,
        packets: 7,
        retransmissions: 1,
    };
    EndpointSnapshot {
        send_bps: 940_000,
        receive_bps: 30_000,
        send_loss: 0.25,
        rtt: Some(Duration::from_millis(20)),
        subscriptions: vec![got(2, 900_000), got(1, 40_000)],
        ..measured(BOB)
    }
}

fn alices() -> EndpointSnapshot {
    let video = SourceSnapshot {
        source: SourceId(2),
        encoding_bps: vec![200_000, 900_000],
        encoding_height: vec![Some(180), Some(360)],
    };
    EndpointSnapshot { receive_bps: 1_100_000, sources: vec![video], ..measured(EndpointId(1)) }
}

#[tokio::test(start_paused = true)]
async fn the_status_of_a_receiver_has_what_it_is_sent_and_why_it_is_not_more() {
    let (rig, _bob) = four(BridgeConfig::default()).await;
    let endpoints = vec![alices(), bobs()];
    report(&rig, ShardSnapshot { endpoints, ..ShardSnapshot::default() }).await;
    let sources =
        vec![decided(2, (2, Some(1)), Reason::Link), decided(4, (0, Some(0)), Reason::Constraint)];
    decide(&rig, &allocation(Some(1_000_000), sources)).await;
    sleep(Duration::from_secs(3)).await;

    let status = status(&rig, None).await;
    let shown = status.shown.unwrap();
    assert_eq!((shown.summary.endpoints, shown.summary.shortages), (4, 1));
    assert_eq!((status.endpoints, status.shortages), (4, 1));
    assert_eq!((status.receive_bps, status.send_bps), (1_130_000, 940_000));
    let ids: Vec<&str> = shown.status.endpoints.iter().map(|e| e.id.as_str()).collect();
    assert_eq!(ids, ["alice", "bob", "carol", "dave"]);
    let bob = &shown.status.endpoints[1];
    assert_eq!((bob.send_bps, bob.audio_bps, bob.estimate_bps), (940_000, 40_000, Some(1_000_000)));
    assert_eq!((bob.send_loss, bob.rtt_ms), (0.25, Some(20.0)));
    assert_eq!(
        (bob.reason.as_deref(), bob.why.as_str()),
        (Some("link"), "its link carries no more")
    );
    let video = |name: &str| bob.videos.iter().find(|video| video.name == name);
    let alice = video("alice-v0").unwrap();
    assert_eq!(
        (alice.sent.as_deref(), alice.height, alice.wanted_height),
        (Some("1/0/0"), Some(360), Some(720))
    );
    assert_eq!((alice.bps, alice.reason.as_str()), (900_000, "link"));
    assert!(alice.since_ms >= 2_000, "{}", alice.since_ms);
    assert_eq!(video("carol-v0").unwrap().reason, "constraint");
    assert!(video("dave-v0").is_none(), "nobody has decided yet");
}

#[tokio::test(start_paused = true)]
async fn shards_report_the_rates_of_the_last_second() {
    let rig = rig(BridgeConfig::default());
    let snapshot = |packets: u64, drops: u64| {
        let mut delays = DelayHistogram::default();
        (0..packets).for_each(|_| delays.record(Duration::from_micros(90)));
        ShardSnapshot {
            shard: 3,
            totals: ShardTotals {
                rtp_received: packets,
                rtp_sent: 2 * packets,
                ..ShardTotals::default()
            },
            drops: vec![("replayed", drops), ("never", 0)],
            delays,
            waiting: Waiting { commands: 4, batches: 5 },
            busy: 0.5,
            ..ShardSnapshot::default()
        }
    };
    report(&rig, snapshot(1_000, 10)).await;
    let first = status(&rig, None).await.shards.remove(0);
    assert_eq!((first.shard, first.receive_pps, first.drops_per_second), (3, 0, 0), "no interval");
    sleep(Duration::from_millis(1_999)).await;
    report(&rig, snapshot(1_500, 14)).await;
    let second = status(&rig, None).await.shards.remove(0);
    assert_eq!((second.receive_pps, second.send_pps), (250, 500));
    assert_eq!((second.dropped, second.drops_per_second, second.drops.len()), (14, 2, 1));
    let delay = Delay { p50_us: Some(100), p99_us: Some(100), mean_us: 90 };
    assert_eq!((second.delay, second.busy), (Some(delay), 0.5));
    assert_eq!((second.waiting_commands, second.waiting_batches), (4, 5));
    sleep(Duration::from_secs(1)).await;
    report(&rig, snapshot(1_500, 14)).await;
    let idle = status(&rig, None).await.shards.remove(0);
    assert_eq!((idle.delay, idle.receive_pps), (None, 0), "nothing is forwarded any more");
}

#[tokio::test(start_paused = true)]
async fn the_largest_conference_is_shown_or_the_one_that_is_asked_for() {
    let (rig, _bob) = four(BridgeConfig::default()).await;
    let mut named = creation("other", "x");
    (named["create"], named["name"]) = (true.into(), "room@conference.example.com".into());
    rig.ask(&named).await.unwrap();
    let shown =
        async |wanted| status(&rig, wanted).await.shown.map(|shown| shown.summary.meeting_id);
    assert_eq!(shown(None).await.as_deref(), Some(M));
    let listed = status(&rig, None).await.conferences;
    let sizes: Vec<usize> = listed.iter().map(|conference| conference.endpoints).collect();
    assert_eq!(sizes, [4, 1]);
    for wanted in ["other", "room@conference.example.com", &listed[1].id] {
        assert_eq!(shown(Some(wanted)).await.as_deref(), Some("other"), "{wanted}");
    }
    assert_eq!(shown(Some("nobody")).await, None);
    rig.bridge.set_drain(true);
    let status = status(&rig, None).await;
    assert!(status.health.ok && status.drain);
    assert_eq!((status.state.as_str(), status.region.as_deref()), ("RUNNING", Some("eu")));
    // What is written is what is read.
    let text = serde_json::to_string(&status).unwrap();
    assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
}

#[tokio::test(start_paused = true)]
async fn health_has_its_cause() {
    let rig = rig(BridgeConfig { shards: 1, ..BridgeConfig::default() });
    sleep(Duration::from_secs(11)).await;
    let health = status(&rig, None).await.health;
    assert!(!health.ok && !health.hard);
    assert_eq!(health.cause.as_deref(), Some("Engine thread 0 is silent for 11 s"));
}

/// However large a conference is, and however many there are.
#[tokio::test(start_paused = true)]
async fn the_status_has_a_bound() {
    let rig = rig(BridgeConfig::default());
    let empty = json!({ "meeting-id": M, "create": true });
    rig.ask(&empty).await.unwrap();
    for n in 0..80 {
        let id = format!("e{n:03}");
        rig.join(M, &id).await.unwrap();
        let video = json!({ "type": "video", "id": format!("{id}-v0"), "sources": [1_000 + n] });
        let endpoint = json!({ "id": id, "sources": [video] });
        rig.ask(&json!({ "meeting-id": M, "endpoints": [endpoint] })).await.unwrap();
    }
    for n in 0..110 {
        rig.create(&format!("small{n}"), "x").await.unwrap();
    }
    // The last one lacks something of its last video, so that both are shown.
    let mut sources: Vec<_> = (1..30).map(|n| decided(n, (0, Some(0)), Reason::Nothing)).collect();
    sources.push(decided(30, (2, None), Reason::Link));
    let mut short = allocation(Some(1), sources);
    short.receiver = EndpointId(80);
    decide(&rig, &short).await;
    // A large conference publishes with its next tick.
    sleep(Duration::from_millis(500)).await;
    let status = status(&rig, None).await;
    assert_eq!((status.conferences.len(), status.more_conferences), (100, 11));
    assert_eq!(status.endpoints, 190, "of all");
    let shown = status.shown.unwrap().status;
    assert_eq!((shown.endpoints.len(), shown.more), (60, 20));
    let last = shown.endpoints.last().unwrap();
    assert_eq!((last.id.as_str(), last.reason.as_deref()), ("e079", Some("link")));
    assert_eq!((last.videos.len(), last.more_videos), (24, 6));
    assert_eq!(last.videos.last().unwrap().reason, "link");
}
