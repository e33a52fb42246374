//! Keys of a `jvb.conf` that have no effect in Rialto, with the reasons.

use rialto_hocon::Kind;

use super::units;

/// Why a key has no effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NoEffect {
    /// JVB has the feature; Rialto does not yet.
    NotImplemented(&'static str),
    /// The key has no meaning in Rialto.
    NotApplicable(&'static str),
    /// JVB used to read the key, and now ignores it too.
    Obsolete(&'static str),
}

use NoEffect::{NotApplicable, NotImplemented, Obsolete};

/// Returns why `key`, or the innermost listed section that contains it, has no effect.
pub(super) fn no_effect(key: &str) -> Option<NoEffect> {
    no_effect_exact(key).or_else(|| {
        let found = NO_EFFECT.iter().filter(|(section, _)| is_inside(key, section));
        found.max_by_key(|(section, _)| section.len()).map(|(_, why)| *why)
    })
}

/// Returns whether `key` is inside `section`.
pub(super) fn is_inside(key: &str, section: &str) -> bool {
    key.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'))
}

/// Returns why exactly this key has no effect. Other keys of its section that Rialto reads do have one.
pub(super) fn no_effect_exact(key: &str) -> Option<NoEffect> {
    NO_EFFECT.iter().find(|(known, _)| *known == key).map(|(_, why)| *why)
}

/// Returns whether two spellings of a value mean the same, as far as that can be decided without knowing
/// the key's type.
pub(super) fn alike(one: &Kind, other: &Kind) -> bool {
    match (one, other) {
        (Kind::Text(one), Kind::Text(other)) => {
            fn equal<T: PartialEq>(one: &str, other: &str, read: fn(&str) -> Option<T>) -> bool {
                read(one).is_some_and(|value| read(other) == Some(value))
            }
            one.trim() == other.trim()
                || equal(one, other, units::boolean)
                || equal(one, other, units::duration)
                || equal(one, other, units::bandwidth)
                || equal(one, other, units::fraction)
        }
        (Kind::Array(one), Kind::Array(other)) => {
            one.len() == other.len()
                && one.iter().zip(other).all(|(one, other)| alike(&one.kind, &other.kind))
        }
        (one, other) => one == other,
    }
}

/// Returns the known key most similar to `key`, if any is similar enough.
pub(super) fn nearest<'a>(key: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Longer than any key, so nothing is similar, and the comparison is quadratic.
    if key.len() > 128 {
        return None;
    }
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    known
        .filter(|known| *known != key)
        .map(|known| {
            // The right name in a wrong section is as likely as a misspelt one.
            let distance = distance(key, known);
            let same_name = last(key) == last(known);
            (if same_name { distance.min(3) } else { distance }, distance, known)
        })
        .min()
        .filter(|(likeness, _, known)| *likeness <= 3.max(known.len() / 8))
        .map(|(_, _, known)| known)
}

/// The edit distance: insertions, removals and substitutions that turn one text into the other.
pub(super) fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.chars().count()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = row.first_mut().map_or(0, |first| std::mem::replace(first, i + 1));
        let mut before = i + 1;
        for (cell, b) in row.iter_mut().skip(1).zip(right.chars()) {
            let change = diagonal + usize::from(a != b);
            diagonal = *cell;
            before = change.min(before + 1).min(diagonal + 1);
            *cell = before;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// Returns whether a key without effect is set to what Rialto does in any case, though that is not JVB's
/// default: container images write such values.
pub(super) fn asks_for_actual_behaviour(key: &str, value: &Kind) -> bool {
    let asks = ACTUAL_BEHAVIOUR.iter().find(|(known, _)| *known == key);
    asks.is_some_and(|(_, text)| alike(value, &Kind::Text((*text).to_owned())))
}

/// Returns every key and section without effect.
pub(super) fn no_effect_keys() -> impl Iterator<Item = &'static str> {
    NO_EFFECT.iter().map(|(key, _)| *key)
}

/// Returns the keys without effect that hold values, for suggestions: a misspelt key with a value was never
/// meant to be a section.
pub(super) fn no_effect_values() -> impl Iterator<Item = &'static str> {
    no_effect_keys().filter(|key| !SECTIONS.contains(key))
}

/// Returns the new name of a key that JVB still reads under its deprecated name.
pub(super) fn renamed(key: &str) -> Option<&'static str> {
    RENAMED.iter().find(|(old, _)| *old == key).map(|(_, new)| *new)
}

const RENAMED: [(&str, &str); 10] = [
    ("jmt.bwe.google-cc.max-bw", "jmt.bwe.estimator.max-bw"),
    ("jmt.bwe.google-cc.min-bw", "jmt.bwe.estimator.min-bw"),
    ("videobridge.cc.bwe-change-threshold-pct", "videobridge.cc.bwe-change-threshold"),
    ("videobridge.cc.enable-onstage-video-suspend", "videobridge.cc.allow-oversend-onstage"),
    ("videobridge.cc.thumbnail-max-height-px", "videobridge.cc.initial-max-height-px"),
    ("videobridge.octo.enabled", "videobridge.relay.enabled"),
    ("videobridge.octo.region", "videobridge.relay.region"),
    ("videobridge.octo.relay-id", "videobridge.relay.relay-id"),
    ("videobridge.websockets.domain", "videobridge.websockets.domains"),
    ("videobridge.websockets.relay-domain", "videobridge.websockets.relay-domains"),
];

const ACTUAL_BEHAVIOUR: [(&str, &str); 5] = [
    ("ice4j.harvest.mapping.stun.enabled", "false"),
    ("videobridge.http-servers.private.send-server-version", "false"),
    ("videobridge.http-servers.public.send-server-version", "false"),
    ("videobridge.sctp.use-usrsctp", "false"),
    ("videobridge.stats.enabled", "true"),
];

const ONE_PORT: &str = "all media uses the sockets of one port";
const RELAYS: &str = "there are no relays between bridges";
const ESTIMATOR: &str = "there is one estimator, which goes by its own constants";
const HEALTH: &str = "health is what threads and rooms say at the moment that it is asked for";
const QUEUES: &str = "packets do not wait in queues between threads";

/// Keys and sections without effect, sorted.
const NO_EFFECT: [(&str, NoEffect); 51] = [
    (
        "ice4j.consent-freshness.randomize-interval",
        NotApplicable("the intervals of endpoints differ by up to a fifth in any case"),
    ),
    ("ice4j.harvest.mapping.stun.enabled", Obsolete("an empty list of addresses switches it off")),
    ("ice4j.harvest.timeout", NotApplicable("who is asked for a public address has 3 s to answer")),
    ("ice4j.harvest.udp.socket-pool-size", NotApplicable(ONE_PORT)),
    ("ice4j.harvest.udp.use-dynamic-ports", NotApplicable(ONE_PORT)),
    (
        "ice4j.ice.max-check-list-size",
        NotApplicable("the ICE agent bounds its list of pairs itself"),
    ),
    (
        "ice4j.ice.termination-delay",
        NotApplicable("an agent that has a pair goes on answering checks"),
    ),
    (
        "ice4j.redact-remote-addresses",
        NotApplicable("videobridge.redact-remote-addresses decides for all logs"),
    ),
    (
        "ice4j.send-to-last-received-from-address",
        NotApplicable("media goes where consent was given"),
    ),
    ("ice4j.software", NotApplicable("STUN messages do not name the software")),
    ("ice4j.use-component-socket", NotApplicable(ONE_PORT)),
    ("jmt.bwe", NotApplicable(ESTIMATOR)),
    ("jmt.debug.packet-loss", NotImplemented("packets are not lost on purpose")),
    ("jmt.debug.packet-timeline", NotImplemented("there is no such log")),
    (
        "jmt.debug.payload-verification",
        NotApplicable("payloads are not copied between processing steps"),
    ),
    (
        "jmt.dtls.cipher-suites",
        NotApplicable("the DTLS library has AEAD suites with forward secrecy only"),
    ),
    ("jmt.rtp.bitrate-calculator", NotApplicable("bitrates are measured over seconds")),
    (
        "jmt.srtp.factory-class",
        NotApplicable("there is one implementation of SRTP, and no Java class"),
    ),
    (
        "jmt.srtp.max-consecutive-packets-discarded-early",
        NotApplicable("of a muted source one packet in 1024 is decrypted, which keeps its counter"),
    ),
    (
        "jmt.srtp.protection-profiles",
        NotImplemented(
            "the DTLS library offers AES-GCM and AES-CM, and takes the better that both have",
        ),
    ),
    ("jmt.transceiver", NotApplicable(QUEUES)),
    ("tracing", NotImplemented("traces are not exported")),
    ("videobridge.apis.xmpp-client.enabled", Obsolete("the clients in configs are what there is")),
    ("videobridge.apis.xmpp-client.jid-cache-size", NotApplicable("JIDs are not cached")),
    ("videobridge.cc.initial-ignore-bwe-period", NotApplicable(ESTIMATOR)),
    (
        "videobridge.cc.padding-period",
        NotApplicable("probes go out as the estimator asks for them"),
    ),
    ("videobridge.cryptex", NotImplemented("header extensions are not encrypted (RFC 9335)")),
    ("videobridge.exporter", NotImplemented("media is not exported")),
    ("videobridge.health.interval", NotApplicable(HEALTH)),
    ("videobridge.health.max-check-duration", NotApplicable(HEALTH)),
    (
        "videobridge.http-servers.private.send-server-version",
        NotApplicable("answers do not name the server"),
    ),
    (
        "videobridge.http-servers.public.send-server-version",
        NotApplicable("answers do not name the server"),
    ),
    (
        "videobridge.ice.keep-alive-strategy",
        NotApplicable("consent is checked on the selected pair"),
    ),
    (
        "videobridge.ice.nomination-strategy",
        NotApplicable("the best pair that works is nominated, and a better one later"),
    ),
    ("videobridge.ice.tcp", Obsolete("there is no ICE over TCP")),
    ("videobridge.octo", Obsolete("videobridge.relay is its name now")),
    ("videobridge.octo.enabled", NotImplemented(RELAYS)),
    ("videobridge.octo.relay-id", NotImplemented(RELAYS)),
    (
        "videobridge.redact-colibri-http-headers",
        NotApplicable("headers of HTTP requests are never logged"),
    ),
    ("videobridge.relay", NotImplemented(RELAYS)),
    ("videobridge.relay.enabled", NotImplemented(RELAYS)),
    ("videobridge.sctp.max-channels", NotApplicable("nothing would be spoken in a second channel")),
    ("videobridge.sctp.use-usrsctp", Obsolete("there is one implementation of SCTP")),
    ("videobridge.stats.enabled", Obsolete("there are always statistics")),
    ("videobridge.stats.jvm.enabled", NotApplicable("there is no JVM")),
    (
        "videobridge.stats.transit-time.enable-jitter",
        NotImplemented("jitter that the bridge adds is not measured"),
    ),
    (
        "videobridge.stats.transit-time.enable-json",
        NotApplicable("transit times are always measured"),
    ),
    ("videobridge.transport.send.queue-size", NotApplicable(QUEUES)),
    (
        "videobridge.websockets.enable-compression",
        NotApplicable("the WebSocket library has no compression"),
    ),
    ("videobridge.websockets.relay-domain", NotImplemented(RELAYS)),
    ("videobridge.websockets.relay-domains", NotImplemented(RELAYS)),
];

/// The entries of `NO_EFFECT` that are sections.
const SECTIONS: [&str; 12] = [
    "jmt.bwe",
    "jmt.debug.packet-loss",
    "jmt.debug.packet-timeline",
    "jmt.debug.payload-verification",
    "jmt.rtp.bitrate-calculator",
    "jmt.transceiver",
    "tracing",
    "videobridge.cryptex",
    "videobridge.exporter",
    "videobridge.ice.tcp",
    "videobridge.octo",
    "videobridge.relay",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_known_ones() {
        assert!(SECTIONS.iter().all(|section| no_effect_exact(section).is_some()));
    }

    #[test]
    fn keys_are_sorted_into_their_kinds() {
        assert!(NO_EFFECT.is_sorted_by_key(|(key, _)| *key));
        assert_eq!(no_effect("videobridge.relay.relay-id"), Some(NotImplemented(RELAYS)));
        assert_eq!(no_effect("videobridge.relay.enabled"), Some(NotImplemented(RELAYS)));
        assert_eq!(no_effect("videobridge.relays"), None);
        assert_eq!(no_effect_exact("videobridge.relay.relay-id"), None);
        assert_eq!(no_effect("videobridge.apis.xmpp-client.configs.a.HOST"), None);
        assert!(matches!(no_effect("videobridge.stats.enabled"), Some(Obsolete(_))));
    }

    #[test]
    fn the_nearest_key_is_named() {
        let known =
            ["videobridge.ice.udp.port", "videobridge.stats.interval", "videobridge.relay.enabled"];
        let nearest = |key| nearest(key, known.into_iter());
        assert_eq!(nearest("videobridge.ice.udp.prot"), Some("videobridge.ice.udp.port"));
        assert_eq!(nearest("videobridge.relay.enable"), Some("videobridge.relay.enabled"));
        assert_eq!(nearest("stats.interval"), Some("videobridge.stats.interval"));
        assert_eq!(nearest("my.own.thing"), None);
        assert_ne!(nearest("videobridge.stats.interval"), Some("videobridge.stats.interval"));
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn values_that_mean_the_same_are_alike() {
        let alike =
            |one: &str, other: &str| alike(&Kind::Text(one.into()), &Kind::Text(other.into()));
        assert!(alike("90 seconds", "1.5 min") || alike("90 seconds", "1.5 minutes"));
        assert!(alike("yes", "true") && alike("20 mbps", "20000 kbps") && alike("0 %", "0"));
        assert!(!alike("1", "2") && !alike("a", "b") && !alike("true", "false"));
    }
}
