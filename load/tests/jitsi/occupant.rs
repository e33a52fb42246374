//! A focus of today, as clients see it over HTTP: what they ask goes to the bridge's occupant of the
//! brewery, as COLIBRI2.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    routing::{patch, post},
};
use minidom::Element;
use rialto::colibri::{ConferenceModify, Sctp, capability, json, xml};

use crate::wire::Connection;

/// The brewery.
pub(crate) const BREWERY: &str = "jvbbrewery@internal.auth.jitsi.local";
/// The bridge's nickname there.
pub(crate) const NICK: &str = "bridge";

struct Focus {
    connection: Connection,
    conference: bool,
    ids: usize,
    /// Clients have their SSRCs rewritten, and a bridge channel to hear of it.
    slots: bool,
}

/// Serves on a port of the system's choice; gives the address.
pub(crate) async fn serve(server: u16) -> String {
    serve_with(server, false).await
}

/// The same, of clients whose SSRCs are rewritten and that go by MIDs, as those of today.
pub(crate) async fn serve_slots(server: u16) -> String {
    serve_with(server, true).await
}

async fn serve_with(server: u16, slots: bool) -> String {
    let enter = move || {
        let mut connection = Connection::log_in(server, "focus", "today");
        connection.enter(BREWERY, "focus");
        // The bridge is there once it has said how it is.
        connection.next(|element| {
            element.attr("from") == Some(format!("{BREWERY}/{NICK}").as_str())
                && String::from(element).contains("stress_level")
        });
        Focus { connection, conference: false, ids: 0, slots }
    };
    let focus = tokio::task::spawn_blocking(enter).await.unwrap();
    let router = Router::new()
        .route("/colibri/v2/conferences", post(create))
        .route("/colibri/v2/conferences/{meeting}", patch(change))
        .with_state(Arc::new(Mutex::new(focus)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

async fn create(focus: State<Arc<Mutex<Focus>>>, body: Bytes) -> String {
    ask(focus, json::read_conference_modify(&body, None).unwrap()).await
}

async fn change(
    focus: State<Arc<Mutex<Focus>>>,
    Path(meeting): Path<String>,
    body: Bytes,
) -> String {
    ask(focus, json::read_conference_modify(&body, Some(&meeting)).unwrap()).await
}

async fn ask(State(focus): State<Arc<Mutex<Focus>>>, request: ConferenceModify) -> String {
    let ask = move || focus.lock().unwrap().ask(request);
    tokio::task::spawn_blocking(ask).await.unwrap()
}

impl Focus {
    fn ask(&mut self, mut request: ConferenceModify) -> String {
        request.create = !std::mem::replace(&mut self.conference, true);
        for endpoint in request.endpoints.iter_mut().filter(|e| self.slots && e.create) {
            let more = [capability::SSRC_REWRITING, capability::RTP_MID_DEMUX];
            endpoint.capabilities.extend(more.map(str::to_owned));
            if let Some(transport) = &mut endpoint.transport {
                transport.sctp = Some(Sctp { role: None, port: None });
            }
        }
        self.ids += 1;
        let id = format!("today{}", self.ids);
        let inside = String::from(&xml::write_conference_modify(&request));
        self.connection
            .send(&format!("<iq type='set' id='{id}' to='{BREWERY}/{NICK}'>{inside}</iq>"));
        let answer = self.connection.next(|element| element.attr("id") == Some(id.as_str()));
        assert_eq!(answer.attr("type"), Some("result"), "{}", String::from(&answer));
        let modified: &Element = answer.children().next().unwrap();
        let modified = xml::read_conference_modified(modified).unwrap();
        json::write_conference_modified(&modified).to_string()
    }
}
