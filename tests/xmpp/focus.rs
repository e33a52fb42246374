//! A focus that does what it is told: it logs in, joins the brewery, and sends and reads stanzas.

use std::{
    collections::VecDeque,
    io::{Read as _, Write as _},
    net::TcpStream,
};

use minidom::Element;
use rialto::xmpp::{Limits, Stanza, StreamEvent, StreamReader};

use super::prosody::{DOMAIN, PASSWORD, PATIENCE, ROOM};

pub const CLIENT: &str = "jabber:client";
const COLIBRI: &str = "http://jitsi.org/protocol/colibri";

/// A connection, logged in.
pub struct Focus {
    jid: String,
    socket: TcpStream,
    reader: StreamReader,
    unread: Vec<u8>,
    /// What came while something else was waited for.
    later: VecDeque<Element>,
}

impl Focus {
    /// Logs in as `user`, without TLS.
    pub fn log_in(port: u16, user: &str) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut focus = Self {
            jid: String::new(),
            socket,
            reader: StreamReader::new(Limits::default()),
            unread: Vec::new(),
            later: VecDeque::new(),
        };
        focus.open();
        focus.next(|element| element.name() == "features");
        // base64 of NUL, user, NUL, password.
        let plain = base64(format!("\0{user}\0{PASSWORD}").as_bytes());
        focus.send(&format!(
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{plain}</auth>"
        ));
        focus.next(|element| element.name() == "success");
        focus.reader = StreamReader::new(Limits::default());
        focus.open();
        focus.next(|element| element.name() == "features");
        focus.send("<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>focus</resource></bind></iq>");
        let bound = focus.next(|element| element.attr("id") == Some("bind"));
        let jid = bound.children().flat_map(Element::children).find(|e| e.name() == "jid");
        focus.jid = jid.unwrap().text();
        focus
    }

    /// The full JID.
    pub fn jid(&self) -> &str {
        &self.jid
    }

    /// Joins the brewery as `nickname`.
    pub fn join(&mut self, nickname: &str) {
        self.send(&format!("<presence to='{ROOM}/{nickname}'><x xmlns='http://jabber.org/protocol/muc'/></presence>"));
        let own = format!("{ROOM}/{nickname}");
        let presence =
            self.next(|e| e.name() == "presence" && e.attr("from") == Some(own.as_str()));
        assert_eq!(presence.attr("type"), None, "{}", String::from(&presence));
        if String::from(&presence).contains("201") {
            self.unlock();
        }
    }

    /// Makes a new room usable.
    fn unlock(&mut self) {
        self.send(&format!("<iq type='set' id='unlock' to='{ROOM}'><query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'/></query></iq>"));
        self.next(|element| element.attr("id") == Some("unlock"));
    }

    /// Sends text.
    pub fn send(&mut self, text: &str) {
        self.socket.write_all(text.as_bytes()).unwrap();
    }

    /// Sends an element.
    pub fn send_element(&mut self, element: &Element) {
        let mut bytes = Vec::new();
        element.write_to(&mut bytes).unwrap();
        self.socket.write_all(&bytes).unwrap();
    }

    /// The next element that is wanted; what is not stays for later.
    pub fn next(&mut self, wanted: impl Fn(&Element) -> bool) -> Element {
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

    /// The next statistics of the bridge that `wanted` wants, which may have been said before.
    pub fn stats(&mut self, nickname: &str, wanted: impl Fn(&Stats) -> bool) -> Stats {
        let from = format!("{ROOM}/{nickname}");
        let presence = self.next(|element| {
            element.attr("from") == Some(from.as_str())
                && Stats::of(element).is_some_and(|stats| wanted(&stats))
        });
        Stats::of(&presence).unwrap()
    }

    /// Waits until an occupant leaves.
    pub fn sees_leave(&mut self, nickname: &str) {
        let from = format!("{ROOM}/{nickname}");
        self.next(|element| {
            element.attr("from") == Some(from.as_str())
                && element.attr("type") == Some("unavailable")
        });
    }

    fn open(&mut self) {
        self.send(&format!("<?xml version='1.0'?><stream:stream to='{DOMAIN}' version='1.0' xmlns='{CLIENT}' xmlns:stream='http://etherx.jabber.org/streams'>"));
    }

    fn read(&mut self) -> Element {
        loop {
            let mut rest = self.unread.as_slice();
            let event = self.reader.read(&mut rest).unwrap();
            let left = rest.len();
            self.unread.drain(..self.unread.len() - left);
            match event {
                Some(StreamEvent::Stanza(Stanza::Whole(element))) => return element,
                Some(StreamEvent::Close) => panic!("closed"),
                Some(_) => {}
                None => {
                    let mut buf = [0; 4096];
                    let len = self.socket.read(&mut buf).expect("something in time");
                    assert!(len > 0, "closed");
                    self.unread.extend_from_slice(&buf[..len]);
                }
            }
        }
    }
}

/// `<stats>` of a presence.
#[derive(Debug)]
pub struct Stats(pub Vec<(String, String)>);

impl Stats {
    fn of(element: &Element) -> Option<Self> {
        let stats = element.get_child("stats", COLIBRI).filter(|_| element.name() == "presence")?;
        let attr = |stat: &Element, name| stat.attr(name).unwrap_or_default().to_owned();
        Some(Self(stats.children().map(|s| (attr(s, "name"), attr(s, "value"))).collect()))
    }

    /// A value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
