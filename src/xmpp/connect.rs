//! Connects to a server: which address, and when to try again.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    time::Duration,
};

use rand::Rng as _;
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

/// Between two attempts: at the most, and at the least half of it. A bridge is back within one
/// presence interval of its server.
pub(super) const RETRY: Duration = Duration::from_secs(5);
/// The first attempt after a connection that worked comes sooner: a server that was restarted is there
/// again, and one of many connections may have broken alone.
pub(super) const FIRST_RETRY: Duration = Duration::from_secs(1);
/// How long an address has to answer: a SYN that got lost is repeated after one second.
pub(super) const PER_ADDRESS: Duration = Duration::from_secs(3);
/// How long the resolver has: it asks each of its servers for some seconds.
const LOOKUP_TIME: Duration = Duration::from_secs(15);
/// Addresses of a host that are tried.
const MAX_ADDRESSES: usize = 8;

/// Why there is no TCP connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// The host has no address.
    #[error("the host name has no address: {0}")]
    Unresolved(io::Error),
    /// No address accepts connections; the last one's error.
    #[error("cannot connect: {0}")]
    Refused(io::Error),
}

/// Connects to the first address of a host that takes it.
pub(super) async fn connect_any(
    host: &str,
    port: u16,
    per_address: Duration,
) -> Result<TcpStream, ConnectError> {
    let found = timeout(LOOKUP_TIME, lookup_host((host, port))).await;
    let addresses =
        found.unwrap_or_else(|late| Err(late.into())).map_err(ConnectError::Unresolved)?;
    first_of(addresses.take(MAX_ADDRESSES), per_address).await
}

async fn first_of(
    addresses: impl Iterator<Item = SocketAddr>,
    per_address: Duration,
) -> Result<TcpStream, ConnectError> {
    let mut last = ConnectError::Unresolved(io::Error::new(ErrorKind::NotFound, "none"));
    for address in addresses {
        let connected = timeout(per_address, TcpStream::connect(address)).await;
        match connected.unwrap_or_else(|late| Err(late.into())) {
            Ok(socket) => {
                // Answers must not wait to be sent together (Nagle).
                let _ = socket.set_nodelay(true);
                return Ok(socket);
            }
            Err(error) => last = ConnectError::Refused(error),
        }
    }
    Err(last)
}

/// A while before the next attempt: bridges that lost the same server come back one by one.
pub(super) fn pause(longest: Duration) -> Duration {
    jittered(longest, rand::rng().random())
}

/// Half of `longest`, and more by `jitter`, which is between 0 and 1.
pub(super) fn jittered(longest: Duration, jitter: f64) -> Duration {
    longest.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;
    use crate::config::Xmpp;

    #[test]
    fn a_bridge_is_back_within_one_presence_interval_of_its_server() {
        for longest in [RETRY, FIRST_RETRY] {
            assert!(jittered(longest, 1.0) <= Xmpp::default().presence_interval);
            assert!(jittered(longest, 0.0) >= longest / 2);
            assert!(jittered(longest, 0.2) < jittered(longest, 0.8));
        }
    }

    #[tokio::test]
    async fn an_address_that_does_not_answer_leaves_time_for_the_next() {
        // The kernel drops the SYNs for a listener whose one place is taken.
        let full = TcpSocket::new_v4().unwrap();
        full.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let full = full.listen(0).unwrap();
        let silent = full.local_addr().unwrap();
        let _taken = TcpStream::connect(silent).await.unwrap();
        let refusing = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let good = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = good.local_addr().unwrap();
        let each = Duration::from_millis(500);

        let socket = first_of([silent, refusing, there].into_iter(), each).await.unwrap();
        assert_eq!(socket.peer_addr().unwrap(), there);
        for (addresses, expected) in [
            (vec![refusing, silent], ErrorKind::TimedOut),
            (vec![silent, refusing], ErrorKind::ConnectionRefused),
        ] {
            let error = first_of(addresses.into_iter(), each).await.unwrap_err();
            assert!(
                matches!(&error, ConnectError::Refused(error) if error.kind() == expected),
                "{error}"
            );
        }
        let none = first_of(std::iter::empty(), each).await;
        assert!(matches!(none, Err(ConnectError::Unresolved(_))), "{none:?}");
    }
}
