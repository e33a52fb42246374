//! What the tests stand on.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Instant,
};

use rialto_engine::{Control, Engine, MediaEvent, Recorder};
use rialto_media::EndpointId;
use rialto_transport::{SendError, TransportCounters, TransportUpdate};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::{
    bridge::{Bridge, BridgeConfig, RestartAnswer, TransportPort},
    colibri::{ColibriError, IceUdp, json},
    conference::CreateTransport,
};

/// Transports that record the calls to them.
#[derive(Clone, Default)]
pub(crate) struct FakeTransports {
    calls: Arc<Mutex<HashMap<EndpointId, Vec<String>>>>,
    heard: Arc<Mutex<HashMap<EndpointId, Instant>>>,
}

impl FakeTransports {
    fn note(&self, endpoint: EndpointId, what: String) {
        self.calls.lock().unwrap().entry(endpoint).or_default().push(what);
    }

    pub(crate) fn calls(&self, endpoint: u32) -> Vec<String> {
        self.calls.lock().unwrap().get(&EndpointId(endpoint)).cloned().unwrap_or_default()
    }

    /// An answer to a consent check comes now.
    pub(crate) fn answer_consent(&self, endpoint: EndpointId) {
        let now = tokio::time::Instant::now().into_std();
        self.heard.lock().unwrap().insert(endpoint, now);
    }
}

fn described(endpoint: EndpointId, generation: Option<u32>) -> IceUdp {
    IceUdp {
        ufrag: Some(format!("ufrag{}", endpoint.0)),
        ice_generation: generation,
        ..IceUdp::default()
    }
}

impl TransportPort for FakeTransports {
    fn create(&self, endpoint: EndpointId, create: CreateTransport, label: Arc<str>) {
        let endpoint_id = label.split('/').nth(1).unwrap();
        let CreateTransport { controlling, private_addresses } = create;
        self.note(endpoint, format!("create {endpoint_id} {controlling} {private_addresses}"));
    }

    fn set_remote(&self, endpoint: EndpointId, remote: &IceUdp) {
        self.note(endpoint, format!("remote {}", remote.ufrag.as_deref().unwrap_or("-")));
    }

    fn restart_ice(&self, endpoint: EndpointId) -> RestartAnswer {
        self.note(endpoint, "restart".into());
        RestartAnswer::Started(described(endpoint, Some(1)))
    }

    fn describe(&self, endpoint: EndpointId) -> Option<IceUdp> {
        Some(described(endpoint, None))
    }

    fn offer_sctp(&self, endpoint: EndpointId) {
        self.note(endpoint, "offer sctp".into());
    }

    fn send_text(&self, endpoint: EndpointId, text: &str) -> Result<(), SendError> {
        self.note(endpoint, format!("text {text}"));
        Ok(())
    }

    fn remove(&self, endpoint: EndpointId) {
        self.note(endpoint, "remove".into());
    }

    fn debug(&self, _endpoint: EndpointId) -> Value {
        Value::Null
    }

    fn counters(&self) -> TransportCounters {
        TransportCounters::default()
    }

    fn last_activity(&self, endpoint: EndpointId) -> Option<Instant> {
        self.heard.lock().unwrap().get(&endpoint).copied()
    }
}

/// A bridge and all that it is connected to.
pub(crate) struct Rig {
    pub bridge: Bridge,
    pub transports: FakeTransports,
    pub recorder: Arc<Recorder>,
    pub media: mpsc::Sender<MediaEvent>,
    pub updates: mpsc::UnboundedSender<TransportUpdate>,
}

pub(crate) fn rig(config: BridgeConfig) -> Rig {
    let (engine, recorder) = Engine::detached(vec!["127.0.0.1:10000".parse().unwrap()]);
    let transports = FakeTransports::default();
    let (media, media_events) = mpsc::channel(64);
    let (updates, transport_updates) = mpsc::unbounded_channel();
    let bridge = Bridge::new(config, engine, transports.clone(), media_events, transport_updates);
    Rig { bridge, transports, recorder, media, updates }
}

impl Rig {
    /// Sends a request in its JSON form; the answer in its JSON form.
    pub(crate) async fn ask(&self, request: &Value) -> Result<Value, ColibriError> {
        ask(&self.bridge, request).await
    }

    /// Creates a conference with one endpoint that takes and gives audio and video.
    pub(crate) async fn create(
        &self,
        meeting: &str,
        endpoint: &str,
    ) -> Result<Value, ColibriError> {
        let mut request = creation(meeting, endpoint);
        request["create"] = true.into();
        self.ask(&request).await
    }

    /// Adds an endpoint that takes and gives audio and video.
    pub(crate) async fn join(&self, meeting: &str, endpoint: &str) -> Result<Value, ColibriError> {
        self.ask(&creation(meeting, endpoint)).await
    }

    /// Takes the commands that the engine got since the last call, once conferences have handled their
    /// messages.
    pub(crate) async fn take_controls(&self) -> Vec<Control> {
        self.settle().await;
        self.recorder.take()
    }

    /// Returns when conferences have handled everything that was sent to them before.
    pub(crate) async fn settle(&self) {
        for conference in self.bridge.inner.registry.all() {
            conference.mailbox.ask(|_, _| ()).await;
        }
    }
}

pub(crate) async fn ask(bridge: &Bridge, request: &Value) -> Result<Value, ColibriError> {
    let request = json::read_conference_modify(request.to_string().as_bytes(), None).unwrap();
    bridge.modify(request).await.map(|answer| json::write_conference_modified(&answer))
}

/// A request that creates an endpoint.
pub(crate) fn creation(meeting: &str, endpoint: &str) -> Value {
    serde_json::json!({
        "meeting-id": meeting,
        "endpoints": [{
            "id": endpoint,
            "create": true,
            "medias": [
                { "type": "audio", "payload-types": [{ "id": "111", "name": "opus" }] },
                { "type": "video", "payload-types": [{ "id": "100", "name": "VP8" }] },
            ],
            "transport": { "ice-controlling": true },
            "capabilities": ["source-names"],
        }],
    })
}

/// A request that sets an endpoint's sources: a microphone and a simulcast camera.
pub(crate) fn sources(meeting: &str, endpoint: &str, first_ssrc: u32) -> Value {
    let s = first_ssrc;
    serde_json::json!({
        "meeting-id": meeting,
        "endpoints": [{
            "id": endpoint,
            "sources": [
                { "type": "audio", "id": format!("{endpoint}-a0"), "sources": [s] },
                {
                    "type": "video",
                    "id": format!("{endpoint}-v0"),
                    "sources": [s + 1, s + 2, s + 3, s + 4],
                    "ssrc-groups": [
                        { "semantics": "SIM", "sources": [s + 1, s + 2] },
                        { "semantics": "FID", "sources": [s + 1, s + 3] },
                        { "semantics": "FID", "sources": [s + 2, s + 4] },
                    ],
                },
            ],
        }],
    })
}
