//! Which number goes under which name, for `/metrics`.
//!
//! The names are JVB's. What cannot happen in this version is a true zero, so that dashboards and alarms
//! made for JVB go on; what has no meaning here is left out (`docs/metrics.md` says why).

use crate::{
    bridge::BridgeStats,
    stats::{Mucs, Number, Process},
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

/// Of what this version has not.
const NONE: u64 = 0;

/// Prefixed `jitsi_jvb_`.
pub(super) const JVB: &[Metric] = metrics! {
    BridgeStats:
    gauge "healthy", "Whether the bridge can serve", |s| s.healthy;
    gauge "drain_mode", "Whether new conferences are wanted elsewhere", |s| s.drain;
    gauge "graceful_shutdown", "Whether new conferences are refused", |s| s.graceful_shutdown;
    gauge "stress", "Load, as a fraction of what is too much", |s| s.stress_level;
    gauge "shutting_down", "Whether the end is announced", |s| s.shutting_down;
    gauge "conferences", "Conferences now", |s| s.conferences;
    gauge "conferences_inactive", "Conferences in which nobody sends", |s| s.inactive_conferences;
    gauge "conferences_p2p", "Inactive conferences of two", |s| s.p2p_conferences;
    gauge "largest_conference", "Endpoints of the largest conference", |s| s.largest_conference;
    counter "conferences_created", "Conferences created", |s| s.total_conferences_created;
    counter "conferences_completed", "Conferences that ended", |s| s.total_conferences_completed;
    counter "conference_seconds", "Seconds that ended conferences lasted", |s| s.total_conference_seconds;
    gauge "current_endpoints", "Endpoints now", |s| s.endpoints;
    gauge "local_endpoints", "Endpoints now that are connected to this bridge", |s| s.endpoints;
    gauge "active_endpoints", "Endpoints of conferences in which somebody sends", |s| s.local_active_endpoints;
    gauge "endpoints_inactive", "Endpoints of conferences in which nobody sends", |s| s.inactive_endpoints;
    gauge "endpoints_recvonly", "Endpoints that send nothing", |s| s.receive_only_endpoints;
    gauge "endpoints_sending_audio", "Endpoints that send audio", |s| s.endpoints_sending_audio;
    gauge "endpoints_sending_video", "Endpoints that send video", |s| s.endpoints_sending_video;
    gauge "endpoints_with_high_outgoing_loss", "Endpoints that lose more than 10 % of what is sent to them", |s| s.endpoints_with_high_outgoing_loss;
    gauge "current_visitors", "Visitors now", |s| s.visitors;
    counter "endpoints", "Endpoints created", |s| s.total_participants;
    counter "visitors", "Visitors created", |s| s.total_visitors;
    counter "endpoints_disconnected", "Endpoints that went silent", |s| s.endpoints_disconnected;
    counter "endpoints_reconnected", "Endpoints that came back after silence", |s| s.endpoints_reconnected;
    counter "endpoints_dtls_failed", "Endpoints whose DTLS failed", |s| s.dtls_failed_endpoints;
    counter "endpoints_ice_failed", "Endpoints whose ICE failed", |s| s.endpoints_ice_failed;
    counter "endpoints_no_message_transport_after_delay", "Endpoints that had no bridge channel half a minute after they came", |s| s.num_eps_no_msg_transport_after_delay;
    gauge "endpoints_oversending", "Endpoints that are sent more than their link takes, on purpose", |s| s.num_eps_oversending;
    gauge "endpoints_relayed", "Endpoints of other bridges: there are no relays", |_| NONE;
    gauge "endpoints_with_spurious_remb", "Endpoints that sent a bitrate estimate (REMB) without having negotiated it", |s| s.engine.spurious_rembs;
    gauge "endpoints_with_suspended_sources", "Endpoints for whose link videos were suspended", |s| s.endpoints_with_suspended_sources;
    gauge "conferences_with_relay", "Conferences with relays: there are none", |_| NONE;
    counter "dominant_speaker_changes", "Changes of the dominant speaker", |s| s.total_dominant_speaker_changes;
    gauge "cpu_steal", "Part of the processors' time that the hypervisor gave to others", |s| s.cpu_steal;
    gauge "incoming_bitrate", "RTP received, bit/s", |s| s.receive_bps;
    gauge "outgoing_bitrate", "RTP sent, bit/s", |s| s.send_bps;
    gauge "incoming_packet_rate", "RTP packets received per second", |s| s.packet_rate_download;
    gauge "outgoing_packet_rate", "RTP packets sent per second", |s| s.packet_rate_upload;
    gauge "incoming_loss_fraction", "Fraction of packets lost on the way to the bridge", |s| s.incoming_loss;
    gauge "outgoing_loss_fraction", "Fraction of packets lost on the way from the bridge", |s| s.outgoing_loss;
    gauge "loss_fraction", "Fraction of packets lost either way", |s| s.overall_loss;
    gauge "average_rtt", "Mean round trip, ms", |s| s.rtt_aggregate;
    counter "packets_received", "RTP packets received", |s| s.engine.rtp_received;
    counter "packets_sent", "RTP packets sent", |s| s.engine.rtp_sent;
    counter "bytes_received", "Bytes of RTP packets received", |s| s.engine.rtp_bytes_received;
    counter "bytes_sent", "Bytes of RTP packets sent", |s| s.engine.rtp_bytes_sent;
    counter "keyframes_received", "Keyframes received", |s| s.engine.keyframes_received;
    counter "layering_changes_received", "Changes of the layers of received videos", |s| s.engine.layering_changes;
    counter "video_milliseconds_received", "Time of received video, ms, each stream on its own", |s| s.engine.video_ms;
    gauge "tcc_unmatched_feedback", "Statuses of transport-wide feedback on packets that were not sent with a number", |s| s.engine.feedback_unmatched;
    counter "preemptive_keyframe_requests_sent", "Keyframes of new speakers asked for before anybody did", |s| s.keyframes_ahead.asked;
    counter "preemptive_keyframe_requests_suppressed", "Keyframes of new speakers that nobody has a stage for", |s| s.keyframes_ahead.suppressed;
    counter "relay_bytes_received", "Bytes of RTP from relays: there are none", |_| NONE;
    counter "relay_bytes_sent", "Bytes of RTP to relays: there are none", |_| NONE;
    counter "relay_packets_received", "RTP packets from relays: there are none", |_| NONE;
    counter "relay_packets_sent", "RTP packets to relays: there are none", |_| NONE;
    gauge "relay_incoming_bitrate", "RTP from relays, bit/s: there are none", |_| NONE;
    gauge "relay_incoming_packet_rate", "RTP packets from relays per second: there are none", |_| NONE;
    gauge "relay_outgoing_bitrate", "RTP to relays, bit/s: there are none", |_| NONE;
    gauge "relay_outgoing_packet_rate", "RTP packets to relays per second: there are none", |_| NONE;
    counter "relays", "Relays created: there are none", |_| NONE;
    counter "relays_dtls_failed", "Relays whose DTLS failed: there are none", |_| NONE;
    counter "relays_ice_failed", "Relays whose ICE failed: there are none", |_| NONE;
    counter "relays_no_message_transport_after_delay", "Relays without a bridge channel: there are none", |_| NONE;
    counter "data_channel_messages_received", "Bridge-channel messages received over SCTP", |s| s.channels.sctp_received;
    counter "data_channel_messages_sent", "Bridge-channel messages sent over SCTP", |s| s.channels.sctp_sent;
    counter "rejected_data_channels", "Data channels refused: an endpoint had one", |s| s.transports.channels_refused;
    counter "colibri_web_socket_messages_received", "Bridge-channel messages received over WebSockets", |s| s.channels.web_socket_received;
    counter "colibri_web_socket_messages_sent", "Bridge-channel messages sent over WebSockets", |s| s.channels.web_socket_sent;
    counter "colibri_web_socket_close_normal", "WebSockets that their client closed with 1000, 1001 or no code", |s| s.channels.web_sockets_closed;
    counter "colibri_web_socket_close_abnormal", "WebSockets that ended in another way, but for those that the bridge closed", |s| s.channels.web_sockets_lost;
    counter "colibri_web_socket_error", "WebSockets that ended with an error", |s| s.channels.web_socket_errors;
    counter "ice_failed", "ICE agents that found no pair", |s| s.transports.ice_failed;
    counter "ice_succeeded", "ICE agents that found a pair", |s| s.transports.ice_succeeded;
    counter "ice_succeeded_relayed", "ICE agents that found a pair over a relay", |s| s.transports.ice_succeeded_relayed;
    counter "ice_restarts_started", "ICE restarts begun", |s| s.transports.restarts_started;
    counter "ice_restarts_succeeded", "ICE restarts that took over", |s| s.transports.restarts_succeeded;
    counter "ice_restarts_failed", "ICE restarts that did not connect in time", |s| s.transports.restarts_failed;
    counter "ice_restarts_agent_creation_failed", "ICE restarts for which no agent could be made: it always can", |_| NONE;
    counter "ice_restarts_not_established", "ICE restarts asked for before there was a connection", |s| s.transports.restarts_not_established;
    counter "ice_restarts_rejected", "ICE restarts refused", |s| s.transports.restarts_rejected;
    counter "ice_restarts_superseded", "ICE restarts replaced by a newer one", |s| s.transports.restarts_superseded;
};

/// Prefixed `jitsi_jvb_` as well: XMPP. `mucs_connected` is what JVB calls the rooms to be in.
pub(super) const XMPP: &[Metric<Mucs>] = metrics! {
    Mucs:
    gauge "muc_clients_configured", "XMPP clients that are configured", |m| m.clients_configured;
    gauge "muc_clients_connected", "XMPP clients that are connected", |m| m.clients_connected;
    gauge "mucs_connected", "Rooms that are configured", |m| m.configured;
    gauge "mucs_joined", "Rooms that are joined", |m| m.joined;
    counter "xmpp_disconnects", "Connections to XMPP servers that were lost", |m| m.disconnects;
};

/// Prefixed `rialto_`: what JVB does not have.
pub(super) const RIALTO: &[Metric] = metrics! {
    BridgeStats:
    gauge "shards", "Engine threads that report", |s| s.shards;
    counter "datagrams_received", "Datagrams received", |s| s.engine.datagrams_received;
    counter "datagrams_sent", "Datagrams handed to the kernel", |s| s.engine.datagrams_sent;
    counter "send_calls", "System calls that sent them", |s| s.engine.send_calls;
    counter "send_errors", "Datagrams that the kernel refused", |s| s.engine.send_errors;
    counter "handed_over", "Datagrams handed to another engine thread", |s| s.engine.handed_over;
    counter "rtcp_received", "RTCP packets received", |s| s.engine.rtcp_received;
    counter "rtcp_sent", "RTCP packets sent", |s| s.engine.rtcp_sent;
    counter "retransmissions_sent", "Packets sent again on request", |s| s.engine.retransmissions_sent;
    counter "probes_sent", "Packets sent only to find out what a link carries", |s| s.engine.probes_sent;
    counter "retransmissions_missed", "Packets asked for again that were gone", |s| s.engine.retransmissions_missed;
    counter "keyframe_requests_sent", "Keyframe requests sent to senders", |s| s.engine.keyframe_requests_sent;
    counter "events_dropped", "Engine events dropped because control did not keep up", |s| s.engine.events_dropped;
    counter "budgets_hit", "Turns of engine threads that had no end of work", |s| s.engine.budgets_hit;
    counter "receive_errors", "Receive calls that failed", |s| s.engine.receive_errors;
    counter "requests_refused", "Allocation requests refused because too many waited, or for a limit", |s| s.requests_refused;
    gauge "reduced_last_n", "Videos that anybody gets at most, for the bridge's load; -1: that is not bounded", |s| s.last_n_by_load.map_or(-1.0, |n| n as f64);
    counter "captured_packets_dropped", "Packets that a capture lacks: the disk was too slow, or the file full", |s| s.captures_dropped;
    counter "captures_refused", "Captures that were refused: there are as many as may be, or their files are full", |s| s.captures_refused;
    counter "dtls_failed", "DTLS handshakes that failed", |s| s.transports.dtls_failed;
    counter "dtls_succeeded", "DTLS handshakes that succeeded", |s| s.transports.dtls_succeeded;
    counter "dtls_restarted", "DTLS handshakes that failed while another one could still succeed", |s| s.transports.dtls_restarted;
    counter "dtls_alerts_ignored", "Alerts in plaintext, which anybody could have sent", |s| s.transports.dtls_alerts_ignored;
    counter "dtls_fingerprint_mismatch", "Certificates that were not the signalled ones", |s| s.transports.dtls_fingerprint_mismatch;
    counter "ice_consent_lost", "Consent expiries (RFC 7675)", |s| s.transports.consent_lost;
    counter "ice_address_changes", "Changes of an endpoint's address", |s| s.transports.address_changes;
    counter "ice_role_conflicts", "ICE role conflicts (RFC 8445 section 7.3.1.1), whoever gave way", |s| s.transports.role_conflicts;
    counter "ice_candidates_ignored", "Candidates of endpoints that were ignored", |s| s.transports.candidates_ignored;
    counter "ice_addresses_contested", "Answers dropped because they came from the address of another endpoint", |s| s.transports.addresses_contested;
    counter "ice_addresses_taken_over", "Addresses that went to another endpoint, as their owner was silent", |s| s.transports.addresses_taken_over;
    counter "ice_addresses_evicted", "Addresses of endpoints that were given up because they had too many", |s| s.transports.addresses_evicted;
    counter "stun_requests", "STUN requests that authenticated", |s| s.transports.stun_requests;
    counter "stun_responses", "STUN responses that authenticated", |s| s.transports.stun_responses;
    counter "stun_malformed", "STUN dropped: it does not parse, or its FINGERPRINT is wrong", |s| s.transports.stun_malformed;
    counter "stun_unknown", "STUN requests dropped: they are for no endpoint here", |s| s.transports.stun_unknown;
    counter "stun_unauthenticated", "STUN dropped: its MESSAGE-INTEGRITY or USERNAME is wrong", |s| s.transports.stun_unauthenticated;
    counter "stun_unmatched", "STUN responses dropped: nothing was asked, or somebody else", |s| s.transports.stun_unmatched;
    counter "stun_rate_limited", "STUN requests dropped: their endpoint sent too many", |s| s.transports.stun_rate_limited;
    counter "stun_unknown_attributes", "STUN requests answered with 420: they have attributes that must be understood and are not", |s| s.transports.stun_unknown_attributes;
    counter "stun_wrong_local", "STUN dropped: it came to an address that is not to be used", |s| s.transports.stun_wrong_local;
    counter "dtls_dropped", "DTLS datagrams dropped: their endpoint is gone, or had no connection at that address", |s| s.transports.dtls_dropped;
    counter "dtls_malformed", "DTLS datagrams that hold no whole record (RFC 6347 section 4.1)", |s| s.transports.dtls_malformed;
    counter "dtls_application_data_dropped", "Application data over DTLS dropped: no SCTP was agreed on, or the endpoint was not verified", |s| s.transports.application_data_dropped;
    counter "sctp_connected", "SCTP associations set up", |s| s.transports.sctp_connected;
    counter "sctp_lost", "SCTP associations that ended otherwise than with their DTLS", |s| s.transports.sctp_lost;
    counter "sctp_panics", "Of these, by a defect of the SCTP library", |s| s.transports.sctp_panics;
    counter "data_channels_opened", "Data channels opened", |s| s.transports.channels_opened;
    counter "data_channel_messages_dropped", "Data-channel messages dropped: too many waited to be read", |s| s.transports.channel_texts_dropped;
    counter "data_channel_binary", "Binary data-channel messages dropped: the bridge speaks text", |s| s.transports.channel_binary;
    counter "data_channel_malformed", "Data-channel messages dropped: outside of a channel, or not what they say", |s| s.transports.channel_malformed;
    counter "data_channel_too_long", "Data-channel messages beyond 64 KiB, which closed their channel", |s| s.transports.channel_too_long;
    counter "transport_datagrams_dropped", "STUN and DTLS datagrams dropped because a hub of transports did not keep up", |s| s.transports.datagrams_dropped;
};

/// What may not be told: its name, its help, and its value.
pub(super) type Told = (&'static str, &'static str, fn(&Process) -> Option<u64>);

/// Prefixed `jitsi_jvb_`: likewise, under the names of what JVB's machine says.
pub(super) const JVM: [Told; 2] = [
    ("thread_count", "Threads of the process", |p| p.threads),
    ("jvm_open_fd_count", "Files and sockets that the process has open", |p| p.open_files),
];

/// Prefixed `rialto_`: what the system says of the process, where it does.
pub(super) const PROCESS: [Told; 2] = [
    ("resident_memory_bytes", "Resident memory of the process", |p| p.resident_bytes),
    ("open_files", "Files and sockets that the process has open", |p| p.open_files),
];

/// Upper bounds of JVB's histogram of the loudness of packets that it throws away because others are
/// louder. Here none is.
pub(super) const TOSSED: [f64; 17] = [
    0.0, 7.0, 15.0, 23.0, 31.0, 39.0, 47.0, 55.0, 63.0, 71.0, 79.0, 87.0, 95.0, 103.0, 111.0,
    119.0, 127.0,
];

/// A distribution over conferences: its name, its help, and its values.
pub(super) type Distribution = (&'static str, &'static str, fn(&BridgeStats) -> &[usize]);

/// Prefixed `jitsi_jvb_`; buckets 0, 1, … 20.
pub(super) const DISTRIBUTIONS: [Distribution; 3] = [
    ("conferences_by_size", "Conferences by number of endpoints", |s| &s.conference_sizes),
    ("conferences_by_audio_sender", "Conferences by number of audio senders", |s| {
        &s.conference_audio_senders
    }),
    ("conferences_by_video_sender", "Conferences by number of video senders", |s| {
        &s.conference_video_senders
    }),
];

#[cfg(test)]
mod tests {
    use rialto_transport::TransportCounters;

    use super::*;

    /// Counters under a name that does not have theirs in it.
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
