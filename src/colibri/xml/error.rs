//! The form of a refusal: a stanza error (RFC 6120 section 8.3) with the COLIBRI2 reason in it.

use minidom::{
    Element,
    rxml::{Namespace, NcName},
};

use super::{NAMESPACE, tree::Out};
use crate::colibri::{ColibriError, Condition, Reason};

/// The namespace of conditions and texts.
pub const STANZA_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";

/// Writes `<error>`. `namespace`: that of the stanza that it goes into.
pub fn write_error(error: &ColibriError, namespace: &str) -> Element {
    let mut element = Out::new("error", namespace)
        .put("type", error_type(error.condition))
        .child(Out::new(error.condition.as_str(), STANZA_ERRORS))
        .done();
    if !error.text.is_empty() {
        let mut text = Out::new("text", STANZA_ERRORS).text(&error.text).done();
        if let Ok(lang) = NcName::try_from("lang") {
            text.attrs_mut().insert(Namespace::XML, lang, "en".to_owned());
        }
        element.append_child(text);
    }
    if let Some(reason) = error.reason {
        element.append_child(Out::new("error", NAMESPACE).put("reason", reason.as_str()).done());
    }
    if let Some(id) = &error.endpoint {
        element.append_child(Out::new("endpoint", NAMESPACE).put("id", id).done());
    }
    element
}

/// Reads `<error>`, as a focus does. A condition or reason that this bridge never gives is none.
pub fn read_error(element: &Element) -> Option<ColibriError> {
    let mut children = element.children();
    let condition = children.find_map(|child| {
        Condition::ALL.into_iter().find(|known| child.is(known.as_str(), STANZA_ERRORS))
    })?;
    let reason = element.get_child("error", NAMESPACE).and_then(|child| child.attr("reason"));
    let endpoint = element.get_child("endpoint", NAMESPACE).and_then(|child| child.attr("id"));
    Some(ColibriError {
        condition,
        reason: reason.and_then(|said| {
            Reason::ALL.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(said))
        }),
        endpoint: endpoint.map(str::to_owned),
        text: element.get_child("text", STANZA_ERRORS).map(Element::text).unwrap_or_default(),
    })
}

/// The error types that RFC 6120 section 8.3.3 recommends.
fn error_type(condition: Condition) -> &'static str {
    match condition {
        Condition::BadRequest | Condition::PolicyViolation => "modify",
        Condition::NotAuthorized => "auth",
        Condition::ResourceConstraint => "wait",
        Condition::Conflict
        | Condition::FeatureNotImplemented
        | Condition::InternalServerError
        | Condition::ItemNotFound
        | Condition::ServiceUnavailable => "cancel",
    }
}
