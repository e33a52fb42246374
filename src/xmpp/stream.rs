//! From the bytes of a stream (RFC 6120 section 4) to its stanzas.
//!
//! What one stanza holds cannot end the stream, unless it is not XML: a stanza beyond the [`Limits`] is
//! given up and the next one read, since what occupants of a room write reaches everybody in it. Attributes
//! may be as long as a stanza; what is beyond that is left out ([`Trim`]). Only a name that is longer than
//! a whole stanza may be ends the stream.

use minidom::{
    Element,
    rxml::{self, Event, Options, Parse, Parser, WithOptions, error::EndOrError},
};

use super::{
    stanza::{Limits, Stanza, StanzaBuilder},
    trim::Trim,
};

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
    /// A name goes on for longer than a stanza may.
    #[error("a name is too long")]
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
    trim: Trim,
    /// Something of the tag that comes next was left out.
    trimmed: bool,
    /// An element has begun that is not kept: what is in it need not be parsed.
    skipping: bool,
}

impl std::fmt::Debug for StreamReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamReader").field("stanza", &self.stanza).finish_non_exhaustive()
    }
}

impl StreamReader {
    /// A new stream: after connecting, and after each restart (RFC 6120 section 4.3.3).
    pub fn new(limits: Limits) -> Self {
        // A reference may have to end first before a value can be cut.
        let longest = limits.bytes.saturating_add(64);
        let options = Options { max_token_length: longest, ..Options::default() };
        Self {
            parser: Parser::with_options(options),
            limits,
            opened: false,
            closed: false,
            stanza: None,
            trim: Trim::new(limits.bytes),
            trimmed: false,
            skipping: false,
        }
    }

    /// Takes from `bytes` up to the end of the next event. `None`: all of them are taken, and more are
    /// needed. After an error the stream is over.
    pub fn read(&mut self, bytes: &mut &[u8]) -> Result<Option<StreamEvent>, StreamError> {
        while !self.closed {
            // An empty element's end is already in the parser, and is no byte.
            if self.skipping && !bytes.is_empty() {
                match self.parser.parse(&mut &b""[..], false) {
                    Ok(Some(event)) => {
                        self.skipping = false;
                        if let Some(event) = self.on_event(event) {
                            return Ok(Some(event));
                        }
                        continue;
                    }
                    Ok(None) | Err(EndOrError::NeedMoreData) => {
                        self.skipping = !self.trim.leave_out_inside();
                    }
                    Err(EndOrError::Error(error)) => return Err(error.into()),
                }
            }
            let event = match bytes.first() {
                Some(_) if self.trim.inside() => {
                    let end = self.trim.skip_inside(bytes);
                    self.parse_all(end.unwrap_or_default())
                }
                Some(_) if self.trim.dropping() => {
                    let end = self.trim.skip(bytes);
                    self.parse_all(end.unwrap_or_default())
                }
                Some(next) => match self.trim.cut(*next) {
                    Some(instead) => {
                        self.trimmed |= self.trim.dropping();
                        self.parse_all(instead)
                    }
                    None => self.parse(bytes),
                },
                // What was read may hold two events.
                None => self.parser.parse(bytes, false),
            };
            match event {
                Ok(Some(event)) => {
                    if let Some(event) = self.on_event(event) {
                        return Ok(Some(event));
                    }
                }
                Ok(None) | Err(EndOrError::NeedMoreData) => {
                    if self.trim.is_hopeless() {
                        return Err(StreamError::TooLong);
                    }
                    if bytes.is_empty() {
                        return Ok(None);
                    }
                }
                Err(EndOrError::Error(error)) => return Err(error.into()),
            }
        }
        *bytes = &[];
        Ok(None)
    }

    /// Open elements that the parser knows of, the stream's own among them.
    #[cfg(test)]
    fn depth(&self) -> usize {
        1 + self.stanza.as_ref().map_or(0, StanzaBuilder::depth)
    }

    /// Gives the parser as much as it may see at once.
    fn parse(&mut self, bytes: &mut &[u8]) -> Result<Option<Event>, EndOrError> {
        let (piece, after) = bytes.split_at(self.trim.room(bytes));
        let mut rest = piece;
        let event = self.parser.parse(&mut rest, false);
        let taken = piece.len().saturating_sub(rest.len());
        self.trim.pass(piece.get(..taken).unwrap_or_default());
        *bytes = if rest.is_empty() { after } else { bytes.get(taken..).unwrap_or_default() };
        event
    }

    /// Gives the parser what stands for what was left out. It is in a value, or ends one or a tag, so that
    /// there is one event at the most, and that at its end.
    fn parse_all(&mut self, mut bytes: &[u8]) -> Result<Option<Event>, EndOrError> {
        self.parser.parse(&mut bytes, false)
    }

    fn on_event(&mut self, event: Event) -> Option<StreamEvent> {
        let trimmed = std::mem::take(&mut self.trimmed);
        if let Some(builder) = &mut self.stanza {
            if trimmed {
                builder.trimmed();
            }
            let begins = matches!(event, Event::StartElement(..));
            let stanza = builder.feed(event);
            self.skipping = begins && builder.skips();
            let stanza = stanza?;
            self.stanza = None;
            return Some(StreamEvent::Stanza(stanza));
        }
        match event {
            Event::StartElement(_, name, attributes) if self.opened => {
                let mut builder = StanzaBuilder::new(name, attributes, self.limits);
                if trimmed {
                    builder.trimmed();
                }
                self.stanza = Some(builder);
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

    /// What streams are made of, where `L` is something long.
    const PARTS: &[&str] = &[
        "<a>",
        "</a>",
        "<a ",
        "/>",
        ">",
        "b='L'",
        " c=\"L\" ",
        " d='1' e='2'",
        " xmlns:n='u' ",
        "<n:a ",
        "xmlns='http://www.w3.org/XML/1998/namespace' ",
        " n:b=\"'\"",
        "L",
        "<![CDATA[L]]>",
        "<a b='L'>",
        "<a L='1'/>",
        "&lt;",
        "</a L>",
        "<a     >",
    ];

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
    }

    /// A stanza and the one after it, each piece by piece.
    fn given_up(stanza: &str) -> Stanza {
        let text = STREAM.replace("<iq", &format!("{stanza}<iq"));
        let all = read(text.as_bytes(), &[1400]).unwrap();
        for pieces in [&[1][..], &[7, 30_000], &[usize::MAX]] {
            assert_eq!(read(text.as_bytes(), pieces).unwrap(), all, "{pieces:?}");
        }
        let [_, _, StreamEvent::Stanza(stanza), StreamEvent::Stanza(next), _] = all.as_slice()
        else {
            panic!("{all:?}");
        };
        let Stanza::Whole(next) = next else { panic!("{next:?}") };
        assert_eq!((next.attr("id"), next.text().as_str()), (Some("\u{e9}"), "<"));
        stanza.clone()
    }

    #[test]
    fn a_tag_that_is_too_long_is_one_stanza_and_not_the_end() {
        let attributes: Vec<String> = (0..10_000).map(|n| format!("a{n}='>/'")).collect();
        let many = attributes.join(" ");
        let long = "\u{e9}/>&quot;<".replace('<', "&lt;").repeat(2000);
        for (stanza, attribute) in [
            (format!("<presence id='1' {many}/>"), None),
            (format!("<presence id='1' {many} >text<a/></presence>"), None),
            (format!("<presence id='1'><a b='1' {many}><c/></a></presence>"), Some("1")),
            (format!("<presence id='1' a=\"{long}\"/>"), Some("1")),
            (format!("<presence id='1' a='{long}' b='2'>text</presence>"), Some("1")),
            (format!("<presence id='1'{}/>", " ".repeat(50_000)), Some("1")),
            (format!("<presence id='1'><a/></presence{}>", " ".repeat(50_000)), Some("1")),
        ] {
            match given_up(&stanza) {
                Stanza::GivenUp { head, .. } => assert_eq!(head.attr("id"), attribute),
                Stanza::Whole(element) => assert!(element.has_child("a", "jabber:client")),
            }
        }
    }

    /// As Prosody writes `<a xml:b='1'/>` and `<xml:a/>`.
    #[test]
    fn the_namespace_of_xml_under_another_name_is_another() {
        let xml = "http://www.w3.org/XML/1998/namespace";
        for stanza in [
            format!("<presence xmlns:ns1='{xml}' ns1:other='1'/>"),
            format!(
                "<presence xmlns:ns1 = \"{xml}\" xmlns:ns2='{xml}'><a xmlns='{xml}'/></presence>"
            ),
        ] {
            let Stanza::Whole(element) = given_up(&stanza) else { panic!("{stanza}") };
            assert!(element.children().all(|child| child.ns() == format!("{xml}#")));
        }
        let genuine =
            format!("<presence xmlns:xml='{xml}' xml:lang='{xml}' a='{xml}' xmlns_='{xml}'/>");
        let Stanza::Whole(element) = given_up(&genuine) else { panic!() };
        assert_eq!((element.attr("a"), element.attr("xmlns_")), (Some(xml), Some(xml)));
        let longer = format!("<presence><a xmlns='{xml}s'/><b xmlns='{}'/></presence>", &xml[1..]);
        let Stanza::Whole(element) = given_up(&longer) else { panic!() };
        let namespaces: Vec<String> = element.children().map(Element::ns).collect();
        assert_eq!(namespaces, [format!("{xml}s"), xml[1..].to_owned()]);
    }

    #[test]
    fn text_is_never_taken_for_a_tag() {
        let data = format!("<presence><![CDATA[{}]]></presence>", "<]]a'\"".repeat(100));
        let Stanza::Whole(element) = given_up(&data) else { panic!() };
        assert_eq!(element.text().len(), 600);
        let data = format!("<presence><![CDATA[{}]]></presence>", "<]]a'\"".repeat(9000));
        assert!(matches!(given_up(&data), Stanza::GivenUp { .. }));
    }

    #[test]
    fn only_a_name_can_be_too_long_for_the_stream() {
        let name = "a".repeat(50_000);
        for stanza in
            [format!("<{name}/>"), format!("<a {name}='1'/>"), format!("<a b{:50000}='1'/>", "")]
        {
            let text = STREAM.replace("<iq", &format!("{stanza}<iq"));
            assert!(read(text.as_bytes(), &[1400]).is_err());
        }
    }

    #[test]
    fn a_stanza_beyond_the_limits_does_not_end_the_stream() {
        let deep = format!("<d/>{}{}<iq", "<d>".repeat(500), "</d>".repeat(500));
        let events = read(STREAM.replace("<iq", &deep).as_bytes(), &[1400]).unwrap();
        assert_eq!(events.len(), 6);
        assert!(matches!(events[3], StreamEvent::Stanza(Stanza::GivenUp { .. })));
        assert!(matches!(events[4], StreamEvent::Stanza(Stanza::Whole(_))));
    }

    /// The parser looks through all open elements for a namespace.
    #[test]
    fn what_is_deep_is_not_parsed() {
        let text = |inside: &str| {
            let deep =
                format!("<iq id='deep'>{}{inside}{}</iq>", "<d>".repeat(30), "</d>".repeat(30));
            STREAM.replace("<iq", &format!("{deep}<iq"))
        };
        let names = |text: &str| {
            let mut reader = StreamReader::new(Limits::default());
            let mut rest = text.as_bytes();
            let mut most = 0;
            let mut stanzas = Vec::new();
            while let Some(event) = reader.read(&mut rest).unwrap() {
                if let StreamEvent::Stanza(stanza) = event {
                    stanzas.push(stanza);
                }
                most = most.max(reader.depth());
            }
            (stanzas, most)
        };
        let nested = format!("{}{}", "<d>".repeat(100_000), "</d>".repeat(100_000));
        for inside in [
            &nested,
            "<a/><b c='/>' d=\"</d>\"/><e> </e >",
            "<a\n/>text &lt;/d&gt;<f g='>'>x</f>",
            "<![CDATA[</d></d><d>]]]]><![CDATA[>]]>",
            "<undeclared:prefix></mismatched>",
        ] {
            let text = text(inside);
            let (stanzas, most) = names(&text);
            let [_, deep, last] = &stanzas[..] else { panic!("{inside:.40}: {stanzas:?}") };
            assert!(
                matches!(deep, Stanza::GivenUp { head, .. } if head.attr("id") == Some("deep"))
            );
            assert!(matches!(last, Stanza::Whole(_)), "{inside:.40}");
            assert!(most <= Limits::default().depth + 2, "{most}");
            for pieces in [&[1][..], &[3, 7]] {
                assert_eq!(read(text.as_bytes(), pieces).unwrap().len(), 5, "{inside:.40}");
            }
        }
        assert!(read(text("<?a?>").as_bytes(), &[7]).is_err(), "an instruction");
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
        fn whatever_is_said_pieces_do_not_matter(
            parts in prop::collection::vec(prop::sample::select(PARTS), 0..30),
            repeat in 0..200_usize,
            pieces in prop::collection::vec(1..40_usize, 1..4),
        ) {
            let long = "x&quot;\u{e9}>/".repeat(repeat);
            let said: String = parts.iter().map(|part| part.replace('L', &long)).collect();
            let text = STREAM.replace("<iq", &format!("{said}<iq"));
            let limits = Limits { bytes: 500, ..Limits::default() };
            let all = |pieces: &[usize]| {
                let (mut reader, mut rest) = (StreamReader::new(limits), text.as_bytes());
                let mut events = Vec::new();
                for size in pieces.iter().cycle() {
                    let (mut piece, after) = rest.split_at((*size).min(rest.len()));
                    rest = after;
                    loop {
                        match reader.read(&mut piece) {
                            Ok(Some(event)) => events.push(event),
                            Ok(None) => break,
                            Err(_) => return events,
                        }
                    }
                    if rest.is_empty() {
                        break;
                    }
                }
                events
            };
            prop_assert_eq!(all(&[text.len()]), all(&pieces));
        }

        #[test]
        fn pieces_do_not_matter(pieces in prop::collection::vec(1..40_usize, 1..8)) {
            let whole = read(STREAM.as_bytes(), &[usize::MAX]).unwrap();
            prop_assert_eq!(read(STREAM.as_bytes(), &pieces).unwrap(), whole);
        }
    }
}
