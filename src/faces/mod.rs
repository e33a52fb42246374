//! The bridge's answers and publications, independent of the connection: COLIBRI2, COLIBRI 1, health,
//! version, statistics.

pub mod colibri1;
pub mod colibri2;
pub mod component;
mod publish;
pub mod statistics;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use crate::{
    bridge::SelfReport,
    config::Xmpp,
    xmpp::{
        client::{MucCounts, XmppClients},
        component::{Component, ComponentConfig, Link},
    },
};
use publish::Publisher;

/// Connects every client of the configuration, for ever. Must be called in a tokio runtime.
///
/// `counts` is updated for these clients; `report` is published in presence; `about` answers version queries.
pub fn connect_clients(
    config: &Xmpp,
    report: &SelfReport,
    about: colibri2::About,
    counts: MucCounts,
) -> XmppClients {
    let publisher = Publisher {
        report: report.clone(),
        interval: config.presence_interval,
        whitelist: config.whitelist.clone(),
    };
    let answers = Arc::new(colibri2::Adapter::new(report.bridge().clone(), about));
    XmppClients::start(config, answers, publisher.start(), counts)
}

/// Connects as a component, for ever. Must be called in a tokio runtime.
pub fn connect_component(
    config: ComponentConfig,
    adapter: component::Adapter,
    link: Link,
) -> Component {
    let adapter = Arc::new(adapter);
    Component::start(config, adapter.clone(), adapter, link)
}
