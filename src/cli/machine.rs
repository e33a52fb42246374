//! Checks whether this machine has the ports, buffers and addresses that a configuration needs.

use std::{
    fmt, fs, io,
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
};

use rialto_transport as transport;

use crate::{
    config::{self, Config, StaticMapping},
    daemon,
};

/// The result of one check.
#[derive(Debug)]
pub(super) struct Finding {
    severity: Severity,
    text: String,
}

/// The severity of a finding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Severity {
    Good,
    Warning,
    Problem,
    /// A bridge would not start.
    Refusal,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Good => "ok",
            Severity::Warning => "warning",
            Severity::Problem | Severity::Refusal => "problem",
        };
        write!(f, "{severity:7} {}", self.text)
    }
}

impl Finding {
    /// Returns whether the operator has to act.
    pub(super) fn is_problem(&self) -> bool {
        matches!(self.severity, Severity::Problem | Severity::Refusal)
    }

    /// Returns whether a bridge with this configuration would not start here, for a reason other than
    /// another bridge that is running now.
    pub(super) fn is_refusal(&self) -> bool {
        self.severity == Severity::Refusal
    }
}

pub(super) fn good(text: String) -> Finding {
    Finding { severity: Severity::Good, text }
}

/// A finding that may be intended.
pub(super) fn warning(text: String) -> Finding {
    Finding { severity: Severity::Warning, text }
}

pub(super) fn problem(text: String) -> Finding {
    Finding { severity: Severity::Problem, text }
}

fn refusal(text: String) -> Finding {
    Finding { severity: Severity::Refusal, text }
}

/// Checks ports, buffers and addresses. No port stays bound.
pub(super) fn check(config: &Config) -> Vec<Finding> {
    let media = daemon::media_addresses(config, None);
    let mut findings: Vec<Finding> = media.iter().map(|addr| udp(*addr)).collect();
    findings.extend(config.http.listen().map(tcp));
    findings.extend(daemon::public_address(config).map(tcp));
    if config::servers_collide(config) {
        let (private, public) = (config::private_port_key(config), config::public_port_key(config));
        findings.push(refusal(format!("{private} and {public} are one port: one cannot listen")));
    }
    for name in ["rmem_max", "wmem_max"] {
        findings.extend(buffer(name, config.engine.socket_buffer));
    }
    findings.extend(mappings(config, &locals(config)));
    findings.push(candidates(config, &media));
    findings
}

/// Returns the addresses at which media is received, filtered by the configuration. Empty when the system
/// does not list its addresses.
pub(super) fn locals(config: &Config) -> Vec<SocketAddr> {
    let media = daemon::media_addresses(config, None);
    transport::local_addresses(&daemon::transport_config(config), &media).unwrap_or_default()
}

/// Reports mappings of local addresses that are not in use: the bridge ignores them silently.
fn mappings(config: &Config, locals: &[SocketAddr]) -> Vec<Finding> {
    let used = |ip: IpAddr| locals.iter().any(|local| local.ip() == ip);
    let idle = config.harvest.static_mappings.iter().filter(|mapping| !used(mapping.local));
    let list: Vec<String> = locals.iter().map(|local| local.ip().to_string()).collect();
    let list = list.join(", ");
    let finding = |mapping: &StaticMapping| {
        let name = mapping.name.as_ref().map_or(String::new(), |name| format!(" ({name})"));
        problem(format!(
            "nobody is told {}{name}: its local-address {} is none of those that are used here: {list}",
            mapping.public, mapping.local
        ))
    };
    idle.map(finding).collect()
}

fn udp(addr: SocketAddr) -> Finding {
    port("UDP", addr, UdpSocket::bind(addr).map(drop))
}

fn tcp(addr: SocketAddr) -> Finding {
    port("TCP", addr, TcpListener::bind(addr).map(drop))
}

fn port(protocol: &str, addr: SocketAddr, bound: io::Result<()>) -> Finding {
    match bound {
        Ok(()) => good(format!("{protocol} {addr} is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            problem(format!("{protocol} {addr} is in use (a bridge that runs now?)"))
        }
        Err(error) => refusal(format!("{protocol} {addr}: {error}")),
    }
}

/// Checks the kernel's limit on a socket's buffer. Returns `None` where the kernel does not report it, as
/// in some containers.
fn buffer(name: &str, wanted: usize) -> Option<Finding> {
    let text = fs::read_to_string(format!("/proc/sys/net/core/{name}")).ok()?;
    let allowed: usize = text.trim().parse().ok()?;
    Some(if allowed >= wanted {
        good(format!("net.core.{name} allows buffers of {wanted} bytes"))
    } else {
        problem(format!(
            "net.core.{name} allows buffers of {allowed} bytes only: sysctl -w net.core.{name}={wanted}"
        ))
    })
}

/// Checks the candidates that clients would get.
fn candidates(config: &Config, media: &[SocketAddr]) -> Finding {
    let advertised = match transport::advertised(&daemon::transport_config(config), media) {
        Ok(advertised) => advertised,
        Err(error) => return problem(format!("cannot list network interfaces: {error}")),
    };
    if advertised.is_empty() {
        let keys = "ice4j.harvest.{allowed,blocked}-{interfaces,addresses}";
        return problem(format!("no address that clients could be told: see {keys}"));
    }
    let list: Vec<String> = advertised.iter().map(ToString::to_string).collect();
    let list = list.join(", ");
    if advertised.iter().all(|addr| is_private(addr.ip())) {
        if config.harvest.stun_servers.is_empty() {
            return problem(format!(
                "clients are told only private addresses: {list}. From elsewhere they need \
                 ice4j.harvest.mapping.static-mappings"
            ));
        }
        return good(format!(
            "clients are told {list}, and what ice4j.harvest.mapping.stun.addresses say (see --connect)"
        ));
    }
    good(format!("clients are told {list}"))
}

/// Returns whether an address is unreachable from the Internet (RFC 1918, RFC 6598, RFC 4193, loopback,
/// link).
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let shared = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64;
            ip.is_private() || ip.is_loopback() || ip.is_link_local() || shared
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_those_of_the_rfcs() {
        let private = |ip: &str| is_private(ip.parse().unwrap());
        for ip in
            ["10.1.2.3", "100.64.0.1", "127.0.0.1", "169.254.1.1", "fd00::1", "fe80::1", "::1"]
        {
            assert!(private(ip), "{ip}");
        }
        for ip in ["203.0.113.20", "100.128.0.1", "2001:db8::1"] {
            assert!(!private(ip), "{ip}");
        }
    }

    #[test]
    fn a_mapping_of_an_address_that_is_not_used_is_a_problem() {
        let mapping = |local: &str, name: Option<&str>| StaticMapping {
            local: local.parse().unwrap(),
            public: "203.0.113.20".parse().unwrap(),
            local_port: None,
            public_port: None,
            name: name.map(str::to_owned),
        };
        let mut config = Config::default();
        config.harvest.static_mappings =
            vec![mapping("10.0.0.5", None), mapping("172.18.0.5", Some("ip-1"))];
        let found = mappings(&config, &["10.0.0.5:10000".parse().unwrap()]);
        assert_eq!(found.len(), 1);
        let says = "nobody is told 203.0.113.20 (ip-1): its local-address 172.18.0.5 is none of";
        assert!(found[0].is_problem() && found[0].text.starts_with(says), "{}", found[0].text);
    }

    #[test]
    fn a_port_in_use_is_a_problem() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let addr = socket.local_addr().unwrap();
        assert!(udp(addr).is_problem() && !udp(addr).is_refusal());
        drop(socket);
        assert!(!udp(addr).is_problem());
    }

    #[test]
    fn an_address_of_another_machine_and_a_port_of_both_servers_are_refused() {
        let other = tcp("192.0.2.1:0".parse().unwrap());
        assert!(other.is_problem() && other.is_refusal(), "{other}");
        let mut config = Config::default();
        let refused = |config: &Config| {
            check(config)
                .iter()
                .any(|finding| finding.is_refusal() && finding.text.contains("one port"))
        };
        config.web_sockets.enabled = true;
        config.http.port = Some(9090);
        config.public_http.port = Some(9090);
        assert!(refused(&config));
        config.public_http.port = Some(9091);
        assert!(!refused(&config));
    }

    #[test]
    fn a_buffer_beyond_the_limit_is_a_problem() {
        let finding = buffer("rmem_max", usize::MAX).expect("Linux says");
        assert!(finding.is_problem() && finding.text.contains("sysctl -w net.core.rmem_max="));
    }
}
