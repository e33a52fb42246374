//! The path to one receiver: what it carries, and when the next packet may leave.

use std::time::{Duration, Instant};

use rialto_bwe::{Config, Estimator, FeedbackSummary, Kind, Pacer, Report};
use rialto_media::{Extension, MediaParams, Tables};
use rialto_rtp::{
    Seq,
    rtcp::{CongestionFeedback, TransportCc},
};

use super::{overtaken::Overtaken, reported::Reported};

/// Bytes of IP and UDP headers around what we send: they take their part of the link (RFC 768, RFC 791).
const OVERHEAD: usize = 28;
/// The first probes have told by then what the link carries.
const YOUNG: Duration = Duration::from_secs(3);
/// What is lost of what a path carries, 0..=1, and its round trip, from which on retransmissions are sent
/// twice. A shorter round trip leaves time to ask once more.
const LOSES: f64 = 0.005;
const COPIES_FROM: Duration = Duration::from_millis(40);
/// A path that loses more of what it is sent may be told so by what it is sent, 0..=1.
const HOLDS: f64 = 0.04;
/// Packets that are sent again come on top of a frame, and make a queue that is shorter than this and goes by itself.
const SHORT_QUEUE: Duration = Duration::from_millis(60);
/// A keyframe that was asked for comes within this time, or cannot be relied on.
const KEYFRAME_COMES: Duration = Duration::from_secs(1);
/// Arrival times in transport-wide feedback count these, µs.
const TICK_US: i64 = 250;

/// How the receiver tells what arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feedback {
    /// Of each packet, when (draft-holmer-rmcat-transport-wide-cc-extensions-01).
    TransportWide,
    /// The same by stream (RFC 8888).
    Congestion,
    /// What it estimates itself (draft-alvestrand-rmcat-remb-03).
    Remb,
}

impl Feedback {
    /// What a receiver negotiated; `None`: nothing.
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

/// See the module's description.
#[derive(Debug)]
pub struct Link {
    /// How the receiver tells.
    pub feedback: Feedback,
    /// What the path carries.
    pub estimator: Estimator,
    /// When the next packet may leave.
    pub pacer: Pacer,
    /// Whether it asks again for packets that are only late.
    pub overtaken: Overtaken,
    /// What the receiver's feedback names packets by, where that is not the estimator's number.
    reported: Option<Box<Reported>>,
    /// Since when it is used.
    since: Instant,
    /// It has told something.
    heard: bool,
    /// More is forwarded than was decided, until the keyframe of something less comes; since when.
    exceeded: Option<Instant>,
}

impl Link {
    /// A path of which nothing is known.
    pub fn new(feedback: Feedback, config: Config, now: Instant) -> Self {
        let (estimator, pacer) = (Estimator::new(config, now), Pacer::new(now));
        let (heard, exceeded, overtaken) = (false, None, Overtaken::new(now));
        let reported = (feedback == Feedback::Congestion).then(|| Box::new(Reported::new()));
        let mut link =
            Self { feedback, estimator, pacer, overtaken, reported, since: now, heard, exceeded };
        link.follow();
        link
    }

    /// The number that the next packet carries.
    #[inline]
    pub fn next_number(&self) -> Option<u16> {
        (self.feedback == Feedback::TransportWide).then(|| self.estimator.next_number())
    }

    /// A packet of `len` bytes above UDP has left, of this SSRC and index. The pacer knows of it already.
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

    /// Whether a packet that can wait may leave now.
    #[inline]
    pub fn allows(&mut self, now: Instant) -> bool {
        self.pacer.allows(now)
    }

    /// A packet of `len` bytes above UDP will leave now.
    #[inline]
    pub fn charge(&mut self, len: usize) {
        self.pacer.on_sent(len.saturating_add(OVERHEAD));
    }

    /// The estimate may have changed: packets leave by it.
    pub fn follow(&mut self) {
        let pace = self.estimator.pacing_bps();
        // What is too much must not fill the queue meanwhile.
        let most = if self.exceeded.is_some() { self.estimator.target_bps() } else { u64::MAX };
        self.pacer.set_rate(pace.min(most));
    }

    /// Whether the path carries what is sent now, whatever is estimated: hardly a queue stands, and little is lost.
    pub fn holds(&self) -> bool {
        self.estimator.queue() < SHORT_QUEUE && self.estimator.loss_without_queue() < HOLDS
    }

    /// Whether its first estimates are still to settle.
    pub fn is_young(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < YOUNG
    }

    /// Says whether more is forwarded than was decided.
    pub fn set_exceeded(&mut self, now: Instant, exceeded: bool) {
        self.exceeded = self.exceeded.or(Some(now)).filter(|_| exceeded);
        self.follow();
    }

    /// Whether what is lost now was most likely dropped by a queue that stands because more is forwarded than was
    /// decided. The keyframe of something less is on its way, and would wait behind what is sent again.
    pub fn overflows(&self, now: Instant) -> bool {
        let comes = |since| now.saturating_duration_since(since) < KEYFRAME_COMES;
        self.exceeded.is_some_and(comes) && self.estimator.is_queued()
    }

    /// A transport-wide feedback packet came (section 3.1 of the draft).
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

    /// Feedback by stream came (RFC 8888 section 3.1).
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
        self.overtaken.on_feedback(now, known, lost, late);
        self.follow();
    }

    /// The receiver says what it estimates itself. False: it tells more than that.
    pub fn on_remb(&mut self, now: Instant, bps: u64) -> bool {
        let takes = self.feedback == Feedback::Remb;
        if takes {
            self.estimator.on_remb(now, bps);
            self.follow();
        }
        takes
    }

    /// Whether what is sent again should be sent twice: the path loses packets though no queue stands, so
    /// that a retransmission is lost as often as anything, and asking for it once more takes so long that
    /// the picture stops. One packet in fifty, and thus one of 2,500 twice, is a freeze each ten seconds of
    /// 2.5 Mbit/s over a round trip of 100 ms.
    pub fn sends_copies(&self, rtt: Duration) -> bool {
        rtt >= COPIES_FROM && self.estimator.loss_without_queue() >= LOSES
    }

    /// Does what is due by time. Who has never told anything, though it negotiated to, is believed to be
    /// silent rather than starved: it is sent what the initial estimate carries.
    pub fn on_timeout(&mut self, now: Instant) {
        if self.heard && self.estimator.is_due(now) {
            self.estimator.on_timeout(now);
            self.follow();
        }
        while let Some(probe) = self.estimator.take_probe(now) {
            self.pacer.start_probe(now, probe);
        }
    }

    /// When something is due, beside what waits.
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
