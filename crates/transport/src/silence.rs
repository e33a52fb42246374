//! Detects that no connectivity checks arrive from anybody: then the clients are not the cause, and
//! the operator is told once.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    time::{Duration, Instant},
};

/// How long checks may be missing before that is reported.
const PATIENCE: Duration = Duration::from_secs(60);

/// State of the detection.
#[derive(Debug, Default)]
pub(super) struct CheckMonitor {
    /// Since when checks of any peer have been expected without one arriving.
    since: Option<Instant>,
    endpoints: u32,
    told: bool,
}

/// A report: no check has arrived for a long time, though peers should be sending them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unreachable {
    /// Number of endpoints with a known peer from which nothing arrived.
    pub endpoints: u32,
    /// For how long.
    pub silent: Duration,
}

impl Unreachable {
    /// One line about what is nearly always a firewall or a wrong public address. `told` are the
    /// advertised addresses.
    pub fn line(&self, told: &[SocketAddr]) -> String {
        let list = |texts: BTreeSet<String>| texts.into_iter().collect::<Vec<_>>().join(", ");
        let addresses = told.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let ports = list(told.iter().map(|addr| addr.port().to_string()).collect());
        let (endpoints, seconds) = (self.endpoints, self.silent.as_secs());
        let plural = if endpoints == 1 { "" } else { "s" };
        format!(
            "0 connectivity checks on {addresses} in {seconds} s with {endpoints} endpoint{plural}: is UDP \
             {ports} open? (Behind NAT clients need ice4j.harvest.mapping.static-mappings.)"
        )
    }
}

impl CheckMonitor {
    /// Records that a peer is known and should be sending checks.
    pub(crate) fn expect(&mut self, now: Instant) {
        self.since.get_or_insert(now);
        self.endpoints = self.endpoints.saturating_add(1);
    }

    /// Records that something arrived, from anybody: the port is open.
    pub(crate) fn heard(&mut self) {
        *self = Self::default();
    }

    /// Returns a report if one is due; once, until something arrives.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Unreachable> {
        let silent = now.saturating_duration_since(self.since?);
        if self.told || silent < PATIENCE {
            return None;
        }
        self.told = true;
        Some(Unreachable { endpoints: self.endpoints, silent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_names_addresses_and_ports() {
        let of = |endpoints| Unreachable { endpoints, silent: Duration::from_secs(60) };
        let addrs = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let says = of(2).line(&addrs(&["10.0.0.5:10000"]));
        let expected =
            "0 connectivity checks on 10.0.0.5:10000 in 60 s with 2 endpoints: is UDP 10000 open? ";
        assert!(says.starts_with(expected), "{says}");
        let says = of(1).line(&addrs(&["10.0.0.5:10000", "203.0.113.20:443"]));
        assert!(says.contains("with 1 endpoint: is UDP 10000, 443 open?"), "{says}");
    }

    #[test]
    fn is_told_once_and_again_after_something_came() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut silence = CheckMonitor::default();
        assert_eq!(silence.poll(at(1_000)), None, "nobody is expected");
        silence.expect(at(1_000));
        silence.expect(at(1_030));
        assert_eq!(silence.poll(at(1_059)), None);
        let unreachable = Unreachable { endpoints: 2, silent: Duration::from_secs(61) };
        assert_eq!(silence.poll(at(1_061)), Some(unreachable));
        assert_eq!(silence.poll(at(1_100)), None);
        silence.heard();
        assert_eq!(silence.poll(at(2_000)), None);
        silence.expect(at(2_000));
        assert_eq!(silence.poll(at(2_060)).map(|u| u.endpoints), Some(1));
    }
}
