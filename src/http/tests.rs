//! Tests the handlers with a detached engine against JVB's answers to the same requests
//! (`tests/data/http`).

use std::{collections::BTreeSet, path::Path, sync::Arc};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::Request,
};
use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use rialto_engine::{Engine, MediaEvent};
use rialto_transport::{TransportConfig, Transports};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};
use tokio_rustls::rustls;
use tower::ServiceExt;

use super::*;
use crate::{
    bridge::{BridgeConfig, EngineCommands},
    config::{Rest, Xmpp},
    faces::{self, colibri2},
    xmpp::client::MucCounts,
};

/// An answer of this bridge, or a captured one.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: u16,
    pub content_type: Option<String>,
    pub allow: Option<String>,
    pub body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{}", self.body))
    }

    pub(crate) fn keys(&self) -> BTreeSet<String> {
        self.json().as_object().unwrap().keys().cloned().collect()
    }
}

pub(super) fn captured(name: &str) -> Answer {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/http").join(format!("{name}.txt"));
    let text = std::fs::read_to_string(path).unwrap().replace("\r\n", "\n");
    let text = text.split_once("HTTP/1.1 ").unwrap().1;
    let (head, body) = text.split_once("\n\n").unwrap();
    let header = |name: &str| {
        let value = head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        value.map(str::to_owned)
    };
    Answer {
        status: head.get(..3).unwrap().parse().unwrap(),
        content_type: header("Content-Type"),
        allow: header("Allow"),
        body: body.to_owned(),
    }
}

pub(super) struct Http {
    router: Router,
    limiter: RequestLimiter,
    pub bridge: Bridge,
    /// Keeps the engine's side of the channel, as a running engine does.
    _events: mpsc::Sender<MediaEvent>,
}

impl Http {
    pub(crate) fn new(rest: &Rest) -> Self {
        Self::with_region(rest, None)
    }

    fn with_region(rest: &Rest, region: Option<&str>) -> Self {
        let (engine, _) = Engine::detached(vec!["127.0.0.1:10000".parse().unwrap()]);
        let (transports, updates) = Transports::new(
            TransportConfig::default(),
            EngineCommands::sink(engine.clone()),
            [7; 32],
        )
        .unwrap();
        let (events, media) = mpsc::channel(8);
        let bridge = Bridge::new(BridgeConfig::default(), engine, transports, media, updates);
        let report = SelfReport::new(bridge.clone(), VERSION).at(None, region);
        let (about, counts) = (colibri2::About::default(), MucCounts::default());
        let clients = faces::connect_clients(&Xmpp::default(), &report, about, counts);
        let limiter = RequestLimiter::default();
        let router = limited_router(report.clone(), Some(clients), rest, true, &limiter);
        Self { router, limiter, bridge, _events: events }
    }

    pub(crate) fn everything() -> Self {
        Self::new(&Rest { colibri: true, shutdown: true, ..Rest::default() })
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        body: String,
    ) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("accept", accept)
            .header("content-type", "application/json")
            .body(Body::from(body))
            .unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let header = |name: &str| {
            response.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
        };
        let (status, content_type, allow) =
            (response.status().as_u16(), header("content-type"), header("allow"));
        let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        Answer { status, content_type, allow, body: String::from_utf8(bytes.to_vec()).unwrap() }
    }

    /// Status and `Location` of an answer.
    pub(crate) async fn location(&self, path: &str) -> (u16, Option<String>) {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let location = response.headers().get(header::LOCATION);
        (response.status().as_u16(), location.map(|to| to.to_str().unwrap().to_owned()))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, "*/*", String::new()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, "*/*", body.to_string()).await
    }

    async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PATCH, path, "*/*", body.to_string()).await
    }
}

/// Same status, and the same content type unless it is Jetty's error page.
pub(super) fn alike(ours: &Answer, name: &str) {
    let theirs = captured(name);
    assert_eq!(ours.status, theirs.status, "{name}: {ours:?}");
    if !theirs.content_type.as_deref().is_some_and(|kind| kind.starts_with("text/html")) {
        assert_eq!(ours.content_type, theirs.content_type, "{name}");
    }
    if theirs.body.trim().is_empty() {
        assert_eq!(ours.body, "", "{name}");
    }
}

const MEETING: &str = "963cbb60-c149-40fc-b4e7-70722c839eb7";
pub(super) const CONFERENCES: &str = "/colibri/v2/conferences";

fn create() -> Value {
    json!({
        "meeting-id": MEETING,
        "name": "rest@conference.jitsi.local",
        "create": true,
        "endpoints": [{
            "id": "abcd0001",
            "create": true,
            "stats-id": "Rest",
            "capabilities": ["source-names"],
            "transport": { "ice-controlling": true },
            "medias": [
                { "type": "audio", "payload-types": [
                    { "id": 111, "name": "opus", "clockrate": 48000, "channels": 2 },
                ]},
            ],
        }],
    })
}

/// The answer of a client.
fn transport_and_sources() -> Value {
    json!({ "endpoints": [{
        "id": "abcd0001",
        "transport": { "transport": {
            "xmlns": "urn:xmpp:jingle:transports:ice-udp:1",
            "ufrag": "abcd", "pwd": "0123456789012345678901",
        } },
        "sources": [{ "type": "audio", "id": "abcd0001-a0", "sources": [{ "ssrc": 1001 }] }],
    }] })
}

#[tokio::test]
async fn about_drain_debug_and_what_is_not_there() {
    let http = Http::everything();
    alike(&http.get("/about/health").await, "idle-about-health");
    alike(&http.get("/about/health/").await, "idle-about-health");
    let version = http.get("/about/version").await;
    alike(&version, "idle-about-version");
    assert_eq!(version.keys(), captured("idle-about-version").keys());
    assert_eq!(version.json()["os"], captured("idle-about-version").json()["os"]);
    let post = http.post("/about/health", &json!({})).await;
    alike(&post, "idle-post-health");
    assert!(post.allow.unwrap().contains("GET"));
    alike(&http.get("/nosuch").await, "idle-unknown");
    alike(&http.get("/colibri/conferences").await, "idle-conferences-v1-list");
    alike(&http.get(CONFERENCES).await, "idle-conferences-v2-list");
    alike(&http.get(&format!("{CONFERENCES}/{MEETING}")).await, "live-conferences-v2-get");

    let drain = http.get("/colibri/drain").await;
    alike(&drain, "idle-drain");
    assert_eq!(drain.body, captured("idle-drain").body);
    alike(&http.post("/colibri/drain/enable", &json!({})).await, "drain-enable");
    assert_eq!(http.get("/colibri/drain").await.body, captured("drain-enabled-get").body);
    assert!(http.bridge.drain());
    alike(&http.post("/colibri/drain/disable", &json!({})).await, "drain-disable");
    assert!(!http.bridge.drain());

    let debug = http.get("/debug").await;
    alike(&debug, "idle-debug");
    assert_eq!(debug.keys(), captured("idle-debug").keys());
    assert_eq!(debug.json()["health"], captured("idle-debug").json()["health"]);
}

#[tokio::test]
async fn a_conference_over_http() {
    let http = Http::everything();
    let created = http.post(CONFERENCES, &create()).await;
    alike(&created, "rest-1-create");
    let (ours, theirs) = (created.json(), captured("rest-1-create").json());
    let fields = |answer: &Value, pointer: &str| -> BTreeSet<String> {
        let object = answer.pointer(pointer).and_then(Value::as_object);
        object.unwrap_or_else(|| panic!("{pointer} in {answer}")).keys().cloned().collect()
    };
    for pointer in ["", "/endpoints/0", "/sources/0", "/sources/0/sources/0"] {
        assert_eq!(fields(&ours, pointer), fields(&theirs, pointer), "{pointer}");
    }
    let transport = "/endpoints/0/transport/transport";
    let mut expected = fields(&theirs, transport);
    // There is no bridge channel over WebSockets yet.
    expected.remove("web-sockets");
    assert_eq!(fields(&ours, transport), expected);
    let candidate = format!("{transport}/candidates/0");
    assert_eq!(fields(&ours, &candidate), fields(&theirs, &candidate));
    assert_eq!(ours.pointer(&format!("{candidate}/port")).unwrap(), "10000");

    let again = http.post(CONFERENCES, &create()).await;
    alike(&again, "rest-2-create-again");
    assert!(captured("rest-2-create-again").body.contains(&again.body), "{}", again.body);
    assert_eq!(again.content_type.as_deref(), Some("text/plain; charset=utf-8"));

    let path = format!("{CONFERENCES}/{MEETING}");
    let transport = http.patch(&path, &transport_and_sources()).await;
    alike(&transport, "rest-3-patch-transport-and-sources");
    assert_eq!(transport.json(), captured("rest-3-patch-transport-and-sources").json());
    let mute = json!({"endpoints":[{"id":"abcd0001","force-mute":{"audio":true,"video":true}}]});
    let muted = http.patch(&path, &mute).await;
    alike(&muted, "rest-4-patch-force-mute");
    assert_eq!(muted.json(), captured("rest-4-patch-force-mute").json());

    alike(&http.get(&path).await, "rest-5-get");
    let debug = http.get("/debug?full=true").await;
    alike(&debug, "rest-6-debug");
    assert_eq!(debug.keys(), captured("rest-6-debug").keys());
    let debug = debug.json();
    let id = debug["conferences"].as_object().unwrap().keys().next().unwrap().clone();
    let one = http.get(&format!("/debug/{id}/abcd0001")).await.json();
    assert!(one["conferences"][&id]["endpoints"]["abcd0001"].is_object(), "{one}");

    let speakers = http.get(&format!("{path}/dominant-speaker-identification")).await;
    alike(&speakers, "live-conferences-v2-dsi");
    assert_eq!(speakers.keys(), captured("live-conferences-v2-dsi").keys());

    let expire = json!({"endpoints":[{"id":"abcd0001","expire":true}]});
    let expired = http.patch(&path, &expire).await;
    alike(&expired, "rest-7-patch-expire-endpoint");
    assert_eq!(expired.json(), captured("rest-7-patch-expire-endpoint").json());
    alike(&http.patch(&path, &expire).await, "rest-8-patch-gone");
    let unknown = format!("{CONFERENCES}/dc48836d-86af-42a9-9cd3-fd23c6ddfe37");
    alike(&http.patch(&unknown, &json!({"expire":true})).await, "rest-9-patch-expire-unknown");
}

#[tokio::test]
async fn a_bad_request_names_the_field() {
    let http = Http::everything();
    let bad = http.send(Method::POST, CONFERENCES, "*/*", "{".to_owned()).await;
    alike(&bad, "idle-conferences-post-badjson");
    assert!(bad.body.starts_with("Failed to create conference, could not parse JSON: "));
    let empty = http.post(CONFERENCES, &json!({})).await;
    alike(&empty, "idle-conferences-post-empty");
    assert!(empty.body.starts_with("Failed to parse ConferenceModify JSON:meeting-id must be set"));
    let mut wrong = create();
    wrong["endpoints"][0]["transport"]["ice-controlling"] = json!("often");
    let wrong = http.post(CONFERENCES, &wrong).await;
    assert_eq!(wrong.status, 400);
    assert!(wrong.body.contains("endpoints[0].transport.ice-controlling"), "{}", wrong.body);
    let mut unknown = create();
    unknown["endpoints"][0]["colour"] = json!("red");
    let unknown = http.post(CONFERENCES, &unknown).await;
    assert_eq!((unknown.status, unknown.body.contains("colour")), (400, true));
    let large = " ".repeat(BODY_BYTES + 1);
    let large = http.send(Method::POST, CONFERENCES, "*/*", large).await;
    assert_eq!(large.status, StatusCode::PAYLOAD_TOO_LARGE.as_u16());
}

#[tokio::test]
async fn every_metric_is_documented() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let metrics = Http::everything().get("/metrics").await;
    for name in metrics.body.lines().filter(|line| !line.starts_with('#')) {
        let name = name.split([' ', '{']).next().unwrap();
        let name = name.split("_bucket").next().unwrap();
        let of_distribution = ["_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let written = |name: &str| docs.contains(&format!("| `{name}` |"));
        assert!(written(name) || of_distribution.is_some_and(written), "{name}");
    }
    for (reason, _) in rialto_media::DropCounters::default().all() {
        assert!(docs.contains(&format!("| `{reason}` |")), "{reason}");
    }
}

/// Returns the metrics that a text names.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(move |c| !plain(c));
    words.filter(|word| word.starts_with("jitsi_jvb_") || word.starts_with("rialto_")).collect()
}

/// Returns the expressions of a dashboard's panels, variables and annotations.
fn expressions(json: &Value, found: &mut Vec<String>) {
    match json {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::String(text) if key == "expr" || key == "definition" => {
                        found.push(text.clone());
                    }
                    value => expressions(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| expressions(value, found)),
        _ => {}
    }
}

#[tokio::test]
async fn the_dashboard_and_the_alerts_ask_for_metrics_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| std::fs::read_to_string(root.join(name)).unwrap();
    let there = Http::everything().get("/metrics").await.body;
    let docs = read("docs/metrics.md");
    let samples: BTreeSet<_> =
        there.lines().filter_map(|line| line.split([' ', '{']).next()).collect();
    let mut asked = Vec::new();
    let dashboard: Value = serde_json::from_str(&read("config/grafana-dashboard.json")).unwrap();
    expressions(&dashboard, &mut asked);
    assert!(asked.len() > 40, "{}", asked.len());
    let alerts = read("config/alerts.yml");
    let of_alerts = alerts.split("\n      - alert: ").skip(1);
    for alert in of_alerts {
        for part in ["\n        expr: ", "severity: ", "summary: ", "description: "] {
            assert!(alert.contains(part), "{part} is not in {alert}");
        }
        asked.push(alert.to_owned());
    }
    for text in &asked {
        for name in metrics_in(text) {
            // A family without a sample yet is in the documents, which list all metrics.
            let family = name.strip_suffix("_bucket").unwrap_or(name);
            let is_documented = docs.contains(&format!("| `{family}` |"));
            assert!(samples.contains(name) || is_documented, "{name} in {text}");
        }
        // The values of labels too.
        for part in text.split("reason=~\"").skip(1) {
            for reason in part.split('"').next().unwrap().split('|') {
                assert!(docs.contains(&format!("| `{reason}` |")), "{reason} in {text}");
            }
        }
    }
}

#[tokio::test]
async fn the_documentation_says_of_each_metric_what_its_help_does() {
    let rest = Rest { transit_times: true, ..Rest::default() };
    let text = Http::with_region(&rest, Some("eu")).get("/metrics").await.body;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = std::fs::read_to_string(root.join("docs/metrics.md")).unwrap();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("# ")).peekable();
    let mut seen = 0;
    while let Some(line) = lines.next() {
        let Some((name, help)) = line.strip_prefix("HELP ").and_then(|rest| rest.split_once(' '))
        else {
            continue;
        };
        let kind = lines.peek().and_then(|next| next.strip_prefix("TYPE ")?.split(' ').nth(1));
        let end = match kind {
            Some("counter") => "_total",
            Some("info") => "_info",
            _ => "",
        };
        let start = format!("| `{name}{end}` | {} | ", kind.unwrap());
        let row = docs.lines().find_map(|row| row.strip_prefix(&start));
        let row = row.unwrap_or_else(|| panic!("no row that begins: {start}"));
        assert!(row.starts_with(help), "{name}: {help}");
        seen += 1;
    }
    assert!(seen > 150, "{seen}");
}

/// Metrics of the Java machine only.
const JVM_ONLY: [&str; 4] = ["jvm_gc_count", "jvm_gc_time", "jvm_heap_committed", "jvm_heap_used"];

/// JVB's metrics that are missing here; the documentation gives the reasons.
const LEFT_OUT: [(&str, &str); 2] = [
    ("jvm_", "there is no Java machine, no heap of its own and no garbage collection"),
    ("exporter_", "nothing is exported to recorders and transcribers"),
];

#[tokio::test]
async fn every_metric_of_jvb_is_there_or_left_out_for_a_reason() {
    let rest = Rest { transit_times: true, ..Rest::default() };
    let text = Http::with_region(&rest, Some("eu")).get("/metrics").await.body;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = std::fs::read_to_string(root.join("docs/metrics.md")).unwrap();
    let all = std::fs::read_to_string(root.join("tests/data/metrics/jvb.txt")).unwrap();
    for metric in all.lines() {
        let (name, kind) = metric.split_once(' ').unwrap();
        let family = name.strip_suffix("_total").unwrap_or(name);
        let kind = if family == name { kind } else { "counter" };
        let is_there = text.contains(&format!("# TYPE jitsi_jvb_{family} {kind}\n"));
        let left_out = LEFT_OUT.iter().find(|(start, _)| name.starts_with(start));
        match left_out {
            Some((start, why)) if !is_there => {
                assert!(docs.contains(&format!("| `jitsi_jvb_{start}")), "{start}");
                assert!(docs.contains(why), "{why}");
            }
            _ => assert!(is_there, "{metric}"),
        }
    }
    assert_eq!(all.lines().count(), 128);
}

#[tokio::test]
async fn statistics_have_jvbs_names() {
    let http = Http::everything();
    http.post(CONFERENCES, &create()).await;
    let stats = http.get("/colibri/stats").await;
    alike(&stats, "live-colibri-stats");
    let theirs = captured("live-colibri-stats");
    let (ours, expected) = (stats.keys(), theirs.keys());
    assert_eq!(ours.difference(&expected).collect::<Vec<_>>(), Vec::<&String>::new());
    assert_eq!(expected.difference(&ours).collect::<Vec<_>>(), Vec::<&String>::new());
    let json = stats.json();
    assert_eq!((&json["conferences"], &json["participants"]), (&json!(1), &json!(1)));
    for (name, value) in theirs.json().as_object().unwrap() {
        if let Some(ours) = json.get(name) {
            assert_eq!(ours.is_number(), value.is_number(), "{name}");
            assert_eq!(ours.is_boolean(), value.is_boolean(), "{name}");
        }
    }

    let metrics = http.get("/metrics").await;
    alike(&metrics, "live-metrics");
    let names = |text: &str| -> BTreeSet<String> {
        let samples = text.lines().filter(|line| line.starts_with("jitsi_jvb_"));
        samples.map(|line| line.split(['{', ' ']).next().unwrap_or_default().to_owned()).collect()
    };
    let theirs = names(&captured("live-metrics").body);
    let mut ours = names(&metrics.body);
    // JVB has these only once it has had a relay.
    ours.retain(|name| !name.starts_with("jitsi_jvb_relay_") || !name.contains("_queue_"));
    assert_eq!(ours.difference(&theirs).collect::<Vec<_>>(), Vec::<&String>::new());
    let made: Vec<_> =
        theirs.difference(&ours).filter(|name| !name.ends_with("_created")).collect();
    assert_eq!(made, JVM_ONLY.map(|name| format!("jitsi_jvb_{name}")).iter().collect::<Vec<_>>());

    let json = http.send(Method::GET, "/metrics", "application/json", String::new()).await;
    alike(&json, "live-metrics-json");
    let mut ours = json.keys();
    assert!(ours.remove("rialto"));
    ours.retain(|name| !name.starts_with("relay_") || !name.contains("_queue_"));
    let theirs = captured("live-metrics-json").keys();
    assert_eq!(ours.difference(&theirs).collect::<Vec<_>>(), Vec::<&String>::new());
    assert_eq!(theirs.difference(&ours).collect::<Vec<_>>(), JVM_ONLY);
}

#[tokio::test]
async fn health_does_not_wait_for_other_requests() {
    let http = Http::everything();
    let all = http.limiter.hold().await;
    let ask = |method, path, body: &Value| http.send(method, path, "*/*", body.to_string());
    let mut others = FuturesUnordered::new();
    others.push(ask(Method::POST, CONFERENCES, &create()));
    for path in ["/metrics", "/colibri/stats", "/debug?full=true", "/about/version"] {
        others.push(ask(Method::GET, path, &json!({})));
    }
    // Each of them has many chances to be answered.
    for _ in 0..1000 {
        assert!(others.next().now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    for path in ["/about/health", "/about/health/"] {
        assert_eq!(http.get(path).await.status, 200);
    }
    drop(all);
    let mut answered = 0;
    while let Some(answer) = others.next().await {
        assert_eq!(answer.status, 200, "{answer:?}");
        answered += 1;
    }
    assert_eq!(answered, 5);
}

#[tokio::test]
async fn a_page_of_another_site_changes_nothing() {
    let http = Http::everything();
    let send = |method: Method, origin: &'static str| {
        let request = Request::builder().method(method).uri("/colibri/drain/enable");
        let request = request.header("origin", origin).header("host", "127.0.0.1:8080");
        http.router.clone().oneshot(request.body(Body::empty()).unwrap())
    };
    assert_eq!(send(Method::POST, "http://evil.example").await.unwrap().status(), 403);
    assert_eq!(send(Method::POST, "null").await.unwrap().status(), 403);
    assert!(!http.bridge.drain());
    assert_eq!(send(Method::POST, "http://127.0.0.1:8080").await.unwrap().status(), 200);
    assert!(http.bridge.drain());
}

#[tokio::test]
async fn what_is_switched_off_is_not_there() {
    let http = Http::new(&Rest::default());
    assert_eq!(http.post(CONFERENCES, &create()).await.status, 404);
    assert_eq!(http.get("/colibri/stats").await.status, 404);
    assert_eq!(http.post("/colibri/shutdown", &json!({})).await.status, 404);
    assert_eq!(http.get("/about/health").await.status, 200);
    let none = Rest {
        debug: false,
        drain: false,
        health: false,
        prometheus: false,
        version: false,
        ..Rest::default()
    };
    let http = Http::new(&none);
    for path in ["/about/health", "/about/version", "/metrics", "/debug", "/colibri/drain"] {
        assert_eq!(http.get(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_graceful_shutdown_refuses_new_conferences() {
    let http = Http::everything();
    http.post(CONFERENCES, &create()).await;
    for wrong in [json!({}), json!([]), json!({"graceful-shutdown": 1})] {
        assert_eq!(http.post("/colibri/shutdown", &wrong).await.status, 400, "{wrong}");
    }
    assert!(!http.bridge.is_shutting_down());
    let shutdown = http.post("/colibri/shutdown", &json!({"graceful-shutdown": "true"})).await;
    alike(&shutdown, "shutdown-graceful");
    let mut other = create();
    other["meeting-id"] = json!("another");
    let refused = http.post(CONFERENCES, &other).await;
    assert_eq!(refused.status, 400);
    assert!(refused.body.contains("graceful shutdown"), "{}", refused.body);
    // The existing conference continues, and so does the bridge.
    alike(&http.get("/about/health").await, "shutdown-health");
    let stats = http.get("/colibri/stats").await;
    alike(&stats, "shutdown-stats");
    let (ours, theirs) = (stats.json(), captured("shutdown-stats").json());
    for name in ["graceful_shutdown", "shutting_down", "drain", "healthy", "conferences"] {
        assert_eq!(ours[name], theirs[name], "{name}");
    }
    // `false` waits for no endpoint.
    let shutdown = http.post("/colibri/shutdown", &json!({"graceful-shutdown": false})).await;
    assert_eq!(shutdown.status, 200);
    assert_eq!(http.get("/colibri/stats").await.json()["shutting_down"], true);
}

#[test]
fn a_certificate_that_cannot_be_used_is_named() {
    let text = |certificate: &str, key: &str| {
        tls_config(Path::new(certificate), Path::new(key)).unwrap_err().to_string()
    };
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    assert!(text("/nonexistent.pem", here).starts_with("cannot read /nonexistent.pem: "));
    assert!(text(here, here).contains("holds no PEM certificate"));
}

const REQUEST: &[u8] = b"GET /about/version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn a_server_answers() {
    let http = Http::everything();
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let server = Server::start(listener, http.router.clone(), None).unwrap();
    let busy = bind(server.addr()).unwrap_err().to_string();
    assert!(busy.starts_with(&format!("cannot listen on TCP {}: ", server.addr())), "{busy}");
    let mut stream = TcpStream::connect(server.addr()).await.unwrap();
    stream.write_all(REQUEST).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("Rialto"), "{text}");

    let mut stream = TcpStream::connect(server.addr()).await.unwrap();
    let flood = format!("GET / HTTP/1.1\r\n{}", "X: y\r\n".repeat(20_000));
    // The server closes the connection in the middle of it.
    let _ = stream.write_all(flood.as_bytes()).await;
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text).await;
    assert!(!String::from_utf8_lossy(&text).contains(" 200 "));
}

/// More than a listener's default of 128: the system would drop the rest, and a client would retry after a
/// second.
#[tokio::test]
async fn a_burst_of_connections_waits_to_be_accepted() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(listener) = bind(address.parse().unwrap()) else {
            assert_eq!(address, "[::1]:0", "this machine has IPv4");
            continue;
        };
        let mut connections = Vec::new();
        for _ in 0..200 {
            connections.push(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
        }
    }
}

#[tokio::test]
async fn a_server_answers_over_tls() {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let file = |name: &str, pem: String| {
        let path = std::env::temp_dir().join(format!("rialto-tls-{}-{name}", std::process::id()));
        std::fs::write(&path, pem).unwrap();
        path
    };
    let (certificate, key) = (file("cert", cert.pem()), file("key", signing_key.serialize_pem()));
    let config = tls_config(&certificate, &key).unwrap();
    let swapped = tls_config(&key, &certificate).unwrap_err().to_string();
    assert!(swapped.contains("holds no PEM certificate"), "{swapped}");
    for path in [certificate, key] {
        std::fs::remove_file(path).unwrap();
    }

    let http = Http::everything();
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let server = Server::start(listener, http.router.clone(), Some(config)).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(server.addr()).await.unwrap();
    let name = "localhost".try_into().unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let mut stream = connector.connect(name, stream).await.unwrap();
    stream.write_all(REQUEST).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
}

#[tokio::test]
async fn xmpp_clients_come_and_go() {
    let http = Http::everything();
    let list = || http.send(Method::GET, "/colibri/muc-client/list", "*/*", String::new());
    let post = |path: &'static str, body: &str| {
        http.send(Method::POST, path, "application/json", body.to_owned())
    };
    assert_eq!(list().await.body, "[]");
    let client = r#"{"id":"lab","hostname":"127.0.0.1","port":1,"username":"jvb","password":"s3cr3t",
        "muc_jids":"brewery@internal.example.com","muc_nickname":"one"}"#;
    for _ in 0..2 {
        assert_eq!(post("/colibri/muc-client/add", client).await.status, 200);
        assert_eq!(list().await.body, r#"["lab"]"#);
    }
    for (body, says) in [
        ("", "no JSON"),
        ("[]", "needs an object"),
        (r#"{"hostname":"x"}"#, "needs an id"),
        (r#"{"id":"b","hostname":"x"}"#, "lacks USERNAME"),
        (r#"{"id":"b","port":"many"}"#, "needs a port"),
        (r#"{"id":"b","hostname":{}}"#, "hostname: needs a text"),
    ] {
        let answer = post("/colibri/muc-client/add", body).await;
        assert!(answer.status == 400 && answer.body.contains(says), "{body}: {}", answer.body);
    }
    assert_eq!(post("/colibri/muc-client/remove", r#"{"id":"lab"}"#).await.status, 200);
    assert_eq!(post("/colibri/muc-client/remove", r#"{"id":"lab"}"#).await.status, 200);
    assert_eq!(post("/colibri/muc-client/remove", "{}").await.status, 400);
    assert_eq!(list().await.body, "[]");
}
