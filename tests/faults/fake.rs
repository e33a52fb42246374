//! A server that says what a test wants: it lets the bridge in, then sends raw bytes.

use std::{
    fmt::Write as _,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
};

use minidom::Element;

use crate::{prosody::PATIENCE, wire::elements::Elements};

/// The brewery.
pub(crate) const ROOM: &str = "jvbbrewery@internal.auth.jitsi.local";
/// Who asks: an occupant of it.
pub(crate) const FOCUS: &str = "jvbbrewery@internal.auth.jitsi.local/focus";
const STREAMS: &str = "http://etherx.jabber.org/streams";

/// So many attributes.
pub(crate) fn attributes(count: usize) -> String {
    (0..count).fold(String::new(), |mut all, n| {
        let _ = write!(all, " a{n}='1'");
        all
    })
}

/// Where the bridge connects.
pub(crate) struct Server {
    listener: TcpListener,
}

impl Server {
    pub(crate) fn new() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").unwrap() }
    }

    pub(crate) fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// The next connection, of which nothing has been read.
    pub(crate) fn accept(&self) -> Peer {
        let (socket, _) = self.listener.accept().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        let reader = Elements::new(socket.try_clone().unwrap());
        Peer { socket, reader, namespace: "jabber:client" }
    }

    /// The next connection, logged in by PLAIN, in its room.
    pub(crate) fn client(&self) -> Peer {
        let mut peer = self.accept();
        peer.log_in();
        peer.bind();
        peer.admit();
        peer
    }

    /// The next connection, let in as a component.
    pub(crate) fn component(&self) -> Peer {
        let mut peer = self.accept();
        peer.namespace = "jabber:component:accept";
        peer.open();
        peer.next(|element| element.name() == "handshake");
        peer.send("<handshake/>");
        peer
    }
}

/// The server's end of a connection.
pub(crate) struct Peer {
    pub(crate) socket: TcpStream,
    reader: Elements<TcpStream>,
    namespace: &'static str,
}

impl Peer {
    pub(crate) fn send(&mut self, text: &str) {
        self.send_bytes(text.as_bytes());
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    /// Takes the bridge's stream, and answers with one.
    pub(crate) fn open(&mut self) {
        self.reader.restart();
        self.reader.open().unwrap();
        self.send(&format!(
            "<?xml version='1.0'?><stream:stream xmlns='{}' xmlns:stream='{STREAMS}' id='1' \
             from='auth.jitsi.local' version='1.0'>",
            self.namespace
        ));
    }

    /// As far as the login; what comes next is the bridge's new stream.
    pub(crate) fn log_in(&mut self) {
        self.open();
        self.send(
            "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
             <mechanism>PLAIN</mechanism></mechanisms></stream:features>",
        );
        self.next(|element| element.name() == "auth");
        self.send("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>");
    }

    /// From there to a resource.
    pub(crate) fn bind(&mut self) {
        self.open();
        self.send(
            "<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></stream:features>",
        );
        let bind = self.next(|element| element.name() == "iq");
        self.send(&format!(
            "<iq type='result' id='{}'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
             <jid>jvb@auth.jitsi.local/1</jid></bind></iq>",
            bind.attr("id").unwrap()
        ));
    }

    /// The bridge joins its room, and is told that it did.
    pub(crate) fn admit(&mut self) {
        let join = self.next(|element| element.name() == "presence");
        self.send(&format!(
            "<presence from='{}' to='jvb@auth.jitsi.local/1'>\
             <x xmlns='http://jabber.org/protocol/muc#user'><status code='110'/></x></presence>",
            join.attr("to").unwrap()
        ));
    }

    /// The next element that is wanted; others are dropped.
    pub(crate) fn next(&mut self, wanted: impl Fn(&Element) -> bool) -> Element {
        loop {
            let element = self.reader.next().expect("something in time");
            let element = element.expect("the bridge closed the connection");
            if wanted(&element) {
                return element;
            }
        }
    }

    /// The bridge answers a question of this moment: the connection has survived what came before.
    pub(crate) fn is_served(&mut self, id: &str) -> Element {
        self.send(&self.iq(id, "get", "<query xmlns='jabber:iq:version'/>"));
        let answer = self.answer(id);
        assert_eq!(answer.attr("type"), Some("result"), "{}", String::from(&answer));
        answer
    }

    /// A request of the focus.
    pub(crate) fn iq(&self, id: &str, kind: &str, inside: &str) -> String {
        format!(
            "<iq xmlns='{}' type='{kind}' id='{id}' from='{FOCUS}' to='jvb@auth.jitsi.local/1'>\
             {inside}</iq>",
            self.namespace
        )
    }

    /// The bridge's answer to it.
    pub(crate) fn answer(&mut self, id: &str) -> Element {
        self.next(|element| {
            element.name() == "iq"
                && element.attr("id") == Some(id)
                && matches!(element.attr("type"), Some("result" | "error"))
        })
    }

    /// The condition of an error, or the type of another answer.
    pub(crate) fn condition(&mut self, id: &str) -> String {
        let answer = self.answer(id);
        let error = answer.children().find(|child| child.name() == "error");
        let condition = error.and_then(|error| error.children().next());
        condition.map_or(answer.attr("type").unwrap_or_default(), Element::name).to_owned()
    }

    /// Everything that comes until the bridge closes.
    pub(crate) fn until_closed(&mut self) {
        let mut buf = [0; 4096];
        // A reset is an end as well.
        while matches!(self.socket.read(&mut buf), Ok(1..)) {}
    }
}
