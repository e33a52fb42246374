//! What an endpoint negotiated, compiled for look-up.

use rialto_rtp::codec::VideoCodec;

use crate::{Codec, Extension, MediaParams, MediaType, PayloadType};

/// What the packet path needs to know of a payload type.
#[derive(Clone, Copy, Debug)]
pub struct PtInfo {
    /// Audio or video.
    pub media: MediaType,
    /// What it carries.
    pub codec: Codec,
    /// RTP clock, Hz.
    pub clock_rate: u32,
    /// Generic NACK was negotiated.
    pub nack: bool,
}

/// Marks an extension id or payload type that was not negotiated.
const NONE: u8 = 0xff;

/// RTP payload types have seven bits (RFC 3550 section 5.1).
const PAYLOAD_TYPES: usize = 128;

/// An endpoint's payload types and extension ids, for look-up in both directions.
#[derive(Clone, Debug)]
pub struct Tables {
    payload_types: [Option<PtInfo>; PAYLOAD_TYPES],
    by_extension_id: [u8; 256],
    extension_ids: [u8; Extension::COUNT],
    /// One- and two-byte header extensions may be mixed (RFC 8285 section 4.1.2).
    pub allow_mixed: bool,
    /// Picture loss indication was negotiated for a video payload type.
    pub pli: bool,
    /// Full intra request was negotiated for a video payload type.
    pub fir: bool,
    /// Receiver estimated maximum bitrate (REMB) was negotiated.
    pub remb: bool,
}

impl Default for Tables {
    fn default() -> Self {
        Self::new(&MediaParams::default())
    }
}

impl Tables {
    /// Compiles what was signalled.
    pub fn new(media: &MediaParams) -> Self {
        let mut payload_types = [None; PAYLOAD_TYPES];
        for pt in &media.payload_types {
            if let Some(place) = payload_types.get_mut(usize::from(pt.pt)) {
                *place = Some(PtInfo {
                    media: pt.media,
                    codec: pt.codec,
                    clock_rate: pt.clock_rate,
                    nack: pt.nack,
                });
            }
        }
        let mut by_extension_id = [NONE; 256];
        let mut extension_ids = [0; Extension::COUNT];
        for (id, kind) in &media.extensions {
            if let Some(place) = by_extension_id.get_mut(usize::from(*id)) {
                *place = *kind as u8;
            }
            if let Some(place) = extension_ids.get_mut(*kind as usize) {
                *place = *id;
            }
        }
        Self {
            payload_types,
            by_extension_id,
            extension_ids,
            allow_mixed: media.extmap_allow_mixed,
            pli: media.payload_types.iter().any(|p| p.pli),
            fir: media.payload_types.iter().any(|p| p.fir),
            remb: media.remb,
        }
    }

    /// What a payload type of the endpoint carries.
    #[inline]
    pub fn payload_type(&self, pt: u8) -> Option<&PtInfo> {
        self.payload_types.get(usize::from(pt))?.as_ref()
    }

    /// The extension with this id.
    #[inline]
    pub fn extension(&self, id: u8) -> Option<Extension> {
        ALL_EXTENSIONS.get(usize::from(*self.by_extension_id.get(usize::from(id))?)).copied()
    }

    /// The id of an extension; `None` when it was not negotiated.
    #[inline]
    pub fn extension_id(&self, kind: Extension) -> Option<u8> {
        self.extension_ids.get(kind as usize).copied().filter(|id| *id != 0)
    }
}

const ALL_EXTENSIONS: [Extension; Extension::COUNT] = [
    Extension::AudioLevel,
    Extension::Mid,
    Extension::AbsSendTime,
    Extension::TransportCc,
    Extension::VideoOrientation,
    Extension::DependencyDescriptor,
    Extension::AbsCaptureTime,
    Extension::PlayoutDelay,
    Extension::VideoContentType,
    Extension::ColorSpace,
    Extension::VideoLayersAllocation,
    Extension::RtpStreamId,
    Extension::RepairedRtpStreamId,
    Extension::FrameMarking,
];

/// Returns whether an extension is passed on to receivers that negotiated it. The others are for
/// one hop.
pub fn passes_on(kind: Extension) -> bool {
    matches!(
        kind,
        Extension::AudioLevel
            | Extension::VideoOrientation
            | Extension::DependencyDescriptor
            | Extension::AbsCaptureTime
            | Extension::PlayoutDelay
            | Extension::VideoContentType
            | Extension::ColorSpace
            | Extension::FrameMarking
    )
}

/// The codec, if its keyframes and layers can be read.
pub fn video_codec(codec: Codec) -> Option<VideoCodec> {
    match codec {
        Codec::Vp8 => Some(VideoCodec::Vp8),
        Codec::Vp9 => Some(VideoCodec::Vp9),
        Codec::Av1 => Some(VideoCodec::Av1),
        Codec::H264 => Some(VideoCodec::H264),
        _ => None,
    }
}

/// Maps a sender's payload types to a receiver's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PtMap {
    media: [u8; PAYLOAD_TYPES],
    rtx: [u8; PAYLOAD_TYPES],
    /// The receiver's payload type of redundant audio that can hold a sender's audio.
    red: [u8; PAYLOAD_TYPES],
    renumbers: bool,
}

impl PtMap {
    /// Matches by codec, clock rate and profile. A payload type without a match is not forwarded,
    /// since the receiver could not decode it.
    pub fn new(from: &MediaParams, to: &MediaParams) -> Self {
        let none = [NONE; PAYLOAD_TYPES];
        let mut map = Self { media: none, rtx: none, red: none, renumbers: false };
        for pt in &from.payload_types {
            let Some(out) = counterpart(pt, to) else { continue };
            let at = usize::from(pt.pt);
            if let Some(place) = map.media.get_mut(at) {
                *place = out.pt;
            }
            let rtx = to.payload_types.iter().find(|p| p.codec == Codec::Rtx { apt: out.pt });
            if let (Some(place), Some(rtx)) = (map.rtx.get_mut(at), rtx) {
                *place = rtx.pt;
            }
            if pt.codec == Codec::Opus {
                map.renumbers |= out.pt != pt.pt;
                let red = to.payload_types.iter().find(|p| {
                    (p.codec, p.media, p.clock_rate) == (Codec::Red, pt.media, pt.clock_rate)
                });
                if let (Some(place), Some(red)) = (map.red.get_mut(at), red) {
                    *place = red.pt;
                }
            }
        }
        map
    }

    /// The receiver's payload type of redundant audio (RFC 2198) that can hold this payload type of
    /// the sender. Only for Opus.
    #[inline]
    pub fn red(&self, pt: u8) -> Option<u8> {
        self.red.get(usize::from(pt)).copied().filter(|pt| *pt != NONE)
    }

    /// Returns whether sender and receiver have different payload types for Opus, so that those in
    /// the blocks of redundant audio must be rewritten.
    #[inline]
    pub fn renumbers(&self) -> bool {
        self.renumbers
    }

    /// The receiver's payload type for a media payload type of the sender.
    #[inline]
    pub fn media(&self, pt: u8) -> Option<u8> {
        self.media.get(usize::from(pt)).copied().filter(|pt| *pt != NONE)
    }

    /// The receiver's RTX payload type for a media payload type of the sender.
    #[inline]
    pub fn rtx(&self, pt: u8) -> Option<u8> {
        self.rtx.get(usize::from(pt)).copied().filter(|pt| *pt != NONE)
    }
}

fn counterpart<'a>(pt: &PayloadType, to: &'a MediaParams) -> Option<&'a PayloadType> {
    if matches!(pt.codec, Codec::Rtx { .. }) {
        return None;
    }
    let same = |p: &&PayloadType| {
        p.codec == pt.codec && p.media == pt.media && p.clock_rate == pt.clock_rate
    };
    to.payload_types.iter().filter(same).find(|p| p.profile == pt.profile)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pt(pt: u8, codec: Codec, profile: &str) -> PayloadType {
        PayloadType {
            pt,
            codec,
            media: MediaType::Video,
            clock_rate: 90_000,
            profile: profile.into(),
            nack: true,
            pli: true,
            fir: true,
            transport_cc: true,
        }
    }

    #[test]
    fn maps_codecs_profiles_and_their_rtx() {
        let from = MediaParams {
            payload_types: vec![
                pt(100, Codec::Vp8, ""),
                pt(96, Codec::Rtx { apt: 100 }, ""),
                pt(107, Codec::H264, "42e01f"),
            ],
            ..MediaParams::default()
        };
        let to = MediaParams {
            payload_types: vec![
                pt(50, Codec::H264, "4d001f"),
                pt(51, Codec::H264, "42e01f"),
                pt(52, Codec::Vp8, ""),
                pt(53, Codec::Rtx { apt: 52 }, ""),
            ],
            ..MediaParams::default()
        };
        let map = PtMap::new(&from, &to);
        assert_eq!(map.media(100), Some(52));
        assert_eq!(map.rtx(100), Some(53));
        assert_eq!(map.media(107), Some(51));
        assert_eq!(map.rtx(107), None);
        assert_eq!(map.media(96), None, "RTX is made anew for each receiver");
        assert_eq!(map.media(1), None);
    }

    #[test]
    fn redundant_audio_holds_what_the_receiver_decodes() {
        let audio = |number, codec| PayloadType {
            media: MediaType::Audio,
            clock_rate: 48_000,
            ..pt(number, codec, "")
        };
        let of = |types: &[PayloadType]| MediaParams {
            payload_types: types.to_vec(),
            ..MediaParams::default()
        };
        let from = of(&[audio(111, Codec::Opus), audio(63, Codec::Red)]);
        let plain = PtMap::new(&from, &of(&[audio(111, Codec::Opus)]));
        assert_eq!((plain.media(63), plain.red(111), plain.renumbers()), (None, None, false));
        let other = PtMap::new(&from, &of(&[audio(96, Codec::Opus), audio(97, Codec::Red)]));
        assert_eq!(
            (other.media(63), other.red(111), other.renumbers()),
            (Some(97), Some(97), true)
        );
        let video = of(&[audio(111, Codec::Opus), pt(63, Codec::Red, "")]);
        assert_eq!(PtMap::new(&from, &video).red(111), None, "that of video is another");
    }

    #[test]
    fn another_profile_is_another_format() {
        let of = |profile| MediaParams {
            payload_types: vec![pt(102, Codec::H264, profile)],
            ..MediaParams::default()
        };
        let map = |from, to| PtMap::new(&of(from), &of(to)).media(102);
        assert_eq!(map("high/1", "high/1"), Some(102));
        assert_eq!(map("high/1", "high/0"), None);
        assert_eq!(map("high/1", "main/1"), None);
    }

    #[test]
    fn every_extension_kind_round_trips() {
        for (i, kind) in ALL_EXTENSIONS.iter().enumerate() {
            assert_eq!(*kind as usize, i);
            let media =
                MediaParams { extensions: vec![(i as u8 + 1, *kind)], ..MediaParams::default() };
            let tables = Tables::new(&media);
            assert_eq!(tables.extension(i as u8 + 1), Some(*kind));
            assert_eq!(tables.extension_id(*kind), Some(i as u8 + 1));
            assert_eq!(tables.extension(0), None);
        }
    }
}
