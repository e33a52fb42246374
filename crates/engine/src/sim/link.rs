//! A network: it delays, loses, duplicates and reorders datagrams, according to its seed.

use std::time::{Duration, Instant};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

/// Impairments of a network. Probabilities are per datagram.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// One-way delay.
    pub delay: Duration,
    /// Most additional delay, uniformly distributed: it reorders what is sent closer together.
    pub jitter: Duration,
    /// Probability of being lost.
    pub loss: f64,
    /// Probability of arriving twice.
    pub duplicates: f64,
    /// Probability of being held back for another 20 ms.
    pub stragglers: f64,
}

impl Weather {
    /// No loss, and equal delay for everything.
    pub const FINE: Self = Self {
        delay: Duration::from_millis(10),
        jitter: Duration::ZERO,
        loss: 0.0,
        duplicates: 0.0,
        stragglers: 0.0,
    };

    /// A bad radio link.
    pub const FOUL: Self = Self {
        delay: Duration::from_millis(20),
        jitter: Duration::from_millis(6),
        loss: 0.05,
        duplicates: 0.02,
        stragglers: 0.02,
    };
}

impl Weather {
    /// Returns whether nothing is lost or reordered.
    pub fn is_orderly(&self) -> bool {
        let Self { jitter, loss, duplicates, stragglers, .. } = *self;
        jitter.is_zero() && loss == 0.0 && duplicates == 0.0 && stragglers == 0.0
    }
}

/// A bottleneck on the way to one client: a rate, and a queue in front of it.
#[derive(Clone, Debug)]
pub struct Bottleneck {
    /// Bits per second; 0: nothing gets through.
    pub bps: u64,
    /// Longest wait; what would wait longer is dropped.
    pub queue: Duration,
    /// How long each datagram that got through waited, and when it arrived.
    pub waited: Vec<(Instant, Duration)>,
    /// When each datagram was dropped.
    pub dropped: Vec<Instant>,
    /// Bytes offered, and when.
    pub offered: Vec<(Instant, usize)>,
    busy_until: Option<Instant>,
}

impl Bottleneck {
    /// Creates a bottleneck of this rate.
    pub fn new(bps: u64, queue: Duration) -> Self {
        Self {
            bps,
            queue,
            waited: Vec::new(),
            dropped: Vec::new(),
            offered: Vec::new(),
            busy_until: None,
        }
    }

    /// When a datagram that arrives at `now` is through; `None` if it is dropped.
    pub fn pass(&mut self, now: Instant, len: usize) -> Option<Instant> {
        const HEADERS: usize = 28;
        self.offered.push((now, len + HEADERS));
        let free = self.busy_until.map_or(now, |until| until.max(now));
        let waits = free - now;
        if self.bps == 0 || waits > self.queue {
            self.dropped.push(now);
            return None;
        }
        let bits = (len + HEADERS) as u64 * 8;
        let through = free + Duration::from_nanos(bits * 1_000_000_000 / self.bps);
        self.busy_until = Some(through);
        self.waited.push((now, through - now));
        Some(through)
    }

    /// The wait that `part` of the datagrams since `since` did not exceed.
    pub fn waited(&self, since: Instant, part: f64) -> Duration {
        let mut all: Vec<_> =
            self.waited.iter().filter(|(at, _)| *at >= since).map(|(_, waited)| *waited).collect();
        all.sort_unstable();
        let at = (all.len() as f64 * part) as usize;
        all.get(at.min(all.len().saturating_sub(1))).copied().unwrap_or_default()
    }

    /// The fraction of the datagrams since `since` that was dropped.
    pub fn lost(&self, since: Instant) -> f64 {
        let dropped = self.dropped.iter().filter(|at| **at >= since).count();
        let passed = self.waited.iter().filter(|(at, _)| *at >= since).count();
        dropped as f64 / (dropped + passed).max(1) as f64
    }

    /// Most bits offered in any second since `since`.
    pub fn most_in_a_second(&self, since: Instant) -> u64 {
        let all: Vec<_> = self.offered.iter().filter(|(at, _)| *at >= since).collect();
        let (mut from, mut sum, mut most) = (0, 0, 0);
        for (at, len) in &all {
            sum += len;
            while all.get(from).is_some_and(|(first, _)| *at - *first > Duration::from_secs(1)) {
                sum -= all[from].1;
                from += 1;
            }
            most = most.max(sum as u64 * 8);
        }
        most
    }
}

const HELD_BACK: Duration = Duration::from_millis(20);

/// A network with a seed.
#[derive(Debug)]
pub struct Link {
    weather: Weather,
    rng: StdRng,
}

impl Link {
    /// Creates a network with these impairments.
    pub fn new(weather: Weather, seed: u64) -> Self {
        Self { weather, rng: StdRng::seed_from_u64(seed) }
    }

    /// When a datagram sent at `now` arrives: never, once or twice.
    pub fn carry(&mut self, now: Instant) -> Vec<Instant> {
        if self.rng.random_bool(self.weather.loss) {
            return Vec::new();
        }
        let copies = 1 + usize::from(self.rng.random_bool(self.weather.duplicates));
        (0..copies).map(|_| now + self.delay()).collect()
    }

    /// A number below `n`, uniformly distributed.
    pub fn pick(&mut self, n: usize) -> usize {
        self.rng.random_range(0..n)
    }

    fn delay(&mut self) -> Duration {
        let Weather { delay, jitter, stragglers, .. } = self.weather;
        let held = if self.rng.random_bool(stragglers) { HELD_BACK } else { Duration::ZERO };
        delay + jitter.mul_f64(self.rng.random()) + held
    }
}
