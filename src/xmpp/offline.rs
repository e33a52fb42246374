//! Streams without a server, for fuzz targets and tests of the parser.

use std::{
    io,
    pin::Pin,
    sync::OnceLock,
    task::{Context, Poll},
};

use minidom::rxml::{Event as Xml, Reader};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    runtime::Runtime,
};
use xmpp_parsers::ns;
use xso::{Context as Reading, FromEventsBuilder as _, minidom_compat::ElementFromEvents};

use super::{
    bounded::Bounded,
    bounds::{Bounds, Limits},
    cause::Cause,
    stanza::Stanza,
    wire::{Event, Kind, Wire, over},
};

/// Reads a whole document as the one stanza of a stream whose stanzas are in `namespace`.
///
/// # Errors
/// What is wrong with it.
pub fn parse(document: &[u8], namespace: &str, limits: Limits) -> Result<Stanza, io::Error> {
    let not_one = || io::Error::new(io::ErrorKind::InvalidData, "not one stanza");
    let stream = ns::STREAM;
    let open = format!("<s:stream xmlns='{namespace}' xmlns:s='{stream}' xmlns:stream='{stream}'>");
    let stream = [open.as_bytes(), document, b"</s:stream>"].concat();
    let (mut bounds, mut clean, mut rest) = (Bounds::new(limits), Vec::new(), stream.as_slice());
    while !rest.is_empty() {
        bounds.pass(&mut rest, &mut clean);
    }
    let mut reader = Reader::new(clean.as_slice());
    let Some(Xml::StartElement(..)) = reader.read()? else { return Err(not_one()) };
    let Some(Xml::StartElement(_, name, attributes)) = reader.read()? else {
        return Err(not_one());
    };
    let mut element = ElementFromEvents::new(name, attributes);
    let element = loop {
        let event = reader.read()?.ok_or_else(not_one)?;
        let fed = element.feed(event, &Reading::empty());
        if let Some(element) = fed.map_err(|error| io::Error::other(error.to_string()))? {
            break element;
        }
    };
    match (reader.read()?, reader.read()?) {
        (Some(Xml::EndElement(_)), None) => Ok(Stanza::new(element, bounds.fault_of(1))),
        _ => Err(not_one()),
    }
}

/// A server whose bytes are all there from the start, and that accepts all writes.
pub(super) struct Scripted {
    bytes: Vec<u8>,
    at: usize,
    /// How many bytes come at once.
    piece: usize,
}

impl Scripted {
    pub(super) fn new(bytes: &[u8], piece: usize) -> Self {
        Self { bytes: bytes.to_vec(), at: 0, piece: piece.max(1) }
    }
}

impl AsyncRead for Scripted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let amount = rest.len().min(self.piece).min(buffer.remaining());
        buffer.put_slice(rest.get(..amount).unwrap_or_default());
        self.at = self.at.saturating_add(amount);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Scripted {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Runs a future that never has to wait.
pub(super) fn run<F: Future>(future: F) -> F::Output {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_time().build().expect("a thread")
    });
    runtime.block_on(future)
}

/// The stanzas of a stream whose bytes come in pieces of this size, and why it ends.
pub(super) async fn events(stream: &[u8], piece: usize, limits: Limits) -> (Vec<Event>, Cause) {
    let io = Bounded::new(Box::new(Scripted::new(stream, piece)), limits);
    let mut wire: Wire = match over(io, "example.com", Kind::Client).await {
        Ok(opened) => opened.without_features(),
        Err(cause) => return (Vec::new(), cause),
    };
    let mut events = Vec::new();
    loop {
        match wire.next().await {
            Ok(event) => events.push(event),
            Err(cause) => return (events, cause),
        }
    }
}

/// A stream is the same however its bytes come, and nothing in it is larger than its limits: the first
/// byte says how many come at once.
pub(crate) fn fuzz(data: &[u8]) {
    // Small enough for a fuzzer to go beyond.
    let limits = Limits { depth: 4, elements: 8, attributes: 4, value: 16, bytes: 128 };
    let Some((piece, stream)) = data.split_first() else { return };
    let (whole, end) = run(events(stream, usize::MAX, limits));
    let (pieces, other_end) = run(events(stream, usize::from(*piece), limits));
    assert_eq!(format!("{whole:?}"), format!("{pieces:?}"));
    assert_eq!(end == Cause::Closed, other_end == Cause::Closed, "{end} {other_end}");
    for event in &whole {
        let Event::Stanza(Stanza::Whole(element)) = event else { continue };
        assert!(element.attrs().len() <= limits.attributes && element.text().len() <= limits.bytes);
    }
}
