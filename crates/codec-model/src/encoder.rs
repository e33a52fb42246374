//! An encoder without pictures: it makes packets with all their descriptors.

use std::{collections::BTreeMap, time::Duration};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use rialto_media::Codec;

use crate::{
    Body, Mode, Numbers, Prediction, Rate, Truth,
    descriptor::{Extras, Structure, Template},
    pattern::{LayerFrame, Pattern, Sent},
    payload::{Cut, Recipe},
};

/// Longest time from a request to the keyframe.
const ANSWER_TIME_MS: u64 = 120;
/// No second keyframe is made within this time of the last (libwebrtc's
/// `kMinKeyframeSendInterval`).
const KEYFRAME_INTERVAL: Duration = Duration::from_millis(300);

/// An encoded packet.
#[derive(Clone, Debug)]
pub struct Coded {
    /// Its encoding.
    pub encoding: u8,
    /// The codec.
    pub codec: Codec,
    /// The RTP marker.
    pub marker: bool,
    /// The payload.
    pub payload: Vec<u8>,
    /// The dependency descriptor.
    pub descriptor: Option<Vec<u8>>,
    /// Its description.
    pub body: Body,
}

/// One encoding.
#[derive(Debug)]
struct Coder {
    pattern: Pattern,
    structure: Structure,
    numbers: Numbers,
    /// When the requested keyframe is made.
    key_at: Option<Duration>,
    last_key: Option<Duration>,
    silent: bool,
    /// Whether the active layers have changed and not all packets say so yet.
    changed: bool,
    /// The picture ids of the last pictures.
    pictures: BTreeMap<u32, u32>,
    /// Bytes by which each spatial layer exceeded its bitrate.
    debts: [f64; 3],
}

/// An encoder. It makes pictures of all its encodings.
#[derive(Debug)]
pub struct Encoder {
    mode: Mode,
    source: u32,
    rng: StdRng,
    coders: Vec<Coder>,
    now: Duration,
    /// The probability that a picture above the base layer is dropped.
    pub drops: f64,
    /// The probability that one layer of a picture is left out, as by libaom to keep its bitrate.
    pub layer_drops: f64,
    /// Most bytes of content in a packet.
    pub packet_len: usize,
    /// The bitrate; without it frames have a few packets of `packet_len`, whatever their layer.
    pub rate: Option<Rate>,
    /// Number of zero bytes at the end of each payload, for the sender's use.
    pub tail_len: usize,
    /// The references of each frame that it made.
    pub sent: Sent,
}

impl Encoder {
    /// An encoder of a source.
    pub fn new(mode: Mode, source: u32, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed ^ u64::from(source) << 32);
        let coders = (0..mode.encodings).map(|at| Coder::new(&mode, at, &mut rng)).collect();
        Self {
            mode,
            source,
            rng,
            coders,
            now: Duration::ZERO,
            drops: if mode.codec == Codec::Vp9 && !mode.flexible { 0.0 } else { 0.01 },
            layer_drops: 0.0,
            packet_len: 120,
            rate: None,
            tail_len: 0,
            sent: Sent::default(),
        }
    }

    /// Changes the mode from the next picture on, which is a keyframe. The number of encodings
    /// stays.
    pub fn set_mode(&mut self, mode: Mode) {
        assert_eq!(mode.encodings, self.mode.encodings, "SSRCs do not come and go");
        self.mode = mode;
        for (at, coder) in (0..).zip(&mut self.coders) {
            let id = coder.structure.next_id();
            coder.structure = Structure::of(&mode, at, id);
            coder.pattern = Pattern::new(mode, coder.pattern.next, coder.pattern.picture);
            coder.changed = false;
        }
    }

    /// Sets the number of spatial and temporal layers of each encoding from the next picture on.
    pub fn set_layers(&mut self, spatial: u8, temporal: u8) {
        assert!(spatial <= self.mode.spatial && temporal <= self.mode.temporal);
        for coder in &mut self.coders {
            coder.changed |= coder.pattern.active != (spatial, temporal);
            if coder.pattern.set_active(spatial, temporal) {
                coder.key_at = Some(Duration::ZERO);
            }
        }
    }

    /// Stops sending an encoding, or sends it again from a keyframe on.
    pub fn silence(&mut self, encoding: usize, silent: bool) {
        let coder = &mut self.coders[encoding];
        coder.silent = silent;
        coder.key_at = Some(Duration::ZERO);
        coder.last_key = None;
    }

    /// Requests a keyframe of each encoding.
    pub fn want_keyframes(&mut self) {
        for encoding in 0..self.mode.encodings {
            self.want_keyframe(encoding.into());
        }
    }

    /// Requests a keyframe.
    pub fn want_keyframe(&mut self, encoding: usize) {
        let delay = Duration::from_millis(self.rng.random_range(0..ANSWER_TIME_MS));
        let soon = self.now + delay;
        let coder = &mut self.coders[encoding];
        if coder.last_key.is_none_or(|last| soon >= last + KEYFRAME_INTERVAL) {
            coder.key_at = Some(coder.key_at.map_or(soon, |at| at.min(soon)));
        }
    }

    /// The packets of the next picture.
    pub fn picture(&mut self, now: Duration, timestamp: u32) -> Vec<Coded> {
        self.now = now;
        let mut out = Vec::new();
        let drop = self.rng.random_bool(self.drops);
        let without = self.rng.random_bool(self.layer_drops);
        let without = without.then(|| self.rng.random_range(0..self.mode.spatial));
        for at in 0..self.coders.len() {
            let coder = &mut self.coders[at];
            if coder.silent {
                continue;
            }
            let key = coder.key_at.is_some_and(|key_at| key_at <= now);
            if drop && !key && coder.pattern.next_temporal() > 0 {
                coder.pattern.skip();
                continue;
            }
            let frames = coder.pattern.next_picture(key, without);
            if frames.is_empty() {
                continue;
            }
            self.number(at, &frames);
            let top = frames.last().map_or(0, |frame| frame.spatial);
            for frame in &frames {
                self.packets(at, frame, frame.spatial == top, timestamp, &mut out);
            }
            self.after(at, &frames);
        }
        out
    }

    /// Counts a picture.
    fn number(&mut self, at: usize, frames: &[LayerFrame]) {
        let coder = &mut self.coders[at];
        let base = frames.iter().any(|frame| frame.temporal == 0);
        coder.numbers.picture_id = (coder.numbers.picture_id + 1) & 0x7fff;
        coder.numbers.tl0 = coder.numbers.tl0.wrapping_add(base.into());
        for frame in frames {
            coder.pictures.insert(frame.number, frame.picture);
        }
        let oldest = frames.first().map_or(0, |frame| frame.number.saturating_sub(600));
        coder.pictures = coder.pictures.split_off(&oldest);
    }

    /// Updates the state after a picture.
    fn after(&mut self, at: usize, frames: &[LayerFrame]) {
        let coder = &mut self.coders[at];
        if frames.iter().any(|frame| frame.key && frame.spatial == 0) {
            (coder.key_at, coder.last_key) = (None, Some(self.now));
        }
        if frames.iter().any(|frame| frame.temporal == 0) {
            coder.changed = false;
        }
    }

    fn packets(
        &mut self,
        at: usize,
        frame: &LayerFrame,
        top: bool,
        timestamp: u32,
        out: &mut Vec<Coded>,
    ) {
        let mode = self.mode;
        let encoding = at as u8;
        self.coders[at].numbers.frame_number = self.coders[at].numbers.frame_number.wrapping_add(1);
        let (parts, filler) = self.cut(at, frame);
        let cut = if self.rng.random_bool(0.3) { Cut::Slices } else { Cut::Fragments };
        let (diffs, structure) = self.vp9(at, frame);
        self.sent.frames.insert((encoding, frame.number), (frame.refs.clone(), frame.key));
        for part in 0..parts {
            let body = Body {
                source: self.source,
                encoding,
                frame: frame.number,
                part,
                parts,
                key: frame.key,
            };
            let coder = &self.coders[at];
            let truth = Truth {
                body,
                codec: mode.codec,
                spatial: frame.spatial,
                temporal: frame.temporal,
                picture: frame.picture,
                height: mode.height(encoding, frame.spatial),
                independent: mode.prediction == Prediction::Never,
                timestamp,
                numbers: coder.numbers,
                refs: frame.refs.clone(),
            };
            let mut noise = [0; 24];
            let filler = filler
                .unwrap_or_else(|| self.rng.random_range(self.packet_len / 2..=self.packet_len));
            self.rng.fill(&mut noise);
            let recipe = Recipe {
                mode: &mode,
                frame,
                truth: &truth,
                structure: structure.filter(|_| part == 0),
                picture_diffs: &diffs,
                cut,
                filler,
                tail_len: self.tail_len,
                noise: &noise,
            };
            let payload = recipe.payload();
            let last = part + 1 == parts;
            let attach = part == 0 && frame.refs.is_empty();
            let active = self.coders[at].active_targets(&mode, attach);
            let extras = Extras { start: part == 0, end: last, attach, active };
            let descriptor = mode.descriptor.then(|| {
                let coder = &self.coders[at];
                coder.structure.write(&Template::of(frame), coder.numbers.frame_number, &extras)
            });
            let marker = last && top;
            out.push(Coded { encoding, codec: mode.codec, marker, payload, descriptor, body });
        }
    }

    /// The number of packets of a frame, and the filler of each if there is a bitrate.
    fn cut(&mut self, at: usize, frame: &LayerFrame) -> (u8, Option<usize>) {
        let encoding = at as u8;
        let Some(rate) = self.rate else {
            let most = 2 + u8::from(frame.key) + frame.spatial.max(encoding);
            return (self.rng.random_range(1..=most), None);
        };
        let debt = &mut self.coders[at].debts[usize::from(frame.spatial)];
        let (parts, filler) = rate.cut(&self.mode, encoding, frame, debt, &mut self.rng);
        (parts, Some(filler))
    }

    /// VP9's descriptor of a frame: the distances to other pictures, and the layers if it describes
    /// their structure.
    fn vp9(&self, at: usize, frame: &LayerFrame) -> (Vec<u8>, Option<u8>) {
        let coder = &self.coders[at];
        let mut diffs: Vec<u8> = Vec::new();
        for r in &frame.refs {
            let back = coder.pictures.get(r).map_or(127, |picture| frame.picture - picture);
            if back > 0 {
                diffs.push(back.min(127) as u8);
            }
        }
        let tells = frame.spatial == 0 && (frame.key || coder.changed && frame.temporal == 0);
        (diffs, tells.then_some(coder.pattern.active.0))
    }
}

impl Coder {
    /// Each starts at another number, close to where numbers wrap.
    fn new(mode: &Mode, encoding: u8, rng: &mut StdRng) -> Self {
        let numbers = Numbers {
            picture_id: 0x7fff - rng.random_range(0..200),
            tl0: rng.random(),
            frame_number: 0xffff - rng.random_range(0..500),
        };
        Self {
            pattern: Pattern::new(*mode, 1 + 1_000 * u32::from(encoding), 0),
            structure: Structure::of(mode, encoding, rng.random_range(0..64)),
            numbers,
            key_at: None,
            last_key: None,
            silent: false,
            changed: false,
            pictures: BTreeMap::new(),
            debts: [0.0; 3],
        }
    }

    /// The active decode targets, if a descriptor has to list them.
    fn active_targets(&self, mode: &Mode, attach: bool) -> Option<u32> {
        let (spatial, temporal) = self.pattern.active;
        let all = (spatial, temporal) == (mode.spatial, mode.temporal);
        if !self.changed && (all || !attach) {
            return None;
        }
        let targets = (0..mode.spatial).flat_map(|s| (0..mode.temporal).map(move |t| (s, t)));
        let active = (0..).zip(targets).filter(|(_, (s, t))| *s < spatial && *t < temporal);
        Some(active.fold(0, |mask, (at, _)| mask | 1 << at))
    }
}
