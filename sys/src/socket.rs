//! UDP sockets with the options that the engine needs.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use crate::address::RawAddr;

/// Options of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SocketOptions {
    /// `SO_REUSEPORT`: several sockets of this user share the port, and the kernel spreads flows
    /// over them.
    pub reuse_port: bool,
    /// `SO_RCVBUF` to ask for, bytes; 0 leaves the system's default.
    pub receive_buffer: usize,
    /// `SO_SNDBUF` to ask for, bytes; 0 leaves the system's default.
    pub send_buffer: usize,
    /// `UDP_GRO`: the kernel may deliver several datagrams of one flow as one.
    pub gro: bool,
}

/// A bound, non-blocking UDP socket. On a wildcard address it reports the destination address of
/// received datagrams. An IPv6 socket carries IPv6 only.
#[derive(Debug)]
pub struct UdpSocket {
    inner: std::net::UdpSocket,
    local: SocketAddr,
    gro: bool,
    gso: bool,
}

impl UdpSocket {
    /// Creates and binds a socket. A smaller buffer than requested, or missing GRO, is no error:
    /// check [`receive_buffer`](Self::receive_buffer) and [`gro`](Self::gro).
    ///
    /// # Errors
    /// The kernel's refusal of the family, of an option, or of the address.
    pub fn bind(addr: SocketAddr, options: &SocketOptions) -> io::Result<Self> {
        let family = if addr.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: no pointers are passed; a valid descriptor that nobody else owns is returned, or -1.
        let fd = unsafe {
            let fd = check(libc::socket(family, kind, libc::IPPROTO_UDP))?;
            OwnedFd::from_raw_fd(fd)
        };
        if options.reuse_port {
            set(&fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
        }
        if addr.is_ipv6() {
            set(&fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
        }
        if addr.ip().is_unspecified() {
            match addr {
                SocketAddr::V4(_) => set(&fd, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?,
                SocketAddr::V6(_) => set(&fd, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?,
            }
        }
        if options.receive_buffer > 0 {
            set_buffer(&fd, libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, options.receive_buffer)?;
        }
        if options.send_buffer > 0 {
            set_buffer(&fd, libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, options.send_buffer)?;
        }
        let gro = options.gro && set(&fd, libc::SOL_UDP, libc::UDP_GRO, 1).is_ok();
        let gso = get(&fd, libc::SOL_UDP, libc::UDP_SEGMENT).is_ok();
        bind(&fd, addr)?;
        let inner = std::net::UdpSocket::from(fd);
        Ok(Self { local: inner.local_addr()?, inner, gro, gso })
    }

    /// The address that it is bound to, with the port in use.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Returns whether the kernel may deliver several datagrams as one.
    pub fn gro(&self) -> bool {
        self.gro
    }

    /// Returns whether the kernel supports `UDP_SEGMENT`. The device may still refuse it.
    pub fn gso(&self) -> bool {
        self.gso
    }

    /// The actual receive buffer, bytes, in the unit of [`SocketOptions`]. If it is less than
    /// requested, the sysctl `net.core.rmem_max` limits it.
    ///
    /// # Errors
    /// An error of the kernel.
    pub fn receive_buffer(&self) -> io::Result<usize> {
        get(&self.inner, libc::SOL_SOCKET, libc::SO_RCVBUF).map(halve)
    }

    /// The actual send buffer, bytes. If it is less than requested, the sysctl `net.core.wmem_max`
    /// limits it.
    ///
    /// # Errors
    /// An error of the kernel.
    pub fn send_buffer(&self) -> io::Result<usize> {
        get(&self.inner, libc::SOL_SOCKET, libc::SO_SNDBUF).map(halve)
    }

    /// Enables arrival times: every datagram reports when the kernel received it
    /// (`SO_TIMESTAMPNS`).
    ///
    /// # Errors
    /// An error of the kernel.
    pub fn stamp_arrivals(&self) -> io::Result<()> {
        set(&self.inner, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)
    }

    /// Stops receiving: a socket filter drops everything before it is queued. Such a socket is a
    /// sink whose cost to the sender's CPU is that of the network stack alone; for benches.
    ///
    /// # Errors
    /// An error of the kernel.
    pub fn drop_incoming(&self) -> io::Result<()> {
        let mut refuse = libc::sock_filter { code: 6, jt: 0, jf: 0, k: 0 }; // BPF_RET | BPF_K, 0 bytes
        let program = libc::sock_fprog { len: 1, filter: &raw mut refuse };
        // SAFETY: the program and its one instruction live through the call, which copies them.
        check(unsafe {
            libc::setsockopt(
                self.inner.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const program).cast(),
                size_of_val(&program) as _,
            )
        })?;
        Ok(())
    }

    /// Makes the kernel refuse GSO on this socket as it does where checksums cannot be offloaded.
    #[cfg(test)]
    pub(crate) fn refuse_gso(&self) {
        set(&self.inner, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1).unwrap();
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

/// The kernel doubles the requested size to account for its own overhead, and reports the double.
fn halve(size: libc::c_int) -> usize {
    usize::try_from(size).unwrap_or(0) / 2
}

fn bind(fd: &OwnedFd, addr: SocketAddr) -> io::Result<()> {
    let mut raw = RawAddr::new();
    let len = raw.encode(addr);
    // SAFETY: `raw` holds an address of `len` bytes and lives through the call.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const raw).cast(), len) })?;
    Ok(())
}

/// Raises a buffer beyond the system's limit if the process may (`CAP_NET_ADMIN`), otherwise up to
/// it.
fn set_buffer(fd: &OwnedFd, force: libc::c_int, plain: libc::c_int, size: usize) -> io::Result<()> {
    let size = libc::c_int::try_from(size / 2).unwrap_or(libc::c_int::MAX / 2).saturating_mul(2);
    set(fd, libc::SOL_SOCKET, force, size).or_else(|_| set(fd, libc::SOL_SOCKET, plain, size))
}

fn set(
    fd: &impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: `value` is an int that lives through the call, and its size is passed.
    check(unsafe {
        libc::setsockopt(
            fd.as_fd().as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of_val(&value) as _,
        )
    })?;
    Ok(())
}

fn get(fd: &impl AsFd, level: libc::c_int, name: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut len = size_of_val(&value) as libc::socklen_t;
    // SAFETY: `value` has room for the `len` bytes that the kernel may write, and both live through
    // the call.
    check(unsafe {
        libc::getsockopt(fd.as_fd().as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut len)
    })?;
    Ok(value)
}

/// Converts -1 to the error in `errno`.
pub(crate) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
