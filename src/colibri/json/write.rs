//! From requests and answers to JSON, with the field order of Jitsi Videobridge.

use serde_json::{Map, Value, json};

use crate::colibri::{
    Candidate, Colibri2Endpoint, Colibri2Relay, ConferenceModified, ConferenceModify, Connect,
    Fingerprint, ICE_UDP_NAMESPACE, IceUdp, Media, MediaSource, MucRole, Parameter, PayloadType,
    RtpHdrExt, SctpRole, Source, SsrcGroup, Transport, WebSocket, media::media_type_str,
};

/// An object whose absent fields are omitted.
#[derive(Default)]
struct Object(Map<String, Value>);

impl Object {
    fn put(&mut self, name: &str, value: impl Into<Value>) -> &mut Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    fn some(&mut self, name: &str, value: Option<impl Into<Value>>) -> &mut Self {
        if let Some(value) = value {
            self.put(name, value);
        }
        self
    }

    fn flag(&mut self, name: &str, value: bool) -> &mut Self {
        self.some(name, value.then_some(true))
    }

    fn list<T>(&mut self, name: &str, items: &[T], item: impl Fn(&T) -> Value) -> &mut Self {
        self.some(name, (!items.is_empty()).then(|| array(items, item)))
    }

    fn done(&mut self) -> Value {
        Value::Object(std::mem::take(&mut self.0))
    }
}

fn array<T>(items: &[T], item: impl Fn(&T) -> Value) -> Value {
    items.iter().map(item).collect()
}

/// Attributes of XML elements are strings in JSON too.
#[expect(clippy::needless_pass_by_value, reason = "numbers, passed by name to map")]
fn attr<T: ToString>(value: T) -> Value {
    Value::String(value.to_string())
}

pub(super) fn conference_modify(request: &ConferenceModify) -> Value {
    Object::default()
        .list("endpoints", &request.endpoints, endpoint)
        .list("relays", &request.relays, relay)
        .flag("create", request.create)
        .flag("expire", request.expire)
        .some("rtcstats-enabled", (!request.rtcstats_enabled).then_some(false))
        .some("connects", request.connects.as_ref().map(|connects| array(connects, connect)))
        .put("meeting-id", request.meeting_id.as_str())
        .some("name", request.name.as_deref())
        .some(
            "traceparent",
            request.traceparent.as_ref().map(|trace| {
                json!({
                    "trace_id": trace.trace_id,
                    "parent_id": trace.parent_id,
                    "trace_flags": trace.trace_flags,
                })
            }),
        )
        .done()
}

pub(super) fn conference_modified(answer: &ConferenceModified) -> Value {
    Object::default()
        .list("endpoints", &answer.endpoints, endpoint)
        .list("relays", &answer.relays, relay)
        .some("sources", answer.sources.as_ref().map(|sources| array(sources, media_source)))
        .done()
}

fn endpoint(endpoint: &Colibri2Endpoint) -> Value {
    Object::default()
        .put("id", endpoint.id.as_str())
        .flag("create", endpoint.create)
        .flag("expire", endpoint.expire)
        .list("medias", &endpoint.media, media)
        .some("transport", endpoint.transport.as_ref().map(transport))
        .some("sources", endpoint.sources.as_ref().map(|sources| array(sources, media_source)))
        .some("stats-id", endpoint.stats_id.as_deref())
        .some("muc-role", endpoint.muc_role.map(MucRole::as_str))
        .some("diarize", endpoint.diarize)
        .some(
            "force-mute",
            endpoint.force_mute.map(|mute| json!({ "audio": mute.audio, "video": mute.video })),
        )
        .some("initial-last-n", endpoint.initial_last_n.map(|value| json!({ "value": value })))
        .list("capabilities", &endpoint.capabilities, |name| Value::from(name.as_str()))
        .done()
}

fn relay(relay: &Colibri2Relay) -> Value {
    Object::default()
        .put("id", relay.id.as_str())
        .flag("create", relay.create)
        .flag("expire", relay.expire)
        .list("medias", &relay.media, media)
        .some("transport", relay.transport.as_ref().map(transport))
        .some("sources", relay.sources.as_ref().map(|sources| array(sources, media_source)))
        .some("mesh-id", relay.mesh_id.as_deref())
        .some("endpoints", relay.endpoints.as_ref().map(|list| array(list, endpoint)))
        .done()
}

fn connect(connect: &Connect) -> Value {
    let headers: Map<String, Value> = connect
        .http_headers
        .iter()
        .map(|header| (header.name.clone(), Value::from(header.value.as_str())))
        .collect();
    let string = |text: &String| Value::from(text.as_str());
    Object::default()
        .some("id", connect.id.as_deref())
        .flag("create", connect.create)
        .flag("expire", connect.expire)
        .some("url", connect.url.as_deref())
        .some("protocol", connect.protocol.as_deref())
        .some("type", connect.r#type.as_deref())
        .flag("audio", connect.audio)
        .flag("video", connect.video)
        .some("headers", (!headers.is_empty()).then_some(Value::Object(headers)))
        .some(
            "ping",
            connect.ping.map(|ping| json!({ "interval": ping.interval, "timeout": ping.timeout })),
        )
        .list("exports", &connect.exports, string)
        .list("requests", &connect.requests, string)
        .done()
}

fn transport(transport: &Transport) -> Value {
    Object::default()
        .flag("ice-controlling", transport.ice_controlling)
        .flag("use-unique-port", transport.use_unique_port)
        .flag("ice-restart", transport.ice_restart)
        .some("transport", transport.ice_udp.as_ref().map(ice_udp))
        .some(
            "sctp",
            transport.sctp.map(|sctp| {
                Object::default()
                    .some("port", sctp.port)
                    .some("role", sctp.role.map(SctpRole::as_str))
                    .done()
            }),
        )
        .done()
}

fn ice_udp(ice: &IceUdp) -> Value {
    Object::default()
        .put("xmlns", ICE_UDP_NAMESPACE)
        .some("pwd", ice.pwd.as_deref())
        .some("ufrag", ice.ufrag.as_deref())
        .some("ice-generation", ice.ice_generation.map(attr))
        .list("fingerprints", &ice.fingerprints, fingerprint)
        .list("candidates", &ice.candidates, candidate)
        .some("remote-candidate", ice.remote_candidate.as_ref().map(candidate))
        .list("web-sockets", &ice.web_sockets, |socket| match socket {
            WebSocket::Url(url) => Value::from(url.as_str()),
            WebSocket::Active => Value::from("active"),
        })
        .flag("rtcp-mux", ice.rtcp_mux)
        .done()
}

fn candidate(candidate: &Candidate) -> Value {
    Object::default()
        .put("component", attr(candidate.component))
        .put("foundation", candidate.foundation.as_str())
        .put("generation", attr(candidate.generation))
        .some("id", candidate.id.as_deref())
        .some("network", candidate.network.map(attr))
        .put("priority", attr(candidate.priority))
        .put("protocol", candidate.protocol.as_str())
        .put("type", candidate.r#type.as_str())
        .put("ip", candidate.ip.as_str())
        .put("port", attr(candidate.port))
        .some("rel-addr", candidate.rel_addr.as_deref())
        .some("rel-port", candidate.rel_port.map(attr))
        .some("tcptype", candidate.tcptype.as_deref())
        .done()
}

fn fingerprint(fingerprint: &Fingerprint) -> Value {
    Object::default()
        .put("fingerprint", fingerprint.fingerprint.as_str())
        .some("setup", fingerprint.setup.as_deref())
        .some("hash", fingerprint.hash.as_deref())
        .some("cryptex", fingerprint.cryptex)
        .done()
}

fn media(media: &Media) -> Value {
    Object::default()
        .put("type", media_type_str(media.r#type))
        .list("payload-types", &media.payload_types, payload_type)
        .list("rtp-hdrexts", &media.rtp_hdrexts, rtp_hdrext)
        .flag("extmap-allow-mixed", media.extmap_allow_mixed)
        .done()
}

fn payload_type(payload_type: &PayloadType) -> Value {
    Object::default()
        .put("name", payload_type.name.as_str())
        .put("id", attr(payload_type.id))
        .some("channels", payload_type.channels.map(attr))
        .some("clockrate", payload_type.clockrate.map(attr))
        .some("ptime", payload_type.ptime.map(attr))
        .some("maxptime", payload_type.maxptime.map(attr))
        .some("parameters", parameters(&payload_type.parameters))
        .list("rtcp-fbs", &payload_type.rtcp_fbs, |feedback| {
            Object::default()
                .put("type", feedback.r#type.as_str())
                .some("subtype", feedback.subtype.as_deref())
                .done()
        })
        .done()
}

fn parameters(parameters: &[Parameter]) -> Option<Value> {
    let object = parameters.iter().map(|parameter| {
        let name = parameter.name.clone().unwrap_or_else(|| "null".to_owned());
        (name, parameter.value.as_deref().map_or(Value::Null, Value::from))
    });
    (!parameters.is_empty()).then(|| Value::Object(object.collect()))
}

fn rtp_hdrext(extension: &RtpHdrExt) -> Value {
    Object::default()
        .put("id", extension.id)
        .put("uri", extension.uri.as_str())
        .some("senders", extension.senders.as_deref())
        .some("attributes", extension.attributes.as_deref())
        .done()
}

fn media_source(source: &MediaSource) -> Value {
    Object::default()
        .put("type", media_type_str(source.r#type))
        .put("id", source.id.as_str())
        .flag("synthetic", source.synthetic)
        .list("sources", &source.sources, stream)
        .list("ssrc-groups", &source.ssrc_groups, ssrc_group)
        .done()
}

/// A stream without other fields is written as just its SSRC.
fn stream(source: &Source) -> Value {
    if *source == (Source { ssrc: source.ssrc, ..Source::default() }) {
        return source.ssrc.into();
    }
    Object::default()
        .put("ssrc", source.ssrc)
        .some("name", source.name.as_deref())
        .some("videoType", source.video_type.as_deref())
        .some("rid", source.rid.as_deref())
        .some("parameters", parameters(&source.parameters))
        .done()
}

fn ssrc_group(group: &SsrcGroup) -> Value {
    json!({ "semantics": group.semantics, "sources": group.ssrcs })
}
