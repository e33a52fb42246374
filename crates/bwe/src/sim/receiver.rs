//! A receiver: feedback, retransmission requests, and display.

use std::collections::{BTreeMap, VecDeque};

use super::{link::Time, sender::Packet};
use crate::Report;

/// Most requests for one packet.
const ASKS: u32 = 6;
/// A receiver requests a keyframe after a freeze of this long.
const STUCK: Time = 400_000;
/// A longer gap between pictures is a freeze.
const FREEZE: Time = 150_000;

/// The path of feedback.
#[derive(Debug, Clone, Copy)]
pub struct FeedbackConfig {
    /// Interval of feedback.
    pub interval: Time,
    /// Delay of feedback, including the path.
    pub delay: Time,
    /// Fraction of feedback that is lost.
    pub loss: f64,
}

/// Messages to the sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Back {
    /// Transport-wide feedback.
    Feedback(Vec<Report>),
    /// Missing packets of a source, by its own numbers.
    Missing(usize, Vec<u64>),
    /// A source is frozen and needs a keyframe.
    Keyframe(usize),
}

/// A frame that is being received.
#[derive(Debug, Clone, Copy, Default)]
struct Frame {
    packets: u32,
    got: u32,
    key: bool,
    complete: bool,
}

/// The receiver's state of one source.
#[derive(Debug, Default)]
struct Stream {
    /// The next expected packet number, and the missing ones: when and how often each was
    /// requested.
    expected: u64,
    missing: BTreeMap<u64, (Time, u32)>,
    frames: BTreeMap<u64, Frame>,
    next_frame: Option<u64>,
    shown: Option<Time>,
    asked: Time,
    longest_gap: Time,
    pictures: u64,
    /// Whether the sender forwards it; a pause that it chose is no freeze.
    on: bool,
    stage: bool,
}

/// Counters of a receiver.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Video bytes that arrived, without retransmissions and padding.
    pub video_bytes: u64,
    /// The longest freeze, if it is long enough to be seen.
    pub longest_freeze: Time,
    /// Number of pictures shown.
    pub pictures: u64,
}

/// A receiver of several sources.
#[derive(Debug)]
pub struct Receiver {
    streams: Vec<Stream>,
    arrived: BTreeMap<u64, Time>,
    window_start: u64,
    highest: u64,
    fresh: bool,
    next_feedback: Time,
    config: FeedbackConfig,
    /// How long it waits for an overtaken packet before requesting it; receivers adapt this.
    reordering: Time,
    rtt: Time,
    counts: Counts,
}

impl Receiver {
    /// Creates a receiver of some sources.
    pub fn new(sources: usize, config: FeedbackConfig, rtt: Time, reordering: Time) -> Self {
        Self {
            streams: (0..sources).map(|_| Stream::default()).collect(),
            arrived: BTreeMap::new(),
            window_start: 0,
            highest: 0,
            fresh: false,
            next_feedback: 0,
            config,
            reordering,
            rtt,
            counts: Counts::default(),
        }
    }

    /// For each source, the number of pictures and when the last one was shown.
    pub fn pictures(&self) -> Vec<(u64, Option<Time>)> {
        self.streams.iter().map(|stream| (stream.pictures, stream.shown)).collect()
    }

    /// The counters up to the end of the run.
    pub fn counts(&self, end: Time) -> Counts {
        let gap =
            |stream: &Stream| stream.longest_gap.max(stream.shown.map_or(0, |shown| end - shown));
        let longest = self.streams.iter().map(gap).max().unwrap_or(0);
        Counts {
            longest_freeze: if longest > FREEZE { longest } else { 0 },
            pictures: self.streams.iter().map(|stream| stream.pictures).sum(),
            ..self.counts
        }
    }

    /// Sets whether the sender forwards a source. One that is not forwarded is paused on purpose.
    pub fn set_on(&mut self, source: usize, on: bool) {
        let stream = &mut self.streams[source];
        // The first one is on stage: not forwarding it is a freeze.
        if stream.on != on && source > 0 {
            stream.shown = None;
        }
        (stream.on, stream.stage) = (on, source == 0);
    }

    /// Handles a packet.
    pub fn on_packet(&mut self, at: Time, packet: &Packet) {
        let number = packet.number;
        self.arrived.insert(number, at);
        self.window_start = self.window_start.min(number);
        self.highest = self.highest.max(number);
        self.fresh = true;
        match packet.content {
            super::sender::Content::Audio | super::sender::Content::Padding => {}
            super::sender::Content::Video { source, seq, frame, packets, key, again } => {
                if !again {
                    self.counts.video_bytes += u64::from(packet.size);
                }
                let asks = at + self.reordering;
                self.streams[source].on_video(at, asks, seq, (frame, packets, key));
            }
        }
    }

    /// Returns the messages that are due.
    pub fn poll(&mut self, now: Time) -> VecDeque<Back> {
        let mut back = VecDeque::new();
        if now >= self.next_feedback {
            self.next_feedback = now + self.config.interval;
            if self.fresh {
                self.fresh = false;
                back.push_back(Back::Feedback(self.feedback()));
            }
        }
        for (source, stream) in self.streams.iter_mut().enumerate() {
            let missing = stream.missing(now, self.rtt);
            if !missing.is_empty() {
                back.push_back(Back::Missing(source, missing));
            }
            if stream.is_stuck(now, self.rtt) {
                back.push_back(Back::Keyframe(source));
            }
        }
        back
    }

    /// Reports everything from the first new packet to the highest, like libwebrtc's receivers: a
    /// late packet causes those after it to be reported once more.
    fn feedback(&mut self) -> Vec<Report> {
        let start = self.window_start;
        self.window_start = self.highest + 1;
        let reports = (start..=self.highest)
            .map(|number| Report {
                number: number as u16,
                received: self
                    .arrived
                    .get(&number)
                    .map(|at| i64::try_from(at / 250 * 250).unwrap_or(0) + 77_000_000),
            })
            .collect();
        let keep = self.highest.saturating_sub(2_000);
        self.arrived = self.arrived.split_off(&keep);
        reports
    }
}

impl Stream {
    fn on_video(
        &mut self,
        at: Time,
        asks: Time,
        seq: u64,
        (number, packets, key): (u64, u32, bool),
    ) {
        self.missing.remove(&seq);
        while self.expected < seq {
            self.missing.insert(self.expected, (asks, 0));
            self.expected += 1;
        }
        self.expected = self.expected.max(seq + 1);
        if self.next_frame.is_some_and(|next| number < next) {
            return;
        }
        let frame = self.frames.entry(number).or_default();
        (frame.packets, frame.key) = (packets, key);
        frame.got += 1;
        frame.complete = frame.got >= packets;
        self.show(at);
    }

    fn show(&mut self, at: Time) {
        loop {
            let next = self.next_frame.and_then(|next| {
                self.frames.get(&next).filter(|frame| frame.complete).map(|_| next)
            });
            // A complete keyframe makes those before it moot.
            let key = || {
                let mut frames = self.frames.iter();
                frames.find(|(_, frame)| frame.key && frame.complete).map(|(number, _)| *number)
            };
            let Some(number) = next.or_else(key) else { return };
            self.frames = self.frames.split_off(&(number + 1));
            self.next_frame = Some(number + 1);
            if let Some(before) = self.shown {
                self.longest_gap = self.longest_gap.max(at - before);
            }
            self.shown = (self.on || self.stage).then_some(at);
            self.pictures += 1;
        }
    }

    fn missing(&mut self, now: Time, rtt: Time) -> Vec<u64> {
        let mut asked = Vec::new();
        self.missing.retain(|_, (_, times)| *times < ASKS);
        for (seq, (due, times)) in &mut self.missing {
            if *due <= now {
                asked.push(*seq);
                *due = now + rtt + 20_000;
                *times += 1;
            }
        }
        asked
    }

    fn is_stuck(&mut self, now: Time, rtt: Time) -> bool {
        let since = self.shown.unwrap_or(0).max(self.asked);
        let waits = self.on && !self.frames.is_empty() && now > since + STUCK + rtt;
        if waits {
            self.asked = now;
        }
        waits
    }
}
