//! Writes the bytes that one receiver gets: a new header, and the payload copied once into the send
//! buffer and sealed there.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "lengths and offsets within one packet, each checked when it is used"
)]

use rialto_media::{Extension, Mid, Tables};
pub use rialto_rtp::codec::Shift;
use rialto_rtp::{ExtWriter, Seq, header::FIXED_LEN, write_header};
use rialto_srtp::TxContext;

use crate::ingress::PacketMeta;

/// Room for the largest header extension block that is written.
pub const MAX_EXTENSION_LEN: usize = 128;

/// The header of a packet to be written.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing {
    /// Packet index: sequence number and ROC.
    pub index: u64,
    /// RTP timestamp.
    pub timestamp: u32,
    /// SSRC.
    pub ssrc: u32,
    /// Payload type.
    pub payload_type: u8,
    /// The RTP marker.
    pub marker: bool,
    /// Padding bytes to append (RFC 3550 section 5.1), 0 for none.
    pub padding: u8,
    /// To be added to the codec's running numbers.
    pub shift: Shift,
    /// For RTX: the sequence number of the original (RFC 4588 section 4).
    pub original: Option<u16>,
    /// Header extensions for this hop only.
    pub stamp: Stamp,
}

/// Header extensions for the path to this receiver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Transport sequence number (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 2).
    pub number: Option<u16>,
    /// When the packet leaves, 6.18 fixed point seconds.
    pub send_time: Option<u32>,
}

/// Offset of the frame number in a dependency descriptor.
const FRAME_NUMBER_AT: usize = 1;

/// Most bytes of the extension elements for a stamp.
const STAMP_LEN: usize = 3 + 4;

/// Length of the extension block that [`write_rtp`] will write for this packet and receiver,
/// computed without writing. `stamped`: it has header extensions for this hop. Exact for the
/// one-byte form with both stamps; an upper bound otherwise.
#[inline]
pub fn extension_len(
    meta: &PacketMeta,
    tables: &Tables,
    mid: Option<&Mid>,
    stamped: bool,
) -> usize {
    let mut len = 0;
    if let Some(mid) = mid {
        len += 1 + mid.as_bytes().len();
    }
    if stamped {
        len += STAMP_LEN;
    }
    for e in meta.extensions.iter().flatten() {
        if tables.extension_id(e.kind).is_some() {
            len += 1 + usize::from(e.len);
        }
    }
    if len == 0 { 0 } else { (4 + len).next_multiple_of(4) }
}

/// Writes the packet into `buf` and seals it. Returns the length, or `None` when it does not fit or
/// cannot be sealed.
#[inline]
pub fn write_rtp(
    buf: &mut [u8],
    out: &Outgoing,
    meta: &PacketMeta,
    packet: &[u8],
    tables: &Tables,
    mid: Option<&Mid>,
    tx: &TxContext,
) -> Option<usize> {
    let (header_len, len) = write_plain(buf, out, meta, packet, tables, mid)?;
    tx.seal_rtp(buf, header_len, len, out.index, out.ssrc).ok()
}

/// Writes the packet into `buf` as it is inside SRTP. Returns the lengths of its header and of the
/// whole, or `None` if it does not fit.
#[inline]
pub fn write_plain(
    buf: &mut [u8],
    out: &Outgoing,
    meta: &PacketMeta,
    packet: &[u8],
    tables: &Tables,
    mid: Option<&Mid>,
) -> Option<(usize, usize)> {
    write_header(
        buf,
        out.marker,
        out.payload_type,
        Seq(out.index as u16),
        out.timestamp,
        out.ssrc,
    )?;
    let sources = write_sources(buf, meta, packet)?;
    let start = FIXED_LEN + sources;
    let header_len = start + write_extensions(buf, start, out, meta, packet, tables, mid)?;
    let mut at = header_len;
    if let Some(original) = out.original {
        buf.get_mut(at..at + 2)?.copy_from_slice(&original.to_be_bytes());
        at += 2;
    }
    let from = usize::from(meta.payload_start);
    let len = usize::from(meta.payload_len);
    let payload = buf.get_mut(at..at + len)?;
    payload.copy_from_slice(packet.get(from..from + len)?);
    if out.shift.picture_id != 0 || out.shift.tl0 != 0 {
        meta.numbers.patch(payload, out.shift);
    }
    at += len;
    // A padding-only packet stays one: its number must arrive (RFC 3550 section 5.1).
    let padding = if len == 0 { out.padding.max(1) } else { out.padding };
    if padding != 0 {
        let tail = buf.get_mut(at..at + usize::from(padding))?;
        tail.fill(0);
        *tail.last_mut()? = padding;
        *buf.first_mut()? |= 0x20;
        at += usize::from(padding);
    }
    Some((header_len, at))
}

/// Length of the list of contributing sources (CSRC), bytes.
#[inline]
pub fn sources_len(meta: &PacketMeta) -> usize {
    4 * usize::from(meta.csrc_count)
}

/// Copies the contributing sources: receivers need to know whom a mixer or an end-to-end encrypted
/// sender names there (RFC 3550 section 7.1). Returns the length of their list.
#[inline]
fn write_sources(buf: &mut [u8], meta: &PacketMeta, packet: &[u8]) -> Option<usize> {
    let len = sources_len(meta);
    if len != 0 {
        let list = packet.get(FIXED_LEN..FIXED_LEN + len)?;
        buf.get_mut(FIXED_LEN..FIXED_LEN + len)?.copy_from_slice(list);
        *buf.first_mut()? |= meta.csrc_count;
    }
    Some(len)
}

/// Writes the extension block at `start` and sets the extension bit. Returns its length.
#[inline]
fn write_extensions(
    buf: &mut [u8],
    start: usize,
    out: &Outgoing,
    meta: &PacketMeta,
    packet: &[u8],
    tables: &Tables,
    mid: Option<&Mid>,
) -> Option<usize> {
    let stamp = out.stamp;
    let mut writer = ExtWriter::new(buf.get_mut(start..)?, tables.allow_mixed);
    // An element that does not fit the negotiated form is left out; the packet is valid without it.
    if let (Some(mid), Some(id)) = (mid, tables.extension_id(Extension::Mid)) {
        let _ = writer.push(id, mid.as_bytes());
    }
    if let (Some(number), Some(id)) = (stamp.number, tables.extension_id(Extension::TransportCc)) {
        let _ = writer.push_array(id, number.to_be_bytes());
    }
    if let (Some(at), Some(id)) = (stamp.send_time, tables.extension_id(Extension::AbsSendTime)) {
        let [_, a, b, c] = at.to_be_bytes();
        let _ = writer.push_array(id, [a, b, c]);
    }
    for e in meta.extensions.iter().flatten() {
        let start = usize::from(e.start);
        if let (Some(id), Some(data)) =
            (tables.extension_id(e.kind), packet.get(start..start + usize::from(e.len)))
        {
            if e.kind == Extension::DependencyDescriptor {
                // Without the template structure, which is longer than one-byte elements allow,
                // nothing up to the next keyframe can be decoded; whoever negotiates descriptors
                // reads both forms.
                writer.allow_two_byte();
            }
            let written = writer.push(id, data);
            if let (Extension::DependencyDescriptor, Ok(at), Some(number)) =
                (e.kind, written, meta.frame_number)
            {
                let number = number.wrapping_add(out.shift.frame_number);
                let _ = writer.patch(at + FRAME_NUMBER_AT, &number.to_be_bytes());
            }
        }
    }
    let len = writer.finish();
    if len != 0 {
        *buf.first_mut()? |= 0x10;
    }
    Some(len)
}
