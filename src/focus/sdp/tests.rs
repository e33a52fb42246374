use proptest::{collection::vec, option, prelude::*};

use super::*;

/// Shortened from an answer of Chromium.
const ANSWER: &str = "v=0\r\n\
    o=- 4611 2 IN IP4 127.0.0.1\r\n\
    s=-\r\n\
    t=0 0\r\n\
    a=group:BUNDLE 0 1\r\n\
    a=extmap-allow-mixed\r\n\
    a=msid-semantic: WMS\r\n\
    m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n\
    c=IN IP4 0.0.0.0\r\n\
    a=rtcp:9 IN IP4 0.0.0.0\r\n\
    a=ice-ufrag:Ab+/\r\n\
    a=ice-pwd:0123456789012345678901\r\n\
    a=ice-options:trickle\r\n\
    a=fingerprint:sha-256 AA:BB\r\n\
    a=setup:active\r\n\
    a=mid:0\r\n\
    a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n\
    a=sendonly\r\n\
    a=msid:- 5a1c\r\n\
    a=rtcp-mux\r\n\
    a=rtpmap:111 opus/48000/2\r\n\
    a=rtcp-fb:111 transport-cc\r\n\
    a=fmtp:111 minptime=10;useinbandfec=1\r\n\
    a=ssrc:3000000001 cname:xyz\r\n\
    m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\n\
    c=IN IP4 0.0.0.0\r\n\
    a=candidate:1 1 UDP 2122260223 127.0.0.1 40000 typ host generation 0 network-id 1\r\n\
    a=mid:1\r\n\
    a=extmap:3/sendonly http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time\r\n\
    a=sendonly\r\n\
    a=rtpmap:96 VP8/90000\r\n\
    a=rtcp-fb:96 nack\r\n\
    a=rtcp-fb:96 nack pli\r\n\
    a=rtcp-fb:* transport-cc\r\n\
    a=rtpmap:97 rtx/90000\r\n\
    a=fmtp:97 apt=96\r\n\
    a=rid:l send\r\n\
    a=simulcast:send l\r\n\
    a=ssrc-group:FID 1 2\r\n\
    a=ssrc:1 cname:xyz\r\n\
    a=ssrc:1 msid:- cam\r\n\
    a=ssrc:2 cname:xyz\r\n";

#[test]
fn reads_what_a_browser_answers() {
    let answer = Description::parse(ANSWER).unwrap();
    assert_eq!((answer.session, answer.version), (4611, 2));
    assert_eq!(answer.bundle, ["0", "1"]);
    assert!(answer.extmap_allow_mixed);
    let [audio, video] = answer.sections.as_slice() else { panic!("two sections") };
    assert_eq!(audio.transport.setup, Some(Setup::Active));
    assert_eq!(audio.transport.ufrag, "Ab+/");
    assert_eq!(audio.transport.fingerprints, [("sha-256".to_owned(), "AA:BB".to_owned())]);
    assert_eq!(audio.codecs[0].channels, Some(2));
    assert_eq!(audio.codecs[0].parameters[1], ("useinbandfec".to_owned(), "1".to_owned()));
    assert_eq!(audio.ssrcs[0].id, 3_000_000_001);
    assert_eq!(video.extensions[0].id, 3);
    assert_eq!(video.codecs[0].feedback.len(), 3);
    assert_eq!(video.codecs[1].feedback, [("transport-cc".to_owned(), None)]);
    assert_eq!(video.groups, [SsrcGroup { semantics: "FID".to_owned(), ssrcs: vec![1, 2] }]);
    assert_eq!(video.rids, [Rid { id: "l".to_owned(), send: true }]);
    assert_eq!(video.transport.candidates[0].protocol, "udp");
    assert_eq!(video.transport.candidates[0].port, 40000);
}

#[test]
fn refuses_what_makes_no_sense() {
    assert_eq!(Description::parse(""), Err(Error::Version));
    assert_eq!(Description::parse("v=1"), Err(Error::Version));
    assert_eq!(Description::parse("v=0\nm=video x y 1"), Err(Error::Malformed("m")));
    assert_eq!(Description::parse("v=0\nm=video 9 y 128"), Err(Error::Malformed("m")));
    let long = format!("v=0\n{}", "a=x\n".repeat(MAX_BYTES / 4));
    assert_eq!(Description::parse(&long), Err(Error::TooLong));
    let sections = format!("v=0\n{}", "m=audio 9 x 0\n".repeat(MAX_SECTIONS + 1));
    assert_eq!(Description::parse(&sections), Err(Error::TooMany("m")));
    let many: Vec<_> = (0..=MAX_REPEATS).map(|n| format!("a=ssrc:{n} cname:x")).collect();
    let ssrcs = format!("v=0\nm=audio 9 x 0\n{}", many.join("\n"));
    assert_eq!(Description::parse(&ssrcs), Err(Error::TooMany("ssrc")));
}

#[test]
fn reads_a_trickled_candidate() {
    let line =
        "candidate:842163049 1 udp 1677729535 192.0.2.3 46154 typ srflx raddr 0.0.0.0 rport 0";
    let candidate: Candidate = line.parse().unwrap();
    assert_eq!((candidate.typ.as_str(), candidate.port), ("srflx", 46154));
    assert!("candidate:1 1 udp 1 192.0.2.3 99999 typ host".parse::<Candidate>().is_err());
    assert!("".parse::<Candidate>().is_err());
}

#[test]
fn a_broken_candidate_costs_nothing_beside_it() {
    let good = "a=candidate:1 1 udp 2122260223 192.0.2.3 46154 typ host\r\n";
    let broken = [
        "a=candidate:\r\n",
        "a=candidate:1 1 udp 2122260223 192.0.2.3 99999 typ host\r\n",
        "a=candidate:1 x udp 2122260223 192.0.2.3 46154 typ host\r\n",
        "a=candidate:1 1 udp 2122260223 192.0.2.3 46154 host\r\n",
        "a=candidate:1 1 udp -1 192.0.2.3 46154 typ host\r\n",
    ];
    let text = format!("v=0\r\nm=audio 9 x 0\r\na=ice-ufrag:abcd\r\n{}{good}", broken.concat());
    let read = Description::parse(&text).unwrap();
    let transport = &read.sections[0].transport;
    assert_eq!((transport.ufrag.as_str(), transport.candidates.len()), ("abcd", 1));
    let many = format!("v=0\r\nm=audio 9 x 0\r\n{}", good.repeat(MAX_REPEATS + 1));
    let read = Description::parse(&many).unwrap();
    assert_eq!(read.sections[0].transport.candidates.len(), MAX_REPEATS);
}

fn word() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9]{1,12}"
}

fn codec(pt: u8) -> impl Strategy<Value = Codec> {
    (
        word(),
        1..200_000u32,
        option::of(1..9u8),
        vec(("[a-z-]{0,8}", word()), 0..4),
        prop::collection::btree_set((word(), option::of(word())), 0..4),
    )
        .prop_map(move |(name, clock_rate, channels, parameters, feedback)| Codec {
            pt,
            name,
            clock_rate,
            channels,
            parameters,
            feedback: feedback.into_iter().collect(),
        })
}

fn transport() -> impl Strategy<Value = Transport> {
    let candidate = (word(), any::<(u16, u32, u16)>(), word(), word()).prop_map(
        |(foundation, (component, priority, port), address, typ)| Candidate {
            foundation,
            component,
            protocol: "udp".to_owned(),
            priority,
            address,
            port,
            typ,
        },
    );
    let setup = prop::sample::select(vec![Setup::ActPass, Setup::Active, Setup::Passive]);
    (word(), word(), vec(("[a-z0-9-]{1,8}", word()), 0..3), option::of(setup), vec(candidate, 0..4))
        .prop_map(|(ufrag, pwd, fingerprints, setup, candidates)| Transport {
            ufrag,
            pwd,
            fingerprints,
            setup,
            candidates,
        })
}

fn section() -> impl Strategy<Value = Section> {
    let codecs = (codec(96), codec(97)).prop_map(|(a, b)| vec![a, b]);
    let ssrcs = prop::collection::btree_map(
        any::<u32>(),
        (prop_oneof![Just(String::new()), word()], option::of((word(), word()))),
        0..5,
    );
    let groups = vec((word(), vec(any::<u32>(), 0..4)), 0..3);
    let extensions = vec((1..=255u8, "[a-z:/.]{1,20}"), 0..5);
    let rids = vec((word(), any::<bool>()), 0..3);
    (any::<(bool, bool, bool)>(), word(), codecs, ssrcs, groups, extensions, rids, transport())
        .prop_map(|(flags, mid, codecs, ssrcs, groups, extensions, rids, transport)| Section {
            kind: if flags.0 { Kind::Audio } else { Kind::Video },
            rejected: flags.1,
            direction: if flags.2 { Direction::SendOnly } else { Direction::Inactive },
            msid: flags.0.then(|| ("stream".to_owned(), "track".to_owned())),
            mid,
            codecs,
            extensions: extensions.into_iter().map(|(id, uri)| Extmap { id, uri }).collect(),
            extmap_allow_mixed: flags.1,
            ssrcs: ssrcs.into_iter().map(|(id, (cname, msid))| Ssrc { id, cname, msid }).collect(),
            groups: groups
                .into_iter()
                .map(|(semantics, ssrcs)| SsrcGroup { semantics, ssrcs })
                .collect(),
            rids: rids.into_iter().map(|(id, send)| Rid { id, send }).collect(),
            transport,
        })
}

proptest! {
    #[test]
    fn what_is_written_reads_back(
        session in any::<u64>(),
        version in any::<u64>(),
        mixed in any::<bool>(),
        transport in transport(),
        sections in vec(section(), 0..4),
    ) {
        let description = Description {
            session,
            version,
            extmap_allow_mixed: mixed,
            transport,
            bundle: sections.iter().map(|section| section.mid.clone()).collect(),
            sections,
        };
        prop_assert_eq!(Description::parse(&description.to_string()), Ok(description));
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,400}") {
        let _ = Description::parse(&text);
        let _ = text.parse::<Candidate>();
    }

    #[test]
    fn any_damage_is_read_or_refused(cut in 0..ANSWER.len(), insert in "\\PC{0,8}", keep in any::<bool>()) {
        let mut text = ANSWER.get(..cut).unwrap().to_owned();
        text.push_str(&insert);
        if keep {
            text.push_str(ANSWER.get(cut..).unwrap());
        }
        if let Ok(read) = Description::parse(&text) {
            let again = Description::parse(&read.to_string());
            prop_assert!(again.is_ok(), "{:?}", again);
        }
    }
}
