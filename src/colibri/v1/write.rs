//! From an answer to an element.

use minidom::Element;

use super::{Answer, AnsweredChannel, Bundle, Direction, NAMESPACE, Named};
use crate::colibri::{
    ColibriError, Reason, SCTP_PORT,
    xml::{
        self, SSMA,
        tree::Out,
        write::{ice_udp, ssrc_group},
    },
};

pub(crate) fn answer(answer: &Answer) -> Element {
    Out::new("conference", NAMESPACE)
        .put("id", &answer.id)
        .some("name", answer.name.as_ref())
        .all(&answer.contents, |content| {
            Out::new("content", NAMESPACE)
                .put("name", &content.name)
                .all(&content.channels, channel)
        })
        .all(&answer.bundles, |Bundle { id, transport }| {
            Out::new("channel-bundle", NAMESPACE).put("id", id).maybe(transport.as_ref(), ice_udp)
        })
        .all(&answer.endpoints, |Named { id, stats_id, display_name }| {
            Out::new("endpoint", NAMESPACE)
                .put("id", id)
                .some("stats-id", stats_id.as_ref())
                .some("displayname", display_name.as_ref())
        })
        .present("graceful-shutdown", NAMESPACE, answer.graceful_shutdown)
        .done()
}

fn channel(channel: &AnsweredChannel) -> Out {
    let name = if channel.association { "sctpconnection" } else { "channel" };
    let out = Out::new(name, NAMESPACE)
        .put("endpoint", &channel.endpoint)
        .put("id", &channel.id)
        .put("initiator", true)
        .put("channel-bundle-id", &channel.endpoint);
    if channel.association {
        return out.put("port", SCTP_PORT);
    }
    let direction = (channel.direction != Direction::default()).then(|| channel.direction.as_str());
    out.some("direction", direction)
        .put("last-n", channel.last_n)
        .put("rtp-level-relay-type", "translator")
        .maybe(channel.own_ssrc, |ssrc| Out::new("source", SSMA).put("ssrc", ssrc))
        .all(&channel.groups, ssrc_group)
        .all(&channel.ssrcs, |ssrc| Out::new("ssrc", NAMESPACE).text(&ssrc.to_string()))
}

/// `<error>`: COLIBRI2's reasons are not known here, but for the refusal of new conferences.
/// `namespace`: that of the stanza that it goes into.
pub(crate) fn error(error: &ColibriError, namespace: &str) -> Element {
    let plain = ColibriError { reason: None, endpoint: None, ..error.clone() };
    if error.reason != Some(Reason::GracefulShutdown) {
        return xml::write_error(&plain, namespace);
    }
    let mut element = xml::write_error(&ColibriError { text: String::new(), ..plain }, namespace);
    element.append_child(Out::new("graceful-shutdown", NAMESPACE).done());
    element
}
