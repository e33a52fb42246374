//! Requests of a focus, and what clients say.

use rialto::colibri::{ConferenceModify, json};
use rialto_media::EndpointId;
use serde_json::json;

/// As web clients say it: one large picture and thumbnails of who spoke last.
pub(super) const CONSTRAINTS: &str = r#"{"colibriClass":"ReceiverVideoConstraints","lastN":25,
    "defaultConstraints":{"maxHeight":180},"onStageSources":["e1-v0"],
    "constraints":{"e1-v0":{"maxHeight":720}}}"#;

/// The engine's number of an endpoint, when so many were there before.
pub(super) fn engine_id(before: u32) -> EndpointId {
    EndpointId(before + 1)
}

/// The creation of an endpoint, and its sources. The first endpoint creates its conference.
pub(super) fn join(meeting: &str, endpoint: u32) -> [ConferenceModify; 2] {
    let id = format!("e{endpoint}");
    let creation = json!({
        "meeting-id": meeting,
        "create": endpoint == 0,
        "endpoints": [{
            "id": id,
            "create": true,
            "medias": [
                { "type": "audio", "payload-types": [{ "id": "111", "name": "opus" }] },
                { "type": "video", "payload-types": [{ "id": "100", "name": "VP8" }] },
            ],
            "transport": { "ice-controlling": true },
            "capabilities": ["source-names"],
        }],
    });
    let ssrc = 1_000 + 10 * endpoint;
    let sources = json!({
        "meeting-id": meeting,
        "endpoints": [{
            "id": id,
            "sources": [
                { "type": "audio", "id": format!("{id}-a0"), "sources": [ssrc] },
                {
                    "type": "video",
                    "id": format!("{id}-v0"),
                    "sources": [ssrc + 1, ssrc + 2, ssrc + 3],
                    "ssrc-groups": [{ "semantics": "SIM", "sources": [ssrc + 1, ssrc + 2, ssrc + 3] }],
                },
            ],
        }],
    });
    [creation, sources].map(|request| read(&request))
}

/// Mutes an endpoint or ends that.
pub(super) fn mute(meeting: &str, endpoint: u32, on: bool) -> ConferenceModify {
    read(&json!({
        "meeting-id": meeting,
        "endpoints": [{ "id": format!("e{endpoint}"), "force-mute": { "audio": on, "video": false } }],
    }))
}

fn read(request: &serde_json::Value) -> ConferenceModify {
    json::read_conference_modify(request.to_string().as_bytes(), None).expect("a request")
}
