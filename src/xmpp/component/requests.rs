//! What the component answers. Its answers hold no repetition of what was asked, as JVB's did not.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use minidom::Element;

use super::Allowed;
use crate::{
    bridge::HealthError,
    colibri::{ColibriError, Condition, v1, xml},
    config::SourcePattern,
    stats,
    xmpp::{
        Stanza,
        iq::{COLIBRI, DISCO_INFO, DISCO_ITEMS, HEALTHCHECK, PING, VERSION, disco, put, texts},
    },
};

const LAST: &str = "jabber:iq:last";
const TIME: &str = "urn:xmpp:time";

/// In JVB's order.
const FEATURES: [&str; 9] = [
    DISCO_INFO,
    PING,
    LAST,
    TIME,
    COLIBRI,
    HEALTHCHECK,
    "urn:xmpp:jingle:apps:dtls:0",
    "urn:xmpp:jingle:transports:ice-udp:1",
    VERSION,
];

/// What to do about a stanza.
#[derive(Debug)]
pub(super) enum Step {
    /// Send this.
    Answer(Element),
    /// Ask COLIBRI 1, and send what [`Reply`] makes of its answer.
    Conference { from: String, request: Element, reply: Reply },
    /// Send what [`Reply`] makes of the statistics.
    Stats(Reply),
    /// Send what [`Reply::health`] makes of the bridge's health.
    Health(Reply),
    /// End the bridge, once conferences have ended or at once, and send the answer.
    Shutdown { graceful: bool, from: String, answer: Element },
    /// It is no request.
    Ignore,
}

/// Who waits for an answer: an IQ without its type and its content.
#[derive(Clone, Debug)]
pub(super) struct Reply(Element);

impl Reply {
    pub(super) fn result(mut self, inside: Option<Element>) -> Element {
        put(self.0.attrs_mut(), "type", "result");
        if let Some(inside) = inside {
            self.0.append_child(inside);
        }
        self.0
    }

    /// `write` writes `<error>` for the namespace of the stanza.
    pub(super) fn error(mut self, write: impl FnOnce(&str) -> Element) -> Element {
        put(self.0.attrs_mut(), "type", "error");
        let namespace = self.0.ns();
        self.0.append_child(write(&namespace));
        self.0
    }

    /// The bridge's health. A focus moves everybody away from a bridge that says it is not well.
    pub(super) fn health(self, health: Result<(), HealthError>) -> Element {
        match health {
            Ok(()) => self.result(None),
            Err(error) => self.refuse(Condition::InternalServerError, &error.message),
        }
    }

    fn refuse(self, condition: Condition, text: &str) -> Element {
        self.error(|namespace| xml::write_error(&ColibriError::new(condition, text), namespace))
    }
}

/// What answers are made of.
#[derive(Debug)]
pub(super) struct Known<'a> {
    /// The software's version.
    pub version: &'a str,
    /// The operating system.
    pub os: &'a str,
    /// For how long there has been a bridge.
    pub up: Duration,
    /// Who may ask.
    pub allowed: &'a Allowed,
}

/// Decides what to do about a stanza.
pub(super) fn handle(stanza: Stanza, known: &Known<'_>) -> Step {
    let (iq, given_up) = match stanza {
        Stanza::Whole(iq) => (iq, None),
        Stanza::GivenUp { head, fault } => (head, Some(fault)),
    };
    let get = iq.attr("type") == Some("get");
    let request = iq.name() == "iq" && (get || iq.attr("type") == Some("set"));
    let (Some(id), Some(from), true) = (iq.attr("id"), iq.attr("from"), request) else {
        return Step::Ignore;
    };
    let mut answer = Element::bare("iq", iq.ns());
    put(answer.attrs_mut(), "id", id);
    put(answer.attrs_mut(), "to", from);
    if let Some(to) = iq.attr("to") {
        put(answer.attrs_mut(), "from", to);
    }
    let reply = Reply(answer);
    if let Some(fault) = given_up {
        return Step::Answer(reply.refuse(Condition::PolicyViolation, &fault.to_string()));
    }
    let Some(asked) = iq.children().next().filter(|asked| !asked.ns().is_empty()) else {
        return Step::Answer(reply.refuse(Condition::BadRequest, ""));
    };
    let may = |pattern: Option<&SourcePattern>| pattern.is_none_or(|pattern| pattern.matches(from));
    let ask = known.allowed.ask.as_ref();
    let protected = v1::is_conference(asked) || asked.is("healthcheck", HEALTHCHECK);
    if protected && !may(ask) {
        return Step::Answer(reply.refuse(Condition::NotAuthorized, ""));
    }
    if asked.is("healthcheck", HEALTHCHECK) {
        return Step::Health(reply);
    }
    if asked.is("graceful-shutdown", COLIBRI) || asked.is("force-shutdown", COLIBRI) {
        let pattern = known.allowed.shutdown.as_ref().or(ask);
        return match pattern {
            None => Step::Answer(reply.refuse(Condition::ServiceUnavailable, "")),
            Some(pattern) if !pattern.matches(from) => {
                Step::Answer(reply.refuse(Condition::NotAuthorized, ""))
            }
            Some(_) => Step::Shutdown {
                graceful: asked.name() == "graceful-shutdown",
                from: from.to_owned(),
                answer: reply.result(None),
            },
        };
    }
    if v1::is_conference(asked) {
        return Step::Conference { from: from.to_owned(), request: asked.clone(), reply };
    }
    if get && asked.is("stats", COLIBRI) {
        // JVB's component refused it; who asks wants to know.
        return Step::Stats(reply);
    }
    Step::Answer(simple(asked, get, reply, known))
}

fn simple(asked: &Element, get: bool, reply: Reply, known: &Known<'_>) -> Element {
    if asked.is("query", VERSION) {
        let said = [("name", "JVB"), ("version", known.version), ("os", known.os)];
        return reply.result(Some(texts("query", VERSION, &said)));
    }
    if asked.is("stats", COLIBRI) {
        return reply.refuse(Condition::ServiceUnavailable, "Unsupported IQ request stats");
    }
    if get {
        if asked.is("query", DISCO_INFO) {
            return reply.result(Some(disco_info()));
        }
        if asked.is("ping", PING) {
            return reply.result(None);
        }
        if asked.is("query", LAST) {
            let mut query = Element::bare("query", LAST);
            put(query.attrs_mut(), "seconds", &known.up.as_secs().to_string());
            return reply.result(Some(query));
        }
        if asked.is("time", TIME) {
            return reply.result(Some(time()));
        }
        if asked.is("query", DISCO_ITEMS) {
            return reply.refuse(Condition::FeatureNotImplemented, "");
        }
    }
    reply.refuse(Condition::BadRequest, "Failed to parse incoming stanza")
}

fn disco_info() -> Element {
    let identity =
        [("category", "component"), ("type", "conference"), ("name", "JitsiVideobridge")];
    disco(&identity, &FEATURES)
}

/// XEP-0202, in UTC.
fn time() -> Element {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let utc = stats::timestamp(now).replacen(' ', "T", 1);
    texts("time", TIME, &[("tzo", "+00:00"), ("utc", &format!("{utc}Z"))])
}
