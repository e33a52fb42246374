use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::colibri::{MucRole, WebSocket};

fn read(document: &Value) -> Result<ConferenceModify, JsonError> {
    read_conference_modify(document.to_string().as_bytes(), None)
}

/// What is wrong with a document, and that it is about this field.
#[track_caller]
fn refused(document: &str, expected: &str) {
    let error = read_conference_modify(document.as_bytes(), None).unwrap_err().to_string();
    assert!(error.contains(expected), "{document}: {error}");
}

#[test]
fn every_field_survives_reading_and_writing() {
    let document = json!({
        "endpoints": [{
            "id": "a",
            "create": true,
            "expire": true,
            "medias": [{
                "type": "audio",
                "payload-types": [{
                    "name": "red", "id": "112", "channels": "2", "clockrate": "48000",
                    "ptime": "20", "maxptime": "60",
                    "parameters": { "null": "111/111", "empty": null },
                    "rtcp-fbs": [{ "type": "nack", "subtype": "pli" }, { "type": "transport-cc" }],
                }],
                "rtp-hdrexts": [
                    { "id": 1, "uri": "urn:x", "senders": "both", "attributes": "vad=on" },
                ],
                "extmap-allow-mixed": true,
            }],
            "transport": {
                "ice-controlling": true,
                "use-unique-port": true,
                "ice-restart": true,
                "transport": {
                    "xmlns": "urn:xmpp:jingle:transports:ice-udp:1",
                    "pwd": "p",
                    "ufrag": "u",
                    "ice-generation": "2",
                    "fingerprints": [
                        { "fingerprint": "AA", "setup": "actpass", "hash": "sha-256", "cryptex": true },
                    ],
                    "candidates": [{
                        "component": "1", "foundation": "1", "generation": "0", "id": "i",
                        "network": "0", "priority": "2130706431", "protocol": "udp",
                        "type": "srflx", "ip": "192.0.2.1", "port": "10000",
                        "rel-addr": "10.0.0.1", "rel-port": "9", "tcptype": "passive",
                    }],
                    "remote-candidate": {
                        "component": "1", "foundation": "2", "generation": "0",
                        "priority": "1", "protocol": "udp", "type": "host", "ip": "::1", "port": "1",
                    },
                    "web-sockets": ["wss://bridge/x", "active"],
                    "rtcp-mux": true,
                },
                "sctp": { "port": 5000, "role": "server" },
            },
            "sources": [{
                "type": "video",
                "id": "a-v0",
                "synthetic": true,
                "sources": [
                    4_294_967_295u32,
                    {
                        "ssrc": 1, "name": "a-v0", "videoType": "camera", "rid": "h",
                        "parameters": { "msid": "m" },
                    },
                ],
                "ssrc-groups": [{ "semantics": "FID", "sources": [1, 4_294_967_295u32] }],
            }],
            "stats-id": "s",
            "muc-role": "visitor",
            "diarize": true,
            "force-mute": { "audio": true, "video": false },
            "initial-last-n": { "value": -1 },
            "capabilities": ["source-names"],
        }],
        "relays": [{
            "id": "r",
            "create": true,
            "mesh-id": "0",
            "endpoints": [{ "id": "b", "sources": [] }],
        }],
        "create": true,
        "expire": true,
        "rtcstats-enabled": false,
        "connects": [{
            "id": "c", "create": true, "expire": true, "url": "wss://x", "protocol": "mediajson",
            "type": "recorder", "audio": true, "video": true, "headers": { "Authorization": "b" },
            "ping": { "interval": 1, "timeout": 2 }, "exports": ["e"], "requests": ["r"],
        }],
        "meeting-id": "m",
        "name": "n@c",
        "traceparent": { "trace_id": "0", "parent_id": "1", "trace_flags": "00" },
    });
    let request = read(&document).unwrap();
    let endpoint = &request.endpoints[0];
    assert_eq!(endpoint.muc_role, Some(MucRole::Visitor));
    let ice = endpoint.transport.as_ref().unwrap().ice_udp.as_ref().unwrap();
    assert_eq!(ice.web_sockets[1], WebSocket::Active);
    assert_eq!(write_conference_modify(&request).to_string(), document.to_string());
}

#[test]
fn the_address_of_the_request_names_the_meeting() {
    let body = br#"{"meeting-id":"inside","expire":true}"#;
    assert_eq!(read_conference_modify(body, None).unwrap().meeting_id, "inside");
    assert_eq!(read_conference_modify(body, Some("outside")).unwrap().meeting_id, "outside");
    assert_eq!(read_conference_modify(b"{}", Some("outside")).unwrap().meeting_id, "outside");
    assert_eq!(read_conference_modify(b"{}", None), Err(JsonError::NoMeetingId));
}

#[test]
fn ssrcs_come_in_every_form_that_jvb_takes() {
    let source = |ssrc: Value| {
        let document = json!({
            "meeting-id": "m",
            "endpoints": [{ "id": "a", "sources": [{ "type": "audio", "id": "s", "sources": [ssrc] }] }],
        });
        read(&document).map(|r| r.endpoints[0].sources.as_ref().unwrap()[0].sources[0].ssrc)
    };
    for ssrc in [json!(3_000_000_000u32), json!("3000000000"), json!(-1_294_967_296)] {
        assert_eq!(source(ssrc), Ok(3_000_000_000));
    }
    for bad in
        [json!(4_294_967_296u64), json!(-3_000_000_000i64), json!(1.5), json!("x"), json!(null)]
    {
        assert!(
            source(bad).unwrap_err().to_string().starts_with("endpoints[0].sources[0].sources[0]")
        );
    }
}

#[test]
fn errors_name_the_field() {
    refused("", "could not parse JSON: EOF");
    refused("{", "could not parse JSON: EOF");
    refused("[]", "request: expected object, got array");
    refused(r#"{"meeting-id":1}"#, "meeting-id: expected string, got number");
    refused(r#"{"meeting-id":"m","create":"yes"}"#, "create: expected boolean, got string");
    refused(r#"{"meeting-id":"m","colour":1}"#, "colour: unknown field");
    refused(r#"{"meeting-id":"m","create":true,"create":false}"#, "duplicate field `create`");
    refused(r#"{"meeting-id":"m","endpoints":{}}"#, "endpoints: expected array, got object");
    refused(r#"{"meeting-id":"m","endpoints":[{}]}"#, "endpoints[0].id: is missing");
    let inside = |endpoint: &str, expected: &str| {
        let document = format!(r#"{{"meeting-id":"m","endpoints":[{{"id":"a",{endpoint}}}]}}"#);
        refused(&document, &format!("endpoints[0].{expected}"));
    };
    inside(r#""muc-role":"king""#, "muc-role: unknown role \"king\"");
    inside(r#""initial-last-n":{}"#, "initial-last-n.value: is missing");
    inside(r#""force-mute":{"audio":1}"#, "force-mute.audio: expected boolean, got number");
    inside(r#""capabilities":["a",2]"#, "capabilities[1]: expected string, got number");
    inside(r#""medias":[{"type":"data"}]"#, "medias[0].type: expected audio or video");
    let media = |field: &str, expected: &str| {
        let field = format!(r#""medias":[{{"type":"audio",{field}}}]"#);
        inside(&field, &format!("medias[0].{expected}"));
    };
    media(r#""payload-types":[{"id":128,"name":"x"}]"#, "payload-types[0].id: 128 is out of range");
    media(r#""payload-types":[{"id":"1x","name":"x"}]"#, "payload-types[0].id: \"1x\" is not");
    media(r#""rtp-hdrexts":[{"id":0,"uri":"x"}]"#, "rtp-hdrexts[0].id: 0 is out of range");
    media(r#""rtp-hdrexts":[{"id":256,"uri":"x"}]"#, "rtp-hdrexts[0].id: 256 is out of range");
    inside(r#""transport":{"transport":{}}"#, "transport.transport.xmlns: is missing");
    inside(r#""transport":{"transport":{"xmlns":"x"}}"#, "transport.transport.xmlns: expected urn");
    inside(r#""transport":{"sctp":{"port":70000}}"#, "transport.sctp.port: 70000 is out of range");
    inside(r#""transport":{"sctp":{"role":"peer"}}"#, "transport.sctp.role: unknown role");
}

#[test]
fn the_first_unknown_field_beyond_many_is_found() {
    let mut fields: Vec<String> = (0..70).map(|n| format!(r#""x{n}":{n}"#)).collect();
    fields.insert(0, r#""meeting-id":"m""#.into());
    refused(&format!("{{{}}}", fields.join(",")), "x0: unknown field");
    let headers: Vec<String> = (0..70).map(|n| format!(r#""x{n}":"v""#)).collect();
    let document =
        format!(r#"{{"meeting-id":"m","connects":[{{"headers":{{{}}}}}]}}"#, headers.join(","));
    let request = read_conference_modify(document.as_bytes(), None).unwrap();
    assert_eq!(request.connects.unwrap()[0].http_headers.len(), 70, "names there are data");
}

#[test]
fn nesting_has_an_end() {
    let deep = "[".repeat(100_000);
    refused(&deep, "recursion limit");
}

#[test]
fn the_documented_example_of_jvb_is_read() {
    let document = json!({
        "meeting-id": "beccf2ed-5441-4bfe-96d6-f0f3a6796378",
        "name": "hardencounterssinkright@muc.meet.jitsi",
        "create": true,
        "endpoints": [{
            "create": true,
            "id": "79f0273d",
            "stats-id": "Garett-w1o",
            "muc-role": "moderator",
            "medias": [{
                "type": "audio",
                "payload-types": [
                    { "name": "opus", "id": 111, "channels": 2, "clockrate": 48000,
                      "parameters": { "useinbandfec": 1, "minptime": "10" } },
                ],
                "extmap-allow-mixed": true,
            }],
            "transport": { "ice-controlling": true },
            "capabilities": ["source-names"],
        }],
        "connects": [
            { "url": "wss://example.com/audio", "protocol": "mediajson", "type": "transcriber",
              "audio": true },
        ],
    });
    let request = read(&document).unwrap();
    let opus = &request.endpoints[0].media[0].payload_types[0];
    assert_eq!((opus.id, opus.clockrate, opus.channels), (111, Some(48000), Some(2)));
    assert_eq!(opus.parameters[0].value.as_deref(), Some("1"));
}

#[test]
fn the_documented_update_of_jvb_is_read() {
    let document = json!({
        "endpoints": [{
            "id": "79f0273e",
            "transport": { "transport": {
                "candidates": [{
                    "generation": "0", "rel-port": "9", "component": "1", "protocol": "udp",
                    "port": "10000", "ip": "192.0.2.199", "foundation": "2", "id": "653a",
                    "rel-addr": "0.0.0.0", "priority": "1694498815", "type": "srflx", "network": "0",
                }],
                "xmlns": "urn:xmpp:jingle:transports:ice-udp:1",
                "ufrag": "2ivqh1fvtf0l3h",
                "rtcp-mux": true,
                "pwd": "1a5ejbent91k6io6a3fauikg22",
                "fingerprints": [
                    { "fingerprint": "2E:CC", "setup": "actpass", "hash": "sha-256", "cryptex": true },
                ],
            } },
        }],
        "sources": [{
            "type": "audio",
            "id": "jvb-a0",
            "sources": [
                { "ssrc": 411_312_308, "name": "jvb-a0", "parameters": { "msid": "mixed audio0" } },
            ],
        }],
    });
    let request = read_conference_modify(document.to_string().as_bytes(), Some("m")).unwrap();
    let transport = request.endpoints[0].transport.as_ref().unwrap();
    let candidate = &transport.ice_udp.as_ref().unwrap().candidates[0];
    assert_eq!((candidate.rel_port, candidate.priority), (Some(9), 1_694_498_815));
}

#[test]
fn a_candidate_that_cannot_be_read_is_left_out() {
    let candidate = |port: &str| {
        json!({
            "component": "1", "foundation": "2", "priority": "1", "protocol": "udp",
            "type": "host", "ip": "192.0.2.1", "port": port,
        })
    };
    let candidates = json!([candidate("70000"), 5, {}, null, candidate("x"), candidate("9")]);
    let document = json!({ "endpoints": [{ "id": "79f0273e", "transport": { "transport": {
        "xmlns": "urn:xmpp:jingle:transports:ice-udp:1",
        "ufrag": "abcd",
        "candidates": candidates,
        "remote-candidate": {},
    } } }] });
    let request = read_conference_modify(document.to_string().as_bytes(), Some("m")).unwrap();
    let ice = request.endpoints[0].transport.as_ref().unwrap().ice_udp.as_ref().unwrap();
    assert_eq!((ice.candidates.len(), ice.candidates[0].port), (1, 9));
    assert_eq!((ice.ufrag.as_deref(), &ice.remote_candidate), (Some("abcd"), &None));
}

/// JSON that is often nearly a request: known names in the wrong places.
fn nearly() -> impl Strategy<Value = Value> {
    let names = prop::sample::select(vec![
        "meeting-id",
        "endpoints",
        "id",
        "create",
        "transport",
        "medias",
        "sources",
        "type",
        "ssrc",
        "ssrc-groups",
        "semantics",
        "payload-types",
        "candidates",
        "xmlns",
        "force-mute",
        "sctp",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(vec!["", "audio", "1", "urn:xmpp:jingle:transports:ice-udp:1"])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((names.clone(), inner), 0..6).prop_map(|fields| {
                Value::Object(fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
            }),
        ]
    })
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        crate::fuzzing::colibri_json(&bytes);
    }

    #[test]
    fn near_requests_are_read_or_refused(document in nearly()) {
        crate::fuzzing::colibri_json(document.to_string().as_bytes());
    }
}
