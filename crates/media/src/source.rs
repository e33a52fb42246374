//! What a sender sends, and how a receiver gets it.

use std::{fmt, sync::Arc};

use super::{MediaType, SourceId};

/// One RTP stream of a source: an encoding of a simulcast source, or the only one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EncodingSpec {
    /// The SSRC of the media packets.
    pub ssrc: u32,
    /// The SSRC of its retransmissions (FID group), if signalled.
    pub rtx: Option<u32>,
}

/// A signalled source of a sender.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SourceSpec {
    /// Its place in the engine.
    pub id: SourceId,
    /// Its name, such as `abcd1234-v0`; for logs and debug output.
    pub name: Arc<str>,
    /// Audio or video.
    pub media: MediaType,
    /// At least one and at most [`MAX_ENCODINGS`] encodings, lowest quality first (the order of the
    /// SIM group). The first one's SSRCs are what receivers see, as in JVB.
    pub encodings: Vec<EncodingSpec>,
}

/// Upper bound of encodings of a source.
pub const MAX_ENCODINGS: usize = 4;

/// An MID (RFC 9143), 1..=16 bytes of ASCII.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mid {
    len: u8,
    bytes: [u8; 16],
}

impl Mid {
    /// `None` when empty, longer than 16 bytes, or not printable ASCII.
    pub fn new(mid: &str) -> Option<Self> {
        let raw = mid.as_bytes();
        if raw.is_empty() || raw.len() > 16 || !raw.iter().all(u8::is_ascii_graphic) {
            return None;
        }
        let mut bytes = [0; 16];
        bytes.get_mut(..raw.len())?.copy_from_slice(raw);
        Some(Self { len: raw.len() as u8, bytes })
    }

    /// The bytes to stamp.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl fmt::Debug for Mid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mid({})", String::from_utf8_lossy(self.as_bytes()))
    }
}

/// How a receiver gets a source.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Terms {
    /// The MID to stamp, where the receiver negotiated the extension.
    pub mid: Option<Mid>,
    /// Encodings that are higher than this many pixels are not for it, while a lower one arrives;
    /// `None`: any is.
    pub max_height: Option<u16>,
    /// Audio that it asked for by name: it gets that even when only the loudest of others are forwarded.
    pub included: bool,
}
