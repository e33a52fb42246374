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
