use super::*;
use crate::colibri::{Parameter, RtcpFb, Source};

fn signalled(id: u8, name: &str, parameters: &[(&str, &str)]) -> PayloadType {
    PayloadType {
        id,
        name: name.into(),
        parameters: parameters
            .iter()
            .map(|(name, value)| Parameter {
                name: Some((*name).into()),
                value: Some((*value).into()),
            })
            .collect(),
        ..PayloadType::default()
    }
}

fn codec(media: MediaType, signalled: &PayloadType) -> Option<Codec> {
    payload_type(media, signalled).map(|pt| pt.codec)
}

#[test]
fn codecs_go_by_name_in_any_case() {
    use MediaType::{Audio, Video};
    assert_eq!(codec(Audio, &signalled(111, "OPUS", &[])), Some(Codec::Opus));
    assert_eq!(codec(Audio, &signalled(112, "red", &[])), Some(Codec::Red));
    assert_eq!(codec(Video, &signalled(100, "VP8", &[])), Some(Codec::Vp8));
    assert_eq!(codec(Video, &signalled(41, "AV1", &[])), Some(Codec::Av1));
    let rtx = |apt: &[(&str, &str)]| codec(Video, &signalled(96, "rtx", apt));
    assert_eq!(rtx(&[("apt", "100")]), Some(Codec::Rtx { apt: 100 }));
    assert_eq!(rtx(&[]), None);
    assert_eq!(rtx(&[("apt", "many")]), None);
    let other = |name: &str| codec(Audio, &signalled(126, name, &[]));
    assert_eq!(other("telephone-event"), other("Telephone-Event"));
    assert_ne!(other("telephone-event"), other("G722"));
}

#[test]
fn profiles_distinguish_formats_of_one_codec() {
    let profile = |name: &str, parameters: &[(&str, &str)]| {
        payload_type(MediaType::Video, &signalled(1, name, parameters)).unwrap().profile
    };
    let focus = "42E01F;level-asymmetry-allowed=1;packetization-mode=1;";
    assert_eq!(profile("H264", &[("profile-level-id", focus)]), "constrained-baseline/1");
    let plain = [("packetization-mode", "1"), ("profile-level-id", "42c034")];
    assert_eq!(profile("H264", &plain), "constrained-baseline/1");
    assert_eq!(profile("H264", &[("profile-level-id", "42e01f")]), "constrained-baseline/0");
    assert_eq!(profile("H264", &[]), profile("H264", &[("profile-level-id", "42000a")]));
    assert_eq!(profile("VP9", &[]), profile("VP9", &[("profile-id", "0")]));
    assert_ne!(profile("VP9", &[]), profile("VP9", &[("profile-id", "2")]));
    assert_eq!(profile("VP8", &[("x-google-start-bitrate", "800")]), "");
}

#[test]
fn feedback_needs_its_subtype() {
    let with = |feedback: &[(&str, Option<&str>)]| {
        let mut vp8 = signalled(100, "VP8", &[]);
        vp8.rtcp_fbs = feedback
            .iter()
            .map(|(kind, subtype)| RtcpFb {
                r#type: (*kind).into(),
                subtype: subtype.map(Into::into),
            })
            .collect();
        let pt = payload_type(MediaType::Video, &vp8).unwrap();
        (pt.nack, pt.pli, pt.fir, pt.transport_cc)
    };
    assert_eq!(with(&[]), (false, false, false, false));
    assert_eq!(with(&[("nack", None)]), (true, false, false, false));
    assert_eq!(with(&[("nack", Some("pli"))]), (false, true, false, false));
    assert_eq!(with(&[("ccm", Some("fir")), ("ccm", Some("tmmbr"))]), (false, false, true, false));
    assert_eq!(with(&[("transport-cc", None), ("nack", Some(""))]), (true, false, false, true));
}

fn source(id: &str, ssrcs: &[u32], groups: &[(&str, &[u32])]) -> MediaSource {
    MediaSource {
        r#type: MediaType::Video,
        id: id.into(),
        synthetic: false,
        sources: ssrcs.iter().map(|ssrc| Source { ssrc: *ssrc, ..Source::default() }).collect(),
        ssrc_groups: groups
            .iter()
            .map(|(semantics, ssrcs)| SsrcGroup {
                semantics: (*semantics).into(),
                ssrcs: ssrcs.to_vec(),
            })
            .collect(),
    }
}

fn encoded(source: MediaSource) -> Vec<(u32, Option<u32>)> {
    let planned = plan_sources(&[source]).unwrap();
    planned.iter().flat_map(|s| &s.encodings).map(|e| (e.ssrc, e.rtx)).collect()
}

#[test]
fn groups_make_encodings() {
    let simulcast: &[(&str, &[u32])] =
        &[("SIM", &[1, 2, 3]), ("FID", &[1, 11]), ("FID", &[3, 13]), ("FID", &[2, 12])];
    let all = [1, 11, 2, 12, 3, 13];
    assert_eq!(
        encoded(source("v0", &all, simulcast)),
        [(1, Some(11)), (2, Some(12)), (3, Some(13))]
    );
    let order = [3, 1, 0, 2].map(|at| simulcast[at]);
    assert_eq!(
        encoded(source("v0", &all, &order)),
        [(1, Some(11)), (2, Some(12)), (3, Some(13))],
        "groups stand in any order"
    );
    assert_eq!(encoded(source("v0", &[5], &[])), [(5, None)]);
    assert_eq!(encoded(source("v0", &[6, 5], &[("fid", &[5, 6])])), [(5, Some(6))]);
    assert_eq!(encoded(source("v0", &[5, 6], &[("FEC-FR", &[5, 6])])), [(5, None)]);
    assert_eq!(encoded(source("v0", &[5, 6], &[("FID", &[5])])), [(5, None)], "no group of one");
    assert_eq!(encoded(source("v0", &[], &[])), []);
    let twice: &[(&str, &[u32])] = &[("SIM", &[1, 2]), ("FID", &[1, 9]), ("FID", &[2, 9])];
    assert_eq!(encoded(source("v0", &[1, 2, 9], twice)), [(1, Some(9)), (2, None)]);
}

#[test]
fn what_cannot_be_is_refused() {
    let refused = |sources: &[MediaSource]| plan_sources(sources).unwrap_err();
    let plain = |id: &str, ssrc| source(id, &[ssrc], &[]);
    assert_eq!(refused(&[plain("", 1)]), SourceError::Unnamed);
    assert_eq!(refused(&[plain("a", 1), plain("a", 2)]), SourceError::DuplicateName("a".into()));
    let duplicate = SourceError::DuplicateSsrc { ssrc: 1, name: "b".into() };
    assert_eq!(refused(&[plain("a", 1), plain("b", 1)]), duplicate);
    assert_eq!(refused(&[source("b", &[1, 2], &[("SIM", &[1, 1])])]), duplicate);
    let unknown = SourceError::UnknownSsrc { ssrc: 7, name: "a".into() };
    assert_eq!(refused(&[source("a", &[1], &[("FID", &[1, 7])])]), unknown);
    let five = [1, 2, 3, 4, 5];
    assert_eq!(
        refused(&[source("a", &five, &[("SIM", &five)])]),
        SourceError::TooManyEncodings("a".into())
    );
    let many: Vec<MediaSource> = (0..33).map(|n| plain(&n.to_string(), n)).collect();
    assert_eq!(refused(&many), SourceError::TooManySources);
    assert!(plan_sources(&many[..32]).is_ok());
    let wide: Vec<u32> = (0..129).collect();
    assert_eq!(refused(&[source("a", &wide, &[])]), SourceError::TooManySsrcs);
    let groups = vec![("FID", &[1, 2][..]); 257];
    assert!(plan_sources(&[source("a", &[1, 2], &groups[..256])]).is_ok());
    assert_eq!(refused(&[source("a", &[1, 2], &groups)]), SourceError::TooManyGrouped);
    let empty = vec![("FID", &[][..]); 513];
    assert_eq!(refused(&[source("a", &[1], &empty)]), SourceError::TooManyGrouped);
    for name in [&"a".repeat(257), "a\nb"] {
        assert_eq!(refused(&[plain(name, 1)]), SourceError::BadName);
    }
}

#[test]
fn injected_sources_are_not_expected_from_the_endpoint() {
    let mut injected = source("a", &[1], &[]);
    injected.synthetic = true;
    assert_eq!(plan_sources(&[injected]), Ok(vec![]));
}
