//! Traces of requests, at a collector.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStderr, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use axum::{Router, body::Bytes, http::HeaderMap, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, any_value::Value},
    trace::v1::Span,
};
use prost::Message as _;
use serde_json::json;
use tokio::runtime::Runtime;

/// Longer than any machine takes.
const PATIENCE: Duration = Duration::from_secs(60);

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn traceparent(trace: &str, flags: &str) -> String {
    format!("traceparent: 00-{trace}-{PARENT}-{flags}\r\n")
}

/// What is sent to it arrives here.
struct Collector {
    _runtime: Runtime,
    address: String,
    requests: Receiver<(HeaderMap, ExportTraceServiceRequest)>,
}

impl Collector {
    fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let (sender, requests) = channel();
        let take = move |headers: HeaderMap, body: Bytes| async move {
            let _ = sender.send((headers, ExportTraceServiceRequest::decode(body).unwrap()));
        };
        let router = Router::new().route("/v1/traces", post(take));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        runtime.spawn(async { axum::serve(listener, router).await });
        Self { _runtime: runtime, address, requests }
    }

    /// All spans that came, once there is one of that name.
    fn spans_to(&self, name: &str) -> Vec<Span> {
        let (mut spans, end) = (Vec::new(), Instant::now() + PATIENCE);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let names: Vec<&str> = spans.iter().map(|span: &Span| &*span.name).collect();
            let next = self.requests.recv_timeout(left);
            let (headers, request) = next.unwrap_or_else(|_| panic!("no {name} in {names:?}"));
            assert_eq!(headers["content-type"], "application/x-protobuf");
            for group in request.resource_spans {
                let resource = group.resource.unwrap();
                let named = resource.attributes.iter().find(|pair| pair.key == "service.name");
                assert_eq!(text(named.unwrap().value.as_ref()), "rialto");
                spans.extend(group.scope_spans.into_iter().flat_map(|scope| scope.spans));
            }
            if spans.iter().any(|span| span.name == name) {
                return spans;
            }
        }
    }
}

fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

fn attribute(span: &Span, key: &str) -> String {
    let found = span.attributes.iter().find(|pair| pair.key == key);
    text(found.and_then(|pair| pair.value.as_ref()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// A bridge that ends with this value.
struct Bridge {
    child: Child,
    address: String,
    log: BufReader<ChildStderr>,
}

impl Bridge {
    fn start(collector: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_rialto"))
            .args(["dev", "--port", "0", "--udp-port", "0", "--shards", "1"])
            .env_remove("RUST_LOG")
            .env_remove("RIALTO_HTTP_TOKEN")
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector)
            .env("OTEL_BSP_SCHEDULE_DELAY", "20")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim_start_matches("http://").trim_end().trim_end_matches('/');
        let log = BufReader::new(child.stderr.take().unwrap());
        Self { child, address: address.to_owned(), log }
    }

    fn ask(&self, head: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (host, length) = (&self.address, body.len());
        write!(
            stream,
            "{head}Host: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Creates a conference with one participant.
    fn create(&self, meeting: &str, headers: &str) {
        self.create_with(meeting, headers, &json!({}));
    }

    fn create_with(&self, meeting: &str, headers: &str, more: &serde_json::Value) {
        let mut body = json!({
            "meeting-id": meeting,
            "name": format!("{meeting}@conference.example.com"),
            "create": true,
            "endpoints": [{
                "id": "alice",
                "create": true,
                "capabilities": ["source-names"],
                "transport": { "ice-controlling": true },
            }],
        });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let head = format!("POST /colibri/v2/conferences HTTP/1.1\r\n{headers}");
        let answer = self.ask(&head, &body.to_string());
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("ufrag"), "{answer}");
    }

    fn metric(&self, name: &str) -> u64 {
        let metrics = self.ask("GET /metrics HTTP/1.1\r\n", "");
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name}: {metrics}")).parse::<f64>().unwrap() as u64
    }

    /// Waits until a metric has reached a value.
    fn wait_for(&self, name: &str, value: u64) {
        let end = Instant::now() + PATIENCE;
        while self.metric(name) < value {
            assert!(Instant::now() < end, "{name} stays below {value}");
        }
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The steps of a request below `top`: each span and its parent.
fn tree(spans: &[Span]) -> HashMap<&str, &str> {
    let name_of = |id: &[u8]| {
        let parent = spans.iter().find(|span| span.span_id == id);
        parent.map_or("", |parent| parent.name.as_str())
    };
    spans.iter().map(|span| (span.name.as_str(), name_of(&span.parent_span_id))).collect()
}

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    spans.iter().find(|span| span.name == name).unwrap()
}

const SERVER: i32 = 2;
const POST: &str = "POST /colibri/v2/conferences";

#[test]
fn the_steps_of_a_traced_request_are_spans_of_its_trace() {
    let collector = Collector::start();
    let bridge = Bridge::start(&collector.address);
    bridge.create("traced", &traceparent(TRACE, "01"));
    let spans = collector.spans_to(POST);
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE));
    let expected = [
        (POST, ""),
        ("read", POST),
        ("conference-modify", POST),
        ("queue", "conference-modify"),
        ("handle", "conference-modify"),
        ("allocate", "handle"),
        ("transport", "handle"),
        ("answer", POST),
    ];
    assert_eq!(tree(&spans), HashMap::from(expected));
    assert_eq!(spans.len(), expected.len());
    let top = named(&spans, POST);
    assert_eq!((hex(&top.parent_span_id), top.kind), (PARENT.to_owned(), SERVER));
    assert_eq!(attribute(top, "http.response.status_code"), "200");
    let modify = named(&spans, "conference-modify");
    assert_eq!(attribute(modify, "meeting"), "traced");
    assert_eq!(attribute(modify, "endpoints"), "1");
    bridge.wait_for("rialto_trace_spans_exported_total", expected.len() as u64);
    assert_eq!(bridge.metric("rialto_trace_spans_lost_total"), 0);
}

#[test]
fn a_refused_request_is_an_error_in_its_trace() {
    let collector = Collector::start();
    let bridge = Bridge::start(&collector.address);
    let head =
        format!("PATCH /colibri/v2/conferences/nowhere HTTP/1.1\r\n{}", traceparent(TRACE, "01"));
    assert!(bridge.ask(&head, "{}").starts_with("HTTP/1.1 404 "));
    let top = "PATCH /colibri/v2/conferences/{meeting_id}";
    let spans = collector.spans_to(top);
    assert_eq!(attribute(named(&spans, top), "http.response.status_code"), "404");
    let status = named(&spans, "conference-modify").status.as_ref().unwrap();
    assert_eq!(status.code, 2, "{status:?}");
    assert!(status.message.contains("not found"), "{status:?}");
}

#[test]
fn only_what_its_sender_samples_is_exported() {
    let collector = Collector::start();
    let bridge = Bridge::start(&collector.address);
    let other = "1".repeat(32);
    bridge.create("untraced", "");
    bridge.create("unsampled", &traceparent(&other, "00"));
    for (at, bad) in ["", "00", "00-xyz-01", &format!("00-{}-{PARENT}-01", "0".repeat(32))]
        .into_iter()
        .enumerate()
    {
        bridge.create(&format!("bad-{at}"), &format!("traceparent: {bad}\r\n"));
    }
    let twice = traceparent(&other, "01").repeat(2);
    bridge.create("twice", &twice);
    bridge.create("traced", &traceparent(TRACE, "01"));
    let spans = collector.spans_to(POST);
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE), "{spans:?}");
    assert_eq!(attribute(named(&spans, "conference-modify"), "meeting"), "traced");
}

#[test]
fn a_request_may_name_its_trace_in_its_body() {
    let collector = Collector::start();
    let bridge = Bridge::start(&collector.address);
    let parts = |trace_id: &str, flags: &str| {
        json!({ "traceparent": {
            "trace_id": trace_id, "parent_id": PARENT, "trace_flags": flags,
        } })
    };
    // As a Jicofo that traces nothing.
    bridge.create_with("zero", "", &parts(&"0".repeat(32), "00"));
    bridge.create_with("traced", "", &parts(TRACE, "01"));
    let spans = collector.spans_to("conference-modify");
    let modify = named(&spans, "conference-modify");
    assert_eq!((hex(&modify.trace_id), hex(&modify.parent_span_id)), (TRACE.into(), PARENT.into()));
    assert_eq!((modify.kind, attribute(modify, "meeting")), (SERVER, "traced".to_owned()));
    assert_eq!(tree(&spans)["handle"], "conference-modify");
}

#[test]
fn a_collector_that_is_gone_costs_spans_and_one_line() {
    // Whoever had this port has it no more.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut bridge = Bridge::start(&format!("http://127.0.0.1:{port}"));
    for (at, lost) in [(1, 1), (2, 9), (3, 17)] {
        bridge.create(&format!("meeting-{at}"), &traceparent(TRACE, "01"));
        bridge.wait_for("rialto_trace_spans_lost_total", lost);
    }
    assert_eq!(bridge.metric("rialto_trace_spans_exported_total"), 0);
    bridge.child.kill().unwrap();
    let mut log = String::new();
    bridge.log.read_to_string(&mut log).unwrap();
    let told: Vec<&str> = log.lines().filter(|line| line.contains("traces are lost")).collect();
    assert_eq!(told.len(), 1, "{log}");
    assert!(told[0].contains("refused"), "{log}");
}

#[test]
fn a_collector_that_never_answers_delays_nobody() {
    // Connections are taken by the kernel, and by nobody else.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut bridge = Bridge::start(&format!("http://{}", listener.local_addr().unwrap()));
    for at in 0..20 {
        bridge.create(&format!("meeting-{at}"), &traceparent(TRACE, "01"));
    }
    let pid = bridge.child.id().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
    assert_eq!(bridge.child.wait().unwrap().code(), Some(143));
}
