//! `videobridge.apis.xmpp-component` and `videobridge.stats.transports`: the bridge as a component of an
//! XMPP server, and where it publishes its statistics.

use std::time::Duration;

use regex_lite::Regex;
use rialto_hocon::{Kind, Object};

use super::{
    Secret,
    reader::{Reader, SHORTEST_INTERVAL, scalar, wants},
    units,
    xmpp::{is_domain, is_name},
};

const SECTION: &str = "an object with type, and with service and node for pubsub";

/// The bridge as a component (XEP-0114).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Component {
    /// `host` of the server. Default: the domain, or `localhost` without one.
    pub host: Option<String>,
    /// `port`. 5275, as JVB's; Prosody's is 5347.
    pub port: u16,
    /// `domain` of the server. Unset: the component's address is the subdomain alone.
    pub domain: Option<String>,
    /// `subdomain`. `jitsi-videobridge`.
    pub subdomain: String,
    /// `secret` shared with the server.
    pub secret: Secret,
    /// `authorized-source`: JIDs that may send conference and health requests. All.
    pub authorized: Option<SourcePattern>,
    /// `shutdown-source`: JIDs that may shut the bridge down. As `authorized-source`; none when neither is
    /// set.
    pub shutdown: Option<SourcePattern>,
}

/// A regular expression that must match the whole JID of a sender.
#[derive(Clone, Debug)]
pub struct SourcePattern {
    text: String,
    whole: Regex,
}

impl SourcePattern {
    /// Returns `None` for an invalid expression (look-around and back references are not supported).
    pub fn new(text: &str) -> Option<Self> {
        // Compiled by itself first: the group put around it must not complete an incomplete expression.
        Regex::new(text).ok()?;
        let whole = Regex::new(&format!(r"\A(?:{text})\z")).ok()?;
        Some(Self { text: text.to_owned(), whole })
    }

    /// Returns whether the expression matches `jid`.
    pub fn matches(&self, jid: &str) -> bool {
        self.whole.is_match(jid)
    }
}

impl PartialEq for SourcePattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for SourcePattern {}

impl Default for Component {
    fn default() -> Self {
        Self {
            host: None,
            port: 5275,
            domain: None,
            subdomain: "jitsi-videobridge".to_owned(),
            secret: Secret::default(),
            authorized: None,
            shutdown: None,
        }
    }
}

/// An element of `videobridge.stats.transports`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StatsTransport {
    /// `interval`. As `videobridge.stats.interval`.
    pub interval: Option<Duration>,
    /// `type`, with its parameters.
    pub to: StatsDestination,
}

/// Where statistics go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StatsDestination {
    /// `muc`: to the rooms of `videobridge.apis.xmpp-client`, which get them in any case.
    Muc,
    /// `colibri`: from the component to the focus of every conference.
    Colibri,
    /// `pubsub`: from the component to a node.
    Pubsub {
        /// `service`: its JID.
        service: String,
        /// `node`.
        node: String,
    },
}

/// Reads the component; returns `None` when it is not enabled.
pub(super) fn read(r: &mut Reader<'_>) -> Option<Component> {
    const SECRET: &str = "videobridge.apis.xmpp-component.secret";
    const ENABLED: &str = "videobridge.apis.xmpp-component.enabled";
    let mut enabled = false;
    let mut component = Component::default();
    let host = "a host name or address";
    r.boolean(ENABLED, &mut enabled);
    r.optional_text("videobridge.apis.xmpp-component.host", &mut component.host, host, is_domain);
    r.integer("videobridge.apis.xmpp-component.port", &mut component.port, 1, u16::MAX);
    let domain = &mut component.domain;
    r.optional_text("videobridge.apis.xmpp-component.domain", domain, "a domain", is_domain);
    let subdomain = &mut component.subdomain;
    r.text("videobridge.apis.xmpp-component.subdomain", subdomain, "a domain", is_domain);
    r.secret(SECRET, &mut component.secret);
    component.authorized = pattern(r, "videobridge.apis.xmpp-component.authorized-source");
    component.shutdown = pattern(r, "videobridge.apis.xmpp-component.shutdown-source");
    if enabled && component.secret.reveal().is_empty() {
        r.mistake(
            SECRET,
            ENABLED,
            "a component needs the secret that its server knows: here, by --secret, or in \
             RIALTO_COMPONENT_SECRET",
        );
    }
    enabled.then_some(component)
}

/// The form of a [`SourcePattern`], for error messages.
pub(super) const PATTERN: &str = "a regular expression without look-around";

pub(super) fn pattern(r: &mut Reader<'_>, key: &'static str) -> Option<SourcePattern> {
    let mut text = None;
    r.optional_text(key, &mut text, PATTERN, |text| SourcePattern::new(text).is_some());
    text.as_deref().and_then(SourcePattern::new)
}

/// Reads where statistics go.
pub(super) fn transports(r: &mut Reader<'_>, target: &mut Vec<StatsTransport>) {
    let what = format!("a list of objects, each {SECTION}");
    r.list("videobridge.stats.transports", target, &what, transport, show);
}

fn transport(kind: &Kind) -> Result<StatsTransport, String> {
    let Kind::Object(fields) = kind else { return Err(wants(SECTION, kind)) };
    let known = ["type", "interval", "service", "node"];
    if let Some(name) = fields.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(format!("{SECTION}, not {}", name.escape_debug()));
    }
    let interval = match fields.get("interval").map(|value| &value.kind) {
        None | Some(Kind::Null) => None,
        Some(kind) => {
            let read = scalar(kind).and_then(units::duration);
            let read = read.filter(|interval| *interval >= SHORTEST_INTERVAL);
            Some(read.ok_or_else(|| wants("an interval such as '5 seconds'", kind))?)
        }
    };
    let to = match text(fields, "type").unwrap_or_default().to_ascii_lowercase().as_str() {
        "muc" => StatsDestination::Muc,
        "colibri" => StatsDestination::Colibri,
        "pubsub" => {
            let service = text(fields, "service").filter(|service| is_domain(service));
            let node = text(fields, "node").filter(|node| is_name(node));
            let (Some(service), Some(node)) = (service, node) else {
                return Err("pubsub needs a service and a node".to_owned());
            };
            StatsDestination::Pubsub { service: service.to_owned(), node: node.to_owned() }
        }
        _ => return Err("needs a type: one of muc, colibri, pubsub".to_owned()),
    };
    Ok(StatsTransport { interval, to })
}

fn text<'a>(fields: &'a Object, name: &str) -> Option<&'a str> {
    fields.get(name).and_then(|value| scalar(&value.kind)).filter(|text| !text.is_empty())
}

fn show(transport: &StatsTransport) -> String {
    let target = match &transport.to {
        StatsDestination::Muc => "muc".to_owned(),
        StatsDestination::Colibri => "colibri".to_owned(),
        StatsDestination::Pubsub { service, node } => format!("pubsub {node} at {service}"),
    };
    match transport.interval {
        Some(interval) => format!("{target} every {}", units::show_duration(interval)),
        None => target,
    }
}
