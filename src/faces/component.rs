//! The component's answers and statistics. As in JVB, answers do not repeat the request.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use minidom::Element;
use xmpp_parsers::{ns, version::VersionResult};

use super::{
    colibri1::{self, Refusal},
    colibri2::{COLIBRI, HEALTHCHECK, disco, identity},
    statistics,
};
use crate::{
    bridge::{HealthError, SelfReport},
    colibri::{ColibriError, Condition, v1, xml},
    config::SourcePattern,
    stats,
    xmpp::{
        Answer, Answers, Asked, Stanza,
        component::{Allowed, Statistics},
        put,
    },
};

const LAST: &str = "jabber:iq:last";

/// As JVB's.
const FEATURES: [&str; 9] = [
    ns::DISCO_INFO,
    ns::PING,
    LAST,
    ns::TIME,
    COLIBRI,
    HEALTHCHECK,
    "urn:xmpp:jingle:apps:dtls:0",
    "urn:xmpp:jingle:transports:ice-udp:1",
    ns::VERSION,
];

/// The bridge as a component.
#[derive(Debug)]
pub struct Adapter {
    /// Answers COLIBRI 1.
    pub colibri: Arc<colibri1::Adapter>,
    /// The published statistics.
    pub report: SelfReport,
    /// Version of the software, for version queries.
    pub version: String,
    /// Its operating system, likewise.
    pub os: String,
    /// Who may ask.
    pub allowed: Allowed,
    /// Since when there is a bridge.
    pub began: Instant,
}

impl Answers for Adapter {
    fn answer(&self, asked: Asked<'_>) -> Answer {
        let (version, os, up) = (self.version.as_str(), self.os.as_str(), self.began.elapsed());
        match handle(asked.stanza, &Known { version, os, up, allowed: &self.allowed }) {
            Step::Answer(answer) => Answer::Now(answer),
            Step::Stats(reply) => Answer::Now(reply.result(Some(self.read()))),
            Step::Health(reply) => Answer::Now(reply.health(self.report.bridge().health())),
            Step::Shutdown { graceful, from, answer } => {
                tracing::info!(from, graceful, "XMPP component: asked to shut down");
                if graceful {
                    self.report.bridge().graceful_shutdown();
                } else {
                    self.report.bridge().shutdown();
                }
                Answer::Now(answer)
            }
            Step::Conference { reply, .. } if asked.busy => {
                Answer::Now(reply.refuse(Condition::ResourceConstraint, "Too many requests"))
            }
            Step::Conference { from, request, reply } => {
                let colibri = self.colibri.clone();
                Answer::Later(Box::pin(async move {
                    match colibri.ask(&from, &request).await {
                        Ok(answer) => reply.result(Some(answer)),
                        Err(refusal) => {
                            reply.error(|namespace| Refusal::element(&refusal, namespace))
                        }
                    }
                }))
            }
            Step::Ignore => Answer::Nothing,
        }
    }
}

impl Statistics for Adapter {
    fn read(&self) -> Element {
        statistics::stats(&self.report.read_for_v1(), None)
    }

    fn foci(&self) -> Vec<String> {
        self.colibri.owners()
    }
}

/// The action for a stanza.
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

/// The head of an answer: an IQ without its type and its content.
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

    /// The bridge's health. A focus moves all conferences away from a bridge that reports that it is
    /// unhealthy.
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

/// The data for answers.
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

/// Returns the action for a stanza.
pub(super) fn handle(stanza: &Stanza, known: &Known<'_>) -> Step {
    let iq = stanza.element();
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
    if let Stanza::Refused { fault, .. } = stanza {
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
        // JVB's component refused it; here the sender gets an answer.
        return Step::Stats(reply);
    }
    Step::Answer(simple(asked, get, reply, known))
}

fn simple(asked: &Element, get: bool, reply: Reply, known: &Known<'_>) -> Element {
    match (asked.name(), asked.ns().as_str()) {
        ("query", ns::VERSION) => {
            let (version, os) = (known.version.to_owned(), Some(known.os.to_owned()));
            reply.result(Some(VersionResult { name: "JVB".to_owned(), version, os }.into()))
        }
        ("stats", COLIBRI) => {
            reply.refuse(Condition::ServiceUnavailable, "Unsupported IQ request stats")
        }
        ("query", ns::DISCO_INFO) if get => {
            let who = identity("component", "conference", "JitsiVideobridge");
            reply.result(Some(disco(who, &FEATURES)))
        }
        ("ping", ns::PING) if get => reply.result(None),
        ("query", LAST) if get => {
            let mut query = Element::bare("query", LAST);
            put(query.attrs_mut(), "seconds", &known.up.as_secs().to_string());
            reply.result(Some(query))
        }
        ("time", ns::TIME) if get => reply.result(Some(time())),
        ("query", ns::DISCO_ITEMS) if get => reply.refuse(Condition::FeatureNotImplemented, ""),
        _ => reply.refuse(Condition::BadRequest, "Failed to parse incoming stanza"),
    }
}

/// XEP-0202, in UTC.
fn time() -> Element {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let utc = stats::timestamp(now).replacen(' ', "T", 1);
    let mut time = Element::bare("time", ns::TIME);
    for (name, text) in [("tzo", "+00:00".to_owned()), ("utc", format!("{utc}Z"))] {
        let mut child = Element::bare(name, ns::TIME);
        child.append_text(text);
        time.append_child(child);
    }
    time
}

/// Answers requests that need no bridge, for fuzzing; `conference` handles requests of COLIBRI 1.
pub(crate) fn fuzz(stanza: &Stanza, conference: impl Fn(&Element)) -> Answer {
    let allowed = Allowed::default();
    let known = Known { version: "1", os: "", up: Duration::ZERO, allowed: &allowed };
    match handle(stanza, &known) {
        Step::Answer(answer) | Step::Shutdown { answer, .. } => Answer::Now(answer),
        Step::Conference { request, .. } => {
            conference(&request);
            Answer::Nothing
        }
        Step::Stats(_) | Step::Health(_) | Step::Ignore => Answer::Nothing,
    }
}

#[cfg(test)]
mod tests;
