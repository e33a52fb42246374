mod contradictions;
mod table;

use std::{io, path::Path, time::Duration};

use proptest::prelude::*;
use rialto_hocon::{Origin, Source};

use super::*;

struct One(&'static str);

impl Source for One {
    fn read(&self, path: &Path) -> io::Result<String> {
        if path == Path::new("jvb.conf") {
            return Ok(self.0.to_owned());
        }
        Err(io::ErrorKind::NotFound.into())
    }

    fn env(&self, name: &str) -> Option<String> {
        (name == "JVB_PORT").then(|| "20000".to_owned())
    }
}

fn loaded(text: &'static str, overrides: &[Override]) -> Loaded {
    load(Some(Path::new("jvb.conf")), overrides, &One(text)).unwrap()
}

fn error(text: &'static str) -> String {
    load(Some(Path::new("jvb.conf")), &[], &One(text)).unwrap_err().to_string()
}

fn effective<'a>(loaded: &'a Loaded, key: &str) -> &'a Effective {
    loaded.effective.iter().find(|value| value.key == key).unwrap()
}

#[test]
fn an_empty_file_is_the_defaults() {
    let loaded = loaded("", &[]);
    assert_eq!(loaded.config, Config::default());
    assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
    assert!(loaded.warnings[0].to_string().contains("nothing can allocate conferences"));
    assert!(loaded.effective.iter().all(|value| value.origin == Origin::Default));
    assert_eq!(effective(&loaded, "videobridge.ice.udp.port").value, "10000");
    assert_eq!(load(None, &[], &One("")).unwrap(), loaded);
}

#[test]
fn values_tell_where_they_come_from() {
    let overrides = [Override::text("rialto.shards", "3".to_owned(), "--shards")];
    let loaded = loaded(
        "videobridge {\n entity-expiration.timeout = 30 s\n ice.udp.port = ${?JVB_PORT}\n}\n\
         rialto.shards = 2\nvideobridge.stats.interval = null\n",
        &overrides,
    );
    let config = &loaded.config;
    assert_eq!(config.ice.port, 20000);
    assert_eq!(config.expiration.timeout, Duration::from_secs(30));
    assert_eq!(config.expiration.check_interval, Duration::from_secs(30));
    assert_eq!(config.engine.shards, Some(3));
    assert_eq!(config.stats.interval, Duration::from_secs(5));
    for (key, origin) in [
        ("videobridge.entity-expiration.timeout", "jvb.conf:2"),
        ("videobridge.entity-expiration.check-interval", "default"),
        ("videobridge.ice.udp.port", "environment JVB_PORT, jvb.conf:3"),
        ("rialto.shards", "--shards"),
        ("videobridge.stats.interval", "default"),
    ] {
        assert_eq!(effective(&loaded, key).origin.to_string(), origin, "{key}");
    }
}

#[test]
fn lists_and_mappings() {
    let loaded = loaded(
        "ice4j.harvest { allowed-interfaces = [eth0, ], blocked-addresses = [ \"10.0.0.1\" ]\n\
         mapping.static-mappings = [ { local-address = \"10.0.0.2\", public-address = \"203.0.113.1\"\n\
         local-port = 10000, public-port = \"20000\", name = ip-1 } ]\n udp.receive-buffer-size = 1m }",
        &[Override::list("ice4j.harvest.allowed-addresses", "127.0.0.1".to_owned(), "--bind")],
    );
    let harvest = &loaded.config.harvest;
    assert_eq!(harvest.allowed_interfaces, ["eth0"]);
    assert_eq!(harvest.blocked_addresses, ["10.0.0.1".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(harvest.allowed_addresses, ["127.0.0.1".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(harvest.receive_buffer, 1 << 20);
    let mapping = &harvest.static_mappings[0];
    assert_eq!((mapping.local_port, mapping.public_port), (Some(10000), Some(20000)));
    assert_eq!(
        effective(&loaded, "ice4j.harvest.mapping.static-mappings").value,
        "[10.0.0.2 port 10000 -> 203.0.113.1 port 20000 (ip-1)]"
    );
}

#[test]
fn what_has_no_effect_is_said() {
    let loaded = loaded(
        "include \"custom-jvb.conf\"\nvideobridge.ice.udp.prot = 1\nvideobridge.relay.enabled = true\n\
         videobridge.stats.enabled = true\nmine = 1\nvideobridge.cc.initial-last-n = -1\n\
         videobridge.cryptex.endpoint = true\n",
        &[],
    );
    let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "nothing can allocate conferences: videobridge.apis.xmpp-client.configs has no complete \
             client, and videobridge.apis.xmpp-component.enabled and videobridge.apis.rest.enabled are \
             false",
            "jvb.conf:1: the included file custom-jvb.conf does not exist",
            "jvb.conf:2: unknown key videobridge.ice.udp.prot (did you mean videobridge.ice.udp.port?)",
            "jvb.conf:3: videobridge.relay.enabled has no effect yet: there are no relays between bridges",
            "jvb.conf:4: videobridge.stats.enabled is obsolete and has no effect: there are always statistics",
            "jvb.conf:5: unknown key mine",
            "jvb.conf:7: videobridge.cryptex.endpoint has no effect yet: header extensions are not encrypted \
             (RFC 9335)",
        ]
    );
}

#[test]
fn load_is_measured_as_configured() {
    let text =
        "videobridge.load-management { average-participant-stress = 0.05, load-measurements {
        load-measurement = packet-rate, packet-rate.load-threshold = \"20000\"
        cpu-usage { load-threshold = 80 %, detect-cpu-steal = false } } }";
    let load = loaded(text, &[]).config.load;
    let expected = Load {
        measure: LoadMeasure::PacketRate,
        cpu_threshold: 0.8,
        detect_steal: false,
        packet_threshold: 20_000,
        average_participant_stress: 0.05,
        ..Load::default()
    };
    assert_eq!(load, expected);
}

#[test]
fn mistakes_are_one_line_with_the_place_and_the_need() {
    for (text, message) in [
        (
            "videobridge.load-management.load-measurements.load-measurement = disk",
            "jvb.conf:1: videobridge.load-management.load-measurements.load-measurement: \
             needs one of cpu-usage, packet-rate, not 'disk'",
        ),
        (
            "videobridge.load-management.conference-last-n-limits { few = 2 }",
            "jvb.conf:1: videobridge.load-management.conference-last-n-limits.few: \
             needs whole numbers such as 20 = 10, not '2'",
        ),
        (
            "videobridge.cc.max-oversend-bitrate = 5",
            "jvb.conf:1: videobridge.cc.max-oversend-bitrate: \
             needs a bandwidth such as '500 kbps' or '10 mbps', not '5'",
        ),
        (
            "jmt.bwe.estimator.min-bw = 30 mbps",
            "jvb.conf:1: jmt.bwe.estimator.min-bw: \
             needs a bandwidth of more than nothing and at most max-bw",
        ),
        (
            "videobridge.load-management.average-participant-stress = 0",
            "jvb.conf:1: videobridge.load-management.average-participant-stress: \
             needs a fraction such as 0.9 or '90 %', not '0'",
        ),
        (
            "\nvideobridge.ice.udp.port = 70000",
            "jvb.conf:2: videobridge.ice.udp.port: needs a whole number from 0 to 65535, not '70000'",
        ),
        (
            "videobridge.stats.interval = fast\nvideobridge.apis.rest.enabled = maybe",
            "jvb.conf:2: videobridge.apis.rest.enabled: needs true or false, not 'maybe' \
             (and 1 more: see rialto check-config)",
        ),
        (
            "videobridge.ice.udp { port { x = 1 } }",
            "jvb.conf:1: videobridge.ice.udp.port: needs a whole number from 0 to 65535, not an object",
        ),
        (
            "ice4j.harvest.mapping.static-mappings = [ { local-address = \"10.0.0.1\" } ]",
            "jvb.conf:1: ice4j.harvest.mapping.static-mappings: needs public-address in each mapping",
        ),
        (
            "jmt.srtp.protection-profiles = [ NULL ]",
            "jvb.conf:1: jmt.srtp.protection-profiles: needs a list of SRTP_AEAD_AES_128_GCM, \
             SRTP_AEAD_AES_256_GCM, SRTP_AES128_CM_HMAC_SHA1_80, not 'NULL'",
        ),
        ("videobridge {", "jvb.conf:1: this '{' is never closed: add a '}'"),
    ] {
        assert_eq!(error(text), message);
    }
    let missing = load(Some(Path::new("gone.conf")), &[], &One("")).unwrap_err().to_string();
    assert!(missing.starts_with("cannot read gone.conf: "), "{missing}");
}

#[test]
fn a_comma_that_lacks_in_a_list_is_asked_about() {
    for (key, two) in [
        ("ice4j.harvest.allowed-addresses", "10.0.0.1 10.0.0.2"),
        ("ice4j.harvest.blocked-interfaces", "eth0 eth1"),
        ("ice4j.harvest.mapping.stun.addresses", "\"a.example.com:3478\" \"b.example.com:3478\""),
        ("videobridge.websockets.domains", "a.example.com b.example.com"),
        ("videobridge.apis.xmpp-client.stats-filter.whitelist", "drain version"),
        ("jmt.dtls.accepted-fingerprint-hash-functions", "sha-512 sha-256"),
        ("videobridge.http-servers.private.tls-protocols", "\"TLSv1.2\" \"TLSv1.3\""),
    ] {
        let error = table::load_text(format!("{key} = [ {two} ]\n")).unwrap_err().to_string();
        let asks = error.starts_with(&format!("jvb.conf:1: {key}: needs a list of "))
            && error.ends_with(" (is a ',' missing?)");
        assert!(asks, "{error}");
    }
}

#[test]
fn a_value_in_place_of_a_section_is_a_mistake() {
    for (text, key, found) in [
        ("videobridge.ice = 5", "videobridge.ice", "'5'"),
        ("videobridge = 7", "videobridge", "'7'"),
        ("videobridge.health = off", "videobridge.health", "'off'"),
        ("videobridge.http-servers.private = 8080", "videobridge.http-servers.private", "'8080'"),
        ("videobridge.websockets = true", "videobridge.websockets", "'true'"),
        ("videobridge.apis.xmpp-client = []", "videobridge.apis.xmpp-client", "a list"),
        ("videobridge.relay = on", "videobridge.relay", "'on'"),
        ("ice4j.harvest = none", "ice4j.harvest", "'none'"),
        ("rialto = 2", "rialto", "'2'"),
    ] {
        assert_eq!(error(text), format!("jvb.conf:1: {key}: needs an object, not {found}"));
    }
    let more = "videobridge.stats.interval = fast\nvideobridge.ice = 5";
    assert!(error(more).ends_with("(and 1 more: see rialto check-config)"), "{}", error(more));
    // As if it were unset.
    assert_eq!(loaded("videobridge.ice = null", &[]).config, Config::default());
}

#[test]
fn an_http_server_listens_on_an_address_or_a_name() {
    let read = loaded(
        "videobridge.http-servers { private.host = localhost\npublic { host = localhost, port = 9090 } }",
        &[],
    );
    let local = std::net::IpAddr::from([127, 0, 0, 1]);
    assert_eq!(read.config.http.host, local);
    assert_eq!(read.config.public_http.listen(), Some((local, 9090).into()));
    for (host, what) in [
        ("bridge.example.com", "cannot resolve 'bridge.example.com': no resolver"),
        ("\"a b\"", "needs an IP address or a host name, not 'a b'"),
        ("[]", "needs an IP address or a host name, not a list"),
    ] {
        for key in ["videobridge.http-servers.private.host", "videobridge.http-servers.public.host"]
        {
            let error = table::load_text(format!("{key} = {host}")).unwrap_err().to_string();
            assert_eq!(error, format!("jvb.conf:1: {key}: {what}"));
        }
    }
}

#[test]
fn the_nearest_name_is_one_that_takes_a_value() {
    let clients = "videobridge.apis.xmpp-client.configs";
    for (key, nearest) in [
        ("videobridge.rely", None),
        ("videobridge.icee", None),
        ("videobridge.ice.udp.prot", Some("videobridge.ice.udp.port".to_owned())),
        (&*format!("{clients}.shard.USERNAM"), Some(format!("{clients}.shard.USERNAME"))),
        (&format!("{clients}.shard.muc_jid"), Some(format!("{clients}.shard.MUC_JIDS"))),
        (&format!("{clients}.shard.COLOUR"), None),
    ] {
        let loaded = table::load_text(format!("{key} = 1")).unwrap();
        let said: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
        let hint = nearest.map_or(String::new(), |nearest| format!(" (did you mean {nearest}?)"));
        let line = format!("jvb.conf:1: unknown key {key}{hint}");
        assert!(said.contains(&line), "{line} is not in {said:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        fuzz(&bytes);
    }

    #[test]
    fn keys_of_ours_with_any_value_are_answered(
        key in prop::sample::select(vec![
            "videobridge.ice.udp.port",
            "videobridge.ice.ufrag-prefix",
            "videobridge.version.release",
            "videobridge.stats.interval",
            "ice4j.harvest.allowed-interfaces",
            "ice4j.harvest.mapping.static-mappings",
            "rialto.shards",
        ]),
        value in "([0-9]{1,12}|[a-z.: ]{1,9}|\"[^\"]{0,9}\"|[\\[\\]{}=,\n]|local-address|\\$\\{E\\}){0,9}"
    ) {
        fuzz(format!("{key} = {value}").as_bytes());
    }
}

#[test]
fn a_component_and_where_it_publishes() {
    let text = "videobridge {\n apis.xmpp-component {\n enabled = true\n domain = example.com\n secret = s3cr3t\n }\n\
                stats.transports = [ { type = muc }, { type = pubsub, service = pubsub.example.com, node = stats, interval = 2 s } ]\n}\n";
    let read = loaded(text, &[]);
    let component = read.config.xmpp.component.as_ref().unwrap();
    assert_eq!((component.port, component.subdomain.as_str()), (5275, "jitsi-videobridge"));
    assert_eq!((&component.authorized, &component.shutdown), (&None, &None));
    assert_eq!(component.secret.reveal(), "s3cr3t");
    assert!(read.warnings.is_empty(), "{:?}", read.warnings);
    assert!(read.effective.iter().all(|value| !value.value.contains("s3cr3t")));
    let node =
        StatsDestination::Pubsub { service: "pubsub.example.com".into(), node: "stats".into() };
    let every = Some(Duration::from_secs(2));
    let muc = StatsTransport { interval: None, to: StatsDestination::Muc };
    let pubsub = StatsTransport { interval: every, to: node };
    assert_eq!(read.config.stats.transports, [muc, pubsub]);
    let flags =
        [Override::text("videobridge.apis.xmpp-component.enabled", "true".into(), "--domain")];
    let lacks = load(None, &flags, &One("")).unwrap_err().to_string();
    assert!(lacks.contains("xmpp-component.secret"), "{lacks}");
    for wrong in [
        "videobridge.stats.transports = [ { type = smtp } ]",
        "videobridge.stats.transports = [ { type = pubsub, node = n } ]",
        "videobridge.stats.transports = [ { type = muc, to = x } ]",
        "videobridge.stats.transports = muc",
    ] {
        assert!(error(wrong).contains("videobridge.stats.transports"), "{}", error(wrong));
    }
}

#[test]
fn who_may_ask_a_component_is_a_pattern_of_whole_jids() {
    let conf = "videobridge.apis.xmpp-component { enabled = true, secret = s3cr3t }";
    let old = "org.jitsi.videobridge.AUTHORIZED_SOURCE_REGEXP=focus@auth\\\\.example\\\\.com/.*|other@example\\\\.com\n\
               org.jitsi.videobridge.shutdown.ALLOWED_SOURCE_REGEXP=admin@example\\\\.com\n";
    let path = Path::new("/etc/jitsi/videobridge/jvb.conf");
    let loaded = load(Some(path), &[], &Two(conf, old)).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let component = loaded.config.xmpp.component.unwrap();
    let authorized = component.authorized.unwrap();
    for (jid, may) in [
        ("focus@auth.example.com/focus1", true),
        ("focus@auth-example.com/focus1", false),
        ("evil-focus@auth.example.com/x", false),
        ("other@example.com", true),
        ("other@example.com.evil.net", false),
    ] {
        assert_eq!(authorized.matches(jid), may, "{jid}");
    }
    assert!(component.shutdown.unwrap().matches("admin@example.com"));
    // An invalid pattern must not let everybody in.
    for wrong in [
        r#"videobridge.apis.xmpp-component.authorized-source = "a)|(b""#,
        r#"videobridge.apis.xmpp-component.authorized-source = "(?=x)""#,
        r#"videobridge.apis.xmpp-component.shutdown-source = "[""#,
    ] {
        assert!(error(wrong).contains("-source"), "{wrong}");
    }
}

/// As in JVB: a complete client in the old file replaces the whole new section.
#[test]
fn a_complete_client_of_the_older_file_replaces_the_new_section() {
    let path = Path::new("/etc/jitsi/videobridge/jvb.conf");
    let user = "org.jitsi.videobridge.xmpp.user.shard.";
    let old = "org.jitsi.videobridge.xmpp.user.shard.HOSTNAME=old.example.com\n\
        org.jitsi.videobridge.xmpp.user.shard.USERNAME=jvb\n\
        org.jitsi.videobridge.xmpp.user.shard.PASSWORD=s3cr3t\n\
        org.jitsi.videobridge.xmpp.user.shard.MUC_JIDS=brewery@internal.example.com\n\
        org.jitsi.videobridge.xmpp.user.shard.MUC_NICKNAME=one\n";
    let upper = "videobridge.apis.xmpp-client.configs {\n shard { HOSTNAME = new.example.com, USERNAME = n\n\
        PASSWORD = n, MUC_JIDS = \"n@internal.example.com\", MUC_NICKNAME = n, PORT = 6222 }\n\
        other { HOSTNAME = new.example.com, USERNAME = n, PASSWORD = n\n\
        MUC_JIDS = \"n@internal.example.com\", MUC_NICKNAME = n }\n}\n";
    let lower = "videobridge.apis.xmpp-client.configs.shard { hostname = new.example.com, username = n\n\
        password = n, muc_jids = \"n@internal.example.com\", muc_nickname = n, port = 6222 }\n";
    for new in [upper, lower] {
        let loaded = load(Some(path), &[], &Two(new, old)).unwrap();
        let [client] = &loaded.config.xmpp.clients[..] else { panic!("{new}") };
        assert_eq!((client.host.as_str(), client.port), ("old.example.com", 5222), "{new}");
        assert_eq!((client.username.as_str(), client.nickname.as_str()), ("jvb", "one"), "{new}");
        let said: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
        let told = "videobridge.apis.xmpp-client.configs has no effect: a client of \
                    sip-communicator.properties replaces it";
        assert!(said.iter().any(|line| line.contains(told)), "{said:?}");
        assert!(!said.iter().any(|line| line.contains("unknown key")), "{said:?}");
        // An incomplete one replaces nothing, and is a warning.
        let half: &'static str =
            old.split_once("org.jitsi.videobridge.xmpp.user.shard.MUC_N").unwrap().0;
        let loaded = load(Some(path), &[], &Two(new, half)).unwrap();
        assert_eq!(loaded.config.xmpp.clients[0].host, "new.example.com");
        let said: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
        let told = format!("{} lacks MUC_NICKNAME and is skipped", user.trim_end_matches('.'));
        assert!(said.iter().any(|line| line.contains(&told)), "{said:?}");
    }
}

struct Two(&'static str, &'static str);

impl Source for Two {
    fn read(&self, path: &Path) -> io::Result<String> {
        match path.to_str() {
            Some("/etc/jitsi/videobridge/jvb.conf") => Ok(self.0.to_owned()),
            Some("/etc/jitsi/videobridge/sip-communicator.properties") => Ok(self.1.to_owned()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn env(&self, _: &str) -> Option<String> {
        None
    }
}

#[test]
fn the_older_file_beside_it_is_read_and_wins() {
    let conf = "videobridge.ice.udp.port = 10000\nvideobridge.stats.interval = 1 s\n";
    let old = "# As Debian's package wrote it.\n\
        org.ice4j.ice.harvest.NAT_HARVESTER_LOCAL_ADDRESS=10.0.0.5\n\
        org.ice4j.ice.harvest.NAT_HARVESTER_PUBLIC_ADDRESS=203.0.113.20\n\
        org.ice4j.ice.harvest.DISABLE_AWS_HARVESTER=true\n\
        org.jitsi.videobridge.ENABLE_STATISTICS=true\n\
        org.jitsi.videobridge.STATISTICS_TRANSPORT=muc,pubsub\n\
        org.jitsi.videobridge.PUBSUB_SERVICE=pubsub.example.com\n\
        org.jitsi.videobridge.PUBSUB_NODE=stats\n\
        org.jitsi.videobridge.STATISTICS_INTERVAL=5000\n\
        org.jitsi.videobridge.STATISTICS_INTERVAL.pubsub=2000\n\
        org.jitsi.videobridge.SINGLE_PORT_HARVESTER_PORT=10001\n\
        org.jitsi.videobridge.xmpp.user.shard.HOSTNAME=localhost\n\
        org.jitsi.videobridge.xmpp.user.shard.DOMAIN=auth.example.com\n\
        org.jitsi.videobridge.xmpp.user.shard.USERNAME=jvb\n\
        org.jitsi.videobridge.xmpp.user.shard.PASSWORD=s3cr3t\n\
        org.jitsi.videobridge.xmpp.user.shard.MUC_JIDS=JvbBrewery@internal.auth.example.com\n\
        org.jitsi.videobridge.xmpp.user.shard.MUC_NICKNAME=one\n\
        org.jitsi.videobridge.NO_SUCH_KEY=1\n\
        net.java.sip.communicator.ANYTHING=1\n";
    let path = Path::new("/etc/jitsi/videobridge/jvb.conf");
    let loaded = load(Some(path), &[], &Two(conf, old)).unwrap();
    let config = &loaded.config;
    assert_eq!(config.ice.port, 10001);
    assert_eq!(config.stats.interval, Duration::from_secs(5));
    let every: Vec<_> = config.stats.transports.iter().map(|place| place.interval).collect();
    assert_eq!(every, [None, Some(Duration::from_secs(2))]);
    assert_eq!(config.harvest.static_mappings.len(), 1);
    let client = &config.xmpp.clients[0];
    assert_eq!((client.id.as_str(), client.domain.as_str()), ("shard", "auth.example.com"));
    let origin = effective(&loaded, "videobridge.ice.udp.port").origin.to_string();
    assert!(origin.ends_with("sip-communicator.properties:11"), "{origin}");
    let said: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert!(said.iter().any(|line| line.contains("NO_SUCH_KEY")), "{said:?}");
    assert!(said.iter().any(|line| line.contains("ENABLE_STATISTICS")), "{said:?}");
    assert!(!said.iter().any(|line| line.contains("net.java")), "{said:?}");
    let mistake =
        load(Some(path), &[], &Two("", "org.jitsi.videobridge.STATISTICS_INTERVAL=often"));
    let mistake = mistake.unwrap_err().to_string();
    assert!(mistake.contains("sip-communicator.properties:1") && mistake.contains("'often'"));
}
