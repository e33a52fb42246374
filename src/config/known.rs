//! Keys of a `jvb.conf` that Rialto does not read, and what to say about them.

use std::collections::BTreeSet;

/// What is known about a key that nothing read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unread {
    /// JVB reads it; Rialto does not yet.
    NotYet,
    /// JVB once read it. It does nothing there either.
    Obsolete,
    /// Nobody knows it.
    Unknown,
}

/// Sorts a key that nothing read.
pub(super) fn classify(key: &str) -> Unread {
    if OBSOLETE.contains(&key) {
        Unread::Obsolete
    } else if NOT_YET.binary_search(&key).is_ok()
        || NOT_YET_SECTIONS.iter().any(|section| key.starts_with(section))
    {
        Unread::NotYet
    } else {
        Unread::Unknown
    }
}

/// Whether nothing uses the value of a key that is read.
pub(super) fn is_inert(key: &str) -> bool {
    INERT.contains(&key)
}

/// The known key that looks most like `key`, if one looks like it at all.
pub(super) fn nearest(key: &str, read: &BTreeSet<&'static str>) -> Option<&'static str> {
    // Longer than any key: nothing is near, and the comparison is quadratic.
    if key.len() > 128 {
        return None;
    }
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    read.iter()
        .copied()
        .chain(NOT_YET.iter().copied())
        .map(|known| {
            // The right name in the wrong section is as likely as a misspelt one.
            let distance = distance(key, known);
            let same_name = last(key) == last(known);
            (if same_name { distance.min(3) } else { distance }, distance, known)
        })
        .min()
        .filter(|(likeness, _, known)| *likeness <= 3.max(known.len() / 8))
        .map(|(_, _, known)| known)
}

/// Insertions, removals and changes that turn one text into the other.
fn distance(left: &str, right: &str) -> usize {
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

/// Written by old packages and by docker-jitsi-meet; no effect on a current JVB.
const OBSOLETE: [&str; 6] = [
    "ice4j.harvest.mapping.stun.enabled",
    "videobridge.apis.xmpp-client.enabled",
    "videobridge.ice.tcp.enabled",
    "videobridge.ice.tcp.port",
    "videobridge.sctp.use-usrsctp",
    "videobridge.stats.enabled",
];

/// Keys that are read and checked, and whose values nothing uses yet: anything but the default has no
/// effect.
const INERT: [&str; 16] = [
    "ice4j.consent-freshness.randomize-interval",
    "jmt.dtls.accepted-fingerprint-hash-functions",
    "jmt.dtls.local-fingerprint-hash-function",
    "jmt.keyframe.max-request-interval",
    "jmt.keyframe.max-requests",
    "jmt.keyframe.min-interval",
    "jmt.keyframe.source-wide-max-request-interval",
    "jmt.keyframe.source-wide-max-requests",
    "jmt.keyframe.source-wide-min-interval",
    "jmt.srtp.protection-profiles",
    "videobridge.health.interval",
    "videobridge.health.max-check-duration",
    "videobridge.health.require-valid-address",
    "videobridge.health.sticky-failures",
    "videobridge.health.timeout",
    "videobridge.sctp.max-channels",
];

/// Sections whose keys the operator names.
const NOT_YET_SECTIONS: [&str; 1] = ["videobridge.load-management.conference-last-n-limits."];

/// Every other key of JVB, jitsi-media-transform and ice4j, sorted.
const NOT_YET: [&str; 128] = [
    "ice4j.harvest.timeout",
    "ice4j.harvest.udp.socket-pool-size",
    "ice4j.harvest.udp.use-dynamic-ports",
    "ice4j.ice.max-check-list-size",
    "ice4j.ice.termination-delay",
    "ice4j.redact-remote-addresses",
    "ice4j.send-to-last-received-from-address",
    "ice4j.software",
    "ice4j.use-component-socket",
    "jmt.audio.level.discard-silence",
    "jmt.audio.level.forwarded-silence-packets-limit",
    "jmt.audio.red.distance",
    "jmt.audio.red.policy",
    "jmt.audio.red.vad-only",
    "jmt.bwe.estimator.GoogleCc.default-bucket-size",
    "jmt.bwe.estimator.GoogleCc.default-initial-ignore-bwe-period",
    "jmt.bwe.estimator.GoogleCc.default-window-size",
    "jmt.bwe.estimator.GoogleCc2.default-bucket-size",
    "jmt.bwe.estimator.GoogleCc2.default-initial-ignore-bwe-period",
    "jmt.bwe.estimator.GoogleCc2.default-window-size",
    "jmt.bwe.estimator.engine",
    "jmt.bwe.estimator.initial-bw",
    "jmt.bwe.estimator.max-bw",
    "jmt.bwe.estimator.min-bw",
    "jmt.bwe.overuse-detector.initial-threshold",
    "jmt.bwe.overuse-detector.overusing-time-threshold",
    "jmt.bwe.send-side.bitrate-threshold",
    "jmt.bwe.send-side.high-loss-threshold",
    "jmt.bwe.send-side.loss-experiment.bitrate-threshold",
    "jmt.bwe.send-side.loss-experiment.high-loss-threshold",
    "jmt.bwe.send-side.loss-experiment.low-loss-threshold",
    "jmt.bwe.send-side.loss-experiment.probability",
    "jmt.bwe.send-side.low-loss-threshold",
    "jmt.bwe.send-side.timeout-experiment.probability",
    "jmt.debug.packet-loss.incoming.burst-interval",
    "jmt.debug.packet-loss.incoming.burst-size",
    "jmt.debug.packet-loss.incoming.uniform-rate",
    "jmt.debug.packet-loss.outgoing.burst-interval",
    "jmt.debug.packet-loss.outgoing.burst-size",
    "jmt.debug.packet-loss.outgoing.uniform-rate",
    "jmt.debug.packet-timeline.enabled",
    "jmt.debug.packet-timeline.log-fraction",
    "jmt.debug.payload-verification.enabled",
    "jmt.debug.pcap.directory",
    "jmt.debug.pcap.enabled",
    "jmt.debug.pcap.start-enabled",
    "jmt.dtls.cipher-suites",
    "jmt.rtp.bitrate-calculator.bucket-size",
    "jmt.rtp.bitrate-calculator.window-size",
    "jmt.srtp.factory-class",
    "jmt.srtp.max-consecutive-packets-discarded-early",
    "jmt.transceiver.recv.queue-size",
    "jmt.transceiver.send.queue-size",
    "tracing.enabled",
    "tracing.service-name",
    "videobridge.apis.xmpp-client.jid-cache-size",
    "videobridge.cc.allow-oversend-onstage",
    "videobridge.cc.assumed-bandwidth-limit",
    "videobridge.cc.bwe-change-threshold",
    "videobridge.cc.bwe-change-threshold-pct",
    "videobridge.cc.enable-onstage-video-suspend",
    "videobridge.cc.initial-ignore-bwe-period",
    "videobridge.cc.max-oversend-bitrate",
    "videobridge.cc.max-time-between-calculations",
    "videobridge.cc.onstage-preferred-framerate",
    "videobridge.cc.onstage-preferred-height-px",
    "videobridge.cc.padding-period",
    "videobridge.cc.trust-bwe",
    "videobridge.cc.use-vla-target-bitrate",
    "videobridge.connection-stats.enabled",
    "videobridge.connection-stats.interval",
    "videobridge.cryptex.endpoint",
    "videobridge.cryptex.relay",
    "videobridge.ep-connection-status.check-interval",
    "videobridge.ep-connection-status.first-transfer-timeout",
    "videobridge.ep-connection-status.max-inactivity-limit",
    "videobridge.exporter.base-delay",
    "videobridge.exporter.max-delay",
    "videobridge.exporter.max-reconnect-attempts",
    "videobridge.exporter.stable-connection-threshold",
    "videobridge.health.require-stun",
    "videobridge.http-servers.private.key-store-password",
    "videobridge.http-servers.private.key-store-path",
    "videobridge.http-servers.private.need-client-auth",
    "videobridge.http-servers.private.send-server-version",
    "videobridge.http-servers.private.tls-cipher-suites",
    "videobridge.http-servers.private.tls-port",
    "videobridge.http-servers.private.tls-protocols",
    "videobridge.http-servers.public.key-store-password",
    "videobridge.http-servers.public.key-store-path",
    "videobridge.http-servers.public.need-client-auth",
    "videobridge.http-servers.public.send-server-version",
    "videobridge.http-servers.public.tls-cipher-suites",
    "videobridge.http-servers.public.tls-port",
    "videobridge.http-servers.public.tls-protocols",
    "videobridge.ice.keep-alive-strategy",
    "videobridge.ice.nomination-strategy",
    "videobridge.load-management.conference-last-n-limits",
    "videobridge.load-management.load-measurements.cpu-usage.recovery-threshold",
    "videobridge.load-management.load-measurements.packet-rate.recovery-threshold",
    "videobridge.load-management.load-reducers.last-n.impact-time",
    "videobridge.load-management.load-reducers.last-n.maximum-enforced-last-n-value",
    "videobridge.load-management.load-reducers.last-n.minimum-last-n-value",
    "videobridge.load-management.load-reducers.last-n.recover-scale",
    "videobridge.load-management.load-reducers.last-n.reduction-scale",
    "videobridge.load-management.reducer-enabled",
    "videobridge.loudest.always-route-dominant",
    "videobridge.loudest.energy-alpha-pct",
    "videobridge.loudest.energy-expire-time",
    "videobridge.loudest.num-loudest",
    "videobridge.loudest.route-loudest-only",
    "videobridge.redact-colibri-http-headers",
    "videobridge.relay.enabled",
    "videobridge.relay.relay-id",
    "videobridge.rest.rtcstats.enabled",
    "videobridge.speech-activity.enable-silence-detection",
    "videobridge.speech-activity.recent-speakers-count",
    "videobridge.speech-activity.silence-detection-timeout",
    "videobridge.ssrc-limit.audio",
    "videobridge.ssrc-limit.video",
    "videobridge.stats.jvm.enabled",
    "videobridge.stats.transit-time.enable-jitter",
    "videobridge.stats.transit-time.enable-json",
    "videobridge.stats.transit-time.enable-prometheus",
    "videobridge.transport.send.queue-size",
    "videobridge.websockets.enable-compression",
    "videobridge.websockets.relay-domain",
    "videobridge.websockets.relay-domains",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted_into_their_kinds() {
        assert!(NOT_YET.is_sorted());
        assert_eq!(classify("videobridge.relay.enabled"), Unread::NotYet);
        assert_eq!(classify("videobridge.apis.xmpp-client.configs.a.HOST"), Unread::Unknown);
        assert_eq!(classify("videobridge.stats.enabled"), Unread::Obsolete);
        assert_eq!(classify("videobridge.stts.interval"), Unread::Unknown);
    }

    #[test]
    fn the_nearest_key_is_named() {
        let read = BTreeSet::from(["videobridge.ice.udp.port", "videobridge.stats.interval"]);
        assert_eq!(nearest("videobridge.ice.udp.prot", &read), Some("videobridge.ice.udp.port"));
        assert_eq!(nearest("videobridge.relay.enable", &read), Some("videobridge.relay.enabled"));
        assert_eq!(nearest("stats.interval", &read), Some("videobridge.stats.interval"));
        assert_eq!(nearest("my.own.thing", &read), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
