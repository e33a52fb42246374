//! The frames that an encoder makes, and their references.

use std::collections::BTreeMap;

use rialto_media::Codec;

use crate::{Mode, Prediction, descriptor::Dti};

/// Most spatial layers of a mode.
const MAX_SPATIAL: usize = 3;
/// Frames whose references are remembered, to leave out of descriptors what others imply.
const RECENT: u32 = 64;

/// A frame of one layer.
#[derive(Clone, Debug)]
pub(crate) struct LayerFrame {
    /// Counts the frames of all layers.
    pub(crate) number: u32,
    /// Counts pictures.
    pub(crate) picture: u32,
    /// Its spatial layer.
    pub(crate) spatial: u8,
    /// Its temporal layer.
    pub(crate) temporal: u8,
    /// It refers to no other picture, and nothing later refers to what was before.
    pub(crate) key: bool,
    /// All that it refers to.
    pub(crate) refs: Vec<u32>,
    /// How far back those are that others do not imply.
    pub(crate) fdiffs: Vec<u32>,
    /// Its relation to each decode target.
    pub(crate) dtis: Vec<Dti>,
    /// How far back the previous frame of each chain is.
    pub(crate) chain_diffs: Vec<u32>,
    /// Of an upper temporal layer, and refers to base frames only (VP8's Y bit).
    pub(crate) sync: bool,
    /// Nothing refers to it.
    pub(crate) discardable: bool,
    /// It refers to the layer below (VP9's D bit).
    pub(crate) inter_layer: bool,
    /// The layer above refers to it.
    pub(crate) used_above: bool,
    /// From here on no higher temporal layer refers to higher layers before (VP9's U bit).
    pub(crate) up_switch: bool,
}

/// The references of each frame that was sent.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    /// By encoding and frame: its references, and whether it is of a key picture.
    pub(crate) frames: BTreeMap<(u8, u32), (Vec<u32>, bool)>,
}

impl Sent {
    /// Removes all entries.
    pub fn clear(&mut self) {
        self.frames.clear();
    }
}

/// Makes the frames of one encoding.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    mode: Mode,
    step: usize,
    /// The next frame.
    pub(crate) next: u32,
    /// The next picture.
    pub(crate) picture: u32,
    started: bool,
    base: [Option<u32>; MAX_SPATIAL],
    /// The newest frame of temporal layer 1, while it may be referred to.
    middle: [Option<u32>; MAX_SPATIAL],
    /// The last keyframe.
    anchor: Option<u32>,
    chains: Vec<Option<u32>>,
    /// Active layers: spatial, temporal.
    pub(crate) active: (u8, u8),
    recent: BTreeMap<u32, Vec<u32>>,
}

impl Pattern {
    /// Starts at the frame and the picture with these numbers.
    pub(crate) fn new(mode: Mode, next: u32, picture: u32) -> Self {
        Self {
            mode,
            step: 0,
            next,
            picture,
            started: false,
            base: [None; MAX_SPATIAL],
            middle: [None; MAX_SPATIAL],
            anchor: None,
            chains: vec![None; mode.chains()],
            active: (mode.spatial, mode.temporal),
            recent: BTreeMap::new(),
        }
    }

    /// Changes the active layers. Returns whether a keyframe has to follow.
    pub(crate) fn set_active(&mut self, spatial: u8, temporal: u8) -> bool {
        let more = spatial > self.active.0;
        self.active = (spatial, temporal);
        for layer in usize::from(spatial)..MAX_SPATIAL {
            (self.base[layer], self.middle[layer]) = (None, None);
        }
        more && self.mode.prediction == Prediction::AtKeyframes
    }

    /// The temporal layer of the next picture.
    pub(crate) fn next_temporal(&self) -> u8 {
        self.mode.cycle()[self.following()]
    }

    fn following(&self) -> usize {
        let cycle = self.mode.cycle();
        let steps = (1..=cycle.len()).map(|n| (self.step + n) % cycle.len());
        steps.into_iter().find(|step| cycle[*step] < self.active.1).expect("a base layer")
    }

    /// Drops the next picture.
    pub(crate) fn skip(&mut self) {
        self.step = self.following();
    }

    /// The frames of the next picture, the lowest spatial layer first. `without` may leave out one
    /// that no other picture refers to.
    pub(crate) fn next_picture(&mut self, key: bool, without: Option<u8>) -> Vec<LayerFrame> {
        let key = key || !self.started;
        self.started = true;
        if key {
            self.step = 0;
            self.base = [None; MAX_SPATIAL];
        } else {
            self.step = self.following();
        }
        let temporal = self.mode.cycle()[self.step];
        if temporal == 0 && (!self.mode.sticky || self.step == 0) {
            self.middle = [None; MAX_SPATIAL];
        }
        let mut frames: Vec<LayerFrame> = Vec::new();
        for spatial in 0..self.active.0 {
            if temporal > 0 && self.base[usize::from(spatial)].is_none() {
                continue;
            }
            if without == Some(spatial) && !key && self.is_discardable(temporal) {
                continue;
            }
            let below = frames.last().map(|below| below.number);
            let below = below.filter(|_| match self.mode.prediction {
                Prediction::Never => false,
                Prediction::AtKeyframes => key,
                Prediction::Always => true,
            });
            if let (Some(last), true) = (frames.last_mut(), below.is_some()) {
                last.used_above = true;
            }
            let frame = self.frame(spatial, temporal, key, below);
            frames.push(frame);
        }
        self.picture += 1;
        frames
    }

    fn frame(&mut self, spatial: u8, temporal: u8, key: bool, below: Option<u32>) -> LayerFrame {
        let at = usize::from(spatial);
        let number = self.next;
        self.next += 1;
        let (base, middle) = (self.base[at], self.middle[at]);
        let mut refs: Vec<u32> = match temporal {
            0 => base.into_iter().collect(),
            1 if !self.mode.sticky => base.into_iter().collect(),
            _ if self.mode.sticky => base.into_iter().chain(middle).collect(),
            _ => middle.or(base).into_iter().collect(),
        };
        let sync = temporal > 0 && (middle.is_none() || !self.mode.sticky && temporal == 1);
        refs.extend(below);
        let key = key || refs.is_empty();
        let fdiffs = self.direct(&refs).iter().map(|r| number - r).collect();
        self.recent.insert(number, refs.clone());
        self.recent.retain(|n, _| n + RECENT > number);
        if self.mode.codec == Codec::Vp8 && self.mode.temporal > 1 && !key {
            // Each frame may refer to the last keyframe too.
            refs.extend(self.anchor.filter(|anchor| !refs.contains(anchor)));
        }
        if key {
            self.anchor = Some(number);
        }
        match temporal {
            0 => self.base[at] = Some(number),
            1 => self.middle[at] = Some(number),
            _ => {}
        }
        let chain_diffs = self.chain_diffs(number, spatial, temporal, key, refs.is_empty());
        LayerFrame {
            number,
            picture: self.picture,
            spatial,
            temporal,
            key,
            fdiffs,
            dtis: self.dtis(spatial, temporal, key),
            chain_diffs,
            sync: sync || key,
            discardable: self.is_discardable(temporal),
            inter_layer: below.is_some(),
            used_above: false,
            up_switch: self.mode.temporal > 1
                && (temporal > 0 || key || !self.mode.sticky || self.step == 0),
            refs,
        }
    }

    fn is_discardable(&self, temporal: u8) -> bool {
        let top = temporal > 0 && temporal + 1 == self.mode.temporal;
        top && (temporal == 2 || !self.mode.sticky || self.step == 3)
    }

    /// References that others do not imply.
    fn direct(&self, refs: &[u32]) -> Vec<u32> {
        let implied = |r: u32| refs.iter().any(|other| *other > r && self.reaches(*other, r));
        refs.iter().copied().filter(|r| !implied(*r)).collect()
    }

    fn reaches(&self, from: u32, to: u32) -> bool {
        let refs = self.recent.get(&from);
        refs.is_some_and(|refs| refs.iter().any(|r| *r == to || *r > to && self.reaches(*r, to)))
    }

    fn dtis(&self, spatial: u8, temporal: u8, key: bool) -> Vec<Dti> {
        let targets =
            (0..self.mode.spatial).flat_map(|s| (0..self.mode.temporal).map(move |t| (s, t)));
        targets.map(|(s, t)| self.dti((spatial, temporal), key, (s, t))).collect()
    }

    fn dti(&self, frame: (u8, u8), key: bool, target: (u8, u8)) -> Dti {
        let ((spatial, temporal), (s, t)) = (frame, target);
        if s < spatial || t < temporal {
            return Dti::NotPresent;
        }
        if s > spatial {
            return match self.mode.prediction {
                Prediction::Never => Dti::NotPresent,
                _ if key => Dti::Switch,
                Prediction::AtKeyframes => Dti::NotPresent,
                Prediction::Always => Dti::Required,
            };
        }
        if self.mode.sticky && !key && self.step != 0 && t > temporal {
            return Dti::Required;
        }
        if t == temporal && t > 0 {
            // The first of layer 1 in a cycle is a switching point.
            let first = self.mode.sticky && temporal == 1 && self.step < 3;
            return if first { Dti::Switch } else { Dti::Discardable };
        }
        Dti::Switch
    }

    fn chain_diffs(
        &mut self,
        number: u32,
        spatial: u8,
        temporal: u8,
        key: bool,
        starts: bool,
    ) -> Vec<u32> {
        let part = |chain: u8| match self.mode.prediction {
            _ if temporal > 0 => false,
            Prediction::Never => spatial == chain,
            Prediction::AtKeyframes => spatial == chain || key && spatial < chain,
            Prediction::Always => spatial <= chain,
        };
        let mut diffs = Vec::new();
        for (chain, last) in (0u8..).zip(&mut self.chains) {
            if starts && part(chain) {
                *last = None;
            }
            // A chain that is no longer sent has no previous frame worth naming.
            diffs.push(last.filter(|_| chain < self.active.0).map_or(0, |last| number - last));
            if part(chain) {
                *last = Some(number);
            }
        }
        diffs
    }
}

impl Mode {
    /// The temporal layers of the pictures between two that are alike.
    pub(crate) fn cycle(&self) -> &'static [u8] {
        match (self.temporal, self.sticky) {
            (1, _) => &[0],
            (2, false) => &[0, 1],
            (2, true) => &[0, 1, 0, 1],
            (_, false) => &[0, 2, 1, 2],
            (_, true) => &[0, 2, 1, 2, 0, 2, 1, 2],
        }
    }

    /// Chains of the dependency descriptor; Chromium's VP8 has none.
    pub(crate) fn chains(&self) -> usize {
        if self.codec == Codec::Vp8 { 0 } else { self.spatial.into() }
    }
}
