//! Elements of a stream, by a reader of the tests' own: a mistake of the bridge's cannot cancel itself out.

use std::io::{self, BufReader, Read};

use minidom::{
    Element,
    rxml::{self, AttrMap, Event, Options, Reader, WithOptions as _},
};

/// Longer than anything that a test makes the bridge write.
const LONGEST: usize = 1 << 26;

/// Prosody gives this namespace to a prefix of its own when somebody sends `xml:anything`, which no parser
/// takes.
const XML: &[u8] = b"http://www.w3.org/XML/1998/namespace";
const OTHER: &[u8] = b"http://www.w3.org/XML/1998/elsewhere";

/// Reads with another namespace in the place of that one.
struct Repaired<R> {
    from: R,
    bytes: Vec<u8>,
}

impl<R: Read> Read for Repaired<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            while let Some(at) = self.bytes.windows(XML.len()).position(|bytes| bytes == XML) {
                self.bytes[at..at + XML.len()].copy_from_slice(OTHER);
            }
            // What may be its beginning waits for the rest.
            let begins = |from: &usize| XML.starts_with(&self.bytes[*from..]);
            let first = self.bytes.len().saturating_sub(XML.len());
            let ready = (first..self.bytes.len()).find(begins).unwrap_or(self.bytes.len());
            if ready > 0 {
                let len = ready.min(into.len());
                into[..len].copy_from_slice(&self.bytes[..len]);
                self.bytes.drain(..len);
                return Ok(len);
            }
            let mut more = [0; 4096];
            let len = self.from.read(&mut more)?;
            if len == 0 {
                return Ok(0);
            }
            self.bytes.extend_from_slice(&more[..len]);
        }
    }
}

/// Reads one stream.
pub(crate) struct Elements<R: Read>(Reader<BufReader<Repaired<R>>>);

impl<R: Read> Elements<R> {
    pub(crate) fn new(from: R) -> Self {
        let from = BufReader::new(Repaired { from, bytes: Vec::new() });
        Self(Reader::with_options(from, options()))
    }

    /// Another stream over the same connection.
    pub(crate) fn restart(&mut self) {
        *self.0.parser_mut() = rxml::Parser::with_options(options());
    }

    /// The first tag of the stream.
    pub(crate) fn open(&mut self) -> io::Result<()> {
        loop {
            if let Some(Event::StartElement(..)) = self.0.read()? {
                return Ok(());
            }
        }
    }

    /// The next element; `None` when the stream has ended.
    pub(crate) fn next(&mut self) -> io::Result<Option<Element>> {
        let mut open: Vec<Element> = Vec::new();
        loop {
            match self.0.read()? {
                Some(Event::StartElement(_, (namespace, name), attributes)) => {
                    open.push(element(&name, &namespace, attributes));
                }
                Some(Event::Text(_, text)) => {
                    if let Some(last) = open.last_mut() {
                        last.append_text(text);
                    }
                }
                Some(Event::XmlDeclaration(..)) => {}
                Some(Event::EndElement(_)) => {
                    let Some(ended) = open.pop() else { return Ok(None) };
                    match open.last_mut() {
                        Some(parent) => drop(parent.append_child(ended)),
                        None => return Ok(Some(ended)),
                    }
                }
                None => return Ok(None),
            }
        }
    }
}

fn options() -> Options {
    Options { max_token_length: LONGEST, ..Options::default() }
}

fn element(name: &str, namespace: &str, attributes: AttrMap) -> Element {
    let mut element = Element::bare(name, namespace);
    *element.attrs_mut() = attributes;
    element
}
