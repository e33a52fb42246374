//! Our ABORT chunks (RFC 9260 section 3.3.7), which tell a peer that its association is over and
//! why. The library ends one silently.

use bytes::Bytes;

use super::super::crc::crc32c;

/// Common header: ports, verification tag, checksum.
const HEADER: usize = 12;
const ABORT: u8 = 6;
const SHUTDOWN_ACK: u8 = 8;
const ERROR: u8 = 9;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;
/// The T bit: the tag is the one that the receiver chose for us.
const REFLECTED: u8 = 1;
/// Cause code (RFC 9260 section 3.3.10.12).
const USER_INITIATED: u16 = 12;

/// Why we end an association.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reason {
    /// The library does not continue: a message is too long for it, or a chunk is invalid.
    Unacceptable,
    /// Too much waits for reassembly, or in too many streams.
    Greedy,
    /// A bug in the library.
    Defect,
}

impl Reason {
    /// For the peer's log and for ours.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Unacceptable => "a message of more than 512 KiB, or a malformed chunk",
            Self::Greedy => "too many streams, or too many fragments that wait",
            Self::Defect => "internal error",
        }
    }
}

/// The peer's end of an association: the destination of packets to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Peer {
    /// The verification tag that it chose.
    pub(super) tag: [u8; 4],
    /// Source and destination port of its packets.
    pub(super) ports: [u8; 4],
}

impl Peer {
    /// Reads it from an INIT, which must come alone and with a verification tag of 0 (RFC 9260
    /// sections 3.3.2 and 8.5.1). `None` for any other packet.
    pub(super) fn of_init(packet: &[u8]) -> Option<Self> {
        let (header, chunk) = packet.split_first_chunk::<HEADER>()?;
        let (init, _) = chunk.split_first_chunk::<8>()?;
        let [p0, p1, p2, p3, 0, 0, 0, 0, ..] = *header else { return None };
        let [super::INIT, _, _, _, tag @ ..] = *init else { return None };
        Some(Self { tag, ports: [p0, p1, p2, p3] })
    }

    /// Writes an ABORT of its association.
    pub(super) fn abort(self, reason: Reason) -> Bytes {
        let text = reason.text().as_bytes();
        let mut cause = Vec::from(USER_INITIATED.to_be_bytes());
        cause.extend((text.len() as u16 + 4).to_be_bytes());
        cause.extend(text);
        packet(self.ports, self.tag, 0, &cause)
    }
}

/// Writes the answer to a packet of an association that does not exist (RFC 9260 section 8.4): the
/// peer may have missed its end. It is not longer than the packet. `None` if there is no answer.
pub(super) fn to_stranger(received: &[u8]) -> Option<Bytes> {
    let (header, chunks) = received.split_first_chunk::<HEADER>()?;
    let [p0, p1, p2, p3, tag @ .., _, _, _, _] = *header;
    let mut rest = chunks;
    while let [kind, _, high, low, ..] = *rest {
        if matches!(
            kind,
            super::INIT | ABORT | SHUTDOWN_ACK | ERROR | COOKIE_ACK | SHUTDOWN_COMPLETE
        ) {
            return None;
        }
        let length = usize::from(u16::from_be_bytes([high, low])).max(4).next_multiple_of(4);
        rest = rest.get(length..).unwrap_or_default();
    }
    (chunks.len() >= 4).then(|| packet([p0, p1, p2, p3], tag, REFLECTED, &[]))
}

/// Returns whether the peer ends the association with this packet.
pub(super) fn is_goodbye(received: &[u8]) -> bool {
    matches!(received.get(HEADER), Some(&ABORT | &SHUTDOWN_ACK | &SHUTDOWN_COMPLETE))
}

fn packet(ports: [u8; 4], tag: [u8; 4], flags: u8, causes: &[u8]) -> Bytes {
    let [p0, p1, p2, p3] = ports;
    let mut packet = vec![p2, p3, p0, p1];
    packet.extend(tag);
    packet.extend([0; 4]);
    packet.extend([ABORT, flags]);
    packet.extend((causes.len() as u16 + 4).to_be_bytes());
    packet.extend(causes);
    packet.resize(packet.len().next_multiple_of(4), 0);
    let sum = crc32c(&packet).to_le_bytes();
    if let Some(place) = packet.get_mut(8..HEADER) {
        place.copy_from_slice(&sum);
    }
    packet.into()
}
