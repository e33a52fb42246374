//! Every refusal: which error, and which one first.

use serde_json::{Value, json};

use super::rig::{Rig, creation, rig, sources};
use crate::{
    bridge::{BridgeConfig, ShutdownState},
    colibri::{ColibriError, Condition, Reason},
};

const M: &str = "meeting";

type Repair = fn(&mut Value);

async fn with_alice(config: BridgeConfig) -> Rig {
    let rig = rig(config);
    rig.create(M, "alice").await.unwrap();
    rig
}

/// A request that creates bob, changed.
fn bob(change: impl FnOnce(&mut Value)) -> Value {
    let mut request = creation(M, "bob");
    change(&mut request["endpoints"][0]);
    request
}

#[track_caller]
fn is(error: &ColibriError, condition: Condition, reason: Option<Reason>, text: &str) {
    assert_eq!((error.condition, error.reason), (condition, reason), "{error}");
    assert!(error.text.contains(text), "{error}");
}

#[tokio::test(start_paused = true)]
async fn conferences() {
    use Condition::{BadRequest, Conflict, ItemNotFound};
    let rig = with_alice(BridgeConfig::default()).await;
    let error = rig.create(M, "bob").await.unwrap_err();
    is(&error, Conflict, Some(Reason::ConferenceAlreadyExists), "already exists for ID: meeting");
    let error = rig.join("other", "bob").await.unwrap_err();
    is(&error, ItemNotFound, Some(Reason::ConferenceNotFound), "not found for ID: other");
    let named = json!({ "meeting-id": "n", "create": true, "name": "no jid" });
    let error = rig.ask(&named).await.unwrap_err();
    is(&error, BadRequest, None, "not a JID");
    assert!(!rig.bridge.conference_exists("n"));
    for bad in [json!(""), json!("a\nb"), json!("x".repeat(257))] {
        let error = rig.ask(&json!({ "meeting-id": bad, "create": true })).await.unwrap_err();
        is(&error, BadRequest, None, "meeting-id");
    }
}

#[tokio::test(start_paused = true)]
async fn existing_wins_over_shutdown_wins_over_the_name() {
    let rig = with_alice(BridgeConfig::default()).await;
    rig.bridge.graceful_shutdown();
    assert_eq!(rig.bridge.shutdown_state(), ShutdownState::Graceful);
    let mut again = creation(M, "bob");
    again["create"] = true.into();
    again["name"] = "no jid".into();
    let error = rig.ask(&again).await.unwrap_err();
    assert_eq!(error.reason, Some(Reason::ConferenceAlreadyExists));
    again["meeting-id"] = "new".into();
    let error = rig.ask(&again).await.unwrap_err();
    is(
        &error,
        Condition::ServiceUnavailable,
        Some(Reason::GracefulShutdown),
        "In graceful shutdown",
    );
    rig.join(M, "bob").await.expect("conferences that exist go on");
}

#[tokio::test(start_paused = true)]
async fn shapes() {
    let rig = with_alice(BridgeConfig::default()).await;
    let relay = json!({ "id": "r", "expire": true });
    let two = |second: Value| json!({ "meeting-id": M, "endpoints": [{ "id": "alice" }, second] });
    for (request, text) in [
        (json!({ "meeting-id": M, "endpoints": [{ "id": "a" }], "relays": [relay] }), "both"),
        (json!({ "meeting-id": M, "relays": [relay, relay] }), "more than one 'relay'"),
        (two(json!({ "id": "b", "create": true })), "more than one endpoint"),
        (two(json!({ "id": "b", "sources": [] })), "more than one endpoint"),
        (two(json!({ "id": "b", "transport": {} })), "more than one endpoint"),
        (two(json!({ "id": "b", "medias": [{ "type": "audio" }] })), "more than one endpoint"),
    ] {
        let error = rig.ask(&request).await.unwrap_err();
        let reason = Some(Reason::FeatureNotImplemented);
        is(&error, Condition::FeatureNotImplemented, reason, text);
    }
    let error = rig.ask(&json!({ "meeting-id": M, "relays": [relay] })).await.unwrap_err();
    is(&error, Condition::FeatureNotImplemented, None, "Octo is disabled");
    // Not so where the configuration asks for it: it is this bridge that has no relays.
    let rig = with_alice(BridgeConfig { relays_wanted: true, ..BridgeConfig::default() }).await;
    let error = rig.ask(&json!({ "meeting-id": M, "relays": [relay] })).await.unwrap_err();
    is(&error, Condition::FeatureNotImplemented, None, "not implemented yet");
}

/// Where export is asked for, the conference goes on.
#[tokio::test(start_paused = true)]
async fn exports() {
    let rig = with_alice(BridgeConfig::default()).await;
    let connects = |connects: Value| json!({ "meeting-id": M, "connects": connects });
    let create = json!({ "id": "x", "create": true, "url": "wss://x", "audio": true });
    for taken in [json!([]), json!([create]), json!([{ "id": "x", "expire": true }, create])] {
        let answer = rig.ask(&connects(taken)).await.unwrap();
        assert_eq!(answer, json!({}));
    }
    let error = rig.ask(&connects(json!([create]))).await.unwrap_err();
    is(&error, Condition::BadRequest, None, "connect x already exists");
    // Nothing of a request that is refused is kept.
    let both = json!({
        "meeting-id": M, "connects": [{ "id": "x", "expire": true }],
        "endpoints": [{ "id": "nobody", "sources": [] }],
    });
    rig.ask(&both).await.unwrap_err();
    rig.ask(&connects(json!([create]))).await.unwrap_err();
    let video = json!([{ "id": "y", "create": true, "video": true }]);
    let error = rig.ask(&connects(video)).await.unwrap_err();
    is(&error, Condition::FeatureNotImplemented, None, "video");
}

#[tokio::test(start_paused = true)]
async fn creation_is_checked_in_order() {
    use Condition::{BadRequest, Conflict, FeatureNotImplemented};
    let rig = with_alice(BridgeConfig::default()).await;
    // Everything is wrong at first; each step corrects the reported error.
    let mut request = bob(|bob| {
        *bob = json!({
            "id": "alice",
            "create": true,
            "muc-role": "visitor",
            "sources": [
                { "type": "audio", "id": "x", "sources": [1] },
                { "type": "audio", "id": "x", "sources": [2] },
            ],
        });
    });
    let steps: [(Condition, &str, Repair); 6] = [
        (Conflict, "Endpoint with ID alice already exists", |e| e["id"] = "bob".into()),
        (BadRequest, "create endpoint bob with no <transport>", |e| {
            e["transport"] = json!({ "sctp": { "role": "client", "port": 1 } });
        }),
        (BadRequest, "Source name support is mandatory.", |e| {
            e["capabilities"] = json!(["source-names"]);
        }),
        (FeatureNotImplemented, "SCTP support is not configured", |e| {
            e["transport"] = json!({});
        }),
        (BadRequest, "Attempt to set sources for visitor endpoint bob", |e| {
            e["muc-role"] = "participant".into();
        }),
        (BadRequest, "source x is listed twice", |e| e["sources"] = json!([])),
    ];
    for (condition, text, repair) in steps {
        let error = rig.ask(&request).await.unwrap_err();
        is(&error, condition, None, text);
        repair(&mut request["endpoints"][0]);
    }
    rig.ask(&request).await.expect("nothing is left to complain about");
}

#[tokio::test(start_paused = true)]
async fn sctp_where_it_is_configured() {
    use Condition::{BadRequest, FeatureNotImplemented};
    let rig = with_alice(BridgeConfig { sctp: true, ..BridgeConfig::default() }).await;
    let sctp = |sctp: Value| bob(|bob| bob["transport"] = json!({ "sctp": sctp }));
    let error = rig.ask(&sctp(json!({ "role": "client", "port": 1 }))).await.unwrap_err();
    is(&error, FeatureNotImplemented, None, "Unsupported SCTP role");
    let error = rig.ask(&sctp(json!({ "role": "server", "port": 1 }))).await.unwrap_err();
    is(&error, BadRequest, None, "Specific SCTP port");
    let answer = rig.ask(&sctp(json!({}))).await.unwrap();
    let sctp = &answer["endpoints"][0]["transport"]["sctp"];
    assert_eq!(*sctp, json!({ "port": 5000, "role": "server" }));
}

#[tokio::test(start_paused = true)]
async fn sctp_that_a_creation_is_refused_for_is_passed_over_in_an_update() {
    let update = |sctp: Value| {
        let transport = json!({ "sctp": sctp, "ice-restart": true });
        json!({ "meeting-id": M, "endpoints": [{ "id": "alice", "transport": transport }] })
    };
    let offers =
        |rig: &Rig| rig.transports.calls(1).iter().filter(|call| *call == "offer sctp").count();
    for (configured, sctp, expected) in [
        (false, json!({}), 0),
        (false, json!({ "role": "server", "port": 5000 }), 0),
        (true, json!({ "role": "client" }), 0),
        (true, json!({ "port": 1 }), 0),
        (true, json!({}), 1),
    ] {
        let rig = with_alice(BridgeConfig { sctp: configured, ..BridgeConfig::default() }).await;
        let answer = rig.ask(&update(sctp.clone())).await.unwrap();
        assert_eq!(offers(&rig), expected, "{configured} {sctp}");
        let told = !answer["endpoints"][0]["transport"]["sctp"].is_null();
        assert_eq!(told, expected == 1, "{configured} {sctp}: {answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_request_changes_nothing() {
    let rig = with_alice(BridgeConfig::default()).await;
    rig.take_controls().await;
    let before = rig.bridge.stats();
    let request = bob(|bob| {
        bob["sources"] = json!([{ "type": "audio", "id": "b", "sources": [1, 1] }]);
    });
    rig.ask(&request).await.unwrap_err();
    assert!(rig.take_controls().await.is_empty());
    assert_eq!(rig.bridge.stats(), before);
    rig.join(M, "bob").await.expect("there is no bob yet");
}

#[tokio::test(start_paused = true)]
async fn unknown_endpoints_matter_only_to_who_wants_something_of_them() {
    let rig = with_alice(BridgeConfig::default()).await;
    let endpoint = |e: Value| json!({ "meeting-id": M, "endpoints": [e] });
    for ignored in [
        json!({ "id": "bob" }),
        json!({ "id": "bob", "force-mute": { "audio": true } }),
        json!({ "id": "bob", "initial-last-n": { "value": 1 } }),
    ] {
        let answer = rig.ask(&endpoint(ignored)).await.unwrap();
        assert_eq!(answer, json!({ "endpoints": [{ "id": "bob" }] }));
    }
    let answer = rig.ask(&endpoint(json!({ "id": "bob", "expire": true }))).await.unwrap();
    assert_eq!(answer, json!({ "endpoints": [{ "id": "bob", "expire": true }] }));
    for wanted in [
        json!({ "id": "bob", "sources": [] }),
        json!({ "id": "bob", "transport": {} }),
        json!({ "id": "bob", "medias": [{ "type": "audio" }] }),
    ] {
        let error = rig.ask(&endpoint(wanted)).await.unwrap_err();
        is(&error, Condition::ItemNotFound, Some(Reason::UnknownEndpoint), "ID: bob");
        assert_eq!(error.endpoint.as_deref(), Some("bob"));
    }
    for bad in ["", "a\u{7}b", &"x".repeat(257)] {
        let error = rig.ask(&endpoint(json!({ "id": bad, "expire": true }))).await.unwrap_err();
        is(&error, Condition::BadRequest, None, "id");
    }
}

#[tokio::test(start_paused = true)]
async fn an_ssrc_belongs_to_one_endpoint() {
    let rig = with_alice(BridgeConfig::default()).await;
    rig.ask(&sources(M, "alice", 100)).await.unwrap();
    rig.join(M, "bob").await.unwrap();
    let error = rig.ask(&sources(M, "bob", 104)).await.unwrap_err();
    is(&error, Condition::Conflict, None, "SSRC 104 of source bob-a0 is endpoint alice's");
    rig.ask(&sources(M, "alice", 200)).await.unwrap();
    rig.ask(&sources(M, "bob", 104)).await.expect("alice gave it up");
    let gone = json!({ "meeting-id": M, "endpoints": [{ "id": "bob", "expire": true }] });
    rig.ask(&gone).await.unwrap();
    rig.ask(&sources(M, "alice", 104)).await.expect("bob is gone");
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses() {
    let config = BridgeConfig { max_queued_requests: 2, ..BridgeConfig::default() };
    let rig = with_alice(config).await;
    let request = crate::colibri::ConferenceModify {
        meeting_id: M.into(),
        ..crate::colibri::ConferenceModify::default()
    };
    let waiting: Vec<_> = (0..3).map(|_| rig.bridge.submit(request.clone())).collect();
    let mut answers = Vec::new();
    for answer in waiting {
        answers.push(answer.await);
    }
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 2);
    let error = answers.pop().unwrap().unwrap_err();
    is(&error, Condition::ResourceConstraint, None, "Too many requests");
    assert_eq!(rig.bridge.stats().requests_refused, 1);
}

#[tokio::test(start_paused = true)]
async fn a_meeting_whose_creation_was_refused_may_be_created() {
    let rig = rig(BridgeConfig::default());
    let mut refused = creation("m", "alice");
    refused["relays"] = json!([{ "id": "r" }]);
    for _ in 0..2 {
        let error = rig.ask(&refused).await.unwrap_err();
        assert!(!error.to_string().contains("already exists"), "{error}");
        assert_eq!(rig.bridge.stats().conferences, 0);
    }
    rig.create("m", "alice").await.unwrap();
    assert_eq!(rig.bridge.stats().conferences, 1);
}
