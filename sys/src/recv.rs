//! Receives many datagrams in one call.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd},
    ptr,
    time::Duration,
};

use crate::{
    UdpSocket,
    address::RawAddr,
    control::{Control, Info},
    socket::check,
};

/// A received datagram.
#[derive(PartialEq, Eq, Debug)]
pub struct Datagram<'a> {
    /// Its payload.
    pub bytes: &'a mut [u8],
    /// Its source address, which may be forged.
    pub remote: SocketAddr,
    /// The address it was sent to, if the socket is bound to a wildcard address.
    pub local_ip: Option<IpAddr>,
    /// When the kernel received it, since 1970, if that was enabled
    /// ([`UdpSocket::stamp_arrivals`]). Coalesced datagrams have the time of their first.
    pub received: Option<Duration>,
    /// It was longer than a slot, and the rest is lost.
    pub truncated: bool,
}

/// Slots for received messages, and everything that the call needs; allocated once. With GRO a slot
/// may receive several datagrams of one flow.
pub struct RecvBatch {
    buffer: Box<[u8]>,
    slot_len: usize,
    headers: Box<[libc::mmsghdr]>,
    vectors: Box<[libc::iovec]>,
    names: Box<[RawAddr]>,
    controls: Box<[Control]>,
    received: usize,
}

// SAFETY: the raw pointers in `headers` and `vectors` are used by the kernel only, within `recv`,
// which sets all of them right before the call; what they point to is owned by this value.
unsafe impl Send for RecvBatch {}

impl RecvBatch {
    /// Creates `slots` slots of `slot_len` bytes each. With GRO, 65,536 bytes; otherwise an MTU.
    pub fn new(slots: usize, slot_len: usize) -> Self {
        let (slots, slot_len) = (slots.max(1), slot_len.max(1));
        let vector = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        Self {
            buffer: vec![0; slots * slot_len].into(),
            slot_len,
            headers: vec![empty_header(); slots].into(),
            vectors: vec![vector; slots].into(),
            names: vec![RawAddr::new(); slots].into(),
            controls: vec![Control::new(); slots].into(),
            received: 0,
        }
    }

    /// Receives what waits in the socket, up to the number of slots, and returns the number of
    /// slots filled; 0 if nothing waits. Overwrites the results of an earlier call.
    ///
    /// # Errors
    /// An error of the kernel. It may concern a datagram sent earlier; the socket stays usable.
    pub fn recv(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        self.received = 0;
        let slots = self.buffer.chunks_exact_mut(self.slot_len).zip(&mut self.vectors);
        let ancillary = self.names.iter_mut().zip(&mut self.controls);
        for ((header, (slot, vector)), (name, control)) in
            self.headers.iter_mut().zip(slots).zip(ancillary)
        {
            vector.iov_base = slot.as_mut_ptr().cast();
            vector.iov_len = slot.len();
            let header = &mut header.msg_hdr;
            header.msg_iov = vector;
            header.msg_iovlen = 1;
            header.msg_name = ptr::from_mut(name).cast();
            header.msg_namelen = size_of::<RawAddr>() as _;
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = Control::capacity() as _;
            header.msg_flags = 0;
        }
        // SAFETY: the first `headers.len()` headers are initialised above; each points to one vector,
        // and that to a slot, a name and a control buffer of the lengths given, which are all owned by
        // `self`, disjoint, and untouched until the call returns. A null timeout means none.
        let result = check(unsafe {
            libc::recvmmsg(
                socket.as_fd().as_raw_fd(),
                self.headers.as_mut_ptr(),
                self.headers.len() as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        });
        match result {
            Ok(received) => self.received = received as usize,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Err(error) => return Err(error),
        }
        Ok(self.received)
    }

    /// Returns whether the last call filled every slot, so that more may wait.
    pub fn is_full(&self) -> bool {
        self.received == self.headers.len()
    }

    /// The datagrams of the last call, in order; coalesced ones are split again.
    pub fn datagrams(&mut self) -> impl Iterator<Item = Datagram<'_>> {
        self.headers
            .iter()
            .zip(&self.names)
            .zip(&self.controls)
            .zip(self.buffer.chunks_exact_mut(self.slot_len))
            .take(self.received)
            .filter_map(|(((header, name), control), slot)| {
                let remote = name.decode()?;
                #[allow(clippy::unnecessary_cast, reason = "not a usize with every libc")]
                let info = control.decode(header.msg_hdr.msg_controllen as usize);
                let truncated = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
                let bytes = slot.get_mut(..header.msg_len as usize)?;
                Some(split(bytes, remote, info, truncated))
            })
            .flatten()
    }
}

/// The datagrams of one slot.
fn split(
    bytes: &mut [u8],
    remote: SocketAddr,
    info: Info,
    truncated: bool,
) -> impl Iterator<Item = Datagram<'_>> {
    let len = bytes.len();
    let size = info.segment_size.filter(|&size| size > 0 && size < len).unwrap_or(len.max(1));
    let empty = (len == 0).then(<&mut [u8]>::default);
    let mut left = len;
    empty.into_iter().chain(bytes.chunks_mut(size)).map(move |bytes| {
        left -= bytes.len();
        Datagram {
            bytes,
            remote,
            local_ip: info.local_ip,
            received: info.received,
            // Only the last one can be cut.
            truncated: truncated && left == 0,
        }
    })
}

/// A header that points nowhere.
pub(crate) fn empty_header() -> libc::mmsghdr {
    // SAFETY: integers and pointers only; zero and null are valid for them.
    unsafe { std::mem::zeroed() }
}

impl fmt::Debug for RecvBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvBatch")
            .field("slots", &self.headers.len())
            .field("slot_len", &self.slot_len)
            .field("received", &self.received)
            .finish_non_exhaustive()
    }
}
