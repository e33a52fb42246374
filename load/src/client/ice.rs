//! The agent of `webrtc-ice` on a socket that a worker reads: the worker passes on STUN and DTLS,
//! and keeps media. (Media through the agent would cost nine allocations a packet.)

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket as StdSocket},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use rialto_sys::UdpSocket;
use socket2::SockRef;
use tokio::sync::{Mutex, mpsc};
use webrtc_ice::{
    agent::{Agent, agent_config::AgentConfig},
    candidate::{
        Candidate, CandidateType, candidate_base::CandidateBaseConfig,
        candidate_host::CandidateHostConfig,
    },
    mdns::MulticastDnsMode,
    network_type::NetworkType,
    udp_mux::UDPMux,
    udp_network::UDPNetwork,
};
use webrtc_util::Conn;

/// STUN and DTLS datagrams of one client, from its worker.
pub type Incoming = mpsc::Receiver<(Bytes, SocketAddr)>;

/// A client's socket for its ICE agent.
pub struct IceSocket {
    socket: Arc<UdpSocket>,
    incoming: Mutex<Incoming>,
}

type UtilResult<T> = Result<T, webrtc_util::Error>;

#[async_trait]
impl Conn for IceSocket {
    async fn connect(&self, _: SocketAddr) -> UtilResult<()> {
        Err(io::Error::from(io::ErrorKind::Unsupported).into())
    }

    async fn recv(&self, buffer: &mut [u8]) -> UtilResult<usize> {
        Ok(self.recv_from(buffer).await?.0)
    }

    async fn recv_from(&self, buffer: &mut [u8]) -> UtilResult<(usize, SocketAddr)> {
        let received = self.incoming.lock().await.recv().await;
        let (bytes, remote) = received.ok_or(webrtc_util::Error::ErrBufferClosed)?;
        let len = bytes.len().min(buffer.len());
        buffer[..len].copy_from_slice(&bytes[..len]);
        Ok((len, remote))
    }

    async fn send(&self, _: &[u8]) -> UtilResult<usize> {
        Err(io::Error::from(io::ErrorKind::NotConnected).into())
    }

    async fn send_to(&self, bytes: &[u8], remote: SocketAddr) -> UtilResult<usize> {
        Ok(SockRef::from(&*self.socket).send_to(bytes, &remote.into())?)
    }

    fn local_addr(&self) -> UtilResult<SocketAddr> {
        Ok(self.socket.local_addr())
    }

    fn remote_addr(&self) -> Option<SocketAddr> {
        None
    }

    async fn close(&self) -> UtilResult<()> {
        Ok(())
    }

    fn as_any(&self) -> &(dyn std::any::Any + Send + Sync) {
        self
    }
}

/// The agent's access to the one socket.
struct OneSocket(Arc<IceSocket>);

#[async_trait]
impl UDPMux for OneSocket {
    async fn close(&self) -> UtilResult<()> {
        Ok(())
    }

    async fn get_conn(self: Arc<Self>, _: &str) -> UtilResult<Arc<dyn Conn + Send + Sync>> {
        Ok(self.0.clone())
    }

    async fn remove_conn_by_ufrag(&self, _: &str) {}
}

/// A controlled agent with the socket's address as its only candidate.
pub async fn agent(socket: Arc<UdpSocket>, incoming: Incoming) -> Result<Agent, webrtc_ice::Error> {
    let local = socket.local_addr().ip();
    let socket = IceSocket { socket, incoming: Mutex::new(incoming) };
    let agent = Agent::new(AgentConfig {
        udp_network: UDPNetwork::Muxed(Arc::new(OneSocket(Arc::new(socket)))),
        network_types: vec![if local.is_ipv4() { NetworkType::Udp4 } else { NetworkType::Udp6 }],
        candidate_types: vec![CandidateType::Host],
        multicast_dns_mode: MulticastDnsMode::Disabled,
        include_loopback: true,
        ip_filter: Arc::new(Some(Box::new(move |ip| ip == local))),
        ..AgentConfig::default()
    })
    .await?;
    agent.on_candidate(Box::new(|_| Box::pin(async {})));
    agent.gather_candidates()?;
    Ok(agent)
}

/// Passes a candidate of the bridge to the agent.
pub fn add_remote(agent: &Agent, remote: SocketAddr) -> Result<(), webrtc_ice::Error> {
    let candidate = CandidateHostConfig {
        base_config: CandidateBaseConfig {
            network: "udp".to_owned(),
            address: remote.ip().to_string(),
            port: remote.port(),
            component: 1,
            ..CandidateBaseConfig::default()
        },
        ..CandidateHostConfig::default()
    };
    let candidate: Arc<dyn Candidate + Send + Sync> = Arc::new(candidate.new_candidate_host()?);
    agent.add_remote_candidate(&candidate)
}

/// The bridge's candidates that this machine can reach from one address, and that address. Loopback
/// is preferred, then the order given. Nothing is sent.
pub fn route(candidates: &[SocketAddr]) -> Option<(IpAddr, Vec<SocketAddr>)> {
    let mut routed: Vec<_> =
        candidates.iter().filter_map(|&remote| Some((source(remote)?, remote))).collect();
    routed.sort_by_key(|(local, _)| !local.is_loopback());
    let local = routed.first()?.0;
    let same = routed.into_iter().filter(|(ip, _)| *ip == local).map(|(_, remote)| remote);
    Some((local, same.collect()))
}

/// The address from which the kernel would send there.
fn source(remote: SocketAddr) -> Option<IpAddr> {
    let any = if remote.is_ipv4() { IpAddr::from([0u8; 4]) } else { IpAddr::from([0u8; 16]) };
    let socket = StdSocket::bind((any, 0)).ok()?;
    socket.connect(remote).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_reached_from_loopback() {
        let candidates = ["127.0.0.1:10000".parse().unwrap(), "127.0.0.1:4443".parse().unwrap()];
        let (local, remotes) = route(&candidates).unwrap();
        assert!(local.is_loopback());
        assert_eq!(remotes, candidates);
        assert_eq!(route(&[]), None);
    }
}
