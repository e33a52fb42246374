//! AV1: the aggregation header and the dependency descriptor (RTP Payload Format for AV1, sections
//! 4.4 and A.8).

use super::super::be16;

/// The aggregation header, the first byte of an AV1 payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Aggregation {
    /// The Z bit: the first element continues one of the previous packet.
    pub continues: bool,
    /// The Y bit: the last element goes on in the next packet.
    pub continued: bool,
    /// The W field: number of elements, 0 when each has a length.
    pub elements: u8,
    /// The N bit: the packet is the first of a coded video sequence, which starts with a keyframe.
    pub new_sequence: bool,
}

impl Aggregation {
    /// Reads a payload; `None` when it is empty.
    #[inline]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let first = *payload.first()?;
        Some(Self {
            continues: first & 0x80 != 0,
            continued: first & 0x40 != 0,
            elements: (first >> 4) & 0x03,
            new_sequence: first & 0x08 != 0,
        })
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aggregation_header() {
        let first = Aggregation::parse(&[0x18, 0x0a]).unwrap();
        assert!(first.new_sequence && !first.continues && !first.continued);
        assert_eq!(first.elements, 1);
        let middle = Aggregation::parse(&[0xd0]).unwrap();
        assert!(!middle.new_sequence && middle.continues && middle.continued);
        assert_eq!(Aggregation::parse(&[]), None);
    }

    #[test]
    fn dependency_descriptor() {
        let key = DependencyDescriptor::parse(&[0x80, 0x01, 0x02, 0xc0, 0x00]).unwrap();
        assert!(key.start && !key.end && key.has_structure && key.has_active_targets);
        assert_eq!((key.template_id, key.frame_number), (0, 0x102));
        let inter = DependencyDescriptor::parse(&[0x45, 0xff, 0xff]).unwrap();
        assert!(!inter.start && inter.end && !inter.has_structure);
        assert_eq!((inter.template_id, inter.frame_number), (5, 0xffff));
        assert_eq!(DependencyDescriptor::parse(&[0, 1]), None);
    }
}
