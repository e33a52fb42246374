//! Reads header extensions and the payload descriptor of a packet, once for all receivers.
#![expect(clippy::cast_possible_truncation, reason = "offsets and lengths in one datagram")]

use rialto_media::{Extension, PtInfo, Tables, passes_on, video_codec};
use rialto_rtp::{
    self as rtp, RtpHeader,
    codec::{
        self, FrameLayers, MAX_SPATIAL, Resolution, VideoCodec,
        dd::{DependencyFrame, DependencyReader},
    },
};

use super::{
    level::LoudestLevel,
    meta::{KeptExtension, PacketMeta},
};

/// What the header extensions say.
#[derive(Debug, Default)]
pub(super) struct ExtensionInfo<'a> {
    /// The transport sequence number.
    pub(super) number: Option<u16>,
    pub(super) loudness: Option<u8>,
    /// The packet starts a frame that stands alone (RFC 9626).
    independent: bool,
    /// The dependency descriptor. It also describes keyframes and layers if the payload is
    /// encrypted from end to end.
    dependencies: Option<DependencyFrame>,
    /// The sender's video layers allocation.
    pub(super) allocation: Option<&'a [u8]>,
}

impl ExtensionInfo<'_> {
    /// Returns whether the packet has a template structure that others may refer to.
    pub(super) fn has_structure(&self) -> bool {
        self.dependencies.is_some_and(|frame| frame.structure)
    }

    /// The descriptor, if it refers to a structure that has not arrived yet.
    #[inline]
    pub(super) fn early(&self) -> Option<&DependencyFrame> {
        self.dependencies.as_ref().filter(|frame| frame.early)
    }
}

/// What a packet shows of its encoding, apart from its own metadata.
#[derive(Debug, Default)]
pub(super) struct EncodingInfo {
    /// The size of its frames.
    pub(super) resolution: Option<Resolution>,
    /// Frame heights of the spatial layers.
    pub(super) heights: Option<[u16; MAX_SPATIAL as usize]>,
}

/// The header extensions of a packet.
pub(super) struct Extensions<'a> {
    pub(super) tables: &'a Tables,
    pub(super) header: &'a RtpHeader,
    pub(super) packet: &'a [u8],
}

impl<'a> Extensions<'a> {
    /// Reads the extensions, and which of them are passed on to receivers.
    #[inline]
    pub(super) fn read(
        &self,
        dependencies: &mut DependencyReader,
        level: &mut LoudestLevel,
        meta: &mut PacketMeta,
    ) -> ExtensionInfo<'a> {
        let mut info = ExtensionInfo::default();
        let mut kept = meta.extensions.iter_mut();
        for e in self.header.extensions(self.packet) {
            let Some(kind) = self.tables.extension(e.id) else { continue };
            match kind {
                Extension::TransportCc => info.number = rtp::ext::transport_seq(e.data),
                Extension::AudioLevel => {
                    if let Some(l) = rtp::ext::audio_level(e.data) {
                        info.loudness = Some(l.level);
                        meta.audio.voice = l.voice;
                        level.record(l.level);
                    }
                }
                Extension::DependencyDescriptor => info.dependencies = dependencies.read(e.data),
                Extension::VideoLayersAllocation => info.allocation = Some(e.data),
                Extension::FrameMarking => {
                    info.independent |= rtp::ext::starts_independent_frame(e.data);
                }
                _ => {}
            }
            if passes_on(kind)
                && let Some(place) = kept.next()
            {
                let (len, start) = (e.data.len() as u8, e.start as u16);
                *place = Some(KeptExtension { kind, len, start });
            }
        }
        meta.frame_number = info.dependencies.as_ref().map(|frame| frame.frame_number);
        info
    }
}

/// Reads the codec's payload descriptor, in addition to the extensions `told`.
#[inline]
pub(super) fn read(
    pt: &PtInfo,
    packet: &[u8],
    info: &ExtensionInfo<'_>,
    meta: &mut PacketMeta,
) -> EncodingInfo {
    let mut shown = EncodingInfo::default();
    let codec = video_codec(pt.codec);
    let start = usize::from(meta.payload_start);
    let payload = packet.get(start..start.saturating_add(usize::from(meta.payload_len)));
    let Some(payload) = payload.filter(|payload| !payload.is_empty()) else { return shown };
    meta.end = meta.marker;
    if let Some(codec) = codec {
        meta.keyframes_known = true;
        if let Some(info) = codec::read(codec, payload, meta.marker) {
            meta.keyframe = info.keyframe;
            (meta.end, meta.layers, meta.numbers) = (info.end, info.layers, info.numbers);
            meta.prefix = info.prefix;
            shown.resolution = info.resolution;
            // Apart from fragments, H.264 marks no first packet except for parameter sets, and AV1
            // only that of a sequence.
            meta.start = info.start
                && match codec {
                    VideoCodec::Vp8 | VideoCodec::Vp9 => true,
                    VideoCodec::H264 => info.keyframe && info.parameters,
                    VideoCodec::Av1 => info.keyframe,
                };
            shown.heights = info.heights;
        }
    }
    if let Some(frame) = &info.dependencies {
        meta.keyframes_known = true;
        // Encrypted payloads may look like anything. A sender that has sent no structure yet may
        // never send one, but noise must not pass for the keyframe that is requested meanwhile.
        let readable = codec.is_none_or(is_readable);
        meta.keyframe &= !frame.structured && readable;
        meta.keyframe |= frame.keyframe;
        if frame.layers.is_some() || !readable {
            (meta.start, meta.end) = (frame.start, frame.end);
            meta.layers = frame.layers.unwrap_or(FrameLayers::DELTA);
            meta.prefix = false;
        }
        shown.heights = frame.heights.or(shown.heights);
        if frame.structured || !readable {
            // Only the structure counts, nothing that may be encrypted.
            let height = frame.heights.and_then(|heights| heights.into_iter().max());
            shown.resolution = match height {
                Some(height) => Some(Resolution { width: height, height }),
                None => shown.resolution.filter(|_| frame.keyframe),
            };
        }
    }
    meta.keyframe |= info.independent;
    meta.start |= info.independent;
    shown
}

/// Returns whether keyframes can be recognised in encrypted payloads: VP8 and VP9 have descriptors
/// of their own in front.
const fn is_readable(codec: VideoCodec) -> bool {
    matches!(codec, VideoCodec::Vp8 | VideoCodec::Vp9)
}

/// Returns whether a packet begins a keyframe according to its payload, although its descriptor,
/// which refers to a structure, has none.
#[cold]
pub(super) fn is_key_without_structure(
    pt: &PtInfo,
    packet: &[u8],
    meta: &PacketMeta,
    frame: &DependencyFrame,
) -> bool {
    let payload = packet.get(usize::from(meta.payload_start)..).unwrap_or_default();
    let codec = video_codec(pt.codec).filter(|codec| is_readable(*codec));
    let read = codec.and_then(|codec| codec::read(codec, payload, meta.marker));
    frame.start && read.is_some_and(|info| info.keyframe)
}

/// The highest spatial layer that has a height.
pub(super) fn top(heights: [u16; MAX_SPATIAL as usize]) -> u8 {
    let above = heights.iter().skip(1).take_while(|height| **height > 0).count();
    above as u8
}

#[cfg(test)]
mod tests {
    use rialto_media::{Codec, MediaType};

    use super::*;

    /// Noise that looks like an IDR slice of H.264, while the structure that its descriptor refers
    /// to is lost.
    #[test]
    fn a_descriptor_tells_keyframes_of_what_is_encrypted() {
        let dependencies = DependencyFrame {
            start: true,
            end: false,
            frame_number: 7,
            keyframe: false,
            structured: true,
            structure: false,
            layers: None,
            early: true,
            heights: None,
            active: None,
        };
        let info = ExtensionInfo { dependencies: Some(dependencies), ..ExtensionInfo::default() };
        let (media, codec) = (MediaType::Video, Codec::H264);
        let pt = PtInfo { media, codec, clock_rate: 90_000, nack: true };
        let mut meta = PacketMeta { payload_len: 4, ..PacketMeta::default() };
        read(&pt, &[0xe5, 0x10, 0x9a, 0x33], &info, &mut meta);
        assert!(!meta.keyframe);
        let _ = read(&pt, &[0xe5, 0x10, 0x9a, 0x33], &ExtensionInfo::default(), &mut meta);
        assert!(meta.keyframe, "without a descriptor it is one");
    }

    /// The same before any structure: noise that looks like a slice of an upper layer, or like
    /// parameter sets.
    #[test]
    fn nothing_that_may_be_encrypted_counts_before_the_structure() {
        let dependencies = DependencyReader::default().read(&[0x80, 0, 7]);
        let info = ExtensionInfo { dependencies, ..ExtensionInfo::default() };
        let pt = |codec| PtInfo { media: MediaType::Video, codec, clock_rate: 90_000, nack: true };
        let read = |codec, payload: &[u8]| {
            let len = payload.len() as u16;
            let mut meta = PacketMeta { payload_len: len, ..PacketMeta::default() };
            let shown = read(&pt(codec), payload, &info, &mut meta);
            (meta.keyframe, meta.prefix, meta.layers, shown.resolution)
        };
        let sps = [0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x3d, 0xa1];
        for noise in [&sps[..], &[0x65, 1, 2], &[0x01, 1, 2]] {
            assert_eq!(read(Codec::H264, noise), (false, false, FrameLayers::DELTA, None));
        }
        assert!(!read(Codec::Av1, &[0x18, 1, 2]).0, "the bit of a new sequence");
        assert!(read(Codec::Vp8, &[0x10, 0, 0, 0]).0, "its descriptor is in the clear");
    }
}
