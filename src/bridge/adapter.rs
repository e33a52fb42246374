//! Implements [`TransportPort`] for [`Transports`]: converts signalled descriptions to transports' types and
//! back.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use rialto_media::EndpointId;
use rialto_transport::{
    self as transport, CandidateKind, LocalCandidate, LocalTransport, RemoteCandidate,
    RemoteTransport, Restart, SendError, Setup, TransportCounters, TransportOptions, Transports,
};
use serde_json::Value;

use super::port::{RestartAnswer, TransportPort};
use crate::{
    colibri::{Candidate, Fingerprint, IceUdp},
    conference::CreateTransport,
};

impl TransportPort for Transports {
    fn create(&self, endpoint: EndpointId, create: CreateTransport, label: Arc<str>) {
        let options = TransportOptions {
            controlling: create.controlling,
            label,
            private_addresses: create.private_addresses,
        };
        Transports::create(self, endpoint, options);
    }

    fn set_remote(&self, endpoint: EndpointId, remote: &IceUdp) {
        let refused = |hash: &str, error| {
            let endpoint = Transports::label(self, endpoint);
            tracing::info!(endpoint = endpoint.as_deref(), hash, %error, "fingerprint ignored");
        };
        Transports::set_remote(self, endpoint, read(remote, refused));
    }

    fn restart_ice(&self, endpoint: EndpointId) -> RestartAnswer {
        match Transports::restart_ice(self, endpoint) {
            Restart::Started(local) => RestartAnswer::Started(write(local)),
            Restart::NotEstablished(local) => RestartAnswer::NotEstablished(write(local)),
            Restart::Refused => RestartAnswer::Refused,
        }
    }

    fn describe(&self, endpoint: EndpointId) -> Option<IceUdp> {
        Transports::describe(self, endpoint).map(write)
    }

    fn offer_sctp(&self, endpoint: EndpointId) {
        Transports::offer_sctp(self, endpoint);
    }

    fn send_text(&self, endpoint: EndpointId, text: &str) -> Result<(), SendError> {
        Transports::send_text(self, endpoint, text)
    }

    fn remove(&self, endpoint: EndpointId) {
        Transports::remove(self, endpoint);
    }

    fn debug(&self, endpoint: EndpointId) -> Value {
        Transports::debug(self, endpoint).unwrap_or(Value::Null)
    }

    fn counters(&self) -> TransportCounters {
        Transports::counters(self)
    }

    fn checks(&self) -> Vec<(SocketAddr, u64)> {
        Transports::checks(self)
    }

    fn last_activity(&self, endpoint: EndpointId) -> Option<Instant> {
        Transports::last_heard(self, endpoint)
    }
}

/// Converts what the peer signalled. Fingerprints (reported to `refused`) and candidates that cannot be
/// parsed are left out: the others may suffice, and a handshake without a matching fingerprint fails by
/// itself.
fn read(remote: &IceUdp, refused: impl Fn(&str, transport::FingerprintError)) -> RemoteTransport {
    let fingerprint = |signalled: &Fingerprint| {
        let setup = signalled.setup.as_deref().and_then(|setup| Setup::parse(setup).ok());
        let hash = signalled.hash.as_deref().unwrap_or_default();
        let value = signalled.fingerprint.trim();
        transport::Fingerprint::parse(hash, value, setup).map_err(|error| refused(hash, error)).ok()
    };
    let candidate = |signalled: &Candidate| {
        Some(RemoteCandidate {
            foundation: signalled.foundation.clone(),
            component: signalled.component,
            protocol: signalled.protocol.clone(),
            priority: signalled.priority,
            ip: signalled.ip.clone(),
            port: signalled.port,
            kind: CandidateKind::parse(&signalled.r#type)?,
        })
    };
    RemoteTransport {
        ufrag: remote.ufrag.clone(),
        pwd: remote.pwd.clone(),
        candidates: remote.candidates.iter().filter_map(candidate).collect(),
        fingerprints: remote.fingerprints.iter().filter_map(fingerprint).collect(),
        ice_generation: remote.ice_generation,
    }
}

/// Our side, as it is signalled.
fn write(local: LocalTransport) -> IceUdp {
    IceUdp {
        ufrag: Some(local.ufrag),
        pwd: Some(local.pwd),
        ice_generation: local.ice_generation,
        candidates: local.candidates.into_iter().map(write_candidate).collect(),
        remote_candidate: None,
        fingerprints: vec![Fingerprint {
            hash: Some(local.fingerprint.hash.as_str().to_owned()),
            setup: local.fingerprint.setup.map(|setup| setup.as_str().to_owned()),
            fingerprint: local.fingerprint.value(),
            cryptex: None,
        }],
        web_sockets: Vec::new(),
        rtcp_mux: true,
    }
}

fn write_candidate(local: LocalCandidate) -> Candidate {
    Candidate {
        component: local.component,
        foundation: local.foundation,
        generation: local.generation,
        id: Some(local.id),
        network: Some(local.network),
        priority: local.priority,
        protocol: local.protocol.to_owned(),
        r#type: local.kind.as_str().to_owned(),
        ip: local.ip.to_string(),
        port: local.port,
        rel_addr: local.related.map(|(ip, _)| ip.to_string()),
        rel_port: local.related.map(|(_, port)| port),
        tcptype: None,
    }
}
