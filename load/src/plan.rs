//! The plan of a run: conferences, endpoints, sources and their SSRCs, decided before anything
//! runs. One seed gives one plan.

use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::StdRng};
use rialto_codec_model::Mode;
use rustc_hash::{FxHashMap, FxHashSet};

/// Audio or video.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Media {
    /// Audio.
    Audio,
    /// Video.
    Video,
}

impl Media {
    /// As signalled.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Video => "video",
        }
    }
}

/// The shape of the calls.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Conferences.
    pub conferences: usize,
    /// Endpoints of each conference that send (and receive the others).
    pub senders: usize,
    /// Endpoints of each conference that only receive.
    pub receivers: usize,
    /// Video bitrate of the highest encoding, bit/s.
    pub video: Option<u64>,
    /// Send audio.
    pub audio: bool,
    /// Three encodings of each video.
    pub simulcast: bool,
    /// The mode of video with layers, sent by an encoder without pictures.
    pub layers: Option<Mode>,
    /// The heights that receivers request in turn; none: they request nothing.
    pub wishes: Vec<u16>,
    /// Interval after which each receiver requests the next height.
    pub wish_interval: Option<Duration>,
    /// Signal and use retransmission streams (RFC 4588).
    pub rtx: bool,
    /// All endpoints accept rewritten SSRCs (COLIBRI's `ssrc-rewriting`).
    pub rewriting: bool,
    /// Endpoints that only receive just count packets: no decryption, no feedback, no requests.
    pub sinks: bool,
    /// Frames per second.
    pub fps: u32,
    /// Longest time between keyframes.
    pub keyframe_interval: Duration,
    /// Seed of every random choice.
    pub seed: u64,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            conferences: 1,
            senders: 1,
            receivers: 1,
            video: Some(1_500_000),
            audio: true,
            simulcast: false,
            layers: None,
            wishes: Vec::new(),
            wish_interval: None,
            rtx: true,
            rewriting: false,
            sinks: false,
            fps: 30,
            keyframe_interval: Duration::from_secs(10),
            seed: 0,
        }
    }
}

/// One RTP stream: an encoding of a source.
#[derive(Clone, Debug)]
pub struct Stream {
    /// The source, an index into [`Plan::sources`].
    pub source: usize,
    /// Its SSRC.
    pub ssrc: u32,
    /// The SSRC of its retransmissions.
    pub rtx: Option<u32>,
    /// Payload bit/s.
    pub bitrate: u64,
    /// Frame width and height, pixels.
    pub size: (u16, u16),
}

/// One camera or microphone.
#[derive(Clone, Debug)]
pub struct Source {
    /// The endpoint, an index into [`Plan::endpoints`].
    pub endpoint: usize,
    /// Such as `abcd1234-v0`.
    pub name: String,
    /// Audio or video.
    pub media: Media,
    /// Its encodings, lowest first: indexes into [`Plan::streams`].
    pub streams: std::ops::Range<usize>,
}

/// One participant.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The conference, an index into [`Plan::conferences`].
    pub conference: usize,
    /// Eight hexadecimal digits.
    pub id: String,
    /// Its sources: indexes into [`Plan::sources`]. Empty for one that only receives.
    pub sources: std::ops::Range<usize>,
    /// The SSRC of its RTCP when it has no source.
    pub rtcp_ssrc: u32,
}

/// The role of a signalled SSRC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SsrcRole {
    /// The stream.
    pub stream: usize,
    /// It is the retransmission SSRC.
    pub rtx: bool,
}

/// Everything that is decided before the run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The requested shape.
    pub shape: Shape,
    /// Meeting ids.
    pub conferences: Vec<String>,
    /// Participants, senders of a conference first.
    pub endpoints: Vec<Endpoint>,
    /// Cameras and microphones.
    pub sources: Vec<Source>,
    /// Encodings.
    pub streams: Vec<Stream>,
    /// Signalled SSRCs.
    pub ssrcs: FxHashMap<u32, SsrcRole>,
}

/// Encodings of a simulcast source: fraction of the highest one's bitrate, and height. What Jitsi
/// signals for a camera of 720 lines.
const ENCODINGS: [(f64, (u16, u16)); 3] =
    [(0.13, (320, 180)), (0.33, (640, 360)), (1.0, (1280, 720))];

/// Payload bitrate of audio: Opus as browsers send it.
pub const AUDIO_BITRATE: u64 = 32_000;

impl Plan {
    /// Makes the plan.
    pub fn new(shape: Shape) -> Self {
        let mut rng = StdRng::seed_from_u64(shape.seed);
        let mut plan = Self {
            conferences: (0..shape.conferences).map(|_| uuid(&mut rng)).collect(),
            shape,
            endpoints: Vec::new(),
            sources: Vec::new(),
            streams: Vec::new(),
            ssrcs: FxHashMap::default(),
        };
        let mut ids = Unique::default();
        for conference in 0..plan.shape.conferences {
            for member in 0..plan.shape.senders + plan.shape.receivers {
                plan.add_endpoint(conference, member < plan.shape.senders, &mut ids, &mut rng);
            }
        }
        plan
    }

    /// Returns whether an endpoint only counts what it receives.
    pub fn is_sink(&self, endpoint: usize) -> bool {
        let receives_only = self.endpoints.get(endpoint).is_some_and(|e| e.sources.is_empty());
        self.shape.sinks && receives_only
    }

    /// The sources that an endpoint should receive.
    pub fn received_by(&self, endpoint: usize) -> impl Iterator<Item = usize> {
        let conference = self.endpoints.get(endpoint).map(|e| e.conference);
        self.sources.iter().enumerate().filter_map(move |(index, source)| {
            let sender = self.endpoints.get(source.endpoint)?;
            let other = source.endpoint != endpoint && Some(sender.conference) == conference;
            other.then_some(index)
        })
    }

    fn add_endpoint(&mut self, conference: usize, sends: bool, ids: &mut Unique, rng: &mut StdRng) {
        let endpoint = self.endpoints.len();
        let id = format!("{:08x}", ids.pick(rng));
        let first = self.sources.len();
        if sends && self.shape.audio {
            self.add_source(endpoint, format!("{id}-a0"), Media::Audio, ids, rng);
        }
        if sends && self.shape.video.is_some() {
            self.add_source(endpoint, format!("{id}-v0"), Media::Video, ids, rng);
        }
        let rtcp_ssrc = ids.pick(rng);
        let sources = first..self.sources.len();
        self.endpoints.push(Endpoint { conference, id, sources, rtcp_ssrc });
    }

    fn add_source(
        &mut self,
        endpoint: usize,
        name: String,
        media: Media,
        ids: &mut Unique,
        rng: &mut StdRng,
    ) {
        let source = self.sources.len();
        let first = self.streams.len();
        let top = self.shape.video.unwrap_or_default();
        let encodings = match media {
            Media::Audio => vec![(AUDIO_BITRATE, (0, 0))],
            Media::Video if self.shape.layers.is_some_and(|mode| mode.encodings == 3) => {
                ENCODINGS.iter().map(|&(share, size)| ((top as f64 * share) as u64, size)).collect()
            }
            Media::Video if self.shape.simulcast => {
                ENCODINGS.iter().map(|&(share, size)| ((top as f64 * share) as u64, size)).collect()
            }
            Media::Video => vec![(top, (1280, 720))],
        };
        for (bitrate, size) in encodings {
            let stream = self.streams.len();
            let ssrc = ids.pick(rng);
            let rtx = (media == Media::Video && self.shape.rtx).then(|| ids.pick(rng));
            self.ssrcs.insert(ssrc, SsrcRole { stream, rtx: false });
            if let Some(rtx) = rtx {
                self.ssrcs.insert(rtx, SsrcRole { stream, rtx: true });
            }
            self.streams.push(Stream { source, ssrc, rtx, bitrate, size });
        }
        self.sources.push(Source { endpoint, name, media, streams: first..self.streams.len() });
    }
}

/// Random numbers that are not 0 and do not repeat.
#[derive(Default)]
struct Unique(FxHashSet<u32>);

impl Unique {
    fn pick(&mut self, rng: &mut StdRng) -> u32 {
        loop {
            let id = rng.random_range(1..u32::MAX);
            if self.0.insert(id) {
                return id;
            }
        }
    }
}

/// A meeting id in the form of a UUID of version 4.
fn uuid(rng: &mut StdRng) -> String {
    let (a, b): (u64, u64) = (rng.random(), rng.random());
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        a >> 32,
        (a >> 16) & 0xffff,
        a & 0xfff,
        0x8000 | (b >> 48) & 0x3fff,
        b & 0xffff_ffff_ffff
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webinar_and_a_meeting() {
        let plan =
            Plan::new(Shape { conferences: 2, senders: 2, receivers: 3, ..Shape::default() });
        assert_eq!(plan.endpoints.len(), 10);
        assert_eq!(plan.sources.len(), 8);
        assert_eq!(plan.received_by(0).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(plan.received_by(4).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(plan.received_by(9).collect::<Vec<_>>(), [4, 5, 6, 7]);
        assert_eq!(plan.ssrcs.len(), 4 + 4 * 2);
    }

    #[test]
    fn simulcast_has_three_encodings_with_rtx() {
        let plan = Plan::new(Shape { simulcast: true, audio: false, ..Shape::default() });
        let video = &plan.sources[0];
        assert_eq!(video.streams, 0..3);
        assert!(plan.streams.iter().all(|s| s.rtx.is_some()));
        assert!(plan.streams[0].bitrate < plan.streams[1].bitrate);
        assert_eq!(plan.streams[2].bitrate, 1_500_000);
        assert_eq!(plan.ssrcs.len(), 6);
    }

    #[test]
    fn one_seed_makes_one_plan() {
        let plan = |seed| Plan::new(Shape { seed, ..Shape::default() });
        assert_eq!(plan(1).conferences, plan(1).conferences);
        assert_eq!(plan(1).streams[0].ssrc, plan(1).streams[0].ssrc);
        assert_ne!(plan(1).conferences, plan(2).conferences);
        assert_eq!(plan(1).conferences[0].len(), 36);
    }
}
