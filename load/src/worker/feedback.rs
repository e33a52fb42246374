//! RTCP with the crate `rtcp`: reads what the bridge sends, writes reports and requests.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rtcp::{
    goodbye::Goodbye,
    packet::Packet,
    payload_feedbacks::{
        full_intra_request::FullIntraRequest, picture_loss_indication::PictureLossIndication,
        receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate,
    },
    receiver_report::ReceiverReport,
    reception_report::ReceptionReport,
    sender_report::SenderReport,
    transport_feedbacks::{
        transport_layer_cc::{SymbolTypeTcc, TransportLayerCc},
        transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers},
    },
};

use super::{Context, receive::Receiver, send::Report};

/// RTCP packets to be sent.
pub type Packets = Vec<Box<dyn Packet + Send + Sync>>;

/// Reports in one packet (RFC 3550 section 6.4.1: a count of five bits).
const MAX_REPORTS: usize = 31;
/// Most bytes of a compound packet.
const MAX_COMPOUND: usize = 1150;
/// Seconds from 1900 to 1970.
const NTP_OFFSET: f64 = 2_208_988_800.0;

/// Counts of the bridge's RTCP.
#[derive(Clone, Copy, Default, Debug, serde::Serialize)]
pub struct Heard {
    /// Packets that the bridge requested again.
    pub nacked: u64,
    /// Keyframe requests, PLI and FIR.
    pub keyframe_requests: u64,
    /// Transport-wide feedback packets.
    pub transport_feedbacks: u64,
    /// Packets that transport-wide feedback reported as received.
    pub transport_received: u64,
    /// Packets that transport-wide feedback reported as lost.
    pub transport_lost: u64,
    /// Sender reports.
    pub sender_reports: u64,
    /// Receiver reports.
    pub receiver_reports: u64,
    /// Estimates of the bandwidth (REMB).
    pub estimates: u64,
    /// Goodbyes.
    pub goodbyes: u64,
    /// Compound packets that could not be read.
    pub unreadable: u64,
}

/// The bridge's requests to a sender.
#[derive(Default)]
pub struct Wishes {
    /// SSRCs whose next frame should be a keyframe.
    pub keyframes: Vec<u32>,
    /// Packets to retransmit: SSRC and sequence number.
    pub again: Vec<(u32, u16)>,
}

/// Reads a plain compound packet.
pub fn read(
    plain: &[u8],
    at: Instant,
    receiver: &mut Receiver,
    heard: &mut Heard,
    context: &Context,
) -> Wishes {
    let mut wishes = Wishes::default();
    let Ok(packets) = rtcp::packet::unmarshal(&mut &*plain) else {
        heard.unreadable += 1;
        return wishes;
    };
    for packet in &packets {
        let packet = packet.as_any();
        if let Some(nack) = packet.downcast_ref::<TransportLayerNack>() {
            let seqs = nack.nacks.iter().flat_map(|pair| pair.into_iter());
            wishes.again.extend(seqs.map(|seq| (nack.media_ssrc, seq)));
        } else if let Some(pli) = packet.downcast_ref::<PictureLossIndication>() {
            wishes.keyframes.push(pli.media_ssrc);
        } else if let Some(fir) = packet.downcast_ref::<FullIntraRequest>() {
            wishes.keyframes.extend(fir.fir.iter().map(|entry| entry.ssrc));
        } else if let Some(feedback) = packet.downcast_ref::<TransportLayerCc>() {
            heard.transport_feedbacks += 1;
            count_transport(feedback, heard);
        } else if let Some(report) = packet.downcast_ref::<SenderReport>() {
            heard.sender_reports += 1;
            receiver.sender_report(report, at);
        } else if packet.is::<ReceiverReport>() {
            heard.receiver_reports += 1;
        } else if packet.is::<ReceiverEstimatedMaximumBitrate>() {
            heard.estimates += 1;
        } else if let Some(bye) = packet.downcast_ref::<Goodbye>() {
            heard.goodbyes += 1;
            bye.sources.iter().for_each(|&ssrc| receiver.goodbye(ssrc, &context.shared));
        }
    }
    heard.nacked += wishes.again.len() as u64;
    heard.keyframe_requests += wishes.keyframes.len() as u64;
    wishes
}

fn count_transport(feedback: &TransportLayerCc, heard: &mut Heard) {
    let received = feedback
        .recv_deltas
        .iter()
        .filter(|delta| delta.type_tcc_packet != SymbolTypeTcc::PacketNotReceived)
        .count() as u64;
    heard.transport_received += received;
    heard.transport_lost += u64::from(feedback.packet_status_count).saturating_sub(received);
}

/// Generic NACKs for missing packets.
pub fn nacks(sender_ssrc: u32, missing: Vec<(u32, Vec<u16>)>) -> Packets {
    let nack = |(media_ssrc, seqs): (u32, Vec<u16>)| -> Box<dyn Packet + Send + Sync> {
        let nacks = nack_pairs_from_sequence_numbers(&seqs);
        Box::new(TransportLayerNack { sender_ssrc, media_ssrc, nacks })
    };
    missing.into_iter().map(nack).collect()
}

/// Sender reports about what is sent, receiver reports about what is received, and keyframe
/// requests.
pub fn reports(
    ssrc: u32,
    sent: Vec<Report>,
    received: &[ReceptionReport],
    keyframes: Vec<u32>,
) -> Packets {
    let mut packets = Packets::new();
    let ntp_time = ntp_now();
    for report in sent {
        packets.push(Box::new(SenderReport {
            ssrc: report.ssrc,
            ntp_time,
            rtp_time: report.timestamp,
            packet_count: report.packets,
            octet_count: report.octets,
            ..SenderReport::default()
        }));
    }
    for reports in received.chunks(MAX_REPORTS) {
        let reports = reports.to_vec();
        packets.push(Box::new(ReceiverReport { ssrc, reports, ..ReceiverReport::default() }));
    }
    packets.extend(self::keyframes(ssrc, keyframes));
    packets
}

/// Keyframe requests.
pub fn keyframes(sender_ssrc: u32, of: Vec<u32>) -> Packets {
    let pli = |media_ssrc| -> Box<dyn Packet + Send + Sync> {
        Box::new(PictureLossIndication { sender_ssrc, media_ssrc })
    };
    of.into_iter().map(pli).collect()
}

/// Combines packets into compound packets that fit a datagram. Each begins with a report (RFC 3550
/// section 6.1).
pub fn compounds(ssrc: u32, packets: Packets) -> Vec<Vec<u8>> {
    let mut compounds: Vec<Vec<u8>> = Vec::new();
    for packet in packets {
        let is_report =
            packet.as_any().is::<ReceiverReport>() || packet.as_any().is::<SenderReport>();
        let Ok(bytes) = packet.marshal() else { continue };
        if let Some(last) = compounds.last_mut()
            && last.len() + bytes.len() <= MAX_COMPOUND
        {
            last.extend_from_slice(&bytes);
            continue;
        }
        let mut compound = Vec::new();
        if !is_report {
            let empty = ReceiverReport { ssrc, ..ReceiverReport::default() };
            let empty: Box<dyn Packet + Send + Sync> = Box::new(empty);
            compound.extend_from_slice(&empty.marshal().unwrap_or_default());
        }
        compound.extend_from_slice(&bytes);
        compounds.push(compound);
    }
    compounds
}

/// NTP time of now: seconds since 1900, 32 bits before and after the point.
fn ntp_now() -> u64 {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    ((unix + NTP_OFFSET) * 4_294_967_296.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compounds_begin_with_a_report_and_fit() {
        let missing = (0..200).map(|ssrc| (ssrc, vec![1, 2, 3, 100, 200])).collect();
        let compounds = compounds(7, nacks(7, missing));
        assert!(compounds.len() > 1);
        let mut found = 0;
        for compound in compounds {
            assert!(compound.len() <= MAX_COMPOUND + 40);
            let packets = rtcp::packet::unmarshal(&mut &compound[..]).unwrap();
            assert!(packets[0].as_any().is::<ReceiverReport>());
            for packet in &packets[1..] {
                let nack = packet.as_any().downcast_ref::<TransportLayerNack>().unwrap();
                let seqs: Vec<_> = nack.nacks.iter().flat_map(|p| p.into_iter()).collect();
                assert_eq!(seqs, [1, 2, 3, 100, 200]);
                found += 1;
            }
        }
        assert_eq!(found, 200);
    }

    #[test]
    fn many_reports_are_split() {
        let received = vec![ReceptionReport::default(); 40];
        let packets = reports(1, Vec::new(), &received, vec![5]);
        assert_eq!(packets.len(), 3);
        assert_eq!(compounds(1, packets).len(), 1);
    }
}
