//! The shell around the [`Hub`]s: a handle for the rest of control, a loop for each hub, and the
//! dispatcher that distributes events to them.

use std::{
    collections::BTreeMap,
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rand::{RngCore, SeedableRng, rngs::StdRng};
use rialto_media::{EndpointId, TransportEvent};
use tokio::{
    sync::{
        Notify,
        mpsc::{self, UnboundedReceiver, UnboundedSender},
        watch,
    },
    task::JoinSet,
    time::MissedTickBehavior,
};

use super::{
    candidates,
    command::CommandSink,
    common::Common,
    config::{StaticMapping, TransportConfig},
    hub::{Hub, HubError, Notice, Output},
    sctp::SendError,
    types::{
        LocalTransport, RemoteTransport, Restart, TransportCounters, TransportOptions,
        TransportUpdate,
    },
};

/// All transports of the bridge. Cheap to clone. Endpoints are divided among several hubs, so that
/// handshakes and data channels use all cores. Every method locks one hub while it works (at most a
/// DTLS flight, a fraction of a millisecond), and sends the resulting commands to the packet path
/// before it returns.
#[derive(Clone)]
pub struct Transports(Arc<Shared>);

struct Shared {
    hubs: Vec<HubEntry>,
    common: Arc<Common>,
    config: TransportConfig,
    sink: Arc<dyn CommandSink>,
    updates: UnboundedSender<TransportUpdate>,
    /// The local addresses that can be used, as last listed.
    addresses: watch::Sender<Arc<[SocketAddr]>>,
    /// Datagrams dropped because a hub's queue was full.
    dropped: AtomicU64,
}

/// A hub with its loop's channels.
struct HubEntry {
    hub: Mutex<Hub>,
    /// Wakes the hub's loop when a call moved its next deadline forward.
    wake: Notify,
    /// Notices from other hubs. Unbounded: there are a few for each address that two endpoints
    /// claim.
    notices: UnboundedSender<Notice>,
    /// The receiving end of `notices`, until the loop takes it.
    inbox: Mutex<Option<UnboundedReceiver<Notice>>>,
}

impl HubEntry {
    fn new(hub: Hub) -> Self {
        let (notices, inbox) = mpsc::unbounded_channel();
        Self { hub: Mutex::new(hub), wake: Notify::new(), notices, inbox: Mutex::new(Some(inbox)) }
    }

    fn lock(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Transports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transports").finish_non_exhaustive()
    }
}

impl Transports {
    /// Creates the transports over the sockets behind `sink`. `seed` seeds every random choice,
    /// credentials included: take it from the operating system, except in tests.
    ///
    /// The queue of updates is unbounded because losing one would leave a conference in a wrong
    /// state; an endpoint adds at most a handful per consent interval.
    ///
    /// The interfaces cannot be listed, or the first certificate cannot be created.
    /// When the interfaces cannot be listed or the first certificate cannot be made.
    pub fn new(
        config: TransportConfig,
        sink: Arc<dyn CommandSink>,
        seed: [u8; 32],
    ) -> Result<(Self, UnboundedReceiver<TransportUpdate>), HubError> {
        let unix_time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let hubs = config.hubs.unwrap_or_else(cores);
        let common = Common::new(&config, hubs, seed, Instant::now(), unix_time)?;
        Self::with_common(config, sink, seed, common)
    }

    /// Creates the transports with existing shared state.
    pub(super) fn with_common(
        config: TransportConfig,
        sink: Arc<dyn CommandSink>,
        seed: [u8; 32],
        common: Arc<Common>,
    ) -> Result<(Self, UnboundedReceiver<TransportUpdate>), HubError> {
        let usable = usable(&config, &*sink).map_err(HubError::Interfaces)?;
        if usable.is_empty() {
            tracing::warn!("no local address can be used for media: nobody will connect");
        }
        let addresses = watch::Sender::new(Arc::from(usable.as_slice()));
        let mut seeds = StdRng::from_seed(seed);
        let hubs = (0..common.hubs()).map(|index| {
            let mut seed = [0; 32];
            seeds.fill_bytes(&mut seed);
            HubEntry::new(Hub::part(
                Arc::clone(&common),
                index,
                config.clone(),
                usable.clone(),
                seed,
            ))
        });
        let hubs = hubs.collect();
        let (updates, receiver) = mpsc::unbounded_channel();
        let dropped = AtomicU64::new(0);
        let shared = Shared { hubs, common, config, sink, updates, addresses, dropped };
        Ok((Self(Arc::new(shared)), receiver))
    }

    /// Watches the local addresses that can be used, the best first.
    pub fn addresses(&self) -> watch::Receiver<Arc<[SocketAddr]>> {
        self.0.addresses.subscribe()
    }

    /// Replaces the public addresses of local ones (`static_mappings`), for agents that are created
    /// from now on.
    pub fn set_mappings(&self, mappings: &[StaticMapping]) {
        for entry in &self.0.hubs {
            entry.lock().set_mappings(mappings.to_vec());
        }
    }

    /// Creates a transport. If the endpoint has one already, returns that one's description.
    pub fn create(&self, endpoint: EndpointId, options: TransportOptions) -> LocalTransport {
        self.with(endpoint, |hub, now| hub.create(now, endpoint, options))
    }

    /// Adds what the peer signalled. May be called for each trickled piece. Does nothing for an
    /// endpoint without a transport.
    pub fn set_remote(&self, endpoint: EndpointId, remote: RemoteTransport) {
        self.with(endpoint, |hub, now| hub.set_remote(now, endpoint, remote));
    }

    /// Restarts ICE in place: new credentials; the old pair stays in use until the new agent has
    /// one.
    pub fn restart_ice(&self, endpoint: EndpointId) -> Restart {
        self.with(endpoint, |hub, now| hub.restart_ice(now, endpoint))
    }

    /// Allows the peer to set up SCTP (RFC 8261), as the client of the association, and to open one
    /// data channel (RFC 8832). Application data of other peers is dropped.
    pub fn offer_sctp(&self, endpoint: EndpointId) {
        self.entry(endpoint).lock().offer_sctp(endpoint);
    }

    /// Sends a text over an endpoint's data channel, ordered and reliable unless the peer opened it
    /// otherwise.
    ///
    /// # Errors
    /// There is no open channel, the text has more than 65 536 bytes, or the peer leaves too much
    /// unacknowledged.
    pub fn send_text(&self, endpoint: EndpointId, text: &str) -> Result<(), SendError> {
        self.with(endpoint, |hub, now| hub.send_text(now, endpoint, text))
    }

    /// The current description of our side.
    pub fn describe(&self, endpoint: EndpointId) -> Option<LocalTransport> {
        self.entry(endpoint).lock().describe(endpoint)
    }

    /// Ends a transport, and unbinds its addresses.
    pub fn remove(&self, endpoint: EndpointId) {
        self.with(endpoint, |hub, _| hub.remove(endpoint));
    }

    /// State for `/debug`, without secrets.
    pub fn debug(&self, endpoint: EndpointId) -> Option<serde_json::Value> {
        self.entry(endpoint).lock().debug(Instant::now(), endpoint)
    }

    /// When an authenticated consent answer or check last arrived from an endpoint. The engine
    /// knows when media did.
    pub fn last_heard(&self, endpoint: EndpointId) -> Option<Instant> {
        self.entry(endpoint).lock().last_heard(endpoint)
    }

    /// The endpoint's name in logs.
    pub fn label(&self, endpoint: EndpointId) -> Option<Arc<str>> {
        self.entry(endpoint).lock().label(endpoint)
    }

    /// Totals since the start.
    pub fn counters(&self) -> TransportCounters {
        let mut sum = TransportCounters::default();
        for entry in &self.0.hubs {
            sum.add(&entry.lock().counters());
        }
        sum.datagrams_dropped = self.0.dropped.load(Ordering::Relaxed);
        sum
    }

    /// Authenticated connectivity checks, by the local address that received them.
    pub fn checks(&self) -> Vec<(SocketAddr, u64)> {
        let mut sum = BTreeMap::new();
        for (local, count) in self.0.hubs.iter().flat_map(|entry| entry.lock().checks()) {
            *sum.entry(local).or_default() += count;
        }
        sum.into_iter().collect()
    }

    /// Number of transports.
    pub fn len(&self) -> usize {
        self.0.hubs.iter().map(|entry| entry.lock().len()).sum()
    }

    /// Returns whether there are no transports.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Runs all transports: handles datagrams and timers, and sends commands to the packet path.
    /// Ends when the queue of events closes. Must be called once.
    pub async fn run(self, mut events: mpsc::Receiver<TransportEvent>) {
        let mut loops = JoinSet::new();
        let mut queues = Vec::new();
        for index in 0..self.0.hubs.len() {
            let (queue, received) = mpsc::channel(QUEUE);
            queues.push(queue);
            loops.spawn(self.clone().run_hub(index, received));
        }
        let mut batch = Vec::new();
        let mut refresh = tokio::time::interval(REFRESH);
        refresh.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                received = events.recv_many(&mut batch, BATCH) => {
                    if received == 0 {
                        break;
                    }
                    for event in batch.drain(..) {
                        self.dispatch(&queues, event);
                    }
                }
                _ = refresh.tick() => {
                    self.refresh_addresses();
                    self.warn_unreachable();
                }
            }
        }
        drop(queues);
        while loops.join_next().await.is_some() {}
    }

    /// Puts an event into the queue of its hub. If the queue is full the event is lost, as in the
    /// network: the sender retransmits, and a busy hub does not delay others.
    fn dispatch(&self, queues: &[mpsc::Sender<TransportEvent>], event: TransportEvent) {
        let queue = queues.get(self.0.common.route(&event));
        if queue.is_none_or(|queue| queue.try_send(event).is_err()) {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The loop of one hub.
    async fn run_hub(self, index: usize, mut events: mpsc::Receiver<TransportEvent>) {
        let Some(entry) = self.0.hubs.get(index) else { return };
        let inbox = entry.inbox.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut inbox) = inbox else { return };
        let mut batch = Vec::new();
        loop {
            let deadline = entry.lock().poll_timeout();
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
                    // One lock per datagram: a handshake must not delay callers by a whole batch.
                    for event in batch.drain(..) {
                        self.apply(entry, |hub, now| hub.on_event(now, &event));
                    }
                }
                notice = inbox.recv() => {
                    if let Some(notice) = notice {
                        self.apply(entry, |hub, now| hub.on_notice(now, notice));
                    }
                }
                () = timer => drop(self.apply(entry, Hub::handle_timeout)),
                () = entry.wake.notified() => {}
            }
            self.resolve_names(entry);
        }
    }

    /// Lists the interfaces again: endpoints that are created from now on use the current ones.
    fn refresh_addresses(&self) {
        match usable(&self.0.config, &*self.0.sink) {
            Ok(usable) => self.set_addresses(&usable),
            Err(error) => tracing::warn!(%error, "cannot list network interfaces"),
        }
    }

    fn set_addresses(&self, usable: &[SocketAddr]) {
        self.0.addresses.send_if_modified(|known| {
            let changed = **known != *usable;
            if changed {
                *known = Arc::from(usable);
            }
            changed
        });
        for entry in &self.0.hubs {
            entry.lock().set_locals(usable.to_vec());
        }
    }

    /// Warns the operator, once, if no connectivity checks arrive.
    fn warn_unreachable(&self) {
        // All hubs share this state.
        let Some(entry) = self.0.hubs.first() else { return };
        let mut hub = entry.lock();
        if let Some(unreachable) = hub.poll_unreachable(Instant::now()) {
            tracing::warn!("{}", unreachable.line(&hub.advertised()));
        }
    }

    /// Starts look-ups of candidates with host names, where configured.
    fn resolve_names(&self, entry: &HubEntry) {
        let wanted = entry.lock().take_names();
        for wanted in wanted {
            let this = self.clone();
            tokio::spawn(async move {
                let found = tokio::net::lookup_host((wanted.name.as_str(), wanted.port)).await;
                let addrs: Vec<_> = found.into_iter().flatten().take(2).collect();
                this.with(wanted.endpoint, |hub, now| hub.add_resolved(now, &wanted, &addrs));
            });
        }
    }

    /// Calls a hub from outside its loop, and wakes the loop if its deadline has changed.
    fn with<T>(&self, endpoint: EndpointId, call: impl FnOnce(&mut Hub, Instant) -> T) -> T {
        let entry = self.entry(endpoint);
        let (result, deadline_moved) = self.apply(entry, call);
        if deadline_moved {
            entry.wake.notify_one();
        }
        result
    }

    fn apply<T>(&self, entry: &HubEntry, call: impl FnOnce(&mut Hub, Instant) -> T) -> (T, bool) {
        let mut hub = entry.lock();
        let before = hub.poll_timeout();
        let now = Instant::now();
        let result = call(&mut hub, now);
        // Sent under the lock, so that the packet path sees the commands in their order.
        while let Some(output) = hub.poll_output() {
            match output {
                Output::Command(command) => self.0.sink.command(command),
                // The receiver is gone only during shutdown.
                Output::Update(update) => drop(self.0.updates.send(update)),
                // Never under two locks: notices for this hub go through its queue as well.
                Output::Notice(notice) => drop(self.entry(notice.to()).notices.send(notice)),
            }
        }
        let deadline_moved = hub.poll_timeout() != before || hub.has_names();
        (result, deadline_moved)
    }

    /// The hub of an endpoint.
    fn entry(&self, endpoint: EndpointId) -> &HubEntry {
        &self.0.hubs[self.0.common.hub_of(endpoint)]
    }
}

/// Number of cores, and thus of hubs.
fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

fn usable(config: &TransportConfig, sink: &dyn CommandSink) -> io::Result<Vec<SocketAddr>> {
    let interfaces = candidates::interfaces()?;
    Ok(candidates::usable(config, sink.local_addrs(), &interfaces))
}

/// How often the interfaces are listed.
const REFRESH: Duration = Duration::from_secs(30);
/// Datagrams that may wait for one hub: a second of handshakes, of which a core does some thousand.
const QUEUE: usize = 4096;
/// Datagrams taken from a queue at a time.
const BATCH: usize = 64;

#[cfg(test)]
mod tests;
