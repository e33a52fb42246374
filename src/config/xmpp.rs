//! `videobridge.apis.xmpp-client`: the XMPP servers to log in to, and what to publish there.

use std::{collections::BTreeMap, fmt, time::Duration};

use rialto_hocon::{Document, Kind, Origin, System, Value};

use super::{
    Component, SourcePattern, component, known,
    load::Warning,
    reader::{Effective, Invalid, Reader, scalar, wants},
    units,
};

/// The section whose keys the operator names.
const CONFIGS: &str = "videobridge.apis.xmpp-client.configs";

/// XMPP settings.
#[derive(Clone, PartialEq, Debug)]
pub struct Xmpp {
    /// `configs.*`: accounts at servers; the bridge keeps reconnecting to each. None.
    pub clients: Vec<XmppClient>,
    /// `videobridge.apis.xmpp-component`, when it is enabled.
    pub component: Option<Component>,
    /// `authorized-source`: JIDs that may send conference and health requests to clients that do not set
    /// their own. All.
    pub authorized: Option<SourcePattern>,
    /// `presence-interval`: how often statistics are published. As `videobridge.stats.interval`.
    pub presence_interval: Duration,
    /// `stats-filter.*`: the statistics to publish, when the filter is enabled. `None`: all.
    pub whitelist: Option<Vec<String>>,
    /// `rialto.announced-version`: the version that is published and sent on request. A pool shared with
    /// JVBs needs theirs, such as `2.3-160-g97a1f15b`. `None`: Rialto's own.
    pub announced_version: Option<String>,
    /// `videobridge.version.release`.
    pub release: Option<String>,
    /// `videobridge.relay.region`: the region of this bridge, as a focus compares it. Unset.
    pub region: Option<String>,
}

impl Default for Xmpp {
    fn default() -> Self {
        Self {
            clients: Vec::new(),
            component: None,
            authorized: None,
            presence_interval: Duration::from_secs(5),
            whitelist: None,
            announced_version: None,
            release: None,
            region: None,
        }
    }
}

/// An account at a server. The keys may be in lower case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct XmppClient {
    /// The name of the section.
    pub id: String,
    /// `HOSTNAME` of the server.
    pub host: String,
    /// `PORT`. 5222.
    pub port: u16,
    /// `DOMAIN`: the account's domain. As `HOSTNAME`.
    pub domain: String,
    /// `USERNAME`: the part of the account before the `@`.
    pub username: String,
    /// `PASSWORD`.
    pub password: Secret,
    /// `MUC_JIDS`: rooms to join, separated by commas; stored in lower case.
    pub rooms: Vec<String>,
    /// `MUC_NICKNAME` in all rooms. It must be unique among bridges.
    pub nickname: String,
    /// Not `DISABLE_CERTIFICATE_VERIFICATION`: the server's certificate is verified. true.
    pub verify_certificate: bool,
    /// `SECURITY_MODE`. required.
    pub security: XmppSecurity,
    /// `AUTHORIZED_SOURCE`, or `authorized-source`: JIDs that may send conference and health requests. As
    /// `videobridge.apis.xmpp-client.authorized-source`.
    pub authorized: Option<SourcePattern>,
}

impl XmppClient {
    /// Returns whether both are the same account at the same server.
    pub fn is_same_account(&self, other: &Self) -> bool {
        let account = |client: &Self| {
            (client.host.clone(), client.port, client.domain.clone(), client.username.clone())
        };
        account(self) == account(other)
    }

    /// Makes a client from fields that are named and read as in the configuration.
    ///
    /// # Errors
    /// A missing or invalid field.
    pub fn from_fields(
        id: &str,
        fields: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, String> {
        let origin = || Origin::CommandLine("request");
        let text = |(name, text): (String, String)| {
            (name, Value { kind: Kind::Text(text), origin: origin() })
        };
        let fields = Kind::Object(fields.into_iter().map(text).collect());
        let document = Document::default();
        let mut reader = Reader::new(&document, &[], &System);
        let read = client(&mut reader, id, &Value { kind: fields, origin: origin() });
        let wrong = reader.invalid.first().map(ToString::to_string);
        let missing = reader.warnings.first().map(ToString::to_string);
        match (read, wrong.or(missing)) {
            (Some(client), None) => Ok(client),
            (_, why) => Err(why.unwrap_or_else(|| "incomplete".to_owned())),
        }
    }
}

/// The encryption of the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum XmppSecurity {
    /// Encryption is required.
    #[default]
    Required,
    /// Encrypted if the server offers it. PLAIN is used over an encrypted connection only.
    IfPossible,
    /// Not encrypted.
    Disabled,
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Keeps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text to print in its place, which tells whether there is a secret.
    pub(super) fn shown(&self) -> String {
        if self.0.is_empty() { "(unset)".to_owned() } else { HIDDEN.to_owned() }
    }

    /// Returns the secret.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

const HIDDEN: &str = "(hidden)";

/// Keys of a client, in the order of the documentation. `IQ_HANDLER_MODE` is accepted and has no effect:
/// requests of one conference are always answered in order, and others do not wait for them.
const KEYS: [&str; 11] = [
    "HOSTNAME",
    "PORT",
    "DOMAIN",
    "USERNAME",
    "PASSWORD",
    "MUC_JIDS",
    "MUC_NICKNAME",
    "DISABLE_CERTIFICATE_VERIFICATION",
    "SECURITY_MODE",
    "IQ_HANDLER_MODE",
    AUTHORIZED_SOURCE,
];

/// Required keys.
pub(super) const REQUIRED: [&str; 5] =
    ["HOSTNAME", "USERNAME", "PASSWORD", "MUC_JIDS", "MUC_NICKNAME"];
/// A key that JVB does not have. The component's spelling is accepted too.
const AUTHORIZED_SOURCE: &str = "AUTHORIZED_SOURCE";

/// Statistics that a focus needs.
const WHITELIST: [&str; 12] = [
    "average_participant_stress",
    "colibri2",
    "current_timestamp",
    "drain",
    "graceful_shutdown",
    "healthy",
    "region",
    "relay_id",
    "release",
    "shutting_down",
    "stress_level",
    "version",
];

/// Reads the section.
pub(super) fn read(r: &mut Reader<'_>, config: &mut Xmpp) {
    r.interval("videobridge.apis.xmpp-client.presence-interval", &mut config.presence_interval);
    let mut filter = false;
    let mut whitelist = WHITELIST.map(str::to_owned).to_vec();
    r.boolean("videobridge.apis.xmpp-client.stats-filter.enabled", &mut filter);
    let key = "videobridge.apis.xmpp-client.stats-filter.whitelist";
    r.texts(key, &mut whitelist, "names of statistics", |name| {
        name.len() <= 256 && !name.contains(char::is_whitespace)
    });
    config.whitelist = filter.then_some(whitelist);
    let short = |text: &str| text.len() <= 256 && !text.contains(char::is_control);
    let what = "a short text";
    r.optional_text("rialto.announced-version", &mut config.announced_version, what, short);
    r.optional_text("videobridge.relay.region", &mut config.region, what, short);
    // The old name takes precedence, as in JVB.
    r.optional_text("videobridge.octo.region", &mut config.region, what, short);
    config.component = component::read(r);
    let key = "videobridge.apis.xmpp-client.authorized-source";
    config.authorized = component::pattern(r, key);
    config.clients =
        r.section(CONFIGS).into_iter().filter_map(|(id, value)| client(r, &id, &value)).collect();
}

/// Returns the key of a client that `key` may be a misspelling of: a section with a name of the operator's.
pub(super) fn nearest(key: &str) -> Option<String> {
    let (section, name) = key.rsplit_once('.')?;
    // No key is this long, and the comparison is quadratic.
    if !known::is_inside(section, CONFIGS) || name.len() > 64 {
        return None;
    }
    let upper = name.to_ascii_uppercase();
    let others = KEYS.into_iter().filter(|known| *known != upper);
    let near = others.map(|known| (known::distance(&upper, known), known));
    let (_, known) =
        near.min().filter(|(distance, known)| *distance <= (known.len() / 3).min(3))?;
    Some(format!("{}.{known}", section.escape_debug()))
}

/// Reads one client. Returns `None` when a required key is missing, which is a warning as in JVB, or when a
/// value is invalid.
fn client(r: &mut Reader<'_>, id: &str, value: &Value) -> Option<XmppClient> {
    let section = format!("{CONFIGS}.{id}");
    let Kind::Object(fields) = &value.kind else {
        let what = wants("an object", &value.kind);
        r.invalid.push(Invalid { key: section, origin: value.origin.clone(), what });
        return None;
    };
    let mut given = ClientKeys { reader: r, section: &section, fields: BTreeMap::new() };
    for (name, value) in fields.iter().filter(|(_, value)| value.kind != Kind::Null) {
        let mut upper = name.to_ascii_uppercase();
        if upper == "AUTHORIZED-SOURCE" {
            AUTHORIZED_SOURCE.clone_into(&mut upper);
        }
        if let Some(known) = KEYS.into_iter().find(|known| *known == upper) {
            given.insert(known, name, value);
        }
    }
    let before = given.reader.invalid.len();
    let host = given.text("HOSTNAME", "a host name", is_domain);
    let domain = given.text("DOMAIN", "a domain", is_domain).or_else(|| host.clone());
    let username = given.text("USERNAME", "a user name", is_name);
    let password = given.text("PASSWORD", "a password", |text| !text.contains('\0'));
    let rooms = given.read("MUC_JIDS", rooms).filter(|rooms| !rooms.is_empty());
    let nickname = given.text("MUC_NICKNAME", "a nickname", is_name);
    let port = given.read("PORT", port).unwrap_or(5222);
    let unverified = given.read("DISABLE_CERTIFICATE_VERIFICATION", boolean).unwrap_or(false);
    let security = given.read("SECURITY_MODE", security).unwrap_or_default();
    given.read("IQ_HANDLER_MODE", |_| Ok(()));
    let authorized = given.read(AUTHORIZED_SOURCE, |text| {
        let pattern = SourcePattern::new(text);
        pattern.ok_or_else(|| format!("needs {}", component::PATTERN))
    });
    let wrong = given.reader.invalid.len() > before;
    let missing: Vec<&str> = [
        ("HOSTNAME", host.is_none()),
        ("USERNAME", username.is_none()),
        ("PASSWORD", password.is_none()),
        ("MUC_JIDS", rooms.is_none()),
        ("MUC_NICKNAME", nickname.is_none()),
    ]
    .into_iter()
    .filter_map(|(key, missing)| missing.then_some(key))
    .collect();
    if !wrong && !missing.is_empty() {
        r.warnings.push(Warning::Incomplete {
            key: section.escape_debug().to_string(),
            origin: value.origin.clone(),
            missing: missing.join(", "),
        });
    }
    Some(XmppClient {
        id: id.to_owned(),
        host: host?,
        port,
        domain: domain?,
        username: username?,
        password: Secret::new(password?),
        rooms: rooms?,
        nickname: nickname?,
        verify_certificate: !unverified,
        security,
        authorized,
    })
}

/// The keys of a client in the file, by their names in upper case.
struct ClientKeys<'a, 'r, 'd> {
    reader: &'a mut Reader<'r>,
    section: &'a str,
    fields: BTreeMap<&'static str, (&'d str, &'d Value)>,
}

impl<'d> ClientKeys<'_, '_, 'd> {
    /// If a key is there in upper and in lower case, the later one has an effect.
    fn insert(&mut self, known: &'static str, name: &'d str, value: &'d Value) {
        let (used, idle) = match self.fields.get(known).copied() {
            None => ((name, value), None),
            Some(other) if is_later(&other.1.origin, &value.origin) => (other, Some((name, value))),
            Some(other) => ((name, value), Some(other)),
        };
        self.fields.insert(known, used);
        if let Some((name, value)) = idle {
            let key = format!("{}.{name}", self.section);
            self.reader.add_known(&key);
            self.reader.warnings.push(Warning::Contradiction {
                origin: value.origin.clone(),
                what: format!(
                    "{} has no effect: {} is there too ({})",
                    key.escape_debug(),
                    used.0,
                    used.1.origin
                ),
            });
        }
    }

    fn text(&mut self, key: &str, what: &str, accept: fn(&str) -> bool) -> Option<String> {
        self.read(key, |text| {
            if accept(text) { Ok(text.to_owned()) } else { Err(format!("needs {what}")) }
        })
    }

    /// An empty text counts as unset: templates write `"${VARIABLE}"`.
    fn read<T>(&mut self, key: &str, read: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let (name, value) = self.fields.get(key)?;
        let full = format!("{}.{name}", self.section);
        self.reader.add_known(&full);
        let text = scalar(&value.kind);
        if text.is_some_and(str::is_empty) {
            return None;
        }
        let origin = value.origin.clone();
        match text.ok_or_else(|| wants("a text", &value.kind)).and_then(read) {
            Ok(read) => {
                let shown = if key == "PASSWORD" { HIDDEN } else { text.unwrap_or_default() };
                let value = shown.escape_debug().to_string();
                self.reader.effective.push(Effective { key: full.into(), value, origin });
                Some(read)
            }
            Err(what) => {
                self.reader.invalid.push(Invalid { key: full, origin, what });
                None
            }
        }
    }
}

/// Returns whether `one` was written after `other` in the same file.
fn is_later(one: &Origin, other: &Origin) -> bool {
    match (one, other) {
        (Origin::File { file, line }, Origin::File { file: of, line: than }) => {
            file == of && line > than
        }
        _ => false,
    }
}

/// Accepts a name without characters that need escaping somewhere or that separate two names.
pub(super) fn is_name(text: &str) -> bool {
    text.len() <= 1023 && text.chars().all(|c| !c.is_control() && !"<>&'\"/@".contains(c))
}

pub(super) fn is_domain(text: &str) -> bool {
    is_name(text) && !text.contains(char::is_whitespace)
}

/// Parses bare JIDs, in lower case, as servers write them in answers.
fn rooms(text: &str) -> Result<Vec<String>, String> {
    text.split(',')
        .map(str::trim)
        .filter(|jid| !jid.is_empty())
        .map(|jid| match jid.split_once('@') {
            Some((room, domain))
                if !room.is_empty()
                    && !domain.is_empty()
                    && is_domain(room)
                    && is_domain(domain) =>
            {
                Ok(jid.to_lowercase())
            }
            _ => {
                let short: String = jid.chars().take(60).collect();
                Err(format!(
                    "needs rooms such as jvbbrewery@internal.example.com, not '{}'",
                    short.escape_debug()
                ))
            }
        })
        .collect()
}

fn port(text: &str) -> Result<u16, String> {
    let port = text.trim().parse().ok().filter(|port| *port > 0);
    port.ok_or_else(|| "needs a port from 1 to 65535".to_owned())
}

fn boolean(text: &str) -> Result<bool, String> {
    units::boolean(text).ok_or_else(|| "needs true or false".to_owned())
}

fn security(text: &str) -> Result<XmppSecurity, String> {
    match text.to_ascii_lowercase().as_str() {
        "required" => Ok(XmppSecurity::Required),
        "ifpossible" => Ok(XmppSecurity::IfPossible),
        "disabled" => Ok(XmppSecurity::Disabled),
        _ => Err("needs one of required, ifpossible, disabled".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::{io, path::Path};

    use super::*;
    use rialto_hocon::Source;

    use crate::config::{Loaded, load};

    struct Text(String);

    impl Source for Text {
        fn read(&self, path: &Path) -> io::Result<String> {
            if path == Path::new("jvb.conf") {
                return Ok(self.0.clone());
            }
            Err(io::ErrorKind::NotFound.into())
        }

        fn env(&self, _: &str) -> Option<String> {
            None
        }
    }

    fn read(sections: &str) -> Loaded {
        let text = Text(format!("{CONFIGS} {{ {sections} }}"));
        load(Some(Path::new("jvb.conf")), &[], &text).unwrap()
    }

    const WHOLE: [(&str, &str); 5] = [
        ("HOSTNAME", "xmpp.example.com"),
        ("USERNAME", "jvb"),
        ("PASSWORD", "s3cr3t"),
        ("MUC_JIDS", "\"JvbBrewery@internal.example.com, other@internal.example.com\""),
        ("MUC_NICKNAME", "one"),
    ];

    fn section(keys: &[(&str, &str)]) -> String {
        let keys: Vec<String> =
            keys.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        format!("shard {{\n{}\n}}", keys.join("\n"))
    }

    #[test]
    fn every_key_is_read_in_either_case() {
        let mut keys = WHOLE.to_vec();
        let defaults = &read(&section(&keys)).config.xmpp.clients[0];
        assert_eq!((defaults.port, defaults.domain.as_str()), (5222, "xmpp.example.com"));
        assert_eq!(
            (defaults.verify_certificate, defaults.security),
            (true, XmppSecurity::Required)
        );
        keys.extend([
            ("PORT", "\"6222\""),
            ("DOMAIN", "auth.example.com"),
            ("DISABLE_CERTIFICATE_VERIFICATION", "true"),
            ("SECURITY_MODE", "ifpossible"),
            ("IQ_HANDLER_MODE", "async"),
            ("AUTHORIZED_SOURCE", r#""jvbbrewery@internal\\.example\\.com/focus""#),
        ]);
        assert_eq!(keys.len(), KEYS.len());
        let upper = read(&section(&keys));
        assert!(upper.warnings.is_empty(), "{:?}", upper.warnings);
        let expected = XmppClient {
            id: "shard".into(),
            host: "xmpp.example.com".into(),
            port: 6222,
            domain: "auth.example.com".into(),
            username: "jvb".into(),
            password: Secret::new("s3cr3t"),
            rooms: vec![
                "jvbbrewery@internal.example.com".into(),
                "other@internal.example.com".into(),
            ],
            nickname: "one".into(),
            verify_certificate: false,
            security: XmppSecurity::IfPossible,
            authorized: SourcePattern::new(r"jvbbrewery@internal\.example\.com/focus"),
        };
        assert_eq!(upper.config.xmpp.clients, [expected]);
        let lower: Vec<(String, &str)> =
            keys.iter().map(|(key, value)| (key.to_lowercase(), *value)).collect();
        let lower: Vec<(&str, &str)> =
            lower.iter().map(|(key, value)| (key.as_str(), *value)).collect();
        assert_eq!(read(&section(&lower)).config.xmpp, upper.config.xmpp);
    }

    #[test]
    fn of_a_key_in_both_cases_the_later_wins_with_a_warning() {
        let mut keys = WHOLE.to_vec();
        keys.push(("hostname", "later.example.com"));
        let loaded = read(&section(&keys));
        assert_eq!(loaded.config.xmpp.clients[0].host, "later.example.com");
        let said: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
        let key = "videobridge.apis.xmpp-client.configs.shard.HOSTNAME";
        let line = format!("jvb.conf:2: {key} has no effect: hostname is there too (jvb.conf:7)");
        assert_eq!(said, [line]);
        keys.rotate_right(1);
        let loaded = read(&section(&keys));
        assert_eq!(loaded.config.xmpp.clients[0].host, "xmpp.example.com");
        let said: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
        assert!(said[0].contains("hostname has no effect: HOSTNAME is there too"), "{said:?}");
    }

    #[test]
    fn an_incomplete_section_is_skipped_and_says_what_is_missing() {
        for (missing, _) in WHOLE {
            for empty in [None, Some("\"\""), Some("null")] {
                let mut keys = WHOLE.to_vec();
                keys.retain(|(key, _)| *key != missing);
                keys.extend(empty.map(|empty| (missing, empty)));
                let text = format!("{}\n{}", section(&keys), section(&WHOLE).replace("shard", "b"));
                let loaded = read(&text);
                let ids: Vec<&str> =
                    loaded.config.xmpp.clients.iter().map(|client| client.id.as_str()).collect();
                assert_eq!(ids, ["b"], "{missing}");
                let said: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
                let [warning] = &said[..] else { panic!("{said:?}") };
                assert!(
                    warning.contains("configs.shard") && warning.contains(missing),
                    "{warning}"
                );
            }
        }
    }

    #[test]
    fn who_may_ask_is_read_for_all_clients_and_for_one() {
        let mut keys = WHOLE.to_vec();
        keys.push(("authorized-source", "\"focus@one\\\\.example/.*\""));
        let text = format!(
            "{}\n}}\nvideobridge.apis.xmpp-client {{\nauthorized-source = \"focus@.*\"",
            section(&keys)
        );
        let loaded = read(&text);
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        let xmpp = &loaded.config.xmpp;
        assert_eq!(xmpp.clients[0].authorized, SourcePattern::new(r"focus@one\.example/.*"));
        assert_eq!(xmpp.authorized, SourcePattern::new("focus@.*"));
        let fields = WHOLE.iter().chain([&("authorized-source", "(")]);
        let fields =
            fields.map(|(name, value)| ((*name).to_owned(), value.trim_matches('"').to_owned()));
        let wrong = XmppClient::from_fields("added", fields).unwrap_err();
        assert!(wrong.contains("regular expression"), "{wrong}");
    }
}
