//! From a parser's events to an element that is neither deep nor large.
//!
//! An element tree is dropped by recursion, and a server passes stanzas of hundreds of kilobytes on:
//! tens of thousands of nested elements would exhaust the stack of whoever drops them. Such a stanza
//! is read to its end and given up; its first tag is kept, so that it can be refused by name and the
//! connection goes on.

use minidom::{
    Element,
    rxml::{AttrMap, Event, QName},
};

/// How deep and how large a stanza may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Elements inside each other. A request has 8.
    pub depth: usize,
    /// Elements. A request about a thousand endpoints has a few thousand.
    pub elements: usize,
    /// Attributes of one element. A candidate has 13.
    pub attributes: usize,
    /// Bytes, as they came.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { depth: 24, elements: 16_384, attributes: 32, bytes: 1 << 20 }
    }
}

/// Why a stanza was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// See [`Limits::depth`].
    #[error("the stanza is too deep")]
    TooDeep,
    /// See [`Limits::elements`].
    #[error("the stanza has too many elements")]
    TooManyElements,
    /// See [`Limits::attributes`].
    #[error("an element of the stanza has too many attributes")]
    TooManyAttributes,
    /// See [`Limits::bytes`].
    #[error("the stanza is too long")]
    TooLong,
}

/// A stanza that has ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Stanza {
    /// All of it.
    Whole(Element),
    /// It broke a limit: its first tag, if that did not, and the child under which an IQ can be
    /// refused by name, without what is in it.
    GivenUp {
        /// What is left of it.
        head: Element,
        /// The limit.
        fault: Fault,
    },
}

/// Builds one stanza of the events that follow its first tag.
#[derive(Debug)]
pub struct StanzaBuilder {
    limits: Limits,
    /// Open elements, outermost first. Never empty before the end.
    open: Vec<Element>,
    /// Open elements that are not kept.
    skipped: usize,
    elements: usize,
    bytes: usize,
    fault: Option<Fault>,
}

impl StanzaBuilder {
    /// Begins with the first tag.
    pub fn new(name: QName, attributes: AttrMap, limits: Limits) -> Self {
        let mut builder =
            Self { limits, open: Vec::new(), skipped: 0, elements: 0, bytes: 0, fault: None };
        let first = builder.element(name, attributes);
        builder.open.push(first);
        builder
    }

    /// Something was left out of the tag that comes next, or that was the first.
    pub fn trimmed(&mut self) {
        self.give_up(Fault::TooLong);
    }

    /// Whether the element that has just begun is not kept, nor what is in it.
    pub fn skips(&self) -> bool {
        self.skipped > 0
    }

    /// Open elements, kept or not.
    #[cfg(test)]
    pub fn depth(&self) -> usize {
        self.open.len() + self.skipped
    }

    /// Takes the next event; the stanza when it has ended. Events after that are ignored.
    pub fn feed(&mut self, event: Event) -> Option<Stanza> {
        match event {
            Event::XmlDeclaration(..) => {}
            Event::StartElement(metrics, name, attributes) => {
                self.count(metrics.len());
                self.start(name, attributes);
            }
            Event::Text(metrics, text) => {
                self.count(metrics.len());
                if let (None, Some(last)) = (self.fault, self.open.last_mut()) {
                    last.append_text(text);
                }
            }
            Event::EndElement(metrics) => {
                self.count(metrics.len());
                return self.end();
            }
        }
        None
    }

    fn start(&mut self, name: QName, attributes: AttrMap) {
        self.elements = self.elements.saturating_add(1);
        if self.elements > self.limits.elements {
            self.give_up(Fault::TooManyElements);
        }
        if self.open.len() >= self.limits.depth {
            self.give_up(Fault::TooDeep);
        }
        if self.fault.is_some() {
            self.skipped = self.skipped.saturating_add(1);
            return;
        }
        let element = self.element(name, attributes);
        self.open.push(element);
    }

    fn end(&mut self) -> Option<Stanza> {
        if self.skipped > 0 {
            self.skipped -= 1;
            return None;
        }
        let ended = self.open.pop()?;
        if let Some(parent) = self.open.last_mut() {
            // A child that broke no limit itself is no use in a stanza that did, but the first.
            if self.fault.is_none() || parent.children().next().is_none() {
                parent.append_child(ended);
            }
            return None;
        }
        Some(match self.fault {
            None => Stanza::Whole(ended),
            Some(fault) => Stanza::GivenUp { head: head(&ended), fault },
        })
    }

    /// An element with no more attributes than it may have.
    fn element(&mut self, name: QName, attributes: AttrMap) -> Element {
        let (namespace, name) = name;
        let mut element = Element::bare(name.as_str(), namespace.as_str());
        if attributes.len() > self.limits.attributes {
            self.give_up(Fault::TooManyAttributes);
        } else {
            *element.attrs_mut() = attributes;
        }
        element
    }

    fn count(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.limits.bytes {
            self.give_up(Fault::TooLong);
        }
    }

    /// The first fault is the one that is told.
    fn give_up(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }
}

/// The first tag and the name of the first child.
fn head(stanza: &Element) -> Element {
    let mut head = Element::bare(stanza.name(), stanza.ns());
    if let Some(child) = stanza.children().next() {
        head.append_child(Element::bare(child.name(), child.ns()));
    }
    *head.attrs_mut() = stanza.attrs().clone();
    head
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::xmpp::{StreamError, parse};

    fn read(text: &str) -> Result<Stanza, StreamError> {
        parse(text.as_bytes(), "jabber:client", Limits::default())
    }

    fn given_up(text: &str) -> (String, Fault) {
        match read(text).unwrap() {
            Stanza::GivenUp { head, fault } => (String::from(&head), fault),
            Stanza::Whole(_) => panic!("nothing is wrong with it"),
        }
    }

    #[test]
    fn a_stanza_is_what_it_says() {
        let text = "<iq id='a'><q xmlns='x' b='c'>d<e/></q></iq>";
        let Stanza::Whole(iq) = read(text).unwrap() else { panic!() };
        assert!(iq.is("iq", "jabber:client"));
        assert_eq!(iq.attr("id"), Some("a"));
        let query = iq.get_child("q", "x").unwrap();
        assert_eq!((query.attr("b"), query.text().as_str()), (Some("c"), "d"));
        assert!(query.has_child("e", "x"));
    }

    #[test]
    fn tens_of_thousands_of_levels_are_refused_by_name() {
        // As many as Prosody lets pass in a stanza.
        let levels = 37_000;
        let text = format!(
            "<iq id='a' type='get'><q xmlns='x'>{}{}</q></iq>",
            "<d>".repeat(levels),
            "</d>".repeat(levels)
        );
        let (head, fault) = given_up(&text);
        assert_eq!(fault, Fault::TooDeep);
        assert_eq!(head, "<iq xmlns='jabber:client' id='a' type='get'><q xmlns='x'/></iq>");
    }

    #[test]
    fn too_much_of_anything_is_refused() {
        let attributes: Vec<String> = (0..1000).map(|n| format!("a{n}='1'")).collect();
        let (head, fault) = given_up(&format!("<iq id='a'><q {}/></iq>", attributes.join(" ")));
        assert_eq!(fault, Fault::TooManyAttributes);
        assert!(head.len() < 100, "{head}");
        let (_, fault) = given_up(&format!("<iq>{}</iq>", "<q/>".repeat(20_000)));
        assert_eq!(fault, Fault::TooManyElements);
        let (_, fault) = given_up(&format!("<iq><q>{}</q></iq>", "x".repeat(1 << 20)));
        assert_eq!(fault, Fault::TooLong);
        let (head, fault) = given_up(&format!("<iq {}/>", attributes.join(" ")));
        assert_eq!(fault, Fault::TooManyAttributes);
        assert_eq!(head, "<iq xmlns='jabber:client'/>");
    }

    #[test]
    fn what_is_no_stanza_is_no_stanza() {
        for text in [
            "",
            "<iq",
            "<iq>",
            "<iq></q>",
            "<!DOCTYPE x><iq/>",
            "<iq/><iq/>",
            "</s:stream><s:stream>",
            "<iq>&x;</iq>",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_stanza_or_not(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes, "jabber:client", Limits::default());
        }

        #[test]
        fn any_tags_are_a_stanza_or_not(
            tags in prop::collection::vec(
                prop::sample::select(vec!["<a>", "</a>", "<b x='1'/>", "t", "<c y='2' z='3'>", "</c>"]),
                0..60,
            ),
        ) {
            let limits = Limits { depth: 4, elements: 8, attributes: 1, bytes: 100 };
            let text = format!("<iq>{}</iq>", tags.concat());
            if let Ok(Stanza::Whole(element)) = parse(text.as_bytes(), "jabber:client", limits) {
                prop_assert!(depth(&element) <= 4);
            }
        }
    }

    fn depth(element: &Element) -> usize {
        1 + element.children().map(depth).max().unwrap_or(0)
    }
}
