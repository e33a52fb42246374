//! A focus that finds bridges in its brewery and asks them in COLIBRI2, as Jicofo does. What clients
//! signal comes to it over HTTP, as the generator's clients speak.

use std::{
    collections::{BTreeMap, HashMap},
    io::Write as _,
    net::{Shutdown, TcpStream},
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, State},
    routing::{patch, post},
};
use minidom::Element;
use rialto::colibri::{ColibriError, ConferenceModified, ConferenceModify, TraceParent, json, xml};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::{prosody::PATIENCE, wire::Connection};

/// Where bridges are.
pub(super) const BREWERY: &str = "jvbbrewery@internal.auth.jitsi.local";

const COLIBRI: &str = "http://jitsi.org/protocol/colibri";

type Answer = Result<ConferenceModified, ColibriError>;

/// See the module. Clones are the same.
#[derive(Clone)]
pub(super) struct Focus(Arc<Inner>);

struct Inner {
    known: Mutex<Known>,
    meeting: tokio::sync::Mutex<Meeting>,
}

/// What it knows of the world.
#[derive(Default)]
struct Known {
    /// Where to send.
    writer: Option<TcpStream>,
    /// What bridges said last, by nickname.
    bridges: BTreeMap<String, BTreeMap<String, String>>,
    /// Who waits for an answer, by the request's id.
    waiting: HashMap<String, oneshot::Sender<Element>>,
    ids: usize,
    chosen: Option<String>,
    stopped: bool,
}

/// The conference.
#[derive(Default)]
struct Meeting {
    bridge: Option<String>,
    /// The first participant, who waits for a second one.
    first: Option<(ConferenceModify, oneshot::Sender<ConferenceModified>)>,
}

impl Focus {
    /// Joins the brewery at a server, again and again.
    pub(super) fn start(server: u16) -> Self {
        let inner = Inner { known: Mutex::default(), meeting: tokio::sync::Mutex::default() };
        let focus = Self(Arc::new(inner));
        let runs = focus.clone();
        thread::spawn(move || {
            while !runs.known().stopped {
                if TcpStream::connect(("127.0.0.1", server)).is_ok() {
                    runs.be_there(server);
                }
                thread::sleep(Duration::from_millis(50));
            }
        });
        focus
    }

    /// From a login to the end of the connection.
    fn be_there(&self, server: u16) {
        let mut connection = Connection::log_in(server, "focus", "focus");
        connection.enter(BREWERY, "focus");
        self.known().writer = Some(connection.writer());
        while let Some(element) = connection.try_next() {
            self.on(element);
        }
        let mut known = self.known();
        let Known { stopped, ids, .. } = *known;
        *known = Known { stopped, ids, chosen: known.chosen.take(), ..Known::default() };
    }

    fn on(&self, element: Element) {
        let from = element.attr("from").and_then(|from| from.strip_prefix(BREWERY));
        let Some(nickname) = from.and_then(|rest| rest.strip_prefix('/')) else { return };
        let mut known = self.known();
        match (element.name(), element.attr("type")) {
            ("presence", Some("unavailable")) => drop(known.bridges.remove(nickname)),
            ("presence", None) => {
                if let Some(stats) = element.get_child("stats", COLIBRI) {
                    let attr = |stat: &Element, name| stat.attr(name).unwrap().to_owned();
                    let stats = stats.children().map(|s| (attr(s, "name"), attr(s, "value")));
                    let stats = stats.collect();
                    known.bridges.insert(nickname.to_owned(), stats);
                }
            }
            ("iq", Some("result" | "error")) => {
                let waiting = known.waiting.remove(element.attr("id").unwrap_or_default());
                if let Some(waiting) = waiting {
                    let _ = waiting.send(element);
                }
            }
            _ => {}
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap()
    }

    /// Ends.
    pub(super) fn stop(&self) {
        let mut known = self.known();
        known.stopped = true;
        if let Some(writer) = &known.writer {
            let _ = writer.shutdown(Shutdown::Both);
        }
    }

    /// Waits until this bridge is in the brewery and has said how it is.
    pub(super) async fn sees(&self, nickname: &str) {
        self.until(|known| known.bridges.contains_key(nickname)).await;
    }

    /// Waits until it is not there any more.
    pub(super) async fn misses(&self, nickname: &str) {
        self.until(|known| !known.bridges.contains_key(nickname)).await;
    }

    async fn until(&self, wanted: impl Fn(&Known) -> bool) {
        let start = Instant::now();
        while !wanted(&self.known()) {
            assert!(start.elapsed() < PATIENCE, "{:?}", self.known().bridges);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The bridge that was chosen.
    pub(super) fn chosen(&self) -> Option<String> {
        self.known().chosen.clone()
    }

    /// The least stressed of the bridges that want conferences.
    pub(super) fn choose(&self) -> String {
        let mut known = self.known();
        let usable = known.bridges.iter().filter(|(_, stats)| {
            let is = |name: &str, value| stats.get(name).map(String::as_str) == Some(value);
            is("drain", "false") && is("healthy", "true") && !is("graceful_shutdown", "true")
        });
        let stress =
            |stats: &BTreeMap<String, String>| stats["stress_level"].parse::<f64>().unwrap();
        let best = usable.min_by(|(_, one), (_, other)| stress(one).total_cmp(&stress(other)));
        let best = best.map(|(nickname, _)| nickname.clone());
        known.chosen.clone_from(&best);
        best.unwrap_or_else(|| panic!("no bridge is usable: {:?}", known.bridges))
    }

    /// Asks a bridge; the request is on its way when this returns.
    pub(super) fn ask(
        &self,
        bridge: &str,
        request: &ConferenceModify,
    ) -> impl Future<Output = Answer> + use<> {
        let (answered, answer) = oneshot::channel();
        let mut known = self.known();
        known.ids += 1;
        // As long and as odd as ids of real servers.
        let id = format!("{:>80}&amp;+/=", known.ids).replace(' ', "x");
        let request = String::from(&xml::write_conference_modify(request));
        let iq = format!("<iq type='get' id='{id}' to='{BREWERY}/{bridge}'>{request}</iq>");
        known.waiting.insert(id.replace("&amp;", "&"), answered);
        known.writer.as_ref().unwrap().write_all(iq.as_bytes()).unwrap();
        async move {
            let iq = tokio::time::timeout(PATIENCE, answer).await.unwrap().unwrap();
            let inside = |name: &str| iq.children().find(|child| child.name() == name);
            match inside("conference-modified") {
                Some(modified) => Ok(xml::read_conference_modified(modified).unwrap()),
                None => Err(xml::read_error(inside("error").unwrap()).unwrap()),
            }
        }
    }

    /// Serves clients on a port of the system's choice; where.
    pub(super) async fn serve(&self) -> String {
        let router = Router::new()
            .route("/colibri/v2/conferences", post(come))
            .route("/colibri/v2/conferences/{meeting}", patch(tell))
            .with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        url
    }

    /// A participant comes. The second one makes it a conference, for both.
    async fn invite(&self, mut request: ConferenceModify) -> ConferenceModified {
        request.traceparent = Some(TraceParent {
            trace_id: "0".repeat(32),
            parent_id: "0".repeat(16),
            trace_flags: "00".to_owned(),
        });
        let mut meeting = self.0.meeting.lock().await;
        if let Some(bridge) = meeting.bridge.clone() {
            drop(meeting);
            return self.ask(&bridge, &joining(request)).await.unwrap();
        }
        let Some((first, answer)) = meeting.first.take() else {
            let (answer, answered) = oneshot::channel();
            meeting.first = Some((request, answer));
            drop(meeting);
            return answered.await.unwrap();
        };
        let bridge = self.choose();
        meeting.bridge = Some(bridge.clone());
        drop(meeting);
        let created = self.ask(&bridge, &first);
        let joined = self.ask(&bridge, &joining(request));
        assert!(answer.send(created.await.unwrap()).is_ok());
        joined.await.unwrap()
    }
}

/// The request of one who comes to a conference that there is.
fn joining(request: ConferenceModify) -> ConferenceModify {
    ConferenceModify { create: false, name: None, ..request }
}

async fn come(State(focus): State<Focus>, body: Bytes) -> Json<Value> {
    let request = json::read_conference_modify(&body, None).unwrap();
    assert!(request.create);
    Json(json::write_conference_modified(&focus.invite(request).await))
}

/// A client accepts the session, or has something new to say.
async fn tell(State(focus): State<Focus>, Path(meeting): Path<String>, body: Bytes) -> Json<Value> {
    let request = json::read_conference_modify(&body, Some(&meeting)).unwrap();
    let bridge = focus.chosen().unwrap();
    Json(json::write_conference_modified(&focus.ask(&bridge, &request).await.unwrap()))
}
