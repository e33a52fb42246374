//! Discovers public addresses of this machine that are not in the configuration: by STUN, and from
//! Amazon's metadata. Runs at the start and when local addresses change, for a few seconds at most.

mod aws;
mod stun;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

pub use aws::{METADATA, MetadataError, is_amazon};
pub use stun::StunFailure;

/// What to ask.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HarvestConfig {
    /// STUN servers, `host:port`. The first answer counts. Default none.
    pub stun_servers: Vec<String>,
    /// Ask Amazon's metadata service, on Amazon's machines.
    pub aws: bool,
    /// Ask it on other machines too, if `aws`.
    pub aws_force: bool,
}

/// A public address of a local address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Found {
    /// The address on this machine.
    pub local: IpAddr,
    /// The public address.
    pub public: IpAddr,
}

/// Asks what the configuration names. `locals` are the addresses at which media is received.
/// Without NAT, an address is its own public address.
///
/// A server that does not answer costs one line in the log, and does not prevent the start.
pub async fn discover(config: &HarvestConfig, locals: &[SocketAddr]) -> Vec<Found> {
    let (seen, told) =
        tokio::join!(by_stun(config, locals), by_metadata(config, is_amazon, METADATA));
    let found: BTreeSet<Found> = seen.into_iter().chain(told).collect();
    found.into_iter().collect()
}

/// The result of asking STUN servers from a local address.
#[derive(Debug)]
pub struct Seen {
    /// The address on this machine.
    pub local: IpAddr,
    /// The public address according to the first server that answers, which is `local` without NAT;
    /// or the last server and why it gave none.
    pub answer: Result<IpAddr, (String, StunFailure)>,
}

/// The public addresses of local addresses according to STUN.
async fn by_stun(config: &HarvestConfig, locals: &[SocketAddr]) -> Vec<Found> {
    let mut found = Vec::new();
    for Seen { local, answer } in ask_stun(config, locals).await {
        match answer {
            Ok(public) => found.push(Found { local, public }),
            Err((server, error)) => {
                tracing::warn!(%local, server, %error, "no STUN server tells the public address");
            }
        }
    }
    found
}

/// Asks the configured STUN servers for the public address of each IPv4 address of `locals`.
pub async fn ask_stun(config: &HarvestConfig, locals: &[SocketAddr]) -> Vec<Seen> {
    if config.stun_servers.is_empty() {
        return Vec::new();
    }
    // IPv6 addresses need no mapping, as there is no NAT.
    let locals: BTreeSet<IpAddr> =
        locals.iter().map(SocketAddr::ip).filter(IpAddr::is_ipv4).collect();
    let mut asked = tokio::task::JoinSet::new();
    for local in locals {
        let servers = config.stun_servers.clone();
        asked.spawn(async move {
            let mut last = None;
            for server in &servers {
                match stun::ask(server, local).await {
                    Ok(public) => return Some(Seen { local, answer: Ok(public) }),
                    Err(error) => last = Some((server.clone(), error)),
                }
            }
            last.map(|failure| Seen { local, answer: Err(failure) })
        });
    }
    asked.join_all().await.into_iter().flatten().collect()
}

/// The addresses according to Amazon's metadata, on its machines or where that is forced.
async fn by_metadata(
    config: &HarvestConfig,
    is_amazon: impl FnOnce() -> bool,
    host: &str,
) -> Option<Found> {
    let wanted = config.aws && (config.aws_force || is_amazon());
    if !wanted {
        return None;
    }
    match aws::ask(host).await {
        Ok(found) => Some(found),
        Err(error) => {
            tracing::warn!(%error, "Amazon's metadata does not tell the public address");
            None
        }
    }
}

/// Longest wait for one server.
const PATIENCE: Duration = Duration::from_secs(3);

/// For fuzzing: any bytes as an answer.
#[doc(hidden)]
pub fn fuzz(answer: &[u8]) {
    stun::fuzz(answer);
    aws::fuzz(answer);
}
