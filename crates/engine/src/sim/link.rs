//! What a network does to datagrams: it delays, loses, repeats and reorders them, as its seed decides.

use std::time::{Duration, Instant};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

/// How bad a network is. Probabilities are of each datagram.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// One way.
    pub delay: Duration,
    /// Up to so much more, evenly: it reorders what is sent closer together.
    pub jitter: Duration,
    /// Probability of being lost.
    pub loss: f64,
    /// Probability of arriving twice.
    pub duplicates: f64,
    /// Probability of being held back for another 20 ms.
    pub stragglers: f64,
}

impl Weather {
    /// Nothing is lost, and all takes the same time.
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
    /// Nothing is lost, and nothing overtakes anything.
    pub fn is_orderly(&self) -> bool {
        let Self { jitter, loss, duplicates, stragglers, .. } = *self;
        jitter.is_zero() && loss == 0.0 && duplicates == 0.0 && stragglers == 0.0
    }
}

/// A bottleneck on the way to one client: a rate, and a queue before it.
#[derive(Clone, Debug)]
pub struct Bottleneck {
    /// Bits per second; 0: nothing gets through.
    pub bps: u64,
    /// What would wait longer is dropped.
    pub queue: Duration,
    /// How long each datagram waited that got through, and when it came.
    pub waited: Vec<(Instant, Duration)>,
    /// When each was dropped.
    pub dropped: Vec<Instant>,
    /// Bytes that came, and when.
    pub offered: Vec<(Instant, usize)>,
    busy_until: Option<Instant>,
}

impl Bottleneck {
    /// A bottleneck of this rate.
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

    /// When a datagram that comes at `now` is through; `None`: it is dropped.
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

    /// The time that was not exceeded by `part` of the datagrams since `since`.
    pub fn waited(&self, since: Instant, part: f64) -> Duration {
        let mut all: Vec<_> =
            self.waited.iter().filter(|(at, _)| *at >= since).map(|(_, waited)| *waited).collect();
        all.sort_unstable();
        let at = (all.len() as f64 * part) as usize;
        all.get(at.min(all.len().saturating_sub(1))).copied().unwrap_or_default()
    }

    /// The part of the datagrams since `since` that was dropped.
    pub fn lost(&self, since: Instant) -> f64 {
        let dropped = self.dropped.iter().filter(|at| **at >= since).count();
        let passed = self.waited.iter().filter(|(at, _)| *at >= since).count();
        dropped as f64 / (dropped + passed).max(1) as f64
    }

    /// What came in any second since `since`, at most, bits.
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

/// A network under one seed.
#[derive(Debug)]
pub struct Link {
    weather: Weather,
    rng: StdRng,
}

impl Link {
    /// A network of this weather.
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

    /// One of `n`, evenly.
    pub fn pick(&mut self, n: usize) -> usize {
        self.rng.random_range(0..n)
    }

    fn delay(&mut self) -> Duration {
        let Weather { delay, jitter, stragglers, .. } = self.weather;
        let held = if self.rng.random_bool(stragglers) { HELD_BACK } else { Duration::ZERO };
        delay + jitter.mul_f64(self.rng.random()) + held
    }
}
