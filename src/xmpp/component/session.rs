//! One connection of the component, from the handshake to its loss. No I/O: bytes and the time in,
//! bytes and requests out.

use std::{
    fmt::Write as _,
    io,
    time::{Duration, Instant},
};

use minidom::Element;
use sha1::{Digest as _, Sha1};

use super::{ComponentConfig, NAMESPACE, Place, pubsub::Publisher};
use crate::{
    config::Secret,
    stats::Stat,
    xmpp::{
        Limits, STREAMS, Stanza, StreamError, StreamEvent, StreamReader,
        iq::{COLIBRI, PING, put},
        presence,
    },
};

/// The server has so long for the handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// Between two pings of the server.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// A ping that is not answered for so long has failed.
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// After so many failures in a row the server is dead, whatever TCP says.
const PING_THRESHOLD: u32 = 3;

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// DNS has no address of the host.
    #[error("the host name has no address: {0}")]
    Unresolved(io::Error),
    /// TCP cannot connect.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// TCP broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The server ended the stream.
    #[error("the server closed the connection")]
    Closed,
    /// The server ended the stream with an error (RFC 6120 section 4.9).
    #[error("the server ended the stream: {0}")]
    Stream(String),
    /// The server does not know this component, or its secret.
    #[error("the server refused the secret, or does not know this component: {0}")]
    Refused(String),
    /// What came is not XMPP.
    #[error("what the server sends is not XMPP: {0}")]
    Malformed(#[from] StreamError),
    /// Nothing came in time.
    #[error("no handshake in {} s", HANDSHAKE_TIME.as_secs())]
    Handshake,
    /// Pings are not answered.
    #[error("the server does not answer pings")]
    Silent,
    /// The server does not take what is sent.
    #[error("the server does not read")]
    Slow,
}

/// How far the handshake is.
#[derive(Debug, PartialEq, Eq)]
enum State {
    Opening,
    Shaking,
    Up,
}

/// What came.
#[derive(Debug)]
pub(super) enum Event {
    /// The component is known to the server.
    Up,
    /// Somebody asks.
    Stanza(Stanza),
}

/// See the module's description.
pub(super) struct Session {
    jid: String,
    /// Whom to ping.
    domain: String,
    secret: Secret,
    state: State,
    reader: StreamReader,
    out: Vec<u8>,
    began: Instant,
    next_ping: Instant,
    ping: Option<(String, Instant)>,
    failures: u32,
    ids: u64,
    publishers: Vec<Publisher>,
    /// Statistics for every focus: how often, and when next.
    focus: Option<(Duration, Instant)>,
}

impl Session {
    /// A connection that was just made.
    pub(super) fn new(config: &ComponentConfig, now: Instant) -> Self {
        let jid = config.jid();
        let mut focus = None;
        let mut publishers = Vec::new();
        for publish in &config.publish {
            match &publish.to {
                Place::Focus => focus = Some((publish.interval, now)),
                Place::Node { service, node } => {
                    let interval = publish.interval;
                    publishers.push(Publisher::new(service, node, jid.clone(), interval, now));
                }
            }
        }
        let open = format!(
            "<?xml version='1.0'?><stream:stream xmlns='{NAMESPACE}' xmlns:stream='{STREAMS}' \
             to='{jid}'>"
        );
        Self {
            domain: config.domain.clone().unwrap_or_else(|| config.host.clone()),
            secret: config.secret.clone(),
            jid,
            state: State::Opening,
            reader: StreamReader::new(Limits::default()),
            out: open.into_bytes(),
            began: now,
            next_ping: now + PING_INTERVAL,
            ping: None,
            failures: 0,
            ids: 0,
            publishers,
            focus,
        }
    }

    /// What is to be sent.
    pub(super) fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Sends a stanza. Whom it is from is added where that is missing.
    pub(super) fn send(&mut self, mut stanza: Element) {
        if stanza.attr("from").is_none() {
            put(stanza.attrs_mut(), "from", &self.jid);
        }
        // Into memory nothing fails.
        let _ = stanza.write_to(&mut self.out);
    }

    /// Ends the stream, when nothing more is to be sent.
    pub(super) fn close(&mut self) {
        self.out.extend_from_slice(b"</stream:stream>");
    }

    /// Takes bytes of the server.
    pub(super) fn receive(&mut self, now: Instant, mut bytes: &[u8]) -> Result<Vec<Event>, Lost> {
        let mut events = Vec::new();
        while let Some(event) = self.reader.read(&mut bytes)? {
            match event {
                StreamEvent::Open(open) => self.opened(&open),
                StreamEvent::Close => return Err(Lost::Closed),
                StreamEvent::Stanza(stanza) => events.extend(self.stanza(now, stanza)?),
            }
        }
        Ok(events)
    }

    /// The handshake: lower-case hexadecimal of SHA-1 over the stream's id and the secret.
    fn opened(&mut self, open: &Element) {
        // The server knows best what it calls us (XEP-0114 section 3).
        if let Some(from) = open.attr("from").filter(|from| !from.is_empty()) {
            from.clone_into(&mut self.jid);
            self.publishers.iter_mut().for_each(|publisher| publisher.rename(from));
        }
        let id = open.attr("id").unwrap_or_default();
        let digest = Sha1::digest(format!("{id}{}", self.secret.reveal()));
        let text = digest.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        self.out.extend_from_slice(format!("<handshake>{text}</handshake>").as_bytes());
        self.state = State::Shaking;
    }

    fn stanza(&mut self, now: Instant, stanza: Stanza) -> Result<Option<Event>, Lost> {
        let (Stanza::Whole(element) | Stanza::GivenUp { head: element, .. }) = &stanza;
        if element.is("error", STREAMS) {
            let what = stream_error(element);
            return Err(match self.state {
                State::Up => Lost::Stream(what),
                State::Opening | State::Shaking => Lost::Refused(what),
            });
        }
        if self.state != State::Up {
            if element.name() != "handshake" {
                return Ok(None);
            }
            self.state = State::Up;
            self.next_ping = now + PING_INTERVAL;
            return Ok(Some(Event::Up));
        }
        if matches!(element.attr("type"), Some("result" | "error")) {
            self.answer(now, element);
            return Ok(None);
        }
        Ok(Some(Event::Stanza(stanza)))
    }

    fn answer(&mut self, now: Instant, iq: &Element) {
        if self.ping.as_ref().is_some_and(|(id, _)| iq.attr("id") == Some(id)) {
            // An error is an answer too: somebody is there.
            self.ping = None;
            self.failures = 0;
            return;
        }
        let ids = &mut self.ids;
        let publisher = self.publishers.iter_mut().find(|publisher| publisher.awaits(iq));
        if let Some(next) = publisher.and_then(|p| p.on_answer(now, iq, || new_id(ids))) {
            self.send(next);
        }
    }

    /// When [`Self::tick`] wants to be called.
    pub(super) fn next(&self) -> Instant {
        if self.state != State::Up {
            return self.began + HANDSHAKE_TIME;
        }
        let ping = self.ping.as_ref().map_or(self.next_ping, |(_, since)| *since + PING_TIMEOUT);
        let focus = self.focus.map(|(_, at)| at);
        self.publishers.iter().map(Publisher::next).chain(focus).fold(ping, Instant::min)
    }

    /// Does what is due. `stats`: what is published; `focuses`: who has conferences.
    pub(super) fn tick(
        &mut self,
        now: Instant,
        stats: impl Fn() -> Vec<(&'static str, Stat)>,
        focuses: impl Fn() -> Vec<String>,
    ) -> Result<(), Lost> {
        if self.state != State::Up {
            return if now >= self.began + HANDSHAKE_TIME { Err(Lost::Handshake) } else { Ok(()) };
        }
        self.ping(now)?;
        let ids = &mut self.ids;
        let stats = || presence::stats(&stats(), None);
        let mut due: Vec<Element> = self
            .publishers
            .iter_mut()
            .filter_map(|publisher| publisher.poll(now, || new_id(ids), stats))
            .collect();
        if let Some((interval, at)) = self.focus.as_mut().filter(|(_, at)| now >= *at) {
            *at = now + *interval;
            let told = focuses().into_iter().map(|focus| unasked(&focus, &new_id(ids), stats()));
            due.extend(told);
        }
        for stanza in due {
            self.send(stanza);
        }
        Ok(())
    }

    fn ping(&mut self, now: Instant) -> Result<(), Lost> {
        if self.ping.as_ref().is_some_and(|(_, since)| now >= *since + PING_TIMEOUT) {
            self.ping = None;
            self.failures += 1;
            if self.failures >= PING_THRESHOLD {
                return Err(Lost::Silent);
            }
        }
        if self.ping.is_none() && now >= self.next_ping {
            self.next_ping = now + PING_INTERVAL;
            let id = new_id(&mut self.ids);
            let mut iq = Element::bare("iq", NAMESPACE);
            for (name, value) in [("type", "get"), ("id", id.as_str()), ("to", &self.domain)] {
                put(iq.attrs_mut(), name, value);
            }
            iq.append_child(Element::bare("ping", PING));
            self.ping = Some((id, now));
            self.send(iq);
        }
        Ok(())
    }
}

fn new_id(ids: &mut u64) -> String {
    *ids += 1;
    format!("rialto-{ids}")
}

/// The statistics that JVB pushed to each focus: in a result that nobody asked for, twice nested.
fn unasked(focus: &str, id: &str, stats: Element) -> Element {
    let mut outer = Element::bare("stats", COLIBRI);
    outer.append_child(stats);
    let mut iq = Element::bare("iq", NAMESPACE);
    for (name, value) in [("type", "result"), ("id", id), ("to", focus)] {
        put(iq.attrs_mut(), name, value);
    }
    iq.append_child(outer);
    iq
}

/// The condition of a stream error and its text.
fn stream_error(error: &Element) -> String {
    let names = error.children().map(|child| match child.name() {
        "text" => child.text(),
        name => name.to_owned(),
    });
    let all: Vec<String> = names.collect();
    if all.is_empty() { "undefined-condition".to_owned() } else { all.join(", ") }
}
