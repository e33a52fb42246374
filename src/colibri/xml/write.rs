//! From requests and answers to elements.

use minidom::Element;

use super::{COLIBRI, DTLS, HDREXT, NAMESPACE, RTCP_FB, RTP, SSMA, TRACE, tree::Out};
use crate::colibri::{
    Candidate, Colibri2Endpoint, Colibri2Relay, ConferenceModified, ConferenceModify, Connect,
    Fingerprint, ICE_UDP_NAMESPACE, IceUdp, Media, MediaSource, MucRole, Parameter, PayloadType,
    SctpRole, Source, SsrcGroup, Transport, WebSocket, media::media_type_str,
};

pub(super) fn conference_modify(request: &ConferenceModify) -> Element {
    head(request)
        .maybe(request.traceparent.as_ref(), |trace| {
            Out::new("traceparent", TRACE)
                .put("trace_id", &trace.trace_id)
                .put("parent_id", &trace.parent_id)
                .put("trace_flags", &trace.trace_flags)
        })
        .all(&request.endpoints, endpoint)
        .all(&request.relays, relay)
        .maybe(request.connects.as_ref(), |connects| {
            Out::new("connects", NAMESPACE).all(connects, connect)
        })
        .done()
}

/// A request without its content.
fn head(request: &ConferenceModify) -> Out {
    Out::new("conference-modify", NAMESPACE)
        .put("meeting-id", &request.meeting_id)
        .some("name", request.name.as_ref())
        .some("rtcstats-enabled", (!request.rtcstats_enabled).then_some(false))
        .flag("create", request.create)
        .flag("expire", request.expire)
}

pub(super) fn conference_modified(answer: &ConferenceModified) -> Element {
    Out::new("conference-modified", NAMESPACE)
        .all(&answer.endpoints, endpoint)
        .all(&answer.relays, relay)
        .maybe(answer.sources.as_ref(), |list| sources(list))
        .done()
}

pub(super) fn endpoint(endpoint: &Colibri2Endpoint) -> Out {
    Out::new("endpoint", NAMESPACE)
        .put("id", &endpoint.id)
        .flag("create", endpoint.create)
        .flag("expire", endpoint.expire)
        .some("stats-id", endpoint.stats_id.as_ref())
        .some("muc-role", endpoint.muc_role.map(MucRole::as_str))
        .some("diarize", endpoint.diarize)
        .all(&endpoint.media, media)
        .maybe(endpoint.transport.as_ref(), transport)
        .maybe(endpoint.sources.as_ref(), |list| sources(list))
        .maybe(endpoint.force_mute, |mute| {
            Out::new("force-mute", NAMESPACE).flag("audio", mute.audio).flag("video", mute.video)
        })
        .all(&endpoint.capabilities, |name| Out::new("capability", NAMESPACE).put("name", name))
        .maybe(endpoint.initial_last_n, |n| Out::new("initial-last-n", NAMESPACE).put("value", n))
}

fn relay(relay: &Colibri2Relay) -> Out {
    Out::new("relay", NAMESPACE)
        .put("id", &relay.id)
        .flag("create", relay.create)
        .flag("expire", relay.expire)
        .some("mesh-id", relay.mesh_id.as_ref())
        .all(&relay.media, media)
        .maybe(relay.transport.as_ref(), transport)
        .maybe(relay.sources.as_ref(), |list| sources(list))
        .maybe(relay.endpoints.as_ref(), |list| {
            Out::new("endpoints", NAMESPACE).all(list, endpoint)
        })
}

fn connect(connect: &Connect) -> Out {
    let names = |list: &'static str, item: &'static str, names: &[String]| {
        (!names.is_empty()).then(|| {
            Out::new(list, NAMESPACE).all(names, |name| Out::new(item, NAMESPACE).put("name", name))
        })
    };
    Out::new("connect", NAMESPACE)
        .some("id", connect.id.as_ref())
        .flag("create", connect.create)
        .flag("expire", connect.expire)
        .some("url", connect.url.as_ref())
        .some("protocol", connect.protocol.as_ref())
        .some("type", connect.r#type.as_ref())
        .flag("audio", connect.audio)
        .flag("video", connect.video)
        .all(&connect.http_headers, |header| {
            Out::new("http-header", NAMESPACE).put("name", &header.name).put("value", &header.value)
        })
        .maybe(connect.ping, |ping| {
            Out::new("ping", NAMESPACE).put("interval", ping.interval).put("timeout", ping.timeout)
        })
        .maybe(names("exports", "export", &connect.exports), |list| list)
        .maybe(names("requests", "request", &connect.requests), |list| list)
}

fn transport(transport: &Transport) -> Out {
    Out::new("transport", NAMESPACE)
        .flag("ice-controlling", transport.ice_controlling)
        .flag("use-unique-port", transport.use_unique_port)
        .flag("ice-restart", transport.ice_restart)
        .maybe(transport.ice_udp.as_ref(), ice_udp)
        .maybe(transport.sctp, |sctp| {
            Out::new("sctp", NAMESPACE)
                .some("role", sctp.role.map(SctpRole::as_str))
                .some("port", sctp.port)
        })
}

pub(in crate::colibri) fn ice_udp(ice: &IceUdp) -> Out {
    Out::new("transport", ICE_UDP_NAMESPACE)
        .some("ufrag", ice.ufrag.as_ref())
        .some("pwd", ice.pwd.as_ref())
        .some("ice-generation", ice.ice_generation)
        .present("rtcp-mux", ICE_UDP_NAMESPACE, ice.rtcp_mux)
        .all(&ice.fingerprints, fingerprint)
        .all(&ice.web_sockets, |socket| match socket {
            WebSocket::Url(url) => Out::new("web-socket", COLIBRI).put("url", url),
            WebSocket::Active => Out::new("web-socket", COLIBRI).put("active", true),
        })
        .all(&ice.candidates, |one| candidate("candidate", one))
        .maybe(ice.remote_candidate.as_ref(), |one| candidate("remote-candidate", one))
}

fn fingerprint(fingerprint: &Fingerprint) -> Out {
    Out::new("fingerprint", DTLS)
        .some("hash", fingerprint.hash.as_ref())
        .some("setup", fingerprint.setup.as_ref())
        .some("cryptex", fingerprint.cryptex)
        .text(&fingerprint.fingerprint)
}

fn candidate(name: &str, candidate: &Candidate) -> Out {
    Out::new(name, ICE_UDP_NAMESPACE)
        .put("component", candidate.component)
        .put("foundation", &candidate.foundation)
        .put("generation", candidate.generation)
        .some("id", candidate.id.as_ref())
        .some("network", candidate.network)
        .put("priority", candidate.priority)
        .put("protocol", &candidate.protocol)
        .put("type", &candidate.r#type)
        .put("ip", &candidate.ip)
        .put("port", candidate.port)
        .some("rel-addr", candidate.rel_addr.as_ref())
        .some("rel-port", candidate.rel_port)
        .some("tcptype", candidate.tcptype.as_ref())
}

fn media(media: &Media) -> Out {
    Out::new("media", NAMESPACE)
        .put("type", media_type_str(media.r#type))
        .all(&media.payload_types, payload_type)
        .all(&media.rtp_hdrexts, |extension| {
            Out::new("rtp-hdrext", HDREXT)
                .put("id", extension.id)
                .put("uri", &extension.uri)
                .some("senders", extension.senders.as_ref())
                .some("attributes", extension.attributes.as_ref())
        })
        .present("extmap-allow-mixed", HDREXT, media.extmap_allow_mixed)
}

pub(in crate::colibri) fn payload_type(payload_type: &PayloadType) -> Out {
    Out::new("payload-type", RTP)
        .put("id", payload_type.id)
        .put("name", &payload_type.name)
        .some("clockrate", payload_type.clockrate)
        .some("channels", payload_type.channels)
        .some("ptime", payload_type.ptime)
        .some("maxptime", payload_type.maxptime)
        .all(&payload_type.parameters, |one| parameter(RTP, one))
        .all(&payload_type.rtcp_fbs, |feedback| {
            Out::new("rtcp-fb", RTCP_FB)
                .put("type", &feedback.r#type)
                .some("subtype", feedback.subtype.as_ref())
        })
}

fn parameter(namespace: &str, parameter: &Parameter) -> Out {
    Out::new("parameter", namespace)
        .some("name", parameter.name.as_ref())
        .some("value", parameter.value.as_ref())
}

fn sources(sources: &[MediaSource]) -> Out {
    Out::new("sources", NAMESPACE).all(sources, |source| {
        Out::new("media-source", NAMESPACE)
            .put("type", media_type_str(source.r#type))
            .put("id", &source.id)
            .flag("synthetic", source.synthetic)
            .all(&source.sources, stream)
            .all(&source.ssrc_groups, ssrc_group)
    })
}

fn stream(source: &Source) -> Out {
    Out::new("source", SSMA)
        .put("ssrc", source.ssrc)
        .some("name", source.name.as_ref())
        .some("videoType", source.video_type.as_ref())
        .some("rid", source.rid.as_ref())
        .all(&source.parameters, |one| parameter(SSMA, one))
}

pub(in crate::colibri) fn ssrc_group(group: &SsrcGroup) -> Out {
    Out::new("ssrc-group", SSMA)
        .put("semantics", &group.semantics)
        .all(&group.ssrcs, |ssrc| Out::new("source", SSMA).put("ssrc", ssrc))
}
