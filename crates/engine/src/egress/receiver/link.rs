//! The path to one receiver: its bandwidth estimate, and when the next packet may leave.

use std::time::{Duration, Instant};

use rialto_bwe::{Config, Estimator, FeedbackSummary, Kind, Pacer, Report};
use rialto_media::{Extension, MediaParams, Tables};
use rialto_rtp::{
    Seq,
    rtcp::{CongestionFeedback, TransportCc},
};

use super::{premature::PrematureNacks, reported::Reported};

/// Bytes of IP and UDP headers of each packet, which take up bandwidth too (RFC 768, RFC 791).
const OVERHEAD: usize = 28;
/// By then the first probes have shown the bandwidth.
const YOUNG: Duration = Duration::from_secs(3);
/// Packet loss (0..=1) and round-trip time from which on retransmissions are sent twice. A shorter
/// round trip leaves time to request the packet once more.
const LOSES: f64 = 0.005;
const COPIES_FROM: Duration = Duration::from_millis(40);
/// Packet loss (0..=1) above which what is sent may be the cause.
const HOLDS: f64 = 0.04;
/// Retransmissions come on top of a frame, and make a queue that is shorter than this and drains by
/// itself.
const SHORT_QUEUE: Duration = Duration::from_millis(60);
/// A requested keyframe arrives within this time, or cannot be relied on.
const KEYFRAME_COMES: Duration = Duration::from_secs(1);
/// Unit of arrival times in transport-wide feedback, µs.
const TICK_US: i64 = 250;

/// How the receiver reports arrivals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feedback {
    /// When each packet arrived, by transport sequence number
    /// (draft-holmer-rmcat-transport-wide-cc-extensions-01).
    TransportWide,
    /// When each packet arrived, by stream (RFC 8888).
    Congestion,
    /// Its own bandwidth estimate (draft-alvestrand-rmcat-remb-03).
    Remb,
}

impl Feedback {
    /// The feedback that a receiver negotiated, if any.
    pub fn negotiated(media: &MediaParams, tables: &Tables) -> Option<Self> {
        let numbered = tables.extension_id(Extension::TransportCc).is_some();
        if numbered && media.payload_types.iter().any(|p| p.transport_cc) {
            return Some(Self::TransportWide);
        }
        if media.congestion_feedback {
            return Some(Self::Congestion);
        }
        tables.remb.then_some(Self::Remb)
    }
}

/// The path to one receiver.
#[derive(Debug)]
pub struct Link {
    /// How the receiver reports arrivals.
    pub feedback: Feedback,
    /// Estimates the bandwidth.
    pub estimator: Estimator,
    /// Decides when the next packet may leave.
    pub pacer: Pacer,
    /// Tells whether the receiver requests packets that are only late.
    pub premature_nacks: PrematureNacks,
    /// Maps the receiver's feedback to the estimator's numbers, where the two differ.
    reported: Option<Box<Reported>>,
    /// When the link came into use.
    since: Instant,
    /// Whether any feedback has arrived.
    heard: bool,
    /// Since when more is forwarded than was allocated, until the keyframe of a lower layer arrives.
    exceeded: Option<Instant>,
}

impl Link {
    /// Creates a link without an estimate.
    pub fn new(feedback: Feedback, config: Config, now: Instant) -> Self {
        let (estimator, pacer) = (Estimator::new(config, now), Pacer::new(now));
        let (heard, exceeded, premature_nacks) = (false, None, PrematureNacks::new(now));
        let reported = (feedback == Feedback::Congestion).then(|| Box::new(Reported::new()));
        let mut link = Self {
            feedback,
            estimator,
            pacer,
            premature_nacks,
            reported,
            since: now,
            heard,
            exceeded,
        };
        link.follow();
        link
    }

    /// The transport sequence number for the next packet.
    #[inline]
    pub fn next_number(&self) -> Option<u16> {
        (self.feedback == Feedback::TransportWide).then(|| self.estimator.next_number())
    }

    /// Handles a packet of `len` bytes above UDP that left with this SSRC and index. The pacer was
    /// charged already.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the low bits of an index are its number")]
    pub fn on_sent(&mut self, now: Instant, len: usize, kind: Kind, (ssrc, index): (u32, u64)) {
        if let Some(reported) = &mut self.reported {
            let ms = now.saturating_duration_since(self.since).as_millis() as u16;
            reported.on_sent((ssrc, index as u16), self.estimator.next_number(), ms);
        }
        let probe = self.pacer.running_probe();
        let size = len.saturating_add(OVERHEAD);
        let _ = self.estimator.on_sent(now, u16::try_from(size).unwrap_or(u16::MAX), kind, probe);
        if probe.is_some() {
            self.pacer.on_probe_sent(now, size);
        }
    }

    /// Returns whether a packet that can wait may leave now.
    #[inline]
    pub fn allows(&mut self, now: Instant) -> bool {
        self.pacer.allows(now)
    }

    /// Charges the pacer for a packet of `len` bytes above UDP that is about to leave.
    #[inline]
    pub fn charge(&mut self, len: usize) {
        self.pacer.on_sent(len.saturating_add(OVERHEAD));
    }

    /// Sets the pacer to the current estimate.
    pub fn follow(&mut self) {
        let pace = self.estimator.pacing_bps();
        // The excess must not fill the queue meanwhile.
        let most = if self.exceeded.is_some() { self.estimator.target_bps() } else { u64::MAX };
        self.pacer.set_rate(pace.min(most));
    }

    /// Returns whether the path carries what is sent now, whatever the estimate: there is hardly a
    /// queue, and little is lost.
    pub fn holds(&self) -> bool {
        self.estimator.queue() < SHORT_QUEUE && self.estimator.loss_without_queue() < HOLDS
    }

    /// Returns whether the link is so new that its estimate has yet to settle.
    pub fn is_young(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < YOUNG
    }

    /// Sets whether more is forwarded than was allocated.
    pub fn set_exceeded(&mut self, now: Instant, exceeded: bool) {
        self.exceeded = self.exceeded.or(Some(now)).filter(|_| exceeded);
        self.follow();
    }

    /// Returns whether packets lost now were most likely dropped by a queue that exists because more
    /// is forwarded than was allocated. The keyframe of a lower layer is on its way, and would wait
    /// behind their retransmissions.
    pub fn overflows(&self, now: Instant) -> bool {
        let comes = |since| now.saturating_duration_since(since) < KEYFRAME_COMES;
        self.exceeded.is_some_and(comes) && self.estimator.is_queued()
    }

    /// Handles a transport-wide feedback packet (section 3.1 of the draft).
    pub fn on_transport_feedback(
        &mut self,
        now: Instant,
        feedback: &TransportCc<'_>,
    ) -> FeedbackSummary {
        let report = |(number, at): (Seq, Option<i64>)| Report {
            number: number.0,
            received: at.map(|ticks| ticks.saturating_mul(TICK_US)),
        };
        let summary = self.estimator.on_feedback(now, feedback.statuses().map(report));
        self.on_summary(now, &summary);
        summary
    }

    /// Handles feedback by stream (RFC 8888 section 3.1).
    pub fn on_congestion_feedback(
        &mut self,
        now: Instant,
        feedback: &CongestionFeedback<'_>,
    ) -> FeedbackSummary {
        let Some(reported) = &mut self.reported else {
            let unknown = u32::try_from(feedback.metrics().count()).unwrap_or(u32::MAX);
            return FeedbackSummary { unknown, ..FeedbackSummary::default() };
        };
        let (reports, unknown) = reported.read(feedback, self.estimator.next_number());
        let mut summary = self.estimator.on_feedback(now, reports);
        summary.unknown = summary.unknown.saturating_add(unknown);
        self.on_summary(now, &summary);
        summary
    }

    fn on_summary(&mut self, now: Instant, summary: &FeedbackSummary) {
        let FeedbackSummary { known, lost, late, .. } = *summary;
        self.heard |= known > 0;
        self.premature_nacks.on_feedback(now, known, lost, late);
        self.follow();
    }

    /// Handles the receiver's own estimate. Returns false if the receiver also sends more detailed
    /// feedback.
    pub fn on_remb(&mut self, now: Instant, bps: u64) -> bool {
        let takes = self.feedback == Feedback::Remb;
        if takes {
            self.estimator.on_remb(now, bps);
            self.follow();
        }
        takes
    }

    /// Returns whether retransmissions should be sent twice. This is so when the path loses packets
    /// although no queue builds up: a retransmission is lost as often as any packet, and requesting
    /// it once more takes so long that the picture stops. One packet in fifty lost, and thus one of
    /// 2,500 twice, is a freeze each ten seconds of 2.5 Mbit/s over a round trip of 100 ms.
    pub fn sends_copies(&self, rtt: Duration) -> bool {
        rtt >= COPIES_FROM && self.estimator.loss_without_queue() >= LOSES
    }

    /// Does the work that is due by time. A receiver that negotiated feedback but never sent any is
    /// taken for silent, not for starved: it is sent what the initial estimate allows.
    pub fn on_timeout(&mut self, now: Instant) {
        if self.heard && self.estimator.is_due(now) {
            self.estimator.on_timeout(now);
            self.follow();
        }
        while let Some(probe) = self.estimator.take_probe(now) {
            self.pacer.start_probe(now, probe);
        }
    }

    /// When the next work is due, apart from queued packets.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.pacer.next_probe_send()
    }
}

/// Absolute send time: seconds as 6.18 fixed point, modulo 64 s
/// (<http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time>).
pub fn absolute_send_time(since_epoch: Duration) -> u32 {
    let fixed = since_epoch.as_micros().wrapping_shl(18) / 1_000_000;
    u32::try_from(fixed & 0xff_ffff).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_send_time_is_six_bits_of_seconds_and_eighteen_below() {
        let at = |ms| absolute_send_time(Duration::from_millis(ms));
        assert_eq!(at(0), 0);
        assert_eq!(at(500), 1 << 17);
        assert_eq!(at(63_000), 63 << 18);
        assert_eq!(at(64_250), 1 << 16, "and wraps");
    }
}
