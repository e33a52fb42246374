//! Checks every key of JVB against the list of keys and defaults.

use std::{collections::BTreeMap, sync::LazyLock};

use rialto_hocon::Kind;

use super::*;
use crate::config::{known, load::reference, units};

const KEYS: &str = include_str!("../../../tests/data/config/keys.tsv");

/// A file with this text.
struct Text(String);

impl Source for Text {
    fn read(&self, path: &Path) -> io::Result<String> {
        if path == Path::new("jvb.conf") {
            Ok(self.0.clone())
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    fn env(&self, _: &str) -> Option<String> {
        None
    }
}

pub(super) fn load_text(text: String) -> Result<Loaded, ConfigError> {
    load(Some(Path::new("jvb.conf")), &[], &Text(text))
}

/// Keys and defaults; JVB's overrides of ice4j's come last, and win.
static TABLE: LazyLock<BTreeMap<&str, Option<&str>>> = LazyLock::new(|| {
    let lines = KEYS.lines().filter(|line| !line.starts_with('#'));
    let pair = |line: &'static str| line.split_once('\t').expect("a key and its default");
    let default = |text| (text != "(unset)").then_some(text);
    let mut table = BTreeMap::new();
    for (key, text) in lines.map(pair) {
        // One key is listed twice, once with an example.
        let value = default(text).or(table.get(key).copied().flatten());
        table.insert(key, value);
    }
    table
});

/// Keys whose defaults differ from JVB's, with Rialto's.
const ON_PURPOSE: [(&str, &str); 1] = [
    // A receiver without a channel sends no constraints, and gets video all the same.
    ("videobridge.cc.initial-max-height-px", "-1"),
];

/// Returns the default of a key.
fn default_of(key: &str) -> Option<&str> {
    let ours = ON_PURPOSE.iter().find(|(known, _)| *known == key);
    ours.map_or(TABLE[key], |(_, text)| Some(*text))
}

/// Returns a file in which every key has its default.
fn as_file() -> String {
    let lines = TABLE.keys().filter_map(|key| Some(format!("{key} = {}\n", default_of(key)?)));
    lines.collect()
}

#[test]
fn defaults_are_those_of_the_table() {
    assert_eq!(TABLE.len(), 191);
    let given = load_text(as_file()).unwrap();
    assert_eq!(given.config, Config::default());
    let said: Vec<_> = given.warnings.iter().skip(1).map(ToString::to_string).collect();
    assert!(said.is_empty(), "a default asks for nothing: {said:#?}");
    let ours = reference().unwrap();
    for key in TABLE.keys() {
        let Some(text) = default_of(key) else {
            assert!(ours.get(key).is_none(), "{key}");
            continue;
        };
        let theirs = rialto_hocon::Document::load(
            &format!("{}{key} = {text}", as_file()),
            None,
            &Text(String::new()),
        );
        let (theirs, ours) = (theirs.unwrap(), ours.get(key).unwrap_or_else(|| panic!("{key}")));
        let theirs = theirs.get(key).unwrap();
        assert!(known::alike(&ours.kind, &theirs.kind), "{key}: {ours:?}, not {theirs:?}");
    }
}

/// Returns another value of the default's type.
fn another(key: &str, default: Option<&str>) -> String {
    let text = default.unwrap_or_default().trim_matches('"');
    match text {
        "true" => "false".to_owned(),
        _ if key == "videobridge.cc.assumed-bandwidth-limit" => "10 Mbps".to_owned(),
        _ if key == "videobridge.websockets.tls" => "true".to_owned(),
        "false" => "true".to_owned(),
        _ if key.ends_with("-servers.private.host") => "\"127.0.0.2\"".to_owned(),
        _ if key.ends_with("local-fingerprint-hash-function") => "sha-384".to_owned(),
        _ if key.ends_with("load-measurement") => "packet-rate".to_owned(),
        _ if key.ends_with("red.policy") => "STRIP".to_owned(),
        _ if key.ends_with("red.distance") => "ONE".to_owned(),
        _ if text.starts_with('$') => "77 s".to_owned(),
        _ if text.starts_with('[') => match key {
            "jmt.srtp.protection-profiles" => "[ SRTP_AEAD_AES_256_GCM ]".to_owned(),
            "jmt.dtls.accepted-fingerprint-hash-functions" => "[ sha-256 ]".to_owned(),
            "ice4j.harvest.mapping.static-mappings" => {
                "[ { local-address = \"10.0.0.1\", public-address = \"203.0.113.1\" } ]".to_owned()
            }
            "ice4j.harvest.mapping.stun.addresses" => "[ \"stun.example.com:3478\" ]".to_owned(),
            _ if key.ends_with("addresses") => "[ \"10.0.0.1\" ]".to_owned(),
            _ => "[ other ]".to_owned(),
        },
        _ if text.parse::<i64>().is_ok() => "77".to_owned(),
        _ if text.parse::<f64>().is_ok() => "0.77".to_owned(),
        _ if units::bandwidth(text).is_some() => "77 kbps".to_owned(),
        _ if units::duration(text).is_some() => "77 s".to_owned(),
        _ => "other".to_owned(),
    }
}

#[test]
fn every_key_is_honoured_or_answered_with_why_not() {
    let mut honoured = Vec::new();
    for (key, default) in &*TABLE {
        let value = another(key, *default);
        // A client, so that nothing is missing.
        let text = format!("videobridge.apis.rest.enabled = true\n{key} = {value}\n");
        let loaded = load_text(text).unwrap_or_else(|error| panic!("{error}"));
        let about: Vec<_> = loaded
            .warnings
            .iter()
            .filter(|warning| !matches!(warning, load::Warning::Contradiction { .. }))
            .collect();
        let read = loaded.effective.iter().any(|value| value.key == *key);
        match about.as_slice() {
            [] => {
                assert!(read, "{key} has no effect, and nobody says so");
                assert_ne!(loaded.config, Config::default(), "{key} = {value} changes nothing");
                honoured.push(*key);
            }
            [
                load::Warning::NotYet { key: said, why, .. }
                | load::Warning::NoMeaning { key: said, why, .. },
            ] => {
                assert!(said == key && why.len() > 10, "{about:?}");
                assert!(known::no_effect(key).is_some(), "{key}");
            }
            other => panic!("{key}: {other:?}"),
        }
    }
    assert!(honoured.contains(&"videobridge.ice.udp.port"));
    // A supported key stays supported: this number only grows.
    assert!(honoured.len() >= 110, "{}: {honoured:#?}", honoured.len());
}

#[test]
fn what_is_said_to_have_no_effect_is_a_key_that_jvb_has_or_had() {
    let once = [
        "ice4j.harvest.mapping.stun.enabled",
        "videobridge.apis.xmpp-client.enabled",
        "videobridge.ice.tcp",
        "videobridge.octo",
        "videobridge.octo.enabled",
        "videobridge.octo.relay-id",
        "videobridge.sctp.use-usrsctp",
        "videobridge.stats.enabled",
        "videobridge.websockets.relay-domain",
    ];
    for key in known::no_effect_keys() {
        let inside = TABLE.keys().any(|known| {
            known.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        // JVB's HTTP library has keys of its own.
        let server = key.starts_with("videobridge.http-servers.");
        assert!(inside || server || once.contains(&key), "{key}");
    }
}

#[test]
fn a_file_may_refer_to_defaults_and_append_to_them() {
    let loaded = load_text(
        "videobridge.health.timeout = ${videobridge.stats.interval}\n\
         videobridge.apis.xmpp-client.stats-filter { enabled = true, whitelist += more }\n\
         videobridge.stats.interval = 2 s\n\
         jmt.dtls.accepted-fingerprint-hash-functions = [ sha-256 ]\n"
            .to_owned(),
    )
    .unwrap();
    assert_eq!(loaded.config.health.timeout, Duration::from_secs(2));
    assert_eq!(loaded.config.xmpp.presence_interval, Duration::from_secs(2));
    let whitelist = loaded.config.xmpp.whitelist.as_ref().unwrap();
    assert_eq!((whitelist.len(), whitelist[12].as_str()), (13, "more"));
    assert_eq!(effective(&loaded, "videobridge.health.timeout").origin.to_string(), "jvb.conf:1");
    // An invalid file leaves the reference unchanged.
    let odd = load_text("videobridge.stats = 5\n".to_owned()).unwrap_err().to_string();
    assert!(odd.contains("videobridge.stats: needs an object"), "{odd}");
    assert!(matches!(reference().unwrap().root.get("videobridge").unwrap().kind, Kind::Object(_)));
}

/// Every old key of JVB and of ice4j, with a valid value.
const OLD: &str = "\
org.ice4j.ALWAYS_SIGN=true
org.ice4j.MAX_CHECK_LIST_SIZE=50
org.ice4j.MAX_CTRAN_RETRANS_TIMER=100
org.ice4j.REDACT_REMOTE_ADDRESSES=false
org.ice4j.SOFTWARE=x
org.ice4j.TERMINATION_DELAY=1000
org.ice4j.ice.CONSENT_FRESHNESS_INTERVAL=4000
org.ice4j.ice.CONSENT_FRESHNESS_MAX_RETRANSMISSIONS=4
org.ice4j.ice.CONSENT_FRESHNESS_MAX_WAIT_INTERVAL=900
org.ice4j.ice.CONSENT_FRESHNESS_WAIT_INTERVAL=400
org.ice4j.ice.USE_COMPONENT_SOCKET=false
org.ice4j.ice.harvest.ALLOWED_ADDRESSES=10.0.0.1;10.0.0.2
org.ice4j.ice.harvest.ALLOWED_INTERFACES=eth0
org.ice4j.ice.harvest.AbstractUdpListener.SO_RCVBUF=1048576
org.ice4j.ice.harvest.BLOCKED_ADDRESSES=10.0.0.3
org.ice4j.ice.harvest.BLOCKED_INTERFACES=docker0
org.ice4j.ice.harvest.DISABLE_AWS_HARVESTER=true
org.ice4j.ice.harvest.DISABLE_LINK_LOCAL_ADDRESSES=false
org.ice4j.ice.harvest.FORCE_AWS_HARVESTER=true
org.ice4j.ice.harvest.HARVESTING_TIMEOUT=5000
org.ice4j.ice.harvest.STUN_MAPPING_HARVESTER_ADDRESSES=stun.example.com:3478
org.ice4j.ice.harvest.USE_DYNAMIC_HOST_HARVESTER=false
org.ice4j.ipv6.DISABLED=true
org.jitsi.videobridge.BWE_CHANGE_THRESHOLD_PCT=20
org.jitsi.videobridge.DISABLE_RTX_PROBING=true
org.jitsi.videobridge.ENABLE_ONSTAGE_VIDEO_SUSPEND=true
org.jitsi.videobridge.ENABLE_REST_COLIBRI=true
org.jitsi.videobridge.ENABLE_REST_SHUTDOWN=true
org.jitsi.videobridge.ENABLE_STATISTICS=true
org.jitsi.videobridge.EXPIRE_CHECK_SLEEP_SEC=30
org.jitsi.videobridge.EndpointConnectionStatus.FIRST_TRANSFER_TIMEOUT=10000
org.jitsi.videobridge.EndpointConnectionStatus.MAX_INACTIVITY_LIMIT=9000
org.jitsi.videobridge.ICE_UFRAG_PREFIX=one:
org.jitsi.videobridge.KEEP_ALIVE_STRATEGY=all_succeeded
org.jitsi.videobridge.ONSTAGE_PREFERRED_FRAME_RATE=15
org.jitsi.videobridge.ONSTAGE_PREFERRED_HEIGHT=720
org.jitsi.videobridge.PADDING_PERIOD_MS=20
org.jitsi.videobridge.REGION=eu
org.jitsi.videobridge.SINGLE_PORT_HARVESTER_PORT=10001
org.jitsi.videobridge.STATISTICS_INTERVAL=3000
org.jitsi.videobridge.TRUST_BWE=false
org.jitsi.videobridge.health.INTERVAL=30000
org.jitsi.videobridge.health.STICKY_FAILURES=true
org.jitsi.videobridge.health.TIMEOUT=60000
org.jitsi.videobridge.rest.COLIBRI_WS_DISABLE=false
org.jitsi.videobridge.rest.COLIBRI_WS_DOMAIN=meet.example.com
org.jitsi.videobridge.rest.COLIBRI_WS_SERVER_ID=one
org.jitsi.videobridge.rest.COLIBRI_WS_TLS=true
org.jitsi.videobridge.rest.jetty.host=127.0.0.1
org.jitsi.videobridge.rest.jetty.port=9090
org.jitsi.videobridge.rest.jetty.sslContextFactory.keyStorePassword=x
org.jitsi.videobridge.rest.jetty.sslContextFactory.keyStorePath=/etc/jitsi/store.p12
org.jitsi.videobridge.rest.jetty.sslContextFactory.needClientAuth=true
org.jitsi.videobridge.rest.jetty.tls.port=9443
org.jitsi.videobridge.rest.private.jetty.host=127.0.0.3
org.jitsi.videobridge.rest.private.jetty.port=8081
org.jitsi.videobridge.rest.private.jetty.sslContextFactory.keyStorePassword=x
org.jitsi.videobridge.rest.private.jetty.sslContextFactory.keyStorePath=/etc/jitsi/store.p12
org.jitsi.videobridge.rest.private.jetty.sslContextFactory.needClientAuth=true
org.jitsi.videobridge.rest.private.jetty.tls.port=8444
";

/// Loads the older file alone.
struct Old(String);

impl Source for Old {
    fn read(&self, path: &Path) -> io::Result<String> {
        match path.to_str() {
            Some("jvb.conf") => Ok(String::new()),
            Some("sip-communicator.properties") => Ok(self.0.clone()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn env(&self, _: &str) -> Option<String> {
        None
    }
}

#[test]
fn every_old_key_is_honoured_or_answered_with_why_not() {
    for line in OLD.lines() {
        let loaded = load(Some(Path::new("jvb.conf")), &[], &Old(format!("{line}\n")));
        let loaded = loaded.unwrap_or_else(|error| panic!("{line}: {error}"));
        let here = "sip-communicator.properties:1";
        let told: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
        let read = loaded.effective.iter().any(|value| value.origin.to_string() == here);
        let said = told.iter().any(|warning| warning.starts_with(here));
        assert!(read || said, "{line}: {told:?}");
        assert!(told.iter().all(|warning| !warning.contains("unknown key")), "{line}: {told:?}");
        if read {
            assert_ne!(loaded.config, Config::default(), "{line} changes nothing");
        }
    }
}

#[test]
fn the_size_of_a_conference_limits_videos() {
    let key = "videobridge.load-management.conference-last-n-limits";
    let loaded = |text: &str| load_text(format!("{key} {text}")).unwrap();
    let limits = |text: &str| loaded(text).config.load.last_n_by_size;
    assert_eq!(limits("{ 20 = 15, \"50\": 5 }"), [(20, 15), (50, 5)].into());
    assert_eq!(limits("{}"), [].into());
    let warnings = loaded("{ 20 = 15 }").warnings;
    assert!(!warnings.iter().any(|warning| warning.to_string().contains(key)), "{warnings:?}");
}
