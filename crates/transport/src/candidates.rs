//! Selects the local addresses to use, and describes them as candidates.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use super::{
    config::TransportConfig,
    types::{CandidateKind, LocalCandidate},
};

/// An address of a network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name, such as `eth0`.
    pub name: String,
    /// One of its addresses.
    pub ip: IpAddr,
}

/// The machine's interfaces that are up.
pub(crate) fn interfaces() -> io::Result<Vec<Interface>> {
    let list = if_addrs::get_if_addrs()?;
    Ok(list.into_iter().map(|i| Interface { ip: i.ip(), name: i.name }).collect())
}

/// The local addresses that sockets bound to `bound` may use, in the order of `bound`: the first
/// one in the configuration is preferred.
pub(crate) fn usable(
    config: &TransportConfig,
    bound: &[SocketAddr],
    interfaces: &[Interface],
) -> Vec<SocketAddr> {
    let mut seen = BTreeSet::new();
    let mut usable = Vec::new();
    for socket in bound {
        let wildcard = socket.ip().is_unspecified();
        for interface in interfaces {
            let ip = interface.ip;
            let fits = if wildcard {
                ip.is_ipv4() == socket.is_ipv4() && (config.loopback || !ip.is_loopback())
            } else {
                ip == socket.ip()
            };
            let addr = SocketAddr::new(ip, socket.port());
            if fits && is_allowed(config, interface) && seen.insert(addr) {
                usable.push(addr);
            }
        }
        // All of 127.0.0.0/8 can be bound without being listed on an interface.
        if !wildcard
            && socket.ip().is_loopback()
            && !config.blocked_addresses.contains(&socket.ip())
            && seen.insert(*socket)
        {
            usable.push(*socket);
        }
    }
    usable
}

/// The local addresses at which sockets bound to `bound` receive, of those that may be used.
///
/// # Errors
/// An error of the system if it does not list its interfaces.
pub fn local_addresses(
    config: &TransportConfig,
    bound: &[SocketAddr],
) -> io::Result<Vec<SocketAddr>> {
    Ok(usable(config, bound, &interfaces()?))
}

/// The addresses that a bridge starting now would advertise for sockets bound to `bound`.
///
/// # Errors
/// An error of the system if it does not list its interfaces.
pub fn advertised(config: &TransportConfig, bound: &[SocketAddr]) -> io::Result<Vec<SocketAddr>> {
    let locals = usable(config, bound, &interfaces()?);
    let told = describe(config, &locals, config.advertise_private, 0);
    Ok(told.iter().map(|c| SocketAddr::new(c.ip, c.port)).collect())
}

fn is_allowed(config: &TransportConfig, interface: &Interface) -> bool {
    let Interface { name, ip } = interface;
    let listed = |list: &[String]| list.iter().any(|n| n == name);
    (config.allowed_interfaces.is_empty() || listed(&config.allowed_interfaces))
        && !listed(&config.blocked_interfaces)
        && (config.allowed_addresses.is_empty() || config.allowed_addresses.contains(ip))
        && !config.blocked_addresses.contains(ip)
        && (config.use_ipv6 || ip.is_ipv4())
        && (config.use_link_local || !is_link_local(*ip))
        && !ip.is_unspecified()
        && !ip.is_multicast()
}

/// 169.254.0.0/16 and `fe80::/10`.
pub(crate) fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// RFC 1918, shared address space (RFC 6598) and unique local addresses (RFC 4193).
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let shared = u32::from(v4) & 0xffc0_0000 == u32::from(Ipv4Addr::new(100, 64, 0, 0));
            v4.is_private() || shared
        }
        IpAddr::V6(v6) => v6.is_unique_local(),
    }
}

/// The public addresses of a local one.
fn mapped(config: &TransportConfig, local: SocketAddr) -> impl Iterator<Item = SocketAddr> {
    config
        .static_mappings
        .iter()
        .filter(move |m| {
            m.local == local.ip() && m.local_port.is_none_or(|port| port == local.port())
        })
        .map(move |m| SocketAddr::new(m.public, m.public_port.unwrap_or(local.port())))
}

/// Describes local addresses as candidates, host candidates first. `tag` makes their ids unique.
pub(crate) fn describe(
    config: &TransportConfig,
    usable: &[SocketAddr],
    private_too: bool,
    tag: u64,
) -> Vec<LocalCandidate> {
    let private_too = private_too || config.advertise_private;
    let mut list = Vec::new();
    let hosts = usable.iter().filter(|addr| private_too || !is_private(addr.ip()));
    for (index, addr) in hosts.enumerate() {
        list.push(candidate(CandidateKind::Host, *addr, None, index, list.len(), tag));
    }
    let reflexive =
        usable.iter().flat_map(|local| mapped(config, *local).map(move |public| (public, *local)));
    for (index, (public, local)) in reflexive.enumerate() {
        let kind = CandidateKind::ServerReflexive;
        list.push(candidate(kind, public, Some(local), index, list.len(), tag));
    }
    list
}

/// `index` counts the candidates of this kind, `place` counts all.
fn candidate(
    kind: CandidateKind,
    addr: SocketAddr,
    base: Option<SocketAddr>,
    index: usize,
    place: usize,
    tag: u64,
) -> LocalCandidate {
    // Type preferences of RFC 8445 section 5.1.2.2; component 1.
    let preference = if kind == CandidateKind::Host { 126 } else { 100 };
    let local = 65_535 - index.min(65_535) as u32;
    LocalCandidate {
        foundation: (place + 1).to_string(),
        component: 1,
        protocol: "udp",
        priority: preference << 24 | local << 8 | 255,
        ip: addr.ip(),
        port: addr.port(),
        kind,
        related: base.map(|b| (b.ip(), b.port())),
        id: format!("{tag:016x}{place:02x}"),
        generation: 0,
        network: 0,
    }
}

#[cfg(test)]
mod tests;
