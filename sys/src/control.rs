//! Ancillary data of a message (`cmsg(3)`): packet information and segment sizes, written and read as
//! bytes.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

/// Room for packet information of either family (40 bytes at most with its header), a segment size
/// (24) and a time (32), with some to spare for what an administrator's settings may add.
const CAPACITY: usize = 128;

/// A control buffer, aligned as the kernel requires.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(crate) struct Control([u8; CAPACITY]);

/// Ancillary data of a received message.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Info {
    /// The local address that it was sent to.
    pub(crate) local_ip: Option<IpAddr>,
    /// It consists of several datagrams of this length; the last may be shorter.
    pub(crate) segment_size: Option<usize>,
    /// When it arrived, since 1970.
    pub(crate) received: Option<Duration>,
}

/// Bytes of a header with its padding.
const HEADER: usize = align(size_of::<libc::cmsghdr>());

/// Control messages begin at multiples of the word size.
const fn align(len: usize) -> usize {
    len.next_multiple_of(size_of::<usize>())
}

impl Control {
    pub(crate) const fn new() -> Self {
        Self([0; CAPACITY])
    }

    pub(crate) const fn capacity() -> usize {
        CAPACITY
    }

    /// For `msg_control`.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.0.as_mut_ptr()
    }

    /// Writes the control messages for a message to send and returns the length for
    /// `msg_controllen`.
    pub(crate) fn encode(&mut self, local_ip: Option<IpAddr>, segment_size: u16) -> usize {
        let mut used = 0;
        match local_ip {
            // struct in_pktinfo: interface index (any), source address, unused.
            Some(IpAddr::V4(ip)) => {
                let mut info = [0; 12];
                info[4..8].copy_from_slice(&ip.octets());
                self.push(&mut used, libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
            }
            // struct in6_pktinfo: source address, interface index (any).
            Some(IpAddr::V6(ip)) => {
                let mut info = [0; 20];
                info[..16].copy_from_slice(&ip.octets());
                self.push(&mut used, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
            }
            None => {}
        }
        if segment_size != 0 {
            self.push(&mut used, libc::SOL_UDP, libc::UDP_SEGMENT, &segment_size.to_ne_bytes());
        }
        used
    }

    /// Appends one control message: `cmsg_len`, level, type, data.
    fn push(&mut self, used: &mut usize, level: libc::c_int, kind: libc::c_int, data: &[u8]) {
        const WORD: usize = size_of::<usize>();
        let at = &mut self.0[*used..];
        at[..WORD].copy_from_slice(&(HEADER + data.len()).to_ne_bytes());
        at[WORD..WORD + 4].copy_from_slice(&level.to_ne_bytes());
        at[WORD + 4..WORD + 8].copy_from_slice(&kind.to_ne_bytes());
        at[HEADER..HEADER + data.len()].copy_from_slice(data);
        *used += HEADER + align(data.len());
    }

    /// Reads what the kernel wrote, `len` being the `msg_controllen` that it left.
    pub(crate) fn decode(&self, len: usize) -> Info {
        let mut info = Info::default();
        let mut rest = &self.0[..len.min(CAPACITY)];
        while let Some((level, kind, data, next)) = split_first(rest) {
            match (level, kind) {
                // The second field is the local address to answer from, also for broadcasts.
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    info.local_ip = array::<4>(data, 4).map(|ip| Ipv4Addr::from(ip).into());
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    info.local_ip = array::<16>(data, 0).map(|ip| Ipv6Addr::from(ip).into());
                }
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    info.segment_size = array::<4>(data, 0)
                        .and_then(|size| usize::try_from(i32::from_ne_bytes(size)).ok());
                }
                (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS) => info.received = timespec(data),
                _ => {}
            }
            rest = next;
        }
        info
    }
}

/// A `struct timespec` of 64-bit fields.
fn timespec(data: &[u8]) -> Option<Duration> {
    let seconds = u64::try_from(i64::from_ne_bytes(array(data, 0)?)).ok()?;
    let nanos = u32::try_from(i64::from_ne_bytes(array(data, 8)?)).ok()?;
    (nanos < 1_000_000_000).then(|| Duration::new(seconds, nanos))
}

/// The first control message as level, type and data, and what follows it.
fn split_first(bytes: &[u8]) -> Option<(libc::c_int, libc::c_int, &[u8], &[u8])> {
    const WORD: usize = size_of::<usize>();
    let len = usize::from_ne_bytes(array::<WORD>(bytes, 0)?);
    let level = libc::c_int::from_ne_bytes(array(bytes, WORD)?);
    let kind = libc::c_int::from_ne_bytes(array(bytes, WORD + 4)?);
    let data = bytes.get(HEADER..len)?;
    Some((level, kind, data, bytes.get(align(len)..).unwrap_or_default()))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_that_of_libc() {
        // SAFETY: plain arithmetic on the argument.
        let space = |len| unsafe { libc::CMSG_SPACE(len) } as usize;
        assert_eq!(size_of::<libc::in_pktinfo>(), 12);
        assert_eq!(size_of::<libc::in6_pktinfo>(), 20);
        let mut control = Control::new();
        let v4 = Some(IpAddr::from([127, 0, 0, 1]));
        let v6 = Some(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1u16]));
        assert_eq!(control.encode(None, 0), 0);
        assert_eq!(control.encode(None, 1200), space(2));
        assert_eq!(control.encode(v4, 0), space(12));
        assert_eq!(control.encode(v6, 1200), space(20) + space(2));
    }

    #[test]
    fn packet_information_is_read() {
        let mut control = Control::new();
        let mut used = 0;
        let pktinfo = [0, 0, 0, 1, 10, 0, 0, 7, 10, 0, 0, 255];
        control.push(&mut used, libc::IPPROTO_IP, libc::IP_PKTINFO, &pktinfo);
        control.push(&mut used, libc::SOL_UDP, libc::UDP_GRO, &1100i32.to_ne_bytes());
        let time = [7i64.to_ne_bytes(), 5i64.to_ne_bytes()].concat();
        control.push(&mut used, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, &time);
        let whole = Info {
            local_ip: Some([10, 0, 0, 7].into()),
            segment_size: Some(1100),
            received: Some(Duration::new(7, 5)),
        };
        assert_eq!(control.decode(used), whole);
        for len in 0..used {
            control.decode(len);
        }
        assert_eq!(control.decode(0), Info::default());

        used = 0;
        let never = [7i64.to_ne_bytes(), (-5i64).to_ne_bytes()].concat();
        control.push(&mut used, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, &never);
        assert_eq!(control.decode(used).received, None);

        used = 0;
        let mut pktinfo = [0; 20];
        pktinfo[15] = 1;
        control.push(&mut used, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &pktinfo);
        assert_eq!(control.decode(used).local_ip, Some(Ipv6Addr::LOCALHOST.into()));
    }
}
