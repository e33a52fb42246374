//! The agents behind one trait.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use is::{
    Candidate, IceAgent, IceAgentEvent, IceCreds, Protocol,
    stun::{StunMessage, StunPacket},
};
use rtc_ice::{
    agent::{Agent as RtcAgent, agent_config::AgentConfig},
    candidate::{CandidateConfig, candidate_host::CandidateHostConfig},
    crypto::{RTCCryptoProvider, default_provider},
};
use rtc_shared::{TransportContext, TransportMessage, TransportProtocol};
use sansio::Protocol as _;

/// Interval of consent checks.
const CONSENT: Duration = Duration::from_secs(5);

/// What both can do.
pub trait Agent {
    /// When it wants to be woken; `None`: at once.
    fn poll_timeout(&mut self) -> Option<Instant>;
    /// Wakes it.
    fn handle_timeout(&mut self, now: Instant);
    /// The next packet to send.
    fn poll_packet(&mut self) -> Option<Vec<u8>>;
    /// Takes a packet.
    fn handle(&mut self, now: Instant, from: SocketAddr, to: SocketAddr, packet: &[u8]);
    /// Whether media could flow.
    fn is_connected(&self) -> bool;
}

/// An agent of `is`.
pub struct Is {
    agent: IceAgent,
    nominated: bool,
}

impl Is {
    /// A controlling and a controlled agent, which start at `now`.
    pub fn pair(addrs: [SocketAddr; 2], now: Instant) -> [Self; 2] {
        let creds = [IceCreds::new(), IceCreds::new()];
        let host = |addr| Candidate::host(addr, Protocol::Udp).expect("a host address");
        [0, 1].map(|side| {
            let mut agent = IceAgent::new(creds[side].clone());
            agent.set_controlling(side == 0);
            agent.set_max_stun_rto(CONSENT);
            agent.set_remote_credentials(creds[1 - side].clone());
            agent.add_local_candidate(host(addrs[side]));
            if side == 1 {
                agent.add_remote_candidate(host(addrs[0]));
            }
            agent.handle_timeout(now);
            Self { agent, nominated: false }
        })
    }

    fn drain(&mut self) {
        while let Some(event) = self.agent.poll_event() {
            self.nominated |= matches!(event, IceAgentEvent::NominatedSend { .. });
        }
    }
}

impl Agent for Is {
    fn poll_timeout(&mut self) -> Option<Instant> {
        self.agent.poll_timeout()
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.agent.handle_timeout(now);
        self.drain();
    }

    fn poll_packet(&mut self) -> Option<Vec<u8>> {
        self.agent.poll_transmit().map(|transmit| transmit.contents.to_vec())
    }

    fn handle(&mut self, now: Instant, from: SocketAddr, to: SocketAddr, packet: &[u8]) {
        let message = StunMessage::parse(packet).expect("STUN of the other agent");
        let packet = StunPacket { proto: Protocol::Udp, source: from, destination: to, message };
        self.agent.handle_packet(now, packet);
        self.drain();
    }

    fn is_connected(&self) -> bool {
        self.nominated
    }
}

/// What all agents of rtc-ice share.
pub struct RtcShared {
    config: Arc<AgentConfig>,
    crypto: Arc<dyn RTCCryptoProvider>,
}

/// An agent of rtc-ice.
pub struct Rtc(RtcAgent);

impl Rtc {
    /// Settings that come as near as may be to those of the other.
    pub fn shared() -> RtcShared {
        let config = AgentConfig {
            keepalive_interval: Some(CONSENT),
            disconnected_timeout: Some(3 * CONSENT),
            ..AgentConfig::default()
        };
        let crypto = default_provider().expect("the crate's own provider");
        RtcShared { config: Arc::new(config), crypto }
    }

    /// A controlling and a controlled agent, which start at `now`.
    pub fn pair(shared: &RtcShared, addrs: [SocketAddr; 2], now: Instant) -> [Self; 2] {
        let new = || RtcAgent::new(now, Arc::clone(&shared.config), Arc::clone(&shared.crypto));
        let mut agents = [0, 1].map(|_| new().expect("an agent"));
        let creds = agents.each_ref().map(|agent| {
            let creds = agent.get_local_credentials();
            (creds.ufrag.clone(), creds.pwd.clone())
        });
        for (side, agent) in agents.iter_mut().enumerate() {
            agent.add_local_candidate(host(addrs[side])).expect("a local candidate");
            if side == 1 {
                agent.add_remote_candidate(host(addrs[0])).expect("a remote candidate");
            }
            let (ufrag, pwd) = creds[1 - side].clone();
            agent.start_connectivity_checks(now, side == 0, ufrag, pwd).expect("a start");
        }
        agents.map(Self)
    }

    fn drain(&mut self) {
        while self.0.poll_event().is_some() {}
    }
}

fn host(addr: SocketAddr) -> rtc_ice::candidate::Candidate {
    let base_config = CandidateConfig {
        network: "udp".to_owned(),
        address: addr.ip().to_string(),
        port: addr.port(),
        component: 1,
        ..CandidateConfig::default()
    };
    let config = CandidateHostConfig { base_config, ..CandidateHostConfig::default() };
    config.new_candidate_host().expect("a host address")
}

impl Agent for Rtc {
    fn poll_timeout(&mut self) -> Option<Instant> {
        self.0.poll_timeout()
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.0.handle_timeout(now).expect("no error without I/O");
        self.drain();
    }

    fn poll_packet(&mut self) -> Option<Vec<u8>> {
        self.0.poll_write().map(|packet| packet.message.to_vec())
    }

    fn handle(&mut self, now: Instant, from: SocketAddr, to: SocketAddr, packet: &[u8]) {
        let transport = TransportContext {
            local_addr: to,
            peer_addr: from,
            ecn: None,
            transport_protocol: TransportProtocol::UDP,
        };
        let message = BytesMut::from(packet);
        // What it refuses shows in the number of connected agents.
        let _ = self.0.handle_read(TransportMessage { now, transport, message });
        self.drain();
    }

    fn is_connected(&self) -> bool {
        self.0.get_selected_candidate_pair().is_some()
    }
}
