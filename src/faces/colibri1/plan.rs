//! Derives sources from the streams of a channel: COLIBRI 1 has no sources.

use std::collections::HashMap;

use rialto_media::MediaType;

use crate::colibri::{MediaSource, Source, SsrcGroup};

/// Streams that groups tie together are one source; every other stream is one of its own. A source is
/// named after its first stream, so that it keeps its name whatever comes and goes beside it.
pub(super) fn media_sources(
    endpoint: &str,
    media: MediaType,
    streams: &[Source],
    groups: &[SsrcGroup],
) -> Vec<MediaSource> {
    let place: HashMap<u32, usize> =
        streams.iter().enumerate().rev().map(|(at, stream)| (stream.ssrc, at)).collect();
    // Groups of streams that are not listed mean nothing.
    let listed = |group: &&SsrcGroup| group.ssrcs.iter().all(|ssrc| place.contains_key(ssrc));
    let groups: Vec<&SsrcGroup> = groups.iter().filter(listed).collect();
    // The first stream that each is tied to; groups are few, so this is done until nothing changes.
    let mut leader: Vec<usize> = (0..streams.len()).collect();
    let of = |leader: &[usize], ssrc: &u32| {
        place.get(ssrc).and_then(|at| leader.get(*at)).copied().unwrap_or_default()
    };
    for _ in 0..groups.len() {
        for group in &groups {
            let first = group.ssrcs.iter().map(|ssrc| of(&leader, ssrc)).min().unwrap_or_default();
            for at in group.ssrcs.iter().filter_map(|ssrc| place.get(ssrc)) {
                if let Some(leader) = leader.get_mut(*at) {
                    *leader = first;
                }
            }
        }
    }
    let letter = match media {
        MediaType::Audio => 'a',
        MediaType::Video => 'v',
    };
    let mut sources: Vec<(usize, MediaSource)> = Vec::new();
    for (at, stream) in streams.iter().enumerate() {
        if place.get(&stream.ssrc) != Some(&at) {
            continue;
        }
        let leads = leader.get(at).copied().unwrap_or(at);
        match sources.iter_mut().find(|(of, _)| *of == leads) {
            Some((_, source)) => source.sources.push(stream.clone()),
            None => sources.push((
                leads,
                MediaSource {
                    r#type: media,
                    id: format!("{endpoint}-{letter}-{}", stream.ssrc),
                    synthetic: false,
                    sources: vec![stream.clone()],
                    ssrc_groups: Vec::new(),
                },
            )),
        }
    }
    for group in groups {
        let leads = group.ssrcs.first().map(|ssrc| of(&leader, ssrc));
        if let Some((_, source)) = sources.iter_mut().find(|(of, _)| Some(*of) == leads) {
            source.ssrc_groups.push(group.clone());
        }
    }
    sources.into_iter().map(|(_, source)| source).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::colibri::plan_sources;

    fn streams(ssrcs: &[u32]) -> Vec<Source> {
        ssrcs.iter().map(|ssrc| Source { ssrc: *ssrc, ..Source::default() }).collect()
    }

    fn group(semantics: &str, ssrcs: &[u32]) -> SsrcGroup {
        SsrcGroup { semantics: semantics.to_owned(), ssrcs: ssrcs.to_vec() }
    }

    #[test]
    fn groups_make_sources() {
        let streams = streams(&[1, 2, 3, 11, 12, 13, 7, 17, 9]);
        let groups = [
            group("SIM", &[1, 2, 3]),
            group("FID", &[1, 11]),
            group("FID", &[2, 12]),
            group("FID", &[3, 13]),
            group("FID", &[7, 17]),
            group("FID", &[7, 99]),
        ];
        let sources = media_sources("alice", MediaType::Video, &streams, &groups);
        let names: Vec<&str> = sources.iter().map(|s| s.id.as_str()).collect();
        assert_eq!(names, ["alice-v-1", "alice-v-7", "alice-v-9"]);
        let planned = plan_sources(&sources).unwrap();
        let encodings: Vec<usize> = planned.iter().map(|p| p.encodings.len()).collect();
        assert_eq!(encodings, [3, 1, 1]);
        assert!(planned[0].encodings.iter().all(|e| e.rtx.is_some()));
    }

    proptest! {
        #[test]
        fn every_stream_is_in_one_source(
            ssrcs in prop::collection::vec(1u32..20, 0..12),
            groups in prop::collection::vec(prop::collection::vec(1u32..20, 0..4), 0..6),
        ) {
            let groups: Vec<_> = groups.iter().map(|g| group("FID", g)).collect();
            let sources = media_sources("e", MediaType::Audio, &streams(&ssrcs), &groups);
            let mut found: Vec<u32> =
                sources.iter().flat_map(|s| s.sources.iter().map(|s| s.ssrc)).collect();
            found.sort_unstable();
            let mut expected = ssrcs;
            expected.sort_unstable();
            expected.dedup();
            prop_assert_eq!(found, expected);
        }
    }
}
