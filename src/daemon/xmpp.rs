//! The bridge's XMPP connections, made of the configuration.

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

/// Both control planes over XMPP.
#[derive(Debug)]
pub(super) struct XmppConnections {
    clients: XmppClients,
    component: Option<Component>,
}

/// How its connections are.
#[derive(Clone, Default)]
pub(super) struct ConnectionState {
    counts: MucCounts,
    link: Link,
}

/// What the bridge says of itself, and the connections that it counts in that.
pub(super) fn report(config: &Config, bridge: &Bridge) -> (SelfReport, ConnectionState) {
    let connected = ConnectionState::default();
    let ConnectionState { counts, link } = connected.clone();
    let mut report = SelfReport::new(bridge.clone(), version(config))
        .at(config.version.release.as_deref(), config.xmpp.region.as_deref())
        .in_rooms(move || counts.read());
    if config.xmpp.component.is_some() {
        report = report.as_component(move || link.absent_for());
    }
    (report, connected)
}

impl XmppConnections {
    /// Connects, for ever. Must be called in a tokio runtime.
    pub(super) fn start(
        config: &Config,
        report: &SelfReport,
        connected: ConnectionState,
        seed: u64,
    ) -> Self {
        let ConnectionState { counts, link } = connected;
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

    /// The clients, which can come and go.
    pub(super) fn clients(&self) -> &XmppClients {
        &self.clients
    }

    /// Leaves rooms and servers, within a second or so.
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

/// What is told to those who ask over XMPP.
fn about(config: &Config) -> About {
    let os = std::env::consts::OS;
    About {
        name: "Rialto".to_owned(),
        version: version(config).to_owned(),
        os: os.get(..1).map_or(String::new(), str::to_uppercase) + os.get(1..).unwrap_or_default(),
    }
}

/// How the bridge is a component, if it is one.
pub(crate) fn component_config(config: &Config) -> Option<ComponentConfig> {
    let component = config.xmpp.component.as_ref()?;
    let host = component.host.clone().or_else(|| component.domain.clone());
    let publish = config.stats.transports.iter().filter_map(|transport| {
        let to = match &transport.to {
            // Rooms get them in any case.
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
