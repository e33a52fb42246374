//! Warnings about keys that contradict each other, and about old names: each kind on its own.

use super::table::load_text;

/// A file without contradictions; each test appends to it.
const SANE: &str = "\
videobridge.apis.rest.enabled = true
videobridge.http-servers.public.port = 9090
videobridge.websockets { enabled = true, domains = [ \"meet.example.com:443\" ] }
";

/// A component, so that a focus can allocate conferences.
const COMPONENT: &str = "videobridge.apis.xmpp-component { enabled = true, secret = s }\n";

/// Returns all warnings of a file.
fn warnings_of(text: &str) -> Vec<String> {
    let loaded = load_text(text.to_owned()).unwrap_or_else(|error| panic!("{text}: {error}"));
    loaded.warnings.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn says_only(below: &str, what: &str) {
    let line = SANE.lines().count() + below.lines().count();
    assert_eq!(
        warnings_of(&format!("{SANE}{below}")),
        [format!("jvb.conf:{line}: {what}")],
        "{below}"
    );
}

#[test]
fn a_sane_file_contradicts_nothing() {
    let none: [String; 0] = [];
    assert_eq!(warnings_of(SANE), none);
    assert_eq!(warnings_of(&format!("{SANE}{COMPONENT}")), none);
    for fine in [
        "videobridge.stats.transports = [ { type = muc } ]",
        "videobridge.apis.xmpp-client.stats-filter { enabled = true }",
        "videobridge.apis.xmpp-client.stats-filter.whitelist = [ stress_level ]",
        "videobridge.sctp.enabled = false",
        "videobridge.websockets.send-keepalive-pings = false\n\
         videobridge.websockets.keepalive-ping-interval = 10 minutes",
        "ice4j.harvest { allowed-interfaces = [ eth0 ], blocked-interfaces = [ eth1 ] }",
        "ice4j.harvest.mapping.static-mappings = \
         [ { local-address = 10.0.0.1, local-port = 10000, public-address = 203.0.113.1 } ]",
        "ice4j.harvest.mapping.aws { enabled = true, force = true }",
        "videobridge.rest.shutdown.enabled = true",
        "videobridge.http-servers { private { host = 127.0.0.1, port = 9090 }, \
         public.host = 127.0.0.2 }",
        "videobridge { initial-drain-mode = true, rest.drain.enabled = true }",
    ] {
        assert_eq!(warnings_of(&format!("{SANE}{fine}\n")), none, "{fine}");
    }
}

#[test]
fn who_controls_the_bridge() {
    says_only(
        "videobridge.apis.rest.enabled = false\n",
        "nothing can allocate conferences: videobridge.apis.xmpp-client.configs has no complete \
         client, and videobridge.apis.xmpp-component.enabled and videobridge.apis.rest.enabled are \
         false",
    );
    for place in ["{ type = colibri }", "{ type = pubsub, service = p.example.com, node = n }"] {
        says_only(
            &format!("videobridge.stats.transports = [ {place} ]\n"),
            "videobridge.stats.transports: colibri and pubsub have no effect while \
             videobridge.apis.xmpp-component.enabled is false",
        );
    }
    says_only(
        "videobridge.apis.xmpp-client.stats-filter.enabled = true\n\
         videobridge.apis.xmpp-client.stats-filter.whitelist = [ stress_level ]\n",
        "videobridge.apis.xmpp-client.stats-filter.whitelist has no drain: Jicofo will never choose \
         this bridge",
    );
}

#[test]
fn a_version_that_is_not_its_own() {
    says_only(
        "rialto.announced-version = \"2.3-160-g97a1f15b\"\n",
        "rialto.announced-version: where the focus has octo on, and a JVB of this version is in the \
         same pool, a conference may be put on both, and then nobody but the first gets a call: there \
         are no relays here yet. Without this key a focus keeps each conference on bridges of one kind",
    );
    let both =
        "videobridge.relay.enabled = true\nrialto.announced-version = \"2.3-160-g97a1f15b\"\n";
    let error = load_text(both.to_owned()).unwrap_err().to_string();
    let place =
        "jvb.conf:2: rialto.announced-version: cannot stand beside videobridge.relay.enabled";
    assert!(error.starts_with(place), "{error}");
    let off = both.replace("true", "false");
    assert!(load_text(off).is_ok());
    let old = both.replace("relay", "octo");
    let error = load_text(old.clone()).unwrap_err().to_string();
    assert!(error.starts_with(&place.replace("relay", "octo")), "{error}");
    assert!(load_text(old.replace("true", "false")).is_ok());
}

#[test]
fn channels_to_clients() {
    let rest = "videobridge.apis.rest.enabled = true\n";
    assert_eq!(
        warnings_of(&format!("{rest}videobridge.websockets.enabled = true\n")),
        ["jvb.conf:2: videobridge.websockets.enabled has no effect: \
             videobridge.http-servers.public.port is not set"]
    );
    says_only(
        "videobridge.websockets.domains = []\n",
        "no client is told of a WebSocket: videobridge.websockets.domains is empty",
    );
    assert_eq!(
        warnings_of(&format!("{rest}videobridge.sctp.enabled = false\n")),
        ["jvb.conf:2: videobridge.sctp.enabled is false and nothing serves WebSockets: clients \
             have no channel to the bridge, and cannot say what they want to receive"]
    );
    for timeout in ["15 s", "10 s"] {
        says_only(
            &format!(
                "videobridge.websockets.keepalive-ping-interval = 15 s\n\
                 videobridge.websockets.idle-timeout = {timeout}\n"
            ),
            "videobridge.websockets.idle-timeout is no longer than keepalive-ping-interval: every \
             WebSocket closes between two pings",
        );
    }
}

#[test]
fn addresses_of_the_bridge() {
    says_only(
        "ice4j.harvest.allowed-interfaces = [ eth0, eth1 ]\n\
         ice4j.harvest.blocked-interfaces = [ eth1 ]\n",
        "ice4j.harvest.blocked-interfaces has eth1, which allowed-interfaces has too: it is not used",
    );
    says_only(
        "ice4j.harvest.allowed-addresses = [ 10.0.0.1 ]\n\
         ice4j.harvest.blocked-addresses = [ 10.0.0.1 ]\n",
        "ice4j.harvest.blocked-addresses has 10.0.0.1, which allowed-addresses has too: it is not used",
    );
    let key = "ice4j.harvest.mapping.static-mappings";
    says_only(
        &format!("{key} = [ {{ local-address = 10.0.0.1, public-address = \"2001:db8::1\" }} ]\n"),
        &format!("{key} maps 10.0.0.1 to 2001:db8::1, which is of another family"),
    );
    says_only(
        &format!(
            "{key} = [ {{ local-address = 10.0.0.1, local-port = 20000, \
             public-address = 203.0.113.1 }} ]\n"
        ),
        &format!(
            "{key} maps a local port that videobridge.ice.udp.port is not: it has no effect for \
             10.0.0.1"
        ),
    );
    says_only(
        "ice4j.harvest.mapping.aws.enabled = false\nice4j.harvest.mapping.aws.force = true\n",
        "ice4j.harvest.mapping.aws.force has no effect: aws.enabled is false",
    );
}

#[test]
fn servers_of_http() {
    assert_eq!(
        warnings_of(&format!(
            "{COMPONENT}videobridge.apis.rest.enabled = false\n\
             videobridge.rest.shutdown.enabled = true\n"
        )),
        ["jvb.conf:3: videobridge.rest.shutdown.enabled has no effect: \
             videobridge.apis.rest.enabled is false"]
    );
    for (private, public) in
        [("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "0.0.0.0"), ("0.0.0.0", "127.0.0.1")]
    {
        says_only(
            &format!(
                "rialto.http.token = s3cr3t\n\
                 videobridge.http-servers.private {{ host = {private}, port = 9090 }}\n\
                 videobridge.http-servers.public.host = {public}\n\
                 videobridge.http-servers.public.port = 9090\n"
            ),
            "videobridge.http-servers.public.port is the port of http-servers.private too: one of \
             them cannot listen",
        );
    }
}

#[test]
fn a_private_server_for_others_without_a_token() {
    const WARNING: &str = "videobridge.http-servers.private.host: whoever reaches this address can \
        end conferences and read who is in them: set rialto.http.token, or need-client-auth with a key \
        store, or keep it behind a firewall";
    let host = |host: &str| format!("videobridge.http-servers.private.host = {host}\n");
    let closed = "rialto.http.token = s3cr3t\n";
    let certified = "videobridge.http-servers.private { key-store-path = a.p12, need-client-auth = \
        true }\n";
    let off = "videobridge.http-servers.private.port = -1\n";
    for open in ["0.0.0.0", "192.0.2.1", "\"::\""] {
        says_only(&host(open), WARNING);
        for fine in [closed, certified, off] {
            let all = warnings_of(&format!("{SANE}{}{fine}", host(open)));
            assert!(!all.iter().any(|said| said.contains("whoever reaches")), "{fine}: {all:?}");
        }
    }
    for fine in ["127.0.0.1", "127.0.0.2", "\"::1\"", "localhost"] {
        assert_eq!(warnings_of(&format!("{SANE}{}", host(fine))), [""; 0], "{fine}");
    }
    let wrong =
        load_text("rialto.http { token = \"two words\", hosts = [ \"a:1\" ] }\n".to_owned());
    let wrong = wrong.unwrap_err().to_string();
    assert!(wrong.contains("rialto.http.token: needs a text without spaces"), "{wrong}");
    assert!(!wrong.contains("two words"), "{wrong}");
}

#[test]
fn times_of_the_bridge() {
    says_only(
        "ice4j.consent-freshness.original-wait-interval = 2 s\n\
         ice4j.consent-freshness.max-wait-interval = 1 s\n",
        "ice4j.consent-freshness.max-wait-interval is less than original-wait-interval",
    );
    says_only(
        "videobridge.rest.drain.enabled = false\nvideobridge.initial-drain-mode = true\n",
        "videobridge.initial-drain-mode is true and videobridge.rest.drain.enabled false: nothing \
         can end the drain",
    );
}

/// Names that JVB still reads: each gives a warning with the new name.
#[test]
fn old_names_give_a_warning() {
    for (old, value, new) in [
        ("videobridge.cc.bwe-change-threshold-pct", "15", "videobridge.cc.bwe-change-threshold"),
        (
            "videobridge.cc.enable-onstage-video-suspend",
            "true",
            "videobridge.cc.allow-oversend-onstage",
        ),
        ("videobridge.cc.thumbnail-max-height-px", "180", "videobridge.cc.initial-max-height-px"),
        ("videobridge.websockets.domain", "meet.example.com", "videobridge.websockets.domains"),
        ("videobridge.octo.enabled", "true", "videobridge.relay.enabled"),
        ("videobridge.octo.region", "eu", "videobridge.relay.region"),
        ("videobridge.octo.relay-id", "one", "videobridge.relay.relay-id"),
        (
            "videobridge.websockets.relay-domain",
            "relay.example.com",
            "videobridge.websockets.relay-domains",
        ),
        ("jmt.bwe.google-cc.max-bw", "5 mbps", "jmt.bwe.estimator.max-bw"),
        ("jmt.bwe.google-cc.min-bw", "50 kbps", "jmt.bwe.estimator.min-bw"),
    ] {
        let all = warnings_of(&format!("{SANE}{old} = {value}\n"));
        let line = format!("jvb.conf:4: {old} is deprecated: write {new}");
        assert_eq!(all.iter().filter(|said| **said == line).count(), 1, "{all:#?}");
        let others = all.iter().filter(|said| **said != line);
        assert!(others.clone().all(|said| said.contains(old)), "{all:#?}");
        // The new name gives no warning.
        let value = if new.ends_with('s') { format!("[ {value} ]") } else { value.to_owned() };
        let all = warnings_of(&format!("{SANE}{new} = {value}\n"));
        assert!(!all.iter().any(|said| said.contains("deprecated")), "{all:#?}");
    }
    let thumbnail = load_text("videobridge.cc.thumbnail-max-height-px = 360\n".to_owned()).unwrap();
    let cc = &thumbnail.config.cc;
    assert_eq!((cc.initial_max_height, cc.default_max_height), (360, 360));
    let old = "videobridge.cc { bwe-change-threshold-pct = 20, enable-onstage-video-suspend = true }\n\
               jmt.bwe.google-cc { max-bw = 5 mbps, min-bw = 50 kbps }\n";
    let cc = load_text(old.to_owned()).unwrap().config.cc;
    assert!((cc.bwe_change_threshold - 0.2).abs() < 1e-9 && !cc.allow_oversend_onstage);
    assert_eq!((cc.bandwidth.max_bps, cc.bandwidth.min_bps), (5_000_000, 50_000));
    let domain = load_text("videobridge.websockets.domain = a.example.com\n".to_owned()).unwrap();
    assert_eq!(domain.config.web_sockets.domains, ["a.example.com"]);
}

/// JVB reads the old names first.
#[test]
fn octo_is_the_old_name_of_relays() {
    let relays = |text: &str| {
        let config = load_text(format!("videobridge {{ {text} }}\n")).unwrap().config;
        (config.relays, config.xmpp.region)
    };
    assert_eq!(relays("octo.enabled = true"), (true, None));
    assert_eq!(relays("octo.enabled = false, relay.enabled = true"), (false, None));
    assert_eq!(relays("octo.enabled = true, relay.enabled = false"), (true, None));
    assert_eq!(relays("octo.bind-address = 10.0.0.1, relay.enabled = true"), (true, None));
    assert_eq!(relays("octo.region = eu"), (false, Some("eu".to_owned())));
    assert_eq!(relays("octo.region = eu, relay.region = us").1.as_deref(), Some("eu"));
}
