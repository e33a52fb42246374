//! The retransmission budget of one receiver: a fraction of the media that it is sent, plus a small
//! constant rate. What it requests, and how often, does not enlarge it; a receiver whose link loses
//! more needs a lower bitrate, not more packets.

/// One byte may be retransmitted for this many bytes sent for the first time.
const SHARE: u32 = 4;
/// Bytes that may be retransmitted per millisecond, whatever else is sent: 96 kbit/s.
const FLOOR_PER_MS: u32 = 12;
/// Bytes that may be retransmitted at once: the loss of a third of a second of 2.5 Mbit/s.
const BURST: u32 = 128 << 10;

/// A token bucket in bytes.
#[derive(Clone, Debug)]
pub struct ResendBudget {
    /// Negative if the last packet was longer than the remaining budget.
    left: i64,
    /// Bytes sent for the first time that have not earned a whole byte yet.
    rest: u32,
    at_ms: Option<u32>,
}

impl Default for ResendBudget {
    fn default() -> Self {
        Self { left: BURST.into(), rest: 0, at_ms: None }
    }
}

impl ResendBudget {
    /// Counts bytes sent for the first time.
    #[inline]
    pub fn on_sent(&mut self, len: usize) {
        let earned = self.rest.saturating_add(u32::try_from(len).unwrap_or(u32::MAX));
        self.rest = earned % SHARE;
        self.earn(earned / SHARE);
    }

    /// Returns whether a retransmission is allowed at `now_ms` (it wraps; only differences count).
    pub fn allows(&mut self, now_ms: u32) -> bool {
        let since = self.at_ms.map_or(0, |at| now_ms.wrapping_sub(at));
        self.at_ms = Some(now_ms);
        self.earn(since.saturating_mul(FLOOR_PER_MS));
        self.left > 0
    }

    /// Counts retransmitted bytes.
    pub fn on_resent(&mut self, len: usize) {
        self.left = self.left.saturating_sub(i64::try_from(len).unwrap_or(i64::MAX));
    }

    fn earn(&mut self, bytes: u32) {
        self.left = self.left.saturating_add(bytes.into()).min(BURST.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes retransmitted in `seconds` of constant requests for packets of 1,000 bytes.
    fn again(budget: &mut ResendBudget, seconds: u32, media_per_ms: usize) -> usize {
        let start = budget.at_ms.unwrap_or(u32::MAX - 500);
        let mut all = 0;
        for ms in 1..=seconds * 1_000 {
            budget.on_sent(media_per_ms);
            while budget.allows(start.wrapping_add(ms)) {
                budget.on_resent(1_000);
                all += 1_000;
            }
        }
        all
    }

    #[test]
    fn a_quarter_of_the_media_and_a_floor_after_the_burst() {
        let mut budget = ResendBudget::default();
        let first = again(&mut budget, 1, 0);
        assert!((BURST as usize..BURST as usize + 14_000).contains(&first), "{first}");
        // 2.5 Mbit/s; the last packet may be longer than the remaining budget.
        let media = again(&mut budget, 10, 312);
        let earned = 10_000 * (312 / 4 + 12);
        assert!((earned - 1_000..=earned + 1_000).contains(&media), "{media} of {earned}");
    }

    #[test]
    fn nothing_is_saved_up_beyond_the_burst() {
        let mut budget = ResendBudget::default();
        budget.on_sent(usize::MAX);
        assert!(budget.allows(0) && budget.allows(u32::MAX / 2));
        assert_eq!(budget.left, i64::from(BURST));
    }
}
