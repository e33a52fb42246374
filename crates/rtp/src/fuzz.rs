//! Entry points of the fuzz targets of this crate, so that a stable toolchain can replay their corpora. A
//! target panics when an invariant is broken, and only then.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a fuzz target panics when an invariant is broken"
)]

use crate::{
    ExtWriter, ExtensionBlock, Kind, RtpHeader,
    codec::{self, FrameLayers, Targets, VideoCodec, dd::DependencyReader, read, red, vp8, vp9},
    demux, ext,
    rtcp::{Rtcp, RtcpPackets, xr},
    rtx,
    vla::VideoLayersAllocation,
};

/// A fuzz target: it panics when an invariant is broken.
pub type Target = fn(&[u8]);

/// Name and function of each fuzz target.
pub const TARGETS: &[(&str, Target)] = &[
    ("av1", av1),
    ("dd", dd),
    ("demux", demultiplex),
    ("ext", extensions),
    ("h264", h264),
    ("red", redundant_audio),
    ("rtcp", rtcp),
    ("rtp", rtp),
    ("vla", layers_allocation),
    ("vp8", vp8),
    ("vp9", vp9),
];

/// A datagram is of exactly one kind, which its first byte decides, except for RTCP.
pub fn demultiplex(data: &[u8]) {
    let kind = demux(data);
    let media = matches!(kind, Kind::Rtp | Kind::Rtcp);
    assert_eq!(media, data.len() >= 2 && matches!(data.first(), Some(128..=191)));
}

/// Each layer that is sent has a rate, and no other layer has.
pub fn layers_allocation(data: &[u8]) {
    let Some(all) = VideoLayersAllocation::parse(data) else { return };
    assert!(all.streams <= 4 && all.stream < 4);
    for stream in 0..=u8::MAX {
        let top = all.top(stream);
        assert!(top.is_none() || stream < all.streams);
        for (spatial, temporal) in (0..5).flat_map(|s| (0..5).map(move |t| (s, t))) {
            if all.bps(stream, spatial, temporal).is_some() {
                assert!(top.is_some_and(|top| spatial <= top.0) && temporal < 4);
            }
        }
    }
}

/// If a header parses, header, payload and extension elements lie in the packet.
pub fn rtp(data: &[u8]) {
    let Ok(header) = RtpHeader::parse(data) else { return };
    assert!(header.len <= data.len());
    for n in 0..16 {
        assert_eq!(header.csrc(data, n).is_some(), n < header.csrc_count);
    }
    for element in header.extensions(data) {
        assert!(element.start + element.data.len() <= header.len);
        let _ = (ext::audio_level(element.data), ext::transport_seq(element.data));
        let _ = (ext::abs_send_time(element.data), ext::text(element.data));
    }
    if let Ok(payload) = header.payload_range(data) {
        assert!(payload.start == header.len && payload.end <= data.len());
    }
    let mut copy = data.to_vec();
    if let Some(start) = rtx::restore(&mut copy, &header, 96, 1) {
        let restored = copy.get(start..).and_then(|packet| RtpHeader::parse(packet).ok());
        assert_eq!(restored.map(|header| header.len), Some(header.len));
    }
}

/// An extension block that is read and written again reads the same.
pub fn extensions(data: &[u8]) {
    let Some((profile, body)) = data.split_first_chunk::<2>() else { return };
    let block = ExtensionBlock { profile: u16::from_be_bytes(*profile), start: 0, end: body.len() };
    let elements: Vec<_> = ext::ExtIter::new(body, block).map(|e| (e.id, e.data)).collect();
    let mut buf = vec![0; 4 + 2 * elements.len() + body.len() + 4];
    let mut writer = ExtWriter::new(&mut buf, true);
    for (id, data) in &elements {
        writer.push(*id, data).expect("the buffer has room for the larger form");
    }
    let len = writer.finish();
    if len == 0 {
        return;
    }
    let written = buf.get(..len).expect("the writer stays in its buffer");
    let profile = u16::from_be_bytes([written[0], written[1]]);
    let block = ExtensionBlock { profile, start: 4, end: len };
    let again: Vec<_> = ext::ExtIter::new(written, block).map(|e| (e.id, e.data)).collect();
    assert_eq!(elements, again);
}

/// Every list of every packet can be iterated to its end.
pub fn rtcp(data: &[u8]) {
    for packet in RtcpPackets::new(data) {
        let Ok(packet) = packet else { return };
        let entries = match packet {
            Rtcp::SenderReport { blocks, .. } | Rtcp::ReceiverReport { blocks, .. } => {
                blocks.count()
            }
            Rtcp::Sdes(chunks) => chunks.count(),
            Rtcp::Bye(ssrcs) | Rtcp::Remb { ssrcs, .. } => ssrcs.count(),
            Rtcp::Nack { lost, .. } => lost.count() / 17,
            Rtcp::Fir { requests, .. } => requests.count(),
            Rtcp::TransportCc(feedback) => {
                assert_eq!(feedback.statuses().count(), usize::from(feedback.count));
                0
            }
            Rtcp::CongestionFeedback(feedback) => feedback.metrics().count() / 2,
            Rtcp::Xr(body) => usize::from(xr::receiver_reference_time(body).is_some()),
            _ => 0,
        };
        assert!(entries <= data.len());
    }
}

/// What a frame opens includes it, and it can be decoded if a target of its own spatial layer that
/// includes it is intact.
fn hold(layers: FrameLayers) {
    assert!(layers.spatial < 4 && layers.temporal < 4);
    assert_eq!(layers.switch & layers.present, layers.switch);
    let own = layers.present & Targets::of_spatial(layers.spatial, 0);
    assert_eq!(layers.needs & own, own);
    assert_eq!(layers.is_decodable(Targets::NONE), layers.independent);
    if layers.independent {
        assert_eq!(layers.needs, Targets::ALL);
    }
}

/// Blocks of redundant audio lie in the payload one after the other, and read the same when they
/// are written again.
pub fn redundant_audio(data: &[u8]) {
    let blocks: Vec<_> = red::blocks(data).collect();
    let Some(found) = red::primary(data, |_| true) else { return assert!(blocks.is_empty()) };
    assert_eq!(blocks.len(), found.earlier + 1);
    assert!(blocks.len() <= red::MAX_BLOCKS && found.start < data.len());
    let mut again = vec![0; data.len()];
    assert_eq!(red::write(&mut again, &blocks), Some(data.len()));
    assert_eq!(again, data);
    assert!(red::renumber(&mut again, |_| Some(1)));
    assert!(red::blocks(&again).zip(&blocks).all(|(a, b)| a.payload_type == 1 && a.data == b.data));
}

/// Reads a payload, and returns the layers of its frame.
fn layers(codec: VideoCodec, data: &[u8]) -> Option<FrameLayers> {
    let info = read(codec, data, true)?;
    hold(info.layers);
    let mut copy = data.to_vec();
    info.numbers.patch(&mut copy, codec::Shift { picture_id: 0x1234, tl0: 5, frame_number: 0 });
    let again = read(codec, &copy, true).expect("the same shape");
    assert_eq!(again.layers, info.layers);
    assert_eq!(again.numbers.tl0_at, info.numbers.tl0_at);
    Some(info.layers)
}

/// Spatial and temporal layer, and the targets that include the frame: the same in each of its
/// packets.
fn kept(layers: FrameLayers) -> (u8, u8, Targets) {
    (layers.spatial, layers.temporal, layers.present)
}

/// A VP8 descriptor lies in the payload and keeps its shape when it is rewritten. Later packets have the
/// layers of the first.
pub fn vp8(data: &[u8]) {
    let Some(first) = layers(VideoCodec::Vp8, data) else { return };
    let before = vp8::Vp8::parse(data).expect("it was read");
    assert!(before.len <= data.len());
    let mut copy = data.to_vec();
    copy[0] &= !0x10;
    let later = layers(VideoCodec::Vp8, &copy).expect("the same shape");
    assert!(before.keyframe || kept(first) == kept(later));
}

/// A VP9 descriptor lies in the payload. Later packets have the layers of the first.
pub fn vp9(data: &[u8]) {
    let Some(first) = layers(VideoCodec::Vp9, data) else { return };
    let vp9 = vp9::Vp9::parse(data).expect("it was read");
    assert!(vp9.len <= data.len());
    let mut copy = data.to_vec();
    copy[0] &= !0x08;
    assert_eq!(layers(VideoCodec::Vp9, &copy), Some(first));
}

/// An H.264 packet's layers hold.
pub fn h264(data: &[u8]) {
    let _ = layers(VideoCodec::H264, data);
}

/// Any AV1 payload that is not empty can be read.
pub fn av1(data: &[u8]) {
    assert_eq!(layers(VideoCodec::Av1, data).is_some(), !data.is_empty());
}

/// Dependency descriptors of one stream, each after a byte with its length. A descriptor that is
/// read twice gives the same result.
pub fn dd(mut data: &[u8]) {
    let mut reader = DependencyReader::default();
    while let Some((len, rest)) = data.split_first() {
        let (descriptor, rest) = rest.split_at(rest.len().min(usize::from(*len)));
        data = rest;
        let read = reader.read(descriptor);
        assert_eq!(reader.read(descriptor), read);
        assert!(descriptor.len() != 3 || read.is_some());
        let Some(frame) = read else { continue };
        assert!(descriptor.len() >= 3);
        assert!(frame.start || !frame.keyframe);
        if let Some(layers) = frame.layers {
            hold(layers);
        }
    }
}
