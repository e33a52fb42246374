//! What the bridge publishes about itself: the same statistics in presence and over HTTP.
//!
//! Names, order and units are JVB's. Statistics of features that this version lacks (relays) are zero; they are
//! published because scripts and dashboards read them.

use super::BridgeStats;
use crate::stats::{Number, Stat, Surroundings, timestamp};

/// Everything that is published, each name once.
pub(crate) fn published(stats: &BridgeStats, around: &Surroundings) -> Vec<(&'static str, Stat)> {
    let mut all: Vec<(&'static str, Stat)> =
        MEASURED.iter().map(|(name, read)| (*name, Stat::Number(read(stats)))).collect();
    let mucs = &around.mucs;
    all.extend([
        ("muc_clients_configured", mucs.clients_configured.into()),
        ("muc_clients_connected", mucs.clients_connected.into()),
        ("mucs_configured", mucs.configured.into()),
        ("mucs_joined", mucs.joined.into()),
        ("current_timestamp", Stat::Text(timestamp(around.now))),
        ("version", around.version.as_str().into()),
    ]);
    let mut some = |name, value: Option<Stat>| all.extend(value.map(|value| (name, value)));
    some("threads", around.threads.map(Stat::from));
    some("release", around.release.as_deref().map(Stat::from));
    some("region", around.region.as_deref().map(Stat::from));
    all
}

macro_rules! fields {
    ($($name:literal: $read:expr,)*) => {
        &[$((
            $name,
            |s: &BridgeStats| { let read: fn(&BridgeStats) -> _ = $read; Number::from(read(s)) },
        )),*]
    };
}

/// A statistic: its name, and where it is read.
type Field = (&'static str, fn(&BridgeStats) -> Number);

/// The value of statistics of features that this version lacks.
const NONE: u64 = 0;

/// Measured statistics, in JVB's order.
const MEASURED: &[Field] = fields! {
    "incoming_loss": |s| s.incoming_loss,
    "outgoing_loss": |s| s.outgoing_loss,
    "overall_loss": |s| s.overall_loss,
    "endpoints_with_high_outgoing_loss": |s| s.endpoints_with_high_outgoing_loss,
    "tcc_unmatched_feedback": |s| s.engine.feedback_unmatched,
    "local_active_endpoints": |s| s.local_active_endpoints,
    "bit_rate_download": |s| s.receive_bps / 1000,
    "bit_rate_upload": |s| s.send_bps / 1000,
    "packet_rate_download": |s| s.packet_rate_download,
    "packet_rate_upload": |s| s.packet_rate_upload,
    "rtt_aggregate": |s| s.rtt_aggregate,
    "num_eps_oversending": |s| s.num_eps_oversending,
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
    "endpoints_with_suspended_sources": |s| s.endpoints_with_suspended_sources,
    "total_conferences_created": |s| s.total_conferences_created,
    "total_conferences_completed": |s| s.total_conferences_completed,
    "total_conference_seconds": |s| s.total_conference_seconds,
    "total_participants": |s| s.total_participants,
    "total_visitors": |s| s.total_visitors,
    "num_eps_no_msg_transport_after_delay": |s| s.num_eps_no_msg_transport_after_delay,
    "total_relays": |_| NONE,
    "num_relays_no_msg_transport_after_delay": |_| NONE,
    "total_keyframes_received": |s| s.engine.keyframes_received,
    "total_layering_changes_received": |s| s.engine.layering_changes,
    "total_video_stream_milliseconds_received": |s| s.engine.video_ms,
    "stress_level": |s| s.stress_level,
    "conferences": |s| s.conferences,
    "visitors": |s| s.visitors,
    "local_endpoints": |s| s.endpoints,
    "total_data_channel_messages_received": |s| s.channels.sctp_received,
    "total_data_channel_messages_sent": |s| s.channels.sctp_sent,
    "total_colibri_web_socket_messages_received": |s| s.channels.web_socket_received,
    "total_colibri_web_socket_messages_sent": |s| s.channels.web_socket_sent,
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
    "preemptive_kfr_sent": |s| s.keyframes_ahead.asked,
    "preemptive_kfr_suppressed": |s| s.keyframes_ahead.suppressed,
    "total_ice_failed": |s| s.transports.ice_failed,
    "total_ice_succeeded": |s| s.transports.ice_succeeded,
    "total_ice_succeeded_relayed": |s| s.transports.ice_succeeded_relayed,
    "average_participant_stress": |s| s.average_participant_stress,
    "graceful_shutdown": |s| s.graceful_shutdown,
    "shutting_down": |s| s.shutting_down,
    "drain": |s| s.drain,
    "endpoints_with_spurious_remb": |s| s.engine.spurious_rembs,
    "healthy": |s| s.healthy,
    "endpoints_disconnected": |s| s.endpoints_disconnected,
    "endpoints_reconnected": |s| s.endpoints_reconnected,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bit_rates_are_in_kbit_per_second() {
        let stats = BridgeStats { receive_bps: 2_999, send_bps: 999, ..BridgeStats::default() };
        let read = |wanted: &str| {
            let (_, read) = MEASURED.iter().find(|(name, _)| *name == wanted).unwrap();
            read(&stats)
        };
        assert_eq!(read("bit_rate_download"), Number::from(2_u64));
        assert_eq!(read("bit_rate_upload"), Number::from(0_u64));
    }
}
