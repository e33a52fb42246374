//! A sender of layered video and audio to one receiver: allocation, queue, pacer, probes, retransmission.
//!
//! It stands for the engine's receiver, and does only what is needed to show what the estimator
//! does.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{Random, link::Time, receiver::Back};
use crate::{ClusterId, Config, Estimator, Kind, Pacer};

/// Bitrates of the layers of a source, bits per second.
pub const LAYERS: [u64; 3] = [155_000, 540_000, 2_550_000];
/// Bitrate of audio: a packet each 20 ms.
pub const AUDIO: u64 = 40_000;
const AUDIO_EACH: Time = 20_000;
const FRAME_EACH: Time = 40_000;
/// The largest packet.
const MTU: u32 = 1_150;
/// Size of a keyframe relative to other frames.
const KEYFRAME: f64 = 5.0;
/// Time from requesting a keyframe of a source to its arrival.
const KEYFRAME_AFTER: Time = 60_000;
/// A frame that has waited this long is dropped.
const TOO_LATE: Time = 400_000;
/// Fraction of the estimate for retransmissions.
const AGAIN: f64 = 0.25;
/// How long packets can be retransmitted.
const KEPT: Time = 1_000_000;

/// What a packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// 20 ms of audio.
    Audio,
    /// Nothing.
    Padding,
    /// A part of a frame.
    Video {
        /// The source.
        source: usize,
        /// Its number among the packets of the source.
        seq: u64,
        /// Its frame's number among the frames of the source.
        frame: u64,
        /// The packets of its frame.
        packets: u32,
        /// Whether it is a keyframe.
        key: bool,
        /// Whether it was sent before.
        again: bool,
    },
}

/// A packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// The transport-wide number, unwrapped.
    pub number: u64,
    /// Bytes.
    pub size: u16,
    /// What it carries.
    pub content: Content,
}

/// A packet that waits for the pacer.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    since: Time,
    source: usize,
    size: u16,
    packets: u32,
    first: bool,
    key: bool,
}

/// A source, as it is forwarded.
#[derive(Debug, Clone)]
struct Source {
    /// The layer that is forwarded.
    layer: Option<usize>,
    /// The allocated layer, and when its keyframe arrives.
    wanted: Option<usize>,
    keyframe_at: Option<Time>,
    next_frame_at: Time,
    /// Bytes of keyframes that the frames after them make up for.
    debt: f64,
    seq: u64,
    frame: u64,
    sent: VecDeque<(Time, Content, u16)>,
}

/// Counters of a sender.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sent {
    /// Bytes of all kinds.
    pub bytes: u64,
    /// Retransmitted bytes.
    pub again: u64,
    /// Bytes of padding.
    pub padding: u64,
    /// Packets of all kinds.
    pub packets: u64,
}

/// A sender to one receiver.
pub struct Sender {
    /// The estimator under test.
    pub estimator: Estimator,
    pacer: Pacer,
    start: Instant,
    random: Random,
    sources: Vec<Source>,
    next_audio: Time,
    queue: VecDeque<Waiting>,
    again: VecDeque<(Content, u16)>,
    again_budget: f64,
    ticked: Time,
    number: u64,
    sent: Sent,
}

impl Sender {
    /// Creates a sender of some sources that starts at a time.
    pub fn new(sources: usize, config: Config, start: Instant, at: Time, seed: u64) -> Self {
        let now = start + Duration::from_micros(at);
        let source = |n: usize| Source {
            layer: None,
            wanted: None,
            keyframe_at: None,
            next_frame_at: at + (n as u64 * 13_000) % FRAME_EACH,
            debt: 0.0,
            seq: 0,
            frame: 0,
            sent: VecDeque::new(),
        };
        Self {
            estimator: Estimator::new(config, now),
            pacer: Pacer::new(now),
            start,
            random: Random::new(seed),
            sources: (0..sources).map(source).collect(),
            next_audio: at,
            queue: VecDeque::new(),
            again: VecDeque::new(),
            again_budget: 0.0,
            ticked: at,
            number: 0,
            sent: Sent::default(),
        }
    }

    /// The counters.
    pub fn sent(&self) -> Sent {
        self.sent
    }

    /// The bitrate of the layers that are forwarded now.
    pub fn forwarded(&self) -> u64 {
        self.sources.iter().filter_map(|source| Some(LAYERS[source.layer?])).sum()
    }

    /// Returns whether a source is forwarded.
    pub fn is_on(&self, source: usize) -> bool {
        self.sources[source].wanted.is_some()
    }

    /// The bitrate of the layers of some sources that fit a rate beside audio.
    pub fn fitting(sources: usize, bps: u64) -> u64 {
        let layers = allocate(sources, bps, None);
        layers.iter().flatten().map(|layer| LAYERS[*layer]).sum()
    }

    /// Handles a message from the receiver.
    pub fn on_back(&mut self, now: Time, back: Back) {
        match back {
            Back::Feedback(reports) => {
                self.estimator.on_feedback(self.instant(now), reports.into_iter());
            }
            Back::Keyframe(source) => {
                let source = &mut self.sources[source];
                source.keyframe_at.get_or_insert(now + KEYFRAME_AFTER);
            }
            Back::Missing(source, seqs) => {
                for missing in seqs {
                    let source = &self.sources[source];
                    let packet = source.sent.iter().find(
                        |(_, content, _)| matches!(content, Content::Video { seq, .. } if *seq == missing),
                    );
                    if let Some((_, content, size)) = packet {
                        self.again.push_back((*content, *size));
                    }
                }
            }
        }
    }

    /// Advances by a millisecond; returns the packets that leave.
    pub fn tick(&mut self, now: Time) -> Vec<Packet> {
        let instant = self.instant(now);
        let mut out = Vec::new();
        while self.estimator.next_timeout().is_some_and(|due| due <= instant) {
            self.estimator.on_timeout(instant);
            self.start_probes(instant);
            if self.estimator.next_timeout().is_some_and(|due| due <= instant) {
                break;
            }
        }
        self.start_probes(instant);
        self.allocate(now);
        self.produce(now, &mut out);
        self.pace(now, &mut out);
        self.probe(now, &mut out);
        self.ticked = now;
        out
    }

    fn start_probes(&mut self, instant: Instant) {
        while let Some(probe) = self.estimator.take_probe(instant) {
            self.pacer.start_probe(instant, probe);
        }
    }

    fn allocate(&mut self, now: Time) {
        let target = self.estimator.target_bps();
        self.pacer.set_rate(self.estimator.pacing_bps());
        let current: Vec<_> = self.sources.iter().map(|source| source.wanted).collect();
        let layers = allocate(self.sources.len(), target, Some(&current));
        for (source, layer) in self.sources.iter_mut().zip(&layers) {
            if source.wanted == *layer {
                continue;
            }
            source.wanted = *layer;
            if *layer < source.layer {
                // What exceeds the rate stops at once.
                source.layer = None;
            }
            if layer.is_some() {
                source.keyframe_at.get_or_insert(now + KEYFRAME_AFTER);
            }
        }
        let total: u64 = layers.iter().flatten().map(|layer| LAYERS[*layer]).sum();
        let top = self.sources.len() as u64 * LAYERS[2] + AUDIO;
        let next = (0..self.sources.len()).filter_map(|n| {
            let higher = layers[n].map_or(0, |layer| layer + 1);
            let lower = layers[n].map_or(0, |layer| LAYERS[layer]);
            Some(total - lower + *LAYERS.get(higher)? + AUDIO)
        });
        let next = next.min();
        self.estimator.set_useful(self.instant(now), top, next);
    }

    /// Adds the packets of the sources.
    fn produce(&mut self, now: Time, out: &mut Vec<Packet>) {
        while self.next_audio <= now {
            self.next_audio += AUDIO_EACH;
            out.push(self.send(now, (AUDIO / 8 / 50) as u16, Kind::Audio, Content::Audio));
        }
        for n in 0..self.sources.len() {
            if self.sources[n].next_frame_at > now {
                continue;
            }
            let factor = 0.8 + 0.4 * self.random.part();
            let source = &mut self.sources[n];
            source.next_frame_at += FRAME_EACH;
            let key = source.wanted.is_some() && source.keyframe_at.is_some_and(|at| at <= now);
            if key {
                source.keyframe_at = None;
                source.layer = source.wanted;
            }
            let Some(layer) = source.layer else { continue };
            let usual = LAYERS[layer] as f64 / 8.0 / 25.0;
            let bytes = if key {
                source.debt += usual * (KEYFRAME - 1.0);
                usual * KEYFRAME
            } else {
                let less = (source.debt).min(usual * 0.2);
                source.debt -= less;
                (usual - less) * factor
            };
            let packets = ((bytes / f64::from(MTU)).ceil() as u32).max(1);
            let size = (bytes / f64::from(packets)) as u16;
            if key {
                // What a keyframe makes moot is neither sent nor retransmitted.
                self.queue.retain(|waiting| waiting.source != n);
                self.again.retain(
                    |(content, _)| !matches!(content, Content::Video { source, .. } if *source == n),
                );
                self.sources[n].sent.clear();
            }
            for packet in 0..packets {
                let first = packet == 0;
                self.queue.push_back(Waiting { since: now, source: n, size, packets, first, key });
            }
        }
    }

    fn pace(&mut self, now: Time, out: &mut Vec<Packet>) {
        let instant = self.instant(now);
        let target = self.estimator.target_bps() as f64;
        self.again_budget += target * AGAIN / 8.0 * (now - self.ticked) as f64 / 1e6;
        self.again_budget = self.again_budget.min(target / 8.0 / 4.0);
        if self.queue.front().is_some_and(|front| now - front.since > TOO_LATE) {
            for waiting in std::mem::take(&mut self.queue) {
                let source = &mut self.sources[waiting.source];
                source.keyframe_at.get_or_insert(now + KEYFRAME_AFTER);
                source.layer = None;
            }
        }
        while self.pacer.allows(instant) {
            let (size, kind, content) = if let Some((content, size)) = self.again.pop_front() {
                if self.again_budget < f64::from(size) {
                    continue;
                }
                self.again_budget -= f64::from(size);
                self.sent.again += u64::from(size);
                let Content::Video { source, seq, frame, packets, key, .. } = content else {
                    continue;
                };
                let again = true;
                let content = Content::Video { source, seq, frame, packets, key, again };
                (size, Kind::Retransmission, content)
            } else if let Some(waiting) = self.queue.pop_front() {
                (waiting.size, Kind::Video, self.number_video(now, waiting))
            } else {
                return;
            };
            out.push(self.send(now, size, kind, content));
            self.pacer.on_sent(usize::from(size));
        }
    }

    fn number_video(&mut self, now: Time, waiting: Waiting) -> Content {
        let source = &mut self.sources[waiting.source];
        if waiting.first {
            source.frame += 1;
        }
        let content = Content::Video {
            source: waiting.source,
            seq: source.seq,
            frame: source.frame,
            packets: waiting.packets,
            key: waiting.key,
            again: false,
        };
        source.seq += 1;
        source.sent.push_back((now, content, waiting.size));
        while source.sent.front().is_some_and(|(at, ..)| now - at > KEPT) {
            source.sent.pop_front();
        }
        content
    }

    fn probe(&mut self, now: Time, out: &mut Vec<Packet>) {
        let instant = self.instant(now);
        while let Some((_, bytes)) = self.pacer.probe_due(instant) {
            let size = bytes.clamp(200, 1_000) as u16;
            self.sent.padding += u64::from(size);
            out.push(self.send(now, size, Kind::Probe, Content::Padding));
            self.pacer.on_sent(usize::from(size));
        }
    }

    fn send(&mut self, now: Time, size: u16, kind: Kind, content: Content) -> Packet {
        let instant = self.instant(now);
        let cluster: Option<ClusterId> = self.pacer.running_probe();
        let wire = self.estimator.on_sent(instant, size, kind, cluster);
        if cluster.is_some() {
            self.pacer.on_probe_sent(instant, usize::from(size));
        }
        let number = self.number;
        assert_eq!(wire, number as u16);
        self.number += 1;
        self.sent.bytes += u64::from(size);
        self.sent.packets += 1;
        Packet { number, size, content }
    }

    fn instant(&self, at: Time) -> Instant {
        self.start + Duration::from_micros(at)
    }
}

/// Chooses each source's layer: the lowest of all first, then the next of all. What is forwarded
/// stays as long as it fits, so that small changes of the estimate have no effect.
fn allocate(sources: usize, bps: u64, current: Option<&[Option<usize>]>) -> Vec<Option<usize>> {
    let mut layers = vec![None; sources];
    let mut left = bps.saturating_sub(AUDIO);
    for (layer, bps) in LAYERS.iter().enumerate() {
        for (n, chosen) in layers.iter_mut().enumerate() {
            let more = bps - chosen.map_or(0, |lower: usize| LAYERS[lower]);
            let below = layer.checked_sub(1);
            // The first source is seen before any other is seen well.
            let margin = match current {
                Some(current) if current[n] < Some(layer) => more / 50,
                _ => 0,
            };
            if *chosen == below && more + margin <= left {
                *chosen = Some(layer);
                left -= more;
            }
        }
    }
    layers
}
