//! Redundant audio (RFC 2198): the headers of earlier blocks, the header of the primary block, then
//! the blocks in that order. Packets are read in place, and written from their blocks.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "offsets in one payload of one datagram, each checked against its length when it is used"
)]

/// Most blocks of a packet that are read, including the primary. Browsers send three, and one of
/// their decoders accepts no more than these.
pub const MAX_BLOCKS: usize = 32;

/// The largest time offset in a block's header (RFC 2198 section 3), in units of the clock.
pub const MAX_OFFSET: u32 = (1 << 14) - 1;
/// The longest block other than the primary one, bytes.
pub const MAX_LEN: usize = (1 << 10) - 1;

/// The F bit: another header follows.
const FOLLOWS: u8 = 0x80;
/// Length of the header of an earlier block.
const HEADER_LEN: usize = 4;

/// The primary block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Primary {
    /// Its payload type.
    pub payload_type: u8,
    /// Where it begins in the payload; it extends to the end, and is not empty.
    pub start: usize,
    /// Number of blocks before it.
    pub earlier: usize,
}

/// Finds the primary block. `None` if a header is truncated, a block ends outside the payload,
/// nothing is left for the primary one, there are too many, or `known` does not know the type of
/// one.
#[inline]
pub fn primary(payload: &[u8], known: impl Fn(u8) -> bool) -> Option<Primary> {
    let (mut at, mut blocks) = (0, 0);
    for earlier in 0..MAX_BLOCKS {
        let first = *payload.get(at)?;
        let payload_type = first & !FOLLOWS;
        if !known(payload_type) {
            return None;
        }
        if first & FOLLOWS == 0 {
            let start = at + 1 + blocks;
            return (start < payload.len()).then_some(Primary { payload_type, start, earlier });
        }
        let header = payload.get(at..at + HEADER_LEN)?;
        blocks += header_of(header)?.1;
        at += HEADER_LEN;
    }
    None
}

/// One block of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block<'a> {
    /// Its payload type.
    pub payload_type: u8,
    /// How far its time is before the packet's, in units of the clock; 0 for the primary one.
    pub offset: u32,
    /// Its contents.
    pub data: &'a [u8],
}

/// The blocks of a packet, the primary one last. None if the packet is malformed.
pub fn blocks(payload: &[u8]) -> impl Iterator<Item = Block<'_>> {
    let found = primary(payload, |_| true);
    let (count, primary_at) = found.map_or((0, 0), |p| (p.earlier + 1, p.start));
    let mut data_at = count.saturating_sub(1) * HEADER_LEN + 1;
    (0..count).filter_map(move |block| {
        let header = payload.get(block * HEADER_LEN..)?;
        let payload_type = header.first()? & !FOLLOWS;
        if block + 1 == count {
            return Some(Block { payload_type, offset: 0, data: payload.get(primary_at..)? });
        }
        let (offset, len) = header_of(header)?;
        let data = payload.get(data_at..data_at + len)?;
        data_at += len;
        Some(Block { payload_type, offset, data })
    })
}

/// Offset in time and length of an earlier block.
#[inline]
fn header_of(header: &[u8]) -> Option<(u32, usize)> {
    let &[_, a, b, c, ..] = header else { return None };
    let bits = u32::from_be_bytes([0, a, b, c]);
    Some((bits >> 10, (bits & MAX_LEN as u32) as usize))
}

/// Rewrites the payload types of the blocks: `map` gives the number for each. A block for which it
/// returns `None` keeps its own. Returns false, without a change, if the packet is malformed.
pub fn renumber(payload: &mut [u8], map: impl Fn(u8) -> Option<u8>) -> bool {
    let Some(found) = primary(payload, |_| true) else { return false };
    for block in 0..=found.earlier {
        if let Some(first) = payload.get_mut(block * HEADER_LEN) {
            let own = *first & !FOLLOWS;
            *first = *first & FOLLOWS | map(own).unwrap_or(own) & !FOLLOWS;
        }
    }
    true
}

/// Writes a packet of these blocks, the primary one last; its offset is ignored. Returns its
/// length; `None` if there is no block, one cannot be expressed in a header, or there is no room.
pub fn write(out: &mut [u8], blocks: &[Block<'_>]) -> Option<usize> {
    let (primary, earlier) = blocks.split_last()?;
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        let place = out.get_mut(at..at + bytes.len());
        at += bytes.len();
        place.map(|place| place.copy_from_slice(bytes))
    };
    for block in earlier {
        if block.offset > MAX_OFFSET || block.data.len() > MAX_LEN {
            return None;
        }
        let [_, a, b, c] = (block.offset << 10 | block.data.len() as u32).to_be_bytes();
        put(&[block.payload_type | FOLLOWS, a, b, c])?;
    }
    put(&[primary.payload_type & !FOLLOWS])?;
    for block in blocks {
        put(block.data)?;
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OPUS: u8 = 111;

    fn packet(blocks: &[(u32, &[u8])]) -> Vec<u8> {
        let all: Vec<_> = blocks
            .iter()
            .map(|(offset, data)| Block { payload_type: OPUS, offset: *offset, data })
            .collect();
        let mut out = vec![0; 1_500];
        let len = write(&mut out, &all).unwrap();
        out.truncate(len);
        out
    }

    #[test]
    fn reads_what_a_browser_sends() {
        // Two blocks before, of 20 and 40 ms, and the primary one.
        let bytes = [
            0xef, 0x1e, 0x00, 0x02, 0xef, 0x0f, 0x00, 0x01, 0x6f, b'a', b'a', b'b', b'c', b'c',
            b'c',
        ];
        let found = primary(&bytes, |pt| pt == OPUS).unwrap();
        assert_eq!((found.payload_type, found.start, found.earlier), (OPUS, 12, 2));
        let all: Vec<_> = blocks(&bytes).map(|b| (b.payload_type, b.offset, b.data)).collect();
        let expected: [(u8, u32, &[u8]); 3] =
            [(OPUS, 1_920, b"aa"), (OPUS, 960, b"b"), (OPUS, 0, b"ccc")];
        assert_eq!(all, expected);
        assert_eq!(packet(&[(1_920, b"aa"), (960, b"b"), (0, b"ccc")]), bytes);
    }

    #[test]
    fn a_primary_block_may_be_alone() {
        let found = primary(&[OPUS, 1, 2], |_| true).unwrap();
        assert_eq!((found.start, found.earlier), (1, 0));
    }

    #[test]
    fn what_lies_is_refused() {
        let good = packet(&[(960, b"before"), (0, b"now")]);
        let known = |pt| pt == OPUS;
        assert!(primary(&good, known).is_some());
        for len in 0..good.len() - 2 {
            assert_eq!(primary(&good[..len], known), None, "cut at {len}");
        }
        assert_eq!(primary(&[OPUS], known), None, "nothing is left for the primary block");
        assert_eq!(primary(&good, |pt| pt != OPUS), None, "an unknown type");
        let mut long = good.clone();
        long[2] |= 3;
        assert_eq!(primary(&long, known), None, "a block that ends outside");
        let endless = [0xef, 0, 0, 0].repeat(MAX_BLOCKS + 2);
        assert_eq!(primary(&endless, known), None, "headers without end");
        assert_eq!(blocks(&endless).count(), 0);
    }

    #[test]
    fn blocks_are_named_anew() {
        let mut bytes = packet(&[(960, b"before"), (0, b"now")]);
        let before: Vec<_> = blocks(&bytes).map(|b| b.data.to_vec()).collect();
        assert!(renumber(&mut bytes, |pt| (pt == OPUS).then_some(96)));
        assert!(blocks(&bytes).all(|b| b.payload_type == 96));
        assert_eq!(blocks(&bytes).map(|b| b.data.to_vec()).collect::<Vec<_>>(), before);
        assert!(renumber(&mut bytes, |_| None), "none is known: all stay");
        assert!(blocks(&bytes).all(|b| b.payload_type == 96));
        assert!(!renumber(&mut [0xef, 0, 0], |_| Some(1)));
    }

    #[test]
    fn what_has_no_header_is_not_written() {
        let block = |offset, data| Block { payload_type: OPUS, offset, data };
        let mut out = [0; 2_000];
        let long = [0; MAX_LEN + 1];
        assert_eq!(write(&mut out, &[]), None);
        assert_eq!(write(&mut out, &[block(MAX_OFFSET + 1, b"a"), block(0, b"b")]), None);
        assert_eq!(write(&mut out, &[block(960, &long), block(0, b"b")]), None);
        assert_eq!(write(&mut out, &[block(960, b"a"), block(0, &long)]), Some(5 + 1 + 1_024));
        assert_eq!(write(&mut out[..6], &[block(960, b"a"), block(0, b"b")]), None, "no room");
    }

    proptest! {
        /// Written blocks read the same.
        #[test]
        fn what_is_written_reads_the_same(
            earlier in proptest::collection::vec((0..=MAX_OFFSET, 0usize..60), 0..MAX_BLOCKS),
            last in 1usize..80,
            pt in 0u8..128,
        ) {
            let data: Vec<u8> = (0..=255).collect();
            let block = |offset, len| Block { payload_type: pt, offset, data: &data[..len] };
            let mut all: Vec<_> = earlier.iter().map(|(at, len)| block(*at, *len)).collect();
            all.push(block(0, last));
            let mut out = vec![0; 4_000];
            let len = write(&mut out, &all).unwrap();
            prop_assert_eq!(blocks(&out[..len]).collect::<Vec<_>>(), all);
            let found = primary(&out[..len], |known| known == pt).unwrap();
            prop_assert_eq!((found.earlier, len - found.start), (earlier.len(), last));
        }
    }
}
