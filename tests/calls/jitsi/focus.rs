//! The focus: makes rooms for whoever asks, has the bridge of its brewery make endpoints for who enters, offers
//! them sessions, and passes on what they send. It is alone with one bridge, and believes what it is told.

use std::{collections::BTreeMap, net::TcpStream, thread};

use minidom::Element;
use rialto::colibri::{json, xml};
use serde_json::{Value, json};

use super::wire::Connection;

/// Its address.
pub(crate) const JID: &str = "focus@auth.jitsi.local/focus";
/// Where bridges are.
pub(crate) const BREWERY: &str = "jvbbrewery@internal.auth.jitsi.local";

const BRIDGE: &str = "jvbbrewery@internal.auth.jitsi.local/bridge";
const JINGLE: &str = "urn:xmpp:jingle:1";

struct Focus {
    connection: Connection,
    rooms: BTreeMap<String, Room>,
    ids: u32,
}

#[derive(Default)]
struct Room {
    meeting: String,
    /// What each sends, by nickname.
    occupants: BTreeMap<String, Vec<Value>>,
}

/// Logs in, waits for the bridge, and serves until its connection ends, which is what it gives.
pub(crate) fn start(server: u16) -> TcpStream {
    let mut connection = Connection::log_in(server, "focus", "focus");
    connection.enter(BREWERY, "focus");
    // The bridge is there once it has said how it is.
    connection.next(|element| {
        element.attr("from") == Some(BRIDGE) && String::from(element).contains("stress_level")
    });
    let ends = connection.writer();
    thread::spawn(move || {
        let mut focus = Focus { connection, rooms: BTreeMap::new(), ids: 0 };
        while let Some(element) = focus.connection.try_next() {
            focus.on(&element);
        }
    });
    ends
}

impl Focus {
    fn on(&mut self, element: &Element) {
        let from = element.attr("from").unwrap_or_default().to_owned();
        let (room, nick) = from.split_once('/').unwrap_or_default();
        match element.name() {
            "presence" if room != BREWERY && nick != "focus" => {
                if element.attr("type") == Some("unavailable") {
                    self.gone(room, nick);
                } else if !self.rooms[room].occupants.contains_key(nick) {
                    self.come(room, nick, &said(element));
                }
            }
            "iq" if element.attr("type") == Some("set") => self.on_request(element, room, nick),
            _ => {}
        }
    }

    fn on_request(&mut self, iq: &Element, room: &str, nick: &str) {
        let Some(child) = iq.children().next() else { return };
        let (id, to) = (iq.attr("id").unwrap_or_default(), iq.attr("from").unwrap_or_default());
        let mut inside = String::new();
        if child.name() == "conference" {
            let wanted = child.attr("room").expect("a room").to_owned();
            if !self.rooms.contains_key(&wanted) {
                self.connection.enter(&wanted, "focus");
                self.rooms.insert(wanted.clone(), Room::default());
            }
            inside = format!("<conference xmlns='{}' ready='true' room='{wanted}'/>", child.ns());
        }
        self.connection.send(&format!("<iq type='result' id='{id}' to='{to}'>{inside}</iq>"));
        if let Some("session-accept" | "source-add") = child.attr("action") {
            self.on_said(room, nick, said(child));
        }
    }

    /// Has an endpoint made for somebody, and offers a session.
    fn come(&mut self, room: &str, nick: &str, said: &Value) {
        let known = self.rooms.get_mut(room).expect("a room");
        let first = known.occupants.is_empty();
        if first {
            self.ids += 1;
            known.meeting = format!("meeting-{}", self.ids);
        }
        let sources: Vec<Value> = known.occupants.values().flatten().cloned().collect();
        known.occupants.insert(nick.to_owned(), Vec::new());
        let endpoint = json!({
            "id": nick,
            "create": true,
            "capabilities": said["capabilities"],
            "medias": said["medias"],
            "transport": { "ice-controlling": true, "sctp": {} },
        });
        let modified = self.modify(room, &endpoint, first);
        let transport = &modified["endpoints"][0]["transport"];
        let offer = json!({ "transport": transport, "sources": sources });
        self.tell(room, nick, "session-initiate", &offer);
    }

    /// Somebody's transport, formats or sources.
    fn on_said(&mut self, room: &str, nick: &str, said: Value) {
        let known = self.rooms.get_mut(room).expect("a room");
        let Some(own) = known.occupants.get_mut(nick) else { return };
        let new = said["sources"].as_array().cloned().unwrap_or_default();
        own.extend(new.iter().cloned());
        let mut endpoint = said;
        endpoint["id"] = nick.into();
        endpoint["sources"] = own.clone().into();
        self.modify(room, &endpoint, false);
        self.tell_others(room, nick, "source-add", &new);
    }

    fn gone(&mut self, room: &str, nick: &str) {
        let known = self.rooms.get_mut(room).expect("a room");
        let Some(sources) = known.occupants.remove(nick) else { return };
        self.modify(room, &json!({ "id": nick, "expire": true }), false);
        self.tell_others(room, nick, "source-remove", &sources);
    }

    fn tell_others(&mut self, room: &str, nick: &str, action: &str, sources: &[Value]) {
        if sources.is_empty() {
            return;
        }
        let others: Vec<String> = self.rooms[room].occupants.keys().cloned().collect();
        let said = json!({ "sources": sources });
        for other in others.iter().filter(|other| *other != nick) {
            self.tell(room, other, action, &said);
        }
    }

    /// Sends somebody something of a session; what they answer means nothing.
    fn tell(&mut self, room: &str, nick: &str, action: &str, said: &Value) {
        self.ids += 1;
        let (id, said) = (self.ids, escaped(&said.to_string()));
        self.connection.send(&format!(
            "<iq type='set' id='s{id}' to='{room}/{nick}'>\
             <jingle xmlns='{JINGLE}' action='{action}' initiator='{room}/focus' sid='{nick}'>\
             <json xmlns='urn:xmpp:json:0'>{said}</json></jingle></iq>"
        ));
    }

    /// Asks the bridge about an endpoint.
    fn modify(&mut self, room: &str, endpoint: &Value, create: bool) -> Value {
        let mut request = json!({
            "meeting-id": self.rooms[room].meeting,
            "create": create,
            "endpoints": [endpoint],
        });
        if create {
            request["name"] = room.into();
        }
        let request = json::read_conference_modify(request.to_string().as_bytes(), None)
            .expect("a request of the bridge");
        let inside = String::from(&xml::write_conference_modify(&request));
        self.ids += 1;
        let id = format!("b{}", self.ids);
        self.connection.send(&format!("<iq type='get' id='{id}' to='{BRIDGE}'>{inside}</iq>"));
        let answer = self.connection.next(|element| {
            element.attr("id") == Some(&id) && element.attr("from") == Some(BRIDGE)
        });
        let text = || format!("{} of {inside}", String::from(&answer));
        assert_eq!(answer.attr("type"), Some("result"), "{}", text());
        let modified = answer.children().next().expect("an answer");
        let modified = xml::read_conference_modified(modified).expect("an answer of a bridge");
        json::write_conference_modified(&modified)
    }
}

/// The JSON in an element.
fn said(element: &Element) -> Value {
    let json = element.children().find(|child| child.name() == "json").expect("JSON");
    serde_json::from_str(&json.text()).expect("JSON")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
