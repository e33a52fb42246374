//! Which number goes under which name, for `/metrics` and `/colibri/stats`.
//!
//! The names are JVB's. What JVB measures and this bridge does not is left out rather than made up;
//! what this bridge does not have at all (relays, MUCs, data channels) is a true zero, and is there
//! because scripts subtract it.

use serde_json::Value;

use crate::bridge::BridgeStats;

/// A number of a metric.
#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    Whole(u64),
    Fraction(f64),
    /// 0 or 1 in text, a boolean in JSON.
    Flag(bool),
}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<usize> for Number {
    fn from(value: usize) -> Self {
        Self::Whole(value as u64)
    }
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        Self::Fraction(if value.is_finite() { value } else { 0.0 })
    }
}

impl From<bool> for Number {
    fn from(value: bool) -> Self {
        Self::Flag(value)
    }
}

impl From<Number> for Value {
    fn from(number: Number) -> Self {
        match number {
            Number::Whole(value) => value.into(),
            Number::Fraction(value) => value.into(),
            Number::Flag(value) => value.into(),
        }
    }
}

/// A metric: its name without prefix and `_total`.
pub(super) struct Metric {
    pub name: &'static str,
    pub help: &'static str,
    pub counter: bool,
    pub read: fn(&BridgeStats) -> Number,
}

macro_rules! metrics {
    ($($kind:ident $name:literal, $help:literal, $read:expr;)*) => {
        &[$(Metric {
            name: $name,
            help: $help,
            counter: metrics!(@$kind),
            read: |s: &BridgeStats| { let read: fn(&BridgeStats) -> _ = $read; Number::from(read(s)) },
        }),*]
    };
    (@counter) => { true };
    (@gauge) => { false };
}

/// Prefixed `jitsi_jvb_`.
pub(super) const JVB: &[Metric] = metrics! {
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
    counter "dominant_speaker_changes", "Changes of the dominant speaker", |s| s.total_dominant_speaker_changes;
    gauge "incoming_bitrate", "RTP received, bit/s", |s| s.bit_rate_download.saturating_mul(1000);
    gauge "outgoing_bitrate", "RTP sent, bit/s", |s| s.bit_rate_upload.saturating_mul(1000);
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
    counter "ice_failed", "ICE agents that found no pair", |s| s.transports.ice_failed;
    counter "ice_succeeded", "ICE agents that found a pair", |s| s.transports.ice_succeeded;
    counter "ice_succeeded_relayed", "ICE agents that found a pair over a relay", |s| s.transports.ice_succeeded_relayed;
    counter "ice_restarts_started", "ICE restarts begun", |s| s.transports.restarts_started;
    counter "ice_restarts_succeeded", "ICE restarts that took over", |s| s.transports.restarts_succeeded;
    counter "ice_restarts_failed", "ICE restarts that did not connect in time", |s| s.transports.restarts_failed;
    counter "ice_restarts_not_established", "ICE restarts asked for before there was a connection", |s| s.transports.restarts_not_established;
    counter "ice_restarts_rejected", "ICE restarts refused", |s| s.transports.restarts_rejected;
    counter "ice_restarts_superseded", "ICE restarts replaced by a newer one", |s| s.transports.restarts_superseded;
};

/// Prefixed `rialto_`: what JVB does not have.
pub(super) const RIALTO: &[Metric] = metrics! {
    gauge "shards", "Engine threads that report", |s| s.shards;
    counter "datagrams_received", "Datagrams received", |s| s.engine.datagrams_received;
    counter "datagrams_sent", "Datagrams handed to the kernel", |s| s.engine.datagrams_sent;
    counter "send_calls", "System calls that sent them", |s| s.engine.send_calls;
    counter "send_errors", "Datagrams that the kernel refused", |s| s.engine.send_errors;
    counter "handed_over", "Datagrams handed to another engine thread", |s| s.engine.handed_over;
    counter "rtcp_received", "RTCP packets received", |s| s.engine.rtcp_received;
    counter "rtcp_sent", "RTCP packets sent", |s| s.engine.rtcp_sent;
    counter "retransmissions_sent", "Packets sent again on request", |s| s.engine.retransmissions_sent;
    counter "retransmissions_missed", "Packets asked for again that were gone", |s| s.engine.retransmissions_missed;
    counter "keyframe_requests_sent", "Keyframe requests sent to senders", |s| s.engine.keyframe_requests_sent;
    counter "events_dropped", "Engine events dropped because control did not keep up", |s| s.engine.events_dropped;
    counter "requests_refused", "Allocation requests refused because too many waited", |s| s.requests_refused;
    counter "dtls_failed", "DTLS handshakes that failed", |s| s.transports.dtls_failed;
    counter "dtls_succeeded", "DTLS handshakes that succeeded", |s| s.transports.dtls_succeeded;
    counter "dtls_fingerprint_mismatch", "Certificates that were not the signalled ones", |s| s.transports.dtls_fingerprint_mismatch;
    counter "ice_consent_lost", "Consent expiries (RFC 7675)", |s| s.transports.consent_lost;
    counter "ice_address_changes", "Changes of an endpoint's address", |s| s.transports.address_changes;
};

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

macro_rules! fields {
    ($($name:literal: $read:expr,)*) => {
        &[$((
            $name,
            |s: &BridgeStats| { let read: fn(&BridgeStats) -> _ = $read; Number::from(read(s)) },
        )),*]
    };
}

/// A field of `/colibri/stats`.
pub(super) type Field = (&'static str, fn(&BridgeStats) -> Number);

const NONE: u64 = 0;

/// Fields of `/colibri/stats`, in JVB's order.
pub(super) const STATS: &[Field] = fields! {
    "incoming_loss": |s| s.incoming_loss,
    "outgoing_loss": |s| s.outgoing_loss,
    "overall_loss": |s| s.overall_loss,
    "endpoints_with_high_outgoing_loss": |s| s.endpoints_with_high_outgoing_loss,
    "local_active_endpoints": |s| s.local_active_endpoints,
    "bit_rate_download": |s| s.bit_rate_download,
    "bit_rate_upload": |s| s.bit_rate_upload,
    "packet_rate_download": |s| s.packet_rate_download,
    "packet_rate_upload": |s| s.packet_rate_upload,
    "rtt_aggregate": |s| s.rtt_aggregate,
    "octo_conferences": |_| NONE,
    "inactive_conferences": |s| s.inactive_conferences,
    "p2p_conferences": |s| s.p2p_conferences,
    "endpoints": |s| s.endpoints,
    "participants": |s| s.endpoints,
    "receive_only_endpoints": |s| s.receive_only_endpoints,
    "inactive_endpoints": |s| s.inactive_endpoints,
    "octo_endpoints": |_| NONE,
    "endpoints_sending_audio": |s| s.endpoints_sending_audio,
    "endpoints_sending_video": |s| s.endpoints_sending_video,
    "largest_conference": |s| s.largest_conference,
    "octo_receive_bitrate": |_| NONE,
    "octo_receive_packet_rate": |_| NONE,
    "octo_send_bitrate": |_| NONE,
    "octo_send_packet_rate": |_| NONE,
    "total_conferences_created": |s| s.total_conferences_created,
    "total_conferences_completed": |s| s.total_conferences_completed,
    "total_conference_seconds": |s| s.total_conference_seconds,
    "total_participants": |s| s.total_participants,
    "total_visitors": |s| s.total_visitors,
    "total_relays": |_| NONE,
    "num_relays_no_msg_transport_after_delay": |_| NONE,
    "total_keyframes_received": |s| s.engine.keyframes_received,
    "stress_level": |s| s.stress_level,
    "conferences": |s| s.conferences,
    "visitors": |s| s.visitors,
    "local_endpoints": |s| s.endpoints,
    "total_data_channel_messages_received": |_| NONE,
    "total_data_channel_messages_sent": |_| NONE,
    "total_colibri_web_socket_messages_received": |_| NONE,
    "total_colibri_web_socket_messages_sent": |_| NONE,
    "total_bytes_received": |s| s.engine.rtp_bytes_received,
    "endpoints_ice_failed": |s| s.endpoints_ice_failed,
    "dtls_failed_endpoints": |s| s.dtls_failed_endpoints,
    "relays_ice_failed": |_| NONE,
    "dtls_failed_relays": |_| NONE,
    "total_bytes_sent": |s| s.engine.rtp_bytes_sent,
    "total_packets_received": |s| s.engine.rtp_received,
    "total_packets_sent": |s| s.engine.rtp_sent,
    "total_bytes_received_octo": |_| NONE,
    "total_bytes_sent_octo": |_| NONE,
    "total_packets_received_octo": |_| NONE,
    "total_packets_sent_octo": |_| NONE,
    "total_dominant_speaker_changes": |s| s.total_dominant_speaker_changes,
    "total_ice_failed": |s| s.transports.ice_failed,
    "total_ice_succeeded": |s| s.transports.ice_succeeded,
    "total_ice_succeeded_relayed": |s| s.transports.ice_succeeded_relayed,
    "average_participant_stress": |s| s.average_participant_stress,
    "graceful_shutdown": |s| s.graceful_shutdown,
    "shutting_down": |s| s.shutting_down,
    "drain": |s| s.drain,
    "muc_clients_configured": |_| NONE,
    "muc_clients_connected": |_| NONE,
    "mucs_configured": |_| NONE,
    "mucs_joined": |_| NONE,
    "healthy": |s| s.healthy,
    "endpoints_disconnected": |s| s.endpoints_disconnected,
    "endpoints_reconnected": |s| s.endpoints_reconnected,
};
