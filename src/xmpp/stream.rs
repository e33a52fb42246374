//! From the bytes of a stream (RFC 6120 section 4) to its stanzas.
//!
//! What one stanza holds cannot end the stream, unless it is not XML: a stanza beyond the [`Limits`] is
//! given up and the next one read. Attributes may be as long as a stanza, since what occupants of a room
//! write reaches everybody in it. Only a tag that is longer than a whole stanza may be ends the stream.

use minidom::{
    Element,
    rxml::{self, Event, Options, Parse, Parser, WithOptions, error::EndOrError},
};

use super::stanza::{Limits, Stanza, StanzaBuilder};

/// The namespace of streams (RFC 6120 section 4.8.1).
pub const STREAMS: &str = "http://etherx.jabber.org/streams";

/// What a stream brings.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamEvent {
    /// It begins: its first tag, with nothing inside.
    Open(Element),
    /// A stanza, or another child of the stream.
    Stanza(Stanza),
    /// It ends. Nothing follows.
    Close,
}

/// Why a stream is over.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// It is not XML as XMPP has it (RFC 6120 section 11.1).
    #[error("malformed: {0}")]
    Malformed(#[from] rxml::Error),
    /// A tag goes on for longer than a stanza may.
    #[error("a tag is too long")]
    TooLong,
    /// A document is not one whole stanza ([`parse`]).
    #[error("not one stanza")]
    NotOne,
}

/// Reads a stream as its bytes come.
pub struct StreamReader {
    parser: Parser,
    limits: Limits,
    opened: bool,
    closed: bool,
    stanza: Option<StanzaBuilder>,
    /// Bytes since the last event.
    unfinished: usize,
}

impl std::fmt::Debug for StreamReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamReader").field("stanza", &self.stanza).finish_non_exhaustive()
    }
}

impl StreamReader {
    /// A new stream: after connecting, and after each restart (RFC 6120 section 4.3.3).
    pub fn new(limits: Limits) -> Self {
        let options = Options { max_token_length: limits.bytes, ..Options::default() };
        Self {
            parser: Parser::with_options(options),
            limits,
            opened: false,
            closed: false,
            stanza: None,
            unfinished: 0,
        }
    }

    /// Takes from `bytes` up to the end of the next event. `None`: all of them are taken, and more are
    /// needed. After an error the stream is over.
    pub fn read(&mut self, bytes: &mut &[u8]) -> Result<Option<StreamEvent>, StreamError> {
        while !self.closed {
            let before = bytes.len();
            let event = self.parser.parse(bytes, false);
            let taken = before.saturating_sub(bytes.len());
            self.unfinished = self.unfinished.saturating_add(taken);
            match event {
                Ok(Some(event)) => {
                    self.unfinished = 0;
                    if let Some(event) = self.on_event(event) {
                        return Ok(Some(event));
                    }
                }
                Ok(None) | Err(EndOrError::NeedMoreData) => {
                    if self.unfinished > self.limits.bytes {
                        return Err(StreamError::TooLong);
                    }
                    return Ok(None);
                }
                Err(EndOrError::Error(error)) => return Err(error.into()),
            }
        }
        *bytes = &[];
        Ok(None)
    }

    fn on_event(&mut self, event: Event) -> Option<StreamEvent> {
        if let Some(builder) = &mut self.stanza {
            let stanza = builder.feed(event)?;
            self.stanza = None;
            return Some(StreamEvent::Stanza(stanza));
        }
        match event {
            Event::StartElement(_, name, attributes) if self.opened => {
                self.stanza = Some(StanzaBuilder::new(name, attributes, self.limits));
                None
            }
            Event::StartElement(_, (namespace, name), attributes) => {
                self.opened = true;
                let mut head = Element::bare(name.as_str(), namespace.as_str());
                *head.attrs_mut() = attributes;
                Some(StreamEvent::Open(head))
            }
            Event::EndElement(_) => {
                self.closed = true;
                Some(StreamEvent::Close)
            }
            // White space between stanzas keeps connections alive.
            Event::XmlDeclaration(..) | Event::Text(..) => None,
        }
    }
}

/// Reads a whole document as the one stanza of a stream whose stanzas are in `namespace`.
pub fn parse(document: &[u8], namespace: &str, limits: Limits) -> Result<Stanza, StreamError> {
    let open =
        format!("<s:stream xmlns='{namespace}' xmlns:s='{STREAMS}' xmlns:stream='{STREAMS}'>");
    let stream = [open.as_bytes(), document, b"</s:stream>"].concat();
    let mut bytes = stream.as_slice();
    let mut reader = StreamReader::new(limits);
    let Some(StreamEvent::Open(_)) = reader.read(&mut bytes)? else {
        return Err(StreamError::NotOne);
    };
    let Some(StreamEvent::Stanza(stanza)) = reader.read(&mut bytes)? else {
        return Err(StreamError::NotOne);
    };
    match reader.read(&mut bytes)? {
        Some(StreamEvent::Close) if bytes.is_empty() => Ok(stanza),
        _ => Err(StreamError::NotOne),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STREAM: &str = "<?xml version='1.0'?>\
        <stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' id='1'>\n \
        <stream:features><bind xmlns='b'/></stream:features> <iq id='\u{e9}'>&lt;</iq> </stream:stream>";

    /// All events of a stream that comes in pieces of these sizes, over and over.
    fn read(text: &[u8], pieces: &[usize]) -> Result<Vec<StreamEvent>, StreamError> {
        let mut reader = StreamReader::new(Limits { bytes: 20_000, ..Limits::default() });
        let mut events = Vec::new();
        let mut rest = text;
        for size in pieces.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (mut piece, after) = rest.split_at((*size).clamp(1, rest.len()));
            rest = after;
            while let Some(event) = reader.read(&mut piece)? {
                events.push(event);
            }
            assert!(piece.is_empty());
        }
        Ok(events)
    }

    #[test]
    fn a_stream_brings_its_head_its_children_and_its_end() {
        let events = read(STREAM.as_bytes(), &[usize::MAX]).unwrap();
        let [StreamEvent::Open(head), features, iq, StreamEvent::Close] = events.as_slice() else {
            panic!("{events:?}");
        };
        assert_eq!((head.name(), head.attr("id")), ("stream", Some("1")));
        let StreamEvent::Stanza(Stanza::Whole(features)) = features else { panic!() };
        assert!(features.is("features", STREAMS) && features.has_child("bind", "b"));
        let StreamEvent::Stanza(Stanza::Whole(iq)) = iq else { panic!() };
        assert_eq!((iq.attr("id"), iq.text().as_str()), (Some("\u{e9}"), "<"));
    }

    /// An occupant of a room can make everybody in it read this.
    #[test]
    fn a_long_attribute_is_one_stanza_and_not_the_end() {
        let text =
            |length| STREAM.replace("<iq", &format!("<presence a='{}'/><iq", "x".repeat(length)));
        let events = read(text(10_000).as_bytes(), &[1400]).unwrap();
        let [_, _, StreamEvent::Stanza(Stanza::Whole(presence)), _, _] = events.as_slice() else {
            panic!();
        };
        assert_eq!(presence.attr("a").map(str::len), Some(10_000));
        let longer_than_any_stanza = read(text(30_000).as_bytes(), &[1400]);
        assert!(longer_than_any_stanza.is_err());
        let attributes: Vec<String> = (0..3000).map(|n| format!("a{n}='1'")).collect();
        let many = STREAM.replace("<iq", &format!("<presence {}/><iq", attributes.join(" ")));
        assert!(matches!(read(many.as_bytes(), &[1400]), Err(StreamError::TooLong)));
    }

    #[test]
    fn a_stanza_beyond_the_limits_does_not_end_the_stream() {
        let deep = format!("<d/>{}{}<iq", "<d>".repeat(500), "</d>".repeat(500));
        let events = read(STREAM.replace("<iq", &deep).as_bytes(), &[1400]).unwrap();
        assert_eq!(events.len(), 6);
        assert!(matches!(events[3], StreamEvent::Stanza(Stanza::GivenUp { .. })));
        assert!(matches!(events[4], StreamEvent::Stanza(Stanza::Whole(_))));
    }

    #[test]
    fn what_is_not_xml_is_an_error() {
        for text in ["no<a/>", "<a></b>", "<!DOCTYPE a><a/>", "<s:a/>", "<a xmlns='x'><!-- --></a>"]
        {
            assert!(read(text.as_bytes(), &[7]).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(pieces in prop::collection::vec(1..40_usize, 1..8)) {
            let whole = read(STREAM.as_bytes(), &[usize::MAX]).unwrap();
            prop_assert_eq!(read(STREAM.as_bytes(), &pieces).unwrap(), whole);
        }
    }
}
