//! A stream of `tokio_xmpp`, with what is to be sent over it.

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
    stanza::{CLIENT, Heard, Said, Stanza},
};

/// The stream's own time limits are not used: silence is the driver's to notice, which pings.
const NEVER: Timeouts = Timeouts {
    read_timeout: Duration::from_secs(86_400),
    response_timeout: Duration::from_secs(86_400),
};

/// What comes.
#[derive(Debug)]
pub(super) enum Event {
    /// About the stream.
    Heard(Heard),
    /// To somebody behind it.
    Stanza(Stanza),
}

/// What the stream is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Client,
    Component,
}

/// A stream.
pub(super) struct Wire {
    stream: XmlStream<Bounded, Heard>,
    kind: Kind,
    /// Elements that have come.
    seen: u64,
    /// What the stream has not taken yet, with its size.
    queue: VecDeque<(Element, usize)>,
    unsent: usize,
    /// The stream has taken something that may still be with it.
    unflushed: bool,
}

/// A stream's head.
pub(super) struct Opened {
    pending: PendingFeaturesRecv<Bounded>,
    kind: Kind,
}

impl Opened {
    /// What the server calls the stream, and whom it takes us for.
    pub(super) fn id_and_name(&self) -> (String, Option<String>) {
        let header = self.pending.header();
        let id = header.id.map(Cow::into_owned).unwrap_or_default();
        (id, header.from.map(Cow::into_owned).filter(|from| !from.is_empty()))
    }

    /// With what a client's server offers.
    pub(super) async fn features(self) -> Result<(StreamFeatures, Wire), Cause> {
        let (features, stream) = self.pending.recv_features().await?;
        Ok((features, Wire::new(stream, self.kind, 1)))
    }

    /// A component's server offers nothing.
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
    fn new(stream: XmlStream<Bounded, Heard>, kind: Kind, seen: u64) -> Self {
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

    /// When bytes came last.
    pub(super) fn heard(&self) -> Instant {
        self.stream.get_stream().heard()
    }

    /// How many have come.
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
        self.unsent = self.unsent.saturating_add(size);
        self.queue.push_back((element, size));
    }

    /// The next element, while what is to be sent is. An error that the server gives is one here. May be given
    /// up at any time, and begun again.
    pub(super) async fn next(&mut self) -> Result<Event, Cause> {
        let heard = std::future::poll_fn(|cx| {
            if let Poll::Ready(Err(error)) = self.poll_send(cx) {
                return Poll::Ready(Err(Cause::from(error)));
            }
            Pin::new(&mut self.stream).poll_next(cx).map(|heard| match heard {
                Some(heard) => heard.map_err(Cause::from),
                None => Err(Cause::Closed),
            })
        });
        let heard = heard.await?;
        self.seen = self.seen.wrapping_add(1);
        let fault = self.stream.get_stream().bounds().fault_of(self.seen);
        Ok(match (heard, fault) {
            (Heard::Element(element), fault) => Event::Stanza(Stanza::new(element, fault)),
            (Heard::Error(error), _) => return Err(Cause::of_stream(&error)),
            (_, Some(fault)) => return Err(Cause::Protocol(fault.to_string())),
            (heard, None) => Event::Heard(heard),
        })
    }

    /// Sends everything.
    pub(super) async fn flush(&mut self) -> Result<(), Cause> {
        std::future::poll_fn(|cx| self.poll_send(cx)).await.map_err(Cause::from)
    }

    /// Sends everything, and says that this was all.
    pub(super) async fn close(&mut self) -> Result<(), Cause> {
        self.flush().await?;
        self.stream.shutdown().await.map_err(Cause::from)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut stream = Pin::new(&mut self.stream);
        while !self.queue.is_empty() {
            if Sink::<&Said>::poll_ready(stream.as_mut(), cx)?.is_pending() {
                return Poll::Pending;
            }
            if let Some((element, size)) = self.queue.pop_front() {
                self.unsent = self.unsent.saturating_sub(size);
                let said = Said { element, component: self.kind == Kind::Component };
                match Sink::start_send(stream.as_mut(), &said) {
                    Ok(()) => self.unflushed = true,
                    // Nothing of it was taken, and the stream goes on: what we build has names that XML has.
                    Err(error) if error.kind() == ErrorKind::InvalidInput => {
                        debug_assert!(false, "{} cannot be written", said.element.name());
                    }
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
        }
        if self.unflushed {
            std::task::ready!(Sink::<&Said>::poll_flush(stream, cx))?;
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
    // What cannot be written is refused by the stream.
    let _ = element.write_to(&mut count);
    count.0
}
