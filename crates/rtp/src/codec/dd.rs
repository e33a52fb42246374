//! The dependency descriptor, a header extension that says which layers a frame belongs to, whatever the
//! codec (RTP Payload Format for AV1, section A.8).
//!
//! The first packet of a keyframe carries a structure: the decode targets of the stream, and templates that
//! say for a kind of frame which of them include it, what it depends on and where a receiver can switch. The
//! packets after it name a template, and say where their frame differs from it.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "counts in one structure, which has at most 64 templates and 32 decode targets"
)]

use super::super::be16;
use super::bits::Bits;
use super::{FrameLayers, MAX_SPATIAL, MAX_TEMPORAL, Targets};

/// Bounds of a structure (section A.8.2): templates, spatial and temporal layers. That it has at most 32
/// decode targets follows from the width of their count.
const MAX_TEMPLATES: usize = 64;
const SPATIAL_IDS: u8 = 4;
const TEMPORAL_IDS: u8 = 8;

/// The values of `next_layer_idc` (section A.8.2).
const SAME_LAYER: u32 = 0;
const NEXT_TEMPORAL: u32 = 1;
const NEXT_SPATIAL: u32 = 2;

/// The values of a decode target indication (section A.8.2). Between "discardable" and "required" a
/// forwarder of whole targets makes no difference.
const NOT_PRESENT: u32 = 0;
const SWITCH: u32 = 2;

/// How far behind the newest frame a structure's first one is at most taken to be, so that a stream may go on
/// without a keyframe when frame numbers wrap.
const REACH: u16 = 0x4000;

/// The part of a dependency descriptor (a header extension) that does not depend on the template
/// structure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DependencyDescriptor {
    /// The packet is the first of its frame.
    pub start: bool,
    /// The packet is the last of its frame.
    pub end: bool,
    /// Which template of the structure the frame follows, 0 to 63.
    pub template_id: u8,
    /// The frame's number, modulo 2^16.
    pub frame_number: u16,
    /// It carries a template structure, as the first packet of a keyframe does.
    pub has_structure: bool,
    /// It says which decode targets are active from here on.
    pub has_active_targets: bool,
}

impl DependencyDescriptor {
    /// Reads the value of the header extension; `None` when it is shorter than three bytes.
    #[inline]
    pub fn parse(data: &[u8]) -> Option<Self> {
        let first = *data.first()?;
        let extended = data.get(3).copied().unwrap_or(0);
        Some(Self {
            start: first & 0x80 != 0,
            end: first & 0x40 != 0,
            template_id: first & 0x3f,
            frame_number: be16(data, 1)?,
            has_structure: extended & 0x80 != 0,
            has_active_targets: extended & 0x40 != 0,
        })
    }
}

/// What the descriptor of one packet says about its frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DependencyFrame {
    /// The packet is the first of its frame.
    pub start: bool,
    /// The packet is the last of its frame.
    pub end: bool,
    /// The frame's number, modulo 2^16.
    pub frame_number: u16,
    /// The packet is the first of a keyframe.
    pub keyframe: bool,
    /// Some structure of the stream has arrived by now.
    pub structured: bool,
    /// The packet brings a structure.
    pub structure: bool,
    /// The frame's layers. `None`: the structure that it refers to did not arrive.
    pub layers: Option<FrameLayers>,
    /// What it refers to is in a structure that is yet to come, if it comes: of a keyframe whose first packet was
    /// lost or overtaken. Without it, what has no layers is older than all that is known.
    pub early: bool,
    /// The shorter side of each spatial layer's pictures, when the packet has a structure that tells it; 0:
    /// there is no such layer.
    pub heights: Option<[u16; MAX_SPATIAL as usize]>,
    /// The targets that the sender goes on to send, when the packet tells it. A target that the structure
    /// does not have is the same as the next lower one that it has.
    pub active: Option<Targets>,
}

/// A frame that is behind by as many is not late: 17 s at 30 frames a second.
const LATEST: u16 = 512;

/// Reads the descriptors of one stream. It holds the newest structure and the one before, for packets that
/// arrive late.
#[derive(Clone, Default, Debug)]
pub struct DependencyReader {
    current: Option<Box<Known>>,
    previous: Option<Box<Known>>,
}

/// A structure, and from which frame on it holds.
#[derive(Clone, Debug)]
struct Known {
    since: u16,
    structure: Structure,
}

impl DependencyReader {
    /// Reads the value of the header extension; `None` when it is cut short or malformed, and then nothing
    /// is learnt from it.
    #[inline]
    pub fn read(&mut self, data: &[u8]) -> Option<DependencyFrame> {
        let head = DependencyDescriptor::parse(data)?;
        let mut frame = DependencyFrame {
            start: head.start,
            end: head.end,
            frame_number: head.frame_number,
            keyframe: head.start && head.has_structure,
            structured: self.current.is_some() || head.has_structure,
            structure: head.has_structure,
            layers: None,
            early: false,
            heights: None,
            active: None,
        };
        match data.get(3..) {
            None | Some([]) => {
                let structure = self.structure_of(head.frame_number);
                frame.layers = structure.and_then(|structure| structure.layers(head.template_id));
            }
            Some(extended) => self.read_extended(head, extended, &mut frame)?,
        }
        frame.early =
            frame.layers.is_none() && !head.has_structure && self.is_ahead(head.frame_number);
        Some(frame)
    }

    /// Whether a frame that no known structure describes is newer than the newest of them.
    #[cold]
    fn is_ahead(&self, frame_number: u16) -> bool {
        self.current.as_ref().is_none_or(|current| !current.is_after(frame_number))
    }

    /// Reads the fields after the mandatory ones (section A.8.2, `extended_descriptor_fields`).
    fn read_extended(
        &mut self,
        head: DependencyDescriptor,
        data: &[u8],
        frame: &mut DependencyFrame,
    ) -> Option<()> {
        let mut bits = Bits::new(data);
        bits.read(2)?; // Structure and active targets, which `head` has.
        let custom = Custom { dtis: bits.flag()?, fdiffs: bits.flag()?, chains: bits.flag()? };
        if head.has_structure {
            let structure = Structure::read(&mut bits)?;
            frame.heights = structure.heights;
            frame.active = Some(Targets::ALL);
            structure.read_frame(&mut bits, head, custom, frame)?;
            self.learn(head.frame_number, structure);
        } else if let Some(structure) = self.structure_of(head.frame_number) {
            structure.read_frame(&mut bits, head, custom, frame)?;
        }
        Some(())
    }

    #[inline]
    fn structure_of(&mut self, frame_number: u16) -> Option<&Structure> {
        [&mut self.current, &mut self.previous]
            .into_iter()
            .flatten()
            .find_map(|known| known.holds_for(frame_number).then_some(&known.structure))
    }

    fn learn(&mut self, since: u16, structure: Structure) {
        let Some(current) = &mut self.current else {
            self.current = Some(Box::new(Known { since, structure }));
            return;
        };
        let anew = current.is_of_another_time(since);
        let newer = current.holds_for(since) || anew;
        if newer && current.structure == structure {
            if anew {
                current.since = since;
            }
            return;
        }
        if newer {
            // The older box takes the new structure.
            std::mem::swap(&mut self.current, &mut self.previous);
        }
        let place = if newer { &mut self.current } else { &mut self.previous };
        let known = Known { since, structure };
        match place {
            Some(place) => **place = known,
            None => *place = Some(Box::new(known)),
        }
    }
}

impl Known {
    /// Whether a frame is so far behind that it is not late: the sender began anew, with lower numbers.
    fn is_of_another_time(&self, frame_number: u16) -> bool {
        (LATEST..=0x8000).contains(&self.since.wrapping_sub(frame_number))
    }

    /// Whether a frame came before the structure did, and not only because the sender began anew.
    fn is_after(&self, frame_number: u16) -> bool {
        let behind = self.since.wrapping_sub(frame_number);
        (1..LATEST).contains(&behind)
    }

    /// Whether a frame is not from before the structure.
    #[inline]
    fn holds_for(&mut self, frame_number: u16) -> bool {
        let distance = frame_number.wrapping_sub(self.since);
        if distance > 0x7fff {
            return false;
        }
        if distance > REACH {
            self.since = frame_number.wrapping_sub(REACH);
        }
        true
    }
}

/// Which fields of a frame differ from its template.
#[derive(Clone, Copy)]
struct Custom {
    dtis: bool,
    fdiffs: bool,
    chains: bool,
}

/// A frame's indications, as sets of decode targets.
#[derive(Clone, Copy, Default)]
struct Indications {
    present: u32,
    switch: u32,
}

impl Indications {
    fn read(bits: &mut Bits<'_>, decode_targets: u8) -> Option<Self> {
        let mut all = Self::default();
        for target in 0..decode_targets {
            let indication = bits.read(2)?;
            all.present |= u32::from(indication != NOT_PRESENT) << target;
            all.switch |= u32::from(indication == SWITCH) << target;
        }
        Some(all)
    }
}

/// The least distance to the previous frame of a chain, of so many `width` bits wide; 0: none has one.
fn nearest(bits: &mut Bits<'_>, chains: u8, width: u32) -> Option<u8> {
    let mut nearest = 0;
    for _ in 0..chains {
        let distance = bits.read(width)? as u8;
        if nearest == 0 || (1..nearest).contains(&distance) {
            nearest = distance;
        }
    }
    Some(nearest)
}

/// A template dependency structure.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Structure {
    /// The id of the first template.
    first_id: u8,
    decode_targets: u8,
    chains: u8,
    /// The decode target that each of [`Targets`] stands for.
    stands_for: [u8; 16],
    templates: u8,
    layers: [FrameLayers; MAX_TEMPLATES],
    heights: Option<[u16; MAX_SPATIAL as usize]>,
}

impl Structure {
    /// Reads `template_dependency_structure`.
    fn read(bits: &mut Bits<'_>) -> Option<Self> {
        let mut structure = Self {
            first_id: bits.read(6)? as u8,
            decode_targets: bits.read(5)? as u8 + 1,
            chains: 0,
            stands_for: [0; 16],
            templates: 0,
            layers: [FrameLayers::DELTA; MAX_TEMPLATES],
            heights: None,
        };
        let spatial_layers = structure.read_layers(bits)?;
        let mut indications = [Indications::default(); MAX_TEMPLATES];
        for template in indications.iter_mut().take(structure.templates.into()) {
            *template = Indications::read(bits, structure.decode_targets)?;
        }
        structure.place_decode_targets(&indications);
        let Self { decode_targets, templates, .. } = structure;
        for (n, indications) in indications.iter().enumerate().take(templates.into()) {
            let mut independent = true;
            while bits.flag()? {
                bits.read(4)?; // the distance to a frame that it depends on
                independent = false;
            }
            let layers = *structure.layers.get(n)?;
            *structure.layers.get_mut(n)? = structure.with(layers, *indications, independent);
        }
        structure.chains = bits.non_symmetric(u32::from(decode_targets) + 1)? as u8;
        if structure.chains > 0 {
            for _ in 0..decode_targets {
                bits.non_symmetric(structure.chains.into())?; // the chain that protects it
            }
            for layers in structure.layers.iter_mut().take(templates.into()) {
                layers.chain = nearest(bits, structure.chains, 4)?;
            }
        }
        if bits.flag()? {
            let mut heights = [0; MAX_SPATIAL as usize];
            for height in heights.iter_mut().take(spatial_layers.into()) {
                // They are sent less one. 65,536 lines are as good as one less.
                *height = bits.read(16)?.min(bits.read(16)?).saturating_add(1).min(0xffff) as u16;
            }
            structure.heights = Some(heights);
        }
        Some(structure)
    }

    /// Reads `template_layers`, and returns the number of spatial layers.
    fn read_layers(&mut self, bits: &mut Bits<'_>) -> Option<u8> {
        let (mut spatial, mut temporal) = (0, 0);
        for layers in &mut self.layers {
            *layers = FrameLayers {
                spatial,
                // One above the last that is told apart counts as that one.
                temporal: temporal.min(MAX_TEMPORAL - 1),
                ..FrameLayers::DELTA
            };
            self.templates += 1;
            match bits.read(2)? {
                SAME_LAYER => {}
                NEXT_TEMPORAL => temporal += 1,
                NEXT_SPATIAL => (spatial, temporal) = (spatial + 1, 0),
                _ => return Some(spatial + 1),
            }
            if spatial >= SPATIAL_IDS || temporal >= TEMPORAL_IDS {
                return None;
            }
        }
        None
    }

    /// Finds for each target the decode target that it stands for: the highest one of its spatial and
    /// temporal layer, or of the next lower layers that have one. Where there is none below, it is the lowest
    /// of all. A decode target is of the highest layers that it includes; one that includes nothing counts
    /// for nothing.
    fn place_decode_targets(&mut self, indications: &[Indications; MAX_TEMPLATES]) {
        let mut best = [None; 16];
        let mut lowest = None;
        for target in 0..self.decode_targets {
            let (mut spatial, mut temporal) = (0, 0);
            let templates = self.layers.iter().zip(indications).take(self.templates.into());
            let mut empty = true;
            for (layers, _) in templates.filter(|(_, i)| i.present >> target & 1 == 1) {
                empty = false;
                spatial = layers.spatial.max(spatial);
                temporal = layers.temporal.max(temporal);
            }
            if empty {
                continue;
            }
            let at = (spatial, temporal);
            if lowest.is_none_or(|(lowest, _)| at < lowest) {
                lowest = Some((at, target));
            }
            for (cell, best) in (0..16u8).zip(&mut best) {
                let below = at.0 <= cell / 4 && at.1 <= cell % 4;
                if below && best.is_none_or(|(best, _)| at >= best) {
                    *best = Some((at, target));
                }
            }
        }
        for (stands_for, best) in self.stands_for.iter_mut().zip(best) {
            *stands_for = best.or(lowest).map_or(0, |(_, target)| target);
        }
    }

    /// A set of decode targets, as the targets that stand for them.
    fn targets(&self, decode_targets: u32) -> Targets {
        let has = |target: &u8| decode_targets >> target & 1 == 1;
        let bits = (0..).zip(&self.stands_for).filter(|(_, target)| has(target));
        Targets::from_bits(bits.fold(0, |set, (cell, _)| set | 1 << cell))
    }

    /// A frame's layers with its indications.
    ///
    /// That a decode target includes a frame means that it includes what the frame depends on too, at least
    /// from where the receiver could switch to it. So one intact target that includes it suffices.
    fn with(&self, layers: FrameLayers, dtis: Indications, independent: bool) -> FrameLayers {
        let present = self.targets(dtis.present);
        FrameLayers {
            independent,
            present,
            needs: if independent { Targets::ALL } else { present },
            switch: self.targets(dtis.switch),
            ..layers
        }
    }

    /// The layers of the frames that follow a template.
    #[inline]
    fn layers(&self, template_id: u8) -> Option<FrameLayers> {
        let index = template_id.wrapping_sub(self.first_id) % MAX_TEMPLATES as u8;
        self.layers.get(..usize::from(self.templates))?.get(usize::from(index)).copied()
    }

    /// Reads the active decode targets and `frame_dependency_definition`.
    fn read_frame(
        &self,
        bits: &mut Bits<'_>,
        head: DependencyDescriptor,
        custom: Custom,
        frame: &mut DependencyFrame,
    ) -> Option<()> {
        // Of a template that the structure does not have, nothing else can be read either: it is of another.
        let Some(mut layers) = self.layers(head.template_id) else { return Some(()) };
        if head.has_active_targets {
            frame.active = Some(self.targets(bits.read(self.decode_targets.into())?));
        }
        let mut changed = None;
        if custom.dtis {
            changed = Some(Indications::read(bits, self.decode_targets)?);
        }
        let mut independent = layers.independent;
        if custom.fdiffs {
            independent = true;
            loop {
                let nibbles = bits.read(2)?;
                if nibbles == 0 {
                    break;
                }
                bits.read(4 * nibbles)?; // the distance to a frame that it depends on
                independent = false;
            }
        }
        if custom.chains {
            layers.chain = nearest(bits, self.chains, 8)?;
        }
        if let Some(dtis) = changed {
            layers = self.with(layers, dtis, independent);
        } else if independent != layers.independent {
            let needs = if independent { Targets::ALL } else { layers.present };
            layers = FrameLayers { independent, needs, ..layers };
        }
        frame.layers = Some(layers);
        Some(())
    }
}

#[cfg(test)]
mod tests;
