//! Media descriptions: payload types, header extensions, sources.

use rialto_media::MediaType;

/// `<media>`: what an endpoint can send and receive of one type.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Media {
    /// Audio or video.
    pub r#type: MediaType,
    /// Payload types (XEP-0167).
    pub payload_types: Vec<PayloadType>,
    /// Header extensions (XEP-0294).
    pub rtp_hdrexts: Vec<RtpHdrExt>,
    /// One- and two-byte headers may be mixed (RFC 8285).
    pub extmap_allow_mixed: bool,
}

/// `<payload-type>`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PayloadType {
    /// Number, 0..=127.
    pub id: u8,
    /// Encoding name.
    pub name: String,
    /// RTP clock, Hz.
    pub clockrate: Option<u32>,
    /// Audio channels.
    pub channels: Option<u32>,
    /// Packet length, milliseconds.
    pub ptime: Option<u32>,
    /// Longest packet, milliseconds.
    pub maxptime: Option<u32>,
    /// Format parameters.
    pub parameters: Vec<Parameter>,
    /// RTCP feedback (XEP-0293).
    pub rtcp_fbs: Vec<RtcpFb>,
}

/// A parameter of a payload type or source. Redundant audio's has no name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parameter {
    /// Its name.
    pub name: Option<String>,
    /// Its value.
    pub value: Option<String>,
}

/// A kind of RTCP feedback.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RtcpFb {
    /// `nack`, `ccm`, `transport-cc` and the like.
    pub r#type: String,
    /// `pli`, `fir` and the like.
    pub subtype: Option<String>,
}

/// `<rtp-hdrext>`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RtpHdrExt {
    /// Id, 1..=255.
    pub id: u8,
    /// What it is.
    pub uri: String,
    /// Who sends it.
    pub senders: Option<String>,
    /// Attributes of the extension.
    pub attributes: Option<String>,
}

/// `<media-source>`: a camera, a microphone, a screen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MediaSource {
    /// Audio or video.
    pub r#type: MediaType,
    /// Its name in the conference, such as `abcd1234-v0`.
    pub id: String,
    /// It is injected by a service and not sent by the endpoint.
    pub synthetic: bool,
    /// Its RTP streams.
    pub sources: Vec<Source>,
    /// How they belong together.
    pub ssrc_groups: Vec<SsrcGroup>,
}

/// `<source>` (XEP-0339): one RTP stream.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Source {
    /// Its SSRC.
    pub ssrc: u32,
    /// Name of the source it belongs to.
    pub name: Option<String>,
    /// `camera` or `desktop`.
    pub video_type: Option<String>,
    /// RTP stream id.
    pub rid: Option<String>,
    /// Parameters such as `msid`.
    pub parameters: Vec<Parameter>,
}

/// `<ssrc-group>` (RFC 5576 section 4.2).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SsrcGroup {
    /// `SIM`, `FID` or `FEC-FR`.
    pub semantics: String,
    /// Its SSRCs, in the order that the semantics give a meaning to.
    pub ssrcs: Vec<u32>,
}

/// The value of a `type` attribute.
pub(super) fn media_type_str(media: MediaType) -> &'static str {
    match media {
        MediaType::Audio => "audio",
        MediaType::Video => "video",
    }
}
