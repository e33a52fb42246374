//! Replays the captured requests to a JVB (`tests/data/http`) and compares this bridge's answers with
//! JVB's.

use std::{collections::BTreeSet, path::Path};

use axum::{body::Body, http::Request};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::{
    tests::{Answer, CONFERENCES, Http, alike, captured},
    *,
};

/// Captures whose requests depend on their order; tests of their own replay them in that order.
const IN_ORDER: [&str; 3] = ["drain-", "rest-", "shutdown-"];

/// Statistics of JVB's components that this bridge does not have; they are 404 here.
const UNSUPPORTED: [&str; 3] = ["-node-stats", "-payload-verification", "-stats-pool-stats"];

/// `/` is 404 in JVB and the status page here (`status::tests`).
const ROOT: [&str; 2] = ["idle-root", "live-root"];

/// Fields that only JVB's objects have, and why.
const JVB_ONLY: [(&str, &[&str]); 3] = [
    // A garbage collector and a heap.
    ("-metrics-json", &["jvm_gc_count", "jvm_gc_time", "jvm_heap_committed", "jvm_heap_used"]),
    // Threads for blocking calls, of which there are none.
    ("-task-pool-stats", &["IO_POOL"]),
    // This bridge answers without waiting, so there is no duration to measure.
    ("-xmpp-delay-stats", &["health", "version"]),
];

/// The conference of the captured bridge, and two of its endpoints.
const CONFERENCE: &str = "778cc529e1979bb2";
const MEETING: &str = "7f97d2c4-54e4-4de5-b236-7e73e065fabd";
const PEOPLE: [(&str, &str); 2] = [("dec1e82f", "Alice-xyz"), ("94783f63", "Bob-xyz")];

/// A captured request, written as `# GET /path -H Name: value -d body`.
struct CapturedRequest {
    method: Method,
    path: String,
    accept: String,
    body: String,
    public: bool,
}

impl CapturedRequest {
    fn read(file: &str) -> Option<Self> {
        let line = file.lines().next()?.strip_prefix("# ")?;
        let (line, body) = line.split_once(" -d ").unwrap_or((line, ""));
        let (line, headers) = line.split_once(" -H ").unwrap_or((line, ""));
        let (method, path) = line.split_once(' ')?;
        let path = path.split(' ').next()?;
        let accept = headers.strip_prefix("Accept: ").unwrap_or("*/*");
        Some(Self {
            method: method.parse().ok()?,
            path: path.strip_prefix(":9090").unwrap_or(path).to_owned(),
            accept: accept.to_owned(),
            body: body.to_owned(),
            public: path.starts_with(":9090"),
        })
    }
}

struct TestServer {
    http: Http,
    public: Router,
    /// This bridge's id of the conference, if there is one.
    conference: Option<String>,
}

impl TestServer {
    async fn new(live: bool) -> Self {
        let http = Http::everything();
        let client = r#"{"id":"lab","hostname":"127.0.0.1","port":1,"username":"jvb","password":"x",
            "muc_jids":"brewery@internal.example.com","muc_nickname":"one"}"#;
        let add = "/colibri/muc-client/add";
        assert_eq!(http.send(Method::POST, add, "*/*", client.to_owned()).await.status, 200);
        let mut conference = None;
        if live {
            for (at, (id, stats_id)) in PEOPLE.iter().enumerate() {
                let request = json!({
                    "meeting-id": MEETING,
                    "name": "labroom@conference.jitsi.local",
                    "create": at == 0,
                    "rtcstats-enabled": false,
                    "endpoints": [{
                        "id": id, "create": true, "stats-id": stats_id,
                        "capabilities": ["source-names"], "transport": {},
                    }],
                });
                let path = format!("{CONFERENCES}/{MEETING}");
                let (method, path) = match at {
                    0 => (Method::POST, CONFERENCES),
                    _ => (Method::PATCH, path.as_str()),
                };
                let answer = http.send(method, path, "*/*", request.to_string()).await;
                assert_eq!(answer.status, 200, "{}", answer.body);
            }
            let debug = http.get("/debug").await.json();
            conference = debug["conferences"].as_object().unwrap().keys().next().cloned();
        }
        let sockets = config::WebSockets {
            enabled: true,
            server_id: "jvb-lab-1".to_owned(),
            ..config::WebSockets::default()
        };
        let public = web_sockets(http.bridge.clone(), &sockets);
        Self { http, public, conference }
    }

    async fn ask(&self, request: &CapturedRequest) -> Answer {
        if request.public {
            let request = Request::builder().uri(&request.path).body(Body::empty()).unwrap();
            let response = self.public.clone().oneshot(request).await.unwrap();
            let status = response.status().as_u16();
            return Answer { status, content_type: None, allow: None, body: String::new() };
        }
        let ours = self.conference.as_deref().unwrap_or_default();
        let path = request.path.replace(CONFERENCE, ours);
        self.http.send(request.method.clone(), &path, &request.accept, request.body.clone()).await
    }
}

/// All fields of an object except those that only JVB or only this bridge has.
fn fields(name: &str, object: &Value) -> BTreeSet<String> {
    let alone = JVB_ONLY.iter().find(|(end, _)| name.ends_with(end)).map_or(&[][..], |x| x.1);
    let all = object.as_object().into_iter().flatten().map(|(field, _)| field.clone());
    // JVB has the metrics of a relay's queues only once it has had one.
    let of_relays = |field: &str| {
        name.ends_with("-metrics-json") && field.starts_with("relay_") && field.contains("_queue_")
    };
    all.filter(|field| field != "rialto" && !alone.contains(&field.as_str()) && !of_relays(field))
        .collect()
}

async fn compare(server: &TestServer, name: &str, file: &str) {
    let request = CapturedRequest::read(file)
        .unwrap_or_else(|| panic!("{name} does not say what was request"));
    let ours = server.ask(&request).await;
    if UNSUPPORTED.iter().any(|end| name.ends_with(end)) {
        assert_eq!(ours.status, 404, "{name}");
        return;
    }
    if request.method == Method::OPTIONS {
        let methods = |answer: &Answer| -> BTreeSet<String> {
            let allow = answer.allow.as_deref().unwrap_or_default();
            allow.split(',').map(|method| method.trim().to_owned()).collect()
        };
        assert_eq!(methods(&ours), methods(&captured(name)), "{name}");
    }
    alike(&ours, name);
    let (Ok(ours), Ok(theirs)) =
        (serde_json::from_str(&ours.body), serde_json::from_str(&captured(name).body))
    else {
        return;
    };
    let theirs: Value = theirs;
    assert_eq!(fields(name, &ours), fields(name, &theirs), "{name}");
    if let (Some(id), Some(conference)) =
        (&server.conference, theirs["conferences"].get(CONFERENCE))
    {
        let our = &ours["conferences"][id];
        for field in ["name", "meeting_id", "rtcstatsEnabled"] {
            assert_eq!(our[field], conference[field], "{name}: {field}");
        }
        assert_eq!(
            fields(name, &our["endpoints"]),
            fields(name, &conference["endpoints"]),
            "{name}"
        );
    }
}

#[tokio::test]
async fn every_captured_answer_is_ours_too() {
    let (idle, live) = (TestServer::new(false).await, TestServer::new(true).await);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/http");
    let mut compared = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let file = std::fs::read_to_string(&path).unwrap();
        let server = match name.split_once('-') {
            Some(("idle", _)) => &idle,
            Some(("live", _)) => &live,
            _ => {
                assert!(IN_ORDER.iter().any(|start| name.starts_with(start)), "{name}");
                continue;
            }
        };
        if !ROOT.contains(&name) {
            compare(server, name, &file).await;
            compared += 1;
        }
    }
    assert_eq!(compared, 67);
}

#[tokio::test]
async fn old_paths_lead_to_the_new_ones() {
    let server = TestServer::new(false).await;
    for (path, status, to) in [
        ("/colibri/debug", 301, "/debug"),
        ("/colibri/debug/abc/def?full=true", 301, "/debug/abc/def?full=true"),
        ("/debug/stats/queue-stats", 302, "/debug/stats/jvb/queue-stats"),
        ("/debug/stats/%2F%2Fevil.example", 302, "/debug/stats/jvb/"),
    ] {
        let (moved, location) = server.http.location(path).await;
        assert_eq!((moved, location.as_deref()), (status, Some(to)), "{path}");
    }
}

#[tokio::test]
async fn what_is_measured_is_always_measured() {
    let server = TestServer::new(true).await;
    for feature in ["queue-stats", "transit-stats", "task-pool-stats"] {
        let path = format!("/debug/features/jvb/{feature}");
        assert_eq!(server.http.get(&path).await.body, "true", "{feature}");
        assert_eq!(server.http.post(&format!("{path}/false"), &json!({})).await.status, 200);
        assert_eq!(server.http.get(&path).await.body, "true", "{feature}");
    }
    for feature in ["node-tracing", "pool-bookkeeping", "nothing"] {
        let path = format!("/debug/features/jvb/{feature}");
        assert_eq!(server.http.get(&path).await.status, 404, "{feature}");
        assert_eq!(server.http.post(&format!("{path}/true"), &json!({})).await.status, 404);
    }
    let stats = |part: &'static str| server.http.get(part);
    let delays = stats("/debug/stats/jvb/xmpp-delay-stats").await.json();
    assert_eq!(delays["colibri"]["total_count"], 2);
    let transit = stats("/debug/stats/jvb/transit-stats").await.json();
    assert_eq!(transit["e2e_packet_delay"]["rtp"]["total_count"], 0);
    let packets = stats("/debug/stats/jvb/conference-packet-stats").await.json();
    assert_eq!(packets["packets"].as_array().map(Vec::len), Some(501));
}

#[tokio::test]
async fn only_what_the_focus_allows_is_collected() {
    let server = TestServer::new(true).await;
    assert_eq!(server.http.get("/stats").await.json(), json!({ "conferences": {} }));
    let request = json!({
        "meeting-id": "collected", "create": true, "rtcstats-enabled": true,
        "endpoints": [{
            "id": "abcd0001", "create": true, "capabilities": ["source-names"], "transport": {},
        }],
    });
    assert_eq!(server.http.post(CONFERENCES, &request).await.status, 200);
    let all = server.http.get("/stats").await.json();
    let conferences = all["conferences"].as_object().unwrap();
    assert_eq!(conferences.len(), 1, "{all}");
    let one = conferences.values().next().unwrap();
    assert_eq!((&one["meeting_id"], &one["rtcstatsEnabled"]), (&json!("collected"), &json!(true)));
    assert!(one["endpoints"]["abcd0001"].is_object());
}

#[tokio::test]
async fn packets_are_captured_only_where_that_is_allowed() {
    let server = TestServer::new(true).await;
    let id = server.conference.clone().unwrap();
    let path = format!("/debug/features/endpoint/{id}/dec1e82f/pcap-dump");
    assert_eq!(server.http.get(&path).await.body, "false");
    let refused = server.http.post(&format!("{path}/true"), &json!({})).await;
    assert_eq!(refused.status, 403);
    assert_eq!(refused.body, "PCAP capture is disabled in configuration");
    assert_eq!(server.http.post(&format!("{path}/false"), &json!({})).await.status, 200);
    for unknown in [
        format!("/debug/features/endpoint/{id}/nobody/pcap-dump"),
        "/debug/features/endpoint/none/dec1e82f/pcap-dump".to_owned(),
        format!("/debug/features/endpoint/{id}/dec1e82f/sctp-pcap-dump"),
    ] {
        assert_eq!(server.http.get(&unknown).await.status, 404, "{unknown}");
        let set = server.http.post(&format!("{unknown}/true"), &json!({})).await;
        assert_eq!(set.status, 404, "{unknown}");
    }
}
