//! A stream of `tokio_xmpp` with its outgoing queue.

use std::{
    borrow::Cow,
    collections::VecDeque,
    io::{self, ErrorKind, Write},
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::{Sink, Stream as _};
use minidom::Element;
use tokio_xmpp::xmlstream::{
    PendingFeaturesRecv, StreamHeader, Timeouts, XmlStream, initiate_stream,
};
use xmpp_parsers::{ns, stream_features::StreamFeatures};

use super::{
    bounded::{Bounded, Io},
    bounds::Limits,
    cause::Cause,
    stanza::{CLIENT, Inbound, Outbound, Stanza},
};

/// The stream's own time limits are not used: the driver pings, and notices silence.
const NEVER: Timeouts = Timeouts {
    read_timeout: Duration::from_secs(86_400),
    response_timeout: Duration::from_secs(86_400),
};

/// An event of the stream.
#[derive(Debug)]
pub(super) enum Event {
    /// An element about the stream itself.
    Nonza(Inbound),
    /// A stanza.
    Stanza(Stanza),
}

/// The kind of stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Client,
    Component,
}

/// A stream.
pub(super) struct Wire {
    stream: XmlStream<Bounded, Inbound>,
    kind: Kind,
    /// Elements received.
    seen: u64,
    /// Elements that the stream has not taken yet, with their sizes.
    queue: VecDeque<(Element, usize)>,
    unsent: usize,
    /// The stream may hold elements that are not flushed.
    unflushed: bool,
}

/// A stream's head.
pub(super) struct Opened {
    pending: PendingFeaturesRecv<Bounded>,
    kind: Kind,
}

impl Opened {
    /// The stream's id, and our address as the server has it.
    pub(super) fn id_and_name(&self) -> (String, Option<String>) {
        let header = self.pending.header();
        let id = header.id.map(Cow::into_owned).unwrap_or_default();
        (id, header.from.map(Cow::into_owned).filter(|from| !from.is_empty()))
    }

    /// A client's stream with the features that the server offers.
    pub(super) async fn features(self) -> Result<(StreamFeatures, Wire), Cause> {
        let (features, stream) = self.pending.recv_features().await?;
        Ok((features, Wire::new(stream, self.kind, 1)))
    }

    /// A component's stream, which has no features.
    pub(super) fn without_features(self) -> Wire {
        Wire::new(self.pending.skip_features(), self.kind, 0)
    }
}

/// Opens a stream to a domain over a new connection.
pub(super) async fn open(io: Box<dyn Io>, to: &str, kind: Kind) -> Result<Opened, Cause> {
    over(Bounded::new(io, Limits::default()), to, kind).await
}

pub(super) async fn over(io: Bounded, to: &str, kind: Kind) -> Result<Opened, Cause> {
    let namespace = match kind {
        Kind::Client => CLIENT,
        Kind::Component => ns::COMPONENT,
    };
    let header = StreamHeader { from: None, to: Some(to.into()), id: None };
    let pending = initiate_stream(io, namespace, header, NEVER).await?;
    Ok(Opened { pending, kind })
}

impl Wire {
    fn new(stream: XmlStream<Bounded, Inbound>, kind: Kind, seen: u64) -> Self {
        Self { stream, kind, seen, queue: VecDeque::new(), unsent: 0, unflushed: false }
    }

    /// Opens another stream over the same connection (RFC 6120 section 4.3.3).
    pub(super) async fn restart(self, to: &str) -> Result<Opened, Cause> {
        over(self.stream.into_inner().restarted(), to, self.kind).await
    }

    /// The connection, for TLS.
    pub(super) fn into_io(self) -> Box<dyn Io> {
        self.stream.into_inner().into_io()
    }

    /// When bytes last came.
    pub(super) fn last_received(&self) -> Instant {
        self.stream.get_stream().last_received()
    }

    /// How many bytes have come.
    pub(super) fn read(&self) -> u64 {
        self.stream.get_stream().read()
    }

    /// Bytes that the stream has not taken yet.
    pub(super) fn unsent(&self) -> usize {
        self.unsent
    }

    /// Sends an element, as soon as [`Self::next`] or [`Self::flush`] is awaited.
    pub(super) fn send(&mut self, element: impl Into<Element>) {
        let element = element.into();
        let size = size(&element);
        self.send_sized(element, size);
    }

    /// The same for an element whose [`size`] is known.
    pub(super) fn send_sized(&mut self, element: Element, size: usize) {
        self.unsent = self.unsent.saturating_add(size);
        self.queue.push_back((element, size));
    }

    /// Returns the next element, and sends the queue meanwhile. A stream error of the server is returned as
    /// an error. May be dropped at any time and called again.
    pub(super) async fn next(&mut self) -> Result<Event, Cause> {
        let inbound = std::future::poll_fn(|cx| {
            if let Poll::Ready(Err(error)) = self.poll_send(cx) {
                return Poll::Ready(Err(Cause::from(error)));
            }
            Pin::new(&mut self.stream).poll_next(cx).map(|next| match next {
                Some(inbound) => inbound.map_err(Cause::from),
                None => Err(Cause::Closed),
            })
        });
        let inbound = inbound.await?;
        self.seen = self.seen.wrapping_add(1);
        let fault = self.stream.get_stream().bounds().fault_of(self.seen);
        Ok(match (inbound, fault) {
            (Inbound::Element(element), fault) => Event::Stanza(Stanza::new(element, fault)),
            (Inbound::Error(error), _) => return Err(Cause::of_stream(&error)),
            (_, Some(fault)) => return Err(Cause::Protocol(fault.to_string())),
            (inbound, None) => Event::Nonza(inbound),
        })
    }

    /// Sends everything.
    pub(super) async fn flush(&mut self) -> Result<(), Cause> {
        std::future::poll_fn(|cx| self.poll_send(cx)).await.map_err(Cause::from)
    }

    /// Sends everything and closes the stream.
    pub(super) async fn close(&mut self) -> Result<(), Cause> {
        self.flush().await?;
        self.stream.shutdown().await.map_err(Cause::from)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut stream = Pin::new(&mut self.stream);
        while !self.queue.is_empty() {
            if Sink::<&Outbound>::poll_ready(stream.as_mut(), cx)?.is_pending() {
                return Poll::Pending;
            }
            if let Some((element, size)) = self.queue.pop_front() {
                self.unsent = self.unsent.saturating_sub(size);
                let outbound = Outbound { element, component: self.kind == Kind::Component };
                match Sink::start_send(stream.as_mut(), &outbound) {
                    Ok(()) => self.unflushed = true,
                    // Nothing of the element was written, and the stream goes on. Not expected: we build only
                    // valid XML names.
                    Err(error) if error.kind() == ErrorKind::InvalidInput => {
                        debug_assert!(false, "{} cannot be written", outbound.element.name());
                    }
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
        }
        if self.unflushed {
            std::task::ready!(Sink::<&Outbound>::poll_flush(stream, cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

/// Bytes of an element, about as they are on the stream.
pub(super) fn size(element: &Element) -> usize {
    struct Count(usize);
    impl Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.saturating_add(bytes.len());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // The stream refuses an element that cannot be written.
    let _ = element.write_to(&mut count);
    count.0
}
