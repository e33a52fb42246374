//! An XMPP connection of a test's own: it logs in, joins rooms, sends and reads stanzas.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Write as _},
    net::TcpStream,
};

use minidom::Element;

use super::prosody::{DOMAIN, PASSWORD, PATIENCE};

#[path = "elements.rs"]
pub(crate) mod elements;

use elements::Elements;

pub(crate) const CLIENT: &str = "jabber:client";

/// A connection, logged in.
pub(crate) struct Connection {
    jid: String,
    socket: TcpStream,
    reader: Elements<TcpStream>,
    /// What came while something else was waited for.
    later: VecDeque<Element>,
}

impl Connection {
    /// Logs in as `user`, with the resource `resource`, without TLS.
    pub(crate) fn log_in(port: u16, user: &str, resource: &str) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        // An answer and a request that follows it leave at once.
        socket.set_nodelay(true).unwrap();
        let mut connection = Self {
            jid: String::new(),
            reader: Elements::new(socket.try_clone().unwrap()),
            socket,
            later: VecDeque::new(),
        };
        connection.open();
        connection.next(|element| element.name() == "features");
        // base64 of NUL, user, NUL, password.
        let plain = base64(format!("\0{user}\0{PASSWORD}").as_bytes());
        connection.send(&format!(
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{plain}</auth>"
        ));
        connection.next(|element| element.name() == "success");
        connection.reader.restart();
        connection.open();
        connection.next(|element| element.name() == "features");
        connection.send(&format!(
            "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
             <resource>{resource}</resource></bind></iq>"
        ));
        let bound = connection.next(|element| element.attr("id") == Some("bind"));
        let jid = bound.children().flat_map(Element::children).find(|e| e.name() == "jid");
        connection.jid = jid.unwrap().text();
        connection
    }

    /// The full JID.
    pub(crate) fn jid(&self) -> &str {
        &self.jid
    }

    /// Joins a room, and makes it usable when it is new.
    pub(crate) fn enter(&mut self, room: &str, nickname: &str) {
        let own = format!("{room}/{nickname}");
        loop {
            self.send(&format!(
                "<presence to='{own}'><x xmlns='http://jabber.org/protocol/muc'/></presence>"
            ));
            let presence =
                self.next(|e| e.name() == "presence" && e.attr("from") == Some(own.as_str()));
            let text = String::from(&presence);
            if presence.attr("type").is_none() {
                if text.contains("201") {
                    self.unlock(room);
                }
                return;
            }
            // As long as whoever has made it has not unlocked it, there is no such room.
            assert!(text.contains("<item-not-found"), "{text}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// Makes a new room usable.
    fn unlock(&mut self, room: &str) {
        self.send(&format!("<iq type='set' id='unlock' to='{room}'><query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'/></query></iq>"));
        self.next(|element| element.attr("id") == Some("unlock"));
    }

    /// Sends text. Whom the server has closed finds out by reading.
    pub(crate) fn send(&mut self, text: &str) {
        let _ = self.socket.write_all(text.as_bytes());
    }

    /// The next element that is wanted; what is not stays for later.
    pub(crate) fn next(&mut self, wanted: impl Fn(&Element) -> bool) -> Element {
        if let Some(at) = self.later.iter().position(&wanted) {
            return self.later.remove(at).unwrap();
        }
        loop {
            let element = self.read();
            if wanted(&element) {
                return element;
            }
            self.later.push_back(element);
        }
    }

    fn open(&mut self) {
        self.send(&format!("<?xml version='1.0'?><stream:stream to='{DOMAIN}' version='1.0' xmlns='{CLIENT}' xmlns:stream='http://etherx.jabber.org/streams'>"));
        self.reader.open().unwrap();
    }

    fn read(&mut self) -> Element {
        self.try_read().expect("the server has closed")
    }

    fn try_read(&mut self) -> Option<Element> {
        match self.reader.next() {
            Ok(element) => element,
            // A server that is killed ends in the middle of its stream.
            Err(error)
                if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::InvalidData) =>
            {
                None
            }
            Err(error) => panic!("nothing in time: {error}"),
        }
    }
}

#[allow(dead_code, reason = "these are for the focus of load/tests, or for that of one test")]
impl Connection {
    /// What came and was not wanted.
    pub(crate) fn later(&self) -> impl Iterator<Item = &Element> {
        self.later.iter()
    }

    /// The next element, whatever it is; `None` when the server has gone.
    pub(crate) fn try_next(&mut self) -> Option<Element> {
        self.later.pop_front().or_else(|| self.try_read())
    }

    /// Where others may write whole stanzas while this one is read.
    pub(crate) fn writer(&self) -> TcpStream {
        self.socket.try_clone().unwrap()
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
