//! From an element to a request.

use minidom::Element;

use super::{Bundle, Channel, Conference, Content, Direction, Kind, NAMESPACE, Named};
use crate::colibri::{
    ColibriError, Condition, ICE_UDP_NAMESPACE, Parameter, PayloadType, RtcpFb, RtpHdrExt, Source,
    SsrcGroup,
    xml::{
        SSMA,
        read::{ice_udp, payload_type, rtp_hdrext, ssrc},
        tree::Node,
    },
};

type Result<T> = std::result::Result<T, ColibriError>;

/// Content names of the protocol that carry nothing here.
const OTHERS: [&str; 5] = ["text", "application", "message", "image", "control"];

pub(crate) fn conference(element: &Element) -> Result<Conference> {
    let node = Node::root(element);
    Ok(Conference {
        id: some(node.attr("id")),
        gid: some(node.attr("gid")),
        name: some(node.attr("name")),
        contents: node.all("content", NAMESPACE, content)?,
        bundles: node.readable("channel-bundle", NAMESPACE, bundle),
        endpoints: node.all("endpoint", NAMESPACE, |node| {
            Ok(Named {
                id: node.required("id").map_err(|_| unreadable())?,
                stats_id: some(node.attr("stats-id")),
                display_name: some(node.attr("displayname")),
            })
        })?,
    })
}

/// Empty attributes count as missing.
fn some(attribute: Option<String>) -> Option<String> {
    attribute.filter(|text| !text.is_empty())
}

/// What JVB answers when its parser gives up.
fn unreadable() -> ColibriError {
    ColibriError::new(Condition::InternalServerError, "")
}

fn content(node: &Node<'_>) -> Result<Content> {
    let name = node.attr("name").unwrap_or_default();
    let kind = match name.to_ascii_lowercase().as_str() {
        "audio" => Kind::Audio,
        "video" => Kind::Video,
        "data" => Kind::Data,
        other if OTHERS.contains(&other) => Kind::Other,
        _ => {
            let quoted: String = name.chars().take(64).collect();
            let text = format!("{quoted} is not a currently supported MediaType");
            return Err(ColibriError::new(Condition::InternalServerError, text));
        }
    };
    let associations = node.all("sctpconnection", NAMESPACE, channel)?;
    Ok(Content {
        kind,
        name,
        channels: node.all("channel", NAMESPACE, channel)?,
        // One with neither id nor endpoint is nothing.
        associations: associations
            .into_iter()
            .filter(|one| one.id.is_some() || one.endpoint.is_some())
            .collect(),
    })
}

fn channel(node: &Node<'_>) -> Result<Channel> {
    let expire = match node.number::<i32>("expire").map_err(|_| unreadable())? {
        None | Some(-1) => None,
        Some(seconds) => Some(u32::try_from(seconds).map_err(|_| unreadable())?),
    };
    // Nothing is made of it, but it must be a number.
    node.number::<i32>("packet-delay").map_err(|_| unreadable())?;
    let direction = match some(node.attr("direction")) {
        Some(text) => Direction::parse(&text).ok_or_else(unreadable)?,
        None => Direction::default(),
    };
    if let Some(relay) = some(node.attr("rtp-level-relay-type"))
        && !["translator", "mixer"].contains(&relay.as_str())
    {
        return Err(unreadable());
    }
    Ok(Channel {
        id: some(node.attr("id")),
        endpoint: some(node.attr("endpoint")),
        bundle: some(node.attr("channel-bundle-id")),
        expire,
        initiator: node.flag("initiator"),
        octo: node.attr("type").is_some_and(|kind| kind == "octo"),
        direction,
        last_n: node.number("last-n").map_err(|_| unreadable())?,
        payload_types: node.readable_of_any("payload-type", any_payload_type),
        extensions: extensions(node),
        sources: sources(node)?,
        groups: groups(node)?,
        has_transport: node.has("transport", ICE_UDP_NAMESPACE),
    })
}

/// Its children may have any namespace. Opus is always stereo.
fn any_payload_type(node: &Node<'_>) -> Option<PayloadType> {
    let mut read = payload_type(node)?;
    if read.name.eq_ignore_ascii_case("opus") {
        read.channels = Some(2);
    }
    read.parameters = any_parameters(node);
    read.rtcp_fbs = node.readable_of_any("rtcp-fb", |node| {
        Some(RtcpFb { r#type: node.attr("type")?, subtype: node.attr("subtype") })
    });
    Some(read)
}

fn any_parameters(node: &Node<'_>) -> Vec<Parameter> {
    node.readable_of_any("parameter", |node| {
        Some(Parameter { name: node.attr("name"), value: node.attr("value") })
    })
}

/// The last of an id wins; ids beyond the one-byte form are not taken.
fn extensions(node: &Node<'_>) -> Vec<RtpHdrExt> {
    let mut extensions: Vec<RtpHdrExt> = Vec::new();
    for one in node.readable_of_any("rtp-hdrext", rtp_hdrext) {
        if one.id <= 14 {
            extensions.retain(|other| other.id != one.id);
            extensions.push(one);
        }
    }
    extensions
}

/// `None` without any; one without an SSRC means that there are none.
fn sources(node: &Node<'_>) -> Result<Option<Vec<Source>>> {
    let all = node.all("source", SSMA, |node| {
        if node.attr("ssrc").is_none() {
            return Ok(None);
        }
        Ok(Some(Source {
            ssrc: ssrc(node).map_err(|_| unreadable())?,
            name: some(node.attr("name")),
            video_type: some(node.attr("videoType")),
            rid: some(node.attr("rid")),
            parameters: any_parameters(node),
        }))
    })?;
    Ok((!all.is_empty()).then(|| all.into_iter().flatten().collect()))
}

/// As [`sources`]: a group without streams means that there are none.
fn groups(node: &Node<'_>) -> Result<Option<Vec<SsrcGroup>>> {
    let all = node.all("ssrc-group", SSMA, |node| {
        Ok(SsrcGroup {
            semantics: node.attr("semantics").unwrap_or_default(),
            ssrcs: node.all("source", SSMA, ssrc).map_err(|_| unreadable())?,
        })
    })?;
    let any = !all.is_empty();
    Ok(any.then(|| all.into_iter().filter(|group| group.ssrcs.len() >= 2).collect()))
}

fn bundle(node: &Node<'_>) -> Option<Bundle> {
    Some(Bundle {
        id: some(node.attr("id"))?,
        transport: node
            .first("transport", ICE_UDP_NAMESPACE, |node| Ok(ice_udp(node)))
            .ok()
            .flatten(),
    })
}
