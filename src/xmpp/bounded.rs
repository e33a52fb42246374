//! A connection whose stanzas are within [`Limits`].

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};

use super::bounds::{Bounds, Limits};

/// Read at once.
const READ_SIZE: usize = 16 * 1024;

/// Bytes both ways.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Filters the stream for the parser by [`Bounds`], and passes writes through.
pub(super) struct Bounded {
    io: Box<dyn Io>,
    limits: Limits,
    bounds: Bounds,
    /// Bytes that came, of which those from `taken` to `filled` have not been looked at.
    raw: Box<[u8]>,
    taken: usize,
    filled: usize,
    /// The filtered bytes for the parser, and how many of them it has taken.
    clean: Vec<u8>,
    parsed: usize,
    last_received: Instant,
    read: u64,
    /// The error of the connection, which is returned once the parser has processed all that was read.
    broken: Option<io::Error>,
}

impl Bounded {
    pub(super) fn new(io: Box<dyn Io>, limits: Limits) -> Self {
        Self {
            io,
            limits,
            bounds: Bounds::new(limits),
            raw: vec![0; READ_SIZE].into_boxed_slice(),
            taken: 0,
            filled: 0,
            clean: Vec::new(),
            parsed: 0,
            last_received: now(),
            read: 0,
            broken: None,
        }
    }

    /// For the next stream over the same connection (RFC 6120 section 4.3.3). Bytes that came before are
    /// dropped: a server sends nothing but white space before our new stream.
    pub(super) fn restarted(self) -> Self {
        Self::new(self.io, self.limits)
    }

    /// For TLS over the same connection. Bytes that came before may be an attacker's and are dropped.
    pub(super) fn into_io(self) -> Box<dyn Io> {
        self.io
    }

    /// When bytes last came.
    pub(super) fn last_received(&self) -> Instant {
        self.last_received
    }

    /// How many have come.
    pub(super) fn read(&self) -> u64 {
        self.read
    }

    /// Stanzas and their faults.
    pub(super) fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// Reads until there is something for the parser, or the end.
    fn poll_clean(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.parsed >= self.clean.len() {
            self.clean.clear();
            self.parsed = 0;
            let mut input = self.raw.get(self.taken..self.filled).unwrap_or_default();
            if input.is_empty() {
                if let Some(error) = self.broken.take() {
                    return Poll::Ready(Err(error));
                }
                let mut buffer = ReadBuf::new(&mut self.raw);
                if let Err(error) = ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer)) {
                    // The end of an empty element has no byte of its own: the parser still holds it.
                    self.broken = Some(error);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                (self.taken, self.filled) = (0, buffer.filled().len());
                if self.filled == 0 {
                    break;
                }
                self.read = self.read.saturating_add(self.filled as u64);
                self.last_received = now();
                continue;
            }
            self.bounds.pass(&mut input, &mut self.clean);
            self.taken = self.filled.saturating_sub(input.len());
        }
        Poll::Ready(Ok(()))
    }

    fn clean(&self) -> &[u8] {
        self.clean.get(self.parsed..).unwrap_or_default()
    }
}

impl AsyncBufRead for Bounded {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        ready!(this.poll_clean(cx))?;
        Poll::Ready(Ok(this.clean()))
    }

    fn consume(self: Pin<&mut Self>, amount: usize) {
        let this = self.get_mut();
        this.parsed = this.parsed.saturating_add(amount);
    }
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.as_mut().get_mut().poll_clean(cx))?;
        let clean = self.clean();
        let amount = clean.len().min(buffer.remaining());
        buffer.put_slice(clean.get(..amount).unwrap_or_default());
        self.consume(amount);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// The time, which tests can pause.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
