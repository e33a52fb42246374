//! The XML form of allocation requests and answers (`jitsi:colibri2`), as a focus sends them in IQs.
//!
//! Reading follows Jitsi Videobridge: unknown elements and attributes are ignored, an element that may occur
//! once counts the first time, and a flag is `true` or not. The names of conferences, endpoints and streams
//! must be valid. What a participant wrote and the focus only passes on (candidates, fingerprints, formats)
//! is left out when it cannot be read: a refused request costs every participant of the conference a new
//! session, and one participant must not be able to cause that.
//!
//! Only elements are handled here. Their depth and size are bounded where bytes become elements
//! (`crate::xmpp::Limits`).

mod error;
pub(super) mod read;
pub(super) mod tree;
pub(super) mod write;

use minidom::Element;

pub use error::{STANZA_ERRORS, read_error, write_error};

use super::{ColibriError, ConferenceModified, ConferenceModify};

/// The namespace of requests and answers.
pub const NAMESPACE: &str = "jitsi:colibri2";

/// The namespace of payload types and their parameters (XEP-0167).
pub(super) const RTP: &str = "urn:xmpp:jingle:apps:rtp:1";
/// The namespace of RTCP feedback (XEP-0293).
const RTCP_FB: &str = "urn:xmpp:jingle:apps:rtp:rtcp-fb:0";
/// The namespace of header extensions (XEP-0294).
pub(super) const HDREXT: &str = "urn:xmpp:jingle:apps:rtp:rtp-hdrext:0";
/// The namespace of sources (XEP-0339).
pub(super) const SSMA: &str = "urn:xmpp:jingle:apps:rtp:ssma:0";
/// The namespace of fingerprints (XEP-0320).
const DTLS: &str = "urn:xmpp:jingle:apps:dtls:0";
/// The namespace of the bridge channel's address.
pub(super) const COLIBRI: &str = "http://jitsi.org/protocol/colibri";
/// The namespace of the trace context.
const TRACE: &str = "jitsi:opentelemetry";

/// Whether an element is a request.
pub fn is_conference_modify(element: &Element) -> bool {
    element.is("conference-modify", NAMESPACE)
}

/// Reads `<conference-modify>`. Errors are `bad-request` with a text that names the place.
pub fn read_conference_modify(element: &Element) -> Result<ConferenceModify, ColibriError> {
    read::conference_modify(element)
}

/// Reads `<conference-modified>`, as a focus does.
pub fn read_conference_modified(element: &Element) -> Result<ConferenceModified, ColibriError> {
    read::conference_modified(element)
}

/// Writes `<conference-modify>`, as a focus does.
pub fn write_conference_modify(request: &ConferenceModify) -> Element {
    write::conference_modify(request)
}

/// Writes `<conference-modified>`.
pub fn write_conference_modified(answer: &ConferenceModified) -> Element {
    write::conference_modified(answer)
}

#[cfg(test)]
mod tests;
