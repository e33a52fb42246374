//! Elements of a stream, by a reader of the tests' own: a mistake of the bridge's cannot cancel itself out.

use std::io::{BufReader, Read};

use minidom::{
    Element,
    rxml::{self, AttrMap, Event, Options, Reader, WithOptions as _},
};

/// Longer than anything that a test makes the bridge write.
const LONGEST: usize = 1 << 26;

/// Reads one stream.
pub(crate) struct Elements<R: Read>(Reader<BufReader<R>>);

impl<R: Read> Elements<R> {
    pub(crate) fn new(from: R) -> Self {
        Self(Reader::with_options(BufReader::new(from), options()))
    }

    /// Another stream over the same connection.
    pub(crate) fn restart(&mut self) {
        *self.0.parser_mut() = rxml::Parser::with_options(options());
    }

    /// The first tag of the stream.
    pub(crate) fn open(&mut self) -> std::io::Result<()> {
        loop {
            if let Some(Event::StartElement(..)) = self.0.read()? {
                return Ok(());
            }
        }
    }

    /// The next element; `None` when the stream has ended.
    pub(crate) fn next(&mut self) -> std::io::Result<Option<Element>> {
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
