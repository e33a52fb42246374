//! Clients as the focus sees them: XMPP connections, behind the HTTP interface that the load
//! generator's clients speak.

use std::{
    cell::Cell,
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Json, Router,
    extract::State,
    routing::{patch, post},
};
use minidom::Element;
use serde_json::{Value, json};

use crate::{
    focus::{FOCUS, JINGLE, ROOM},
    wire::Connection,
};

const ACCOUNTS: [&str; 3] = ["client", "client1", "client2"];
const ICE: &str = "urn:xmpp:jingle:transports:ice-udp:1";
const DTLS: &str = "urn:xmpp:jingle:apps:dtls:0";
const SOURCES: &str = "urn:xmpp:jingle:apps:rtp:ssma:0";

/// All clients.
pub(crate) struct Clients {
    /// Where the generator's clients find them.
    pub(crate) url: String,
    all: Arc<All>,
}

struct All {
    server: u16,
    connections: Mutex<HashMap<String, Arc<Mutex<Connection>>>>,
    /// Who found to own the room when invited.
    owners: Mutex<Vec<String>>,
    logged_in: AtomicUsize,
}

/// Serves on a port of the system's choice.
pub(crate) async fn serve(server: u16) -> Clients {
    let all = Arc::new(All {
        server,
        connections: Mutex::default(),
        owners: Mutex::default(),
        logged_in: AtomicUsize::new(0),
    });
    let router = Router::new()
        .route("/colibri/v2/conferences", post(create))
        .route("/colibri/v2/conferences/{meeting}", patch(accept))
        .with_state(all.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    Clients { url, all }
}

impl Clients {
    /// Who was an owner of the room when it was offered a session.
    pub(crate) fn owners(&self) -> Vec<String> {
        self.all.owners.lock().unwrap().clone()
    }

    /// One leaves the room.
    pub(crate) async fn leave(&self, id: &str) {
        let connection = self.all.connections.lock().unwrap().remove(id).unwrap();
        let nick = format!("{ROOM}/{id}");
        let go = move || {
            connection.lock().unwrap().send(&format!("<presence type='unavailable' to='{nick}'/>"));
        };
        tokio::task::spawn_blocking(go).await.unwrap();
    }
}

fn endpoint_of(request: &Value) -> (String, Value) {
    let endpoint = request["endpoints"][0].clone();
    (endpoint["id"].as_str().unwrap().to_owned(), endpoint)
}

/// A client asks for the conference, joins its room and waits for an offer, whose transport it gives.
async fn create(State(all): State<Arc<All>>, Json(request): Json<Value>) -> Json<Value> {
    let (id, _) = endpoint_of(&request);
    let wait = move || {
        // Each has an account: ownership is the account's.
        let account = ACCOUNTS[all.logged_in.fetch_add(1, Ordering::Relaxed)];
        let mut connection = Connection::log_in(all.server, account, &id);
        connection.send(&format!(
            "<iq type='set' id='conference' to='{FOCUS}'>\
             <conference xmlns='http://jitsi.org/protocol/focus' room='{ROOM}'/></iq>"
        ));
        let ready = connection.next(|element| element.attr("id") == Some("conference"));
        assert!(String::from(&ready).contains("ready"), "{}", String::from(&ready));
        connection.enter(ROOM, &id);
        let owner = Cell::new(false);
        let offer = connection.next(|element| {
            owner.set(owner.get() || owns(element, &id));
            element.children().any(|child| child.attr("action") == Some("session-initiate"))
        });
        let (from, iq) = (offer.attr("from").unwrap(), offer.attr("id").unwrap());
        assert_eq!(from, format!("{ROOM}/focus"), "through the room");
        if owner.get() {
            all.owners.lock().unwrap().push(id.clone());
        }
        connection.send(&format!("<iq type='result' id='{iq}' to='{from}'/>"));
        let answer = transport(&id, &offer);
        all.connections.lock().unwrap().insert(id, Arc::new(Mutex::new(connection)));
        answer
    };
    Json(tokio::task::spawn_blocking(wait).await.unwrap())
}

/// A presence that says that somebody owns the room.
fn owns(presence: &Element, nick: &str) -> bool {
    let of = format!("{ROOM}/{nick}");
    let mut items = presence.children().flat_map(Element::children);
    presence.name() == "presence"
        && presence.attr("from") == Some(of.as_str())
        && items.any(|item| item.attr("affiliation") == Some("owner"))
}

/// The first transport of an offer.
fn transport(id: &str, offer: &Element) -> Value {
    let find = |element: &Element, name: &str, namespace: &str| {
        element.children().find(|child| child.is(name, namespace)).cloned()
    };
    let jingle = find(offer, "jingle", JINGLE).unwrap();
    let content = find(&jingle, "content", JINGLE).unwrap();
    let transport = find(&content, "transport", ICE).unwrap();
    let attribute = |element: &Element, name| element.attr(name).unwrap_or_default().to_owned();
    let candidates: Vec<Value> = transport
        .children()
        .filter(|child| child.name() == "candidate")
        .map(|candidate| {
            let text = |name| attribute(candidate, name);
            json!({ "ip": text("ip"), "port": text("port"), "protocol": text("protocol") })
        })
        .collect();
    let fingerprint = find(&transport, "fingerprint", DTLS).unwrap();
    json!({ "endpoints": [{ "id": id, "transport": { "transport": {
        "ufrag": attribute(&transport, "ufrag"),
        "pwd": attribute(&transport, "pwd"),
        "fingerprints": [
            { "hash": attribute(&fingerprint, "hash"), "fingerprint": fingerprint.text() }
        ],
        "candidates": candidates,
    }}}]})
}

/// A client accepts: its transport and its sources.
async fn accept(State(all): State<Arc<All>>, Json(request): Json<Value>) -> Json<Value> {
    let (id, endpoint) = endpoint_of(&request);
    let connection = all.connections.lock().unwrap().get(&id).unwrap().clone();
    let wait = move || {
        let contents: String = ["audio", "video"].map(|media| content(media, &endpoint)).concat();
        let mut connection = connection.lock().unwrap();
        connection.send(&format!(
            "<iq type='set' id='accept' to='{ROOM}/focus'>\
             <jingle xmlns='{JINGLE}' action='session-accept' sid='{id}'>{contents}</jingle></iq>"
        ));
        let answer = connection.next(|element| element.attr("id") == Some("accept"));
        assert_eq!(answer.attr("type"), Some("result"), "{}", String::from(&answer));
    };
    tokio::task::spawn_blocking(wait).await.unwrap();
    Json(Value::Null)
}

fn content(media: &str, endpoint: &Value) -> String {
    let of_media = |source: &&Value| source["type"] == media;
    let given = endpoint["sources"].as_array().unwrap().iter().filter(of_media);
    let sources: Vec<String> = given.map(source).collect();
    let sources = sources.concat();
    let transport = &endpoint["transport"]["transport"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let candidate = &transport["candidates"][0];
    let fingerprint = &transport["fingerprints"][0];
    format!(
        "<content name='{media}' creator='initiator'>\
         <description xmlns='urn:xmpp:jingle:apps:rtp:1' media='{media}'>{sources}</description>\
         <transport xmlns='{ICE}' ufrag='{}' pwd='{}'>\
         <fingerprint xmlns='{DTLS}' hash='sha-256' setup='active'>{}</fingerprint>\
         <candidate component='1' foundation='1' generation='0' id='1' network='0' \
         priority='2130706431' protocol='udp' type='host' ip='{}' port='{}'/></transport></content>",
        text(&transport["ufrag"]),
        text(&transport["pwd"]),
        text(&fingerprint["fingerprint"]),
        text(&candidate["ip"]),
        text(&candidate["port"]),
    )
}

fn source(source: &Value) -> String {
    let ssrc = |ssrc: &Value| format!("<source xmlns='{SOURCES}' ssrc='{ssrc}'/>");
    let streams = source["sources"].as_array().unwrap().iter().map(|s| ssrc(&s["ssrc"]));
    let groups = source["ssrc-groups"].as_array().into_iter().flatten().map(|group| {
        let inside: Vec<String> = group["sources"].as_array().unwrap().iter().map(ssrc).collect();
        let (semantics, inside) = (group["semantics"].as_str().unwrap(), inside.concat());
        format!("<ssrc-group xmlns='{SOURCES}' semantics='{semantics}'>{inside}</ssrc-group>")
    });
    streams.chain(groups).collect::<Vec<_>>().concat()
}
