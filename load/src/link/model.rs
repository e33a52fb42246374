//! One direction of a link, without I/O and without a clock: a queue in front of a bottleneck,
//! loss, and the path to the other end.
//!
//! Times count from a start of the caller's choice. The same seed, packets and times give the same
//! results.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BinaryHeap, VecDeque},
    time::Duration,
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::{counts::Counts, settings::Settings};

/// One direction of a link for packets `T`.
#[derive(Debug)]
pub struct Link<T> {
    settings: Settings,
    /// The last rate above 0: it determines the size of the queue while nothing is carried.
    last_rate: u64,
    /// The time up to which the bottleneck was simulated.
    clock: Duration,
    queue: VecDeque<Queued<T>>,
    queued_bytes: u64,
    /// What is left of the first packet of the queue, in bits × nanoseconds per second.
    left: u128,
    /// When the bottleneck began with the first packet of the queue.
    begun: Option<Duration>,
    loss: Loss,
    way: Way<T>,
    counts: Counts,
}

#[derive(Debug)]
struct Queued<T> {
    packet: T,
    bytes: usize,
    arrived: Duration,
}

/// A bit, in the unit of [`Link::left`].
const BIT: u128 = 1_000_000_000;

impl<T> Link<T> {
    /// An empty link.
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            last_rate: settings.rate.unwrap_or(0),
            settings,
            clock: Duration::ZERO,
            queue: VecDeque::new(),
            queued_bytes: 0,
            left: 0,
            begun: None,
            loss: Loss { bad: false, rng: StdRng::seed_from_u64(seed) },
            way: Way::new(!seed),
            counts: Counts::default(),
        }
    }

    /// The current settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Changes the settings from `now` on. What is in the queue stays there and leaves at the new
    /// rate; what has passed the bottleneck arrives as it would have.
    pub fn set(&mut self, now: Duration, settings: Settings) {
        self.advance(now);
        if let Some(rate @ 1..) = settings.rate {
            self.last_rate = rate;
        }
        self.settings = settings;
        self.advance(now);
    }

    /// Adds a packet of this size at the near end.
    pub fn push(&mut self, now: Duration, bytes: usize, packet: T) {
        self.advance(now);
        self.counts.offered.add(bytes);
        if self.is_full() {
            self.counts.queue_dropped.add(bytes);
            return;
        }
        if self.queue.is_empty() {
            self.left = bits(bytes);
        }
        self.queue.push_back(Queued { packet, bytes, arrived: self.clock });
        self.queued_bytes += bytes as u64;
        self.advance(now);
    }

    /// Returns a packet that has arrived at the far end, if there is one.
    pub fn pop(&mut self, now: Duration) -> Option<T> {
        self.advance(now);
        let (bytes, packet) = self.way.pop(now)?;
        self.counts.delivered.add(bytes);
        Some(packet)
    }

    /// When to call [`Self::pop`] next; `None`: not before another packet or change.
    pub fn next_time(&self) -> Option<Duration> {
        let leaves = self.queue.front().and_then(|_| self.finish());
        [leaves, self.way.next_time()].into_iter().flatten().min()
    }

    /// Takes the counts since the last call.
    pub fn take_counts(&mut self, now: Duration) -> Counts {
        self.advance(now);
        std::mem::take(&mut self.counts)
    }

    /// Returns whether a packet would have to wait for longer than the queue allows. A packet that
    /// finds the bottleneck idle never does, unless nothing is carried at all.
    fn is_full(&self) -> bool {
        let rate = match self.settings.rate {
            None => return false,
            Some(0) => self.last_rate,
            Some(rate) if self.queue.is_empty() => return rate == 0,
            Some(rate) => rate,
        };
        let behind = self.queue.front().map_or(0, |head| bits(head.bytes));
        let waiting = self.left + (bits(self.queued_bytes as usize) - behind);
        waiting > u128::from(rate) * self.settings.queue.as_nanos() || rate == 0
    }

    /// When the first packet of the queue has passed the bottleneck; `None` if nothing is carried.
    fn finish(&self) -> Option<Duration> {
        match self.settings.rate {
            None => Some(self.clock),
            Some(0) => None,
            Some(rate) => {
                let nanos = self.left.div_ceil(rate.into());
                Some(self.clock + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
            }
        }
    }

    /// Simulates the bottleneck up to `now`.
    fn advance(&mut self, now: Duration) {
        let now = now.max(self.clock);
        while let Some(head) = self.queue.front() {
            let begun = *self.begun.get_or_insert(self.clock);
            let waited = begun.saturating_sub(head.arrived);
            let finish = self.finish().filter(|finish| *finish <= now);
            let Some(finish) = finish else {
                let rate = self.settings.rate.unwrap_or(0);
                let done = u128::from(rate) * now.saturating_sub(self.clock).as_nanos();
                self.left = self.left.saturating_sub(done);
                break;
            };
            self.clock = finish;
            self.begun = None;
            self.counts.waited(waited);
            self.leave(finish);
        }
        self.clock = now;
    }

    /// Moves the first packet of the queue past the bottleneck.
    fn leave(&mut self, now: Duration) {
        let Some(Queued { packet, bytes, .. }) = self.queue.pop_front() else { return };
        self.queued_bytes -= bytes as u64;
        self.left = self.queue.front().map_or(0, |next| bits(next.bytes));
        // Every packet draws its random numbers, whatever the settings and the fates of others.
        let drawn = self.way.draw();
        if self.loss.takes(&self.settings) {
            self.counts.lost.add(bytes);
        } else {
            self.way.push(now, &self.settings, drawn, bytes, packet);
        }
    }
}

fn bits(bytes: usize) -> u128 {
    8 * BIT * bytes as u128
}

/// Random loss, after Gilbert: in the bad state every packet is lost.
#[derive(Debug)]
struct Loss {
    bad: bool,
    rng: StdRng,
}

impl Loss {
    /// Returns whether the next packet is lost. The state ends after `burst` packets on average,
    /// and begins so often that the fraction of lost packets is `loss`.
    fn takes(&mut self, settings: &Settings) -> bool {
        let (loss, burst) = (settings.loss, settings.burst);
        let drawn: f64 = self.rng.random();
        self.bad = if burst <= 1.0 || loss >= 1.0 || loss <= 0.0 {
            drawn < loss
        } else if self.bad {
            drawn >= 1.0 / burst
        } else {
            drawn < loss / (burst * (1.0 - loss))
        };
        self.bad
    }
}

/// The path from the bottleneck to the far end.
#[derive(Debug)]
struct Way<T> {
    packets: BinaryHeap<Reverse<UnderWay<T>>>,
    pushed: u64,
    /// When the last of the packets that keep their order arrives.
    last: Duration,
    rng: StdRng,
}

#[derive(Debug)]
struct UnderWay<T> {
    arrives: Duration,
    /// Orders packets that arrive at the same time.
    number: u64,
    bytes: usize,
    packet: T,
}

impl<T> Way<T> {
    fn new(seed: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        Self { packets: BinaryHeap::new(), pushed: 0, last: Duration::ZERO, rng }
    }

    /// The random numbers of a packet: how much of the jitter delays it, and whether it does.
    fn draw(&mut self) -> (f64, f64) {
        (self.rng.random(), self.rng.random())
    }

    /// Jitter delays a packet, and those behind it too (the model NR-BPDV of RFC 8868), except for
    /// the fraction that overtakes.
    fn push(
        &mut self,
        now: Duration,
        settings: &Settings,
        (held, free): (f64, f64),
        bytes: usize,
        packet: T,
    ) {
        let mut arrives = now + settings.delay;
        if free >= settings.overtake {
            arrives = self.last.max(arrives + settings.jitter.mul_f64(held));
            self.last = arrives;
        }
        let number = self.pushed;
        self.pushed += 1;
        self.packets.push(Reverse(UnderWay { arrives, number, bytes, packet }));
    }

    fn pop(&mut self, now: Duration) -> Option<(usize, T)> {
        if self.next_time()? > now {
            return None;
        }
        self.packets.pop().map(|Reverse(under_way)| (under_way.bytes, under_way.packet))
    }

    fn next_time(&self) -> Option<Duration> {
        self.packets.peek().map(|Reverse(first)| first.arrives)
    }
}

impl<T> Ord for UnderWay<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.arrives, self.number).cmp(&(other.arrives, other.number))
    }
}

impl<T> PartialOrd for UnderWay<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for UnderWay<T> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<T> Eq for UnderWay<T> {}

#[cfg(test)]
mod tests;
