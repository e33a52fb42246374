//! Determines which targets may have lost frames in a gap, from the packets around it.

use rialto_rtp::codec::Targets;

use super::meta::PacketMeta;

/// A packet at the edge of a gap.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edge {
    /// Its SRTP index.
    pub(super) index: u64,
    timestamp: u32,
    spatial: u8,
    temporal: u8,
    present: Targets,
    /// Whether it is the first of its frame.
    start: bool,
    /// Whether it is the last of its frame.
    end: bool,
    /// Whether it is the last of its picture.
    marker: bool,
    frame_number: Option<u16>,
    /// The distance, in frames, to the newest frame of any chain; 0 if not known.
    chain: u8,
    /// Its picture id, and the number of possible values.
    picture_id: Option<(u16, u16)>,
    tl0: Option<u8>,
}

impl Edge {
    pub(super) fn new(index: u64, meta: &PacketMeta) -> Self {
        let numbers = &meta.numbers;
        let has_id = numbers.picture_id_bits != 0;
        Self {
            index,
            timestamp: meta.timestamp,
            spatial: meta.layers.spatial,
            temporal: meta.layers.temporal,
            present: meta.layers.present,
            start: meta.start,
            end: meta.end,
            marker: meta.marker,
            frame_number: meta.frame_number,
            chain: meta.layers.chain,
            picture_id: has_id.then(|| (numbers.picture_id, numbers.picture_id_mask())),
            tl0: (numbers.tl0_at != 0).then_some(numbers.tl0),
        }
    }

    fn is_of_same_frame(&self, other: &Self) -> bool {
        (self.timestamp, self.spatial, self.frame_number)
            == (other.timestamp, other.spatial, other.frame_number)
    }

    /// Returns the targets that may include packets missing between this packet and `after`.
    pub(super) fn missing_before(&self, after: &Self) -> Targets {
        if self.is_of_same_frame(after) {
            return self.present;
        }
        if let Some((before, after_it)) = self.frame_number.zip(after.frame_number)
            && after_it.wrapping_sub(before) == 1
        {
            // Only parts of these two frames are missing.
            return self.rest_of_frame() | after.head_of_frame();
        }
        if self.timestamp == after.timestamp {
            // All layers of a picture are of one temporal layer.
            return Targets::from(self.spatial, self.temporal);
        }
        let edges = self.rest_of_picture() | after.head_of_picture();
        if self.pictures_until(after) == Some(0) {
            edges
        } else if self.bases_until(after) == Some(0) || self.has_no_chain_until(after) {
            edges | Targets::from(0, 1)
        } else {
            Targets::ALL
        }
    }

    fn rest_of_frame(&self) -> Targets {
        if self.end { Targets::NONE } else { self.present }
    }

    fn head_of_frame(&self) -> Targets {
        if self.start { Targets::NONE } else { self.present }
    }

    fn rest_of_picture(&self) -> Targets {
        let above = Targets::from(self.spatial, self.temporal);
        if self.marker { Targets::NONE } else { above }
    }

    fn head_of_picture(&self) -> Targets {
        let first = self.start && self.spatial == 0;
        if first { Targets::NONE } else { Targets::from(0, self.temporal) }
    }

    /// Returns whether no frame of any chain is missing: the newest one is this packet's, or older.
    fn has_no_chain_until(&self, after: &Self) -> bool {
        let frames = self.frame_number.zip(after.frame_number);
        let frames = frames.map(|(before, after)| after.wrapping_sub(before));
        after.chain > 0 && frames.is_some_and(|frames| u16::from(after.chain) >= frames)
    }

    /// Number of whole pictures missing.
    fn pictures_until(&self, after: &Self) -> Option<u16> {
        let ((before, mask), (after, same)) = self.picture_id.zip(after.picture_id)?;
        (mask == same).then(|| after.wrapping_sub(before).wrapping_sub(1) & mask)
    }

    /// Number of these that are of the base layer, which TL0PICIDX counts.
    fn bases_until(&self, after: &Self) -> Option<u8> {
        let (before, count) = self.tl0.zip(after.tl0)?;
        Some(count.wrapping_sub(before).wrapping_sub(u8::from(after.temporal == 0)))
    }
}

#[cfg(test)]
mod tests {
    use rialto_rtp::codec::{FrameLayers, RunningNumbers};

    use super::*;

    fn edge(picture: u16, tl0: u8, (spatial, temporal): (u8, u8), ends: (bool, bool)) -> Edge {
        let present = Targets::from(spatial, temporal);
        let meta = PacketMeta {
            timestamp: u32::from(picture) * 3_000,
            layers: FrameLayers { spatial, temporal, present, ..FrameLayers::DELTA },
            start: ends.0,
            end: ends.1,
            marker: ends.1,
            numbers: RunningNumbers {
                picture_id_at: 1,
                picture_id_bits: 15,
                picture_id: picture,
                tl0_at: 3,
                tl0,
                dense: true,
            },
            ..PacketMeta::default()
        };
        Edge::new(0, &meta)
    }

    const WHOLE: (bool, bool) = (true, true);

    #[test]
    fn pictures_of_the_base_layer_are_told_from_others() {
        let base = edge(10, 7, (0, 0), WHOLE);
        let missing = |after: Edge| base.missing_before(&after);
        assert_eq!(missing(edge(12, 7, (0, 1), WHOLE)), Targets::from(0, 1));
        assert_eq!(missing(edge(12, 8, (0, 0), WHOLE)), Targets::from(0, 1));
        assert_eq!(missing(edge(12, 8, (0, 1), WHOLE)), Targets::ALL, "11 was of the base");
        assert_eq!(missing(edge(14, 9, (0, 0), WHOLE)), Targets::ALL);
        assert_eq!(missing(edge(11, 8, (0, 0), (false, true))), Targets::ALL, "the head of 11");
        let upper = edge(11, 7, (0, 2), (false, true));
        assert_eq!(missing(upper), Targets::from(0, 2), "the head of 11");
    }

    #[test]
    fn chains_tell_that_nothing_of_the_base_is_missing() {
        let frame = |number: u16, chain: u8, layer: (u8, u8)| Edge {
            frame_number: Some(number),
            chain,
            tl0: None,
            picture_id: None,
            ..edge(number, 0, layer, WHOLE)
        };
        let base = frame(0xffff, 4, (0, 0));
        assert_eq!(base.missing_before(&frame(3, 4, (0, 0))), Targets::from(0, 1));
        assert_eq!(base.missing_before(&frame(2, 3, (0, 2))), Targets::from(0, 1));
        assert_eq!(base.missing_before(&frame(7, 4, (0, 0))), Targets::ALL, "3 was of the base");
        assert_eq!(base.missing_before(&frame(3, 0, (0, 0))), Targets::ALL, "nothing is known");
    }

    #[test]
    fn parts_of_frames_are_of_their_targets() {
        let open = edge(10, 7, (1, 1), (true, false));
        assert_eq!(open.missing_before(&edge(10, 7, (1, 1), WHOLE)), Targets::from(1, 1));
        assert_eq!(open.missing_before(&edge(10, 7, (2, 1), WHOLE)), Targets::from(1, 1));
        assert_eq!(open.missing_before(&edge(11, 8, (0, 0), WHOLE)), Targets::from(1, 1));
        let opaque = |edge: Edge| Edge { tl0: None, picture_id: None, ..edge };
        let after = opaque(edge(11, 8, (0, 0), WHOLE));
        assert_eq!(opaque(open).missing_before(&after), Targets::ALL);
        let number = |edge: Edge, number| Edge { frame_number: Some(number), ..opaque(edge) };
        let next = number(edge(10, 7, (2, 1), WHOLE), 0);
        assert_eq!(number(open, 0xffff).missing_before(&next), Targets::from(1, 1));
        let whole = number(edge(10, 7, (1, 1), WHOLE), 0xffff);
        assert_eq!(whole.missing_before(&next), Targets::NONE);
    }
}
