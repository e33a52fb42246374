//! The keys that Rialto reads, each with the field of [`Config`] that it fills.

use super::{
    Config, Hash, HttpAccess, RedDistance, RedPolicy, WebSockets, capture, cc, component,
    load_management,
    reader::{Reader, SHORTEST_INTERVAL, scalar, wants_element},
    servers, xmpp,
};

/// More than any client can show or play.
const MAX_SSRC_LIMIT: u16 = 1_000;

/// Fills `config`, which holds the defaults.
pub(super) fn read(reader: &mut Reader<'_>, config: &mut Config) {
    ice(reader, config);
    harvest(reader, config);
    transport(reader, config);
    conferences(reader, config);
    http(reader, config);
    lifecycle(reader, config);
    // As in JVB, where one key defaults to the other.
    config.xmpp.presence_interval = config.stats.interval;
    config.xmpp.release.clone_from(&config.version.release);
    xmpp::read(reader, &mut config.xmpp);
    relays(reader, config);
    engine(reader, config);
}

fn ice(r: &mut Reader<'_>, config: &mut Config) {
    let c = &mut config.ice;
    r.integer("videobridge.ice.udp.port", &mut c.port, 0, u16::MAX);
    let what =
        "at most 237 characters that a ufrag may have (letters, digits, '+', '/') or '-', ':'";
    r.optional_text("videobridge.ice.ufrag-prefix", &mut c.ufrag_prefix, what, |text| {
        // The prefix, the rest of the local ufrag and a peer's longest ufrag must fit into STUN's USERNAME.
        text.len() <= 237
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/-:_.".contains(&b))
    });
    r.boolean("videobridge.ice.advertise-private-candidates", &mut c.advertise_private_candidates);
    r.boolean("videobridge.ice.resolve-remote-candidates", &mut c.resolve_remote_candidates);
    r.boolean("videobridge.ice.restart.enabled", &mut c.restart.enabled);
    r.duration("videobridge.ice.restart.transition-window", &mut c.restart.transition_window);
    r.duration("videobridge.ice.restart.timeout", &mut c.restart.timeout);
    let c = &mut c.consent;
    r.interval("ice4j.consent-freshness.interval", &mut c.interval);
    r.duration("ice4j.consent-freshness.original-wait-interval", &mut c.original_wait);
    r.duration("ice4j.consent-freshness.max-wait-interval", &mut c.max_wait);
    r.integer("ice4j.consent-freshness.max-retransmissions", &mut c.max_retransmissions, 0, 100);
    r.boolean("ice4j.consent-freshness.randomize-interval", &mut c.randomize_interval);
}

fn harvest(r: &mut Reader<'_>, config: &mut Config) {
    let c = &mut config.harvest;
    r.boolean("ice4j.harvest.use-ipv6", &mut c.use_ipv6);
    r.boolean("ice4j.harvest.use-link-local-addresses", &mut c.use_link_local);
    r.addresses("ice4j.harvest.allowed-addresses", &mut c.allowed_addresses);
    r.addresses("ice4j.harvest.blocked-addresses", &mut c.blocked_addresses);
    let name = |text: &str| {
        let odd = |c: char| c.is_control() || c.is_whitespace();
        (1..=64).contains(&text.len()) && !text.contains(odd)
    };
    let what = "names of interfaces";
    r.texts("ice4j.harvest.allowed-interfaces", &mut c.allowed_interfaces, what, name);
    r.texts("ice4j.harvest.blocked-interfaces", &mut c.blocked_interfaces, what, name);
    r.size("ice4j.harvest.udp.receive-buffer-size", &mut c.receive_buffer);
    r.mappings("ice4j.harvest.mapping.static-mappings", &mut c.static_mappings);
    let server = |text: &str| {
        !text.contains(char::is_whitespace)
            && text
                .rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
    };
    let what = "servers such as stun.example.com:3478";
    r.texts("ice4j.harvest.mapping.stun.addresses", &mut c.stun_servers, what, server);
    r.boolean("ice4j.harvest.mapping.aws.enabled", &mut c.aws);
    r.boolean("ice4j.harvest.mapping.aws.force", &mut c.aws_force);
}

fn transport(r: &mut Reader<'_>, config: &mut Config) {
    r.boolean("videobridge.sctp.enabled", &mut config.sctp.enabled);
    r.integer("videobridge.sctp.max-channels", &mut config.sctp.max_channels, 0, 65_535);
    let c = &mut config.dtls;
    r.duration("jmt.dtls.handshake-timeout", &mut c.handshake_timeout);
    // Clients refuse hash functions that are no longer safe.
    let ours = [Hash::Sha256, Hash::Sha384, Hash::Sha512].map(|hash| (hash.as_str(), hash));
    r.choice("jmt.dtls.local-fingerprint-hash-function", &mut c.local_fingerprint_hash, &ours);
    let what = "a list of sha-512, sha-384, sha-256, sha-1";
    r.list(
        "jmt.dtls.accepted-fingerprint-hash-functions",
        &mut c.accepted_fingerprint_hashes,
        what,
        |kind| scalar(kind).and_then(Hash::parse).ok_or_else(|| wants_element(what, kind)),
        |hash| hash.as_str(),
    );
    let profiles =
        ["SRTP_AEAD_AES_128_GCM", "SRTP_AEAD_AES_256_GCM", "SRTP_AES128_CM_HMAC_SHA1_80"];
    r.texts(
        "jmt.srtp.protection-profiles",
        &mut config.srtp.protection_profiles,
        &profiles.join(", "),
        |text| profiles.contains(&text),
    );
}

fn conferences(r: &mut Reader<'_>, config: &mut Config) {
    let c = &mut config.expiration;
    r.duration("videobridge.entity-expiration.timeout", &mut c.timeout);
    // As in JVB, where one key defaults to the other.
    c.check_interval = c.timeout.max(SHORTEST_INTERVAL);
    r.interval("videobridge.entity-expiration.check-interval", &mut c.check_interval);
    let c = &mut config.keyframe;
    r.duration("jmt.keyframe.min-interval", &mut c.min_interval);
    r.integer("jmt.keyframe.max-requests", &mut c.max_requests, 1, 1000);
    r.duration("jmt.keyframe.max-request-interval", &mut c.max_request_interval);
    r.duration("jmt.keyframe.source-wide-min-interval", &mut c.source_wide_min_interval);
    r.integer("jmt.keyframe.source-wide-max-requests", &mut c.source_wide_max_requests, 1, 1000);
    r.duration(
        "jmt.keyframe.source-wide-max-request-interval",
        &mut c.source_wide_max_request_interval,
    );
    let c = &mut config.audio_silence;
    r.boolean("jmt.audio.level.discard-silence", &mut c.discard);
    let key = "jmt.audio.level.forwarded-silence-packets-limit";
    r.integer(key, &mut c.forwarded, 0, 1_000_000);
    let c = &mut config.redundancy;
    let policies = [
        ("NOOP", RedPolicy::Noop),
        ("STRIP", RedPolicy::Strip),
        ("PROTECT_ALL", RedPolicy::ProtectAll),
    ];
    r.choice("jmt.audio.red.policy", &mut c.policy, &policies);
    let distances = [("ONE", RedDistance::One), ("TWO", RedDistance::Two)];
    r.choice("jmt.audio.red.distance", &mut c.distance, &distances);
    r.boolean("jmt.audio.red.vad-only", &mut c.vad_only);
    let c = &mut config.loudest;
    r.boolean("videobridge.loudest.route-loudest-only", &mut c.only);
    r.integer("videobridge.loudest.num-loudest", &mut c.speakers, 0, u8::MAX);
    r.boolean("videobridge.loudest.always-route-dominant", &mut c.dominant);
    r.duration("videobridge.loudest.energy-expire-time", &mut c.expires);
    r.integer("videobridge.loudest.energy-alpha-pct", &mut c.alpha, 0, 100);
    cc::read(r, &mut config.cc);
    let limit = &mut config.ssrc_limit;
    r.integer("videobridge.ssrc-limit.video", &mut limit.video, 1, MAX_SSRC_LIMIT);
    r.integer("videobridge.ssrc-limit.audio", &mut limit.audio, 1, MAX_SSRC_LIMIT);
    let threshold = &mut config.stats_filter_threshold;
    r.integer("videobridge.stats-filter-threshold", threshold, 0, 1_000_000);
    let key = "videobridge.speech-activity.recent-speakers-count";
    r.integer(key, &mut config.recent_speakers, 0, 1000);
    let c = &mut config.silence;
    r.boolean("videobridge.speech-activity.enable-silence-detection", &mut c.enabled);
    r.duration("videobridge.speech-activity.silence-detection-timeout", &mut c.timeout);
    let c = &mut config.connection_status;
    let key = "videobridge.ep-connection-status.first-transfer-timeout";
    r.duration(key, &mut c.first_transfer_timeout);
    r.duration("videobridge.ep-connection-status.max-inactivity-limit", &mut c.max_inactivity);
    r.interval("videobridge.ep-connection-status.check-interval", &mut c.check_interval);
}

fn http(r: &mut Reader<'_>, config: &mut Config) {
    servers::read(r, &servers::PRIVATE, &mut config.http);
    servers::read(r, &servers::PUBLIC, &mut config.public_http);
    config.web_sockets.tls = config.public_http.tls.key_store.is_some();
    web_sockets(r, &mut config.web_sockets);
    let c = &mut config.rest;
    r.boolean("videobridge.apis.rest.enabled", &mut c.colibri);
    r.boolean("videobridge.rest.debug.enabled", &mut c.debug);
    r.boolean("videobridge.rest.drain.enabled", &mut c.drain);
    r.boolean("videobridge.rest.health.enabled", &mut c.health);
    r.boolean("videobridge.rest.prometheus.enabled", &mut c.prometheus);
    r.boolean("videobridge.rest.rtcstats.enabled", &mut c.rtcstats);
    r.boolean("videobridge.rest.shutdown.enabled", &mut c.shutdown);
    r.boolean("videobridge.rest.version.enabled", &mut c.version);
    r.boolean("videobridge.stats.transit-time.enable-prometheus", &mut c.transit_times);
    http_access(r, &mut config.http_access);
}

fn http_access(r: &mut Reader<'_>, c: &mut HttpAccess) {
    // The file is read first, so that a token in the configuration overrides it.
    let token = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    r.secret_file("rialto.http.token-file", &mut c.token, "RIALTO_HTTP_TOKEN", token);
    r.secret_of("rialto.http.token", &mut c.token, token);
    let what = "names such as bridge.example.com, without a port";
    r.texts("rialto.http.hosts", &mut c.hosts, what, |text| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        (1..=253).contains(&text.len()) && text.bytes().all(plain)
    });
}

fn web_sockets(r: &mut Reader<'_>, c: &mut WebSockets) {
    r.boolean("videobridge.websockets.enabled", &mut c.enabled);
    let segment = |text: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
        (1..=128).contains(&text.len()) && text.bytes().all(plain)
    };
    let what = "at most 128 letters, digits, '-', '.', '_' or '~'";
    r.text("videobridge.websockets.server-id", &mut c.server_id, what, segment);
    let authority = |text: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-.:[]_".contains(&b);
        (1..=255).contains(&text.len()) && text.bytes().all(plain)
    };
    let what = "a host, with a port if need be";
    // The older key holds one domain; JVB reads it when the list is empty.
    let mut domain = None;
    r.optional_text("videobridge.websockets.domain", &mut domain, what, authority);
    let what = "hosts, with ports if need be";
    r.texts("videobridge.websockets.domains", &mut c.domains, what, authority);
    if c.domains.is_empty() {
        c.domains.extend(domain);
    }
    r.boolean("videobridge.websockets.tls", &mut c.tls);
    r.boolean("videobridge.websockets.send-keepalive-pings", &mut c.pings);
    r.interval("videobridge.websockets.keepalive-ping-interval", &mut c.ping_interval);
    r.duration("videobridge.websockets.idle-timeout", &mut c.idle_timeout);
}

fn lifecycle(r: &mut Reader<'_>, config: &mut Config) {
    let c = &mut config.health;
    r.interval("videobridge.health.interval", &mut c.interval);
    r.duration("videobridge.health.timeout", &mut c.timeout);
    r.duration("videobridge.health.max-check-duration", &mut c.max_check_duration);
    r.boolean("videobridge.health.sticky-failures", &mut c.sticky_failures);
    r.boolean("videobridge.health.require-valid-address", &mut c.require_valid_address);
    r.boolean("videobridge.health.require-stun", &mut c.require_stun);
    let c = &mut config.shutdown;
    let key = "videobridge.shutdown.graceful-shutdown-max-duration";
    r.duration(key, &mut c.graceful_max_duration);
    let key = "videobridge.shutdown.graceful-shutdown-min-participants";
    r.integer(key, &mut c.graceful_min_participants, 0, 1_000_000);
    r.duration("videobridge.shutdown.shutting-down-delay", &mut c.shutting_down_delay);
    let c = &mut config.version;
    r.boolean("videobridge.version.announce", &mut c.announce);
    r.optional_text("videobridge.version.release", &mut c.release, "a short text", |text| {
        text.len() <= 256 && !text.contains(char::is_control)
    });
    r.interval("videobridge.stats.interval", &mut config.stats.interval);
    component::transports(r, &mut config.stats.transports);
    load_management::read(r, &mut config.load);
    capture::read(r, &mut config.capture);
    r.boolean("videobridge.initial-drain-mode", &mut config.initial_drain_mode);
    r.boolean("videobridge.redact-remote-addresses", &mut config.redact_remote_addresses);
}

fn relays(r: &mut Reader<'_>, config: &mut Config) {
    let (key, old_key) = ("videobridge.relay.enabled", "videobridge.octo.enabled");
    r.boolean(key, &mut config.relays);
    let new = config.relays;
    // The old name takes precedence, as in JVB.
    r.boolean(old_key, &mut config.relays);
    if config.relays && config.xmpp.announced_version.is_some() {
        let relays = if new { key } else { old_key };
        let key = "rialto.announced-version";
        let what = format!(
            "cannot stand beside {relays} = true: a focus would put this bridge and a JVB into one \
             conference, which takes relays between them, and there are none here yet. Without this \
             key it keeps each conference on bridges of one kind"
        );
        r.mistake(key, key, &what);
    }
}

fn engine(r: &mut Reader<'_>, config: &mut Config) {
    let c = &mut config.engine;
    r.shards("rialto.shards", &mut c.shards);
    r.boolean("rialto.engine.gso", &mut c.gso);
    r.boolean("rialto.engine.gro", &mut c.gro);
    // One size for both directions, unless configured otherwise.
    c.socket_buffer = config.harvest.receive_buffer;
    r.size("rialto.engine.socket-buffer", &mut c.socket_buffer);
    r.duration("rialto.engine.video-hold", &mut c.video_hold);
    r.duration("rialto.engine.audio-hold", &mut c.audio_hold);
    r.integer("rialto.max-conferences", &mut c.max_conferences, 1, 1_000_000);
    r.integer("rialto.max-endpoints", &mut c.max_endpoints, 1, 1_000_000);
    r.duration("rialto.sigterm-drain", &mut c.sigterm_drain);
    let key = "rialto.tracing.otlp-endpoint";
    r.otlp_endpoint(key, &mut config.tracing.otlp_endpoint);
}
