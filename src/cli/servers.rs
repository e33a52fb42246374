//! Whether the XMPP servers of a configuration let the bridge in.

use super::{
    Failure,
    machine::{Finding, good, problem},
};
use crate::{
    config::Config,
    daemon,
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
