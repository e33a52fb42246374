//! Public addresses of this machine that nobody wrote into the configuration: as a STUN server sees
//! it, and as Amazon's metadata tells. Asked at the start and when local addresses change, and for
//! seconds at the longest.

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

/// Who is asked.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HarvestConfig {
    /// STUN servers, `host:port`. The first that answers is believed. None.
    pub stun_servers: Vec<String>,
    /// Ask Amazon's metadata, on Amazon's machines.
    pub aws: bool,
    /// And on others, if `aws`.
    pub aws_force: bool,
}

/// What a local address is known by elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Found {
    /// The address on this machine.
    pub local: IpAddr,
    /// The address that others use.
    pub public: IpAddr,
}

/// Asks those that the configuration names. `locals`: where media is received. Where there is no NAT, an
/// address is seen as it is.
///
/// Who does not answer is one line in the log, and no reason not to start.
pub async fn discover(config: &HarvestConfig, locals: &[SocketAddr]) -> Vec<Found> {
    let (seen, told) =
        tokio::join!(by_stun(config, locals), by_metadata(config, is_amazon, METADATA));
    let found: BTreeSet<Found> = seen.into_iter().chain(told).collect();
    found.into_iter().collect()
}

/// What became of asking STUN servers from a local address.
#[derive(Debug)]
pub struct Seen {
    /// The address on this machine.
    pub local: IpAddr,
    /// How the first server that answers sees it, which is as `local` where there is no NAT; or the
    /// last server and why it told nothing.
    pub answer: Result<IpAddr, (String, StunFailure)>,
}

/// How each local address is seen, as far as anybody tells.
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

/// Asks the STUN servers of the configuration how they see each IPv4 address of `locals`.
pub async fn ask_stun(config: &HarvestConfig, locals: &[SocketAddr]) -> Vec<Seen> {
    if config.stun_servers.is_empty() {
        return Vec::new();
    }
    // A mapping made over IPv6 would have no NAT to go through.
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

/// What Amazon says, on its machines or where it is forced.
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

/// Longest wait for anybody.
const PATIENCE: Duration = Duration::from_secs(3);

/// Any bytes as an answer of who tells a public address: for fuzzing.
#[doc(hidden)]
pub fn fuzz(answer: &[u8]) {
    stun::fuzz(answer);
    aws::fuzz(answer);
}
