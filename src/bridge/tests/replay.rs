//! What a real focus asked of a real Jitsi Videobridge, asked of this bridge: the answers must be the
//! same but for what every bridge chooses for itself.

use std::{fs, path::PathBuf};

use rialto_engine::Engine;
use rialto_transport::{TransportConfig, Transports};
use serde_json::Value;
use tokio::sync::mpsc;

use super::rig::{ask, creation, rig};
use crate::{
    bridge::{Bridge, BridgeConfig, EngineCommands},
    colibri::{ColibriError, json},
};

fn data(directory: &str) -> Vec<(String, Value)> {
    let directory =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/colibri").join(directory);
    let mut files: Vec<PathBuf> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    files
        .into_iter()
        .map(|file| {
            let name = file.file_stem().unwrap().to_string_lossy().into_owned();
            (name, serde_json::from_slice(&fs::read(file).unwrap()).unwrap())
        })
        .collect()
}

/// A bridge with real transports on one loopback address, and SCTP announced: what is compared is
/// what is signalled.
fn bridge() -> (Bridge, mpsc::Sender<rialto_engine::MediaEvent>) {
    bridge_with(TransportConfig::default())
}

fn bridge_with(transports: TransportConfig) -> (Bridge, mpsc::Sender<rialto_engine::MediaEvent>) {
    let (engine, _) = Engine::detached(vec!["127.0.0.1:10000".parse().unwrap()]);
    let (transports, updates) =
        Transports::new(transports, EngineCommands::sink(engine.clone()), [7; 32]).unwrap();
    let (media, events) = mpsc::channel(1);
    let config = BridgeConfig { sctp: true, ..BridgeConfig::default() };
    (Bridge::new(config, engine, transports, events, updates), media)
}

/// Replaces what a bridge chooses for itself, and leaves out the bridge channel's address.
fn without_choices(answer: &mut Value) {
    const CHOSEN: [&str; 9] =
        ["ufrag", "pwd", "fingerprint", "ssrc", "id", "ip", "port", "priority", "foundation"];
    fn blank(value: &mut Value, inside_transport: bool) {
        match value {
            Value::Object(fields) => {
                fields.shift_remove("web-sockets");
                for (name, value) in fields.iter_mut() {
                    let chosen = CHOSEN.contains(&name.as_str()) && !value.is_object();
                    let scoped = matches!(name.as_str(), "id" | "port");
                    if chosen && (!scoped || inside_transport) {
                        *value = "*".into();
                    } else {
                        blank(value, inside_transport || name == "candidates");
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|v| blank(v, inside_transport)),
            _ => {}
        }
    }
    blank(answer, false);
}

fn assert_same(name: &str, exchange: &Value, answer: Result<Value, ColibriError>) {
    match answer {
        Ok(mut answer) => {
            let mut expected =
                exchange.get("answer").unwrap_or_else(|| panic!("{name}: {answer}")).clone();
            without_choices(&mut expected);
            without_choices(&mut answer);
            assert_eq!(answer.to_string(), expected.to_string(), "{name}");
        }
        Err(error) => {
            let expected = exchange.get("error").unwrap_or_else(|| panic!("{name}: {error}"));
            let said = |field: &str| expected.get(field).and_then(Value::as_str);
            assert_eq!(Some(error.condition.as_str()), said("condition"), "{name}");
            assert_eq!(Some(error.text.as_str()), said("text"), "{name}");
            assert_eq!(error.reason.map(crate::colibri::Reason::as_str), said("reason"), "{name}");
            assert_eq!(error.endpoint.as_deref(), said("endpoint"), "{name}");
        }
    }
}

async fn replay(directory: &str) {
    let (bridge, _media) = bridge();
    for (name, exchange) in data(directory) {
        let request = exchange["request"].to_string();
        match json::read_conference_modify(request.as_bytes(), None) {
            Ok(request) => {
                let answer = bridge.modify(request).await;
                let answer = answer.map(|answer| json::write_conference_modified(&answer));
                assert_same(&name, &exchange, answer);
            }
            // JVB does not answer what it cannot read.
            Err(error) => assert!(exchange["error"].is_null(), "{name}: {error}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_conference_from_its_first_to_its_last_request() {
    replay("main").await;
}

#[tokio::test(start_paused = true)]
async fn a_conference_with_moderation() {
    replay("moderation").await;
}

#[tokio::test(start_paused = true)]
async fn single_requests_with_odd_answers() {
    replay("direct").await;
}

#[tokio::test(start_paused = true)]
async fn pipelined_requests_are_answered_in_order() {
    let (bridge, _media) = bridge();
    let waiting: Vec<_> = data("main")
        .into_iter()
        .map(|(name, exchange)| {
            let request = exchange["request"].to_string();
            let request = json::read_conference_modify(request.as_bytes(), None).unwrap();
            (name, exchange, request)
        })
        .take_while(|(name, ..)| !name.contains("expire-conference"))
        .map(|(name, exchange, request)| (name, exchange, bridge.submit(request)))
        .collect();
    for (name, exchange, answer) in waiting {
        let answer = answer.await.map(|answer| json::write_conference_modified(&answer));
        assert_same(&name, &exchange, answer);
    }
}

/// A focus learns from the transport in the answer whether there will be a restart: without one, it begins
/// the session anew; one without a generation, and the client goes on with what it has.
#[tokio::test(start_paused = true)]
async fn a_restart_that_is_refused_has_no_transport_in_its_answer() {
    let restart = serde_json::json!({
        "meeting-id": "m",
        "endpoints": [{ "id": "a", "transport": { "ice-restart": true } }],
    });
    for restart_enabled in [true, false] {
        let config = TransportConfig { restart_enabled, ..TransportConfig::default() };
        let (bridge, _media) = bridge_with(config);
        let mut create = creation("m", "a");
        create["create"] = true.into();
        let created = ask(&bridge, &create).await.unwrap();
        let answer = ask(&bridge, &restart).await.unwrap();
        let ice = |answer: &Value| answer["endpoints"][0]["transport"]["transport"].clone();
        if restart_enabled {
            assert_eq!(ice(&answer), ice(&created), "it was not connected yet");
            assert!(ice(&answer).get("ice-generation").is_none(), "{answer}");
        } else {
            assert_eq!(answer, serde_json::json!({ "endpoints": [{ "id": "a" }] }));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn answers_over_http_are_the_same_to_the_byte() {
    let rig = rig(BridgeConfig::default());
    let (bridge, _media) = bridge();
    let expected: Vec<Value> = data("http").into_iter().map(|(_, answer)| answer).collect();
    let meeting = "963cbb60-c149-40fc-b4e7-70722c839eb7";
    let mut create = creation(meeting, "abcd0001");
    create["create"] = true.into();
    let update = super::rig::sources(meeting, "abcd0001", 111_111);
    let mute = serde_json::json!({
        "meeting-id": meeting,
        "endpoints": [{ "id": "abcd0001", "force-mute": { "audio": true, "video": true } }],
    });
    let expire = serde_json::json!({
        "meeting-id": meeting,
        "endpoints": [{ "id": "abcd0001", "expire": true }],
    });
    for (request, expected) in [create, update, mute, expire].iter().zip(expected) {
        let mut expected = expected;
        let mut answer = ask(&bridge, request).await.unwrap();
        without_choices(&mut expected);
        without_choices(&mut answer);
        assert_eq!(answer.to_string(), expected.to_string());
    }
    assert!(!bridge.conference_exists(meeting), "nobody is left");
    drop(rig);
}
