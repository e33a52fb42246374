//! RTP packets (RFC 3550) as clients write and read them: a fixed header, and header extensions in
//! their one-byte and two-byte forms (RFC 8285).

use std::ops::Range;

/// What a client writes into an RTP header.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// Payload type.
    pub pt: u8,
    /// Marker.
    pub marker: bool,
    /// Sequence number.
    pub seq: u16,
    /// Timestamp.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
}

impl Header {
    /// Begins a packet in `out` (cleared first) with the given header extensions. Where one is longer than 16
    /// bytes they have two-byte headers, else one-byte headers (RFC 8285 section 4).
    pub fn write(&self, extensions: &[(u8, &[u8])], out: &mut Vec<u8>) {
        out.clear();
        out.push(0x80 | (u8::from(!extensions.is_empty()) << 4));
        out.push((u8::from(self.marker) << 7) | self.pt);
        out.extend_from_slice(&self.seq.to_be_bytes());
        out.extend_from_slice(&self.timestamp.to_be_bytes());
        out.extend_from_slice(&self.ssrc.to_be_bytes());
        if extensions.is_empty() {
            return;
        }
        let long = extensions.iter().any(|(_, value)| value.len() > 16);
        let head = if long { 2 } else { 1 };
        let bytes: usize = extensions.iter().map(|(_, value)| head + value.len()).sum();
        let words = bytes.div_ceil(4);
        out.extend_from_slice(if long { &[0x10, 0x00] } else { &[0xbe, 0xde] });
        out.extend_from_slice(&(words as u16).to_be_bytes());
        for (id, value) in extensions {
            if long {
                out.extend_from_slice(&[*id, value.len() as u8]);
            } else {
                out.push((id << 4) | (value.len() as u8).wrapping_sub(1) & 0x0f);
            }
            out.extend_from_slice(value);
        }
        out.resize(out.len() + words * 4 - bytes, 0);
    }
}

/// What a client reads of an RTP packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parsed {
    /// Payload type.
    pub pt: u8,
    /// Marker.
    pub marker: bool,
    /// Sequence number.
    pub seq: u16,
    /// Timestamp.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
    /// Where the payload is, without padding.
    pub payload: Range<usize>,
    /// Where the header extensions are, and whether they have two-byte headers.
    extensions: Option<(Range<usize>, bool)>,
}

impl Parsed {
    /// Reads a decrypted packet; `None` when it is malformed.
    pub fn read(packet: &[u8]) -> Option<Self> {
        let (&first, &second) = (packet.first()?, packet.get(1)?);
        if first >> 6 != 2 {
            return None;
        }
        let mut at = 12 + usize::from(first & 0x0f) * 4;
        let mut extensions = None;
        if first & 0x10 != 0 {
            let profile = u16::from_be_bytes(array(packet, at)?);
            let words = u16::from_be_bytes(array(packet, at + 2)?);
            let range = at + 4..at + 4 + usize::from(words) * 4;
            packet.get(range.clone())?;
            at = range.end;
            extensions = match profile {
                0xbede => Some((range, false)),
                0x1000..=0x100f => Some((range, true)),
                _ => None,
            };
        }
        let padding = if first & 0x20 != 0 { usize::from(*packet.last()?) } else { 0 };
        let end = packet.len().checked_sub(padding)?;
        packet.get(at..end)?;
        Some(Self {
            pt: second & 0x7f,
            marker: second & 0x80 != 0,
            seq: u16::from_be_bytes(array(packet, 2)?),
            timestamp: u32::from_be_bytes(array(packet, 4)?),
            ssrc: u32::from_be_bytes(array(packet, 8)?),
            payload: at..end,
            extensions,
        })
    }

    /// The value of a header extension.
    pub fn extension<'a>(&self, packet: &'a [u8], wanted: u8) -> Option<&'a [u8]> {
        let (range, two_byte) = self.extensions.as_ref()?;
        let mut rest = packet.get(range.clone())?;
        while let Some((&head, tail)) = rest.split_first() {
            if head == 0 {
                rest = tail;
                continue;
            }
            let (id, len, body) = if *two_byte {
                let (&len, body) = tail.split_first()?;
                (head, usize::from(len), body)
            } else {
                (head >> 4, usize::from(head & 0x0f) + 1, tail)
            };
            if id == 15 && !two_byte {
                return None;
            }
            let (value, next) = body.split_at_checked(len)?;
            if id == wanted {
                return Some(value);
            }
            rest = next;
        }
        None
    }
}

/// Length of a packet's header, extensions included, sealed or not; `None` when it is malformed.
pub fn header_len(packet: &[u8]) -> Option<usize> {
    let &first = packet.first()?;
    let mut len = 12 + usize::from(first & 0x0f) * 4;
    if first & 0x10 != 0 {
        let words = u16::from_be_bytes(array(packet, len + 2)?);
        len += 4 + usize::from(words) * 4;
    }
    (first >> 6 == 2 && len <= packet.len()).then_some(len)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use webrtc_util::marshal::Unmarshal;

    use super::*;

    fn sample(extensions: &[(u8, &[u8])]) -> Vec<u8> {
        let header = Header {
            pt: 100,
            marker: true,
            seq: 65_000,
            timestamp: 0xdead_beef,
            ssrc: 0x0102_0304,
        };
        let mut out = vec![9; 40];
        header.write(extensions, &mut out);
        out.extend_from_slice(b"payload");
        out
    }

    #[test]
    fn another_reader_agrees() {
        let raw = sample(&[(1, &[0x85]), (5, &[0x12, 0x34])]);
        let foreign = rtp::packet::Packet::unmarshal(&mut &raw[..]).unwrap();
        assert_eq!(foreign.header.sequence_number, 65_000);
        assert!(foreign.header.marker);
        assert_eq!(foreign.header.get_extension(5).unwrap().as_ref(), [0x12, 0x34]);
        assert_eq!(foreign.payload.as_ref(), b"payload");
        let own = Parsed::read(&raw).unwrap();
        assert_eq!((own.pt, own.seq, own.ssrc), (100, 65_000, 0x0102_0304));
        assert_eq!(own.extension(&raw, 1), Some(&[0x85][..]));
        assert_eq!(own.extension(&raw, 5), Some(&[0x12, 0x34][..]));
        assert_eq!(own.extension(&raw, 2), None);
        assert_eq!(&raw[own.payload], b"payload");
    }

    #[test]
    fn another_reader_agrees_on_long_extensions() {
        let raw = sample(&[(1, &[0x85]), (12, &[7; 40])]);
        let foreign = rtp::packet::Packet::unmarshal(&mut &raw[..]).unwrap();
        assert_eq!(foreign.header.get_extension(12).unwrap().as_ref(), [7; 40]);
        assert_eq!(foreign.payload.as_ref(), b"payload");
        let own = Parsed::read(&raw).unwrap();
        assert_eq!(own.extension(&raw, 1), Some(&[0x85][..]));
        assert_eq!(own.extension(&raw, 12), Some(&[7; 40][..]));
        assert_eq!(&raw[own.payload.clone()], b"payload");
        assert!(own.marker);
    }

    #[test]
    fn padding_and_two_byte_headers() {
        let mut raw = sample(&[]);
        raw[0] |= 0x20;
        raw.extend_from_slice(&[0, 0, 3]);
        let parsed = Parsed::read(&raw).unwrap();
        assert_eq!(&raw[parsed.payload], b"payload");

        let mut raw = sample(&[(1, &[0; 7])]);
        raw[12..14].copy_from_slice(&[0x10, 0x00]);
        raw[16..24].copy_from_slice(&[5, 2, 0xab, 0xcd, 0, 7, 1, 0xee]);
        let parsed = Parsed::read(&raw).unwrap();
        assert_eq!(parsed.extension(&raw, 5), Some(&[0xab, 0xcd][..]));
        assert_eq!(parsed.extension(&raw, 7), Some(&[0xee][..]));
    }

    proptest! {
        #[test]
        fn nothing_panics(raw in proptest::collection::vec(any::<u8>(), 0..80), id in 0u8..20) {
            if let Some(parsed) = Parsed::read(&raw) {
                prop_assert_eq!(header_len(&raw), Some(parsed.payload.start));
                let _ = parsed.extension(&raw, id);
                prop_assert!(raw.get(parsed.payload).is_some());
            }
        }
    }
}
