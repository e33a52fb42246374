//! What servers hand on, and a parser would end the stream for.
//!
//! A parser must take in a tag whole, attributes and all; a server passes on what it likes, and writes it
//! longer than it came (`'` as `&apos;`). What is beyond the limit is not given to the parser, which gets
//! the end of the tag instead.
//!
//! What is in an element that nobody keeps is not given to it either: to find a namespace it looks through
//! all open elements, so that a hundred thousand of them in each other would cost seconds.
//!
//! And when somebody sends `xml:anything`, Prosody gives the namespace of `xml` to a prefix of its own,
//! which XML forbids (Namespaces in XML 1.0 section 3). The parser finds another namespace there.

/// The namespace of the prefix `xml`.
const XML: &[u8] = b"http://www.w3.org/XML/1998/namespace";
/// What it becomes under another prefix ends with this.
const NOT_XML: &[u8] = b"#";

/// The parser is given this much at once: what it leaves after an event is looked at again.
const AHEAD: usize = 256;

/// Where in the stream the last byte was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Text,
    /// After `<`.
    Open,
    /// `<![CDATA[` and so many `]`. What else begins so is not XMPP.
    Declared(u8),
    /// The tag's name.
    Name,
    /// Between attributes.
    Between,
    /// An attribute, up to its value.
    Attribute,
    /// In a value, between these quotes; in a reference there, or not.
    Value {
        quote: u8,
        reference: bool,
    },
}

/// Follows a stream, and says what of it the parser is to see.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trim {
    place: Place,
    limit: usize,
    /// Bytes of the tag so far.
    length: usize,
    /// The rest of the tag is left out.
    dropping: bool,
    /// What is in the element that has just begun is left out; so many elements are open in it.
    inside: Option<usize>,
    /// The tag is one that ends an element.
    closing: bool,
    /// The last byte was `/`.
    slash: bool,
    /// The attribute's name, or as much of it as matters.
    name: [u8; 10],
    name_length: usize,
    /// How much of the value is [`XML`], if all of it is and it must not be.
    reserved: Option<usize>,
}

impl Trim {
    /// Tags have up to `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            place: Place::Text,
            limit,
            length: 0,
            dropping: false,
            inside: None,
            closing: false,
            slash: false,
            name: [0; 10],
            name_length: 0,
            reserved: None,
        }
    }

    /// How much of `bytes`, before which nothing is to be [replaced](Self::cut), goes to the parser next.
    pub(super) fn room(&self, bytes: &[u8]) -> usize {
        let most = self.limit.saturating_sub(self.length).clamp(1, AHEAD);
        let mut ahead = *self;
        let pass = |byte: &&u8| {
            let ends = ahead.ends_reserved(**byte);
            ahead.step(**byte);
            !ends
        };
        bytes.iter().take(most).take_while(pass).count()
    }

    /// The parser has taken these.
    pub(super) fn pass(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.step(*byte);
        }
    }

    /// The rest of a tag is left out.
    pub(super) fn dropping(&self) -> bool {
        self.dropping
    }

    /// What the parser gets before the `next` byte, or instead of it and the rest of a tag that is too
    /// long ([`Self::dropping`]).
    pub(super) fn cut(&mut self, next: u8) -> Option<&'static [u8]> {
        if self.ends_reserved(next) {
            self.reserved = None;
            return Some(NOT_XML);
        }
        if self.length < self.limit || self.dropping {
            return None;
        }
        let continues = next & 0xc0 == 0x80;
        let instead: &[u8] = match self.place {
            Place::Between => b"",
            Place::Value { quote: b'"', reference: false } if !continues => b"\"",
            Place::Value { reference: false, .. } if !continues => b"'",
            _ => return None,
        };
        self.dropping = true;
        Some(instead)
    }

    /// A tag is too long, and cannot be cut anywhere: its names are.
    pub(super) fn is_hopeless(&self) -> bool {
        !self.dropping && self.inside.is_none() && self.length > self.limit.saturating_mul(2)
    }

    /// Leaves out what is in the element whose first tag the parser has just taken. False: that tag has not
    /// ended.
    pub(super) fn leave_out_inside(&mut self) -> bool {
        let between = self.place == Place::Text;
        if between {
            self.inside = Some(0);
        }
        between
    }

    /// What is in an element is left out.
    pub(super) fn inside(&self) -> bool {
        self.inside.is_some()
    }

    /// Takes from `bytes` what is left out: the beginning of the element's last tag for the parser, when it
    /// is reached. Processing instructions are for the parser too, which refuses them.
    pub(super) fn skip_inside(&mut self, bytes: &mut &[u8]) -> Option<&'static [u8]> {
        while let (Some((&byte, rest)), Some(open)) = (bytes.split_first(), self.inside) {
            let opened = self.place == Place::Open;
            if opened && (byte == b'?' || (byte == b'/' && open == 0)) {
                self.inside = None;
                return Some(b"<");
            }
            *bytes = rest;
            if opened {
                self.closing = byte == b'/';
            }
            let tag = !matches!(self.place, Place::Text | Place::Declared(_));
            let empty = self.slash;
            self.step(byte);
            if tag && self.place == Place::Text {
                self.inside = Some(match (self.closing, empty) {
                    (true, _) => open.saturating_sub(1),
                    (false, true) => open,
                    (false, false) => open.saturating_add(1),
                });
            }
        }
        None
    }

    /// Takes from `bytes` what is left out: the tag's end for the parser, when it is reached.
    pub(super) fn skip(&mut self, bytes: &mut &[u8]) -> Option<&'static [u8]> {
        while let Some((byte, rest)) = bytes.split_first() {
            *bytes = rest;
            let empty = self.slash;
            self.step(*byte);
            if self.place == Place::Text {
                self.dropping = false;
                return Some(if empty { b"/>" } else { b">" });
            }
        }
        None
    }

    /// The value ends with this byte, and is what it must not be.
    fn ends_reserved(&self, byte: u8) -> bool {
        let quote = matches!(self.place, Place::Value { quote, .. } if quote == byte);
        quote && self.reserved == Some(XML.len())
    }

    /// The attribute declares a namespace, and not that of `xml`.
    fn declares(&self) -> bool {
        let name = self.name.get(..self.name_length).unwrap_or(&self.name);
        name == b"xmlns" || (name.starts_with(b"xmlns:") && name != b"xmlns:xml")
    }

    /// Keeps what matters of names and values.
    fn read(&mut self, before: Place, byte: u8) {
        match (before, self.place) {
            (Place::Between | Place::Attribute, Place::Value { .. }) => {
                self.reserved = self.declares().then_some(0);
            }
            (Place::Value { .. }, Place::Value { .. }) => {
                let same = |n: &usize| XML.get(*n) == Some(&byte);
                self.reserved = self.reserved.filter(same).map(|n| n + 1);
            }
            (_, Place::Attribute) => {
                if before != Place::Attribute {
                    self.name_length = 0;
                }
                let more = !byte.is_ascii_whitespace() && byte != b'=';
                if let (true, Some(place)) = (more, self.name.get_mut(self.name_length)) {
                    *place = byte;
                    self.name_length += 1;
                }
            }
            _ => {}
        }
    }

    fn step(&mut self, byte: u8) {
        let before = self.place;
        self.length = self.length.saturating_add(1);
        let quoted = matches!(self.place, Place::Value { .. });
        self.slash = byte == b'/' && !quoted;
        self.place = match before {
            Place::Text if byte == b'<' => Place::Open,
            Place::Text => Place::Text,
            Place::Open if byte == b'!' => Place::Declared(0),
            Place::Open => Place::Name,
            Place::Declared(2) if byte == b'>' => Place::Text,
            Place::Declared(brackets) if byte == b']' => Place::Declared((brackets + 1).min(2)),
            Place::Declared(_) => Place::Declared(0),
            Place::Value { quote, .. } if byte == quote => Place::Between,
            Place::Value { quote, reference } => {
                Place::Value { quote, reference: byte == b'&' || (reference && byte != b';') }
            }
            Place::Name | Place::Between | Place::Attribute => in_tag(before, byte),
        };
        self.read(before, byte);
        if matches!(self.place, Place::Text | Place::Declared(_)) {
            self.length = 0;
        }
    }
}

/// Between `<` and `>`, and in no value.
fn in_tag(place: Place, byte: u8) -> Place {
    match byte {
        b'>' => Place::Text,
        b' ' | b'\t' | b'\r' | b'\n' if place != Place::Attribute => Place::Between,
        b'"' | b'\'' if place != Place::Name => Place::Value { quote: byte, reference: false },
        b'/' if place == Place::Between => Place::Between,
        _ if place == Place::Name => Place::Name,
        _ => Place::Attribute,
    }
}
