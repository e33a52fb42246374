//! Checks whether the XMPP servers of a configuration accept the bridge, and which public address STUN
//! servers report.

use rialto_transport::harvest::{self, Seen};

use super::{
    Failure,
    machine::{self, Finding, good, problem, warning},
};
use crate::{
    config::Config,
    daemon,
    xmpp::{client, component},
};

/// Logs in to each server, and out again.
pub(super) fn check(config: &Config) -> Result<Vec<Finding>, Failure> {
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
            // A running bridge has the name already; some servers refuse a second connection, some replace
            // the first.
            Err(cause) => problem(format!("component {jid}: {server}: {cause}")),
        });
    }
    findings
}

/// Reports the public address that the first answering STUN server returns. A bridge starts without one,
/// and is healthy unless `videobridge.health.require-stun` requires one.
async fn public_addresses(config: &Config) -> Vec<Finding> {
    let seen = harvest::ask_stun(&daemon::harvest_config(config), &machine::locals(config)).await;
    let needed = config.health.require_stun && seen.iter().all(|seen| seen.answer.is_err());
    let finding = |Seen { local, answer }| match answer {
        Ok(public) if public == local => {
            good(format!("STUN: {local} is seen as it is: there is no NAT here"))
        }
        Ok(public) => good(format!("STUN: {local} is seen as {public}")),
        Err((server, cause)) => {
            let text = format!("STUN: {local} learns nothing from {server}: {cause}");
            if needed { problem(text) } else { warning(text) }
        }
    };
    seen.into_iter().map(finding).collect()
}
