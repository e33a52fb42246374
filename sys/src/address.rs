//! Socket addresses as the kernel has them.

use std::{
    mem,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
};

/// Room for an IPv4 or an IPv6 socket address. The family field lies at the same place in both.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) union RawAddr {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl RawAddr {
    /// All zero: family `AF_UNSPEC`.
    pub(crate) const fn new() -> Self {
        // SAFETY: both variants are plain integers and arrays of them, for which zero bytes are valid.
        unsafe { mem::zeroed() }
    }

    /// Puts an address in and returns its length for `msg_namelen`.
    pub(crate) fn encode(&mut self, addr: SocketAddr) -> libc::socklen_t {
        match addr {
            SocketAddr::V4(addr) => {
                self.v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as _,
                    sin_port: addr.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(addr.ip().octets()) },
                    sin_zero: [0; 8],
                };
                size_of::<libc::sockaddr_in>() as _
            }
            SocketAddr::V6(addr) => {
                self.v6 = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as _,
                    sin6_port: addr.port().to_be(),
                    sin6_flowinfo: addr.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: addr.ip().octets() },
                    sin6_scope_id: addr.scope_id(),
                };
                size_of::<libc::sockaddr_in6>() as _
            }
        }
    }

    /// The address, if it is of a known family. Flow information is left out: it is the sender's
    /// choice for each packet, and no part of who the peer is.
    pub(crate) fn decode(&self) -> Option<SocketAddr> {
        // SAFETY: every byte of the union is initialised (`new` zeroes it, the kernel and `encode`
        // only overwrite), and both variants are valid for any bytes.
        let (v4, v6) = unsafe { (self.v4, self.v6) };
        match libc::c_int::from(v4.sin_family) {
            libc::AF_INET => Some(SocketAddr::V4(SocketAddrV4::new(
                Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes()),
                u16::from_be(v4.sin_port),
            ))),
            libc::AF_INET6 => Some(SocketAddr::V6(SocketAddrV6::new(
                Ipv6Addr::from(v6.sin6_addr.s6_addr),
                u16::from_be(v6.sin6_port),
                0,
                v6.sin6_scope_id,
            ))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive() {
        for addr in ["1.2.3.4:5", "[::1]:65535", "[fe80::1%3]:80"] {
            let addr: SocketAddr = addr.parse().unwrap();
            let mut raw = RawAddr::new();
            assert_eq!(raw.decode(), None);
            assert_eq!(raw.encode(addr) as usize, if addr.is_ipv4() { 16 } else { 28 });
            assert_eq!(raw.decode(), Some(addr));
        }
    }
}
