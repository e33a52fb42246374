//! COLIBRI2 as JSON: the requests of a focus for a client, and what is read from the answers.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};

use rialto_media::Codec;

use crate::plan::{Media, Plan, Shape, Source};

/// Payload type of Opus.
pub const OPUS: u8 = 111;
/// Payload type of video, whatever its codec.
pub const VIDEO: u8 = 100;
/// Payload type of its retransmissions.
pub const RTX: u8 = 96;
/// Header-extension id of the audio level (RFC 6464).
pub const AUDIO_LEVEL: u8 = 1;
/// Header-extension id of the transport-wide sequence number.
pub const TRANSPORT_CC: u8 = 5;
/// Header-extension id of the dependency descriptor.
pub const DESCRIPTOR: u8 = 12;

const TRANSPORT_CC_URI: &str =
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
const AUDIO_LEVEL_URI: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
const DESCRIPTOR_URI: &str =
    "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";
const ICE_UDP: &str = "urn:xmpp:jingle:transports:ice-udp:1";

/// The request that adds an endpoint, and the conference if it does not exist yet.
pub fn create_endpoint(plan: &Plan, endpoint: usize, create_conference: bool) -> Value {
    let member = &plan.endpoints[endpoint];
    let meeting = &plan.conferences[member.conference];
    let mut request = json!({ "meeting-id": meeting });
    if create_conference {
        request["create"] = true.into();
        request["name"] = format!("load-{}@conference.load.invalid", member.conference).into();
    }
    let mut capabilities = vec!["source-names"];
    capabilities.extend(plan.shape.rewriting.then_some("ssrc-rewriting"));
    let mut transport = json!({ "ice-controlling": true });
    if !plan.shape.wishes.is_empty() {
        // For the channel on which constraints are sent.
        transport["sctp"] = json!({});
    }
    let mut medias = json!([audio_media(), video_media(&plan.shape)]);
    if plan.is_sink(endpoint) {
        // It gives no feedback, and must not be limited to what an estimate without feedback
        // allows.
        drop_feedback(&mut medias);
    }
    request["endpoints"] = json!([{
        "create": true,
        "id": member.id,
        "stats-id": format!("Load-{endpoint}"),
        "medias": medias,
        "transport": transport,
        "capabilities": capabilities,
    }]);
    request
}

/// Takes every kind of feedback out of media descriptions.
fn drop_feedback(medias: &mut Value) {
    let types = medias.as_array_mut().into_iter().flatten().filter_map(|media| {
        let types = media.get_mut("payload-types")?;
        types.as_array_mut()
    });
    for payload_type in types.flatten() {
        payload_type["rtcp-fbs"] = json!([]);
    }
}

fn audio_media() -> Value {
    json!({
        "type": "audio",
        "payload-types": [{
            "name": "opus", "id": OPUS.to_string(), "channels": "2", "clockrate": "48000",
            "parameters": { "useinbandfec": "1", "minptime": "10" },
            "rtcp-fbs": [{ "type": "transport-cc" }],
        }],
        "rtp-hdrexts": [
            { "uri": AUDIO_LEVEL_URI, "id": AUDIO_LEVEL },
            { "uri": TRANSPORT_CC_URI, "id": TRANSPORT_CC },
        ],
        "extmap-allow-mixed": true,
    })
}

fn video_media(shape: &Shape) -> Value {
    let codec = shape.layers.map_or(Codec::Vp8, |mode| mode.codec);
    let (name, parameters) = match codec {
        Codec::Vp9 => ("VP9", json!({ "profile-id": "0" })),
        Codec::Av1 => ("AV1", json!({})),
        Codec::H264 => ("H264", json!({ "profile-level-id": "42e01f", "packetization-mode": "1" })),
        _ => ("VP8", json!({})),
    };
    let mut types = vec![json!({
        "name": name, "id": VIDEO.to_string(), "clockrate": "90000", "parameters": parameters,
        "rtcp-fbs": [
            { "type": "ccm", "subtype": "fir" },
            { "type": "nack" },
            { "type": "nack", "subtype": "pli" },
            { "type": "transport-cc" },
        ],
    })];
    if shape.rtx {
        types.push(json!({
            "name": "rtx", "id": RTX.to_string(), "clockrate": "90000",
            "parameters": { "apt": VIDEO.to_string() },
        }));
    }
    let mut extensions = vec![json!({ "uri": TRANSPORT_CC_URI, "id": TRANSPORT_CC })];
    if shape.layers.is_some_and(|mode| mode.descriptor) {
        extensions.push(json!({ "uri": DESCRIPTOR_URI, "id": DESCRIPTOR }));
    }
    json!({
        "type": "video",
        "payload-types": types,
        "rtp-hdrexts": extensions,
        "extmap-allow-mixed": true,
    })
}

/// A client's side of the transport.
#[derive(Clone, Debug)]
pub struct LocalTransport {
    /// ICE user name fragment.
    pub ufrag: String,
    /// ICE password.
    pub pwd: String,
    /// SHA-256 of the certificate, in colon-separated hexadecimal digits.
    pub fingerprint: String,
    /// The host candidate.
    pub address: SocketAddr,
}

/// The request that sets a client's transport and sources.
pub fn answer(plan: &Plan, endpoint: usize, local: &LocalTransport) -> Value {
    let member = &plan.endpoints[endpoint];
    let sources: Vec<Value> =
        plan.sources[member.sources.clone()].iter().map(|s| source(plan, s)).collect();
    let candidate = json!({
        "component": "1", "foundation": "1", "generation": "0", "id": member.id, "network": "0",
        "priority": "2130706431", "protocol": "udp", "type": "host",
        "ip": local.address.ip().to_string(), "port": local.address.port().to_string(),
    });
    let mut description = json!({
        "id": member.id,
        "transport": { "transport": {
            "xmlns": ICE_UDP,
            "ufrag": local.ufrag,
            "pwd": local.pwd,
            "fingerprints": [{
                "fingerprint": local.fingerprint, "hash": "sha-256", "setup": "active",
            }],
            "candidates": [candidate],
            "rtcp-mux": true,
        }},
    });
    if !sources.is_empty() {
        description["sources"] = sources.into();
    }
    json!({ "meeting-id": plan.conferences[member.conference], "endpoints": [description] })
}

fn source(plan: &Plan, source: &Source) -> Value {
    let streams = &plan.streams[source.streams.clone()];
    let mut ssrcs = Vec::new();
    let mut groups = Vec::new();
    if streams.len() > 1 {
        let all: Vec<u32> = streams.iter().map(|s| s.ssrc).collect();
        groups.push(json!({ "semantics": "SIM", "sources": all }));
    }
    for stream in streams {
        ssrcs.push(stream.ssrc);
        if let Some(rtx) = stream.rtx {
            ssrcs.push(rtx);
            groups.push(json!({ "semantics": "FID", "sources": [stream.ssrc, rtx] }));
        }
    }
    let ssrcs: Vec<Value> = ssrcs
        .iter()
        .map(|ssrc| match source.media {
            Media::Audio => json!({ "ssrc": ssrc, "name": source.name }),
            Media::Video => json!({ "ssrc": ssrc, "name": source.name, "videoType": "camera" }),
        })
        .collect();
    let mut description =
        json!({ "type": source.media.as_str(), "id": source.name, "sources": ssrcs });
    if !groups.is_empty() {
        description["ssrc-groups"] = groups.into();
    }
    description
}

/// The request that ends an endpoint.
pub fn expire_endpoint(plan: &Plan, endpoint: usize) -> Value {
    let member = &plan.endpoints[endpoint];
    json!({
        "meeting-id": plan.conferences[member.conference],
        "endpoints": [{ "id": member.id, "expire": true }],
    })
}

/// The request that ends a conference.
pub fn expire_conference(meeting: &str) -> Value {
    json!({ "meeting-id": meeting, "expire": true })
}

/// The bridge's side of a client's transport.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BridgeTransport {
    /// ICE user name fragment.
    pub ufrag: String,
    /// ICE password.
    pub pwd: String,
    /// Certificate fingerprints: hash name and colon-separated hexadecimal digits.
    pub fingerprints: Vec<(String, String)>,
    /// UDP candidates with an IP address, in the order given.
    pub candidates: Vec<SocketAddr>,
    /// Other candidates that were offered, for the error message.
    pub ignored: Vec<String>,
}

impl BridgeTransport {
    /// Reads the answer to [`create_endpoint`]; the error says what is missing.
    pub fn read(answer: &Value, id: &str) -> Result<Self, String> {
        let endpoints = answer.get("endpoints").and_then(Value::as_array);
        let endpoint = endpoints
            .and_then(|list| list.iter().find(|e| e.get("id").and_then(Value::as_str) == Some(id)))
            .ok_or_else(|| format!("no endpoint {id} in it"))?;
        let transport = endpoint
            .pointer("/transport/transport")
            .ok_or_else(|| format!("endpoint {id} has no transport"))?;
        let text = |field: &str| -> Result<String, String> {
            let value = transport.get(field).and_then(Value::as_str);
            value.map(str::to_owned).ok_or_else(|| format!("the transport has no '{field}'"))
        };
        let list = |field: &str| -> &[Value] {
            transport.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
        };
        let fingerprints: Vec<_> = list("fingerprints")
            .iter()
            .filter_map(|f| {
                let hash = f.get("hash")?.as_str()?.to_ascii_lowercase();
                Some((hash, f.get("fingerprint")?.as_str()?.to_ascii_uppercase()))
            })
            .collect();
        if fingerprints.is_empty() {
            return Err("the transport has no DTLS fingerprint".to_owned());
        }
        let mut candidates = Vec::new();
        let mut ignored = Vec::new();
        for candidate in list("candidates") {
            match udp_candidate(candidate) {
                Some(address) => candidates.push(address),
                None => ignored.push(candidate.to_string()),
            }
        }
        Ok(Self { ufrag: text("ufrag")?, pwd: text("pwd")?, fingerprints, candidates, ignored })
    }
}

fn udp_candidate(candidate: &Value) -> Option<SocketAddr> {
    if !candidate.get("protocol")?.as_str()?.eq_ignore_ascii_case("udp") {
        return None;
    }
    let ip: IpAddr = candidate.get("ip")?.as_str()?.parse().ok()?;
    let port = match candidate.get("port")? {
        Value::String(text) => text.parse().ok()?,
        number => u16::try_from(number.as_u64()?).ok()?,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use rialto_codec_model::Mode;

    use super::*;

    fn answer_of_a_bridge() -> Value {
        json!({
            "endpoints": [{ "id": "abcd0001", "transport": { "transport": {
                "xmlns": ICE_UDP, "pwd": "secret", "ufrag": "name", "rtcp-mux": true,
                "fingerprints": [{ "fingerprint": "9e:c6", "setup": "actpass", "hash": "SHA-256" }],
                "candidates": [
                    { "protocol": "udp", "type": "host", "ip": "127.0.0.1", "port": "10000" },
                    { "protocol": "tcp", "type": "host", "ip": "127.0.0.1", "port": "9" },
                    { "protocol": "udp", "type": "host", "ip": "x.local", "port": "9" },
                ],
            }}}],
            "sources": [],
        })
    }

    #[test]
    fn reads_an_answer() {
        let read = BridgeTransport::read(&answer_of_a_bridge(), "abcd0001").unwrap();
        assert_eq!((read.ufrag.as_str(), read.pwd.as_str()), ("name", "secret"));
        assert_eq!(read.fingerprints, [("sha-256".to_owned(), "9E:C6".to_owned())]);
        assert_eq!(read.candidates, ["127.0.0.1:10000".parse::<SocketAddr>().unwrap()]);
        assert_eq!(read.ignored.len(), 2);
    }

    #[test]
    fn says_what_is_missing() {
        let other = BridgeTransport::read(&answer_of_a_bridge(), "other");
        assert_eq!(other, Err("no endpoint other in it".to_owned()));
        let mut without = answer_of_a_bridge();
        without["endpoints"][0]["transport"]["transport"]["pwd"] = Value::Null;
        let without = BridgeTransport::read(&without, "abcd0001");
        assert_eq!(without, Err("the transport has no 'pwd'".to_owned()));
        assert!(BridgeTransport::read(&Value::Null, "abcd0001").is_err());
    }

    #[test]
    fn signals_what_layers_need() {
        let pointer = |shape: &Shape, path: &str| {
            let request = create_endpoint(&Plan::new(shape.clone()), 0, true);
            request.pointer(&format!("/endpoints/0/{path}")).cloned()
        };
        let plain = Shape::default();
        assert_eq!(pointer(&plain, "medias/1/payload-types/0/name"), Some("VP8".into()));
        assert_eq!(pointer(&plain, "medias/1/rtp-hdrexts/1"), None);
        assert_eq!(pointer(&plain, "transport/sctp"), None);
        let layers = Mode::find("AV1/L3T3");
        let layered = Shape { layers, wishes: vec![180], ..plain };
        assert_eq!(pointer(&layered, "medias/1/payload-types/0/name"), Some("AV1".into()));
        assert_eq!(pointer(&layered, "medias/1/rtp-hdrexts/1/id"), Some(DESCRIPTOR.into()));
        assert_eq!(pointer(&layered, "transport/sctp"), Some(json!({})));
        let simulcast = Shape { layers: Mode::find("VP8/3xL1T3/DD"), ..layered };
        assert_eq!(Plan::new(simulcast).sources[1].streams.len(), 3);
    }

    #[test]
    fn signals_groups() {
        let plan = Plan::new(Shape { simulcast: true, ..Shape::default() });
        let local = LocalTransport {
            ufrag: "u".into(),
            pwd: "p".into(),
            fingerprint: "AA".into(),
            address: "127.0.0.1:5".parse().unwrap(),
        };
        let request = answer(&plan, 0, &local);
        let sources = request.pointer("/endpoints/0/sources").unwrap().as_array().unwrap();
        assert_eq!(sources.len(), 2);
        assert!(sources[0].get("ssrc-groups").is_none());
        let groups = sources[1]["ssrc-groups"].as_array().unwrap();
        let semantics: Vec<_> = groups.iter().map(|g| g["semantics"].as_str().unwrap()).collect();
        assert_eq!(semantics, ["SIM", "FID", "FID", "FID"]);
        assert_eq!(sources[1]["sources"].as_array().unwrap().len(), 6);
        assert!(answer(&plan, 1, &local).pointer("/endpoints/0/sources").is_none());
    }
}
