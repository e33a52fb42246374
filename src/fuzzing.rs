//! Entry points of the fuzz targets, so that a stable toolchain can replay their corpora.
//!
//! Each target under `fuzz/fuzz_targets/` calls one function of [`TARGETS`]; the same bytes that it
//! found are kept in `fuzz/corpus/<name>/` and replayed by `tests/fuzz_corpus.rs`. A target panics
//! when an invariant is broken, and only then.

use std::sync::Arc;

pub(crate) mod script;
mod stranger;

use crate::channel::{ToBridge, ToClient};
use crate::colibri::{json, v1, xml};
use crate::faces::colibri2;
use crate::focus::sdp::{self, Description};
use crate::xmpp::{self, Stanza};
use stranger::Stranger;

/// A fuzz target: it panics when an invariant is broken.
pub type Target = fn(&[u8]);

/// Name and function of each fuzz target.
pub const TARGETS: &[(&str, Target)] = &[
    ("channel_message", channel_message),
    ("colibri_json", colibri_json),
    ("colibri_xml", colibri_xml),
    ("colibri_v1", colibri_v1),
    ("config", configuration),
    ("http", http),
    ("key_store", key_store),
    ("modify", modify),
    ("properties", properties),
    ("sasl", sasl),
    ("sdp", session_description),
    ("top", top),
    ("web_socket", web_socket),
    ("wishes", wishes),
    ("xmpp_client", xmpp_client),
    ("xmpp_component", xmpp_component),
    ("xmpp_server", xmpp_server),
    ("xmpp_stream", xmpp_stream),
];

/// A client's bytes on a WebSocket are the same frames however they are cut, and little of them is held.
pub fn web_socket(data: &[u8]) {
    crate::http::frames::read_both_ways(data);
}

/// A client's bytes on a connection to the private and the public server.
pub fn http(data: &[u8]) {
    crate::http::fuzz::connection(data);
}

/// A key store of any bytes.
pub fn key_store(data: &[u8]) {
    crate::http::key_store::fuzz(data);
}

/// What a server answers to `rialto top`.
pub fn top(data: &[u8]) {
    crate::cli::top::fuzz(data);
}

/// Sequences of COLIBRI requests to one conference.
pub fn modify(data: &[u8]) {
    crate::conference::fuzz::modify(data);
}

/// Sequences of receiver constraints over channels.
pub fn wishes(data: &[u8]) {
    crate::conference::fuzz::wishes(data);
}

/// A server that sends anything to the bridge's client, while time passes.
pub fn xmpp_server(data: &[u8]) {
    xmpp::client::fuzz::server(data);
}

/// A message of a client is refused or understood, and what is relayed of it is valid and small.
pub fn channel_message(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(message) = ToBridge::parse(text) else { return };
    let (to, from, fields) = match &message {
        ToBridge::Endpoint { to, fields } => (Some(to), "abcd1234", fields),
        ToBridge::Stats { fields } => (None, "abcd1234", fields),
        _ => return,
    };
    let written = match to {
        Some(to) => ToClient::Endpoint { to, from, fields }.text(),
        None => ToClient::Stats { from, fields }.text(),
    };
    // Numbers are written without exponents up to 1e16.
    assert!(written.len() <= 8 * data.len() + 64);
    if written.len() <= crate::channel::message::MAX_BYTES {
        assert!(ToBridge::parse(&written).is_ok(), "{written}");
    }
}

/// A request or an answer that is read is written, and reads the same again.
pub fn colibri_json(data: &[u8]) {
    if let Ok(request) = json::read_conference_modify(data, Some("meeting")) {
        let written = json::write_conference_modify(&request).to_string();
        assert_eq!(json::read_conference_modify(written.as_bytes(), None), Ok(request));
    }
    if let Ok(answer) = json::read_conference_modified(data) {
        let written = json::write_conference_modified(&answer).to_string();
        assert_eq!(json::read_conference_modified(written.as_bytes()), Ok(answer));
    }
}

/// A stanza is answered, passed on or ignored; a request or an answer that is read is written, and reads
/// the same again.
pub fn colibri_xml(data: &[u8]) {
    let Ok(stanza) = xmpp::parse(data, "jabber:client", xmpp::Limits::default()) else { return };
    let about = colibri2::About::default();
    if let colibri2::Step::Answer(answer) = colibri2::handle(&stanza, &about) {
        assert!(matches!(reparsed(&answer), Stanza::Whole(_)));
    }
    let Stanza::Whole(element) = stanza else { return };
    for element in element.children().chain([&element]) {
        if let Ok(request) = xml::read_conference_modify(element) {
            let Stanza::Whole(written) = reparsed(&xml::write_conference_modify(&request)) else {
                panic!("what is written is not larger than what was read");
            };
            assert_eq!(xml::read_conference_modify(&written), Ok(request));
        }
        if let Ok(answer) = xml::read_conference_modified(element) {
            let Stanza::Whole(written) = reparsed(&xml::write_conference_modified(&answer)) else {
                panic!("what is written is not larger than what was read");
            };
            assert_eq!(xml::read_conference_modified(&written), Ok(answer));
        }
    }
}

/// A request of COLIBRI 1 is refused or understood.
pub fn colibri_v1(data: &[u8]) {
    if let Ok(Stanza::Whole(element)) = xmpp::parse(data, v1::NAMESPACE, xmpp::Limits::default()) {
        crate::faces::colibri1::fuzz::request(&element);
    }
}

/// A server's bytes to the bridge's client: the first byte decides whether it is logged in.
pub fn xmpp_client(data: &[u8]) {
    if let Some((first, rest)) = data.split_first() {
        xmpp::client::fuzz::bytes(rest, *first == b'+', Arc::new(Stranger::InRooms));
    }
}

/// A server's bytes to the bridge's component.
pub fn xmpp_component(data: &[u8]) {
    let stranger = Arc::new(Stranger::ByComponent);
    xmpp::component::fuzz::bytes(data, stranger.clone(), stranger);
}

/// A server's side of a SASL exchange.
pub fn sasl(data: &[u8]) {
    xmpp::client::fuzz::sasl(data);
}

/// A stream is the same however its bytes come, and nothing in it is larger than its limits.
pub fn xmpp_stream(data: &[u8]) {
    xmpp::offline::fuzz(data);
}

/// An element as the other side parses it.
fn reparsed(element: &minidom::Element) -> Stanza {
    let mut bytes = Vec::new();
    element.write_to(&mut bytes).expect("what is built can be written");
    let generous = xmpp::Limits { elements: usize::MAX, bytes: 1 << 24, ..Default::default() };
    xmpp::parse(&bytes, "jabber:client", generous).expect("what is written can be read")
}

/// Whatever a configuration file holds, the result is a configuration or an error of one line.
pub fn configuration(data: &[u8]) {
    crate::config::fuzz(data);
}

/// The same for the legacy properties file.
pub fn properties(data: &[u8]) {
    crate::config::fuzz_legacy(data);
}

/// A description that is read can be written, and what is written is read unless it grew too long.
pub fn session_description(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(description) = Description::parse(text) {
        let again = Description::parse(&description.to_string());
        assert!(matches!(again, Ok(_) | Err(sdp::Error::TooLong)), "{again:?}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_target_panics(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            for (_, target) in super::TARGETS {
                target(&bytes);
            }
        }
    }
}
