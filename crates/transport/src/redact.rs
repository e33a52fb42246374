//! Addresses of participants, as logs and debug output may show them.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    net::{IpAddr, SocketAddr},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

static REDACT: AtomicBool = AtomicBool::new(true);
static KEY: OnceLock<RandomState> = OnceLock::new();

/// Switches redaction for the whole process (`videobridge.redact-remote-addresses`). Initially on,
/// so that nothing leaks before the configuration is read.
pub fn set_redaction(on: bool) {
    REDACT.store(on, Ordering::Relaxed);
}

/// Formats a participant's address for a log line: `v4~3f9a1c:51234` while redaction is on,
/// otherwise the address itself. The tag is a hash with a key that only this process has: two lines
/// about one address can be matched, but the address cannot be found by trying all of them
/// elsewhere. Loopback and unspecified addresses identify nobody and are shown.
pub fn redact(addr: SocketAddr) -> Redacted {
    Redacted { ip: addr.ip(), port: Some(addr.port()) }
}

/// [`redact`] for an address without a port.
pub fn redact_ip(ip: IpAddr) -> Redacted {
    Redacted { ip, port: None }
}

/// The result of [`redact`]: display it.
#[derive(Clone, Copy)]
pub struct Redacted {
    ip: IpAddr,
    port: Option<u16>,
}

impl Redacted {
    fn write(self, hide: bool, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ip = self.ip.to_canonical();
        if hide && !ip.is_loopback() && !ip.is_unspecified() {
            let tag = KEY.get_or_init(RandomState::new).hash_one(ip) & 0x00ff_ffff;
            let family = if ip.is_ipv4() { "v4" } else { "v6" };
            write!(f, "{family}~{tag:06x}")?;
            return self.port.map_or(Ok(()), |port| write!(f, ":{port}"));
        }
        match self.port {
            Some(port) => fmt::Display::fmt(&SocketAddr::new(ip, port), f),
            None => fmt::Display::fmt(&ip, f),
        }
    }
}

impl fmt::Display for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(REDACT.load(Ordering::Relaxed), f)
    }
}

impl fmt::Debug for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct As(Redacted, bool);
    impl fmt::Display for As {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.write(self.1, f)
        }
    }

    #[test]
    fn a_public_address_is_hidden_and_still_matches_itself() {
        let addr: SocketAddr = "203.0.113.7:5000".parse().unwrap();
        let hidden = As(redact(addr), true).to_string();
        assert!(!hidden.contains("203") && hidden.starts_with("v4~") && hidden.ends_with(":5000"));
        assert_eq!(hidden, As(redact(addr), true).to_string());
        assert_eq!(As(redact(addr), false).to_string(), "203.0.113.7:5000");
        let v6: SocketAddr = "[2001:db8::1]:5000".parse().unwrap();
        assert!(As(redact(v6), true).to_string().starts_with("v6~"));
        assert_eq!(As(redact_ip(v6.ip()), false).to_string(), "2001:db8::1");
    }

    #[test]
    fn loopback_is_shown_and_mapped_addresses_are_v4() {
        assert_eq!(As(redact("127.0.0.1:9".parse().unwrap()), true).to_string(), "127.0.0.1:9");
        let mapped = redact("[::ffff:203.0.113.7]:1".parse().unwrap());
        assert!(As(mapped, true).to_string().starts_with("v4~"));
    }
}
