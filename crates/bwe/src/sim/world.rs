//! A link shared by senders, receivers and others.

use std::{collections::VecDeque, time::Instant};

use super::{
    Random,
    link::{Link, LinkConfig, Outcome, Time},
    receiver::{Back, Counts, FeedbackConfig, Receiver},
    sender::{Content, Packet, Sender, Sent},
    tcp::{SEGMENT, Tcp},
};
use crate::Config;

/// Length of a simulation step.
const TICK: Time = 1_000;
/// Interval of measuring the queue.
const SAMPLE: Time = 10_000;
/// Time after a change of the link that does not count for the queue's percentiles.
const SETTLE: Time = 2_000_000;
const SECOND: Time = 1_000_000;
/// A shorter queue counts as empty.
const GONE: Time = 100_000;

/// A scenario.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Its name in the table.
    pub name: &'static str,
    /// The link that all share.
    pub link: LinkConfig,
    /// How feedback leaves the receivers.
    pub feedback: FeedbackConfig,
    /// Each receiver: when it joins, and how many sources it wants.
    pub receivers: Vec<(Time, usize)>,
    /// When a flow like TCP's runs.
    pub tcp: Option<(Time, Time)>,
    /// How often others in the call make the sources send a keyframe.
    pub keyframes: Option<Time>,
    /// The fraction of the link that a receiver may use.
    pub share: f64,
    /// How long it runs.
    pub length: Time,
}

/// The results for a receiver.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Outcomes {
    /// Media that arrived, relative to the best layers that fit, from the first settling on.
    pub utilisation: f64,
    /// Queueing delay at the bottleneck, ms.
    pub queue_p50: f64,
    /// The 95th percentile of the same.
    pub queue_p95: f64,
    /// Fraction of all packets dropped at the bottleneck.
    pub dropped: f64,
    /// Seconds until the best layers that fit are forwarded.
    pub settle: Option<f64>,
    /// Seconds from the last fall of the rate until the queue is empty.
    pub drained: Option<f64>,
    /// Seconds from the last rise of the rate until the best layers that fit are forwarded.
    pub recover: Option<f64>,
    /// The longest freeze, s.
    pub freeze: f64,
    /// Fraction of audio that did not arrive.
    pub audio_lost: f64,
    /// Fraction of padding in all bytes.
    pub padding: f64,
    /// Fraction of retransmissions in all bytes.
    pub again: f64,
    /// The most that all receivers' senders offered in a second, relative to the link, once
    /// settled.
    pub offered: f64,
}

enum Item {
    Media(usize, Packet),
    Segment(Time),
}

struct Flow {
    from: Time,
    sources: usize,
    sender: Sender,
    receiver: Receiver,
    back: VecDeque<(Time, Back)>,
    dropped: u64,
    forwarded_at: Option<Time>,
    recovered_at: Option<Time>,
    wanted_bits: f64,
    counted_from: u64,
    /// The last audio packet that counts, how many were sent, and how many arrived.
    audio: (u64, u64, u64),
}

/// A running scenario.
pub struct World {
    scenario: Scenario,
    link: Link<Item>,
    flows: Vec<Flow>,
    tcp: Option<Tcp>,
    lost_segments: VecDeque<(Time, Time)>,
    random: Random,
    queues: Vec<Time>,
    /// Bytes offered in this second, and the most in one, relative to the link.
    offered: (u64, f64),
    fall: Option<Time>,
    rise: Option<Time>,
    drained: Option<Time>,
    now: Time,
}

impl World {
    /// A scenario before its start.
    pub fn new(scenario: Scenario, start: Instant) -> Self {
        let rtt = scenario.link.delay + scenario.feedback.delay;
        let overtaken = if scenario.link.overtaking > 0.0 { scenario.link.jitter } else { 0 };
        let flows = scenario.receivers.iter().enumerate().map(|(n, (from, sources))| Flow {
            from: *from,
            sources: *sources,
            sender: Sender::new(*sources, Config::default(), start, *from, 7 + n as u64),
            receiver: Receiver::new(*sources, scenario.feedback, rtt, 15_000 + overtaken),
            back: VecDeque::new(),
            dropped: 0,
            forwarded_at: None,
            recovered_at: None,
            wanted_bits: 0.0,
            counted_from: 0,
            audio: (0, 0, 0),
        });
        let changes = scenario.link.rates.windows(2);
        let last = |rising: bool| {
            let mut changes = changes.clone().rev();
            changes.find(|pair| (pair[1].1 > pair[0].1) == rising).map(|pair| pair[1].0)
        };
        Self {
            link: Link::new(scenario.link.clone()),
            flows: flows.collect(),
            tcp: scenario.tcp.map(|(from, until)| Tcp::new(from, until)),
            lost_segments: VecDeque::new(),
            random: Random::new(scenario.link.seed ^ 0x5eed),
            queues: Vec::new(),
            offered: (0, 0.0),
            fall: last(false),
            rise: last(true),
            drained: None,
            scenario,
            now: 0,
        }
    }

    /// Runs to the end; returns the results for each receiver.
    pub fn run(mut self) -> Vec<Outcomes> {
        while self.step() {}
        self.outcomes()
    }

    /// A sender, to be inspected between steps.
    pub fn sender(&self, n: usize) -> &Sender {
        &self.flows[n].sender
    }

    /// A receiver, to be inspected between steps.
    pub fn receiver(&self, n: usize) -> &Receiver {
        &self.flows[n].receiver
    }

    /// The time and the queue.
    pub fn state(&mut self) -> (Time, Time) {
        (self.now, self.link.queue(self.now))
    }

    /// Advances by a millisecond; returns whether there is more.
    pub fn step(&mut self) -> bool {
        self.now += TICK;
        let now = self.now;
        self.deliver(now);
        for n in 0..self.flows.len() {
            self.step_flow(now, n);
        }
        self.step_tcp(now);
        self.measure(now);
        now < self.scenario.length
    }

    fn deliver(&mut self, now: Time) {
        while let Some((at, item)) = self.link.poll(now) {
            match item {
                Item::Media(n, packet) => {
                    let flow = &mut self.flows[n];
                    flow.receiver.on_packet(at, &packet);
                    if packet.content == Content::Audio && packet.number <= flow.audio.0 {
                        flow.audio.2 += 1;
                    }
                }
                Item::Segment(sent) => {
                    if let Some(tcp) = &mut self.tcp {
                        tcp.on_acknowledged(at, sent);
                    }
                }
            }
        }
    }

    fn step_flow(&mut self, now: Time, n: usize) {
        let flow = &mut self.flows[n];
        if now < flow.from {
            return;
        }
        let config = self.scenario.feedback;
        for back in flow.receiver.poll(now) {
            let lost = self.random.happens(config.loss) && matches!(back, Back::Feedback(_));
            if !lost && self.link.rate(now) > 0 {
                flow.back.push_back((now + config.delay, back));
            }
        }
        while flow.back.front().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, back)) = flow.back.pop_front() {
                flow.sender.on_back(now, back);
            }
        }
        let ends = now + SETTLE > self.scenario.length;
        if self.scenario.keyframes.is_some_and(|each| now.is_multiple_of(each)) {
            for source in 0..flow.sources {
                flow.sender.on_back(now, Back::Keyframe(source));
            }
        }
        for packet in flow.sender.tick(now) {
            if packet.content == Content::Audio && !ends {
                (flow.audio.0, flow.audio.1) = (packet.number, flow.audio.1 + 1);
            }
            let size = usize::from(packet.size);
            self.offered.0 += u64::from(packet.size);
            if self.link.send(now, size, Item::Media(n, packet)) == Outcome::Dropped {
                flow.dropped += 1;
            }
        }
        for source in 0..flow.sources {
            flow.receiver.set_on(source, flow.sender.is_on(source));
        }
    }

    fn step_tcp(&mut self, now: Time) {
        let Some(tcp) = &mut self.tcp else { return };
        while self.lost_segments.front().is_some_and(|(found, _)| *found <= now) {
            if let Some((_, sent)) = self.lost_segments.pop_front() {
                tcp.on_lost(now, sent);
            }
        }
        for _ in 0..tcp.poll(now) {
            if self.link.send(now, SEGMENT, Item::Segment(now)) != Outcome::Carried {
                let found = now + self.link.queue(now) + 2 * self.scenario.link.delay;
                self.lost_segments.push_back((found, now));
            }
        }
    }

    fn measure(&mut self, now: Time) {
        let queue = self.link.queue(now);
        let changes = &self.scenario.link.rates;
        let changed = changes.iter().rev().find(|(at, _)| *at <= now).map_or(0, |(at, _)| *at);
        let settled = now >= changed + SETTLE;
        if settled && now.is_multiple_of(SAMPLE) {
            self.queues.push(queue);
        }
        if now.is_multiple_of(SECOND) {
            let offered = self.offered.0 as f64 * 8.0 / self.link.rate(now).max(1) as f64;
            let most = if now >= changed + SETTLE + SECOND { offered } else { 0.0 };
            self.offered = (0, self.offered.1.max(most));
        }
        let fallen = self.fall.filter(|fall| now > fall + 200_000);
        if fallen.is_some() && self.drained.is_none() && queue < GONE {
            self.drained = Some(now);
        }
        let rate = (self.link.rate(now) as f64 * self.scenario.share) as u64;
        for flow in &mut self.flows {
            let fits = Sender::fitting(flow.sources, rate);
            let forwarded = flow.sender.forwarded() >= fits && fits > 0;
            if forwarded && now >= flow.from {
                flow.forwarded_at.get_or_insert(now);
                if self.rise.is_some_and(|rise| now >= rise) {
                    flow.recovered_at.get_or_insert(now);
                }
            }
            if now == flow.from + SETTLE {
                flow.counted_from = flow.receiver.counts(now).video_bytes;
            }
            if now > flow.from + SETTLE {
                flow.wanted_bits += fits as f64 * TICK as f64 / 1e6;
            }
        }
    }

    fn outcomes(mut self) -> Vec<Outcomes> {
        self.queues.sort_unstable();
        let quantile = |part: f64| {
            let at = (self.queues.len() as f64 * part) as usize;
            self.queues.get(at).map_or(0.0, |queue| *queue as f64 / 1_000.0)
        };
        let seconds = |from: Time, at: Option<Time>| at.map(|at| (at - from) as f64 / 1e6);
        let outcome = |flow: &Flow| {
            let got: Counts = flow.receiver.counts(self.now);
            let sent: Sent = flow.sender.sent();
            let video = (got.video_bytes - flow.counted_from) as f64 * 8.0;
            Outcomes {
                utilisation: video / flow.wanted_bits.max(1.0),
                queue_p50: quantile(0.5),
                queue_p95: quantile(0.95),
                dropped: flow.dropped as f64 / sent.packets.max(1) as f64,
                settle: seconds(flow.from, flow.forwarded_at),
                drained: self.fall.and_then(|fall| seconds(fall, self.drained)),
                recover: self.rise.and_then(|rise| seconds(rise, flow.recovered_at)),
                freeze: got.longest_freeze as f64 / 1e6,
                audio_lost: 1.0 - flow.audio.2 as f64 / flow.audio.1.max(1) as f64,
                padding: sent.padding as f64 / sent.bytes.max(1) as f64,
                again: sent.again as f64 / sent.bytes.max(1) as f64,
                offered: self.offered.1,
            }
        };
        self.flows.iter().map(outcome).collect()
    }
}
