//! `sip-communicator.properties`: the file that JVB read before `jvb.conf`, and still reads beside it. A
//! key that is set there overrides its new name, as in JVB.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use rialto_hocon::{Document, Kind, Object, Origin, Value};

use super::{load::Warning, xmpp};

/// The file's name; it is in the directory of `jvb.conf`.
pub(super) const FILE_NAME: &str = "sip-communicator.properties";

const JVB: &str = "org.jitsi.videobridge.";
const USER: &str = "org.jitsi.videobridge.xmpp.user.";
const ICE: &str = "org.ice4j.";
const LOCAL: &str = "org.ice4j.ice.harvest.NAT_HARVESTER_LOCAL_ADDRESS";
const PUBLIC: &str = "org.ice4j.ice.harvest.NAT_HARVESTER_PUBLIC_ADDRESS";
const TRANSPORT: &str = "org.jitsi.videobridge.STATISTICS_TRANSPORT";
const SERVICE: &str = "org.jitsi.videobridge.PUBSUB_SERVICE";
const NODE: &str = "org.jitsi.videobridge.PUBSUB_NODE";
/// Prefix of the interval of one transport, whose name follows.
const INTERVAL: &str = "org.jitsi.videobridge.STATISTICS_INTERVAL.";

/// How an old value is converted.
#[derive(Clone, Copy)]
enum Conversion {
    Same,
    /// A number of seconds without a unit.
    Seconds,
    /// A boolean with the opposite meaning.
    Not,
    Percent,
    /// A list separated by commas or semicolons.
    List,
}

/// Old keys, new keys and conversions.
const KEYS: [(&str, &str, Conversion); 57] = [
    ("org.ice4j.MAX_CHECK_LIST_SIZE", "ice4j.ice.max-check-list-size", Conversion::Same),
    ("org.ice4j.REDACT_REMOTE_ADDRESSES", "ice4j.redact-remote-addresses", Conversion::Same),
    ("org.ice4j.SOFTWARE", "ice4j.software", Conversion::Same),
    ("org.ice4j.TERMINATION_DELAY", "ice4j.ice.termination-delay", Conversion::Same),
    (
        "org.ice4j.ice.CONSENT_FRESHNESS_INTERVAL",
        "ice4j.consent-freshness.interval",
        Conversion::Same,
    ),
    (
        "org.ice4j.ice.CONSENT_FRESHNESS_MAX_RETRANSMISSIONS",
        "ice4j.consent-freshness.max-retransmissions",
        Conversion::Same,
    ),
    (
        "org.ice4j.ice.CONSENT_FRESHNESS_MAX_WAIT_INTERVAL",
        "ice4j.consent-freshness.max-wait-interval",
        Conversion::Same,
    ),
    (
        "org.ice4j.ice.CONSENT_FRESHNESS_WAIT_INTERVAL",
        "ice4j.consent-freshness.original-wait-interval",
        Conversion::Same,
    ),
    ("org.ice4j.ice.USE_COMPONENT_SOCKET", "ice4j.use-component-socket", Conversion::Same),
    (
        "org.ice4j.ice.harvest.ALLOWED_ADDRESSES",
        "ice4j.harvest.allowed-addresses",
        Conversion::List,
    ),
    (
        "org.ice4j.ice.harvest.ALLOWED_INTERFACES",
        "ice4j.harvest.allowed-interfaces",
        Conversion::List,
    ),
    (
        "org.ice4j.ice.harvest.AbstractUdpListener.SO_RCVBUF",
        "ice4j.harvest.udp.receive-buffer-size",
        Conversion::Same,
    ),
    (
        "org.ice4j.ice.harvest.BLOCKED_ADDRESSES",
        "ice4j.harvest.blocked-addresses",
        Conversion::List,
    ),
    (
        "org.ice4j.ice.harvest.BLOCKED_INTERFACES",
        "ice4j.harvest.blocked-interfaces",
        Conversion::List,
    ),
    (
        "org.ice4j.ice.harvest.DISABLE_AWS_HARVESTER",
        "ice4j.harvest.mapping.aws.enabled",
        Conversion::Not,
    ),
    (
        "org.ice4j.ice.harvest.DISABLE_LINK_LOCAL_ADDRESSES",
        "ice4j.harvest.use-link-local-addresses",
        Conversion::Not,
    ),
    (
        "org.ice4j.ice.harvest.FORCE_AWS_HARVESTER",
        "ice4j.harvest.mapping.aws.force",
        Conversion::Same,
    ),
    ("org.ice4j.ice.harvest.HARVESTING_TIMEOUT", "ice4j.harvest.timeout", Conversion::Same),
    (
        "org.ice4j.ice.harvest.STUN_MAPPING_HARVESTER_ADDRESSES",
        "ice4j.harvest.mapping.stun.addresses",
        Conversion::List,
    ),
    ("org.ice4j.ipv6.DISABLED", "ice4j.harvest.use-ipv6", Conversion::Not),
    (
        "org.jitsi.videobridge.AUTHORIZED_SOURCE_REGEXP",
        "videobridge.apis.xmpp-component.authorized-source",
        Conversion::Same,
    ),
    (
        "org.jitsi.videobridge.BWE_CHANGE_THRESHOLD_PCT",
        "videobridge.cc.bwe-change-threshold",
        Conversion::Percent,
    ),
    (
        "org.jitsi.videobridge.ENABLE_ONSTAGE_VIDEO_SUSPEND",
        "videobridge.cc.allow-oversend-onstage",
        Conversion::Not,
    ),
    (
        "org.jitsi.videobridge.ENABLE_REST_COLIBRI",
        "videobridge.apis.rest.enabled",
        Conversion::Same,
    ),
    (
        "org.jitsi.videobridge.ENABLE_REST_SHUTDOWN",
        "videobridge.rest.shutdown.enabled",
        Conversion::Same,
    ),
    (
        "org.jitsi.videobridge.EXPIRE_CHECK_SLEEP_SEC",
        "videobridge.entity-expiration.check-interval",
        Conversion::Seconds,
    ),
    (
        "org.jitsi.videobridge.EndpointConnectionStatus.FIRST_TRANSFER_TIMEOUT",
        "videobridge.ep-connection-status.first-transfer-timeout",
        Conversion::Same,
    ),
    (
        "org.jitsi.videobridge.EndpointConnectionStatus.MAX_INACTIVITY_LIMIT",
        "videobridge.ep-connection-status.max-inactivity-limit",
        Conversion::Same,
    ),
    ("org.jitsi.videobridge.ICE_UFRAG_PREFIX", "videobridge.ice.ufrag-prefix", Conversion::Same),
    (
        "org.jitsi.videobridge.KEEP_ALIVE_STRATEGY",
        "videobridge.ice.keep-alive-strategy",
        Conversion::Same,
    ),
    (
        "org.jitsi.videobridge.ONSTAGE_PREFERRED_FRAME_RATE",
        "videobridge.cc.onstage-preferred-framerate",
        Conversion::Same,
    ),
    (
        "org.jitsi.videobridge.ONSTAGE_PREFERRED_HEIGHT",
        "videobridge.cc.onstage-preferred-height-px",
        Conversion::Same,
    ),
    ("org.jitsi.videobridge.PADDING_PERIOD_MS", "videobridge.cc.padding-period", Conversion::Same),
    ("org.jitsi.videobridge.REGION", "videobridge.relay.region", Conversion::Same),
    (
        "org.jitsi.videobridge.SINGLE_PORT_HARVESTER_PORT",
        "videobridge.ice.udp.port",
        Conversion::Same,
    ),
    ("org.jitsi.videobridge.STATISTICS_INTERVAL", "videobridge.stats.interval", Conversion::Same),
    ("org.jitsi.videobridge.TRUST_BWE", "videobridge.cc.trust-bwe", Conversion::Same),
    ("org.jitsi.videobridge.health.INTERVAL", "videobridge.health.interval", Conversion::Same),
    (
        "org.jitsi.videobridge.health.STICKY_FAILURES",
        "videobridge.health.sticky-failures",
        Conversion::Same,
    ),
    ("org.jitsi.videobridge.health.TIMEOUT", "videobridge.health.timeout", Conversion::Same),
    (
        "org.jitsi.videobridge.rest.COLIBRI_WS_DISABLE",
        "videobridge.websockets.enabled",
        Conversion::Not,
    ),
    (
        "org.jitsi.videobridge.rest.COLIBRI_WS_DOMAIN",
        "videobridge.websockets.domain",
        Conversion::Same,
    ),
    (
        "org.jitsi.videobridge.rest.COLIBRI_WS_SERVER_ID",
        "videobridge.websockets.server-id",
        Conversion::Same,
    ),
    ("org.jitsi.videobridge.rest.COLIBRI_WS_TLS", "videobridge.websockets.tls", Conversion::Same),
    (
        "org.jitsi.videobridge.rest.jetty.host",
        "videobridge.http-servers.public.host",
        Conversion::Same,
    ),
    (
        "org.jitsi.videobridge.rest.jetty.port",
        "videobridge.http-servers.public.port",
        Conversion::Same,
    ),
    (
        "org.jitsi.videobridge.rest.jetty.sslContextFactory.keyStorePassword",
        "videobridge.http-servers.public.key-store-password",
        Conversion::Same,
    ),
    (
        "org.jitsi.videobridge.rest.jetty.sslContextFactory.keyStorePath",
        "videobridge.http-servers.public.key-store-path",
        Conversion::Same,
    ),
    (
        "org.jitsi.videobridge.rest.jetty.sslContextFactory.needClientAuth",
        "videobridge.http-servers.public.need-client-auth",
        Conversion::Same,
    ),
    (
        "org.jitsi.videobridge.rest.jetty.tls.port",
        "videobridge.http-servers.public.tls-port",
        Conversion::Same,
    ),
    (
        "org.jitsi.videobridge.rest.private.jetty.host",
        "videobridge.http-servers.private.host",
        Conversion::Same,
    ),
    (
        "org.jitsi.videobridge.rest.private.jetty.port",
        "videobridge.http-servers.private.port",
        Conversion::Same,
    ),
    (
        "org.jitsi.videobridge.rest.private.jetty.sslContextFactory.keyStorePassword",
        "videobridge.http-servers.private.key-store-password",
        Conversion::Same,
    ),
    (
        "org.jitsi.videobridge.rest.private.jetty.sslContextFactory.keyStorePath",
        "videobridge.http-servers.private.key-store-path",
        Conversion::Same,
    ),
    (
        "org.jitsi.videobridge.rest.private.jetty.sslContextFactory.needClientAuth",
        "videobridge.http-servers.private.need-client-auth",
        Conversion::Same,
    ),
    (
        "org.jitsi.videobridge.rest.private.jetty.tls.port",
        "videobridge.http-servers.private.tls-port",
        Conversion::Same,
    ),
    (
        "org.jitsi.videobridge.shutdown.ALLOWED_SOURCE_REGEXP",
        "videobridge.apis.xmpp-component.shutdown-source",
        Conversion::Same,
    ),
];

/// Keys that JVB no longer reads and that have no new name, with their replacement.
const OBSOLETE: [(&str, &str); 3] = [
    ("org.jitsi.videobridge.DISABLE_RTX_PROBING", "nothing is sent to probe a link"),
    ("org.jitsi.videobridge.ENABLE_STATISTICS", "there are always statistics"),
    (
        "org.jitsi.videobridge.THUMBNAIL_MAX_HEIGHT",
        "videobridge.cc.initial-max-height-px is its name",
    ),
];

/// Keys of ice4j that have no meaning here, with the reason.
const NO_MEANING: [(&str, &str); 13] = [
    (
        "org.ice4j.ALLOW_LINK_TO_GLOBAL_REACHABILITY",
        "the ICE agent pairs what may reach each other",
    ),
    ("org.ice4j.ALWAYS_SIGN", "messages of ICE are always signed"),
    ("org.ice4j.BIND_RETRIES", "a port that is in use ends the start"),
    ("org.ice4j.BIND_WILDCARD", "sockets always have the wildcard address"),
    ("org.ice4j.FIRST_CTRAN_RETRANS_AFTER", RETRANSMISSIONS),
    ("org.ice4j.KEEP_CRANS_AFTER_A_RESPONSE", RETRANSMISSIONS),
    ("org.ice4j.MAX_CTRAN_RETRANS_TIMER", RETRANSMISSIONS),
    ("org.ice4j.MAX_RETRANSMISSIONS", RETRANSMISSIONS),
    ("org.ice4j.NO_KEEP_ALIVES", "consent has to be kept (RFC 7675)"),
    ("org.ice4j.PROPAGATE_RECEIVED_RETRANSMISSIONS", RETRANSMISSIONS),
    ("org.ice4j.REQUIRE_MESSAGE_INTEGRITY", "messages of ICE must always be signed"),
    ("org.ice4j.ice.harvest.USE_DYNAMIC_HOST_HARVESTER", "all media uses the sockets of one port"),
    ("org.ice4j.ipv6.PREFERRED", "the agents choose by what works"),
];
const RETRANSMISSIONS: &str = "the ICE agent times its own retransmissions";

/// Merges the keys of `text` into `document` under their new names. Returns a warning for each unknown key.
pub(super) fn merge(document: &mut Document, path: &Path, text: &str) -> Vec<Warning> {
    let file: Arc<str> = path.display().to_string().into();
    let given = properties(text);
    let origin = |line| Origin::File { file: file.clone(), line };
    let (mut warnings, mut clients) = (Vec::new(), BTreeMap::<&str, Object>::new());
    for (key, (value, line)) in &given {
        let origin = origin(*line);
        if let Some((_, new, how)) = KEYS.iter().find(|(old, ..)| old == key) {
            let path: Vec<&str> = new.split('.').collect();
            document.set(&path, Value { kind: how.write(value, &origin), origin });
        } else if let Some((id, name)) = key.strip_prefix(USER).and_then(|key| key.rsplit_once('.'))
        {
            let value = Value { kind: Kind::Text(value.clone()), origin };
            clients.entry(id).or_default().insert(name.to_owned(), value);
        } else if let Some((_, why)) = OBSOLETE.iter().find(|(known, _)| known == key) {
            warnings.push(Warning::Obsolete { key: key.clone(), origin, why, harmless: false });
        } else if let Some((_, why)) = NO_MEANING.iter().find(|(known, _)| known == key) {
            warnings.push(Warning::NoMeaning { key: key.clone(), origin, why });
        } else if !with_others(key) && (key.starts_with(JVB) || key.starts_with(ICE)) {
            let key = key.escape_debug().to_string();
            warnings.push(Warning::Unknown { key, nearest: None, origin });
        }
    }
    replace_clients(document, clients, &mut warnings);
    if let (Some((local, line)), Some((public, _))) = (given.get(LOCAL), given.get(PUBLIC)) {
        let fields = [("local-address", local), ("public-address", public)];
        let list = Kind::Array(vec![object(&fields, &origin(*line))]);
        let path = ["ice4j", "harvest", "mapping", "static-mappings"];
        document.set(&path, Value { kind: list, origin: origin(*line) });
    }
    if let Some((names, line)) = given.get(TRANSPORT) {
        let list = transports(names, &given, &origin(*line));
        let path = ["videobridge", "stats", "transports"];
        document.set(&path, Value { kind: list, origin: origin(*line) });
    }
    warnings
}

/// A complete client in the old file replaces the whole new section, as in JVB. Without one, the old keys
/// are skipped.
fn replace_clients(
    document: &mut Document,
    clients: BTreeMap<&str, Object>,
    warnings: &mut Vec<Warning>,
) {
    let lacks = |client: &Object| -> Vec<&str> {
        let has = |key: &&str| {
            let there = |(name, value): (&String, &Value)| {
                name.eq_ignore_ascii_case(key)
                    && !matches!(&value.kind, Kind::Text(text) if text.is_empty())
            };
            client.iter().any(there)
        };
        xmpp::REQUIRED.into_iter().filter(|key| !has(key)).collect()
    };
    let begins = |client: &Object| {
        let line = |origin: &Origin| match origin {
            Origin::File { line, .. } => *line,
            _ => 0,
        };
        client.values().map(|value| value.origin.clone()).min_by_key(line)
    };
    if clients.values().all(|client| !lacks(client).is_empty()) {
        warnings.extend(clients.iter().filter_map(|(id, client)| {
            Some(Warning::Incomplete {
                key: format!("{USER}{id}").escape_debug().to_string(),
                origin: begins(client)?,
                missing: lacks(client).join(", "),
            })
        }));
        return;
    }
    let Some(origin) = clients.values().find_map(begins) else { return };
    let path = ["videobridge", "apis", "xmpp-client", "configs"];
    if let Some(Value { kind: Kind::Object(new), origin: place }) = document.get(&path.join("."))
        && !new.is_empty()
    {
        let what = format!(
            "{} has no effect: a client of {} replaces it ({origin})",
            path.join("."),
            FILE_NAME
        );
        warnings.push(Warning::Contradiction { origin: place.clone(), what });
    }
    let clients = clients.into_iter().map(|(id, client)| {
        let origin = begins(&client).unwrap_or_else(|| origin.clone());
        (id.to_owned(), Value { kind: Kind::Object(client), origin })
    });
    let kind = Kind::Object(clients.collect());
    document.set(&path, Value { kind, origin });
}

/// Returns whether a key is read together with other keys.
fn with_others(key: &str) -> bool {
    [LOCAL, PUBLIC, TRANSPORT, SERVICE, NODE].contains(&key) || key.starts_with(INTERVAL)
}

/// Converts the transports of statistics. Unknown ones are skipped, and so is pubsub without service and
/// node, as in JVB.
fn transports(names: &str, given: &BTreeMap<String, (String, u32)>, origin: &Origin) -> Kind {
    let text = |key| given.get(key).map(|(text, _)| text);
    let list = names.split(',').map(str::trim).filter_map(|name| {
        let (name, interval) = (name.to_owned(), given.get(&format!("{INTERVAL}{name}")));
        let mut fields = vec![("type", &name)];
        match (name.as_str(), text(SERVICE), text(NODE)) {
            ("muc" | "colibri", ..) => {}
            ("pubsub", Some(service), Some(node)) => {
                fields.extend([("service", service), ("node", node)]);
            }
            _ => return None,
        }
        fields.extend(interval.map(|(interval, _)| ("interval", interval)));
        Some(object(&fields, origin))
    });
    Kind::Array(list.collect())
}

fn object(fields: &[(&str, &String)], origin: &Origin) -> Value {
    let text = |text: &&String| Value { kind: Kind::Text((*text).clone()), origin: origin.clone() };
    let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), text(value)));
    Value { kind: Kind::Object(fields.collect()), origin: origin.clone() }
}

impl Conversion {
    fn write(self, value: &str, origin: &Origin) -> Kind {
        match self {
            Self::Same => Kind::Text(value.to_owned()),
            Self::Seconds => Kind::Text(format!("{value} s")),
            Self::Percent => Kind::Text(format!("{value} %")),
            Self::Not => Kind::Text(match value.to_ascii_lowercase().as_str() {
                "true" => "false".to_owned(),
                "false" => "true".to_owned(),
                // The reader of the key reports an invalid value.
                _ => value.to_owned(),
            }),
            Self::List => {
                let parts = value.split([',', ';']).map(str::trim).filter(|part| !part.is_empty());
                let element = |part: &str| Value {
                    kind: Kind::Text(part.to_owned()),
                    origin: origin.clone(),
                };
                Kind::Array(parts.map(element).collect())
            }
        }
    }
}

/// Parses a Java properties file into keys with their values and line numbers. `\uXXXX` escapes are not
/// supported: such files do not have them.
fn properties(text: &str) -> BTreeMap<String, (String, u32)> {
    let mut all = BTreeMap::new();
    let mut lines = (1u32..).zip(text.lines());
    while let Some((number, line)) = lines.next() {
        let mut whole = line.trim_start().to_owned();
        if whole.starts_with(['#', '!']) {
            continue;
        }
        while whole.chars().rev().take_while(|c| *c == '\\').count() % 2 == 1 {
            whole.pop();
            let Some((_, more)) = lines.next() else { break };
            whole.push_str(more.trim_start());
        }
        let (key, value) = split(&whole);
        if !key.is_empty() {
            all.insert(key, (value, number));
        }
    }
    all
}

/// Splits a line into key and value: the key ends at the first `=`, `:` or white space without a backslash
/// before it.
fn split(line: &str) -> (String, String) {
    let mut key = String::new();
    let mut chars = line.char_indices();
    let mut end = line.len();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => key.extend(chars.next().map(|(_, c)| c)),
            '=' | ':' | ' ' | '\t' => {
                end = at;
                break;
            }
            _ => key.push(c),
        }
    }
    let rest = line.get(end..).unwrap_or_default().trim_start();
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    let mut value = String::new();
    let mut chars = rest.trim().chars();
    while let Some(c) = chars.next() {
        value.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    (key, value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Vec<(String, String)> {
        properties(text).into_iter().map(|(key, (value, _))| (key, value)).collect()
    }

    #[test]
    fn properties_are_read_as_java_does() {
        let text = "# comment\n! too\n\n a = b\nc:d\ne f g\nh=i\\\n  j\nk\\=l=m\\\\n\nempty\n";
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let expected = [
            pair("a", "b"),
            pair("c", "d"),
            pair("e", "f g"),
            pair("empty", ""),
            pair("h", "ij"),
            pair("k=l", "m\\n"),
        ];
        assert_eq!(of(text), expected);
        assert_eq!(properties(text)["h"].1, 7);
    }

    #[test]
    fn old_keys_are_sorted_and_lead_to_different_new_ones() {
        assert!(KEYS.is_sorted_by_key(|(old, ..)| *old));
        let new: std::collections::BTreeSet<&str> = KEYS.iter().map(|(_, new, _)| *new).collect();
        assert_eq!(new.len(), KEYS.len());
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "([a-zA-Z.=: \\\\#\n]|\\PC){0,200}") {
            let mut document = Document::default();
            let _ = merge(&mut document, Path::new(FILE_NAME), &text);
        }
    }
}
