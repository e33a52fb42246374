//! From JSON to requests and answers.

use rialto_media::MediaType;
use serde_json::Value;

use super::tree::{Fields, JsonError, Path, attribute, boolean, integer, string, text};
use crate::colibri::{
    Candidate, Colibri2Endpoint, Colibri2Relay, ConferenceModified, ConferenceModify, Connect,
    Fingerprint, ForceMute, HttpHeader, ICE_UDP_NAMESPACE, IceUdp, Media, MediaSource, MucRole,
    Parameter, PayloadType, Ping, RtcpFb, RtpHdrExt, Sctp, SctpRole, Source, SsrcGroup,
    TraceParent, Transport, WebSocket,
};

pub(super) fn conference_modify(
    node: &Value,
    meeting_id: Option<&str>,
) -> Result<ConferenceModify, JsonError> {
    let fields = Fields::new(node, &Path::Root)?;
    let own_id = fields.read("meeting-id", string)?;
    // Of answers only, but JVB's documentation has it in a request.
    fields.list("sources", media_source)?;
    let request = ConferenceModify {
        meeting_id: match meeting_id {
            Some(id) => id.to_owned(),
            None => own_id.ok_or(JsonError::NoMeetingId)?,
        },
        name: fields.read("name", string)?,
        create: fields.flag("create")?,
        expire: fields.flag("expire")?,
        rtcstats_enabled: fields.read("rtcstats-enabled", boolean)?.unwrap_or(true),
        endpoints: fields.list("endpoints", endpoint)?.unwrap_or_default(),
        relays: fields.list("relays", relay)?.unwrap_or_default(),
        connects: fields.list("connects", connect)?,
        traceparent: fields.read("traceparent", traceparent)?,
    };
    fields.finish()?;
    Ok(request)
}

pub(super) fn conference_modified(node: &Value) -> Result<ConferenceModified, JsonError> {
    let fields = Fields::new(node, &Path::Root)?;
    let answer = ConferenceModified {
        endpoints: fields.list("endpoints", endpoint)?.unwrap_or_default(),
        relays: fields.list("relays", relay)?.unwrap_or_default(),
        sources: fields.list("sources", media_source)?,
    };
    fields.finish()?;
    Ok(answer)
}

fn endpoint(node: &Value, path: &Path<'_>) -> Result<Colibri2Endpoint, JsonError> {
    let fields = Fields::new(node, path)?;
    let endpoint = Colibri2Endpoint {
        id: fields.required("id", string)?,
        stats_id: fields.read("stats-id", string)?,
        muc_role: fields.read("muc-role", |node, path| {
            let role = string(node, path)?;
            MucRole::parse(&role).ok_or_else(|| path.error(format!("unknown role {role:?}")))
        })?,
        diarize: fields.read("diarize", boolean)?,
        create: fields.flag("create")?,
        expire: fields.flag("expire")?,
        capabilities: fields.list("capabilities", string)?.unwrap_or_default(),
        transport: fields.read("transport", transport)?,
        media: fields.list("medias", media)?.unwrap_or_default(),
        sources: fields.list("sources", media_source)?,
        initial_last_n: fields.read("initial-last-n", |node, path| {
            let fields = Fields::new(node, path)?;
            let value = fields.required("value", integer)?;
            fields.finish()?;
            Ok(value)
        })?,
        force_mute: fields.read("force-mute", |node, path| {
            let fields = Fields::new(node, path)?;
            let mute = ForceMute { audio: fields.flag("audio")?, video: fields.flag("video")? };
            fields.finish()?;
            Ok(mute)
        })?,
        v1: None,
    };
    fields.finish()?;
    Ok(endpoint)
}

fn relay(node: &Value, path: &Path<'_>) -> Result<Colibri2Relay, JsonError> {
    let fields = Fields::new(node, path)?;
    let relay = Colibri2Relay {
        id: fields.required("id", string)?,
        mesh_id: fields.read("mesh-id", string)?,
        create: fields.flag("create")?,
        expire: fields.flag("expire")?,
        transport: fields.read("transport", transport)?,
        media: fields.list("medias", media)?.unwrap_or_default(),
        sources: fields.list("sources", media_source)?,
        endpoints: fields.list("endpoints", endpoint)?,
    };
    fields.finish()?;
    Ok(relay)
}

fn connect(node: &Value, path: &Path<'_>) -> Result<Connect, JsonError> {
    let fields = Fields::new(node, path)?;
    let connect = Connect {
        id: fields.read("id", string)?,
        create: fields.flag("create")?,
        expire: fields.flag("expire")?,
        url: fields.read("url", string)?,
        protocol: fields.read("protocol", string)?,
        r#type: fields.read("type", string)?,
        audio: fields.flag("audio")?,
        video: fields.flag("video")?,
        http_headers: fields.read("headers", http_headers)?.unwrap_or_default(),
        ping: fields.read("ping", |node, path| {
            let fields = Fields::new(node, path)?;
            let ping = Ping {
                interval: fields.required("interval", integer)?,
                timeout: fields.required("timeout", integer)?,
            };
            fields.finish()?;
            Ok(ping)
        })?,
        exports: fields.list("exports", string)?.unwrap_or_default(),
        requests: fields.list("requests", string)?.unwrap_or_default(),
    };
    fields.finish()?;
    Ok(connect)
}

fn http_headers(node: &Value, path: &Path<'_>) -> Result<Vec<HttpHeader>, JsonError> {
    Fields::new(node, path)?
        .entries()
        .iter()
        .map(|(name, value)| {
            let value = string(value, &Path::Field(path, name))?;
            Ok(HttpHeader { name: name.clone(), value })
        })
        .collect()
}

fn traceparent(node: &Value, path: &Path<'_>) -> Result<TraceParent, JsonError> {
    let fields = Fields::new(node, path)?;
    let trace = TraceParent {
        trace_id: fields.required("trace_id", string)?,
        parent_id: fields.required("parent_id", string)?,
        trace_flags: fields.required("trace_flags", string)?,
    };
    fields.finish()?;
    Ok(trace)
}

fn transport(node: &Value, path: &Path<'_>) -> Result<Transport, JsonError> {
    let fields = Fields::new(node, path)?;
    let transport = Transport {
        ice_controlling: fields.flag("ice-controlling")?,
        use_unique_port: fields.flag("use-unique-port")?,
        ice_restart: fields.flag("ice-restart")?,
        ice_udp: fields.read("transport", ice_udp)?,
        sctp: fields.read("sctp", sctp)?,
    };
    fields.finish()?;
    Ok(transport)
}

fn sctp(node: &Value, path: &Path<'_>) -> Result<Sctp, JsonError> {
    let fields = Fields::new(node, path)?;
    let sctp = Sctp {
        role: fields.read("role", |node, path| {
            let role = string(node, path)?;
            SctpRole::parse(&role).ok_or_else(|| path.error(format!("unknown role {role:?}")))
        })?,
        port: fields.read("port", integer)?,
    };
    fields.finish()?;
    Ok(sctp)
}

fn ice_udp(node: &Value, path: &Path<'_>) -> Result<IceUdp, JsonError> {
    let fields = Fields::new(node, path)?;
    fields.required("xmlns", |node, path| {
        let xmlns = string(node, path)?;
        if xmlns == ICE_UDP_NAMESPACE {
            return Ok(());
        }
        Err(path.error(format!("expected {ICE_UDP_NAMESPACE}, got {xmlns:?}")))
    })?;
    let ice = IceUdp {
        ufrag: fields.read("ufrag", string)?,
        pwd: fields.read("pwd", string)?,
        ice_generation: fields.read("ice-generation", attribute)?,
        // Participants write them and the focus passes them on: one that cannot be read is left out.
        candidates: fields
            .list("candidates", |node, path| Ok(candidate(node, path).ok()))?
            .unwrap_or_default()
            .into_iter()
            .flatten()
            .collect(),
        remote_candidate: fields
            .read("remote-candidate", |node, path| Ok(candidate(node, path).ok()))?
            .flatten(),
        fingerprints: fields.list("fingerprints", fingerprint)?.unwrap_or_default(),
        web_sockets: fields
            .list("web-sockets", |node, path| {
                Ok(match string(node, path)? {
                    active if active == "active" => WebSocket::Active,
                    url => WebSocket::Url(url),
                })
            })?
            .unwrap_or_default(),
        rtcp_mux: fields.flag("rtcp-mux")?,
    };
    fields.finish()?;
    Ok(ice)
}

fn candidate(node: &Value, path: &Path<'_>) -> Result<Candidate, JsonError> {
    let fields = Fields::new(node, path)?;
    let candidate = Candidate {
        component: fields.required("component", attribute)?,
        foundation: fields.required("foundation", text)?,
        generation: fields.read("generation", attribute)?.unwrap_or(0),
        id: fields.read("id", text)?,
        network: fields.read("network", attribute)?,
        priority: fields.required("priority", attribute)?,
        protocol: fields.required("protocol", string)?,
        r#type: fields.required("type", string)?,
        ip: fields.required("ip", string)?,
        port: fields.required("port", attribute)?,
        rel_addr: fields.read("rel-addr", string)?,
        rel_port: fields.read("rel-port", attribute)?,
        tcptype: fields.read("tcptype", string)?,
    };
    fields.finish()?;
    Ok(candidate)
}

fn fingerprint(node: &Value, path: &Path<'_>) -> Result<Fingerprint, JsonError> {
    let fields = Fields::new(node, path)?;
    let fingerprint = Fingerprint {
        hash: fields.read("hash", string)?,
        setup: fields.read("setup", string)?,
        fingerprint: fields.required("fingerprint", string)?,
        cryptex: fields.read("cryptex", boolean)?,
    };
    fields.finish()?;
    Ok(fingerprint)
}

fn media(node: &Value, path: &Path<'_>) -> Result<Media, JsonError> {
    let fields = Fields::new(node, path)?;
    let media = Media {
        r#type: fields.required("type", media_type)?,
        payload_types: fields.list("payload-types", payload_type)?.unwrap_or_default(),
        rtp_hdrexts: fields.list("rtp-hdrexts", rtp_hdrext)?.unwrap_or_default(),
        extmap_allow_mixed: fields.flag("extmap-allow-mixed")?,
    };
    fields.finish()?;
    Ok(media)
}

fn media_type(node: &Value, path: &Path<'_>) -> Result<MediaType, JsonError> {
    match string(node, path)?.as_str() {
        "audio" => Ok(MediaType::Audio),
        "video" => Ok(MediaType::Video),
        other => Err(path.error(format!("expected audio or video, got {other:?}"))),
    }
}

fn payload_type(node: &Value, path: &Path<'_>) -> Result<PayloadType, JsonError> {
    let fields = Fields::new(node, path)?;
    let payload_type = PayloadType {
        id: fields.required("id", |node, path| match attribute::<u8>(node, path)? {
            id @ 0..=127 => Ok(id),
            id => Err(path.error(format!("{id} is out of range"))),
        })?,
        name: fields.required("name", string)?,
        clockrate: fields.read("clockrate", attribute)?,
        channels: fields.read("channels", attribute)?,
        ptime: fields.read("ptime", attribute)?,
        maxptime: fields.read("maxptime", attribute)?,
        parameters: fields.read("parameters", parameters)?.unwrap_or_default(),
        rtcp_fbs: fields.list("rtcp-fbs", rtcp_fb)?.unwrap_or_default(),
    };
    fields.finish()?;
    Ok(payload_type)
}

/// The name `null` stands for a parameter without a name.
fn parameters(node: &Value, path: &Path<'_>) -> Result<Vec<Parameter>, JsonError> {
    Fields::new(node, path)?
        .entries()
        .iter()
        .map(|(name, node)| {
            let value = match node {
                Value::Null => None,
                Value::Bool(value) => Some(value.to_string()),
                other => Some(text(other, &Path::Field(path, name))?),
            };
            Ok(Parameter { name: Some(name.clone()).filter(|name| name != "null"), value })
        })
        .collect()
}

fn rtcp_fb(node: &Value, path: &Path<'_>) -> Result<RtcpFb, JsonError> {
    let fields = Fields::new(node, path)?;
    let feedback = RtcpFb {
        r#type: fields.required("type", string)?,
        subtype: fields.read("subtype", string)?,
    };
    fields.finish()?;
    Ok(feedback)
}

fn rtp_hdrext(node: &Value, path: &Path<'_>) -> Result<RtpHdrExt, JsonError> {
    let fields = Fields::new(node, path)?;
    let extension = RtpHdrExt {
        id: fields.required("id", |node, path| match attribute::<u8>(node, path)? {
            0 => Err(path.error("0 is out of range")),
            id => Ok(id),
        })?,
        uri: fields.required("uri", string)?,
        senders: fields.read("senders", string)?,
        attributes: fields.read("attributes", string)?,
    };
    fields.finish()?;
    Ok(extension)
}

fn media_source(node: &Value, path: &Path<'_>) -> Result<MediaSource, JsonError> {
    let fields = Fields::new(node, path)?;
    let source = MediaSource {
        r#type: fields.required("type", media_type)?,
        id: fields.required("id", string)?,
        synthetic: fields.flag("synthetic")?,
        sources: fields.list("sources", source)?.unwrap_or_default(),
        ssrc_groups: fields.list("ssrc-groups", ssrc_group)?.unwrap_or_default(),
    };
    fields.finish()?;
    Ok(source)
}

/// A stream is an object, or just its SSRC.
fn source(node: &Value, path: &Path<'_>) -> Result<Source, JsonError> {
    if !matches!(node, Value::Object(_)) {
        return Ok(Source { ssrc: ssrc(node, path)?, ..Source::default() });
    }
    let fields = Fields::new(node, path)?;
    let source = Source {
        ssrc: fields.required("ssrc", ssrc)?,
        name: fields.read("name", string)?,
        video_type: fields.read("videoType", string)?,
        rid: fields.read("rid", string)?,
        parameters: fields.read("parameters", parameters)?.unwrap_or_default(),
    };
    fields.finish()?;
    Ok(source)
}

fn ssrc_group(node: &Value, path: &Path<'_>) -> Result<SsrcGroup, JsonError> {
    let fields = Fields::new(node, path)?;
    let group = SsrcGroup {
        semantics: fields.required("semantics", string)?,
        ssrcs: fields
            .list("sources", |node, path| Ok(source(node, path)?.ssrc))?
            .unwrap_or_default(),
    };
    fields.finish()?;
    Ok(group)
}

/// An SSRC, as a number or a string; the upper half may be written as negative numbers.
fn ssrc(node: &Value, path: &Path<'_>) -> Result<u32, JsonError> {
    let value: i64 = attribute(node, path)?;
    u32::try_from(value)
        .ok()
        .or_else(|| i32::try_from(value).ok().map(i32::cast_unsigned))
        .ok_or_else(|| path.error(format!("{value} is not an SSRC")))
}
