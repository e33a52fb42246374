//! The dependency descriptor, a header extension that says which layers a frame belongs to, whatever the
//! codec (RTP Payload Format for AV1, section A.8).

use super::super::be16;

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
