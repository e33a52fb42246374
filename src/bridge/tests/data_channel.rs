//! Data channels, as the transports report them.

use std::sync::Arc;

use rialto_media::EndpointId;
use rialto_transport::{ChannelText, TransportUpdate};

use super::rig::{Rig, rig};
use crate::bridge::BridgeConfig;

const ALICE: EndpointId = EndpointId(1);
const BOB: EndpointId = EndpointId(2);

/// Sends an update to the bridge, and lets it handle it.
async fn tell(rig: &Rig, update: TransportUpdate) {
    rig.updates.send(update).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
}

fn text(endpoint: EndpointId, text: &str) -> TransportUpdate {
    let text = ChannelText::new(text.to_owned(), &Arc::default()).unwrap();
    TransportUpdate::ChannelText { endpoint, text }
}

/// What was sent to an endpoint.
fn sent(rig: &Rig, endpoint: EndpointId) -> Vec<String> {
    let calls = rig.transports.calls(endpoint.0);
    calls.iter().filter_map(|call| call.strip_prefix("text ").map(str::to_owned)).collect()
}

async fn two() -> Rig {
    let rig = rig(BridgeConfig { sctp: true, ..BridgeConfig::default() });
    rig.create("m", "alice").await.unwrap();
    rig.join("m", "bob").await.unwrap();
    for endpoint in [ALICE, BOB] {
        tell(&rig, TransportUpdate::ChannelOpened { endpoint }).await;
    }
    rig
}

#[tokio::test(start_paused = true)]
async fn what_one_says_the_other_hears() {
    let rig = two().await;
    tell(&rig, text(ALICE, r#"{"colibriClass":"ClientHello"}"#)).await;
    assert!(sent(&rig, ALICE).last().unwrap().contains("ServerHello"));
    tell(&rig, text(ALICE, r#"{"colibriClass":"EndpointMessage","to":"","n":1}"#)).await;
    let heard = sent(&rig, BOB);
    assert!(heard.last().unwrap().contains(r#""from":"alice""#), "{heard:?}");
}

#[tokio::test(start_paused = true)]
async fn a_closed_channel_takes_and_gives_nothing() {
    let rig = two().await;
    tell(&rig, TransportUpdate::ChannelClosed { endpoint: BOB }).await;
    let before = sent(&rig, BOB);
    tell(&rig, text(ALICE, r#"{"colibriClass":"EndpointMessage","to":"bob","n":1}"#)).await;
    tell(&rig, text(BOB, r#"{"colibriClass":"EndpointMessage","to":"alice","n":2}"#)).await;
    assert_eq!(sent(&rig, BOB), before);
    assert!(!sent(&rig, ALICE).iter().any(|text| text.contains(r#""n":2"#)));
}
