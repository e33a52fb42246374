//! What the bridge answers to requests (RFC 6120 section 8.2.3).
//!
//! [`handle`] answers at once what it can, and otherwise says what to ask the bridge; a [`Reply`] makes
//! the answer of what the bridge says. The id of a request goes into its answer as it came: servers
//! rewrite ids to long strings that mean something to them.

use minidom::{
    Element,
    rxml::{AttrMap, Namespace, NcName},
};

use super::stanza::{Fault, Stanza};
use crate::{
    bridge::HealthError,
    colibri::{ColibriError, Condition, ConferenceModified, ConferenceModify, xml},
    config::SourcePattern,
};

/// The namespace of health checks.
pub const HEALTHCHECK: &str = "http://jitsi.org/protocol/healthcheck";
/// The namespace of pings (XEP-0199).
pub const PING: &str = "urn:xmpp:ping";
/// The namespace of version queries (XEP-0092).
pub const VERSION: &str = "jabber:iq:version";
/// The namespace of queries about what somebody is and can do (XEP-0030).
pub const DISCO_INFO: &str = "http://jabber.org/protocol/disco#info";
/// The namespace of queries about what somebody has (XEP-0030).
pub const DISCO_ITEMS: &str = "http://jabber.org/protocol/disco#items";
/// The namespace of statistics and of what is older than COLIBRI2.
pub const COLIBRI: &str = "http://jitsi.org/protocol/colibri";

/// What a bridge can do, as it says to whom asks.
const FEATURES: [&str; 7] = [
    DISCO_INFO,
    DISCO_ITEMS,
    HEALTHCHECK,
    "urn:xmpp:jingle:apps:dtls:0",
    "urn:xmpp:jingle:transports:ice-udp:1",
    VERSION,
    PING,
];

/// Who is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// Name of the software.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Operating system.
    pub os: String,
    /// Answers say whom they are from. A component must say so; a client's server knows.
    pub sign: bool,
}

/// What to do about a stanza.
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

/// Who waits for an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The answer without what is in it, and without its type.
    answer: Element,
    /// What was asked, without what is in it, as a refusal repeats it.
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

    /// An error: first what is wrong, then what was asked.
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

/// Refuses what somebody asks of the bridge who may not. `None`: `authorized` may, or asks for what
/// everybody may know.
pub fn refuse_stranger(
    stanza: &Stanza,
    about: &About,
    authorized: Option<&SourcePattern>,
) -> Option<Element> {
    let (Stanza::Whole(iq) | Stanza::GivenUp { head: iq, .. }) = stanza;
    let authorized = authorized?;
    let asked = iq
        .children()
        .find(|asked| xml::is_conference_modify(asked) || asked.is("healthcheck", HEALTHCHECK))?;
    if authorized.matches(iq.attr("from").unwrap_or_default()) {
        return None;
    }
    let reply = Request::new(iq, about)?.reply(Some(asked));
    Some(reply.refuse(&ColibriError::new(Condition::NotAuthorized, "")))
}

/// Decides what to do about a stanza.
pub fn handle(stanza: &Stanza, about: &About) -> Step {
    match stanza {
        Stanza::Whole(iq) => whole(iq, about),
        Stanza::GivenUp { head, fault } => given_up(head, *fault, about),
    }
}

fn whole(iq: &Element, about: &About) -> Step {
    let Some(request) = Request::new(iq, about) else { return Step::Ignore };
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

/// Answers what needs no bridge.
fn answer(asked: &Element, get: bool, about: &About) -> Result<Option<Element>, ColibriError> {
    let name = asked.name();
    if get {
        if asked.is("ping", PING) {
            return Ok(None);
        }
        if asked.is("query", VERSION) {
            return Ok(Some(version(about)));
        }
        let disco = asked.is("query", DISCO_INFO) || asked.is("query", DISCO_ITEMS);
        if disco && asked.attr("node").is_some() {
            return Err(ColibriError::new(Condition::ItemNotFound, "There is no such node"));
        }
        if asked.is("query", DISCO_INFO) {
            return Ok(Some(disco_info(about)));
        }
        if asked.is("query", DISCO_ITEMS) {
            return Ok(Some(Element::bare("query", DISCO_ITEMS)));
        }
        if asked.is("stats", COLIBRI) {
            return Err(ColibriError::new(Condition::FeatureNotImplemented, ""));
        }
    }
    let text = format!("Unsupported IQ request {name}");
    Err(ColibriError::new(Condition::ServiceUnavailable, text))
}

fn version(about: &About) -> Element {
    let said = [("name", &*about.name), ("version", &*about.version), ("os", &*about.os)];
    texts("query", VERSION, &said)
}

fn disco_info(about: &About) -> Element {
    let identity = [("category", "client"), ("type", "pc"), ("name", about.name.as_str())];
    disco(&identity, &FEATURES)
}

/// An answer to disco#info (XEP-0030): who we are and what we can.
pub(super) fn disco(identity: &[(&str, &str)], features: &[&str]) -> Element {
    let mut who = Element::bare("identity", DISCO_INFO);
    for (name, value) in identity {
        put(who.attrs_mut(), name, value);
    }
    let mut query = Element::bare("query", DISCO_INFO);
    query.append_child(who);
    for feature in features {
        let mut element = Element::bare("feature", DISCO_INFO);
        put(element.attrs_mut(), "var", feature);
        query.append_child(element);
    }
    query
}

/// An element whose children are texts.
pub(super) fn texts(name: &str, namespace: &str, inside: &[(&str, &str)]) -> Element {
    let mut element = Element::bare(name, namespace);
    for (name, text) in inside {
        let mut child = Element::bare(*name, namespace);
        child.append_text(*text);
        element.append_child(child);
    }
    element
}

/// A request that is too large is refused; anything else that is too large is nothing to answer.
fn given_up(head: &Element, fault: Fault, about: &About) -> Step {
    let Some(request) = Request::new(head, about) else { return Step::Ignore };
    let reply = request.reply(head.children().next());
    Step::Answer(reply.refuse(&ColibriError::new(Condition::PolicyViolation, fault.to_string())))
}

/// An IQ that wants an answer.
struct Request {
    get: bool,
    answer: Element,
}

impl Request {
    /// `None` for what wants none: other stanzas, answers, and what nobody could match an answer to.
    fn new(iq: &Element, about: &About) -> Option<Self> {
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
        if let Some(to) = iq.attr("to").filter(|_| about.sign) {
            put(attributes, "from", to);
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

pub(super) fn put(attributes: &mut AttrMap, name: &str, value: &str) {
    match NcName::try_from(name) {
        Ok(name) => {
            attributes.insert(Namespace::NONE, name, value.to_owned());
        }
        Err(_) => debug_assert!(false, "{name} is no name"),
    }
}

#[cfg(test)]
mod tests;
