//! A link: a bottleneck with a queue, then a path with delay, jitter and loss.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BinaryHeap, VecDeque},
};

use super::Random;

/// Microseconds since the start of the run.
pub type Time = u64;

/// Loss in bursts during a time.
#[derive(Debug, Clone, Copy)]
pub struct Bursts {
    /// When they start.
    pub from: Time,
    /// When they end.
    pub until: Time,
    /// The fraction of all packets that is lost.
    pub loss: f64,
    /// The mean number of consecutive lost packets.
    pub length: f64,
}

/// Properties of a link.
#[derive(Debug, Clone)]
pub struct LinkConfig {
    /// The rates, each with the time from which on it holds, bits per second; the first from 0.
    /// With a rate of 0 the link is gone, and what is sent is lost.
    pub rates: Vec<(Time, u64)>,
    /// The longest queue, in time at the rate; packets that would wait longer are dropped.
    pub queue: Time,
    /// Delay from the bottleneck to the receiver.
    pub delay: Time,
    /// Most additional random delay of a packet.
    pub jitter: Time,
    /// The fraction of packets that jitter lets overtake others; the others keep their order.
    pub overtaking: f64,
    /// The fraction of packets lost at random.
    pub loss: f64,
    /// Loss in bursts.
    pub bursts: Option<Bursts>,
    /// Seed of all random choices.
    pub seed: u64,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            rates: vec![(0, 5_000_000)],
            queue: 300_000,
            delay: 25_000,
            jitter: 0,
            overtaking: 0.0,
            loss: 0.0,
            bursts: None,
            seed: 1,
        }
    }
}

/// The fate of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It will arrive.
    Carried,
    /// The queue was full, or the link gone.
    Dropped,
    /// It was lost on the path.
    Lost,
}

struct Arrival<T> {
    at: Time,
    order: u64,
    item: T,
}

impl<T> PartialEq for Arrival<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Arrival<T> {}

impl<T> PartialOrd for Arrival<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Arrival<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// A link that carries packets of any kind, from any number of senders.
pub struct Link<T> {
    config: LinkConfig,
    random: Random,
    /// When the bottleneck has sent everything.
    busy_until: Time,
    /// Waiting packets: when each has left, and its bits.
    waiting: VecDeque<(Time, u64)>,
    backlog: u64,
    arrivals: BinaryHeap<Reverse<Arrival<T>>>,
    last_arrival: Time,
    order: u64,
    in_burst: bool,
}

impl<T> Link<T> {
    /// An empty link.
    pub fn new(config: LinkConfig) -> Self {
        let random = Random::new(config.seed);
        Self {
            config,
            random,
            busy_until: 0,
            waiting: VecDeque::new(),
            backlog: 0,
            arrivals: BinaryHeap::new(),
            last_arrival: 0,
            order: 0,
            in_burst: false,
        }
    }

    /// The rate at a time.
    pub fn rate(&self, at: Time) -> u64 {
        let past = self.config.rates.iter().take_while(|(from, _)| *from <= at);
        past.last().map_or(0, |(_, rate)| *rate)
    }

    /// How long a packet sent now would wait.
    pub fn queue(&mut self, now: Time) -> Time {
        while self.waiting.front().is_some_and(|(left, _)| *left <= now) {
            self.backlog -= self.waiting.pop_front().map_or(0, |(_, bits)| bits);
        }
        self.backlog * 1_000_000 / self.rate(now).max(10_000)
    }

    /// Sends a packet.
    pub fn send(&mut self, now: Time, size: usize, item: T) -> Outcome {
        // All random numbers are drawn for each packet, so that the fate of one does not depend on
        // another.
        let (loss, overtakes, jitter) =
            (self.random.part(), self.random.part(), self.random.part());
        let in_burst = self.step_burst(now);
        if self.rate(now) == 0 || self.queue(now) > self.config.queue {
            return Outcome::Dropped;
        }
        let bits = size as u64 * 8;
        self.busy_until = self.leaves(self.busy_until.max(now), bits);
        self.waiting.push_back((self.busy_until, bits));
        self.backlog += bits;
        if loss < self.config.loss || in_burst {
            return Outcome::Lost;
        }
        let jitter = (jitter * self.config.jitter as f64) as Time;
        let mut at = self.busy_until + self.config.delay + jitter;
        if overtakes >= self.config.overtaking {
            at = at.max(self.last_arrival);
            self.last_arrival = at;
        }
        self.order += 1;
        self.arrivals.push(Reverse(Arrival { at, order: self.order, item }));
        Outcome::Carried
    }

    /// The next packet that has arrived by now, and when.
    pub fn poll(&mut self, now: Time) -> Option<(Time, T)> {
        if self.arrivals.peek().is_none_or(|Reverse(arrival)| arrival.at > now) {
            return None;
        }
        self.arrivals.pop().map(|Reverse(arrival)| (arrival.at, arrival.item))
    }

    /// When the bottleneck has sent a number of bits from a time on.
    fn leaves(&self, from: Time, bits: u64) -> Time {
        let (mut at, mut left) = (from, bits);
        loop {
            let rate = self.rate(at);
            let change = self.config.rates.iter().map(|(from, _)| *from).find(|from| *from > at);
            let needed = (left * 1_000_000).checked_div(rate);
            match (needed, change) {
                (Some(needed), None) => return at + needed,
                (Some(needed), Some(change)) if at + needed <= change => return at + needed,
                (_, Some(change)) => {
                    left -= (rate * (change - at) / 1_000_000).min(left);
                    at = change;
                }
                (None, None) => return Time::MAX / 2,
            }
        }
    }

    /// Returns whether this packet is lost in a burst.
    fn step_burst(&mut self, now: Time) -> bool {
        let (ends, starts) = (self.random.part(), self.random.part());
        let Some(bursts) = self.config.bursts.filter(|b| (b.from..b.until).contains(&now)) else {
            self.in_burst = false;
            return false;
        };
        self.in_burst = if self.in_burst {
            ends >= 1.0 / bursts.length
        } else {
            starts < bursts.loss / ((1.0 - bursts.loss) * bursts.length)
        };
        self.in_burst
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(link: &mut Link<u32>) -> Vec<(Time, u32)> {
        std::iter::from_fn(|| link.poll(Time::MAX / 4)).collect()
    }

    #[test]
    fn a_packet_takes_its_own_time_the_queue_and_the_delay() {
        let mut link = Link::new(LinkConfig { rates: vec![(0, 1_000_000)], ..Default::default() });
        for n in 0..3 {
            assert_eq!(link.send(0, 1_250, n), Outcome::Carried);
        }
        assert_eq!(link.queue(0), 30_000);
        assert_eq!(drain(&mut link), [(35_000, 0), (45_000, 1), (55_000, 2)]);
    }

    #[test]
    fn a_change_of_rate_holds_for_what_waits_and_a_full_queue_drops() {
        let rates = vec![(0, 1_000_000), (5_000, 0), (105_000, 10_000_000)];
        let mut link = Link::new(LinkConfig { rates, delay: 0, ..Default::default() });
        assert_eq!(link.send(0, 1_250, 0), Outcome::Carried);
        assert_eq!(link.send(6_000, 1_250, 1), Outcome::Dropped);
        assert_eq!(drain(&mut link), [(105_500, 0)]);
        let sent = (0..1_000).filter(|n| link.send(106_000, 1_250, *n) == Outcome::Carried).count();
        assert!((299..=302).contains(&sent), "{sent}");
    }

    #[test]
    fn loss_jitter_and_order_are_as_configured() {
        let config = LinkConfig {
            jitter: 30_000,
            overtaking: 0.05,
            loss: 0.02,
            rates: vec![(0, 100_000_000)],
            ..Default::default()
        };
        let mut link = Link::new(config.clone());
        let lost = (0..20_000)
            .filter(|n| link.send(u64::from(*n) * 1_000, 100, *n) == Outcome::Lost)
            .count();
        assert!((300..500).contains(&lost), "{lost}");
        let arrived = drain(&mut link);
        let overtaken = arrived.windows(2).filter(|pair| pair[0].1 > pair[1].1).count();
        assert!((300..2_000).contains(&overtaken), "{overtaken}");
        let mut again = Link::new(config);
        for n in 0..20_000 {
            again.send(u64::from(n) * 1_000, 100, n);
        }
        assert_eq!(arrived, drain(&mut again));
    }

    #[test]
    fn bursts_lose_the_part_that_they_should_and_in_a_row() {
        let bursts = Bursts { from: 0, until: 1 << 40, loss: 0.1, length: 5.0 };
        let rates = vec![(0, 100_000_000)];
        let config = LinkConfig { bursts: Some(bursts), rates, ..Default::default() };
        let mut link = Link::new(config);
        let lost: Vec<bool> =
            (0..50_000).map(|n| link.send(n * 1_000, 100, ()) == Outcome::Lost).collect();
        let (all, rows) = (
            lost.iter().filter(|lost| **lost).count(),
            lost.windows(2).filter(|pair| !pair[0] && pair[1]).count(),
        );
        assert!((4_000..6_000).contains(&all), "{all}");
        assert!((3.5..6.5).contains(&(all as f64 / rows as f64)), "{all} {rows}");
    }
}
