//! From elements to requests and answers.

use minidom::Element;
use rialto_media::MediaType;

use super::{COLIBRI, DTLS, HDREXT, NAMESPACE, RTCP_FB, RTP, SSMA, TRACE, tree::Node};
use crate::colibri::{
    Candidate, Colibri2Endpoint, Colibri2Relay, ColibriError, ConferenceModified, ConferenceModify,
    Connect, Fingerprint, ForceMute, HttpHeader, ICE_UDP_NAMESPACE, IceUdp, Media, MediaSource,
    MucRole, Parameter, PayloadType, Ping, RtcpFb, RtpHdrExt, Sctp, SctpRole, Source, SsrcGroup,
    TraceParent, Transport, WebSocket,
};

type Result<T> = std::result::Result<T, ColibriError>;

/// Media that other bridges and clients know and this bridge has no use for.
const OTHER_MEDIA: [&str; 5] = ["application", "data", "image", "message", "text"];

pub(super) fn conference_modify(element: &Element) -> Result<ConferenceModify> {
    let node = Node::root(element);
    let meeting_id = node.required("meeting-id")?;
    if meeting_id.trim().is_empty() {
        return Err(node.wrong("meeting-id", &meeting_id));
    }
    Ok(ConferenceModify {
        meeting_id,
        name: node.attr("name"),
        create: node.flag("create"),
        expire: node.flag("expire"),
        rtcstats_enabled: node.maybe_flag("rtcstats-enabled").unwrap_or(true),
        endpoints: node.all("endpoint", NAMESPACE, endpoint)?,
        relays: node.all("relay", NAMESPACE, relay)?,
        connects: node
            .first("connects", NAMESPACE, |node| node.all("connect", NAMESPACE, connect))?,
        traceparent: node.readable("traceparent", TRACE, traceparent).into_iter().next(),
    })
}

pub(super) fn conference_modified(element: &Element) -> Result<ConferenceModified> {
    let node = Node::root(element);
    Ok(ConferenceModified {
        endpoints: node.all("endpoint", NAMESPACE, endpoint)?,
        relays: node.all("relay", NAMESPACE, relay)?,
        sources: node.first("sources", NAMESPACE, sources)?,
    })
}

/// An endpoint, also as [`super::read_error`] finds it.
pub(super) fn endpoint(node: &Node<'_>) -> Result<Colibri2Endpoint> {
    Ok(Colibri2Endpoint {
        id: node.required("id")?,
        stats_id: node.attr("stats-id"),
        muc_role: match node.attr("muc-role") {
            Some(role) => Some(MucRole::parse(&role).ok_or_else(|| node.wrong("muc-role", &role))?),
            None => None,
        },
        diarize: node.maybe_flag("diarize"),
        create: node.flag("create"),
        expire: node.flag("expire"),
        capabilities: node.readable("capability", NAMESPACE, |node| node.attr("name")),
        transport: node.first("transport", NAMESPACE, transport)?,
        media: medias(node)?,
        sources: node.first("sources", NAMESPACE, sources)?,
        initial_last_n: node.first("initial-last-n", NAMESPACE, |node| {
            node.number("value")?.ok_or_else(|| node.error("value must be set"))
        })?,
        force_mute: node.first("force-mute", NAMESPACE, |node| {
            Ok(ForceMute { audio: node.flag("audio"), video: node.flag("video") })
        })?,
        v1: None,
    })
}

fn relay(node: &Node<'_>) -> Result<Colibri2Relay> {
    Ok(Colibri2Relay {
        id: node.required("id")?,
        mesh_id: node.attr("mesh-id"),
        create: node.flag("create"),
        expire: node.flag("expire"),
        transport: node.first("transport", NAMESPACE, transport)?,
        media: medias(node)?,
        sources: node.first("sources", NAMESPACE, sources)?,
        endpoints: node
            .first("endpoints", NAMESPACE, |node| node.all("endpoint", NAMESPACE, endpoint))?,
    })
}

fn connect(node: &Node<'_>) -> Result<Connect> {
    let names = |node: &Node<'_>, list: &str, item: &str| {
        let names = node.first(list, NAMESPACE, |node| {
            node.all(item, NAMESPACE, |node| node.required("name"))
        })?;
        Ok(names.unwrap_or_default())
    };
    Ok(Connect {
        id: node.attr("id"),
        create: node.flag("create"),
        expire: node.flag("expire"),
        url: node.attr("url"),
        protocol: node.attr("protocol"),
        r#type: node.attr("type"),
        audio: node.flag("audio"),
        video: node.flag("video"),
        http_headers: node.all("http-header", NAMESPACE, |node| {
            Ok(HttpHeader { name: node.required("name")?, value: node.required("value")? })
        })?,
        ping: node.first("ping", NAMESPACE, |node| {
            let required = |name| {
                let wanted = node.number(name)?;
                wanted.ok_or_else(|| node.error(&format!("{name} must be set")))
            };
            Ok(Ping { interval: required("interval")?, timeout: required("timeout")? })
        })?,
        exports: names(node, "exports", "export")?,
        requests: names(node, "requests", "request")?,
    })
}

/// A trace context that is not whole is none.
fn traceparent(node: &Node<'_>) -> Option<TraceParent> {
    Some(TraceParent {
        trace_id: node.attr("trace_id")?,
        parent_id: node.attr("parent_id")?,
        trace_flags: node.attr("trace_flags")?,
    })
}

fn transport(node: &Node<'_>) -> Result<Transport> {
    Ok(Transport {
        ice_controlling: node.flag("ice-controlling"),
        use_unique_port: node.flag("use-unique-port"),
        ice_restart: node.flag("ice-restart"),
        ice_udp: node.first("transport", ICE_UDP_NAMESPACE, |node| Ok(ice_udp(node)))?,
        sctp: node.first("sctp", NAMESPACE, sctp)?,
    })
}

fn sctp(node: &Node<'_>) -> Result<Sctp> {
    let role = match node.attr("role") {
        Some(role) => Some(
            SctpRole::parse(&role.to_ascii_lowercase()).ok_or_else(|| node.wrong("role", &role))?,
        ),
        None => None,
    };
    Ok(Sctp { role, port: node.number("port")? })
}

pub(in crate::colibri) fn ice_udp(node: &Node<'_>) -> IceUdp {
    IceUdp {
        ufrag: node.attr("ufrag"),
        pwd: node.attr("pwd"),
        ice_generation: node.number_if_any("ice-generation"),
        candidates: node.readable("candidate", ICE_UDP_NAMESPACE, candidate),
        remote_candidate: node
            .readable("remote-candidate", ICE_UDP_NAMESPACE, candidate)
            .into_iter()
            .next(),
        fingerprints: node.readable("fingerprint", DTLS, |node| {
            Some(Fingerprint {
                hash: node.attr("hash"),
                setup: node.attr("setup"),
                fingerprint: node.text(),
                cryptex: node.maybe_flag("cryptex"),
            })
        }),
        web_sockets: node.readable("web-socket", COLIBRI, |node| {
            if node.flag("active") {
                return Some(WebSocket::Active);
            }
            node.attr("url").map(WebSocket::Url)
        }),
        rtcp_mux: node.has("rtcp-mux", ICE_UDP_NAMESPACE),
    }
}

fn candidate(node: &Node<'_>) -> Option<Candidate> {
    Some(Candidate {
        component: node.number_if_any("component")?,
        foundation: node.attr("foundation")?,
        generation: node.number_if_any("generation").unwrap_or(0),
        id: node.attr("id"),
        network: node.number_if_any("network"),
        priority: node.number_if_any("priority")?,
        protocol: node.attr("protocol")?,
        r#type: node.attr("type")?,
        ip: node.attr("ip")?,
        port: node.number_if_any("port")?,
        rel_addr: node.attr("rel-addr"),
        rel_port: node.number_if_any("rel-port"),
        tcptype: node.attr("tcptype"),
    })
}

fn medias(node: &Node<'_>) -> Result<Vec<Media>> {
    let medias = node.all("media", NAMESPACE, |node| {
        let Some(r#type) = media_type(node)? else { return Ok(None) };
        Ok(Some(Media {
            r#type,
            payload_types: node.readable("payload-type", RTP, payload_type),
            rtp_hdrexts: node.readable("rtp-hdrext", HDREXT, rtp_hdrext),
            extmap_allow_mixed: node.has("extmap-allow-mixed", HDREXT),
        }))
    })?;
    Ok(medias.into_iter().flatten().collect())
}

/// `None` for media that this bridge has no use for.
fn media_type(node: &Node<'_>) -> Result<Option<MediaType>> {
    match node.required("type")?.as_str() {
        "audio" => Ok(Some(MediaType::Audio)),
        "video" => Ok(Some(MediaType::Video)),
        other if OTHER_MEDIA.contains(&other) => Ok(None),
        other => Err(node.wrong("type", other)),
    }
}

pub(in crate::colibri) fn payload_type(node: &Node<'_>) -> Option<PayloadType> {
    Some(PayloadType {
        id: node.number_if_any("id").filter(|id| *id <= 127)?,
        name: node.attr("name").unwrap_or_default(),
        clockrate: node.number_if_any("clockrate"),
        channels: node.number_if_any("channels"),
        ptime: node.number_if_any("ptime"),
        maxptime: node.number_if_any("maxptime"),
        parameters: parameters(node, RTP),
        rtcp_fbs: node.readable("rtcp-fb", RTCP_FB, |node| {
            Some(RtcpFb { r#type: node.attr("type")?, subtype: node.attr("subtype") })
        }),
    })
}

pub(in crate::colibri) fn parameters(node: &Node<'_>, namespace: &str) -> Vec<Parameter> {
    node.readable("parameter", namespace, |node| {
        Some(Parameter { name: node.attr("name"), value: node.attr("value") })
    })
}

pub(in crate::colibri) fn rtp_hdrext(node: &Node<'_>) -> Option<RtpHdrExt> {
    Some(RtpHdrExt {
        id: node.number_if_any("id").filter(|id| *id != 0)?,
        uri: node.attr("uri")?,
        senders: node.attr("senders"),
        attributes: node.attr("attributes"),
    })
}

fn sources(node: &Node<'_>) -> Result<Vec<MediaSource>> {
    let sources = node.all("media-source", NAMESPACE, |node| {
        let Some(r#type) = media_type(node)? else { return Ok(None) };
        Ok(Some(MediaSource {
            r#type,
            id: node.required("id")?,
            synthetic: node.flag("synthetic"),
            sources: node.all("source", SSMA, |node| {
                Ok(Source {
                    ssrc: ssrc(node)?,
                    name: node.attr("name"),
                    video_type: node.attr("videoType"),
                    rid: node.attr("rid"),
                    parameters: parameters(node, SSMA),
                })
            })?,
            ssrc_groups: node.all("ssrc-group", SSMA, |node| {
                Ok(SsrcGroup {
                    semantics: node.required("semantics")?,
                    ssrcs: node.all("source", SSMA, ssrc)?,
                })
            })?,
        }))
    })?;
    Ok(sources.into_iter().flatten().collect())
}

/// An SSRC; the upper half may be written as negative numbers.
pub(in crate::colibri) fn ssrc(node: &Node<'_>) -> Result<u32> {
    let value: i64 = node.number("ssrc")?.ok_or_else(|| node.error("ssrc must be set"))?;
    u32::try_from(value)
        .ok()
        .or_else(|| i32::try_from(value).ok().map(i32::cast_unsigned))
        .ok_or_else(|| node.wrong("ssrc", &value.to_string()))
}
