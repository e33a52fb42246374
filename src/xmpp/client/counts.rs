//! Counts of connections and joined rooms, for statistics and health.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use super::lock;
use crate::{config::XmppClient, stats::Mucs, xmpp::bounded::now};

/// Counts of all clients. Clones show the same.
#[derive(Clone, Debug, Default)]
pub struct MucCounts(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    clients: Mutex<BTreeMap<String, Arc<ClientState>>>,
    disconnects: AtomicU64,
    /// Since when no room is joined, where there are some to join.
    absent: Mutex<Option<Instant>>,
}

/// Of one client.
#[derive(Debug, Default)]
pub(super) struct ClientState {
    rooms: usize,
    connected: AtomicBool,
    joined: AtomicUsize,
}

impl MucCounts {
    /// Adds a client.
    pub(super) fn add(&self, client: &XmppClient) -> Arc<ClientState> {
        let rooms = client.rooms.len();
        let state = Arc::new(ClientState { rooms, ..ClientState::default() });
        lock(&self.0.clients).insert(client.id.clone(), state.clone());
        self.look();
        state
    }

    /// Removes a client.
    pub(super) fn remove(&self, id: &str) {
        lock(&self.0.clients).remove(id);
        self.look();
    }

    /// Updates a client's state.
    pub(super) fn set(&self, client: &ClientState, connected: bool, joined: usize) {
        client.connected.store(connected, Ordering::Relaxed);
        client.joined.store(joined, Ordering::Relaxed);
        self.look();
    }

    /// Counts a lost connection.
    pub(super) fn lost(&self) {
        self.0.disconnects.fetch_add(1, Ordering::Relaxed);
    }

    /// The current counts.
    pub fn read(&self) -> Mucs {
        let mut mucs = self.sum();
        let absent = *lock(&self.0.absent);
        mucs.disconnects = self.0.disconnects.load(Ordering::Relaxed);
        mucs.absent_for = absent.map(|since| now().saturating_duration_since(since));
        mucs
    }

    fn look(&self) {
        let mucs = self.sum();
        let mut absent = lock(&self.0.absent);
        *absent = if mucs.joined > 0 || mucs.configured == 0 {
            None
        } else {
            absent.or_else(|| Some(now()))
        };
    }

    fn sum(&self) -> Mucs {
        let clients = lock(&self.0.clients);
        let mut mucs = Mucs { clients_configured: clients.len(), ..Mucs::default() };
        for state in clients.values() {
            mucs.clients_connected += usize::from(state.connected.load(Ordering::Relaxed));
            mucs.configured += state.rooms;
            mucs.joined += state.joined.load(Ordering::Relaxed);
        }
        mucs
    }
}
