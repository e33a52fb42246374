//! Statistics of a conference.

use rialto_engine::Reason;
use rialto_media::MediaType;

use super::{keyframe_ahead::KeyframesAhead, state::Conference};

/// Sums over the endpoints of a conference.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tally {
    /// Endpoints.
    pub endpoints: usize,
    /// Of these, visitors.
    pub visitors: usize,
    /// Endpoints that send audio.
    pub audio_senders: usize,
    /// Endpoints that send video.
    pub video_senders: usize,
    /// Endpoints that send neither.
    pub silent: usize,
    /// Endpoints that report that they lose more than 10 % of what we send.
    pub high_outgoing_loss: usize,
    /// RTP received, bit/s.
    pub receive_bps: u64,
    /// RTP sent, bit/s.
    pub send_bps: u64,
    /// RTP packets received per second.
    pub receive_pps: u64,
    /// RTP packets sent per second.
    pub send_pps: u64,
    /// RTP packets lost on the way to us, per second.
    pub receive_lost_pps: f64,
    /// RTP packets lost on the way from us, per second.
    pub send_lost_pps: f64,
    /// Sum of the known round trips, ms.
    pub rtt_sum_ms: f64,
    /// How many are known.
    pub rtt_count: usize,
    /// Each endpoint's own video, and those of others up to its last-N.
    pub video_streams: usize,
    /// Videos that endpoints could get, by the reason why they get no more of them
    /// ([`Reason::ALL`]).
    pub reasons: [u64; Reason::ALL.len()],
    /// Endpoints that are sent more than their link is estimated to carry.
    pub oversending: usize,
    /// Endpoints with a suspended source: the allocation gives it no bandwidth.
    pub with_suspended: usize,
    /// The most videos that one endpoint is allocated.
    pub most_forwarded: usize,
}

impl Tally {
    /// Nobody sends.
    pub fn is_inactive(&self) -> bool {
        self.audio_senders == 0 && self.video_senders == 0
    }
}

impl Conference {
    /// How often the dominant speaker changed, and the keyframes requested ahead.
    pub fn counters(&self) -> (u64, KeyframesAhead) {
        (self.speakers.changes(), self.ahead)
    }

    /// Sums it up.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally { endpoints: self.endpoints.len(), ..Tally::default() };
        let all_videos: usize = self.endpoints.values().map(super::Endpoint::videos).sum();
        for endpoint in self.endpoints.values() {
            self.count_reasons(endpoint, all_videos, &mut tally);
            let audio = endpoint.is_sending(MediaType::Audio);
            let video = endpoint.is_sending(MediaType::Video);
            let others = self.endpoints.len() - 1;
            tally.video_streams += 1 + endpoint.last_n(self.caps).unwrap_or(others).min(others);
            tally.visitors += usize::from(endpoint.is_visitor());
            tally.audio_senders += usize::from(audio);
            tally.video_senders += usize::from(video);
            tally.silent += usize::from(!audio && !video);
            let Some(measured) = &endpoint.snapshot else { continue };
            tally.high_outgoing_loss += usize::from(measured.send_loss > 0.1);
            tally.receive_bps = tally.receive_bps.saturating_add(measured.receive_bps);
            tally.send_bps = tally.send_bps.saturating_add(measured.send_bps);
            tally.receive_pps = tally.receive_pps.saturating_add(measured.receive_pps);
            tally.send_pps = tally.send_pps.saturating_add(measured.send_pps);
            // Received packets do not include those that were lost.
            let loss = f64::from(measured.receive_loss.clamp(0.0, 0.99));
            tally.receive_lost_pps += measured.receive_pps as f64 * loss / (1.0 - loss);
            tally.send_lost_pps +=
                measured.send_pps as f64 * f64::from(measured.send_loss.clamp(0.0, 1.0));
            if let Some(rtt) = measured.rtt.filter(|rtt| !rtt.is_zero()) {
                tally.rtt_sum_ms += rtt.as_secs_f64() * 1000.0;
                tally.rtt_count += 1;
            }
        }
        tally
    }
}
