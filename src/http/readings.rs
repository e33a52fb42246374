//! Maps statistics to metric names for `/metrics`.
//!
//! The names are JVB's. A metric of something that cannot happen in this version is 0, so that dashboards
//! and alarms made for JVB keep working; metrics that have no meaning here are left out (`docs/metrics.md`
//! says why).

use crate::{
    bridge::BridgeStats,
    stats::{Mucs, Number, Process},
    telemetry::SPANS,
};

/// A metric of `S`: its name without prefix and `_total`.
pub(super) struct Metric<S = BridgeStats> {
    pub name: &'static str,
    pub help: &'static str,
    pub counter: bool,
    pub read: fn(&S) -> Number,
}

macro_rules! metrics {
    ($source:ty: $($kind:ident $name:literal, $help:literal, $read:expr;)*) => {
        &[$(Metric {
            name: $name,
            help: $help,
            counter: metrics!(@$kind),
            read: |s: &$source| { let read: fn(&$source) -> _ = $read; Number::from(read(s)) },
        }),*]
    };
    (@counter) => { true };
    (@gauge) => { false };
}

/// The value of metrics of features that this version lacks.
const NONE: u64 = 0;

/// Prefixed `jitsi_jvb_`.
pub(super) const JVB: &[Metric] = metrics! {
    BridgeStats:
    gauge "healthy", "Whether the bridge is healthy (1) or not (0)", |s| s.healthy;
    gauge "drain_mode", "Whether the bridge asks focuses to place new conferences elsewhere (1) or not (0)", |s| s.drain;
    gauge "graceful_shutdown", "Whether a graceful shutdown is in progress, in which the bridge refuses new conferences (1) or not (0)", |s| s.graceful_shutdown;
    gauge "stress", "Load of the bridge as a fraction of its capacity; above 1 it is overloaded", |s| s.stress_level;
    gauge "shutting_down", "Whether the bridge has announced that it is about to stop (1) or not (0)", |s| s.shutting_down;
    gauge "conferences", "Number of conferences", |s| s.conferences;
    gauge "conferences_inactive", "Number of conferences in which no endpoint sends media", |s| s.inactive_conferences;
    gauge "conferences_p2p", "Number of conferences with two endpoints, neither of which sends media", |s| s.p2p_conferences;
    gauge "largest_conference", "Number of endpoints in the largest conference", |s| s.largest_conference;
    counter "conferences_created", "Conferences created", |s| s.total_conferences_created;
    counter "conferences_completed", "Conferences ended", |s| s.total_conferences_completed;
    counter "conference_seconds", "Total duration of the conferences that have ended, in seconds", |s| s.total_conference_seconds;
    gauge "current_endpoints", "Number of endpoints", |s| s.endpoints;
    gauge "local_endpoints", "Number of endpoints connected to this bridge", |s| s.endpoints;
    gauge "active_endpoints", "Number of endpoints in conferences in which an endpoint sends media", |s| s.local_active_endpoints;
    gauge "endpoints_inactive", "Number of endpoints in conferences in which no endpoint sends media", |s| s.inactive_endpoints;
    gauge "endpoints_recvonly", "Number of endpoints that send no media", |s| s.receive_only_endpoints;
    gauge "endpoints_sending_audio", "Number of endpoints that send audio", |s| s.endpoints_sending_audio;
    gauge "endpoints_sending_video", "Number of endpoints that send video", |s| s.endpoints_sending_video;
    gauge "endpoints_with_high_outgoing_loss", "Number of endpoints that lose more than 10 % of the packets sent to them", |s| s.endpoints_with_high_outgoing_loss;
    gauge "current_visitors", "Number of visitors", |s| s.visitors;
    counter "endpoints", "Endpoints created", |s| s.total_participants;
    counter "visitors", "Visitors created", |s| s.total_visitors;
    counter "endpoints_disconnected", "Times an endpoint stopped sending anything", |s| s.endpoints_disconnected;
    counter "endpoints_reconnected", "Times an endpoint resumed sending after it had stopped", |s| s.endpoints_reconnected;
    counter "endpoints_dtls_failed", "Endpoints whose DTLS handshake failed", |s| s.dtls_failed_endpoints;
    counter "endpoints_ice_failed", "Endpoints whose ICE failed", |s| s.endpoints_ice_failed;
    counter "endpoints_no_message_transport_after_delay", "Endpoints without a bridge channel 30 seconds after their creation", |s| s.num_eps_no_msg_transport_after_delay;
    gauge "endpoints_oversending", "Number of endpoints that the bridge deliberately sends more than the estimate of their link", |s| s.num_eps_oversending;
    gauge "endpoints_relayed", "Number of endpoints on other bridges. Always 0: this version has no relays", |_| NONE;
    gauge "endpoints_with_spurious_remb", "Number of endpoints that sent a bitrate estimate (REMB) without having negotiated it", |s| s.engine.spurious_rembs;
    gauge "endpoints_with_suspended_sources", "Number of endpoints for which the bridge suspended videos because their link is too slow", |s| s.endpoints_with_suspended_sources;
    gauge "conferences_with_relay", "Number of conferences with relays. Always 0: this version has no relays", |_| NONE;
    counter "dominant_speaker_changes", "Changes of the dominant speaker", |s| s.total_dominant_speaker_changes;
    gauge "cpu_steal", "Fraction of CPU time that the hypervisor gave to other machines", |s| s.cpu_steal;
    gauge "incoming_bitrate", "Bitrate of received RTP, bit/s", |s| s.receive_bps;
    gauge "outgoing_bitrate", "Bitrate of sent RTP, bit/s", |s| s.send_bps;
    gauge "incoming_packet_rate", "RTP packets received per second", |s| s.packet_rate_download;
    gauge "outgoing_packet_rate", "RTP packets sent per second", |s| s.packet_rate_upload;
    gauge "incoming_loss_fraction", "Fraction of packets lost from endpoints to the bridge", |s| s.incoming_loss;
    gauge "outgoing_loss_fraction", "Fraction of packets lost from the bridge to endpoints", |s| s.outgoing_loss;
    gauge "loss_fraction", "Fraction of packets lost in both directions together", |s| s.overall_loss;
    gauge "average_rtt", "Mean round-trip time of endpoints, ms", |s| s.rtt_aggregate;
    counter "packets_received", "RTP packets received", |s| s.engine.rtp_received;
    counter "packets_sent", "RTP packets sent", |s| s.engine.rtp_sent;
    counter "bytes_received", "Bytes of RTP packets received", |s| s.engine.rtp_bytes_received;
    counter "bytes_sent", "Bytes of RTP packets sent", |s| s.engine.rtp_bytes_sent;
    counter "keyframes_received", "Keyframes received", |s| s.engine.keyframes_received;
    counter "layering_changes_received", "Times the layers of a received video changed", |s| s.engine.layering_changes;
    counter "video_milliseconds_received", "Duration of received video, ms, summed over all streams", |s| s.engine.video_ms;
    gauge "tcc_unmatched_feedback", "Packets that transport-wide feedback reports on although the bridge did not send them, or sent them too long ago", |s| s.engine.feedback_unmatched;
    counter "preemptive_keyframe_requests_sent", "Keyframes that the bridge requested from a new speaker before a receiver did", |s| s.keyframes_ahead.asked;
    counter "preemptive_keyframe_requests_suppressed", "Keyframes that the bridge did not request from a new speaker because nobody has a source on stage", |s| s.keyframes_ahead.suppressed;
    counter "relay_bytes_received", "Bytes of RTP received from relays. Always 0: this version has no relays", |_| NONE;
    counter "relay_bytes_sent", "Bytes of RTP sent to relays. Always 0: this version has no relays", |_| NONE;
    counter "relay_packets_received", "RTP packets received from relays. Always 0: this version has no relays", |_| NONE;
    counter "relay_packets_sent", "RTP packets sent to relays. Always 0: this version has no relays", |_| NONE;
    gauge "relay_incoming_bitrate", "Bitrate of RTP received from relays, bit/s. Always 0: this version has no relays", |_| NONE;
    gauge "relay_incoming_packet_rate", "RTP packets received from relays per second. Always 0: this version has no relays", |_| NONE;
    gauge "relay_outgoing_bitrate", "Bitrate of RTP sent to relays, bit/s. Always 0: this version has no relays", |_| NONE;
    gauge "relay_outgoing_packet_rate", "RTP packets sent to relays per second. Always 0: this version has no relays", |_| NONE;
    counter "relays", "Relays created. Always 0: this version has no relays", |_| NONE;
    counter "relays_dtls_failed", "Relays whose DTLS handshake failed. Always 0: this version has no relays", |_| NONE;
    counter "relays_ice_failed", "Relays whose ICE failed. Always 0: this version has no relays", |_| NONE;
    counter "relays_no_message_transport_after_delay", "Relays without a bridge channel after 30 seconds. Always 0: this version has no relays", |_| NONE;
    counter "data_channel_messages_received", "Bridge-channel messages received over SCTP", |s| s.channels.sctp_received;
    counter "data_channel_messages_sent", "Bridge-channel messages sent over SCTP", |s| s.channels.sctp_sent;
    counter "rejected_data_channels", "Data channels refused because the endpoint already had one", |s| s.transports.channels_refused;
    counter "colibri_web_socket_messages_received", "Bridge-channel messages received over WebSockets", |s| s.channels.web_socket_received;
    counter "colibri_web_socket_messages_sent", "Bridge-channel messages sent over WebSockets", |s| s.channels.web_socket_sent;
    counter "colibri_web_socket_close_normal", "WebSockets closed by their client with code 1000 or 1001, or without a code", |s| s.channels.web_sockets_closed;
    counter "colibri_web_socket_close_abnormal", "WebSockets that ended in any other way, except those that the bridge closed", |s| s.channels.web_sockets_lost;
    counter "colibri_web_socket_error", "WebSockets that ended with an error", |s| s.channels.web_socket_errors;
    counter "ice_failed", "ICE agents that found no working candidate pair", |s| s.transports.ice_failed;
    counter "ice_succeeded", "ICE agents that found a working candidate pair", |s| s.transports.ice_succeeded;
    counter "ice_succeeded_relayed", "ICE agents whose working candidate pair goes through a relay (TURN)", |s| s.transports.ice_succeeded_relayed;
    counter "ice_restarts_started", "ICE restarts started", |s| s.transports.restarts_started;
    counter "ice_restarts_succeeded", "ICE restarts that connected and took over", |s| s.transports.restarts_succeeded;
    counter "ice_restarts_failed", "ICE restarts that did not connect in time", |s| s.transports.restarts_failed;
    counter "ice_restarts_agent_creation_failed", "ICE restarts for which no agent could be created. Always 0: creation cannot fail", |_| NONE;
    counter "ice_restarts_not_established", "ICE restarts requested before the endpoint was connected", |s| s.transports.restarts_not_established;
    counter "ice_restarts_rejected", "ICE restarts refused", |s| s.transports.restarts_rejected;
    counter "ice_restarts_superseded", "ICE restarts replaced by a later one", |s| s.transports.restarts_superseded;
};

/// XMPP metrics, prefixed `jitsi_jvb_`. `mucs_connected` is JVB's name for the number of configured rooms.
pub(super) const XMPP: &[Metric<Mucs>] = metrics! {
    Mucs:
    gauge "muc_clients_configured", "Number of configured XMPP clients", |m| m.clients_configured;
    gauge "muc_clients_connected", "Number of connected XMPP clients", |m| m.clients_connected;
    gauge "mucs_connected", "Number of configured rooms (JVB uses this name for them)", |m| m.configured;
    gauge "mucs_joined", "Number of joined rooms", |m| m.joined;
    counter "xmpp_disconnects", "Lost connections to XMPP servers", |m| m.disconnects;
};

/// Metrics that JVB does not have, prefixed `rialto_`.
pub(super) const RIALTO: &[Metric] = metrics! {
    BridgeStats:
    gauge "shards", "Number of engine threads that report their state", |s| s.shards;
    counter "datagrams_received", "Datagrams received", |s| s.engine.datagrams_received;
    counter "datagrams_sent", "Datagrams passed to the kernel", |s| s.engine.datagrams_sent;
    counter "send_calls", "System calls made to send datagrams", |s| s.engine.send_calls;
    counter "send_errors", "Datagrams that the kernel refused to send", |s| s.engine.send_errors;
    counter "handed_over", "Datagrams passed from one engine thread to another", |s| s.engine.handed_over;
    counter "rtcp_received", "RTCP packets received", |s| s.engine.rtcp_received;
    counter "rtcp_sent", "RTCP packets sent", |s| s.engine.rtcp_sent;
    counter "retransmissions_sent", "Packets retransmitted in response to a NACK", |s| s.engine.retransmissions_sent;
    counter "probes_sent", "Packets sent only to probe the bandwidth of a link", |s| s.engine.probes_sent;
    counter "retransmissions_missed", "Packets that a NACK requested and the bridge no longer had", |s| s.engine.retransmissions_missed;
    counter "keyframe_requests_sent", "Keyframe requests sent to endpoints", |s| s.engine.keyframe_requests_sent;
    counter "events_dropped", "Engine events dropped because the control plane did not keep up", |s| s.engine.events_dropped;
    counter "budgets_hit", "Turns in which an engine thread stopped at its work limit with work left", |s| s.engine.budgets_hit;
    counter "receive_errors", "Receive calls that failed", |s| s.engine.receive_errors;
    counter "requests_refused", "Allocation requests refused because a queue or a limit was full", |s| s.requests_refused;
    gauge "reduced_last_n", "Most videos that an endpoint may get, as reduced because of the load; -1 without a reduction", |s| s.last_n_by_load.map_or(-1.0, |n| n as f64);
    counter "captured_packets_dropped", "Packets missing from captures because the disk was too slow or the file full", |s| s.captures_dropped;
    counter "captures_refused", "Captures refused because too many were running or their files were full", |s| s.captures_refused;
    counter "dtls_failed", "DTLS handshakes that failed", |s| s.transports.dtls_failed;
    counter "dtls_succeeded", "DTLS handshakes that succeeded", |s| s.transports.dtls_succeeded;
    counter "dtls_restarted", "DTLS handshakes that failed while another handshake of the endpoint was still running", |s| s.transports.dtls_restarted;
    counter "dtls_alerts_ignored", "Plaintext DTLS alerts ignored, because anyone could have sent them", |s| s.transports.dtls_alerts_ignored;
    counter "dtls_fingerprint_mismatch", "DTLS certificates that did not match the signalled fingerprint", |s| s.transports.dtls_fingerprint_mismatch;
    counter "ice_consent_lost", "Times consent to send expired (RFC 7675)", |s| s.transports.consent_lost;
    counter "ice_address_changes", "Times the address of an endpoint changed", |s| s.transports.address_changes;
    counter "ice_role_conflicts", "ICE role conflicts (RFC 8445 section 7.3.1.1), whichever side switched", |s| s.transports.role_conflicts;
    counter "ice_candidates_ignored", "Remote candidates ignored", |s| s.transports.candidates_ignored;
    counter "ice_addresses_contested", "STUN responses dropped because they came from an address that belongs to another endpoint", |s| s.transports.addresses_contested;
    counter "ice_addresses_taken_over", "Addresses that passed to another endpoint because their owner was silent", |s| s.transports.addresses_taken_over;
    counter "ice_addresses_evicted", "Addresses of an endpoint discarded because it had too many", |s| s.transports.addresses_evicted;
    counter "stun_requests", "STUN requests that authenticated", |s| s.transports.stun_requests;
    counter "stun_responses", "STUN responses that authenticated", |s| s.transports.stun_responses;
    counter "stun_malformed", "STUN messages dropped because they do not parse or their FINGERPRINT is wrong", |s| s.transports.stun_malformed;
    counter "stun_unknown", "STUN requests dropped because no endpoint has their ufrag", |s| s.transports.stun_unknown;
    counter "stun_unauthenticated", "STUN messages dropped because their MESSAGE-INTEGRITY or USERNAME is wrong", |s| s.transports.stun_unauthenticated;
    counter "stun_unmatched", "STUN responses dropped because they answer no request, or come from another address", |s| s.transports.stun_unmatched;
    counter "stun_rate_limited", "STUN requests dropped because their endpoint sent too many", |s| s.transports.stun_rate_limited;
    counter "stun_unknown_attributes", "STUN requests answered with 420 because of unknown comprehension-required attributes", |s| s.transports.stun_unknown_attributes;
    counter "stun_wrong_local", "STUN messages dropped because they arrived at a local address that is not in use", |s| s.transports.stun_wrong_local;
    counter "dtls_dropped", "DTLS datagrams dropped because their endpoint is gone or is not connected from that address", |s| s.transports.dtls_dropped;
    counter "dtls_malformed", "DTLS datagrams without a complete record (RFC 6347 section 4.1)", |s| s.transports.dtls_malformed;
    counter "dtls_application_data_dropped", "Application data over DTLS dropped because SCTP was not negotiated or the endpoint was not verified", |s| s.transports.application_data_dropped;
    counter "sctp_connected", "SCTP associations established", |s| s.transports.sctp_connected;
    counter "sctp_lost", "SCTP associations that ended before their DTLS association", |s| s.transports.sctp_lost;
    counter "sctp_panics", "SCTP associations that ended because of a defect in the SCTP library (included in rialto_sctp_lost_total)", |s| s.transports.sctp_panics;
    counter "data_channels_opened", "Data channels opened", |s| s.transports.channels_opened;
    counter "data_channel_messages_dropped", "Data-channel messages dropped because too many waited to be read", |s| s.transports.channel_texts_dropped;
    counter "data_channel_binary", "Binary data-channel messages dropped: the bridge channel carries text only", |s| s.transports.channel_binary;
    counter "data_channel_malformed", "Data-channel messages dropped because they are malformed or outside of a channel", |s| s.transports.channel_malformed;
    counter "data_channel_too_long", "Data-channel messages longer than 64 KiB, which closed their channel", |s| s.transports.channel_too_long;
    counter "trace_spans_exported", "Spans of traced requests that the OpenTelemetry collector has accepted", |_| SPANS.exported();
    counter "trace_spans_lost", "Spans of traced requests that the OpenTelemetry collector did not accept, or that did not fit its queue", |_| SPANS.lost();
    counter "transport_datagrams_dropped", "STUN and DTLS datagrams dropped because a transport hub did not keep up", |s| s.transports.datagrams_dropped;
};

/// A metric that the system may not provide: its name, its help, and its value.
pub(super) type ProcessMetric = (&'static str, &'static str, fn(&Process) -> Option<u64>);

/// Process metrics under the names of JVB's JVM metrics, prefixed `jitsi_jvb_`.
pub(super) const JVM: [ProcessMetric; 2] = [
    ("thread_count", "Number of threads of the process", |p| p.threads),
    ("jvm_open_fd_count", "Number of open files and sockets of the process", |p| p.open_files),
];

/// Process metrics, where the system provides them, prefixed `rialto_`.
pub(super) const PROCESS: [ProcessMetric; 2] = [
    ("resident_memory_bytes", "Resident memory of the process, bytes", |p| p.resident_bytes),
    ("open_files", "Number of open files and sockets of the process", |p| p.open_files),
];

/// Upper bounds of JVB's histogram of the audio levels of packets discarded because others are louder. This
/// bridge discards none.
pub(super) const TOSSED: [f64; 17] = [
    0.0, 7.0, 15.0, 23.0, 31.0, 39.0, 47.0, 55.0, 63.0, 71.0, 79.0, 87.0, 95.0, 103.0, 111.0,
    119.0, 127.0,
];

/// A distribution over conferences: its name, its help, and its values.
pub(super) type Distribution = (&'static str, &'static str, fn(&BridgeStats) -> &[usize]);

/// Prefixed `jitsi_jvb_`; buckets 0, 1, … 20.
pub(super) const DISTRIBUTIONS: [Distribution; 3] = [
    ("conferences_by_size", "Number of conferences by number of endpoints", |s| {
        &s.conference_sizes
    }),
    (
        "conferences_by_audio_sender",
        "Number of conferences by number of endpoints that send audio",
        |s| &s.conference_audio_senders,
    ),
    (
        "conferences_by_video_sender",
        "Number of conferences by number of endpoints that send video",
        |s| &s.conference_video_senders,
    ),
];

#[cfg(test)]
mod tests {
    use rialto_transport::TransportCounters;

    use super::*;

    /// Counters whose metric names do not contain their own.
    const NAMED_OTHERWISE: [(&str, &str); 11] = [
        ("channel_too_long", "data_channel_too_long"),
        ("datagrams_dropped", "transport_datagrams_dropped"),
        ("consent_lost", "ice_consent_lost"),
        ("address_changes", "ice_address_changes"),
        ("role_conflicts", "ice_role_conflicts"),
        ("application_data_dropped", "dtls_application_data_dropped"),
        ("channels_refused", "rejected_data_channels"),
        ("channel_texts_sent", "data_channel_messages_sent"),
        ("channel_texts_received", "data_channel_messages_received"),
        ("channel_texts_dropped", "data_channel_messages_dropped"),
        ("candidates_ignored", "ice_candidates_ignored"),
    ];

    #[test]
    fn whatever_transports_count_is_shown() {
        let all = format!("{:?}", TransportCounters::default());
        let fields = all.split(['{', ',']).filter_map(|part| part.split_once(':'));
        let fields: Vec<&str> = fields.map(|(name, _)| name.trim()).collect();
        assert!(fields.len() > 30, "{all}");
        let known = |name: &str| JVB.iter().chain(RIALTO).any(|metric| metric.name == name);
        for field in fields {
            let other = NAMED_OTHERWISE.iter().find(|(ours, _)| *ours == field);
            let names = other.map_or_else(
                || ["", "ice_", "data_"].map(|start| format!("{start}{field}")).to_vec(),
                |(_, shown)| vec![(*shown).to_owned()],
            );
            assert!(names.iter().any(|name| known(name)), "{field} is counted and not shown");
        }
    }
}
