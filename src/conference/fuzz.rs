//! Fuzz targets: sequences of requests of a focus, and sequences of receiver constraints.

pub(super) mod client;
pub(super) mod model;
mod room;

use std::time::Duration;

use rialto_media::{EndpointId, MediaType, Mid, SourceId};

use self::room::Room;
use super::TransportState;
use crate::{
    colibri::{
        ByChannels, Colibri2Endpoint, Colibri2Relay, ConferenceModify, Connect, ForceMute, Media,
        MediaSource, MucRole, Parameter, PayloadType, RtcpFb, RtpHdrExt, Sctp, SctpRole, Source,
        SsrcGroup, Transport, capability,
    },
    fuzzing::script::Script,
};

const MAX_STEPS: usize = 48;
/// Names that endpoints and sources may have; the last ones are none.
const IDS: [&str; 6] = ["a", "b", "c", "d", "", "\u{1}"];
const BOTH: [MediaType; 2] = [MediaType::Audio, MediaType::Video];
const STATES: [TransportState; 5] = [
    TransportState::Connected,
    TransportState::Ready,
    TransportState::Disconnected,
    TransportState::Failed,
    TransportState::Closed,
];

/// Whatever foci ask and clients do, conference and engine agree, an error changes nothing, each endpoint
/// gets what it can receive, and one that leaves leaves nothing behind.
pub(crate) fn modify(data: &[u8]) {
    let mut script = Script(data);
    let mut room = Room::new(script.any());
    for _ in 0..MAX_STEPS {
        let Some(step) = script.byte() else { break };
        match step % 12 {
            0 | 1 => drop(room.ask(&request(create(&mut script)))),
            2..=4 => {
                let mut endpoint = Colibri2Endpoint::new(script.pick(&IDS));
                endpoint.sources = Some(sources(&mut script));
                room.ask(&request(endpoint));
            }
            5 => {
                let mut endpoint = Colibri2Endpoint::new(script.pick(&IDS));
                endpoint.media = media(&mut script);
                room.ask(&request(endpoint));
            }
            6 => {
                let mut endpoint = Colibri2Endpoint::new(script.pick(&IDS));
                endpoint.expire = true;
                room.ask(&request(endpoint));
            }
            7 => drop(room.ask(&several(&mut script))),
            8 => drop(room.ask(&request(change(&mut script)))),
            9 => happen(&mut room, &mut script),
            10 => wish(&mut room, &mut script),
            _ => assign(&mut room, &mut script),
        }
        room.check();
    }
    room.end();
}

/// Whatever receivers send over their channels, they get what they asked for and nothing else, and the bridge
/// sends no more messages than the change needs.
pub(crate) fn wishes(data: &[u8]) {
    let mut script = Script(data);
    let mut room = Room::new(script.any());
    for (at, id) in IDS.iter().take(4).enumerate() {
        let mut endpoint = joined(id);
        endpoint.media = BOTH.iter().map(|kind| format(*kind, 100, "VP8")).collect();
        endpoint.media[0] = format(MediaType::Audio, 111, "opus");
        // Some have their SSRCs rewritten, and some of these go by MIDs.
        let more = [capability::SSRC_REWRITING, capability::RTP_MID_DEMUX];
        endpoint.capabilities.extend(more.iter().take(at % 3).map(|has| (*has).to_owned()));
        let named = |n: usize| (BOTH[n.min(1)], format!("{id}-{n}"), (10 * at + n) as u32 + 1);
        endpoint.sources =
            Some((0..3).map(named).map(|(kind, name, ssrc)| source(kind, name, &[ssrc])).collect());
        assert!(room.ask(&request(endpoint)), "{id} joins");
    }
    room.check();
    for _ in 0..MAX_STEPS {
        let Some(step) = script.byte() else { break };
        match step % 8 {
            0 => {
                let from = EndpointId(u32::from(script.any()) % 5);
                let text = String::from_utf8_lossy(script.bytes()).into_owned();
                room.channel_message(from, &text);
            }
            1..=5 => wish(&mut room, &mut script),
            6 => happen(&mut room, &mut script),
            _ => {
                let mut endpoint = Colibri2Endpoint::new(script.pick(&IDS));
                endpoint.sources = Some(sources(&mut script));
                endpoint.expire = script.any() > 250;
                room.ask(&request(endpoint));
            }
        }
        room.check();
    }
    room.end();
}

fn request(endpoint: Colibri2Endpoint) -> ConferenceModify {
    let endpoints = vec![endpoint];
    ConferenceModify { meeting_id: "m".into(), endpoints, ..ConferenceModify::default() }
}

fn joined(id: &str) -> Colibri2Endpoint {
    Colibri2Endpoint {
        create: true,
        capabilities: vec![capability::SOURCE_NAMES.into()],
        transport: Some(Transport::default()),
        ..Colibri2Endpoint::new(id)
    }
}

/// An endpoint joins, perhaps with an invalid request.
fn create(script: &mut Script<'_>) -> Colibri2Endpoint {
    let mut endpoint = joined(script.pick(&IDS));
    let (how, what) = (script.any(), script.any());
    let known = [capability::SSRC_REWRITING, capability::RTP_MID_DEMUX];
    let has = known.iter().enumerate().filter(|(at, _)| how >> at & 1 == 1);
    endpoint.capabilities.extend(has.map(|(_, name)| (*name).to_owned()));
    if how & 0x3c == 4 {
        endpoint.capabilities.clear();
    }
    if how & 0x3c == 8 {
        endpoint.transport = None;
    }
    if let Some(transport) = &mut endpoint.transport
        && how & 0x40 != 0
    {
        let role = [None, Some(SctpRole::Client), Some(SctpRole::Server)];
        let port = (what & 1 != 0).then_some(5_000 + u16::from(what >> 1 & 1));
        transport.sctp = Some(Sctp { role: role[usize::from(what) % 3], port });
    }
    endpoint.muc_role = (how & 0x80 != 0).then_some(MucRole::Visitor);
    endpoint.initial_last_n = (what & 4 != 0).then(|| i32::from(what >> 4) - 1);
    if what & 8 != 0 {
        endpoint.sources = Some(sources(script));
    }
    endpoint.media = media(script);
    endpoint
}

/// An update of all but media and sources.
fn change(script: &mut Script<'_>) -> Colibri2Endpoint {
    let mut endpoint = Colibri2Endpoint::new(script.pick(&IDS));
    let (how, what) = (script.any(), script.any());
    let bit = |at: u8| what >> at & 1 == 1;
    if how & 1 != 0 {
        endpoint.force_mute = Some(ForceMute { audio: bit(0), video: bit(1) });
    }
    if how & 2 != 0 {
        endpoint.initial_last_n = Some(i32::from(what) - 2);
    }
    if how & 4 != 0 {
        endpoint.v1 = Some(ByChannels {
            no_audio: bit(0),
            no_video: bit(1),
            last_n: bit(2).then(|| i32::from(what >> 4) - 1),
            idle_timeout: bit(3).then(|| Duration::from_secs(what.into())),
        });
    }
    if how & 8 != 0 {
        let transport = Transport { ice_restart: bit(4), ..Transport::default() };
        endpoint.transport = Some(transport);
    }
    endpoint.create = how & 0x70 == 0x70;
    endpoint
}

/// A request about several endpoints, relays and exports.
fn several(script: &mut Script<'_>) -> ConferenceModify {
    let mut request = ConferenceModify { meeting_id: "m".into(), ..ConferenceModify::default() };
    let how = script.any();
    request.create = how & 1 != 0;
    for _ in 0..how >> 1 & 3 {
        let mut endpoint = change(script);
        endpoint.expire = script.any() & 1 != 0;
        request.endpoints.push(endpoint);
    }
    if how & 8 != 0 {
        request.relays = vec![Colibri2Relay { id: "r".into(), ..Colibri2Relay::default() }];
    }
    if how & 16 != 0 {
        let connect = |script: &mut Script<'_>| {
            let what = script.any();
            Connect {
                id: (what & 1 == 0).then(|| format!("e{}", what >> 4)),
                create: what & 2 != 0,
                expire: what & 4 != 0,
                url: Some("wss://example.com/".into()),
                protocol: Some("mediajson".into()),
                r#type: Some("recorder".into()),
                audio: what & 8 == 0,
                video: false,
                http_headers: Vec::new(),
                ping: None,
                exports: Vec::new(),
                requests: Vec::new(),
            }
        };
        request.connects = Some((0..how >> 5).map(|_| connect(script)).collect());
    }
    request
}

fn source(kind: MediaType, name: String, ssrcs: &[u32]) -> MediaSource {
    let sources = ssrcs.iter().map(|ssrc| Source { ssrc: *ssrc, ..Source::default() });
    let sources = sources.collect();
    MediaSource { r#type: kind, id: name, synthetic: false, sources, ssrc_groups: Vec::new() }
}

/// Sources of few names and SSRCs, so that they collide, in groups that may be none.
fn sources(script: &mut Script<'_>) -> Vec<MediaSource> {
    let count = script.any() & 3;
    let mut all = Vec::new();
    for _ in 0..count {
        let (what, first) = (script.any(), u32::from(script.any() & 31));
        let ssrcs: Vec<u32> = (0..u32::from(what & 7)).map(|n| first + n).collect();
        let name = format!("{}-{}", script.pick(&IDS), what >> 3 & 1);
        let mut one = source(BOTH[usize::from(what >> 4 & 1)], name, &ssrcs);
        one.synthetic = what == u8::MAX;
        if what & 0x20 != 0 {
            let semantics = script.pick(&["FID", "SIM", "FEC-FR", "XYZ"]).to_owned();
            let from = usize::from(script.any()) % (ssrcs.len() + 1);
            one.ssrc_groups.push(SsrcGroup { semantics, ssrcs: ssrcs[from..].to_vec() });
        }
        if what & 0x40 != 0 && ssrcs.len() > 3 {
            let pair = |semantics: &str, ssrcs: &[u32]| SsrcGroup {
                semantics: semantics.to_owned(),
                ssrcs: ssrcs.to_vec(),
            };
            one.ssrc_groups.push(pair("SIM", &ssrcs[..2]));
            one.ssrc_groups.push(pair("FID", &[ssrcs[0], ssrcs[2]]));
            one.ssrc_groups.push(pair("FID", &[ssrcs[1], ssrcs[3]]));
        }
        all.push(one);
    }
    all
}

fn format(kind: MediaType, id: u8, name: &str) -> Media {
    let payload_types = vec![PayloadType { id, name: name.into(), ..PayloadType::default() }];
    Media { r#type: kind, payload_types, rtp_hdrexts: Vec::new(), extmap_allow_mixed: false }
}

fn media(script: &mut Script<'_>) -> Vec<Media> {
    const NAMES: [&str; 8] = ["opus", "VP8", "rtx", "H264", "AV1", "red", "telephone-event", "x"];
    const EXTENSIONS: [&str; 3] = [
        "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
        "urn:ietf:params:rtp-hdrext:sdes:mid",
        "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
    ];
    let count = script.any() & 3;
    let mut all = Vec::new();
    for _ in 0..count {
        let what = script.any();
        let kind = BOTH[usize::from(what & 1)];
        let mut one = format(kind, script.any() & 0x7f, script.pick(&NAMES));
        let apt = Parameter { name: Some("apt".into()), value: Some(script.any().to_string()) };
        one.payload_types[0].parameters.push(apt);
        if what & 2 != 0 {
            let feedback = RtcpFb { r#type: "goog-remb".into(), subtype: None };
            one.payload_types[0].rtcp_fbs.push(feedback);
        }
        if what & 4 != 0 {
            let (senders, attributes) = (None, None);
            let uri = script.pick(&EXTENSIONS).to_owned();
            one.rtp_hdrexts.push(RtpHdrExt { id: script.any(), uri, senders, attributes });
        }
        one.extmap_allow_mixed = what & 8 != 0;
        all.push(one);
    }
    all
}

/// Time passes, and transports and audio levels change.
fn happen(room: &mut Room, script: &mut Script<'_>) {
    let (what, who) = (script.any(), EndpointId(u32::from(script.any() & 15)));
    room.now += Duration::from_millis(u64::from(script.any()) * 100);
    let now = room.now;
    room.act(|conference, effects| match what & 7 {
        0 | 1 => drop(conference.tick(now, &|id| (id == who).then_some(now), effects)),
        2 => drop(conference.expire_idle(now, effects)),
        3 | 4 => {
            let state = STATES[usize::from(what >> 3) % STATES.len()];
            conference.transport_changed(who, state, now, effects);
        }
        5 => conference.channel_opened(who, effects),
        6 => {
            let source = SourceId(u32::from(what >> 4));
            conference.level_received(who, source, what, effects);
        }
        _ => conference.audio_level(who, what >> 1, now, effects),
    });
}

/// A message as clients send them, with values that they may not.
fn wish(room: &mut Room, script: &mut Script<'_>) {
    let from = EndpointId(u32::from(script.any()) % 8);
    let what = script.any();
    let number = script.pick(&[-1, 0, 1, 2, 180, 360, 720, i32::MAX, i32::MIN]);
    let name = |script: &mut Script<'_>| {
        format!("{}-{}", script.pick(&IDS), script.any() % 3).replace('\u{1}', "")
    };
    let (one, two) = (name(script), name(script));
    let text = match what % 8 {
        0 => format!(r#"{{"colibriClass":"LastNChangedEvent","lastN":{number}}}"#),
        1 | 2 => format!(
            r#"{{"colibriClass":"ReceiverVideoConstraints","lastN":{number},"onStageSources":["{one}"],
            "selectedSources":["{two}","{one}"],"constraints":{{"{one}":{{"maxHeight":{number}}}}},
            "defaultConstraints":{{"maxHeight":{}}}}}"#,
            i32::from(what >> 3) * 30,
        ),
        3 => format!(
            r#"{{"colibriClass":"ReceiverVideoConstraints","constraints":{{"{one}":{{"maxHeight":{number},
            "maxFrameRate":{}}},"{two}x":{{"maxHeight":0}}}}}}"#,
            i32::from(what >> 3) - 1,
        ),
        4 => {
            let mode = ["All", "None", "Include", "Exclude"][usize::from(what >> 3) % 4];
            format!(
                r#"{{"colibriClass":"ReceiverAudioSubscription","mode":"{mode}","list":["{one}","{two}"]}}"#
            )
        }
        5 => {
            let kind = ["camera", "desktop", "disabled", "none"][usize::from(what >> 3) % 4];
            format!(
                r#"{{"colibriClass":"SourceVideoTypeMessage","sourceName":"{one}","videoType":"{kind}"}}"#
            )
        }
        6 => format!(r#"{{"colibriClass":"EndpointMessage","to":"{}","x":1}}"#, script.pick(&IDS)),
        _ => r#"{"colibriClass":"EndpointStats","bitrate":1}"#.to_owned(),
    };
    room.channel_message(from, &text);
}

/// A receiver gives MIDs to sources.
fn assign(room: &mut Room, script: &mut Script<'_>) {
    let who = script.pick(&IDS);
    let name = format!("{}-{}", script.pick(&IDS), script.any() % 3);
    let Some(mid) = Mid::new(&format!("{}", script.any())) else { return };
    room.act(|conference, effects| conference.assign_mids(who, vec![(name, mid)], effects));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_requests_and_constraints_are_survived(
            data in proptest::collection::vec(any::<u8>(), 0..600),
        ) {
            super::modify(&data);
            super::wishes(&data);
        }
    }
}
