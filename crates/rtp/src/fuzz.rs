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
    codec::{VideoCodec, av1, inspect, red, vp8, vp9},
    demux, ext,
    rtcp::{Rtcp, RtcpPackets},
    rtx,
};

/// A fuzz target: it panics when an invariant is broken.
pub type Target = fn(&[u8]);

/// Name and function of each fuzz target.
pub const TARGETS: &[(&str, Target)] = &[
    ("av1", av1),
    ("demux", demultiplex),
    ("ext", extensions),
    ("h264", h264),
    ("red", redundant_audio),
    ("rtcp", rtcp),
    ("rtp", rtp),
    ("vp8", vp8),
    ("vp9", vp9),
];

/// A datagram is of one kind, which its first byte decides but for RTCP.
pub fn demultiplex(data: &[u8]) {
    let kind = demux(data);
    let media = matches!(kind, Kind::Rtp | Kind::Rtcp);
    assert_eq!(media, data.len() >= 2 && matches!(data.first(), Some(128..=191)));
}

/// A header that parses lies in the packet, as do payload and extension elements.
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

/// Every list of every packet can be walked to its end.
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
            _ => 0,
        };
        assert!(entries <= data.len());
    }
}

/// A VP8 descriptor lies in the payload and keeps its shape when it is rewritten.
pub fn vp8(data: &[u8]) {
    let _ = inspect(VideoCodec::Vp8, data, true);
    let Some(before) = vp8::Vp8::parse(data) else { return };
    assert!(before.len <= data.len());
    let mut copy = data.to_vec();
    let written = before.write_picture_id(&mut copy, 0x55);
    assert_eq!(written, before.picture_id.is_some());
    assert_eq!(before.write_tl0_pic_idx(&mut copy, 9), before.tl0_pic_idx.is_some());
    let after = vp8::Vp8::parse(&copy).expect("the same shape");
    assert_eq!(after.len, before.len);
    assert_eq!(after.picture_id.map(|id| id.value), before.picture_id.map(|_| 0x55));
    assert_eq!((after.temporal, after.keyframe), (before.temporal, before.keyframe));
}

/// A VP9 descriptor lies in the payload.
pub fn vp9(data: &[u8]) {
    let _ = inspect(VideoCodec::Vp9, data, true);
    if let Some(vp9) = vp9::Vp9::parse(data) {
        assert!(vp9.len <= data.len());
    }
}

/// Blocks of redundant audio lie in the payload one behind the other, and read the same when they are
/// written again.
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

/// H.264 has nothing to hold but that it ends.
pub fn h264(data: &[u8]) {
    let _ = inspect(VideoCodec::H264, data, true);
}

/// An AV1 payload or dependency descriptor is read whenever it is long enough.
pub fn av1(data: &[u8]) {
    assert_eq!(inspect(VideoCodec::Av1, data, true).is_some(), !data.is_empty());
    assert_eq!(av1::DependencyDescriptor::parse(data).is_some(), data.len() >= 3);
}
