//! A conference that takes its time, and everybody else.

use std::sync::mpsc;

use rialto_engine::MediaEvent;
use rialto_media::{EndpointId, SourceId};
use serde_json::json;

use super::rig::{creation, rig};
use crate::{
    bridge::{BridgeConfig, SelfReport},
    channel::ChannelKind,
    colibri::{Condition, json},
};

const OTHER: &str = "other";

/// The conference waits for the test, and the test for everybody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_conference_that_is_stuck_delays_nobody() {
    let rig = rig(BridgeConfig { max_queued_requests: 2, ..BridgeConfig::default() });
    rig.create("stuck", "alice").await.unwrap();
    rig.create(OTHER, "bob").await.unwrap();
    let bob = rig.bridge.open_channel(OTHER, "bob", ChannelKind::WebSocket).await.unwrap();
    let (release, released) = mpsc::channel::<()>();
    let stuck = rig.bridge.inner.registry.by_meeting("stuck").unwrap();
    let question = stuck.mailbox.ask(move |_, _| released.recv());
    let submit = |endpoint: &str| {
        let request = creation("stuck", endpoint).to_string();
        let request = json::read_conference_modify(request.as_bytes(), None).unwrap();
        tokio::spawn(rig.bridge.submit(request))
    };
    let waiting = [submit("carol"), submit("dave")];
    let refused = submit("erin").await.unwrap().unwrap_err();
    assert_eq!(refused.condition, Condition::ResourceConstraint, "two may wait");

    // Messages of the engine and of clients for it fill no queue.
    for level in 0..100 {
        let event = |endpoint| MediaEvent::AudioLevel {
            endpoint: EndpointId(endpoint),
            source: SourceId(1),
            level,
        };
        rig.media.send(event(1)).await.unwrap();
        rig.media.send(event(2)).await.unwrap();
    }
    rig.join(OTHER, "frank").await.unwrap();
    bob.received(r#"{"colibriClass":"EndpointMessage","to":"frank"}"#);
    rig.ask(&json!({ "meeting-id": OTHER, "endpoints": [{ "id": "frank", "expire": true }] }))
        .await
        .unwrap();
    rig.create("third", "gina").await.unwrap();
    let stats = rig.bridge.stats();
    assert_eq!((stats.conferences, stats.endpoints, stats.queues.requests), (3, 3, 2));
    assert_eq!(rig.bridge.health(), Ok(()));
    assert!(rig.bridge.stress_level() >= 0.0 && rig.bridge.alive().is_ok());
    let status = SelfReport::new(rig.bridge.clone(), "test").status(Some(OTHER)).await;
    assert_eq!(status.shown.unwrap().summary.meeting_id, OTHER);

    release.send(()).unwrap();
    assert!(question.await.is_some());
    for answer in waiting {
        answer.await.unwrap().unwrap();
    }
    assert_eq!(rig.bridge.stats().endpoints, 5);
}

/// A change that panics is one conference's matter, and not its end.
#[tokio::test(start_paused = true)]
async fn a_message_that_cannot_be_handled_ends_nothing() {
    let rig = rig(BridgeConfig::default());
    rig.create("m", "alice").await.unwrap();
    let conference = rig.bridge.inner.registry.by_meeting("m").unwrap();
    let answer = conference.mailbox.ask(|_, _| -> () { panic!("as a mistake of ours would") });
    assert_eq!(answer.await, None);
    rig.join("m", "bob").await.unwrap();
    assert_eq!(rig.bridge.stats().endpoints, 2);
}

/// Callers that wait when a conference ends get an error, and none waits for ever.
#[tokio::test(start_paused = true)]
async fn callers_of_a_conference_that_ends_get_an_error() {
    let rig = rig(BridgeConfig::default());
    rig.create("m", "alice").await.unwrap();
    let handle = rig.bridge.inner.registry.by_meeting("m").unwrap();
    let ended = rig.bridge.expire_all();
    let request = creation("m", "bob").to_string();
    let request = json::read_conference_modify(request.as_bytes(), None).unwrap();
    let answer = rig.bridge.submit(request);
    let question = handle.mailbox.ask(|_, _| ());
    ended.await;
    assert_eq!(answer.await.unwrap_err().condition, Condition::ItemNotFound);
    assert_eq!(question.await, None);
    assert_eq!(handle.mailbox.ask(|_, _| ()).await, None, "nor later");
    rig.create("m", "alice").await.expect("the meeting may begin again");
}
