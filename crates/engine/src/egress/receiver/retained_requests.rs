//! Keyframe requests for sources that a receiver unsubscribed from and may subscribe to again.

use std::time::Instant;

use rialto_media::SourceId;
use rustc_hash::FxHashMap;

use crate::ingress::keyframe::{ReceiverRequests, RequestLimit};

/// The fewest ended streams for which cleaning up is worthwhile.
const MIN_TIDY: usize = 16;

/// Keyframe requests of ended streams, kept as long as they count towards a limit. Otherwise
/// unsubscribing and subscribing again would evade the limit.
#[derive(Debug, Default)]
pub struct RetainedRequests {
    requests: FxHashMap<SourceId, ReceiverRequests>,
    /// The number of entries at which expired ones are removed.
    tidy_at: usize,
}

impl RetainedRequests {
    /// Returns the receiver's earlier requests for a source that it subscribes to again.
    pub fn take(&mut self, source: SourceId) -> ReceiverRequests {
        self.requests.remove(&source).unwrap_or_default()
    }

    /// Keeps the receiver's requests for a source that it unsubscribes from.
    pub fn keep(
        &mut self,
        source: SourceId,
        requests: ReceiverRequests,
        now: Instant,
        limit: &RequestLimit,
    ) {
        if requests.is_past(now, limit) {
            return;
        }
        if self.requests.len() >= self.tidy_at.max(MIN_TIDY) {
            self.requests.retain(|_, requests| !requests.is_past(now, limit));
            self.tidy_at = self.requests.len().saturating_mul(2);
        }
        self.requests.insert(source, requests);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LIMIT: RequestLimit =
        RequestLimit { min_interval: Duration::ZERO, max: 1, window: Duration::from_secs(10) };

    #[test]
    fn what_was_asked_for_of_sources_given_up_is_kept_while_it_counts() {
        let (start, limit) = (Instant::now(), RequestLimit { max: 3, ..LIMIT });
        let at = |s| start + Duration::from_secs(s);
        let mut r = RetainedRequests::default();
        let mut asked = ReceiverRequests::default();
        assert!(asked.rtcp_limiter.allow(start, &limit));
        for n in 0..1_000 {
            r.keep(SourceId(n), asked.clone(), at(1), &limit);
        }
        r.keep(SourceId(1_000), ReceiverRequests::default(), at(1), &limit);
        assert_eq!(r.requests.len(), 1_000, "who has not asked has no need");
        let mut again = r.take(SourceId(7));
        let left = (0..3).filter(|_| again.rtcp_limiter.allow(at(2), &limit)).count();
        assert_eq!(left, 2, "one was asked for before");
        for n in 0..2_000 {
            r.keep(SourceId(n), again.clone(), at(11), &limit);
        }
        assert!(r.requests.len() <= 2_000);
        r.keep(SourceId(5_000), asked.clone(), at(9), &limit);
        r.tidy_at = 0;
        again.rtcp_limiter.allow(at(30), &limit);
        r.keep(SourceId(5_001), again, at(30), &limit);
        assert_eq!(r.requests.len(), 1, "the others count no more");
    }
}
