//! Sources and the terms on which receivers get them.

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

/// A source that a sender signalled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SourceSpec {
    /// Its id in the engine.
    pub id: SourceId,
    /// Its name, such as `abcd1234-v0`; for logs and debug output.
    pub name: Arc<str>,
    /// Audio or video.
    pub media: MediaType,
    /// At least one and at most [`MAX_ENCODINGS`] encodings, lowest quality first (the order of the
    /// SIM group). The first one's SSRCs are what receivers see, as in JVB.
    pub encodings: Vec<EncodingSpec>,
}

/// Most encodings of a source.
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

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl fmt::Debug for Mid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mid({})", String::from_utf8_lossy(self.as_bytes()))
    }
}

/// The SSRCs of a slot. A receiver with SSRC rewriting gets each source under the SSRCs of the slot
/// that the source is in, never under the source's own. A slot outlives the sources in it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SlotSsrcs {
    /// The SSRC of the media packets.
    pub ssrc: u32,
    /// The SSRC of their retransmissions.
    pub rtx: Option<u32>,
}

/// The terms of a subscription: how a receiver gets a source.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SubscriptionParams {
    /// The MID to stamp, if the receiver negotiated the extension.
    pub mid: Option<Mid>,
    /// Maximum frame height, pixels: the receiver gets the best active encoding that is not higher,
    /// or the lowest if all are. `None`: no limit.
    pub max_height: Option<u16>,
    /// The receiver asked for this audio source by name: it gets it even if only the loudest of the
    /// others are forwarded.
    pub included: bool,
    /// The slot that the source is in; `None`: the receiver sees the source's own SSRCs. Two
    /// sources of a receiver are never in one slot: one leaves before the other enters.
    pub slot: Option<SlotSsrcs>,
}
