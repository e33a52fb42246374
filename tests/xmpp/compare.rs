//! When two answers are the same.

use minidom::{Element, rxml::Namespace};

const STANZA_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";

/// An element with its attributes and children in order of the alphabet, without what a bridge chooses
/// for itself, the address of the bridge channel, and what servers add on the way.
pub(crate) fn comparable(element: &Element) -> String {
    const CHOSEN: [&str; 9] =
        ["ufrag", "pwd", "id", "ip", "port", "priority", "foundation", "ssrc", "url"];
    let (name, namespace) = (element.name(), element.ns());
    let mut attributes: Vec<String> = element
        .attrs()
        .iter()
        .filter(|((ns, name), _)| {
            **ns == Namespace::NONE && !(element.name() == "iq" && name.as_str() == "from")
        })
        .map(|((_, attribute), value)| {
            let everywhere = !matches!(attribute.as_str(), "id" | "port");
            let chosen =
                CHOSEN.contains(&attribute.as_str()) && (everywhere || name == "candidate");
            format!(" {attribute}={:?}", if chosen { "*" } else { value })
        })
        .collect();
    attributes.sort();
    let mut children: Vec<String> = element.children().map(comparable).collect();
    children.sort();
    let text = if name == "fingerprint" { "*".to_owned() } else { element.text() };
    // The driver that recorded some of the answers lost this namespace.
    let namespace = if name == "text" { STANZA_ERRORS.to_owned() } else { namespace };
    format!("<{{{namespace}}}{name}{}>{text}{}</>", attributes.concat(), children.concat())
}
