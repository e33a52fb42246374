//! A bridge in the process of the test: what is compared is what is signalled.

use std::time::{Duration, Instant};

use minidom::Element;
use rialto::{
    bridge::{Bridge, BridgeConfig, EngineCommands, SelfReport, TransportPort},
    config::{Secret, Xmpp, XmppClient, XmppSecurity},
    faces::{self, colibri2::About},
    stats::Mucs,
    xmpp::client::{MucCounts, XmppClients},
};
use rialto_engine::{Engine, MediaEvent};
use rialto_transport::{TransportConfig, Transports};
use tokio::sync::mpsc;

use super::focus::ROOM;
use super::prosody::{DOMAIN, PASSWORD, PATIENCE};

/// The nickname of the bridge.
pub(crate) const NICK: &str = "jvb-lab-1";

/// A bridge and its connection.
pub(crate) struct Here {
    pub(crate) bridge: Bridge,
    pub(crate) xmpp: XmppClients,
    _media: mpsc::Sender<MediaEvent>,
}

/// A client of a server here.
pub(crate) fn client(port: u16) -> XmppClient {
    XmppClient {
        id: "test".to_owned(),
        host: "127.0.0.1".to_owned(),
        port,
        domain: DOMAIN.to_owned(),
        username: "jvb".to_owned(),
        password: Secret::new(PASSWORD),
        rooms: vec![ROOM.to_owned()],
        nickname: NICK.to_owned(),
        verify_certificate: false,
        security: XmppSecurity::Required,
        authorized: None,
    }
}

impl Here {
    /// Connects. SCTP is announced. Must be called in a runtime.
    pub(crate) fn start(client: XmppClient) -> Self {
        Self::new(vec![client], |transports| transports)
    }

    /// A bridge that is no occupant of any room.
    pub(crate) fn without_clients() -> Self {
        Self::new(Vec::new(), |transports| transports)
    }

    /// With something between the bridge and its transports.
    pub(crate) fn over<T: TransportPort>(
        client: XmppClient,
        between: impl FnOnce(Transports) -> T,
    ) -> Self {
        Self::new(vec![client], between)
    }

    fn new<T: TransportPort>(
        clients: Vec<XmppClient>,
        between: impl FnOnce(Transports) -> T,
    ) -> Self {
        let (engine, _) = Engine::detached(vec!["127.0.0.1:10000".parse().unwrap()]);
        let (transports, updates) = Transports::new(
            TransportConfig::default(),
            EngineCommands::sink(engine.clone()),
            [7; 32],
        )
        .unwrap();
        let (media, events) = mpsc::channel(1);
        let config = BridgeConfig {
            sctp: true,
            web_sockets: vec!["wss://x/colibri-ws/jvb".to_owned()],
            ..BridgeConfig::default()
        };
        let bridge = Bridge::new(config, engine, between(transports), events, updates);
        let about =
            About { name: "JVB".into(), version: "2.3.SNAPSHOT".into(), os: "Linux".into() };
        let presence_interval = Duration::from_secs(3600);
        let config = Xmpp { clients, presence_interval, ..Xmpp::default() };
        let counts = MucCounts::default();
        let shown = counts.clone();
        let report = SelfReport::new(bridge.clone(), &about.version).in_rooms(move || shown.read());
        let xmpp = faces::connect_clients(&config, &report, about, counts);
        Self { bridge, xmpp, _media: media }
    }

    /// Waits until it is in the room.
    pub(crate) async fn joined(&self) {
        self.in_rooms(1).await;
    }

    /// Waits until it is in as many rooms.
    pub(crate) async fn in_rooms(&self, rooms: usize) {
        self.until(|mucs| mucs.joined == rooms).await;
    }

    /// Waits until it is logged in.
    pub(crate) async fn connected(&self) {
        self.until(|mucs| mucs.clients_connected == 1).await;
    }

    /// Waits until it has noticed that it is not.
    pub(crate) async fn lost(&self) {
        self.until(|mucs| mucs.clients_connected == 0).await;
    }

    async fn until(&self, wanted: impl Fn(&Mucs) -> bool) {
        let start = Instant::now();
        while !wanted(&self.xmpp.counts().read()) {
            assert!(start.elapsed() < PATIENCE, "{:?}", self.xmpp.counts().read());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// An attribute set.
pub(crate) fn set(element: &mut Element, name: &str, value: &str) {
    use minidom::rxml::{Namespace, NcName};
    element.attrs_mut().insert(Namespace::NONE, NcName::try_from(name).unwrap(), value.to_owned());
}
