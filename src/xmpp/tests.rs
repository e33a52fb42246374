//! The far end of a connection, and what a stream brings over it.

mod streams;

use std::pin::Pin;

use minidom::{
    Element,
    rxml::{AsyncReader, AttrMap, Event, Parser},
};
use tokio::io::{AsyncWriteExt as _, BufReader, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use xso::{Context, FromEventsBuilder as _, minidom_compat::ElementFromEvents};

use super::bounded::Io;

pub(super) const STREAMS: &str = "http://etherx.jabber.org/streams";

/// A server that a test scripts.
pub(super) struct FakeServer<I> {
    reader: AsyncReader<BufReader<ReadHalf<I>>>,
    to: WriteHalf<I>,
    kind: &'static str,
}

/// Both ends of a connection that holds this many bytes.
pub(super) fn ends(takes: usize) -> (Box<dyn Io>, FakeServer<DuplexStream>) {
    let (ours, theirs) = duplex(takes);
    (Box::new(ours), FakeServer::new(theirs))
}

impl<I: Io> FakeServer<I> {
    pub(super) fn new(io: I) -> Self {
        let (from, to) = split(io);
        Self { reader: AsyncReader::new(BufReader::new(from)), to, kind: "jabber:client" }
    }

    pub(super) fn of_component(mut self) -> Self {
        self.kind = "jabber:component:accept";
        self
    }

    pub(super) fn into_io(self) -> I {
        self.reader.into_inner().0.into_inner().unsplit(self.to)
    }

    pub(super) async fn say(&mut self, text: &str) {
        self.to.write_all(text.as_bytes()).await.unwrap();
        self.to.flush().await.unwrap();
    }

    /// Reads the head of a stream and sends one. Returns the attributes that came.
    pub(super) async fn open(&mut self) -> AttrMap {
        *self.reader.parser_mut() = Parser::default();
        let attributes = loop {
            match self.event().await.expect("a stream") {
                Event::XmlDeclaration(..) => {}
                Event::StartElement(_, (namespace, name), attributes) => {
                    assert_eq!((namespace.as_str(), name.as_str()), (STREAMS, "stream"));
                    break attributes;
                }
                other => panic!("{other:?}"),
            }
        };
        let kind = self.kind;
        // As specified, a component's server sends no version.
        let version = if kind == "jabber:client" { " version='1.0'" } else { "" };
        self.say(&format!(
            "<?xml version='1.0'?><stream:stream xmlns='{kind}' xmlns:stream='{STREAMS}' \
             id='3BF96D32' from='example.com'{version}>"
        ))
        .await;
        attributes
    }

    pub(super) async fn offer(&mut self, inside: &str) {
        self.open().await;
        self.say(&format!("<stream:features>{inside}</stream:features>")).await;
    }

    /// The next element; `None` when the stream or the connection has ended.
    pub(super) async fn next(&mut self) -> Option<Element> {
        let mut element: Option<ElementFromEvents> = None;
        loop {
            let event = self.event().await?;
            match (&mut element, event) {
                (Some(element), event) => {
                    if let Some(element) = element.feed(event, &Context::empty()).unwrap() {
                        return Some(element);
                    }
                }
                (none, Event::StartElement(_, name, attributes)) => {
                    *none = Some(ElementFromEvents::new(name, attributes));
                }
                (None, Event::EndElement(_)) => return None,
                (None, _) => {}
            }
        }
    }

    /// The next element of this name.
    pub(super) async fn next_named(&mut self, name: &str) -> Element {
        loop {
            let element = self.next().await.unwrap_or_else(|| panic!("no {name}"));
            if element.name() == name {
                return element;
            }
        }
    }

    async fn event(&mut self) -> Option<Event> {
        std::future::poll_fn(|cx| Pin::new(&mut self.reader).poll_read(cx)).await.ok().flatten()
    }
}
