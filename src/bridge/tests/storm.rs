//! Everything at once, from several threads: nothing waits for ever, and nothing is left.

use rand::{Rng, SeedableRng, rngs::StdRng};
use rialto_engine::{Control, MediaEvent};
use rialto_media::{EndpointId, SourceId};
use rialto_transport::TransportUpdate;
use serde_json::json;

use super::rig::{ask, creation, rig, sources};
use crate::bridge::{Bridge, BridgeConfig};

/// A focus that ignores the answers.
async fn focus(bridge: Bridge, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    for _ in 0..200 {
        let meeting = format!("m{}", rng.random_range(0..4));
        let endpoint = format!("e{}", rng.random_range(0..5));
        let mut request = match rng.random_range(0..6) {
            0 | 1 => creation(&meeting, &endpoint),
            2 => sources(&meeting, &endpoint, rng.random_range(0..40)),
            3 => {
                json!({ "meeting-id": meeting, "endpoints": [{ "id": endpoint, "expire": true }] })
            }
            4 => json!({
                "meeting-id": meeting,
                "endpoints": [{ "id": endpoint, "transport": { "ice-restart": true } }],
            }),
            _ => json!({ "meeting-id": meeting, "expire": rng.random_bool(0.2) }),
        };
        if rng.random_bool(0.3) {
            request["create"] = true.into();
        }
        let _ = ask(&bridge, &request).await;
        if rng.random_bool(0.05) {
            let _ = (bridge.stats(), bridge.debug(true).await, bridge.health());
            let _ = bridge.endpoint_view(&meeting, &endpoint).await;
            bridge.assign_mids(&meeting, &endpoint, vec![]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_foci_and_events_at_once() {
    let config = BridgeConfig {
        activity_check_interval: std::time::Duration::from_millis(1),
        expiration_check_interval: std::time::Duration::from_millis(1),
        empty_conference_timeout: std::time::Duration::ZERO,
        ..BridgeConfig::default()
    };
    let rig = rig(config);
    let foci: Vec<_> = (0..8).map(|seed| tokio::spawn(focus(rig.bridge.clone(), seed))).collect();
    let mut rng = StdRng::seed_from_u64(99);
    while foci.iter().any(|focus| !focus.is_finished()) {
        let endpoint = EndpointId(rng.random_range(0..300));
        let update = match rng.random_range(0..3) {
            0 => TransportUpdate::Ready { endpoint },
            1 => TransportUpdate::Disconnected { endpoint },
            _ => TransportUpdate::Closed { endpoint },
        };
        rig.updates.send(update).unwrap();
        let event = MediaEvent::AudioLevel { endpoint, source: SourceId(1), level: rng.random() };
        rig.media.send(event).await.unwrap();
    }
    for focus in foci {
        focus.await.unwrap();
    }
    rig.bridge.expire_all().await;
    let stats = rig.bridge.stats();
    assert_eq!((stats.conferences, stats.endpoints), (0, 0));
    assert_eq!(stats.total_conferences_created, stats.total_conferences_completed);
    assert!(stats.total_participants > 0);
    let mut there = std::collections::HashSet::new();
    for control in rig.take_controls().await {
        match control {
            Control::AddEndpoint(id, _) => assert!(there.insert(id), "{id:?} twice"),
            Control::RemoveEndpoint(id) => assert!(there.remove(&id), "{id:?} was not there"),
            _ => {}
        }
    }
    assert!(there.is_empty(), "the engine keeps {there:?}");
}
