//! A receiver of forwarded frames for tests: it follows the rule of [`FrameLayers`] and knows what
//! each frame really depends on. Also the reference patterns of libwebrtc's encoders.

use super::{FrameLayers, Targets};

/// Spatial and temporal layer.
pub(super) type Target = (u8, u8);

/// A coded frame.
#[derive(Clone, Debug)]
pub(super) struct Coded {
    pub(super) spatial: u8,
    pub(super) temporal: u8,
    /// Frames of the pattern, by index, that it really depends on.
    pub(super) refs: Vec<usize>,
    /// It starts a picture.
    pub(super) starts_picture: bool,
    /// The spatial layer above in the same picture depends on it, or may in a later picture.
    pub(super) for_upper: bool,
    /// It depends on the spatial layer below in the same picture.
    pub(super) upon_lower: bool,
    /// It is of a picture that starts a sequence: nothing in it depends on anything before.
    pub(super) key: bool,
    /// No later frame of a higher temporal layer depends on one of such a layer before this frame.
    pub(super) up: bool,
}

impl Coded {
    /// The only frame of a picture.
    pub(super) fn alone(temporal: u8, refs: Vec<usize>, key: bool) -> Self {
        Self {
            spatial: 0,
            temporal,
            refs,
            starts_picture: true,
            for_upper: false,
            upon_lower: false,
            key,
            up: false,
        }
    }
}

/// A receiver, and which frames were forwarded to it.
#[derive(Default, Debug)]
pub(super) struct Receiver {
    pub(super) intact: Targets,
    pub(super) current: Option<Target>,
    pub(super) forwarded: Vec<bool>,
}

impl Receiver {
    /// Decides about the next frame, with the target that the receiver should get.
    pub(super) fn decide(&mut self, frame: &Coded, layers: &FrameLayers, wanted: Target) -> bool {
        let opens = layers.opens(self.intact);
        let within = |at: &Target| at.0 <= wanted.0 && at.1 <= wanted.1;
        let best = (self.intact | opens).iter().filter(within).max();
        let forward = match best {
            Some(best) if opens.has(best.0, best.1) && !self.intact.has(best.0, best.1) => {
                self.current = Some(best);
                true
            }
            Some(best) if self.intact.has(best.0, best.1) => {
                self.current = Some(best);
                layers.present.has(best.0, best.1)
            }
            _ => {
                self.current = None;
                false
            }
        };
        if forward {
            assert!(layers.is_decodable(self.intact), "{layers:?} is forwarded undecodable");
            for &reference in &frame.refs {
                assert!(
                    self.forwarded[reference],
                    "frame {} lacks frame {reference}: {frame:?} {layers:?} {self:?}",
                    self.forwarded.len(),
                );
            }
            self.intact |= opens;
        } else {
            self.intact &= !layers.present;
        }
        self.forwarded.push(forward);
        forward
    }
}

/// Runs frames through receivers whose wanted target changes every few frames. If `within` is
/// given, each target is reached at least once after it was wanted for that many frames.
pub(super) fn run(
    frames: &[(Coded, FrameLayers)],
    layers: Target,
    mut random: Random,
    within: Option<usize>,
) {
    for _ in 0..4 {
        let mut receiver = Receiver::default();
        let seldom = if within.is_some() { 30 } else { 10 };
        let (mut wanted, mut since) = ((0, 0), 0);
        for (n, (frame, masks)) in frames.iter().enumerate() {
            if frame.starts_picture && random.below(seldom) == 0 {
                wanted = (random.below(layers.0), random.below(layers.1));
                since = n;
            }
            receiver.decide(frame, masks, wanted);
            if within.is_some_and(|within| n - since > within) {
                assert_eq!(receiver.current, Some(wanted), "since {since}, now {n}");
            }
        }
        assert!(receiver.forwarded.iter().any(|forwarded| *forwarded));
    }
}

/// A small generator (xorshift), so that a seed repeats a run.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// A number below `bound`.
    pub(super) fn below(&mut self, bound: u8) -> u8 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 32) % u64::from(bound)) as u8
    }
}

/// Whether spatial layers are predicted from the one below.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum InterLayer {
    /// In each picture (L3T3).
    On,
    /// In keyframes only (L3T3_KEY).
    OnKey,
    /// Never (S3T3).
    Off,
}

/// The pattern of one scalability mode, with dyadic temporal layers. libwebrtc's upper layers depend on frames
/// of the same period only. When `chained`, T1 depends on the T1 before too, but for a period now and then.
pub(super) struct Svc {
    spatial: u8,
    temporal: u8,
    mode: InterLayer,
    chained: bool,
    /// Spatial layers that are sent now.
    active: u8,
    position: usize,
    /// The newest frame of each spatial layer's T0 and T1.
    newest: [[Option<usize>; 2]; 4],
    pub(super) frames: Vec<Coded>,
}

impl Svc {
    /// Pictures of the mode that `mode` counts, as a property test draws it.
    pub(super) fn drawn(
        seed: u64,
        layers: Target,
        mode: u8,
        chained: bool,
    ) -> (Self, InterLayer, Random) {
        let mode = [InterLayer::On, InterLayer::OnKey, InterLayer::Off][usize::from(mode)];
        let mut random = Random::new(seed);
        let mut svc = Self::new(layers.0, layers.1, mode, chained);
        svc.add(200, &mut random);
        (svc, mode, random)
    }

    fn new(spatial: u8, temporal: u8, mode: InterLayer, chained: bool) -> Self {
        Self {
            spatial,
            temporal,
            mode,
            chained,
            active: spatial,
            position: 0,
            newest: [[None; 2]; 4],
            frames: Vec::new(),
        }
    }

    fn order(&self) -> &'static [u8] {
        match self.temporal {
            1 => &[0],
            2 => &[0, 1],
            _ => &[0, 2, 1, 2],
        }
    }

    /// Adds `pictures` pictures, with a keyframe now and then, and spatial layers that come and go.
    pub(super) fn add(&mut self, pictures: usize, random: &mut Random) {
        for n in 0..pictures {
            let mut key = n == 0 || random.below(60) == 0;
            if key {
                self.position = 0;
            }
            let order = self.order();
            let temporal = order[self.position % order.len()];
            self.position += 1;
            if temporal == 0 && random.below(8) == 0 {
                let active = 1 + random.below(self.spatial);
                // With prediction in keyframes only, a layer comes back with a keyframe.
                key |= self.mode == InterLayer::OnKey && active > self.active;
                self.active = active;
            }
            if key {
                self.newest = [[None; 2]; 4];
                self.position = 1;
            }
            let up = temporal > 0 || key || !self.chained || random.below(4) == 0;
            self.picture(temporal, key, up);
        }
    }

    fn picture(&mut self, temporal: u8, key: bool, up: bool) {
        let predicted = match self.mode {
            InterLayer::On => true,
            InterLayer::OnKey => key,
            InterLayer::Off => false,
        };
        let second_t2 = self.position.is_multiple_of(4);
        let mut lower = None;
        for spatial in 0..self.spatial {
            let of_layer = &mut self.newest[usize::from(spatial)];
            if spatial >= self.active {
                // What comes after a pause depends on nothing before it.
                *of_layer = [None; 2];
                continue;
            }
            if temporal == 0 && up {
                of_layer[1] = None;
            }
            let own = match (temporal, *of_layer) {
                (2, [t0, t1]) if second_t2 => [t1.or(t0), None],
                (1, t0_and_t1) => t0_and_t1,
                (_, [t0, _]) => [t0, None],
            };
            if temporal > 0 && of_layer[0].is_none() {
                continue;
            }
            let below = lower.filter(|_| predicted);
            let index = self.frames.len();
            if temporal < 2 {
                of_layer[usize::from(temporal)] = Some(index);
            }
            self.frames.push(Coded {
                spatial,
                temporal,
                refs: own.into_iter().flatten().chain(below).collect(),
                starts_picture: lower.is_none(),
                for_upper: predicted && spatial + 1 < self.spatial,
                upon_lower: below.is_some(),
                key,
                up,
            });
            lower = Some(index);
        }
    }
}
