//! What the peer signalled: credentials, fingerprints, candidates.

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use super::{
    super::{
        hub::{Shared, WantedName},
        types::{RemoteCandidate, RemoteTransport},
    },
    Session,
};

/// Longest ufrag and longest password (RFC 8839 section 5.4).
const MAX_CREDENTIAL: usize = 256;

/// Why signalled credentials are refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
enum CredentialError {
    /// The ufrag is empty or too long.
    #[error("the ICE ufrag has {0} bytes, not 1 to {MAX_CREDENTIAL} (RFC 8839 section 5.4)")]
    Ufrag(usize),
    /// The password is empty or too long.
    #[error("the ICE password has {0} bytes, not 1 to {MAX_CREDENTIAL} (RFC 8839 section 5.4)")]
    Password(usize),
}

/// Checks credentials. Shorter ones than RFC 8839 requires are accepted: it is the peer's own
/// safety.
fn check(ufrag: &str, pwd: &str) -> Result<(), CredentialError> {
    let fits = |text: &str| (1..=MAX_CREDENTIAL).contains(&text.len());
    match (fits(ufrag), fits(pwd)) {
        (false, _) => Err(CredentialError::Ufrag(ufrag.len())),
        (_, false) => Err(CredentialError::Password(pwd.len())),
        _ => Ok(()),
    }
}

impl Session {
    /// Adds what the peer signalled.
    pub(crate) fn set_remote(
        &mut self,
        now: Instant,
        remote: RemoteTransport,
        shared: &mut Shared,
    ) {
        if self.failed.is_some() {
            return;
        }
        for fingerprint in remote.fingerprints {
            if let (None, Some(setup)) = (self.peer_setup, fingerprint.setup) {
                self.peer_setup = Some(setup);
            }
            if shared.config.accepted_hashes.contains(&fingerprint.hash) {
                self.media.add_fingerprint(fingerprint);
            } else {
                let hash = fingerprint.hash.as_str();
                tracing::debug!(hash, "a fingerprint by this function is not accepted");
            }
        }
        let generation = self.addressed(remote.ice_generation, remote.ufrag.as_deref());
        let Some(agent) = self.agent(generation) else {
            shared.counters.candidates_ignored += remote.candidates.len() as u64;
            return;
        };
        if let (Some(ufrag), Some(pwd)) = (&remote.ufrag, &remote.pwd) {
            match check(ufrag, pwd) {
                Ok(()) => agent.set_remote(now, ufrag, pwd),
                Err(error) => {
                    let endpoint = &*self.options.label;
                    tracing::warn!(endpoint, %error, "signalled credentials are not taken");
                }
            }
            if !self.established && self.connect_by.is_none() {
                self.connect_by = Some(now + shared.config.connect_timeout);
                shared.common.silence().expect(now);
            }
        }
        for candidate in remote.candidates {
            self.add_candidate(now, &candidate, generation, shared);
        }
        self.settle(now, shared);
    }

    /// Adds candidates from the look-up of a host name.
    pub(crate) fn add_resolved(
        &mut self,
        now: Instant,
        wanted: &WantedName,
        addrs: &[SocketAddr],
        shared: &mut Shared,
    ) {
        let generation = wanted.generation.unwrap_or(self.newest().generation());
        for addr in addrs {
            let added = self
                .agent(generation)
                .is_some_and(|a| a.add_candidate(now, *addr, wanted.kind, wanted.priority));
            shared.counters.candidates_ignored += u64::from(!added);
        }
        self.settle(now, shared);
    }

    /// The generation of the agent that a signalled transport is for.
    fn addressed(&self, generation: Option<u32>, ufrag: Option<&str>) -> u32 {
        generation.unwrap_or_else(|| {
            // Trickled candidates from before a restart have the old credentials.
            let old = ufrag.is_some() && self.current.remote_ufrag() == ufrag;
            if old { self.current.generation() } else { self.newest().generation() }
        })
    }

    fn add_candidate(
        &mut self,
        now: Instant,
        candidate: &RemoteCandidate,
        generation: u32,
        shared: &mut Shared,
    ) {
        let usable = candidate.component == 1 && candidate.protocol.eq_ignore_ascii_case("udp");
        let RemoteCandidate { ip, port, kind, priority, .. } = candidate;
        let added = usable
            && match ip.parse::<IpAddr>() {
                Ok(ip) => self.agent(generation).is_some_and(|agent| {
                    agent.add_candidate(now, SocketAddr::new(ip, *port), *kind, *priority)
                }),
                Err(_) if shared.config.resolve_remote_candidates && !is_mdns(ip) => shared
                    .want_name(WantedName {
                        endpoint: self.endpoint,
                        name: ip.clone(),
                        port: *port,
                        kind: *kind,
                        priority: *priority,
                        generation: Some(generation),
                    }),
                Err(_) => false,
            };
        shared.counters.candidates_ignored += u64::from(!added);
    }
}

/// mDNS names (RFC 6762) are for the peer's own network and are never looked up.
fn is_mdns(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("local"))
}
