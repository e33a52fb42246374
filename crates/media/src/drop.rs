//! Why packets are dropped. Every drop has one of these reasons and a counter.

/// A reason for dropping something that was received or asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Drop {
    /// First byte that RFC 7983 gives to nobody we serve.
    UnknownKind,
    /// DTLS, RTP or RTCP from an address that no STUN validated.
    UnboundAddress,
    /// For an endpoint that is already gone.
    UnknownEndpoint,
    /// Media before the DTLS handshake ended.
    NoKeys,
    /// Not an RTP packet, or truncated.
    MalformedRtp,
    /// Not an RTCP packet, or truncated.
    MalformedRtcp,
    /// An SSRC that was not signalled.
    UnknownSsrc,
    /// A payload type that was not signalled, or not for this kind of source.
    UnknownPayloadType,
    /// Muted by signalling.
    ForceMuted,
    /// Seen before, or too old to tell (RFC 3711 section 3.3.2).
    Replayed,
    /// The authentication tag is wrong.
    Unauthenticated,
    /// An RTX packet without content: a bandwidth probe.
    RtxProbe,
    /// A packet that was received both ways, plain and as RTX, or twice as RTX.
    Duplicate,
    /// Nobody receives this encoding now.
    Unwanted,
    /// The receiver has not negotiated the packet's codec.
    CodecNotNegotiated,
    /// The receiver has no address or no keys yet.
    ReceiverNotReady,
    /// A packet larger than any that fits a datagram of 1500 bytes.
    TooLarge,
    /// A full lane to another shard.
    PeerQueueFull,
    /// The send arena or the socket took no more.
    SendQueueFull,
    /// An SSRC under which another subscription sends, or of which it is forgotten how far it came.
    SsrcRefused,
    /// A retransmission that was asked for within the round trip of the last.
    RepeatedNack,
    /// A retransmission beyond what the receiver may have for what it is sent.
    RetransmissionBudget,
    /// A sender report that came soon after the last one about the same stream.
    RepeatedReport,
    /// Audio that is silent, of which enough was forwarded (RFC 6464), or that silence overtook.
    Silence,
    /// The arrival of a packet that no transport-wide feedback reports, because none could leave.
    FeedbackFull,
    /// Video that could not leave in time, because the path to the receiver carries less.
    Late,
    /// A retransmission of what was sent before the newest keyframe.
    Moot,
    /// A retransmission of a packet that was most likely only late, on a path that changes the order of
    /// packets. It is sent when it is asked for once more.
    PrematureNack,
    /// Redundant audio (RFC 2198) that cannot be read, for a receiver who is to have the plain audio in it.
    MalformedRed,
    /// Audio of a sender who is not among the loudest.
    NotLoudest,
    /// Video of which the dependency descriptor refers to a structure that did not come.
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

/// One counter for each reason.
#[derive(Clone, Copy, Debug, Default)]
pub struct DropCounters([u64; Drop::COUNT]);

impl DropCounters {
    /// Counts one.
    #[inline]
    pub fn count(&mut self, reason: Drop) {
        self.add(reason, 1);
    }

    /// Counts several.
    pub fn add(&mut self, reason: Drop, n: u64) {
        if let Some(c) = self.0.get_mut(reason as usize) {
            *c += n;
        }
    }

    /// How many were dropped for this reason.
    pub fn get(&self, reason: Drop) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or(0)
    }

    /// Every reason's label and count.
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
