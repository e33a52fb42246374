//! COLIBRI2 in the rooms of focuses, and the other requests that the bridge must answer there (RFC 6120
//! section 8.2.3).
//!
//! [`handle`] answers at once where it can, and otherwise returns the request to the bridge; a [`Reply`]
//! makes the answer from the bridge's result. The id and the sender of a request go into its answer as they
//! came: servers rewrite ids to long strings that mean something to them, and `xmpp-parsers` would read no
//! request whose addresses are not those of RFC 7622, nor write them as they were. As in JVB, only the name
//! of the payload decides what a request is; `xmpp-parsers` writes the answers.

use minidom::{
    Element,
    rxml::{Namespace, NcName},
};
use xmpp_parsers::{
    disco::{DiscoInfoResult, DiscoItemsResult, Identity},
    ns,
    version::VersionResult,
};

use crate::{
    bridge::{Bridge, HealthError},
    colibri::{ColibriError, Condition, ConferenceModified, ConferenceModify, xml},
    config::SourcePattern,
    xmpp::{Answer, Answers, Asked, Fault, Stanza, put},
};

/// The namespace of health checks.
pub const HEALTHCHECK: &str = "http://jitsi.org/protocol/healthcheck";
/// The namespace of statistics and of COLIBRI 1.
pub const COLIBRI: &str = "http://jitsi.org/protocol/colibri";

/// The features that the bridge lists in service discovery.
const FEATURES: [&str; 7] = [
    ns::DISCO_INFO,
    ns::DISCO_ITEMS,
    HEALTHCHECK,
    "urn:xmpp:jingle:apps:dtls:0",
    "urn:xmpp:jingle:transports:ice-udp:1",
    ns::VERSION,
    ns::PING,
];

/// The software's identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Name of the software.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Operating system.
    pub os: String,
}

/// COLIBRI2 of a bridge.
#[derive(Clone, Debug)]
pub struct Adapter {
    bridge: Bridge,
    about: About,
}

impl Adapter {
    /// Of a bridge.
    pub fn new(bridge: Bridge, about: About) -> Self {
        Self { bridge, about }
    }
}

impl Answers for Adapter {
    fn answer(&self, asked: Asked<'_>) -> Answer {
        if let Some(refusal) = refuse_stranger(asked.stanza, asked.authorized) {
            return Answer::Now(refusal);
        }
        match handle(asked.stanza, &self.about) {
            Step::Answer(answer) => Answer::Now(answer),
            Step::Health(reply) => Answer::Now(reply.health(self.bridge.health())),
            Step::Modify(_, reply) if asked.busy => {
                let text = "Too many requests";
                Answer::Now(reply.refuse(&ColibriError::new(Condition::ResourceConstraint, text)))
            }
            Step::Modify(request, reply) => {
                let answer = self.bridge.submit(*request);
                Answer::Later(Box::pin(async move { reply.modified(answer.await) }))
            }
            Step::Ignore => Answer::Nothing,
        }
    }
}

/// The action for a stanza.
#[derive(Debug)]
pub enum Step {
    /// Send this.
    Answer(Element),
    /// Ask the bridge, and send what [`Reply::modified`] makes of its answer.
    Modify(Box<ConferenceModify>, Reply),
    /// Send what [`Reply::health`] makes of the bridge's health.
    Health(Reply),
    /// It is no request.
    Ignore,
}

/// The head of a pending answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The answer without its content and its type.
    answer: Element,
    /// The request's payload without its content, which a refusal repeats.
    asked: Option<Element>,
}

impl Reply {
    /// The answer of the bridge.
    pub fn modified(self, answer: Result<ConferenceModified, ColibriError>) -> Element {
        match answer {
            Ok(answer) => self.result(Some(xml::write_conference_modified(&answer))),
            Err(error) => self.refuse(&error),
        }
    }

    /// An empty result, or `internal-server-error` with the reason.
    pub fn health(self, health: Result<(), HealthError>) -> Element {
        match health {
            Ok(()) => self.result(None),
            Err(error) => {
                self.refuse(&ColibriError::new(Condition::InternalServerError, error.message))
            }
        }
    }

    /// An error: first the condition, then the request's payload.
    pub fn refuse(self, error: &ColibriError) -> Element {
        let namespace = self.answer.ns();
        let mut answer = self.with_type("error");
        answer.append_child(xml::write_error(error, &namespace));
        if let Some(asked) = self.asked {
            answer.append_child(asked);
        }
        answer
    }

    fn result(self, inside: Option<Element>) -> Element {
        let mut answer = self.with_type("result");
        if let Some(inside) = inside {
            answer.append_child(inside);
        }
        answer
    }

    fn with_type(&self, kind: &str) -> Element {
        let mut answer = self.answer.clone();
        put(answer.attrs_mut(), "type", kind);
        answer
    }
}

/// Refuses a request of a sender who is not authorized. `None`: the sender is authorized, or the request is
/// open to everybody.
pub fn refuse_stranger(stanza: &Stanza, authorized: Option<&SourcePattern>) -> Option<Element> {
    let iq = stanza.element();
    let authorized = authorized?;
    let asked = iq
        .children()
        .find(|asked| xml::is_conference_modify(asked) || asked.is("healthcheck", HEALTHCHECK))?;
    if authorized.matches(iq.attr("from").unwrap_or_default()) {
        return None;
    }
    let reply = Request::new(iq)?.reply(Some(asked));
    Some(reply.refuse(&ColibriError::new(Condition::NotAuthorized, "")))
}

/// Returns the action for a stanza.
pub fn handle(stanza: &Stanza, about: &About) -> Step {
    match stanza {
        Stanza::Whole(iq) => whole(iq, about),
        Stanza::Refused { head, fault } => refused_stanza(head, *fault),
    }
}

fn whole(iq: &Element, about: &About) -> Step {
    let Some(request) = Request::new(iq) else { return Step::Ignore };
    let mut children = iq.children();
    let (Some(asked), None) = (children.next(), children.next()) else {
        let text = "A request has one child";
        return Step::Answer(request.reply(None).refuse(&ColibriError::bad_request(text)));
    };
    let reply = request.reply(Some(asked));
    if xml::is_conference_modify(asked) {
        return match xml::read_conference_modify(asked) {
            Ok(modify) => Step::Modify(Box::new(modify), reply),
            Err(error) => Step::Answer(reply.refuse(&error)),
        };
    }
    if asked.is("healthcheck", HEALTHCHECK) {
        return Step::Health(reply);
    }
    Step::Answer(match answer(asked, request.get, about) {
        Ok(inside) => reply.result(inside),
        Err(error) => reply.refuse(&error),
    })
}

/// Answers requests that need no bridge.
fn answer(asked: &Element, get: bool, about: &About) -> Result<Option<Element>, ColibriError> {
    match (asked.name(), asked.ns().as_str()) {
        ("ping", ns::PING) if get => Ok(None),
        ("query", ns::VERSION) if get => Ok(Some(version(about))),
        ("query", ns::DISCO_INFO | ns::DISCO_ITEMS) if get && asked.attr("node").is_some() => {
            Err(ColibriError::new(Condition::ItemNotFound, "There is no such node"))
        }
        ("query", ns::DISCO_INFO) if get => {
            let who = identity("client", "pc", &about.name);
            Ok(Some(disco(who, &FEATURES)))
        }
        ("query", ns::DISCO_ITEMS) if get => {
            let none = DiscoItemsResult { node: None, items: Vec::new(), rsm: None };
            Ok(Some(none.into()))
        }
        ("stats", COLIBRI) if get => Err(ColibriError::new(Condition::FeatureNotImplemented, "")),
        (name, _) => {
            let text = format!("Unsupported IQ request {name}");
            Err(ColibriError::new(Condition::ServiceUnavailable, text))
        }
    }
}

fn version(about: &About) -> Element {
    let About { name, version, os } = about.clone();
    VersionResult { name, version, os: Some(os) }.into()
}

/// The identity for [`disco`].
pub(super) fn identity(category: &str, kind: &str, name: &str) -> Identity {
    Identity {
        category: category.to_owned(),
        type_: kind.to_owned(),
        lang: None,
        name: Some(name.to_owned()),
    }
}

/// An answer to disco#info (XEP-0030): identity and features.
pub(super) fn disco(who: Identity, features: &[&str]) -> Element {
    let features = features.iter().map(|feature| (*feature).to_owned()).collect();
    let identities = vec![who];
    DiscoInfoResult { node: None, identities, features, extensions: Vec::new() }.into()
}

/// A request that is too large is refused; anything else that is too large is nothing to answer.
fn refused_stanza(head: &Element, fault: Fault) -> Step {
    let Some(request) = Request::new(head) else { return Step::Ignore };
    let reply = request.reply(head.children().next());
    Step::Answer(reply.refuse(&ColibriError::new(Condition::PolicyViolation, fault.to_string())))
}

/// An IQ that needs an answer.
struct Request {
    get: bool,
    answer: Element,
}

impl Request {
    /// `None` for stanzas that need none: no IQs, answers, and requests to which no answer could be matched.
    fn new(iq: &Element) -> Option<Self> {
        let get = match iq.attr("type")? {
            "get" => true,
            "set" => false,
            _ => return None,
        };
        if iq.name() != "iq" {
            return None;
        }
        let mut answer = Element::bare("iq", iq.ns());
        let attributes = answer.attrs_mut();
        if let Ok(lang) = NcName::try_from("lang") {
            attributes.insert(Namespace::XML, lang, "en".to_owned());
        }
        put(attributes, "id", iq.attr("id")?);
        if let Some(from) = iq.attr("from") {
            put(attributes, "to", from);
        }
        Some(Self { get, answer })
    }

    fn reply(&self, asked: Option<&Element>) -> Reply {
        let asked = asked.map(|asked| {
            let mut head = Element::bare(asked.name(), asked.ns());
            *head.attrs_mut() = asked.attrs().clone();
            head
        });
        Reply { answer: self.answer.clone(), asked }
    }
}

#[cfg(test)]
mod tests;
