//! Entry points of the fuzz targets, so that a stable toolchain can replay their corpora.
//!
//! Each target under `fuzz/fuzz_targets/` calls one function of [`TARGETS`]; the same bytes that it
//! found are kept in `fuzz/corpus/<name>/` and replayed by `tests/fuzz_corpus.rs`. A target panics
//! when an invariant is broken, and only then.

mod datagram;

use crate::channel::{ToBridge, ToClient};
use crate::colibri::{json, v1, xml};
use crate::focus::sdp::{self, Description};
use crate::rtp::codec::{VideoCodec, av1, inspect, vp8, vp9};
use crate::rtp::rtcp::{Rtcp, RtcpPackets};
use crate::rtp::{ExtWriter, ExtensionBlock, Kind, RtpHeader, demux, ext, rtx};
use crate::srtp::{Profile, RxContext};
pub use crate::transport::fuzz::{dcep, script as transport, sctp, stun};
use crate::xmpp::{self, Stanza};
pub use datagram::datagram;

/// A fuzz target: it panics when an invariant is broken.
pub type Target = fn(&[u8]);

/// Name and function of each fuzz target.
pub const TARGETS: &[(&str, Target)] = &[
    ("av1", av1),
    ("channel_message", channel_message),
    ("colibri_json", colibri_json),
    ("colibri_xml", colibri_xml),
    ("colibri_v1", colibri_v1),
    ("config", configuration),
    ("datagram", datagram),
    ("dcep", dcep),
    ("demux", demultiplex),
    ("ext", extensions),
    ("h264", h264),
    ("harvest", harvest),
    ("properties", properties),
    ("rtcp", rtcp),
    ("rtp", rtp),
    ("sasl", sasl),
    ("sctp", sctp),
    ("sdp", session_description),
    ("srtp_open", srtp_open),
    ("stun", stun),
    ("transport", transport),
    ("vp8", vp8),
    ("vp9", vp9),
    ("xmpp_client", xmpp_client),
    ("xmpp_component", xmpp_component),
    ("xmpp_stream", xmpp_stream),
];

/// A message of a client is refused or understood, and what it tells others is valid and small.
pub fn channel_message(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(message) = ToBridge::parse(text) else { return };
    let (to, from, fields) = match &message {
        ToBridge::Endpoint { to, fields } => (Some(to), "abcd1234", fields),
        ToBridge::Stats { fields } => (None, "abcd1234", fields),
        _ => return,
    };
    let written = match to {
        Some(to) => ToClient::Endpoint { to, from, fields }.text(),
        None => ToClient::Stats { from, fields }.text(),
    };
    // Numbers are written without exponents up to 1e16.
    assert!(written.len() <= 8 * data.len() + 64);
    if written.len() <= crate::channel::message::MAX_BYTES {
        assert!(ToBridge::parse(&written).is_ok(), "{written}");
    }
}

/// A request or an answer that is read is written, and reads the same again.
pub fn colibri_json(data: &[u8]) {
    if let Ok(request) = json::read_conference_modify(data, Some("meeting")) {
        let written = json::write_conference_modify(&request).to_string();
        assert_eq!(json::read_conference_modify(written.as_bytes(), None), Ok(request));
    }
    if let Ok(answer) = json::read_conference_modified(data) {
        let written = json::write_conference_modified(&answer).to_string();
        assert_eq!(json::read_conference_modified(written.as_bytes()), Ok(answer));
    }
}

/// A stanza is answered, passed on or ignored; a request or an answer that is read is written, and reads
/// the same again.
pub fn colibri_xml(data: &[u8]) {
    let Ok(stanza) = xmpp::parse(data, "jabber:client", xmpp::Limits::default()) else { return };
    let about = xmpp::iq::About {
        name: String::new(),
        version: String::new(),
        os: String::new(),
        sign: false,
    };
    if let xmpp::iq::Step::Answer(answer) = xmpp::iq::handle(&stanza, &about) {
        assert!(matches!(reparsed(&answer), Stanza::Whole(_)));
    }
    let Stanza::Whole(element) = stanza else { return };
    for element in element.children().chain([&element]) {
        if let Ok(request) = xml::read_conference_modify(element) {
            let Stanza::Whole(written) = reparsed(&xml::write_conference_modify(&request)) else {
                panic!("what is written is not larger than what was read");
            };
            assert_eq!(xml::read_conference_modify(&written), Ok(request));
        }
        if let Ok(answer) = xml::read_conference_modified(element) {
            let Stanza::Whole(written) = reparsed(&xml::write_conference_modified(&answer)) else {
                panic!("what is written is not larger than what was read");
            };
            assert_eq!(xml::read_conference_modified(&written), Ok(answer));
        }
    }
}

/// A request of COLIBRI 1 is refused or understood.
pub fn colibri_v1(data: &[u8]) {
    if let Ok(Stanza::Whole(element)) = xmpp::parse(data, v1::NAMESPACE, xmpp::Limits::default()) {
        v1::fuzz::request(&element);
    }
}

/// What a server sends to the bridge as a user: the first byte says whether it is logged in.
pub fn xmpp_client(data: &[u8]) {
    if let Some((first, rest)) = data.split_first() {
        xmpp::client::fuzz::bytes(rest, *first == b'+');
    }
}

/// What a server sends to the bridge as a component.
pub fn xmpp_component(data: &[u8]) {
    xmpp::component::fuzz::bytes(data);
}

/// What a server says while the bridge shows that it knows a password.
pub fn sasl(data: &[u8]) {
    xmpp::client::fuzz::sasl(data);
}

/// A stream is the same however its bytes come, and nothing in it is larger than its limits: the first
/// byte says how many come at once.
pub fn xmpp_stream(data: &[u8]) {
    let Some((piece, stream)) = data.split_first() else { return };
    let (whole, pieces) = (events(stream, usize::MAX), events(stream, usize::from(*piece).max(1)));
    assert_eq!(whole, pieces);
}

/// What a stream brings that comes so many bytes at a time, and whether it goes on.
fn events(mut stream: &[u8], piece: usize) -> (Vec<xmpp::StreamEvent>, bool) {
    // Small enough for a fuzzer to go beyond.
    let limits = xmpp::Limits { depth: 4, elements: 8, attributes: 4, bytes: 128 };
    let mut reader = xmpp::StreamReader::new(limits);
    let mut events = Vec::new();
    while !stream.is_empty() {
        let (mut now, later) = stream.split_at(piece.min(stream.len()));
        stream = later;
        loop {
            match reader.read(&mut now) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(_) => return (events, false),
            }
        }
        assert!(now.is_empty());
    }
    for event in &events {
        let xmpp::StreamEvent::Stanza(Stanza::Whole(element)) = event else { continue };
        assert!(element.attrs().len() <= limits.attributes && element.text().len() <= limits.bytes);
    }
    (events, true)
}

/// What tells the bridge its public address is an address or nothing.
pub fn harvest(data: &[u8]) {
    crate::harvest::fuzz(data);
}

/// An element as the other side finds it.
fn reparsed(element: &minidom::Element) -> Stanza {
    let mut bytes = Vec::new();
    element.write_to(&mut bytes).expect("what is built can be written");
    let generous = xmpp::Limits { elements: usize::MAX, bytes: 1 << 24, ..Default::default() };
    xmpp::parse(&bytes, "jabber:client", generous).expect("what is written can be read")
}

/// A datagram is of one kind, which its first byte decides but for RTCP.
pub fn demultiplex(data: &[u8]) {
    let kind = demux(data);
    let media = matches!(kind, Kind::Rtp | Kind::Rtcp);
    assert_eq!(media, data.len() >= 2 && matches!(data.first(), Some(128..=191)));
}

/// Whatever a configuration file holds, the answer is a configuration or one line.
pub fn configuration(data: &[u8]) {
    loaded(crate::config::load_bytes(data));
}

/// The same of the older file beside it.
pub fn properties(data: &[u8]) {
    loaded(crate::config::load_legacy_bytes(data));
}

fn loaded(loaded: Result<crate::config::Loaded, crate::config::ConfigError>) {
    match loaded {
        Ok(loaded) => {
            assert!(loaded.effective.iter().all(|value| !value.value.contains('\n')));
            assert!(loaded.warnings.iter().all(|warning| !warning.to_string().contains('\n')));
        }
        Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
    }
}

/// A description that is read can be written, and what is written is read unless it grew too long.
pub fn session_description(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(description) = Description::parse(text) {
        let again = Description::parse(&description.to_string());
        assert!(matches!(again, Ok(_) | Err(sdp::Error::TooLong)), "{again:?}");
    }
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

/// H.264 has nothing to hold but that it ends.
pub fn h264(data: &[u8]) {
    let _ = inspect(VideoCodec::H264, data, true);
}

/// An AV1 payload or dependency descriptor is read whenever it is long enough.
pub fn av1(data: &[u8]) {
    assert_eq!(inspect(VideoCodec::Av1, data, true).is_some(), !data.is_empty());
    assert_eq!(av1::DependencyDescriptor::parse(data).is_some(), data.len() >= 3);
}

/// Nothing that was not sealed opens, and nothing is remembered about it.
pub fn srtp_open(data: &[u8]) {
    let Some((profile, packet)) = data.split_first() else { return };
    let profile = Profile::ALL[usize::from(*profile) % Profile::ALL.len()];
    let key = vec![0x5a; profile.key_len() + profile.salt_len()];
    let mut context = RxContext::new(profile, &key).expect("the key has the right length");
    let mut buf = packet.to_vec();
    if demux(&buf) == Kind::Rtcp {
        let _ = context.open_rtcp(&mut buf);
        return;
    }
    let header_len = RtpHeader::parse(&buf).map_or(12, |header| header.len);
    let mut stream = None;
    if context.open_rtp(&mut stream, &mut buf, header_len).is_err() {
        assert!(stream.is_none());
    }
}
