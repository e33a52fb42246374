//! Sends many datagrams in one call.

use std::{
    fmt, io,
    os::fd::{AsFd, AsRawFd},
    ptr,
};

use crate::{
    Message, UdpSocket, address::RawAddr, control::Control, recv::empty_header, socket::check,
};

/// Most messages in one system call. More gain nothing measurable.
const BATCH: usize = 64;

/// Consecutive GSO messages refused with an error that may concern the single message, before GSO
/// is given up.
const MAX_REFUSALS: u32 = 8;

/// Everything that sending needs, allocated once. Remembers whether GSO works.
pub struct SendBatch {
    headers: Box<[libc::mmsghdr]>,
    vectors: Box<[libc::iovec]>,
    names: Box<[RawAddr]>,
    controls: Box<[Control]>,
    /// Number of datagrams in each header.
    counts: Box<[u32]>,
    gso: bool,
    /// GSO messages refused since one was accepted.
    refusals: u32,
}

// SAFETY: the raw pointers in `headers` and `vectors` are used by the kernel only, within `send`,
// which sets all that it passes right before; they point to what this value owns, or to a buffer that
// is borrowed for that call.
unsafe impl Send for SendBatch {}

/// The result of a batch. All counts are of datagrams.
#[derive(Default, Debug)]
pub struct Sent {
    /// Accepted by the kernel.
    pub datagrams: usize,
    /// Refused one at a time: no route, not permitted, too long.
    pub failed: usize,
    /// Not tried, because the socket's send buffer is full.
    pub blocked: usize,
    /// The last reason for a refusal.
    pub error: Option<io::Error>,
    /// System calls made.
    pub calls: usize,
    /// GSO messages that were refused, and then sent datagram by datagram.
    pub gso_refused: usize,
    /// GSO was given up in this call, for good. The caller should log it, and stop making GSO
    /// messages.
    pub gso_given_up: bool,
}

/// The next message to send, or datagram within it.
#[derive(Clone, Copy, Default)]
struct Cursor {
    message: usize,
    /// Bytes of the message already sent.
    offset: usize,
    /// The message is sent datagram by datagram.
    split: Option<Refusal>,
}

/// Why a message is split.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// The message may be the cause: the route's MTU, or a source address that is gone.
    Perhaps,
    /// The device does not support it.
    Certain,
    /// It was shown to work without GSO.
    Confirmed,
}

impl SendBatch {
    /// `gso`: whether messages with a segment size are sent as one. Otherwise they are sent
    /// datagram by datagram.
    pub fn new(gso: bool) -> Self {
        let vector = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        Self {
            headers: vec![empty_header(); BATCH].into(),
            vectors: vec![vector; BATCH].into(),
            names: vec![RawAddr::new(); BATCH].into(),
            controls: vec![Control::new(); BATCH].into(),
            counts: vec![0; BATCH].into(),
            gso,
            refusals: 0,
        }
    }

    /// Returns whether GSO is in use.
    pub fn gso(&self) -> bool {
        self.gso
    }

    /// Sends `messages`, whose bytes are in `buffer`, in order. A message that the kernel refuses
    /// is counted and skipped; if the socket's buffer is full the rest is counted and not sent.
    ///
    /// GSO is given up if the device does not support it (`EIO`, `EOPNOTSUPP`), or if eight
    /// messages in a row are refused with GSO (`EINVAL`, `EMSGSIZE`) and accepted without. A single
    /// such refusal is no reason: a route with a small MTU causes it too, and a peer may have
    /// caused that.
    pub fn send(&mut self, socket: &UdpSocket, buffer: &[u8], messages: &[Message]) -> Sent {
        let mut sent = Sent::default();
        let mut cursor = Cursor::default();
        // Only a wildcard socket needs to be told its source.
        let wildcard = socket.local_addr().ip().is_unspecified();
        loop {
            let filled = self.fill(buffer, messages, cursor, wildcard);
            if filled == 0 {
                return sent;
            }
            let mut at = 0;
            while at < filled {
                match self.call(socket, at, filled) {
                    Ok(taken) => {
                        sent.calls += 1;
                        for _ in 0..taken {
                            self.taken(&mut cursor, at, messages, &mut sent);
                            at += 1;
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        sent.calls += 1;
                        sent.blocked = remaining(cursor, messages);
                        return sent;
                    }
                    Err(error) => {
                        sent.calls += 1;
                        if self.counts[at] > 1
                            && let Some(refusal) = refusal(&error)
                        {
                            sent.gso_refused += 1;
                            cursor.split = Some(refusal);
                            break;
                        }
                        sent.failed += self.counts[at] as usize;
                        sent.error = Some(error);
                        self.advance(&mut cursor, at, messages);
                        at += 1;
                    }
                }
            }
        }
    }

    /// Prepares headers from `cursor` on; returns their number.
    fn fill(
        &mut self,
        buffer: &[u8],
        messages: &[Message],
        mut cursor: Cursor,
        wildcard: bool,
    ) -> usize {
        let mut filled = 0;
        while filled < BATCH
            && let Some(message) = messages.get(cursor.message)
        {
            let rest = message.bytes(buffer).get(cursor.offset..).unwrap_or_default();
            let whole = message.segment_size == 0 || (self.gso && cursor.split.is_none());
            let bytes =
                if whole { rest } else { rest.get(..message.segment_size.into()).unwrap_or(rest) };
            let several = whole && message.segment_size != 0 && message.count() > 1;
            self.counts[filled] = if several { message.count() as u32 } else { 1 };

            let vector = &mut self.vectors[filled];
            vector.iov_base = bytes.as_ptr().cast_mut().cast();
            vector.iov_len = bytes.len();
            let header = &mut self.headers[filled].msg_hdr;
            header.msg_iov = vector;
            header.msg_iovlen = 1;
            let name = &mut self.names[filled];
            header.msg_namelen = name.encode(message.remote);
            header.msg_name = ptr::from_mut(name).cast();
            let control = &mut self.controls[filled];
            let segment_size = if several { message.segment_size } else { 0 };
            let len = control.encode(message.local_ip.filter(|_| wildcard), segment_size);
            header.msg_controllen = len as _;
            header.msg_control =
                if len == 0 { ptr::null_mut() } else { control.as_mut_ptr().cast() };

            cursor.offset += bytes.len();
            if whole || cursor.offset >= message.len || bytes.is_empty() {
                cursor = Cursor { message: cursor.message + 1, ..Cursor::default() };
            }
            filled += 1;
        }
        filled
    }

    /// Sends headers `at..filled`; returns the number accepted.
    fn call(&mut self, socket: &UdpSocket, at: usize, filled: usize) -> io::Result<usize> {
        let headers = &mut self.headers[at..filled];
        // SAFETY: `fill` prepared these headers from the borrowed buffer and from boxes of `self` that
        // nothing has touched since; the kernel writes `msg_len` of each only, and reads the rest.
        check(unsafe {
            libc::sendmmsg(
                socket.as_fd().as_raw_fd(),
                headers.as_mut_ptr(),
                headers.len() as libc::c_uint,
                libc::MSG_DONTWAIT as _,
            )
        })
        .map(|taken| taken as usize)
    }

    /// Header `at` was sent.
    fn taken(&mut self, cursor: &mut Cursor, at: usize, messages: &[Message], sent: &mut Sent) {
        sent.datagrams += self.counts[at] as usize;
        if self.counts[at] > 1 {
            self.refusals = 0;
        } else if let Some(refusal @ (Refusal::Perhaps | Refusal::Certain)) = cursor.split {
            // It works without GSO, so GSO was the cause.
            self.refusals += 1;
            if self.gso && (refusal == Refusal::Certain || self.refusals >= MAX_REFUSALS) {
                self.gso = false;
                sent.gso_given_up = true;
            }
            cursor.split = Some(Refusal::Confirmed);
        }
        self.advance(cursor, at, messages);
    }

    /// Moves behind header `at`.
    fn advance(&self, cursor: &mut Cursor, at: usize, messages: &[Message]) {
        cursor.offset += self.vectors[at].iov_len;
        let len = messages.get(cursor.message).map_or(0, |message| message.len);
        if cursor.offset >= len || self.vectors[at].iov_len == 0 {
            *cursor = Cursor { message: cursor.message + 1, ..Cursor::default() };
        }
    }
}

/// Returns whether an error of a GSO message may be a refusal of GSO.
fn refusal(error: &io::Error) -> Option<Refusal> {
    match error.raw_os_error()? {
        libc::EIO | libc::EOPNOTSUPP => Some(Refusal::Certain),
        libc::EINVAL | libc::EMSGSIZE => Some(Refusal::Perhaps),
        _ => None,
    }
}

/// Number of datagrams from `cursor` on.
fn remaining(cursor: Cursor, messages: &[Message]) -> usize {
    let all: usize = messages.iter().skip(cursor.message).map(Message::count).sum();
    let done = messages.get(cursor.message).map_or(0, |message| match message.segment_size {
        0 => 0,
        size => cursor.offset / usize::from(size),
    });
    all - done
}

impl fmt::Debug for SendBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendBatch")
            .field("gso", &self.gso)
            .field("refusals", &self.refusals)
            .finish_non_exhaustive()
    }
}
