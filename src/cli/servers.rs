//! Whether the XMPP servers of a configuration let the bridge in, and what STUN servers say of it.

use super::{
    Failure,
    machine::{self, Finding, good, problem},
};
use crate::{
    config::{Config, Harvest},
    daemon, harvest,
    xmpp::{client, component},
};

/// Logs in to each, and out again.
pub(super) fn look(config: &Config) -> Result<Vec<Finding>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Other(format!("cannot start: {error}")))?;
    Ok(runtime.block_on(ask(config)))
}

async fn ask(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    for client in &config.xmpp.clients {
        let (id, server) = (&client.id, format!("{}:{}", client.host, client.port));
        findings.push(match client::probe(client).await {
            Ok(jid) => good(format!("{id}: {server} lets {jid} in")),
            Err(cause) => problem(format!("{id}: {server}: {cause}")),
        });
    }
    findings.extend(public_addresses(config).await);
    if let Some(component) = daemon::component_config(config) {
        let (jid, server) = (component.jid(), format!("{}:{}", component.host, component.port));
        findings.push(match component::probe(&component).await {
            Ok(()) => good(format!("{server} lets the component {jid} in")),
            // A bridge that runs has the name; some servers refuse a second one, some replace the first.
            Err(lost) => problem(format!("component {jid}: {server}: {lost}")),
        });
    }
    findings
}

/// How the machine is seen by the first STUN server that answers. `None`: nobody is to be asked.
async fn public_addresses(config: &Config) -> Option<Finding> {
    let servers = &config.harvest.stun_servers;
    if servers.is_empty() {
        return None;
    }
    let asked = Harvest { aws: false, static_mappings: Vec::new(), ..config.harvest.clone() };
    let found = harvest::discover(&asked, &machine::locals(config)).await;
    let seen: Vec<String> =
        found.iter().map(|found| format!("{} is seen as {}", found.local, found.public)).collect();
    Some(if seen.is_empty() {
        let servers = servers.join(", ");
        problem(format!("no public address is learnt from {servers}: no answer, or no NAT here"))
    } else {
        good(format!("STUN: {}", seen.join(", ")))
    })
}
