//! Session descriptions (RFC 8866) as WebRTC uses them (RFC 9429), as far as a bridge needs them:
//! one BUNDLE group, one transport, sections with codecs, extensions and SSRCs.
//!
//! [`Description::parse`] reads what a browser wrote: unknown lines are skipped, known lines that
//! make no sense are errors, and everything that can repeat is bounded. `Display` writes a
//! description that [`Description::parse`] reads back as the same value.

mod read;
#[cfg(test)]
mod tests;
mod write;

use std::str::FromStr;

/// Maximum length of a description, bytes.
pub const MAX_BYTES: usize = 512 * 1024;
/// Maximum number of `m=` sections.
pub const MAX_SECTIONS: usize = 256;
/// Maximum repetitions of one kind of line (codecs, extensions, SSRCs, groups, candidates) in a section.
pub const MAX_REPEATS: usize = 64;

/// A session description.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// Session id of the `o=` line.
    pub session: u64,
    /// Session version of the `o=` line; grows with every new offer.
    pub version: u64,
    /// One- and two-byte header extensions may be mixed (RFC 8285 section 6), at session level.
    pub extmap_allow_mixed: bool,
    /// MIDs of the BUNDLE group (RFC 9143), in order.
    pub bundle: Vec<String>,
    /// ICE and DTLS parameters of all sections that have none of their own. Firefox writes its
    /// fingerprint here.
    pub transport: Transport,
    /// The `m=` sections, in order.
    pub sections: Vec<Section>,
}

/// One `m=` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// What it carries.
    pub kind: Kind,
    /// The port is 0: the section is rejected or stopped.
    pub rejected: bool,
    /// MID (RFC 9143); empty if absent.
    pub mid: String,
    /// The direction.
    pub direction: Direction,
    /// Stream and track identifiers (RFC 8830).
    pub msid: Option<(String, String)>,
    /// Payload types, in order of preference.
    pub codecs: Vec<Codec>,
    /// Header extensions (RFC 8285).
    pub extensions: Vec<Extmap>,
    /// One- and two-byte header extensions may be mixed, at section level.
    pub extmap_allow_mixed: bool,
    /// SSRCs (RFC 5576), each once, in order of appearance.
    pub ssrcs: Vec<Ssrc>,
    /// SSRC groups (RFC 5576 section 4.2).
    pub groups: Vec<SsrcGroup>,
    /// Identifiers of simulcast streams (RFC 8851), in the order of the `a=rid` lines.
    pub rids: Vec<Rid>,
    /// ICE and DTLS parameters.
    pub transport: Transport,
}

impl Section {
    /// An empty section.
    pub fn new(kind: Kind, mid: impl Into<String>, direction: Direction) -> Self {
        Self {
            kind,
            rejected: false,
            mid: mid.into(),
            direction,
            msid: None,
            codecs: Vec::new(),
            extensions: Vec::new(),
            extmap_allow_mixed: false,
            ssrcs: Vec::new(),
            groups: Vec::new(),
            rids: Vec::new(),
            transport: Transport::default(),
        }
    }
}

/// What a section carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Audio.
    Audio,
    /// Video.
    Video,
    /// A data channel.
    Application,
}

impl Kind {
    /// The word of the `m=` line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Video => "video",
            Self::Application => "application",
        }
    }
}

/// Direction, from the describer's view (RFC 8866 section 6.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// Both sides send.
    #[default]
    SendRecv,
    /// The describer sends.
    SendOnly,
    /// The other side sends.
    RecvOnly,
    /// Nobody sends.
    Inactive,
}

impl Direction {
    /// The attribute.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }

    /// The describer sends.
    pub fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }
}

/// A payload type with its `rtpmap`, `fmtp` and `rtcp-fb` lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Codec {
    /// RTP payload type, 0..=127.
    pub pt: u8,
    /// Encoding name.
    pub name: String,
    /// RTP clock, Hz.
    pub clock_rate: u32,
    /// Audio channels, if written.
    pub channels: Option<u8>,
    /// `fmtp` parameters; a parameter without `=` has an empty name.
    pub parameters: Vec<(String, String)>,
    /// `rtcp-fb`: type and subtype.
    pub feedback: Vec<(String, Option<String>)>,
}

/// A header extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extmap {
    /// Its id, 1..=255.
    pub id: u8,
    /// Its URI.
    pub uri: String,
}

/// An SSRC with the attributes in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ssrc {
    /// The SSRC.
    pub id: u32,
    /// Canonical name; empty when not written.
    pub cname: String,
    /// Stream and track identifiers, where written at the SSRC.
    pub msid: Option<(String, String)>,
}

/// An SSRC group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SsrcGroup {
    /// `SIM`, `FID`, ...
    pub semantics: String,
    /// Its members, in order.
    pub ssrcs: Vec<u32>,
}

/// A simulcast stream (RFC 8851), always part of `a=simulcast` when written by us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rid {
    /// Its identifier.
    pub id: String,
    /// The describer sends it (`send`), or wants to receive it (`recv`).
    pub send: bool,
}

/// ICE and DTLS parameters of a section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transport {
    /// ICE user name fragment; empty when not written.
    pub ufrag: String,
    /// ICE password; empty when not written.
    pub pwd: String,
    /// Certificate fingerprints: hash name and value (RFC 8122).
    pub fingerprints: Vec<(String, String)>,
    /// DTLS role: `actpass`, `active`, `passive` (RFC 5763).
    pub setup: Option<Setup>,
    /// ICE candidates.
    pub candidates: Vec<Candidate>,
}

/// DTLS role in a description (RFC 4145, RFC 5763).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setup {
    /// Either; the answerer chooses.
    ActPass,
    /// DTLS client.
    Active,
    /// DTLS server.
    Passive,
}

impl Setup {
    /// The attribute's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ActPass => "actpass",
            Self::Active => "active",
            Self::Passive => "passive",
        }
    }
}

/// An ICE candidate (RFC 8839 section 5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Foundation.
    pub foundation: String,
    /// Component; 1 with rtcp-mux.
    pub component: u16,
    /// `udp` or `tcp`, lower case.
    pub protocol: String,
    /// Priority.
    pub priority: u32,
    /// Address, or a host name (mDNS).
    pub address: String,
    /// Port.
    pub port: u16,
    /// `host`, `srflx`, `prflx`, `relay`.
    pub typ: String,
}

impl FromStr for Candidate {
    type Err = Error;

    /// Reads `candidate:...`, with or without `a=` before it.
    fn from_str(line: &str) -> Result<Self, Error> {
        let line = line.strip_prefix("a=").unwrap_or(line);
        let value = line.strip_prefix("candidate:").ok_or(Error::Malformed("candidate"))?;
        read::candidate(value)
    }
}

/// Why a description is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Longer than [`MAX_BYTES`].
    #[error("the description is too long")]
    TooLong,
    /// The first line is not `v=0`.
    #[error("the description does not begin with v=0")]
    Version,
    /// More lines of a kind than [`MAX_SECTIONS`] or [`MAX_REPEATS`].
    #[error("too many {0} lines")]
    TooMany(&'static str),
    /// A required line cannot be parsed.
    #[error("malformed {0} line")]
    Malformed(&'static str),
}
