//! The dependency descriptor, a header extension that describes the layers of a frame for any codec
//! (RTP Payload Format for AV1, section A.8).
//!
//! The first packet of a keyframe carries a template structure: the decode targets of the stream,
//! and templates. A template says, for a kind of frame, which decode targets include it, what it
//! depends on, and where a receiver can switch. The following packets name a template, and how
//! their frame differs from it.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "counts in one structure, which has at most 64 templates and 32 decode targets"
)]

use super::super::be16;
use super::bits::Bits;
use super::{FrameLayers, MAX_SPATIAL, MAX_TEMPORAL, Targets};

/// Limits of a structure (section A.8.2): templates, spatial and temporal layers. Its limit of 32
/// decode targets follows from the width of their count.
const MAX_TEMPLATES: usize = 64;
const SPATIAL_IDS: u8 = 4;
const TEMPORAL_IDS: u8 = 8;

/// The values of `next_layer_idc` (section A.8.2).
const SAME_LAYER: u32 = 0;
const NEXT_TEMPORAL: u32 = 1;
const NEXT_SPATIAL: u32 = 2;

/// The values of a decode target indication (section A.8.2). A forwarder of whole targets treats
/// "discardable" and "required" alike.
const NOT_PRESENT: u32 = 0;
const SWITCH: u32 = 2;

/// How far behind the newest frame the first frame of a structure may be assumed, so that a stream
/// may continue without a keyframe when frame numbers wrap.
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
    /// It carries a template structure, like the first packet of a keyframe.
    pub has_structure: bool,
    /// It lists the decode targets that are active from here on.
    pub has_active_targets: bool,
}

impl DependencyDescriptor {
    /// Parses the value of the header extension; `None` if it is shorter than three bytes.
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

/// The frame according to the descriptor of a packet.
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
    /// A structure of the stream has arrived.
    pub structured: bool,
    /// The packet carries a structure.
    pub structure: bool,
    /// The frame's layers. `None`: the structure that it refers to has not arrived.
    pub layers: Option<FrameLayers>,
    /// It refers to a structure that has not arrived yet: of a keyframe whose first packet was lost
    /// or overtaken. Otherwise a frame without layers is older than all known structures.
    pub early: bool,
    /// The shorter side of each spatial layer's pictures, if the packet has a structure with sizes;
    /// 0: there is no such layer.
    pub heights: Option<[u16; MAX_SPATIAL as usize]>,
    /// The targets that the sender continues to send, if the packet lists them. A target that is
    /// not in the structure counts as the next lower one that is.
    pub active: Option<Targets>,
}

/// A frame that is further behind is not late: 17 s at 30 frames a second.
const LATEST: u16 = 512;

/// Reads the descriptors of one stream. It keeps the newest structure and the one before, for
/// packets that arrive late.
#[derive(Clone, Default, Debug)]
pub struct DependencyReader {
    current: Option<Box<Known>>,
    previous: Option<Box<Known>>,
}

/// A structure, and the frame from which on it holds.
#[derive(Clone, Debug)]
struct Known {
    since: u16,
    structure: Structure,
}

impl DependencyReader {
    /// Reads the value of the header extension; `None`, and no change of state, if it is truncated
    /// or malformed.
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

    /// Returns whether a frame that no known structure describes is newer than the newest
    /// structure.
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
            // The older box is reused for the new structure.
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
    /// Returns whether a frame is so far behind that it is not late: the sender started anew, with
    /// lower numbers.
    fn is_of_another_time(&self, frame_number: u16) -> bool {
        (LATEST..=0x8000).contains(&self.since.wrapping_sub(frame_number))
    }

    /// Returns whether a frame is older than the structure, and not only because the sender started
    /// anew.
    fn is_after(&self, frame_number: u16) -> bool {
        let behind = self.since.wrapping_sub(frame_number);
        (1..LATEST).contains(&behind)
    }

    /// Returns whether a frame is not older than the structure.
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

/// The distance to the nearest previous frame of any chain, each `width` bits wide; 0: there is
/// none.
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
    /// The decode target for each of [`Targets`].
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
                // Sizes are sent less one. 65,536 lines count as one less.
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
                // A higher layer counts as the last supported one.
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

    /// Finds the decode target for each target: the highest one of its spatial and temporal layer,
    /// or of the next lower layers that have one. If there is none below, it is the lowest of all.
    /// A decode target belongs to the highest layers that it includes; one that includes nothing is
    /// ignored.
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

    /// Converts a set of decode targets to targets.
    fn targets(&self, decode_targets: u32) -> Targets {
        let has = |target: &u8| decode_targets >> target & 1 == 1;
        let bits = (0..).zip(&self.stands_for).filter(|(_, target)| has(target));
        Targets::from_bits(bits.fold(0, |set, (cell, _)| set | 1 << cell))
    }

    /// A frame's layers with its indications.
    ///
    /// A decode target that includes a frame also includes what the frame depends on, at least from
    /// where the receiver could switch to it. So one intact target that includes it suffices.
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
        // If the structure lacks the template, nothing else can be read either: the packet belongs
        // to another structure.
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
