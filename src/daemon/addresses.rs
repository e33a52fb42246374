//! Discovers public addresses, and checks whether there is one as addresses change.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use rialto_transport::{
    StaticMapping, Transports,
    harvest::{self, Found},
};
use tokio::{sync::watch, time::sleep};

use crate::config::Config;

/// Interval of queries for the public address while it is missing.
const ASK_AGAIN: Duration = Duration::from_secs(300);

/// Watches the addresses. The returned receiver holds the reason why remote clients cannot reach this
/// bridge, if there is one; the watch lasts as long as the receiver.
pub(super) async fn watch(
    config: &Config,
    transports: &Transports,
) -> watch::Receiver<Option<String>> {
    let locals = transports.addresses();
    let configured = super::map::transport_config(config).static_mappings;
    let harvest = super::map::harvest_config(config);
    let ask = move |locals: Arc<[SocketAddr]>| {
        let harvest = harvest.clone();
        async move { harvest::discover(&harvest, &locals).await }
    };
    let transports = transports.clone();
    let tell = move |mappings: Vec<_>| transports.set_mappings(&mappings);
    let mut watcher = Watcher {
        wanted: Wanted::of(config),
        configured,
        found: Vec::new(),
        locals,
        ask,
        tell,
        fault: watch::Sender::new(None),
    };
    let fault = watcher.fault.subscribe();
    watcher.ask().await;
    tokio::spawn(watcher.run());
    fault
}

/// The addresses that the configuration requires (`videobridge.health`).
#[derive(Clone, Copy, Debug)]
struct Wanted {
    public: bool,
    stun: bool,
}

impl Wanted {
    fn of(config: &Config) -> Self {
        let stun = config.health.require_stun && !config.harvest.stun_servers.is_empty();
        Self { public: config.health.require_valid_address, stun }
    }
}

struct Watcher<A, T> {
    wanted: Wanted,
    configured: Vec<StaticMapping>,
    found: Vec<Found>,
    locals: watch::Receiver<Arc<[SocketAddr]>>,
    /// Queries the mappings that the configuration does not have.
    ask: A,
    /// Publishes all mappings.
    tell: T,
    fault: watch::Sender<Option<String>>,
}

impl<A, F, T> Watcher<A, T>
where
    A: Fn(Arc<[SocketAddr]>) -> F,
    F: Future<Output = Vec<Found>>,
    T: Fn(Vec<StaticMapping>),
{
    /// Runs until the receiver of the fault is dropped, or the transports end.
    async fn run(mut self) {
        loop {
            let faulty = self.fault.borrow().is_some();
            let again = async {
                if faulty {
                    sleep(ASK_AGAIN).await;
                } else {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = self.fault.closed() => return,
                changed = self.locals.changed() => if changed.is_err() {
                    return;
                },
                () = again => {}
            }
            // Publishes what is known before the first query.
            self.judge();
            self.ask().await;
        }
    }

    async fn ask(&mut self) {
        let locals = self.locals.borrow_and_update().clone();
        let found = (self.ask)(locals.clone()).await;
        // A failed query does not withdraw earlier results.
        let is_kept = |old: &Found| {
            locals.iter().any(|local| local.ip() == old.local)
                && found.iter().all(|new| new.local != old.local)
        };
        for new @ Found { local, public } in &found {
            if self.is_news(new) && !self.found.contains(new) {
                tracing::info!(%local, %public, "clients are told this public address too");
            }
        }
        self.found.retain(is_kept);
        self.found.extend(found);
        let news = self.found.iter().filter(|found| self.is_news(found));
        let found = news.map(|&Found { local, public }| StaticMapping {
            local,
            local_port: None,
            public,
            public_port: None,
        });
        (self.tell)(self.configured.iter().cloned().chain(found).collect());
        self.judge();
    }

    /// Returns whether a mapping is new to clients: without NAT an address needs none, and configured
    /// mappings take precedence.
    fn is_news(&self, found: &Found) -> bool {
        found.local != found.public && self.configured.iter().all(|m| m.local != found.local)
    }

    fn judge(&self) {
        let locals: Vec<IpAddr> = self.locals.borrow().iter().map(SocketAddr::ip).collect();
        let fault = fault(self.wanted, &locals, &self.configured, &self.found);
        self.fault.send_if_modified(|known| {
            let changed = *known != fault;
            match &fault {
                Some(fault) if changed => {
                    tracing::warn!(fault, "clients will not find this bridge");
                }
                None if changed => tracing::info!("clients will find this bridge again"),
                _ => {}
            }
            *known = fault;
            changed
        });
    }
}

/// Returns why remote clients cannot reach a bridge with these addresses, if so. A mapping counts while its
/// local address exists.
fn fault(
    wanted: Wanted,
    locals: &[IpAddr],
    configured: &[StaticMapping],
    found: &[Found],
) -> Option<String> {
    let is_here = |local: IpAddr| locals.contains(&local);
    let mapped = configured.iter().filter(|m| is_here(m.local)).map(|m| m.public);
    let found: Vec<IpAddr> = found.iter().filter(|f| is_here(f.local)).map(|f| f.public).collect();
    let mut all = locals.iter().copied().chain(mapped).chain(found.iter().copied());
    if wanted.public && !all.any(is_public) {
        return Some("No valid IP addresses available for harvesting.".to_owned());
    }
    if wanted.stun && found.is_empty() {
        return Some("Address discovery through STUN failed".to_owned());
    }
    None
}

/// Returns whether JVB counts the address as public: not private (RFC 1918), not link-local, not loopback.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(ip) => {
            !(ip.is_private() || ip.is_link_local() || ip.is_loopback() || ip.is_unspecified())
        }
        IpAddr::V6(ip) => !(ip.is_unicast_link_local() || ip.is_loopback() || ip.is_unspecified()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::time::Instant;

    use super::*;
    use crate::bridge::{BridgeConfig, HealthConfig, tests::rig::rig};

    const PUBLIC: Wanted = Wanted { public: true, stun: false };
    const STUN: Wanted = Wanted { public: false, stun: true };
    const LOCAL: &str = "10.0.0.1";

    fn ip(address: &str) -> IpAddr {
        address.parse().unwrap()
    }

    fn mapped(public: &str) -> [StaticMapping; 1] {
        let (local, public) = (ip(LOCAL), ip(public));
        [StaticMapping { local, local_port: None, public, public_port: None }]
    }

    #[test]
    fn a_bridge_without_a_public_address_is_unhealthy_if_one_is_required() {
        let here = [ip(LOCAL)];
        assert_eq!(fault(PUBLIC, &here, &mapped("198.51.100.1"), &[]), None);
        assert_eq!(fault(PUBLIC, &here, &mapped("2001:db8::1"), &[]), None);
        assert_eq!(fault(PUBLIC, &[ip("198.51.100.1")], &[], &[]), None);
        for address in ["10.1.2.3", "192.168.1.1", "169.254.0.1", "fe80::1", "::ffff:10.0.0.1"] {
            let fault = fault(PUBLIC, &here, &mapped(address), &[]).unwrap_or_default();
            assert!(fault.starts_with("No valid IP addresses"), "{address}: {fault}");
        }
        assert!(fault(PUBLIC, &[], &mapped("198.51.100.1"), &[]).is_some(), "mapped to nothing");
        let neither = Wanted { public: false, stun: false };
        assert_eq!(fault(neither, &here, &mapped("10.1.2.3"), &[]), None);
    }

    #[test]
    fn a_stun_server_that_is_needed_must_answer() {
        let mut config = Config::default();
        config.health.require_stun = true;
        assert!(!Wanted::of(&config).stun, "none is asked");
        config.harvest.stun_servers = vec!["stun.example.com:3478".to_owned()];
        assert!(Wanted::of(&config).stun);
        let found = [Found { local: ip(LOCAL), public: ip("198.51.100.1") }];
        assert_eq!(fault(STUN, &[ip(LOCAL)], &[], &found), None);
        for (locals, found) in [(&[ip(LOCAL)][..], &[][..]), (&[][..], &found[..])] {
            let fault = fault(STUN, locals, &[], found).unwrap_or_default();
            assert!(fault.contains("STUN"), "{fault}");
        }
    }

    /// A watcher's inputs and outputs, with a query that returns `answer`.
    struct Fixture {
        locals: watch::Sender<Arc<[SocketAddr]>>,
        answer: Arc<Mutex<Vec<Found>>>,
        told: Arc<Mutex<Vec<StaticMapping>>>,
        fault: watch::Receiver<Option<String>>,
    }

    impl Fixture {
        fn new(wanted: Wanted) -> Self {
            let locals = watch::Sender::new(Arc::from([]));
            let (answer, told) = (Arc::<Mutex<Vec<Found>>>::default(), Arc::default());
            let (asked, heard) = (answer.clone(), Arc::<Mutex<_>>::clone(&told));
            let watcher = Watcher {
                wanted,
                configured: Vec::new(),
                found: Vec::new(),
                locals: locals.subscribe(),
                ask: move |_| std::future::ready(asked.lock().unwrap().clone()),
                tell: move |mappings| *heard.lock().unwrap() = mappings,
                fault: watch::Sender::new(None),
            };
            let fault = watcher.fault.subscribe();
            tokio::spawn(watcher.run());
            Self { locals, answer, told, fault }
        }

        async fn set_locals(&mut self, locals: &[&str]) {
            let locals = locals.iter().map(|local| SocketAddr::new(ip(local), 10_000));
            self.locals.send_replace(locals.collect());
            self.fault.changed().await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_bridge_is_well_as_long_as_it_has_a_public_address() {
        let mut world = Fixture::new(PUBLIC);
        let address_fault = world.fault.clone();
        let health = HealthConfig { address_fault, ..HealthConfig::default() };
        let rig = rig(BridgeConfig { health, ..BridgeConfig::default() });
        for _ in 0..2 {
            world.set_locals(&[LOCAL]).await;
            let error = rig.bridge.health().unwrap_err();
            assert!(error.hard && error.message.starts_with("No valid IP"), "{error}");
            world.set_locals(&[LOCAL, "198.51.100.1"]).await;
            assert_eq!(rig.bridge.health(), Ok(()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failed_queries_are_repeated() {
        let mut world = Fixture::new(STUN);
        world.set_locals(&[LOCAL]).await;
        assert!(world.fault.borrow_and_update().is_some());
        let begun = Instant::now();
        *world.answer.lock().unwrap() = vec![Found { local: ip(LOCAL), public: ip("203.0.113.7") }];
        world.fault.changed().await.unwrap();
        assert_eq!((world.fault.borrow().clone(), begun.elapsed()), (None, ASK_AGAIN));
        assert_eq!(*world.told.lock().unwrap(), mapped("203.0.113.7"), "and clients are told");
        // Without NAT there is nothing to publish, and no fault.
        *world.answer.lock().unwrap() =
            vec![Found { local: ip("203.0.113.7"), public: ip("203.0.113.7") }];
        world.set_locals(&["203.0.113.7"]).await;
        assert_eq!(*world.fault.wait_for(Option::is_none).await.unwrap(), None);
        assert_eq!(*world.told.lock().unwrap(), []);
        // Its local address disappears.
        world.answer.lock().unwrap().clear();
        world.set_locals(&[]).await;
        assert!(world.fault.borrow().is_some());
    }
}
