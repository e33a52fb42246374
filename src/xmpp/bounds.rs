//! Enforces the limits of a stream's stanzas byte by byte, before any parser.
//!
//! `tokio_xmpp`'s parser ends the stream at an attribute of 8 KiB, keeps a stanza of any size, and looks
//! through all open elements for a namespace. A server passes on what any occupant of a room writes, so
//! [`Bounds`] gives the parser only what is within [`Limits`]: of a stanza beyond them it gets the first
//! tags and the end, and the stream goes on. Tags that are left out are not matched to each other; the
//! server has checked those.
//!
//! Two more repairs: Prosody gives the namespace of `xml` to a prefix of its own when somebody sends
//! `xml:anything`, which XML forbids (Namespaces in XML 1.0 section 3): the parser finds another namespace
//! there. And the head of a component's stream has no version (XEP-0114 section 3), which `tokio_xmpp`
//! requires: it is added.

use std::collections::VecDeque;

/// The namespace of the prefix `xml`.
const XML: &[u8] = b"http://www.w3.org/XML/1998/namespace";
/// What it becomes under another prefix ends with this.
const NOT_XML: &[u8] = b"#";
/// Added to a stream's head that has no version.
const VERSION: &[u8] = b" version='1.0'";
/// Bytes after `<!` that introduce text: `[CDATA[`.
const CDATA: u8 = 7;
/// A reference (`&#x10FFFF;`) stands for this many bytes at the most.
const REFERENCE: usize = 4;
/// Stanzas whose faults are remembered. The parser is one stanza behind at the most.
const MAX_FAULTS: usize = 4;

/// How deep and how large a stanza may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Elements inside each other. A request has 8.
    pub depth: usize,
    /// Elements. A request about a thousand endpoints has a few thousand.
    pub elements: usize,
    /// Attributes of one element. A candidate has 13.
    pub attributes: usize,
    /// Bytes of an attribute. The longest of a request is an id, of a few hundred.
    pub value: usize,
    /// Bytes, as they came.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { depth: 24, elements: 16_384, attributes: 32, value: 8_000, bytes: 1 << 20 }
    }
}

/// The limit that a stanza broke.
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
    /// See [`Limits::value`].
    #[error("an attribute of the stanza is too long")]
    ValueTooLong,
    /// See [`Limits::bytes`].
    #[error("the stanza is too long")]
    TooLong,
}

/// Where in the stream the last byte was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In a reference there, or not.
    Text { reference: bool },
    /// After `<`.
    Open,
    /// `<?`.
    Instruction,
    /// After `<!` and so many bytes, of which the last so many are `]`.
    Data { seen: u8, brackets: u8 },
    /// The tag's name.
    Name,
    /// Between attributes.
    Between,
    /// An attribute, up to its value.
    Attribute,
    /// In a value, between these quotes; in a reference there, or not.
    Value { quote: u8, reference: bool },
}

/// What the parser gets of a tag, or of `<![CDATA[`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Share {
    /// All of it.
    All,
    /// Its beginning and its end.
    Ends,
    /// Nothing.
    None,
}

/// Follows the bytes of one stream.
#[derive(Debug)]
pub(super) struct Bounds {
    limits: Limits,
    place: Place,
    share: Share,
    /// Open elements, the stream's own among them.
    open: usize,
    /// As many of them as the parser knows of.
    known: usize,
    /// The tag ends an element.
    closing: bool,
    /// The last byte of the tag was `/`.
    slash: bool,
    /// The parser has got the last byte of the text.
    passed: bool,
    /// Stanzas that have begun.
    stanzas: u64,
    /// Of this stanza.
    bytes: usize,
    elements: usize,
    fault: Option<Fault>,
    /// Of this tag.
    attributes: usize,
    /// Of this attribute, as the parser counts.
    value: usize,
    /// The attribute's name, or as much of it as matters.
    name: [u8; 10],
    name_length: usize,
    /// How much of the value is [`XML`], if all of it is and it must not be.
    reserved: Option<usize>,
    /// The stream's head has a version.
    version: bool,
    faults: VecDeque<(u64, Fault)>,
}

impl Bounds {
    /// A new stream: after connecting, and after each restart (RFC 6120 section 4.3.3).
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            place: Place::Text { reference: false },
            share: Share::All,
            open: 0,
            known: 0,
            closing: false,
            slash: false,
            passed: true,
            stanzas: 0,
            bytes: 0,
            elements: 0,
            fault: None,
            attributes: 0,
            value: 0,
            name: [0; 10],
            name_length: 0,
            reserved: None,
            version: false,
            faults: VecDeque::new(),
        }
    }

    /// Takes from `input`, and adds to `out` what the parser gets of it, up to the end of a stanza at the
    /// most: then true.
    pub(super) fn pass(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> bool {
        while let Some((&byte, rest)) = input.split_first() {
            if self.place == (Place::Text { reference: false }) && !matches!(byte, b'<' | b'&') {
                self.plain(input, out);
                continue;
            }
            *input = rest;
            if self.step(byte, out) {
                return true;
            }
        }
        false
    }

    /// The fault of a stanza, by its number in the stream: from 1.
    pub(super) fn fault_of(&self, stanza: u64) -> Option<Fault> {
        self.faults.iter().find(|(number, _)| *number == stanza).map(|(_, fault)| *fault)
    }

    /// Text up to the next tag or reference.
    fn plain(&mut self, input: &mut &[u8], out: &mut Vec<u8>) {
        let end = input.iter().position(|byte| matches!(byte, b'<' | b'&'));
        let (text, rest) = input.split_at(end.unwrap_or(input.len()));
        *input = rest;
        // Within the limit in one piece, beyond it up to the end of a character.
        let within = if self.in_stanza() {
            self.limits.bytes.saturating_sub(self.bytes).min(text.len())
        } else {
            text.len()
        };
        let (text, beyond) = text.split_at(within);
        if self.fault.is_none() {
            out.extend_from_slice(text);
            self.passed = true;
        } else if !text.is_empty() {
            self.finish_character(text, out);
        }
        self.count(text.len());
        if !beyond.is_empty() {
            self.count(beyond.len());
            self.finish_character(beyond, out);
        }
    }

    /// Completes a character whose beginning the parser has.
    fn finish_character(&mut self, text: &[u8], out: &mut Vec<u8>) {
        let more = text.iter().take_while(|byte| is_continuation(**byte)).count();
        if self.passed {
            out.extend_from_slice(text.get(..more).unwrap_or_default());
        }
        self.passed &= more == text.len();
    }

    fn step(&mut self, byte: u8, out: &mut Vec<u8>) -> bool {
        if self.in_stanza() {
            self.count(1);
        }
        match self.place {
            // The next byte decides which kind of tag it is.
            Place::Text { .. } if byte == b'<' => self.place = Place::Open,
            Place::Text { reference } => {
                // A reference that the parser has the beginning of it gets whole.
                self.passed = self.fault.is_none() || (reference && self.passed);
                if self.passed {
                    out.push(byte);
                }
                let reference = if reference { byte != b';' } else { byte == b'&' };
                self.place = Place::Text { reference };
            }
            Place::Open => self.opens(byte, out),
            Place::Instruction => {
                out.push(byte);
                if byte == b'>' {
                    self.place = Place::Text { reference: false };
                }
            }
            Place::Data { seen, brackets } => self.data(seen, brackets, byte, out),
            Place::Name | Place::Between | Place::Attribute | Place::Value { .. } => {
                return self.in_tag(byte, out);
            }
        }
        false
    }

    /// The byte after `<`.
    fn opens(&mut self, byte: u8, out: &mut Vec<u8>) {
        self.closing = byte == b'/';
        self.slash = false;
        let shared = match byte {
            b'!' => {
                self.place = Place::Data { seen: 0, brackets: 0 };
                self.fault.is_none()
            }
            // Of a stanza it is refused, by the parser.
            b'?' => {
                self.place = Place::Instruction;
                true
            }
            b'/' => {
                self.place = Place::Name;
                self.open == self.known
            }
            _ => {
                self.place = Place::Name;
                self.begins()
            }
        };
        self.share = if shared { Share::All } else { Share::None };
        if shared {
            out.extend_from_slice(&[b'<', byte]);
        }
    }

    /// An element begins. Returns whether it is within the limits.
    fn begins(&mut self) -> bool {
        self.attributes = 0;
        match self.open {
            0 => {}
            1 => {
                self.stanzas = self.stanzas.wrapping_add(1);
                (self.bytes, self.elements, self.fault) = (2, 0, None);
            }
            depth => {
                self.elements = self.elements.saturating_add(1);
                if self.elements > self.limits.elements {
                    self.give_up(Fault::TooManyElements);
                }
                if depth > self.limits.depth {
                    self.give_up(Fault::TooDeep);
                }
            }
        }
        self.fault.is_none()
    }

    /// A byte of `<![CDATA[…]]>`; the parser has refused anything else that begins with `<!`.
    fn data(&mut self, seen: u8, brackets: u8, byte: u8, out: &mut Vec<u8>) {
        if self.share == Share::All {
            if self.fault.is_some() && seen >= CDATA && !is_continuation(byte) {
                out.extend_from_slice(b"]]>");
                self.share = Share::Ends;
            } else {
                out.push(byte);
            }
        }
        let seen_now = seen.saturating_add(1).min(CDATA);
        self.place = match byte {
            b'>' if brackets == 2 => Place::Text { reference: false },
            b']' if seen == CDATA => Place::Data { seen, brackets: (brackets + 1).min(2) },
            _ => Place::Data { seen: seen_now, brackets: 0 },
        };
        // Whatever was left out of it was not the middle of a character.
        self.passed = false;
    }

    fn in_tag(&mut self, byte: u8, out: &mut Vec<u8>) -> bool {
        let before = self.place;
        let empty = self.slash;
        let quoted = matches!(before, Place::Value { .. });
        self.slash = byte == b'/' && !quoted;
        self.place = match before {
            Place::Value { quote, .. } if byte == quote => Place::Between,
            Place::Value { quote, reference } => {
                let reference = if reference { byte != b';' } else { byte == b'&' };
                Place::Value { quote, reference }
            }
            _ => in_tag(before, byte),
        };
        let reserved = self.ends_reserved(before);
        self.read(before, byte);
        let ended = matches!(self.place, Place::Text { .. });
        if self.share == Share::All {
            if let Some(instead) = self.cut(before, byte) {
                out.extend_from_slice(instead);
                self.share = Share::Ends;
            } else {
                if reserved {
                    out.extend_from_slice(NOT_XML);
                }
                if ended && self.open == 0 && !self.version {
                    out.extend_from_slice(VERSION);
                }
                out.push(byte);
            }
        }
        if !ended {
            return false;
        }
        if self.share == Share::Ends {
            out.extend_from_slice(if empty { b"/>" } else { b">" });
        }
        self.passed = false;
        self.ends(empty)
    }

    /// A tag has ended; whether a stanza has.
    fn ends(&mut self, empty: bool) -> bool {
        let known = usize::from(self.share != Share::None);
        if self.closing {
            self.open = self.open.saturating_sub(1);
            self.known = self.known.saturating_sub(known);
            return self.open == 1;
        }
        if empty {
            return self.open == 1;
        }
        self.open = self.open.saturating_add(1);
        self.known = self.known.saturating_add(known);
        false
    }

    /// What the parser gets before this byte instead of it and the rest of the tag, which is too much.
    /// Names are not cut: the parser refuses those that are too long.
    fn cut(&self, before: Place, byte: u8) -> Option<&'static [u8]> {
        if self.fault.is_none() || self.closing {
            return None;
        }
        match before {
            Place::Between if !matches!(byte, b'>' | b'/') => Some(b""),
            Place::Value { quote, reference: false } if byte != quote && !is_continuation(byte) => {
                Some(if quote == b'"' { b"\"" } else { b"'" })
            }
            _ => None,
        }
    }

    /// Keeps and counts what matters of attributes.
    fn read(&mut self, before: Place, byte: u8) {
        match (before, self.place) {
            (Place::Value { reference, .. }, Place::Value { .. }) => {
                let same = |n: &usize| XML.get(*n) == Some(&byte);
                self.reserved = self.reserved.filter(same).map(|n| n + 1);
                let more = match (reference, byte) {
                    (false, b'&') => REFERENCE,
                    (false, _) => 1,
                    (true, _) => 0,
                };
                self.value = self.value.saturating_add(more);
                if self.value > self.limits.value && self.open > 0 {
                    self.give_up(Fault::ValueTooLong);
                }
            }
            (Place::Value { .. }, _) => self.reserved = None,
            (Place::Between | Place::Attribute, Place::Value { .. }) => {
                self.value = 0;
                self.reserved = self.declares().then_some(0);
                self.version |= self.attribute() == b"version";
            }
            (_, Place::Attribute) => {
                if before != Place::Attribute {
                    self.name_length = 0;
                    self.attributes = self.attributes.saturating_add(1);
                    if self.attributes > self.limits.attributes && self.open > 0 {
                        self.give_up(Fault::TooManyAttributes);
                    }
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

    /// Whether the value that has ended is one that it must not be.
    fn ends_reserved(&self, before: Place) -> bool {
        matches!(before, Place::Value { .. })
            && self.place == Place::Between
            && self.reserved == Some(XML.len())
    }

    /// The attribute declares a namespace, and not that of `xml`.
    fn declares(&self) -> bool {
        let name = self.attribute();
        name == b"xmlns" || (name.starts_with(b"xmlns:") && name != b"xmlns:xml")
    }

    /// The beginning of the attribute's name.
    fn attribute(&self) -> &[u8] {
        self.name.get(..self.name_length).unwrap_or(&self.name)
    }

    fn in_stanza(&self) -> bool {
        let in_tag = !matches!(self.place, Place::Text { .. } | Place::Open);
        self.open > 1 || (self.open == 1 && in_tag && !self.closing)
    }

    fn count(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.limits.bytes && self.in_stanza() {
            self.give_up(Fault::TooLong);
        }
    }

    /// The first fault of a stanza is the one that is reported.
    fn give_up(&mut self, fault: Fault) {
        if self.fault.is_none() {
            self.fault = Some(fault);
            self.faults.push_back((self.stanzas, fault));
            if self.faults.len() > MAX_FAULTS {
                self.faults.pop_front();
            }
        }
    }
}

/// Not the first byte of a character (RFC 3629 section 3).
fn is_continuation(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

/// Between `<` and `>`, and in no value.
fn in_tag(place: Place, byte: u8) -> Place {
    match byte {
        b'>' => Place::Text { reference: false },
        b' ' | b'\t' | b'\r' | b'\n' if place != Place::Attribute => Place::Between,
        b'"' | b'\'' if place != Place::Name => Place::Value { quote: byte, reference: false },
        b'/' if place == Place::Between => Place::Between,
        _ if place == Place::Name => Place::Name,
        _ => Place::Attribute,
    }
}
