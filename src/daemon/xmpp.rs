//! The bridge's XMPP connections, made from the configuration.

use std::time::Instant;

use crate::{
    bridge::{Bridge, SelfReport},
    config::{Config, StatsDestination},
    faces::{self, colibri1, colibri2::About},
    http,
    xmpp::{
        client::{MucCounts, XmppClients},
        component::{Allowed, Component, ComponentConfig, Link, Place, Publish},
    },
};

/// The bridge's XMPP clients and its component.
#[derive(Debug)]
pub(super) struct XmppConnections {
    clients: XmppClients,
    component: Option<Component>,
}

/// The state of these connections.
#[derive(Clone, Default)]
pub(super) struct ConnectionState {
    counts: MucCounts,
    link: Link,
}

/// Returns the bridge's report on itself, and the state of the connections that the report includes.
pub(super) fn report(config: &Config, bridge: &Bridge) -> (SelfReport, ConnectionState) {
    let state = ConnectionState::default();
    let ConnectionState { counts, link } = state.clone();
    let mut report = SelfReport::new(bridge.clone(), version(config))
        .at(config.version.release.as_deref(), config.xmpp.region.as_deref())
        .in_rooms(move || counts.read());
    if config.xmpp.component.is_some() {
        report = report.as_component(move || link.absent_for());
    }
    (report, state)
}

impl XmppConnections {
    /// Connects, and reconnects until dropped. Must be called in a tokio runtime.
    pub(super) fn start(
        config: &Config,
        report: &SelfReport,
        state: ConnectionState,
        seed: u64,
    ) -> Self {
        let ConnectionState { counts, link } = state;
        let about = about(config);
        let component = component_config(config).map(|component| {
            let adapter = faces::component::Adapter {
                colibri: colibri1::Adapter::new(report.bridge().clone(), seed).into(),
                report: report.clone(),
                version: about.version.clone(),
                os: about.os.clone(),
                allowed: component.allowed.clone(),
                began: Instant::now(),
            };
            faces::connect_component(component, adapter, link)
        });
        let clients = faces::connect_clients(&config.xmpp, report, about, counts);
        Self { clients, component }
    }

    /// Returns the clients, which can be added and removed.
    pub(super) fn clients(&self) -> &XmppClients {
        &self.clients
    }

    /// Leaves rooms and servers, within about a second.
    pub(super) async fn leave(&mut self) {
        let component = async {
            if let Some(component) = &mut self.component {
                component.leave().await;
            }
        };
        tokio::join!(self.clients.leave(), component);
    }
}

pub(super) fn version(config: &Config) -> &str {
    config.xmpp.announced_version.as_deref().unwrap_or(http::VERSION)
}

/// Returns the answers to service discovery and version requests.
fn about(config: &Config) -> About {
    let os = std::env::consts::OS;
    About {
        name: "Rialto".to_owned(),
        version: version(config).to_owned(),
        os: os.get(..1).map_or(String::new(), str::to_uppercase) + os.get(1..).unwrap_or_default(),
    }
}

/// Returns the settings of the component, if there is one.
pub(crate) fn component_config(config: &Config) -> Option<ComponentConfig> {
    let component = config.xmpp.component.as_ref()?;
    let host = component.host.clone().or_else(|| component.domain.clone());
    let publish = config.stats.transports.iter().filter_map(|transport| {
        let to = match &transport.to {
            // The clients publish to rooms in any case.
            StatsDestination::Muc => return None,
            StatsDestination::Colibri => Place::Focus,
            StatsDestination::Pubsub { service, node } => {
                Place::Node { service: service.clone(), node: node.clone() }
            }
        };
        Some(Publish { interval: transport.interval.unwrap_or(config.stats.interval), to })
    });
    Some(ComponentConfig {
        host: host.unwrap_or_else(|| "localhost".to_owned()),
        port: component.port,
        domain: component.domain.clone(),
        subdomain: component.subdomain.clone(),
        secret: component.secret.clone(),
        allowed: Allowed {
            ask: component.authorized.clone(),
            shutdown: component.shutdown.clone(),
        },
        publish: publish.collect(),
    })
}
