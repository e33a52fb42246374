//! How much one receiver may be sent again: a part of the media that it is sent, and little beside it.
//! What it asks for, and how often, does not widen that; a receiver on a link that loses more needs a
//! lower bitrate and not more packets.

/// A byte may be sent again for so many that were sent the first time.
const SHARE: u32 = 4;
/// Bytes that may be sent again for each millisecond that passes, whatever is sent: 96 kbit/s.
const FLOOR_PER_MS: u32 = 12;
/// Bytes that may be sent again at once: the loss of a third of a second of 2.5 Mbit/s.
const BURST: u32 = 128 << 10;

/// A bucket of bytes.
#[derive(Clone, Debug)]
pub struct ResendBudget {
    /// Below 0: the last packet was longer than what was left.
    left: i64,
    /// Bytes sent the first time that have not made a whole byte yet.
    rest: u32,
    at_ms: Option<u32>,
}

impl Default for ResendBudget {
    fn default() -> Self {
        Self { left: BURST.into(), rest: 0, at_ms: None }
    }
}

impl ResendBudget {
    /// So many bytes were sent the first time.
    #[inline]
    pub fn on_sent(&mut self, len: usize) {
        let earned = self.rest.saturating_add(u32::try_from(len).unwrap_or(u32::MAX));
        self.rest = earned % SHARE;
        self.earn(earned / SHARE);
    }

    /// Whether something may be sent again at `now_ms` (it wraps; only differences count).
    pub fn allows(&mut self, now_ms: u32) -> bool {
        let since = self.at_ms.map_or(0, |at| now_ms.wrapping_sub(at));
        self.at_ms = Some(now_ms);
        self.earn(since.saturating_mul(FLOOR_PER_MS));
        self.left > 0
    }

    /// So many bytes were sent again.
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

    /// How many bytes go out again in `seconds`, asked for all the time, of packets of 1,000 bytes.
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
        // 2.5 Mbit/s; the last packet may be longer than what is left.
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
