//! Converts signalled media descriptions to the engine's types.

use std::collections::HashSet;

use rialto_media::{Codec, EncodingSpec, Extension, MAX_ENCODINGS, MediaType, h264};

use super::media::{MediaSource, PayloadType, RtpHdrExt, SsrcGroup};

/// Upper bound of sources of an endpoint. A browser has a microphone, a camera and a screen or two.
pub const MAX_SOURCES: usize = 32;

/// Upper bound of SSRCs of an endpoint: six for each simulcast source, with some to spare.
pub const MAX_SSRCS: usize = 128;

/// Upper bound of the members of all SSRC groups of an endpoint: each SSRC in a simulcast group, a
/// retransmission group and two more.
const MAX_GROUPED: usize = 4 * MAX_SSRCS;

/// Upper bound of the length of a source's name, bytes.
const MAX_NAME_LENGTH: usize = 256;

/// The engine's view of a payload type; `None` when it is of no use (a retransmission format that
/// does not say of what).
pub fn payload_type(
    media: MediaType,
    signalled: &PayloadType,
) -> Option<rialto_media::PayloadType> {
    let name = signalled.name.to_ascii_lowercase();
    let codec = match name.as_str() {
        "opus" => Codec::Opus,
        "red" if media == MediaType::Audio => Codec::Red,
        "vp8" => Codec::Vp8,
        "vp9" => Codec::Vp9,
        "av1" => Codec::Av1,
        "h264" => Codec::H264,
        "rtx" => Codec::Rtx { apt: parameter(signalled, "apt")?.trim().parse().ok()? },
        _ => Codec::Other { name_hash: fnv1a(name.as_bytes()) },
    };
    let feedback = |kind: &str, subtype: Option<&str>| {
        signalled.rtcp_fbs.iter().any(|fb| {
            fb.r#type.eq_ignore_ascii_case(kind)
                && fb.subtype.as_deref().filter(|s| !s.is_empty()) == subtype
        })
    };
    let default_clock = if media == MediaType::Audio { 48_000 } else { 90_000 };
    Some(rialto_media::PayloadType {
        pt: signalled.id,
        codec,
        media,
        clock_rate: signalled.clockrate.unwrap_or(default_clock),
        profile: profile(codec, signalled),
        nack: feedback("nack", None),
        pli: feedback("nack", Some("pli")),
        fir: feedback("ccm", Some("fir")),
        transport_cc: feedback("transport-cc", None),
    })
}

/// The engine's view of a header extension, if it knows it.
pub fn extension(signalled: &RtpHdrExt) -> Option<(u8, Extension)> {
    Some((signalled.id, Extension::from_uri(&signalled.uri)?)).filter(|(id, _)| *id != 0)
}

/// A signalled source before it has a place in the engine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlannedSource {
    /// Its name.
    pub name: String,
    /// Audio or video.
    pub media: MediaType,
    /// `camera` or `desktop`, if signalled.
    pub video_type: Option<String>,
    /// At least one, at most [`MAX_ENCODINGS`], lowest quality first.
    pub encodings: Vec<EncodingSpec>,
}

impl PlannedSource {
    /// All its SSRCs, retransmission included.
    pub fn ssrcs(&self) -> impl Iterator<Item = u32> {
        self.encodings.iter().flat_map(|e| std::iter::once(e.ssrc).chain(e.rtx))
    }
}

/// Why a set of sources cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SourceError {
    /// More than [`MAX_SOURCES`].
    #[error("more than {MAX_SOURCES} sources")]
    TooManySources,
    /// More than [`MAX_SSRCS`].
    #[error("more than {MAX_SSRCS} SSRCs")]
    TooManySsrcs,
    /// Too many members of groups.
    #[error("more than {MAX_GROUPED} members of ssrc-groups")]
    TooManyGrouped,
    /// A name that is too long, or has control characters.
    #[error("a media-source's id has more than {MAX_NAME_LENGTH} bytes or control characters")]
    BadName,
    /// A source without a name.
    #[error("a media-source has no id")]
    Unnamed,
    /// Two sources of one name.
    #[error("source {0} is listed twice")]
    DuplicateName(String),
    /// An SSRC in two places.
    #[error("SSRC {ssrc} of source {name} is listed twice")]
    DuplicateSsrc {
        /// The SSRC.
        ssrc: u32,
        /// The source in which it was found again.
        name: String,
    },
    /// A group with an SSRC that is not listed.
    #[error("an ssrc-group of source {name} names SSRC {ssrc}, which the source does not have")]
    UnknownSsrc {
        /// The SSRC.
        ssrc: u32,
        /// The source.
        name: String,
    },
    /// More simulcast streams than [`MAX_ENCODINGS`].
    #[error("source {0} has more than {MAX_ENCODINGS} simulcast streams")]
    TooManyEncodings(String),
}

/// Checks a set of sources and finds the encodings of each. Sources without streams and synthetic
/// sources come from nowhere in this endpoint's packets and are left out.
pub fn plan_sources(signalled: &[MediaSource]) -> Result<Vec<PlannedSource>, SourceError> {
    if signalled.len() > MAX_SOURCES {
        return Err(SourceError::TooManySources);
    }
    if signalled.iter().map(|s| s.sources.len()).sum::<usize>() > MAX_SSRCS {
        return Err(SourceError::TooManySsrcs);
    }
    // A group without members counts as well.
    let grouped = signalled.iter().flat_map(|s| &s.ssrc_groups).map(|g| g.ssrcs.len().max(1));
    if grouped.sum::<usize>() > MAX_GROUPED {
        return Err(SourceError::TooManyGrouped);
    }
    let mut names = HashSet::new();
    let mut ssrcs = HashSet::new();
    let mut planned = Vec::with_capacity(signalled.len());
    for source in signalled {
        if source.id.is_empty() {
            return Err(SourceError::Unnamed);
        }
        if source.id.len() > MAX_NAME_LENGTH || source.id.chars().any(char::is_control) {
            return Err(SourceError::BadName);
        }
        if !names.insert(source.id.as_str()) {
            return Err(SourceError::DuplicateName(source.id.clone()));
        }
        for stream in &source.sources {
            if !ssrcs.insert(stream.ssrc) {
                return Err(SourceError::DuplicateSsrc {
                    ssrc: stream.ssrc,
                    name: source.id.clone(),
                });
            }
        }
        let encodings = encodings(source)?;
        if !encodings.is_empty() && !source.synthetic {
            planned.push(PlannedSource {
                name: source.id.clone(),
                media: source.r#type,
                video_type: source.sources.iter().find_map(|s| s.video_type.clone()),
                encodings,
            });
        }
    }
    Ok(planned)
}

/// The streams of a simulcast group in its order, or else the first stream that is not another's
/// companion, each with its retransmission stream.
fn encodings(source: &MediaSource) -> Result<Vec<EncodingSpec>, SourceError> {
    for ssrc in source.ssrc_groups.iter().flat_map(|group| &group.ssrcs) {
        if !source.sources.iter().any(|stream| stream.ssrc == *ssrc) {
            return Err(SourceError::UnknownSsrc { ssrc: *ssrc, name: source.id.clone() });
        }
    }
    let simulcast = groups(source, "SIM").map(|group| group.ssrcs.as_slice()).next();
    let primaries: Vec<u32> = match simulcast {
        Some(ssrcs) => ssrcs.to_vec(),
        None => source
            .sources
            .iter()
            .map(|s| s.ssrc)
            .find(|s| !is_companion(source, *s))
            .into_iter()
            .collect(),
    };
    if primaries.len() > MAX_ENCODINGS {
        return Err(SourceError::TooManyEncodings(source.id.clone()));
    }
    let mut seen = HashSet::new();
    for ssrc in &primaries {
        if !seen.insert(*ssrc) {
            return Err(SourceError::DuplicateSsrc { ssrc: *ssrc, name: source.id.clone() });
        }
    }
    Ok(primaries
        .into_iter()
        .map(|ssrc| EncodingSpec {
            ssrc,
            rtx: groups(source, "FID").find_map(|group| match group.ssrcs.as_slice() {
                [primary, companion, ..] if *primary == ssrc && seen.insert(*companion) => {
                    Some(*companion)
                }
                _ => None,
            }),
        })
        .collect())
}

/// Groups of these semantics with at least the two members that give a group a meaning.
fn groups<'a>(
    source: &'a MediaSource,
    semantics: &'a str,
) -> impl Iterator<Item = &'a SsrcGroup> + 'a {
    source
        .ssrc_groups
        .iter()
        .filter(move |g| g.semantics.eq_ignore_ascii_case(semantics) && g.ssrcs.len() >= 2)
}

fn is_companion(source: &MediaSource, ssrc: u32) -> bool {
    groups(source, "FID")
        .chain(groups(source, "FEC-FR"))
        .any(|group| group.ssrcs.get(1) == Some(&ssrc))
}

fn parameter<'a>(signalled: &'a PayloadType, name: &str) -> Option<&'a str> {
    signalled
        .parameters
        .iter()
        .find(|p| p.name.as_deref() == Some(name))
        .and_then(|p| p.value.as_deref())
}

/// What must be equal for two endpoints' payload types to be the same format.
fn profile(codec: Codec, signalled: &PayloadType) -> String {
    match codec {
        Codec::H264 => h264::format(
            format_parameter(signalled, "profile-level-id"),
            format_parameter(signalled, "packetization-mode"),
        ),
        Codec::Vp9 => format_parameter(signalled, "profile-id").unwrap_or("0").to_ascii_lowercase(),
        _ => String::new(),
    }
}

/// A format parameter, wherever it stands: Jicofo puts all of H.264's parameters behind
/// `profile-level-id`, separated by semicolons.
fn format_parameter<'a>(signalled: &'a PayloadType, name: &str) -> Option<&'a str> {
    signalled.parameters.iter().find_map(|p| {
        let mut parts = p.value.as_deref()?.split(';');
        let own = p.name.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(name));
        let first = if own { parts.next() } else { None };
        let within = |part: &'a str| {
            let (key, value) = part.split_once('=')?;
            key.trim().eq_ignore_ascii_case(name).then_some(value)
        };
        first.or_else(|| parts.find_map(within)).map(str::trim)
    })
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests;
