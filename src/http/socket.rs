//! A WebSocket over a connection: reads and writes its bytes, and limits the rate at which it reads.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use rialto_media::{Rate, TokenBucket};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    time::{Instant, sleep_until, timeout},
};

use super::frames::{Event, Fault, FrameReader};

/// A client that does not accept a message for this long is disconnected.
const SEND_LIMIT: Duration = Duration::from_secs(10);

/// Bytes per read. The buffer is on the stack and not kept.
const CHUNK: usize = 4 << 10;

/// Limit on frames of any kind. A channel processes 100 messages a second and drops the rest. From a client
/// that exceeds this limit nothing is read for a while, so that its own send buffer fills.
const FRAMES: Rate = Rate::per_second(400, 1000);
/// Limit on bytes.
const BYTES: Rate = Rate::per_second(4 << 20, 4 << 20);
/// Minimum frames to wait for, so that a client at its limit does not wake the task for each frame.
const FEW_FRAMES: u32 = 8;
const SHORTEST_WAIT: Duration = Duration::from_millis(1);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Why reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadError {
    /// The connection broke, or ended without a close frame.
    Disconnected,
    /// The client violated the WebSocket protocol.
    Protocol(Fault),
}

/// A server's side of a WebSocket.
pub(super) struct Socket<Io> {
    io: Io,
    reader: FrameReader,
    /// Received bytes that are not parsed yet.
    unread: Vec<u8>,
    budget: Budget,
    last_read: Instant,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Socket<Io> {
    /// Creates a socket that accepts messages of up to `limit` bytes.
    pub(super) fn new(io: Io, limit: usize) -> Self {
        Self {
            io,
            reader: FrameReader::new(limit),
            unread: Vec::new(),
            budget: Budget::default(),
            last_read: Instant::now(),
        }
    }

    /// Returns when bytes last arrived.
    pub(super) fn last_read(&self) -> Instant {
        self.last_read
    }

    /// Reads the next frame, once the rate limit permits. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Event, ReadError> {
        loop {
            if let Some(at) = self.budget.ready_at(Instant::now()) {
                sleep_until(at).await;
            }
            let mut rest = &self.unread[..];
            let event = self.reader.read(&mut rest);
            let taken = self.unread.len().saturating_sub(rest.len());
            if rest.is_empty() {
                // An idle socket keeps no buffer.
                self.unread = Vec::new();
            } else {
                self.unread.drain(..taken);
            }
            let event = event.map_err(ReadError::Protocol)?;
            self.budget.charge(event.is_some(), taken, Instant::now());
            match event {
                Some(event) => return Ok(event),
                None => self.fill().await?,
            }
        }
    }

    async fn fill(&mut self) -> Result<(), ReadError> {
        let (io, unread) = (&mut self.io, &mut self.unread);
        let count = std::future::poll_fn(|cx| poll_fill(Pin::new(&mut *io), cx, unread)).await;
        match count {
            Ok(1..) => {
                self.last_read = Instant::now();
                Ok(())
            }
            Ok(0) | Err(_) => Err(ReadError::Disconnected),
        }
    }

    /// Sends a frame.
    pub(super) async fn send(&mut self, frame: &[u8]) -> Result<(), ReadError> {
        let io = &mut self.io;
        let sent = async {
            io.write_all(frame).await?;
            io.flush().await
        };
        match timeout(SEND_LIMIT, sent).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(ReadError::Disconnected),
        }
    }

    /// Reads until the client's close frame, or until nothing more comes.
    pub(super) async fn skip_to_close(&mut self) {
        self.reader.end();
        while let Ok(event) = self.next().await {
            if matches!(event, Event::Close(_)) {
                return;
            }
        }
        // The frame boundaries may be lost: discard everything.
        while self.fill().await.is_ok() {
            self.unread = Vec::new();
        }
    }
}

/// Appends the available bytes.
fn poll_fill(
    io: Pin<&mut impl AsyncRead>,
    cx: &mut Context<'_>,
    unread: &mut Vec<u8>,
) -> Poll<io::Result<usize>> {
    let mut chunk = [0; CHUNK];
    let mut buffer = ReadBuf::new(&mut chunk);
    ready!(io.poll_read(cx, &mut buffer))?;
    unread.extend_from_slice(buffer.filled());
    Poll::Ready(Ok(buffer.filled().len()))
}

/// The rate limits of a client.
#[derive(Default)]
struct Budget {
    frames: TokenBucket,
    bytes: TokenBucket,
}

impl Budget {
    fn charge(&mut self, frame: bool, bytes: usize, now: Instant) {
        let now = now.into_std();
        self.frames.charge(&FRAMES, u32::from(frame), now);
        self.bytes.charge(&BYTES, u32::try_from(bytes).unwrap_or(u32::MAX), now);
    }

    /// Returns when more may be read; `None` means now.
    fn ready_at(&self, now: Instant) -> Option<Instant> {
        let bytes = self.bytes.wait(&BYTES, 0, now.into_std());
        if bytes.is_zero() && self.frames.has(&FRAMES, 1, now.into_std()) {
            return None;
        }
        let wait = self.frames.wait(&FRAMES, FEW_FRAMES, now.into_std()).max(bytes);
        Some(now + wait.clamp(SHORTEST_WAIT, LONGEST_WAIT))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};

    use super::{super::frames, *};

    /// A frame of a client whose mask changes nothing.
    fn sent(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0x80 | opcode, 0x80 | 0x7e];
        frame.extend((payload.len() as u16).to_be_bytes());
        frame.extend([0; 4]);
        frame.extend(payload);
        frame
    }

    fn pair(buffer: usize) -> (Socket<DuplexStream>, DuplexStream) {
        let (ours, theirs) = duplex(buffer);
        (Socket::new(ours, 64 << 10), theirs)
    }

    /// How long reading `frames` frames takes from a client that sends as fast as it can.
    async fn time_of(frames: usize, frame: Vec<u8>) -> Duration {
        let (mut socket, mut client) = pair(1 << 16);
        let flood = tokio::spawn(async move { while client.write_all(&frame).await.is_ok() {} });
        let start = Instant::now();
        for _ in 0..frames {
            socket.next().await.unwrap();
        }
        flood.abort();
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_without_end_is_read_slowly() {
        for frame in [sent(9, b""), sent(10, b"x"), sent(1, b"{}"), sent(2, b"")] {
            let time = time_of(5000, frame).await.as_secs_f64();
            assert!((9.9..10.1).contains(&time), "4,000 beyond the first 1,000: {time}");
        }
        let time = time_of(1000, sent(9, b"")).await;
        assert_eq!(time, Duration::ZERO, "who sends what clients send does not wait");
        let time = time_of(256, sent(2, &vec![0; 60 << 10])).await.as_secs_f64();
        assert!((2.5..3.0).contains(&time), "15 MiB at 4 MiB a second: {time}");
    }

    #[tokio::test(start_paused = true)]
    async fn parts_of_messages_without_end_are_read_slowly_too() {
        let (mut socket, mut client) = pair(1 << 16);
        client.write_all(&[&[1, 0x80, 0, 0, 0, 0][..]].concat()).await.unwrap();
        let part = [0, 0x80, 0, 0, 0, 0];
        let flood = tokio::spawn(async move { while client.write_all(&part).await.is_ok() {} });
        let start = Instant::now();
        for _ in 0..5000 {
            assert_eq!(socket.next().await, Ok(Event::Part));
        }
        flood.abort();
        assert!(start.elapsed() > Duration::from_secs(9));
    }

    #[tokio::test]
    async fn an_idle_socket_holds_no_buffer() {
        let (mut socket, mut client) = pair(1 << 20);
        let text = "x".repeat(60 << 10);
        client.write_all(&sent(1, text.as_bytes())).await.unwrap();
        client.write_all(&sent(9, b"there?")).await.unwrap();
        assert_eq!(socket.next().await, Ok(Event::Text(text)));
        assert_eq!(socket.next().await, Ok(Event::Ping(b"there?".to_vec())));
        assert_eq!(socket.unread.capacity() + socket.reader.held(), 0);
        socket.send(&frames::pong(b"there?")).await.unwrap();
        let mut answer = [0; 8];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"\x8a\x06there?");
        assert!(size_of::<Socket<DuplexStream>>() < 512);
    }

    #[tokio::test]
    async fn what_comes_after_the_end_is_skipped() {
        let (mut socket, mut client) = pair(1 << 20);
        client.write_all(&sent(1, &[0xff; 1000])).await.unwrap();
        client.write_all(&sent(8, b"")).await.unwrap();
        socket.skip_to_close().await;
        let (mut socket, mut client) = pair(1 << 20);
        client.write_all(b"rubbish").await.unwrap();
        drop(client);
        socket.skip_to_close().await;
    }
}
