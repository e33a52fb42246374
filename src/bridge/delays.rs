//! How long requests take, for `/debug/stats/jvb/xmpp-delay-stats`.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde_json::{Map, Value, json};

/// Bounds of the buckets, ms.
const BOUNDS_MS: [u64; 4] = [5, 50, 100, 1_000];

/// Delays of COLIBRI requests.
#[derive(Debug, Default)]
pub(super) struct RequestDelays {
    answered: Delays,
    handled: Delays,
}

impl RequestDelays {
    /// Counts a request that was answered this long after it came.
    pub(super) fn answered(&self, delay: Duration) {
        self.answered.add(delay);
    }

    /// Counts the part of that time in which the request was not queued.
    pub(super) fn handled(&self, delay: Duration) {
        self.handled.add(delay);
    }

    /// In JVB's form.
    pub(super) fn json(&self) -> Value {
        json!({ "colibri": self.answered.json(), "colibri_processing": self.handled.json() })
    }
}

#[derive(Debug)]
struct Delays {
    count: AtomicU64,
    total: AtomicU64,
    min: AtomicU64,
    max: AtomicU64,
    buckets: [AtomicU64; BOUNDS_MS.len() + 1],
}

impl Default for Delays {
    fn default() -> Self {
        Self {
            count: AtomicU64::default(),
            total: AtomicU64::default(),
            min: AtomicU64::new(u64::MAX),
            max: AtomicU64::default(),
            buckets: Default::default(),
        }
    }
}

impl Delays {
    fn add(&self, delay: Duration) {
        let ms = delay.as_millis() as u64;
        self.count.fetch_add(1, Ordering::Relaxed);
        self.total.fetch_add(ms, Ordering::Relaxed);
        self.min.fetch_min(ms, Ordering::Relaxed);
        self.max.fetch_max(ms, Ordering::Relaxed);
        let place = BOUNDS_MS.partition_point(|bound| *bound < ms);
        if let Some(bucket) = self.buckets.get(place) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn json(&self) -> Value {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (count, total, min) = (read(&self.count), read(&self.total), read(&self.min));
        let average: Value = match count {
            0 => "NaN".into(),
            count => (total as f64 / count as f64).into(),
        };
        let starts = std::iter::once(0).chain(BOUNDS_MS);
        let ends = BOUNDS_MS.iter().map(u64::to_string).chain(["max".to_owned()]);
        let buckets: Map<String, Value> = starts
            .zip(ends)
            .zip(self.buckets.each_ref().map(read))
            .map(|((start, end), count)| (format!("{start}_to_{end}_ms"), count.into()))
            .collect();
        json!({
            "average_delay_ms": average,
            "max_delay_ms": read(&self.max),
            "min_delay_ms": if min == u64::MAX { 0 } else { min },
            "total_value": total,
            "total_count": count,
            "buckets": buckets,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_fall_into_jvbs_buckets() {
        let delays = RequestDelays::default();
        assert_eq!(delays.json()["colibri"]["average_delay_ms"], "NaN");
        for ms in [0, 5, 6, 5_000] {
            delays.answered(Duration::from_millis(ms));
        }
        let json = delays.json();
        let colibri = &json["colibri"];
        assert_eq!(colibri["average_delay_ms"], 1_252.75);
        assert_eq!(
            (&colibri["min_delay_ms"], &colibri["max_delay_ms"]),
            (&json!(0), &json!(5_000))
        );
        assert_eq!(
            colibri["buckets"],
            json!({
                "0_to_5_ms": 2, "5_to_50_ms": 1, "50_to_100_ms": 0, "100_to_1000_ms": 0,
                "1000_to_max_ms": 1,
            })
        );
        assert_eq!(json["colibri_processing"]["total_count"], 0);
    }
}
