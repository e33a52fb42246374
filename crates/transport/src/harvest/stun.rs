//! Asks a STUN server for the public address (RFC 8489 section 3).

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use rand::Rng as _;
use tokio::{
    net::{UdpSocket, lookup_host},
    time::{Instant, timeout, timeout_at},
};

use super::PATIENCE;
use crate::stun::{Class, Message};

/// Time until the first retransmission; doubled for each further one (RFC 8489 section 6.2.1).
const RETRY: Duration = Duration::from_millis(500);
/// Longer answers are ignored.
const ANSWER_BYTES: usize = 1280;

/// Why a server gave no address.
#[derive(Debug, thiserror::Error)]
pub enum StunFailure {
    /// Its name has no address of this family.
    #[error("the host name has no address")]
    Unresolved,
    /// The system refused.
    #[error(transparent)]
    System(#[from] io::Error),
    /// No answer, or no useful one.
    #[error("no answer")]
    Silent,
}

/// The address that `server` (`host:port`) sees for datagrams from `local`.
pub(super) async fn ask(server: &str, local: IpAddr) -> Result<IpAddr, StunFailure> {
    let resolved = timeout(PATIENCE, lookup_host(server)).await;
    let mut addresses = resolved.map_err(|_| StunFailure::Unresolved)??;
    let server = addresses.find(|addr| addr.is_ipv4() == local.is_ipv4());
    let socket = UdpSocket::bind(SocketAddr::new(local, 0)).await?;
    // The kernel then delivers no datagrams of others.
    socket.connect(server.ok_or(StunFailure::Unresolved)?).await?;
    let transaction: [u8; 12] = rand::rng().random();
    let mut request = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    request.extend(transaction);
    let end = Instant::now() + PATIENCE;
    let (mut next, mut wait) = (Instant::now(), RETRY);
    let mut answer = [0; ANSWER_BYTES];
    loop {
        let now = Instant::now();
        if now >= end {
            return Err(StunFailure::Silent);
        }
        if now >= next {
            socket.send(&request).await?;
            next = now + wait;
            wait *= 2;
        }
        let Ok(received) = timeout_at(next.min(end), socket.recv(&mut answer)).await else {
            continue;
        };
        let bytes = answer.get(..received?).unwrap_or_default();
        if let Some(mapped) = mapped(bytes, transaction) {
            return Ok(mapped);
        }
    }
}

/// The address in an answer to this request.
fn mapped(answer: &[u8], transaction: [u8; 12]) -> Option<IpAddr> {
    let message = Message::parse(answer).ok()?;
    let ours = message.class == Class::Success && message.transaction == transaction;
    message.mapped.filter(|_| ours).map(|mapped| mapped.ip())
}

/// For fuzzing: any bytes as an answer. Only answers to our request count.
pub(crate) fn fuzz(answer: &[u8]) {
    let ours: Option<[u8; 12]> = answer.get(8..20).and_then(|bytes| bytes.try_into().ok());
    assert_eq!(mapped(answer, ours.map_or([0; 12], |bytes| bytes.map(|byte| !byte))), None);
    if let Some(ours) = ours {
        let _ = mapped(answer, ours);
    }
}
