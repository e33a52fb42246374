//! Reasons for dropping packets. Every drop has one of these reasons and is counted.

/// A reason for dropping something that was received or requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Drop {
    /// A first byte that RFC 7983 assigns to no protocol that the bridge serves.
    UnknownKind,
    /// DTLS, RTP or RTCP from an address that STUN has not validated.
    UnboundAddress,
    /// For an endpoint that no longer exists.
    UnknownEndpoint,
    /// Media before the end of the DTLS handshake.
    NoKeys,
    /// Not an RTP packet, or truncated.
    MalformedRtp,
    /// Not an RTCP packet, or truncated.
    MalformedRtcp,
    /// An SSRC that was not signalled.
    UnknownSsrc,
    /// A payload type that was not signalled, or not for this kind of source.
    UnknownPayloadType,
    /// Force-muted by signalling.
    ForceMuted,
    /// Seen before, or too old to tell (RFC 3711 section 3.3.2).
    Replayed,
    /// The authentication tag is wrong.
    Unauthenticated,
    /// An RTX packet without content: a bandwidth probe.
    RtxProbe,
    /// A packet that was received both plain and as RTX, or twice as RTX.
    Duplicate,
    /// Nobody receives this encoding now.
    Unwanted,
    /// The receiver has not negotiated the packet's codec.
    CodecNotNegotiated,
    /// The receiver has no address or no keys yet.
    ReceiverNotReady,
    /// A packet larger than any that fits a datagram of 1500 bytes.
    TooLarge,
    /// A lane to another shard is full.
    PeerQueueFull,
    /// The send buffer or the socket is full.
    SendQueueFull,
    /// An SSRC that another subscription sends under, or whose earlier numbers are forgotten.
    SsrcRefused,
    /// A retransmission that was requested within the round-trip time of the last one.
    RepeatedNack,
    /// A retransmission beyond the receiver's budget.
    RetransmissionBudget,
    /// A sender report soon after the last one about the same stream.
    RepeatedReport,
    /// Silent audio (RFC 6464) beyond the limit, or audio that silence overtook.
    Silence,
    /// The arrival of a packet that no transport-wide feedback reports, because none could be sent.
    FeedbackFull,
    /// Video that could not be sent in time, because the path to the receiver is too narrow.
    Late,
    /// A retransmission of a packet from before the newest keyframe.
    Moot,
    /// A retransmission of a packet that was most likely only late, on a path that reorders
    /// packets. It is sent when it is requested once more.
    PrematureNack,
    /// Redundant audio (RFC 2198) that cannot be read, for a receiver that is to get the plain
    /// audio in it.
    MalformedRed,
    /// Audio of a sender that is not among the loudest.
    NotLoudest,
    /// Video whose dependency descriptor refers to a template structure that did not arrive.
    StructureMissing,
}

impl Drop {
    /// Number of reasons.
    pub const COUNT: usize = 31;

    /// All reasons with their metric labels.
    pub const ALL: [(Self, &'static str); Self::COUNT] = [
        (Self::UnknownKind, "unknown_kind"),
        (Self::UnboundAddress, "unbound_address"),
        (Self::UnknownEndpoint, "unknown_endpoint"),
        (Self::NoKeys, "no_keys"),
        (Self::MalformedRtp, "malformed_rtp"),
        (Self::MalformedRtcp, "malformed_rtcp"),
        (Self::UnknownSsrc, "unknown_ssrc"),
        (Self::UnknownPayloadType, "unknown_payload_type"),
        (Self::ForceMuted, "force_muted"),
        (Self::Replayed, "replayed"),
        (Self::Unauthenticated, "unauthenticated"),
        (Self::RtxProbe, "rtx_probe"),
        (Self::Duplicate, "duplicate"),
        (Self::Unwanted, "unwanted"),
        (Self::CodecNotNegotiated, "codec_not_negotiated"),
        (Self::ReceiverNotReady, "receiver_not_ready"),
        (Self::TooLarge, "too_large"),
        (Self::PeerQueueFull, "peer_queue_full"),
        (Self::SendQueueFull, "send_queue_full"),
        (Self::SsrcRefused, "ssrc_refused"),
        (Self::RepeatedNack, "repeated_nack"),
        (Self::RetransmissionBudget, "retransmission_budget"),
        (Self::RepeatedReport, "repeated_report"),
        (Self::Silence, "silence"),
        (Self::FeedbackFull, "feedback_full"),
        (Self::Late, "late"),
        (Self::Moot, "moot"),
        (Self::PrematureNack, "premature_nack"),
        (Self::MalformedRed, "malformed_red"),
        (Self::NotLoudest, "not_loudest"),
        (Self::StructureMissing, "structure_missing"),
    ];
}

/// A counter for each reason.
#[derive(Clone, Copy, Debug, Default)]
pub struct DropCounters([u64; Drop::COUNT]);

impl DropCounters {
    /// Counts one drop.
    #[inline]
    pub fn count(&mut self, reason: Drop) {
        self.add(reason, 1);
    }

    /// Counts several drops.
    pub fn add(&mut self, reason: Drop, n: u64) {
        if let Some(c) = self.0.get_mut(reason as usize) {
            *c += n;
        }
    }

    /// Number of drops for this reason.
    pub fn get(&self, reason: Drop) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or(0)
    }

    /// Label and count of every reason.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Drop::ALL.iter().map(|(reason, label)| (*label, self.get(*reason)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_place() {
        for (i, (reason, _)) in Drop::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, i);
        }
    }
}
