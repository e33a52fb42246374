//! The shell around the [`Hub`]: a handle for the rest of control, and the one loop that feeds it.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rialto_media::{EndpointId, TransportEvent};
use tokio::{
    sync::{
        Notify,
        mpsc::{self, UnboundedReceiver, UnboundedSender},
        watch,
    },
    time::MissedTickBehavior,
};

use super::{
    candidates,
    command::CommandSink,
    config::{StaticMapping, TransportConfig},
    hub::{Hub, HubError, Output},
    sctp::SendError,
    types::{
        LocalTransport, RemoteTransport, Restart, TransportCounters, TransportOptions,
        TransportUpdate,
    },
};

/// All transports of the bridge. Cheap to clone; every method holds a mutex for the time of the work
/// itself (at most a DTLS flight, a fraction of a millisecond) and sends what follows from it to the
/// engine before it returns.
#[derive(Clone)]
pub struct Transports(Arc<Shared>);

struct Shared {
    hub: Mutex<Hub>,
    config: TransportConfig,
    sink: Arc<dyn CommandSink>,
    updates: UnboundedSender<TransportUpdate>,
    /// Local addresses that can be used, as they were last listed.
    addresses: watch::Sender<Arc<[SocketAddr]>>,
    /// Wakes the loop when a call moved the next deadline forward.
    wake: Notify,
}

impl fmt::Debug for Transports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transports").finish_non_exhaustive()
    }
}

impl Transports {
    /// Over the sockets behind `sink`. `seed` is the start of every random choice, credentials
    /// included: take it from the operating system, except in tests.
    ///
    /// The updates' queue is unbounded because losing one would leave a conference in a wrong state;
    /// an endpoint adds a handful of them per consent interval at most.
    ///
    /// # Errors
    /// When the interfaces cannot be listed or the first certificate cannot be made.
    pub fn new(
        config: TransportConfig,
        sink: Arc<dyn CommandSink>,
        seed: [u8; 32],
    ) -> Result<(Self, UnboundedReceiver<TransportUpdate>), HubError> {
        let usable = usable(&config, &*sink).map_err(HubError::Interfaces)?;
        if usable.is_empty() {
            tracing::warn!("no local address can be used for media: nobody will connect");
        }
        let unix_time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let addresses = watch::Sender::new(Arc::from(usable.as_slice()));
        let hub = Hub::new(config.clone(), usable, seed, Instant::now(), unix_time)?;
        let (updates, receiver) = mpsc::unbounded_channel();
        let (hub, wake) = (Mutex::new(hub), Notify::new());
        let shared = Shared { hub, config, sink, updates, addresses, wake };
        Ok((Self(Arc::new(shared)), receiver))
    }

    /// The local addresses that can be used, the best first, as they come and go.
    pub fn addresses(&self) -> watch::Receiver<Arc<[SocketAddr]>> {
        self.0.addresses.subscribe()
    }

    /// Replaces the public addresses of local ones (`static_mappings`), for agents that are made from
    /// now on.
    pub fn set_mappings(&self, mappings: Vec<StaticMapping>) {
        self.lock().set_mappings(mappings);
    }

    /// Makes a transport. An endpoint that has one already gets that one's description.
    pub fn create(&self, endpoint: EndpointId, options: TransportOptions) -> LocalTransport {
        self.with(|hub, now| hub.create(now, endpoint, options))
    }

    /// Adds what the peer signalled. Additive: may be called for each trickled piece. Nothing happens
    /// for an endpoint without a transport.
    pub fn set_remote(&self, endpoint: EndpointId, remote: RemoteTransport) {
        self.with(|hub, now| hub.set_remote(now, endpoint, remote));
    }

    /// Restarts ICE in place: new credentials, the old pair in use until the new agent has one.
    pub fn restart_ice(&self, endpoint: EndpointId) -> Restart {
        self.with(|hub, now| hub.restart_ice(now, endpoint))
    }

    /// From now on the peer may set up SCTP (RFC 8261), as the client of the association, and open one
    /// data channel (RFC 8832). Application data of others is dropped.
    pub fn offer_sctp(&self, endpoint: EndpointId) {
        self.lock().offer_sctp(endpoint);
    }

    /// Sends a text in an endpoint's data channel, ordered and reliable unless the peer opened it
    /// otherwise.
    ///
    /// # Errors
    /// When there is no open channel, the text has more than 65 536 bytes, or the peer leaves too much
    /// unacknowledged.
    pub fn send_text(&self, endpoint: EndpointId, text: &str) -> Result<(), SendError> {
        self.with(|hub, now| hub.send_text(now, endpoint, text))
    }

    /// Our side, as it is now.
    pub fn describe(&self, endpoint: EndpointId) -> Option<LocalTransport> {
        self.lock().describe(endpoint)
    }

    /// Ends a transport. Its addresses are unbound.
    pub fn remove(&self, endpoint: EndpointId) {
        self.with(|hub, _| hub.remove(endpoint));
    }

    /// State for `/debug`; no secrets.
    pub fn debug(&self, endpoint: EndpointId) -> Option<serde_json::Value> {
        self.lock().debug(Instant::now(), endpoint)
    }

    /// When ICE last heard of an endpoint: a consent answer, or a check of the peer's own, that
    /// authenticated. Media is the engine's to tell of.
    pub fn last_heard(&self, endpoint: EndpointId) -> Option<Instant> {
        self.lock().last_heard(endpoint)
    }

    /// What an endpoint is called in logs.
    pub fn label(&self, endpoint: EndpointId) -> Option<Arc<str>> {
        self.lock().label(endpoint)
    }

    /// Totals since the start.
    pub fn counters(&self) -> TransportCounters {
        self.lock().counters()
    }

    /// Connectivity checks that authenticated, by the local address that they came to.
    pub fn checks(&self) -> Vec<(SocketAddr, u64)> {
        self.lock().checks()
    }

    /// Transports that exist.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The control loop of all transports: datagrams and time in, commands to the engine out. Ends
    /// when the engine's event queue closes.
    pub async fn run(self, mut events: mpsc::Receiver<TransportEvent>) {
        let mut batch = Vec::new();
        let mut refresh = tokio::time::interval(REFRESH);
        refresh.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let deadline = self.lock().poll_timeout();
            let timer = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                received = events.recv_many(&mut batch, BATCH) => {
                    if received == 0 {
                        return;
                    }
                    // One lock for each datagram: a handshake must not hold up the callers of a batch.
                    for event in batch.drain(..) {
                        self.apply(|hub, now| hub.on_event(now, &event));
                    }
                }
                () = timer => drop(self.apply(Hub::handle_timeout)),
                () = self.0.wake.notified() => {}
                _ = refresh.tick() => {
                    self.refresh_addresses();
                    self.tell_unreachable();
                }
            }
            self.resolve_names();
        }
    }

    /// Interfaces come and go: endpoints that are created from now on get what is there now.
    fn refresh_addresses(&self) {
        match usable(&self.0.config, &*self.0.sink) {
            Ok(usable) => self.set_addresses(usable),
            Err(error) => tracing::warn!(%error, "cannot list network interfaces"),
        }
    }

    fn set_addresses(&self, usable: Vec<SocketAddr>) {
        self.0.addresses.send_if_modified(|known| {
            let changed = **known != *usable;
            if changed {
                *known = Arc::from(usable.as_slice());
            }
            changed
        });
        self.lock().set_locals(usable);
    }

    /// Nobody's checks come: the operator is told once.
    fn tell_unreachable(&self) {
        let mut hub = self.lock();
        if let Some(unreachable) = hub.poll_unreachable(Instant::now()) {
            tracing::warn!("{}", unreachable.line(&hub.advertised()));
        }
    }

    /// Starts look-ups of the candidates that came as host names, where that is configured.
    fn resolve_names(&self) {
        let wanted = self.lock().take_names();
        for wanted in wanted {
            let this = self.clone();
            tokio::spawn(async move {
                let found = tokio::net::lookup_host((wanted.name.as_str(), wanted.port)).await;
                let addrs: Vec<_> = found.into_iter().flatten().take(2).collect();
                this.with(|hub, now| hub.add_resolved(now, &wanted, &addrs));
            });
        }
    }

    /// For callers outside the loop: wakes it when it has to look again.
    fn with<T>(&self, call: impl FnOnce(&mut Hub, Instant) -> T) -> T {
        let (result, deadline_moved) = self.apply(call);
        if deadline_moved {
            self.0.wake.notify_one();
        }
        result
    }

    fn apply<T>(&self, call: impl FnOnce(&mut Hub, Instant) -> T) -> (T, bool) {
        let mut hub = self.lock();
        let before = hub.poll_timeout();
        let result = call(&mut hub, Instant::now());
        // Sent under the lock, so that the engine sees them in the order in which they came about.
        while let Some(output) = hub.poll_output() {
            match output {
                Output::Command(command) => self.0.sink.command(command),
                // The receiver is gone only when the bridge is shutting down.
                Output::Update(update) => drop(self.0.updates.send(update)),
            }
        }
        let deadline_moved = hub.poll_timeout() != before || hub.has_names();
        (result, deadline_moved)
    }

    fn lock(&self) -> MutexGuard<'_, Hub> {
        self.0.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn usable(config: &TransportConfig, sink: &dyn CommandSink) -> io::Result<Vec<SocketAddr>> {
    let interfaces = candidates::interfaces()?;
    Ok(candidates::usable(config, sink.local_addrs(), &interfaces))
}

/// How often the interfaces are listed.
const REFRESH: Duration = Duration::from_secs(30);
/// Datagrams taken from the engine's queue at a time.
const BATCH: usize = 64;

#[cfg(test)]
mod tests;
