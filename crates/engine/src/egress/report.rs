//! The clocks of a sender, from its last sender report.

use std::time::{Duration, Instant};

use rialto_rtp::rtcp::ntp;

/// An older report is no longer passed on: the sender's two clocks drift apart, and it may have
/// ended. Senders report every few seconds (RFC 3550 section 6.2).
const MAX_AGE: Duration = Duration::from_secs(30);

/// One instant on both clocks of a sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockReport {
    /// Its wall clock, NTP format.
    pub ntp: u64,
    /// The RTP clock of the encoding.
    pub timestamp: u32,
    /// When it arrived.
    pub at: Instant,
}

impl ClockReport {
    /// What both clocks show at `now`, extrapolated from the report; `None` if the report is too
    /// old.
    pub fn at(&self, now: Instant, clock_rate: u32) -> Option<(u64, u32)> {
        let since = now.saturating_duration_since(self.at);
        if since > MAX_AGE {
            return None;
        }
        let ticks = since.as_nanos().saturating_mul(clock_rate.into()) / 1_000_000_000;
        #[expect(clippy::cast_possible_truncation, reason = "RTP timestamps count modulo 2^32")]
        let ticks = ticks as u32;
        let ntp = self.ntp.wrapping_add(ntp::interval(since));
        Some((ntp, self.timestamp.wrapping_add(ticks)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_go_on_together() {
        let at = Instant::now();
        let report = ClockReport { ntp: u64::MAX, timestamp: u32::MAX, at };
        assert_eq!(report.at(at, 90_000), Some((u64::MAX, u32::MAX)));
        let later = at + Duration::from_millis(500);
        assert_eq!(report.at(later, 90_000), Some(((1 << 31) - 1, 44_999)));
        assert_eq!(report.at(at + MAX_AGE * 2, 90_000), None);
    }
}
