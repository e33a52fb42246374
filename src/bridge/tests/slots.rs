//! Messages to clients that depend on what each of them gets: statistics of others, and source maps.

use std::collections::BTreeSet;

use rialto_engine::{Control, MediaEvent};
use rialto_media::{EndpointId, SourceId};
use serde_json::{Value, json};

use super::{
    channel::{take_messages, two},
    rig::{creation, rig, sources},
};
use crate::{
    bridge::{BridgeConfig, Channel},
    channel::ChannelKind,
    conference::SsrcLimits,
};

const MEETING: &str = "m";

/// In a large conference statistics go only to receivers that see, have on stage, or recently heard the
/// sender.
#[tokio::test(start_paused = true)]
async fn statistics_are_filtered_in_large_conferences() {
    let rig = rig(BridgeConfig { stats_filter_threshold: 3, ..BridgeConfig::default() });
    rig.create(MEETING, "alice").await.unwrap();
    rig.join(MEETING, "bob").await.unwrap();
    rig.join(MEETING, "carol").await.unwrap();
    rig.ask(&sources(MEETING, "alice", 100)).await.unwrap();
    let open =
        async |name| rig.bridge.open_channel(MEETING, name, ChannelKind::Sctp).await.unwrap();
    let (alice, bob, carol) = (open("alice").await, open("bob").await, open("carol").await);
    let nothing =
        r#"{"colibriClass":"ReceiverVideoConstraints","defaultConstraints":{"maxHeight":0}}"#;
    for channel in [&bob, &carol] {
        channel.received(nothing);
    }
    let told = async || {
        alice.received(r#"{"colibriClass":"EndpointStats","n":1}"#);
        let stats = async |channel| {
            take_messages(channel)
                .await
                .iter()
                .filter(|m| m["colibriClass"] == "EndpointStats")
                .count()
        };
        (stats(&bob).await, stats(&carol).await)
    };
    assert_eq!(told().await, (1, 1), "a small one");
    rig.join(MEETING, "dave").await.unwrap();
    assert_eq!(told().await, (0, 0), "nobody sees or heard alice");
    bob.received(
        r#"{"colibriClass":"ReceiverVideoConstraints","constraints":{"alice-v0":{"maxHeight":180}}}"#,
    );
    assert_eq!(told().await, (1, 0), "bob sees her");
    bob.received(
        r#"{"colibriClass":"ReceiverVideoConstraints","constraints":{},"selectedSources":["alice-v0"]}"#,
    );
    assert_eq!(told().await, (1, 0), "bob chose her");
    for _ in 0..40 {
        let level =
            MediaEvent::AudioLevel { endpoint: EndpointId(1), source: SourceId(1), level: 10 };
        rig.media.send(level).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(told().await, (1, 1), "all heard her");
}

/// The sources in the source maps that a receiver got.
async fn mapped(channel: &Channel) -> Vec<Value> {
    let maps = take_messages(channel).await.into_iter().filter_map(|mut message| {
        let kind = message["colibriClass"].as_str()?.strip_suffix("SourcesMap")?.to_owned();
        Some(json!({ (kind): message["mappedSources"].take() }))
    });
    maps.collect()
}

/// The entries of a map beside the SSRCs: source, owner and MID of each.
fn who(maps: &[Value]) -> Vec<String> {
    let all = maps.iter().flat_map(|map| map.as_object().unwrap().values());
    let text = |one: &Value, field: &str| one[field].as_str().unwrap_or("-").to_owned();
    all.flat_map(|list| list.as_array().unwrap())
        .map(|one| ["source", "owner", "mid"].map(|field| text(one, field)).join(" "))
        .collect()
}

/// SSRC, RTX SSRC and MID of each slot of a map.
fn slots(maps: &[Value]) -> BTreeSet<(u64, Option<u64>, String)> {
    let all = maps.iter().flat_map(|map| map.as_object().unwrap().values());
    let slot = |one: &Value| {
        let mid = one["mid"].as_str().unwrap().to_owned();
        (one["ssrc"].as_u64().unwrap(), one["rtx"].as_u64(), mid)
    };
    all.flat_map(|list| list.as_array().unwrap()).map(slot).collect()
}

/// A receiver that gets no SSRCs from the focus gets those of its slots over the channel, before anything can
/// be sent under them.
#[tokio::test(start_paused = true)]
async fn source_maps_go_to_receivers_that_get_no_sources_from_the_focus() {
    let (rig, _alice, bob) = two().await;
    let mut request = creation(MEETING, "carol");
    request["endpoints"][0]["capabilities"] =
        json!(["source-names", "ssrc-rewriting", "rtp-mid-demux"]);
    rig.ask(&request).await.unwrap();
    rig.ask(&sources(MEETING, "alice", 100)).await.unwrap();
    let carol = rig.bridge.open_channel(MEETING, "carol", ChannelKind::Sctp).await.unwrap();
    let first = mapped(&carol).await;
    assert_eq!(who(&first), ["alice-a0 alice a0", "alice-v0 alice v0"]);
    assert_eq!(first[1]["Video"][0]["videoType"], "CAMERA");
    assert!(mapped(&bob).await.is_empty(), "the focus tells bob");
    let sent = rig.take_controls().await.into_iter().filter_map(|control| match control {
        Control::Subscribe { receiver: EndpointId(3), terms, .. } => Some(terms),
        Control::Subscribe { terms, .. } => {
            assert_eq!(terms.slot, None, "others see sources' own SSRCs");
            None
        }
        _ => None,
    });
    let sent = sent.map(|terms| {
        let (slot, mid) = (terms.slot.unwrap(), terms.mid.unwrap());
        let mid = String::from_utf8_lossy(mid.as_bytes()).into_owned();
        (slot.ssrc.into(), slot.rtx.map(u64::from), mid)
    });
    assert_eq!(sent.collect::<BTreeSet<_>>(), slots(&first));
    rig.ask(&sources(MEETING, "alice", 100)).await.unwrap();
    carol.received(r#"{"colibriClass":"ReceiverVideoConstraints","lastN":1}"#);
    assert!(mapped(&carol).await.is_empty(), "once");
    rig.ask(&sources(MEETING, "bob", 200)).await.unwrap();
    assert_eq!(who(&mapped(&carol).await), ["bob-a0 bob a1"], "of videos she gets one");
    let again = rig.bridge.open_channel(MEETING, "carol", ChannelKind::WebSocket).await.unwrap();
    let all = mapped(&again).await;
    assert_eq!(all.len(), 2, "all are told to a new channel");
    rig.ask(&json!({"meeting-id": MEETING, "endpoints": [{"id": "alice", "expire": true}]}))
        .await
        .unwrap();
    let bobs_video = mapped(&again).await;
    assert_eq!(who(&bobs_video), ["bob-v0 bob v0"]);
    assert!(slots(&bobs_video).is_subset(&slots(&all)), "alice's slot is his now");
}

#[tokio::test(start_paused = true)]
async fn many_ssrcs_are_split_over_messages_that_fit() {
    let ssrc_limits = SsrcLimits { audio: 40, video: 60 };
    let rig = rig(BridgeConfig { ssrc_limits, ..BridgeConfig::default() });
    rig.create(MEETING, "alice").await.unwrap();
    let mut request = creation(MEETING, "bob");
    request["endpoints"][0]["capabilities"] = json!(["source-names", "ssrc-rewriting"]);
    rig.ask(&request).await.unwrap();
    let bob = rig.bridge.open_channel(MEETING, "bob", ChannelKind::Sctp).await.unwrap();
    for n in 0..60u32 {
        let name = format!("endpoint{n}");
        rig.join(MEETING, &name).await.unwrap();
        rig.ask(&sources(MEETING, &name, 10_000 + 10 * n)).await.unwrap();
    }
    assert_eq!(mapped(&bob).await.len(), 100, "each when it comes, up to the limit of both");
    let again = rig.bridge.open_channel(MEETING, "bob", ChannelKind::Sctp).await.unwrap();
    let lengths: Vec<usize> = mapped(&again)
        .await
        .iter()
        .map(|map| map.as_object().unwrap().values().next().unwrap().as_array().unwrap().len())
        .collect();
    assert_eq!(lengths, [40, 50, 10]);
}
