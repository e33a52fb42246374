//! A source of a client: its schedule, its packets, and those kept for retransmission.

use std::{
    collections::VecDeque,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use rand::{Rng, rngs::StdRng};

use super::coder::Coder;
use crate::{
    colibri,
    media::{
        frames::{self, FrameModel},
        packet::{self, Header},
        stamp::{self, Stamp},
        vp8::{Descriptor, TEMPORAL_PATTERN},
    },
    plan::Media,
    shared::Shared,
    worker::pace::Pace,
};

/// Most payload bytes of a video packet: what browsers make of an MTU of 1200.
const MAX_PAYLOAD: usize = 1120;
/// Packets kept for retransmission per stream: two seconds of 4 Mbit/s.
const HISTORY: usize = 1024;
/// Duration of an audio packet.
const AUDIO_PACKET: Duration = Duration::from_millis(20);

/// Where packets are sent.
pub trait Output {
    /// Encrypts a packet in place and sends it. `index` is its sequence number, extended.
    fn send(&mut self, packet: &mut Vec<u8>, index: u64, ssrc: u32);
    /// Sends an encrypted packet.
    fn send_sealed(&mut self, packet: &[u8]);
    /// The next transport-wide sequence number.
    fn transport_seq(&mut self) -> u16;
    /// The client's random numbers.
    fn rng(&mut self) -> &mut StdRng;
}

/// A sending source.
pub struct SourceSender {
    /// Index into the plan.
    pub source: usize,
    media: Media,
    interval: Duration,
    streams: Vec<StreamSender>,
    /// Makes the frames of a video with layers.
    coder: Option<Coder>,
    /// Packets of the current frame that are not sent yet.
    pending: VecDeque<Pending>,
    /// Time between packets of a frame, if they are spread.
    spread: Option<Duration>,
    pace: Option<Pace>,
    frame: u64,
    timestamp: u32,
}

struct StreamSender {
    stream: usize,
    ssrc: u32,
    rtx: Option<u32>,
    /// Sequence numbers, extended: the roll-over counter is above the low 16 bits.
    next_seq: u64,
    next_rtx: u64,
    model: FrameModel,
    size: (u16, u16),
    picture: u16,
    tl0: u8,
    key_index: u8,
    history: VecDeque<Sent>,
    packets: u32,
    octets: u32,
}

struct Sent {
    seq: u64,
    /// The plain packet with RTX, otherwise the encrypted one: nothing else may ever be encrypted
    /// under the same sequence number.
    packet: Vec<u8>,
}

struct Pending {
    slot: usize,
    timestamp: u32,
    marker: bool,
    content: Content,
}

/// The content of a packet.
enum Content {
    /// This many bytes of audio.
    Opus(usize),
    /// This many bytes of a VP8 frame.
    Vp8(usize, Descriptor),
    /// The output of an encoder with layers, with room for a stamp at the end.
    Coded { payload: Vec<u8>, descriptor: Option<Vec<u8>> },
}

/// The contents of a stream's sender report.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// SSRC.
    pub ssrc: u32,
    /// RTP timestamp of now.
    pub timestamp: u32,
    /// Packets sent.
    pub packets: u32,
    /// Payload bytes sent.
    pub octets: u32,
}

impl SourceSender {
    /// Creates a source that starts with its next frame.
    pub fn new(source: usize, shared: &Shared, rng: &mut StdRng) -> Self {
        let plan = &shared.plan.sources[source];
        let shape = &shared.plan.shape;
        let (fps, keyframes) = (shape.fps, shape.keyframe_interval);
        let spread = (plan.media == Media::Video && shared.media.pace > 0.0).then(|| {
            let bitrate = shape.video.unwrap_or(1) as f64 * shared.media.pace;
            Duration::from_secs_f64(MAX_PAYLOAD as f64 * 8.0 / bitrate)
        });
        let streams: Vec<_> = plan
            .streams
            .clone()
            .filter_map(|stream| {
                let spec = shared.plan.streams.get(stream)?;
                Some(StreamSender {
                    stream,
                    ssrc: spec.ssrc,
                    rtx: spec.rtx,
                    next_seq: rng.random_range(0..0x8000),
                    next_rtx: rng.random_range(0..0x8000),
                    model: FrameModel::new(spec.bitrate, fps, keyframes),
                    size: spec.size,
                    picture: rng.random_range(0..0x7fff),
                    tl0: rng.random(),
                    key_index: 0,
                    history: VecDeque::new(),
                    packets: 0,
                    octets: 0,
                })
            })
            .collect();
        Self {
            source,
            media: plan.media,
            interval: match plan.media {
                Media::Audio => AUDIO_PACKET,
                Media::Video => Duration::from_secs(1) / fps.max(1),
            },
            streams,
            coder: if plan.media == Media::Video { Coder::new(source, shape) } else { None },
            pending: VecDeque::new(),
            spread,
            pace: None,
            frame: 0,
            timestamp: rng.random(),
        }
    }

    /// Time between frames.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// The first frame is due at `start`.
    pub fn start(&mut self, start: Instant) {
        self.pace = Some(Pace::new(self.interval, self.spread, start));
    }

    /// Makes the frame that is due and sends the packets that may be sent. Returns when to call
    /// again, and how late the frame was if there was one. `None` before [`Self::start`].
    pub fn tick(
        &mut self,
        now: Instant,
        shared: &Shared,
        output: &mut impl Output,
    ) -> Option<(Instant, Option<Duration>)> {
        let pace = self.pace.as_mut()?;
        let (late, limit) = (pace.frame(now, !self.pending.is_empty()), pace.packets(now));
        if late.is_some() {
            let now = Duration::from_nanos(shared.nanos(now));
            self.make_frame(now, output.rng());
        }
        let left = self.send(limit, shared, output);
        self.pace.as_ref().map(|pace| (pace.next(left), late))
    }

    /// Makes the next frame of every encoding.
    fn make_frame(&mut self, now: Duration, rng: &mut StdRng) {
        let ticks = match self.media {
            Media::Audio => 960,
            Media::Video => (90_000.0 * self.interval.as_secs_f64()).round() as u32,
        };
        self.timestamp = self.timestamp.wrapping_add(ticks);
        let timestamp = self.timestamp;
        if let Some(coder) = &mut self.coder {
            let coded = coder.picture(now, timestamp);
            self.pending.extend(coded.into_iter().map(|coded| Pending {
                slot: coded.encoding.into(),
                timestamp,
                marker: coded.marker,
                content: Content::Coded { payload: coded.payload, descriptor: coded.descriptor },
            }));
            return;
        }
        for (slot, stream) in self.streams.iter_mut().enumerate() {
            match self.media {
                Media::Audio => {
                    let content = Content::Opus(rng.random_range(60..=100));
                    let marker = false;
                    self.pending.push_back(Pending { slot, timestamp, marker, content });
                }
                Media::Video => {
                    stream.make_frame((slot, timestamp), self.frame, rng, &mut self.pending);
                }
            }
        }
        self.frame += 1;
    }

    /// Sends at most `limit` packets of the current frame. Returns whether more are left.
    fn send(&mut self, limit: usize, shared: &Shared, output: &mut impl Output) -> bool {
        for _ in 0..limit {
            let Some(pending) = self.pending.pop_front() else { return false };
            if let Some(stream) = self.streams.get_mut(pending.slot) {
                stream.send(&pending, self.media, shared, output);
            }
        }
        !self.pending.is_empty()
    }

    /// Retransmits a packet, if the stream is ours and the packet is still kept.
    pub fn send_again(&mut self, ssrc: u32, seq: u16, output: &mut impl Output) -> bool {
        let stream = self.streams.iter_mut().find(|s| s.ssrc == ssrc);
        stream.is_some_and(|stream| stream.send_again(seq, output))
    }

    /// Requests a keyframe of the stream with this SSRC. Returns whether the stream is ours.
    pub fn request_keyframe(&mut self, ssrc: u32) -> bool {
        let is_it = |s: &StreamSender| s.ssrc == ssrc || s.rtx == Some(ssrc);
        let Some(at) = self.streams.iter().position(is_it) else { return false };
        match (&mut self.coder, self.streams.get_mut(at)) {
            (Some(coder), _) => coder.want_keyframe(at),
            (None, Some(stream)) => stream.model.request_keyframe(),
            (None, None) => {}
        }
        true
    }

    /// The contents of sender reports.
    pub fn reports(&self) -> impl Iterator<Item = Report> {
        self.streams.iter().filter(|s| s.packets > 0).map(|s| Report {
            ssrc: s.ssrc,
            timestamp: self.timestamp,
            packets: s.packets,
            octets: s.octets,
        })
    }

    /// Its streams: indexes into the plan.
    pub fn streams(&self) -> impl Iterator<Item = usize> {
        self.streams.iter().map(|s| s.stream)
    }
}

impl StreamSender {
    fn make_frame(
        &mut self,
        (slot, timestamp): (usize, u32),
        number: u64,
        rng: &mut StdRng,
        pending: &mut VecDeque<Pending>,
    ) {
        let frame = self.model.next(rng);
        self.picture = (self.picture + 1) & 0x7fff;
        let pattern = TEMPORAL_PATTERN[number as usize % TEMPORAL_PATTERN.len()];
        let temporal = if frame.key { 0 } else { pattern };
        if temporal == 0 {
            self.tl0 = self.tl0.wrapping_add(1);
        }
        if frame.key {
            self.key_index = (self.key_index + 1) & 0x1f;
        }
        let mut sizes = frames::split(frame.size, MAX_PAYLOAD).peekable();
        let mut start = true;
        while let Some(size) = sizes.next() {
            let descriptor = Descriptor {
                start,
                key: frame.key,
                picture: self.picture,
                tl0: self.tl0,
                temporal,
                key_index: self.key_index,
                width: self.size.0,
                height: self.size.1,
            };
            let marker = sizes.peek().is_none();
            let content = Content::Vp8(size, descriptor);
            pending.push_back(Pending { slot, timestamp, marker, content });
            start = false;
        }
    }

    fn send(&mut self, pending: &Pending, media: Media, shared: &Shared, output: &mut impl Output) {
        let seq = self.next_seq;
        self.next_seq += 1;
        let header = Header {
            pt: if media == Media::Audio { colibri::OPUS } else { colibri::VIDEO },
            marker: pending.marker,
            seq: seq as u16,
            timestamp: pending.timestamp,
            ssrc: self.ssrc,
        };
        let mut packet = Vec::with_capacity(MAX_PAYLOAD + 96);
        let transport = output.transport_seq().to_be_bytes();
        let transport = (colibri::TRANSPORT_CC, &transport[..]);
        let payload;
        match &pending.content {
            Content::Opus(size) => {
                let level = [0x80 | output.rng().random_range(20..50u8)];
                header.write(&[(colibri::AUDIO_LEVEL, &level[..]), transport], &mut packet);
                payload = packet.len();
                packet.push(0x78); // CELT, 20 ms, one frame
                fill(&mut packet, payload + size - stamp::LEN, seq);
            }
            Content::Vp8(size, descriptor) => {
                header.write(&[transport], &mut packet);
                payload = packet.len();
                descriptor.write(&mut packet);
                let end = payload + size.saturating_sub(stamp::LEN).min(MAX_PAYLOAD);
                fill(&mut packet, end, seq);
            }
            Content::Coded { payload: coded, descriptor } => {
                match descriptor.as_deref() {
                    Some(d) => header.write(&[transport, (colibri::DESCRIPTOR, d)], &mut packet),
                    None => header.write(&[transport], &mut packet),
                }
                payload = packet.len();
                let end = coded.len().saturating_sub(stamp::LEN);
                packet.extend_from_slice(coded.get(..end).unwrap_or_default());
            }
        }
        self.packets = self.packets.wrapping_add(1);
        self.stamp(shared).write(&mut packet);
        self.octets = self.octets.wrapping_add((packet.len() - payload) as u32);
        let plain = self.rtx.is_some().then(|| packet.clone());
        output.send(&mut packet, seq, self.ssrc);
        if media == Media::Video {
            if self.history.len() == HISTORY {
                self.history.pop_front();
            }
            self.history.push_back(Sent { seq, packet: plain.unwrap_or(packet) });
        }
    }

    /// Numbers the packet, and ends the count if the run is draining.
    fn stamp(&self, shared: &Shared) -> Stamp {
        let mut index = 0;
        if let Some(state) = shared.streams.get(self.stream) {
            index = state.made.load(Ordering::Relaxed);
            if shared.draining.load(Ordering::Acquire)
                && state.end.load(Ordering::Relaxed) == u64::MAX
            {
                state.end.store(index, Ordering::Release);
            }
            state.made.store(index + 1, Ordering::Release);
        }
        Stamp { stream: self.stream as u32, index, sent: shared.nanos(Instant::now()) }
    }

    fn send_again(&mut self, seq: u16, output: &mut impl Output) -> bool {
        let Some(sent) = self.history.iter().rev().find(|sent| sent.seq as u16 == seq) else {
            return false;
        };
        let Some(rtx) = self.rtx else {
            output.send_sealed(&sent.packet);
            return true;
        };
        let Some(parsed) = packet::Parsed::read(&sent.packet) else { return false };
        let Some(payload) = sent.packet.get(parsed.payload.clone()) else { return false };
        let header = Header {
            pt: colibri::RTX,
            marker: parsed.marker,
            seq: self.next_rtx as u16,
            timestamp: parsed.timestamp,
            ssrc: rtx,
        };
        let mut again = Vec::with_capacity(sent.packet.len() + 32);
        let transport = output.transport_seq().to_be_bytes();
        let mut extensions = vec![(colibri::TRANSPORT_CC, &transport[..])];
        let descriptor = parsed.extension(&sent.packet, colibri::DESCRIPTOR);
        extensions.extend(descriptor.map(|descriptor| (colibri::DESCRIPTOR, descriptor)));
        header.write(&extensions, &mut again);
        again.extend_from_slice(&seq.to_be_bytes());
        again.extend_from_slice(payload);
        output.send(&mut again, self.next_rtx, rtx);
        self.next_rtx += 1;
        true
    }
}

/// Bytes up to `end` that do not compress and are the same for a packet every time.
fn fill(packet: &mut Vec<u8>, end: usize, seed: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let end = end.max(packet.len());
    while packet.len() < end {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        packet.extend_from_slice(&state.to_le_bytes());
    }
    packet.truncate(end);
}
