//! Maps a browser's answer to the bridge's types: transport, formats, sources.

use rialto_media::MediaType;

use super::{
    message::{Encoding, SendState, Sending},
    offer::{CAMERA, MICROPHONE, RemoteSource, SCREEN},
    sdp::{self, Description, Kind, Section},
};
use crate::colibri::{
    Candidate, Fingerprint, IceUdp, Media, MediaSource, Parameter, PayloadType, RtcpFb, RtpHdrExt,
    Source, SsrcGroup,
};

/// Maximum encodings of a camera.
const MAX_ENCODINGS: usize = 3;

/// Maps a section's kind to the bridge's media type; `None` for the data channel.
pub(super) fn media_type(kind: Kind) -> Option<MediaType> {
    match kind {
        Kind::Audio => Some(MediaType::Audio),
        Kind::Video => Some(MediaType::Video),
        Kind::Application => None,
    }
}

/// Returns the browser's side of the transport: from the first section that has one, completed from the
/// session level.
pub(super) fn transport(answer: &Description) -> Option<IceUdp> {
    let common = &answer.transport;
    let sections = answer.sections.iter().map(|section| &section.transport);
    let own = sections.chain([common]).find(|transport| !transport.ufrag.is_empty())?;
    let setup = own.setup.or(common.setup);
    let fingerprints =
        if own.fingerprints.is_empty() { &common.fingerprints } else { &own.fingerprints };
    Some(IceUdp {
        ufrag: Some(own.ufrag.clone()),
        pwd: Some(own.pwd.clone()),
        candidates: own.candidates.iter().map(candidate).collect(),
        fingerprints: fingerprints
            .iter()
            .map(|(hash, digest)| Fingerprint {
                hash: Some(hash.clone()),
                setup: setup.map(|setup| setup.as_str().to_owned()),
                fingerprint: digest.clone(),
                cryptex: None,
            })
            .collect(),
        rtcp_mux: true,
        ..IceUdp::default()
    })
}

/// Converts a candidate to the bridge's type.
pub(super) fn candidate(candidate: &sdp::Candidate) -> Candidate {
    Candidate {
        component: candidate.component,
        foundation: candidate.foundation.clone(),
        priority: candidate.priority,
        protocol: candidate.protocol.clone(),
        r#type: candidate.typ.clone(),
        ip: candidate.address.clone(),
        port: candidate.port,
        ..Candidate::default()
    }
}

/// Converts the bridge's side of the transport for an offer.
pub(super) fn bridge_transport(ice: &IceUdp) -> sdp::Transport {
    sdp::Transport {
        ufrag: ice.ufrag.clone().unwrap_or_default(),
        pwd: ice.pwd.clone().unwrap_or_default(),
        fingerprints: ice
            .fingerprints
            .iter()
            .map(|f| {
                (f.hash.clone().unwrap_or_else(|| "sha-256".to_owned()), f.fingerprint.clone())
            })
            .collect(),
        // An offer says actpass (RFC 5763 section 5), even when the roles are settled.
        setup: Some(sdp::Setup::ActPass),
        candidates: ice
            .candidates
            .iter()
            .map(|c| sdp::Candidate {
                foundation: c.foundation.clone(),
                component: c.component,
                protocol: c.protocol.clone(),
                priority: c.priority,
                address: c.ip.clone(),
                port: c.port,
                typ: c.r#type.clone(),
            })
            .collect(),
    }
}

/// Returns what the browser accepted: payload types and extensions of the first live section of each kind.
/// They were the same in every section of the offer.
pub(super) fn media(answer: &Description) -> Vec<Media> {
    let mut media: Vec<Media> = Vec::new();
    for section in answer.sections.iter().filter(|section| !section.rejected) {
        let Some(kind) = media_type(section.kind) else { continue };
        if media.iter().any(|known| known.r#type == kind) {
            continue;
        }
        media.push(Media {
            r#type: kind,
            payload_types: section.codecs.iter().map(payload_type).collect(),
            rtp_hdrexts: section
                .extensions
                .iter()
                .map(|extension| RtpHdrExt {
                    id: extension.id,
                    uri: extension.uri.clone(),
                    senders: None,
                    attributes: None,
                })
                .collect(),
            extmap_allow_mixed: answer.extmap_allow_mixed || section.extmap_allow_mixed,
        });
    }
    media
}

fn payload_type(codec: &sdp::Codec) -> PayloadType {
    PayloadType {
        id: codec.pt,
        name: codec.name.clone(),
        clockrate: Some(codec.clock_rate),
        channels: codec.channels.map(u32::from),
        parameters: codec
            .parameters
            .iter()
            .map(|(name, value)| Parameter {
                name: Some(name.clone()).filter(|name| !name.is_empty()),
                value: Some(value.clone()),
            })
            .collect(),
        rtcp_fbs: codec
            .feedback
            .iter()
            .map(|(kind, subtype)| RtcpFb { r#type: kind.clone(), subtype: subtype.clone() })
            .collect(),
        ..PayloadType::default()
    }
}

/// A source that the browser sends, for the bridge and for the offers to other participants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OwnSource {
    /// As sent to the bridge.
    pub signalled: MediaSource,
    /// As offered to the other participants.
    pub remote: RemoteSource,
}

/// Returns the sources that `endpoint` sends, according to its answer and its `Sending` state. Browsers do
/// not write the SSRCs of simulcast streams into descriptions: those come beside the answer, in
/// `encodings`.
pub(super) fn own_sources(
    endpoint: &str,
    answer: &Description,
    encodings: &[Encoding],
    sending: Sending,
) -> Vec<OwnSource> {
    let wanted = [
        (MICROPHONE, Kind::Audio, "a0", sending.microphone),
        (CAMERA, Kind::Video, "v0", sending.camera),
        (SCREEN, Kind::Video, "v1", sending.screen),
    ];
    let mut sources = Vec::new();
    for (mid, kind, suffix, state) in wanted {
        let section = answer.sections.iter().find(|s| s.mid == mid && s.kind == kind);
        let Some(section) = section.filter(|s| !s.rejected && s.direction.sends()) else {
            continue;
        };
        if state == SendState::None {
            continue;
        }
        let encodings = section_encodings(section, encodings);
        let Some(first) = encodings.first() else { continue };
        let name = format!("{endpoint}-{suffix}");
        let remote = RemoteSource {
            endpoint: endpoint.to_owned(),
            name: name.clone(),
            kind,
            desktop: mid == SCREEN,
            ssrc: first.0,
            rtx: first.1,
        };
        sources.push(OwnSource { signalled: media_source(name, mid, &encodings), remote });
    }
    sources
}

/// Returns SSRC and retransmission SSRC of each encoding of a section, lowest quality first: in the order
/// of the rids of the offer, in which Firefox writes SSRCs, and which Chromium's answers repeat.
fn section_encodings(section: &Section, beside: &[Encoding]) -> Vec<(u32, Option<u32>)> {
    let fid = |ssrc: u32| {
        section.groups.iter().find_map(|group| match group.ssrcs.as_slice() {
            [media, rtx] if group.semantics == "FID" && *media == ssrc => Some(*rtx),
            _ => None,
        })
    };
    let written = section.ssrcs.iter().map(|ssrc| (ssrc.id, fid(ssrc.id)));
    let mut of_section: Vec<&Encoding> =
        beside.iter().filter(|encoding| encoding.mid == section.mid).collect();
    let place = |encoding: &Encoding| {
        section.rids.iter().position(|rid| rid.id == encoding.rid).unwrap_or(usize::MAX)
    };
    of_section.sort_by_key(|encoding| place(encoding));
    let told = of_section.into_iter().map(|encoding| (encoding.ssrc, encoding.rtx));

    let mut found: Vec<(u32, Option<u32>)> = Vec::new();
    let most = section.rids.len().clamp(1, MAX_ENCODINGS);
    for (ssrc, rtx) in written.chain(told) {
        let mut taken = found.iter().flat_map(|(ssrc, rtx)| [Some(*ssrc), *rtx]).flatten();
        if found.len() < most && !taken.any(|taken| taken == ssrc || Some(taken) == rtx) {
            found.push((ssrc, rtx.filter(|rtx| *rtx != ssrc)));
        }
    }
    found
}

fn media_source(name: String, mid: &str, encodings: &[(u32, Option<u32>)]) -> MediaSource {
    let video_type = match mid {
        CAMERA => Some("camera".to_owned()),
        SCREEN => Some("desktop".to_owned()),
        _ => None,
    };
    let group = |semantics: &str, ssrcs| SsrcGroup { semantics: semantics.to_owned(), ssrcs };
    let mut ssrc_groups = Vec::new();
    if encodings.len() > 1 {
        ssrc_groups.push(group("SIM", encodings.iter().map(|(ssrc, _)| *ssrc).collect()));
    }
    for (ssrc, rtx) in encodings {
        ssrc_groups.extend(rtx.map(|rtx| group("FID", vec![*ssrc, rtx])));
    }
    let ssrcs = encodings.iter().flat_map(|(ssrc, rtx)| [Some(*ssrc), *rtx]).flatten();
    MediaSource {
        r#type: if mid == MICROPHONE { MediaType::Audio } else { MediaType::Video },
        synthetic: false,
        sources: ssrcs
            .map(|ssrc| Source {
                ssrc,
                name: Some(name.clone()),
                video_type: video_type.clone(),
                rid: None,
                parameters: Vec::new(),
            })
            .collect(),
        ssrc_groups,
        id: name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "v=0\r\no=- 1 1 IN IP4 0\r\na=extmap-allow-mixed\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:u\r\na=ice-pwd:p\r\n\
        a=fingerprint:sha-256 AA\r\na=setup:active\r\na=sendonly\r\na=rtpmap:111 opus/48000/2\r\n\
        a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\na=ssrc:10 cname:c\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=mid:1\r\na=sendonly\r\na=rtpmap:96 VP8/90000\r\n\
        a=rtcp-fb:96 nack pli\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n\
        a=rid:l send\r\na=rid:h send\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=mid:2\r\na=sendonly\r\n\
        a=ssrc-group:FID 30 31\r\na=ssrc:30 cname:c\r\na=ssrc:31 cname:c\r\n";

    fn sending(screen: SendState) -> Sending {
        Sending { microphone: SendState::On, camera: SendState::Muted, screen }
    }

    fn encoding(rid: &str, ssrc: u32, rtx: u32) -> Encoding {
        Encoding { mid: "1".to_owned(), rid: rid.to_owned(), ssrc, rtx: Some(rtx) }
    }

    #[test]
    fn sources_come_from_the_description_and_from_beside_it() {
        let answer = Description::parse(ANSWER).unwrap();
        let beside = [encoding("h", 22, 23), encoding("l", 20, 21)];
        let sources = own_sources("ep", &answer, &beside, sending(SendState::On));
        let [microphone, camera, screen] = sources.as_slice() else { panic!("{sources:?}") };
        assert_eq!((microphone.remote.ssrc, microphone.remote.rtx), (10, None));
        assert_eq!((camera.remote.ssrc, camera.remote.rtx), (20, Some(21)));
        assert_eq!(camera.signalled.ssrc_groups[0].semantics, "SIM");
        assert_eq!(camera.signalled.ssrc_groups[0].ssrcs, [20, 22]);
        assert_eq!(camera.signalled.sources.len(), 4);
        assert_eq!((screen.remote.ssrc, screen.remote.rtx), (30, Some(31)));
        assert!(screen.remote.desktop);
        let planned = crate::colibri::plan_sources(
            &sources.iter().map(|s| s.signalled.clone()).collect::<Vec<_>>(),
        );
        assert_eq!(planned.unwrap().len(), 3);
        assert_eq!(own_sources("ep", &answer, &[], sending(SendState::None)).len(), 1);
    }

    #[test]
    fn formats_and_transport_are_passed_on() {
        let answer = Description::parse(ANSWER).unwrap();
        let media = media(&answer);
        assert_eq!(media.len(), 2);
        assert_eq!(media[1].payload_types.len(), 2);
        assert!(media[0].extmap_allow_mixed);
        let transport = transport(&answer).unwrap();
        assert_eq!(transport.ufrag.as_deref(), Some("u"));
        assert_eq!(transport.fingerprints[0].setup.as_deref(), Some("active"));
    }

    #[test]
    fn firefox_has_its_fingerprint_above_all_sections() {
        let moved = ANSWER.replace("a=fingerprint:sha-256 AA\r\n", "").replace(
            "a=extmap-allow-mixed\r\n",
            "a=extmap-allow-mixed\r\na=fingerprint:sha-256 AA\r\na=sendrecv\r\n",
        );
        let transport = transport(&Description::parse(&moved).unwrap()).unwrap();
        assert_eq!(transport.fingerprints[0].fingerprint, "AA");
        assert_eq!(transport.fingerprints[0].setup.as_deref(), Some("active"));
    }

    #[test]
    fn firefox_writes_the_ssrcs_of_simulcast() {
        let written = "a=rid:h send\r\na=ssrc:40\r\na=ssrc:41\r\na=ssrc:42\r\na=ssrc:43\r\n\
            a=ssrc-group:FID 40 41\r\na=ssrc-group:FID 42 43\r\n";
        let answer = Description::parse(&ANSWER.replace("a=rid:h send\r\n", written)).unwrap();
        let beside = [encoding("l", 40, 41)];
        let sources = own_sources("ep", &answer, &beside, sending(SendState::None));
        let groups: Vec<_> = sources[1].signalled.ssrc_groups.iter().map(|g| &g.ssrcs).collect();
        assert_eq!(groups, [&[40, 42], &[40, 41], &[42, 43]]);
    }

    #[test]
    fn a_repeated_ssrc_counts_once() {
        let answer = Description::parse(ANSWER).unwrap();
        let beside = [encoding("l", 20, 20), encoding("h", 20, 5), encoding("h", 21, 20)];
        let sources = own_sources("ep", &answer, &beside, sending(SendState::None));
        assert_eq!(sources[1].signalled.sources.len(), 1);
    }
}
