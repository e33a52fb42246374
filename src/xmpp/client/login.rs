//! From a connected socket to a bound resource (RFC 6120 sections 4 to 7), and to acknowledged stanzas
//! where the server has them (XEP-0198). No I/O: events of the stream in, what to do next out.

use minidom::Element;

use super::{
    Account, Cause,
    sasl::{Mechanism, Sasl},
};
use crate::{
    config::XmppSecurity,
    xmpp::{STREAMS, Stanza, StreamEvent, iq::put},
};

const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
pub(super) const ACKS: &str = "urn:xmpp:sm:3";
const STREAM_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-streams";
pub(super) const CLIENT: &str = "jabber:client";

/// The id of the request for a resource.
const BIND_ID: &str = "bind";

/// What to do next.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// Read on.
    Wait,
    /// Send this.
    Send(Vec<u8>),
    /// Begin TLS, without anything that was read before; then send what [`Login::encrypted`] gives,
    /// and read a new stream.
    Encrypt,
    /// Send this, and read a new stream.
    Restart(Vec<u8>),
    /// Logged in.
    Done(Bound),
}

/// What a login leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    /// The full JID.
    pub jid: String,
    /// The server acknowledges stanzas, and wants ours to be.
    pub acks: bool,
}

enum Stage {
    /// The stream's first tag is to come.
    Open,
    Features,
    Proceed,
    Sasl(Box<Sasl>),
    Bind {
        acks: bool,
    },
    Acks {
        jid: String,
    },
}

/// A login.
pub(super) struct Login {
    account: Account,
    nonce: [u8; 18],
    encrypted: bool,
    authenticated: bool,
    stage: Stage,
}

impl Login {
    /// `nonce`: never the same twice.
    pub(super) fn new(account: Account, nonce: [u8; 18]) -> Self {
        let stage = Stage::Open;
        Self { account, nonce, encrypted: false, authenticated: false, stage }
    }

    /// What a client sends first (RFC 6120 section 4.7).
    pub(super) fn open(&self) -> Vec<u8> {
        let to = escape(&self.account.domain);
        format!(
            "<?xml version='1.0'?><stream:stream to='{to}' version='1.0' xml:lang='en' \
             xmlns='{CLIENT}' xmlns:stream='{STREAMS}'>"
        )
        .into_bytes()
    }

    /// TLS is there: what to send.
    pub(super) fn encrypted(&mut self) -> Vec<u8> {
        self.encrypted = true;
        self.stage = Stage::Open;
        self.open()
    }

    /// Takes what came.
    pub(super) fn on_event(&mut self, event: StreamEvent) -> Result<Next, Cause> {
        match event {
            StreamEvent::Close => Err(Cause::Closed),
            StreamEvent::Open(head) => self.on_open(&head),
            StreamEvent::Stanza(Stanza::GivenUp { fault, .. }) => {
                Err(Cause::Protocol(fault.to_string()))
            }
            StreamEvent::Stanza(Stanza::Whole(element)) => {
                if let Some(cause) = stream_error(&element) {
                    return Err(cause);
                }
                self.on_element(&element)
            }
        }
    }

    fn on_open(&mut self, head: &Element) -> Result<Next, Cause> {
        if !matches!(self.stage, Stage::Open) || !head.is("stream", STREAMS) {
            return Err(Cause::Protocol("this is no XMPP server".to_owned()));
        }
        self.stage = Stage::Features;
        Ok(Next::Wait)
    }

    fn on_element(&mut self, element: &Element) -> Result<Next, Cause> {
        match &mut self.stage {
            Stage::Features if element.is("features", STREAMS) => self.on_features(element),
            Stage::Proceed if element.is("proceed", TLS) => Ok(Next::Encrypt),
            Stage::Proceed if element.is("failure", TLS) => {
                Err(Cause::Tls("the server cannot begin it".to_owned()))
            }
            Stage::Sasl(sasl) if element.is("challenge", SASL) => {
                let response = sasl.respond(&element.text())?;
                let mut answer = Element::bare("response", SASL);
                answer.append_text(response);
                Ok(Next::Send(bytes(&answer)))
            }
            Stage::Sasl(_) if element.is("failure", SASL) => Err(sasl_failure(element)),
            Stage::Sasl(sasl) if element.is("success", SASL) => {
                sasl.finish(&element.text())?;
                self.authenticated = true;
                self.stage = Stage::Open;
                Ok(Next::Restart(self.open()))
            }
            Stage::Bind { acks } if element.is("iq", CLIENT) => {
                let acks = *acks;
                self.on_bound(element, acks)
            }
            Stage::Acks { jid } if element.is("enabled", ACKS) => {
                Ok(Next::Done(Bound { jid: jid.clone(), acks: true }))
            }
            Stage::Acks { jid } if element.is("failed", ACKS) => {
                Ok(Next::Done(Bound { jid: jid.clone(), acks: false }))
            }
            // Nobody knows us yet: nothing else can be for us.
            _ => Err(Cause::Protocol(format!("<{}> was not expected", element.name()))),
        }
    }

    fn on_features(&mut self, features: &Element) -> Result<Next, Cause> {
        if self.authenticated {
            return self.bind(features);
        }
        let security = self.account.security;
        let offered = features.has_child("starttls", TLS);
        if !self.encrypted && offered && security != XmppSecurity::Disabled {
            self.stage = Stage::Proceed;
            return Ok(Next::Send(bytes(&Element::bare("starttls", TLS))));
        }
        if !self.encrypted && security == XmppSecurity::Required {
            return Err(Cause::NoTls);
        }
        let mechanisms: Vec<String> = features
            .get_child("mechanisms", SASL)
            .map(|list| list.children().map(Element::text).collect())
            .unwrap_or_default();
        // Otherwise somebody on the way could take STARTTLS out, and read the password.
        let plain = self.encrypted || security == XmppSecurity::Disabled;
        let best = Mechanism::best(mechanisms.iter().map(String::as_str), plain)
            .ok_or_else(|| Cause::NoMechanism(shown(&mechanisms.join(" "))))?;
        let account = &self.account;
        let sasl = Sasl::new(best, &account.username, account.password.reveal(), self.nonce);
        let mut auth = Element::bare("auth", SASL);
        put(auth.attrs_mut(), "mechanism", best.name());
        auth.append_text(sasl.initial());
        self.stage = Stage::Sasl(Box::new(sasl));
        Ok(Next::Send(bytes(&auth)))
    }

    fn bind(&mut self, features: &Element) -> Result<Next, Cause> {
        if !features.has_child("bind", BIND) {
            return Err(Cause::Protocol("the server binds no resources".to_owned()));
        }
        self.stage = Stage::Bind { acks: features.has_child("sm", ACKS) };
        Ok(Next::Send(bytes(&self.bind_request())))
    }

    fn bind_request(&self) -> Element {
        let mut bind = Element::bare("bind", BIND);
        if let Some(wanted) = &self.account.resource {
            let mut resource = Element::bare("resource", BIND);
            resource.append_text(wanted.as_str());
            bind.append_child(resource);
        }
        let mut iq = Element::bare("iq", CLIENT);
        put(iq.attrs_mut(), "type", "set");
        put(iq.attrs_mut(), "id", BIND_ID);
        iq.append_child(bind);
        iq
    }

    fn on_bound(&mut self, iq: &Element, acks: bool) -> Result<Next, Cause> {
        let jid = iq
            .get_child("bind", BIND)
            .and_then(|bind| bind.get_child("jid", BIND))
            .map(Element::text)
            .filter(|_| iq.attr("type") == Some("result") && iq.attr("id") == Some(BIND_ID));
        let Some(jid) = jid else {
            let refused = stanza_error(iq);
            // A server that keeps the older of two: then it may choose.
            if refused == "conflict" && self.account.resource.take().is_some() {
                self.stage = Stage::Bind { acks };
                return Ok(Next::Send(bytes(&self.bind_request())));
            }
            return Err(Cause::Protocol(format!("no resource: {refused}")));
        };
        if acks {
            self.stage = Stage::Acks { jid };
            return Ok(Next::Send(bytes(&Element::bare("enable", ACKS))));
        }
        Ok(Next::Done(Bound { jid, acks: false }))
    }
}

/// What a server says before it closes (RFC 6120 section 4.9).
pub(super) fn stream_error(element: &Element) -> Option<Cause> {
    element.is("error", STREAMS).then(|| {
        let (condition, text) = condition_and_text(element, STREAM_ERRORS);
        match condition.as_str() {
            "host-unknown" => Cause::HostUnknown,
            _ => Cause::Stream { condition, text },
        }
    })
}

fn sasl_failure(failure: &Element) -> Cause {
    let (condition, text) = condition_and_text(failure, SASL);
    match condition.as_str() {
        "not-authorized" | "credentials-expired" | "account-disabled" => Cause::Credentials,
        _ => Cause::Refused { what: "login", condition, text },
    }
}

/// The condition of a stanza's error (RFC 6120 section 8.3).
pub(super) fn stanza_error(stanza: &Element) -> String {
    let error = stanza.children().find(|child| child.name() == "error");
    let Some(error) = error else { return "no reason".to_owned() };
    condition_and_text(error, crate::colibri::xml::STANZA_ERRORS).0
}

fn condition_and_text(error: &Element, namespace: &str) -> (String, String) {
    let condition =
        error.children().find(|child| child.has_ns(namespace) && child.name() != "text");
    let text = error.get_child("text", namespace).map(Element::text).unwrap_or_default();
    let condition = condition.map_or("undefined-condition", |condition| condition.name());
    (shown(condition), shown(&text))
}

/// Foreign text for a log line.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(120).flat_map(char::escape_debug).collect()
}

/// An element as it goes out.
pub(super) fn bytes(element: &Element) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A vector takes everything, and what we build has names that XML has.
    if element.write_to(&mut bytes).is_err() {
        debug_assert!(false, "{} cannot be written", element.name());
        bytes.clear();
    }
    bytes
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('\'', "&apos;")
}
