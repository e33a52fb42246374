//! Handles requests: finds conferences by id, and sends their requests to the bridge.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use minidom::Element;
use rand::{RngCore as _, SeedableRng as _, rngs::StdRng};
use tokio::time::Instant;

use super::channel::{Room, meeting};
use crate::{
    bridge::Bridge,
    colibri::{
        ColibriError, Condition, ConferenceModify,
        v1::{Conference, read, write},
    },
};

/// A conference without endpoints is forgotten after this long.
pub(super) const FILL_TIME: Duration = Duration::from_secs(20);
/// Upper bound of conferences.
const MAX_ROOMS: usize = 16_384;
/// Upper bound of empty conferences of a bare JID. A focus names endpoints in the request that makes the
/// conference, or soon after.
const MAX_EMPTY: usize = 64;
/// How often to look for conferences to forget.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// The same, when the bound is reached.
const FULL_SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// COLIBRI 1 of a bridge. Requests of one conference are answered in order.
pub struct Adapter {
    bridge: Bridge,
    pub(super) max_rooms: usize,
    state: Mutex<State>,
}

struct State {
    rooms: HashMap<String, Arc<Shared>>,
    rng: StdRng,
    swept: Instant,
}

struct Shared {
    /// The full JID of its creator; nobody else may use it.
    owner: String,
    created: Instant,
    /// Its meeting id at the bridge.
    meeting: String,
    room: tokio::sync::Mutex<Room>,
}

/// A refused request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct Refusal(#[from] pub ColibriError);

impl Refusal {
    /// `<error>`, for a stanza of this namespace.
    pub fn element(&self, namespace: &str) -> Element {
        write::error(&self.0, namespace)
    }
}

impl std::fmt::Debug for Adapter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Adapter").finish_non_exhaustive()
    }
}

impl Adapter {
    /// Of a bridge. `seed`: of ids.
    pub fn new(bridge: Bridge, seed: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        let state = State { rooms: HashMap::new(), rng, swept: Instant::now() };
        Self { bridge, max_rooms: MAX_ROOMS, state: Mutex::new(state) }
    }

    /// Answers a sender's `<conference>`.
    ///
    /// # Errors
    /// As JVB's, word by word.
    pub async fn ask(&self, from: &str, request: &Element) -> Result<Element, Refusal> {
        let request = read::conference(request)?;
        let shared = match &request.id {
            Some(id) => self.find(from, id)?,
            None => self.create(from, &request)?,
        };
        let mut room = shared.room.lock().await;
        let alive = self.bridge.endpoint_ids(&room.meeting).await;
        room.sync(alive.as_ref());
        if alive.is_none() && request.id.is_some() && shared.created.elapsed() > FILL_TIME {
            self.lock().rooms.remove(&room.id);
            return Err(not_found(&room.id).into());
        }
        let outcome = room.apply(&request, &mut || self.lock().rng.next_u64());
        let mut undone: BTreeSet<String> = outcome.asks.iter().map(asked).collect();
        for ask in outcome.asks {
            let asked = asked(&ask);
            match self.bridge.modify(ask).await {
                Ok(answer) => {
                    room.done(&asked, &answer);
                    undone.remove(&asked);
                }
                Err(error) => {
                    room.refused(&undone);
                    if room.is_empty() && request.id.is_none() {
                        self.lock().rooms.remove(&room.id);
                    }
                    return Err(error.into());
                }
            }
        }
        let draft = outcome.answer?;
        let mut transports = BTreeMap::new();
        for endpoint in draft.endpoints() {
            if let Some(transport) = self.bridge.transport(&room.meeting, endpoint).await {
                transports.insert(endpoint.to_owned(), transport);
            }
        }
        let answer = room.answer(&draft, self.bridge.is_shutting_down(), |endpoint| {
            transports.get(endpoint).cloned()
        });
        Ok(write::answer(&answer))
    }

    /// The owners of conferences, each once.
    pub fn owners(&self) -> Vec<String> {
        let state = self.lock();
        let live = |shared: &&Arc<Shared>| self.bridge.conference_exists(&shared.meeting);
        let owners: BTreeSet<&String> =
            state.rooms.values().filter(live).map(|shared| &shared.owner).collect();
        owners.into_iter().cloned().collect()
    }

    fn find(&self, from: &str, id: &str) -> Result<Arc<Shared>, ColibriError> {
        let state = self.lock();
        let found = state.rooms.get(id).filter(|shared| shared.owner == from);
        found.cloned().ok_or_else(|| not_found(id))
    }

    fn create(&self, from: &str, request: &Conference) -> Result<Arc<Shared>, ColibriError> {
        if self.bridge.is_shutting_down() {
            return Err(ColibriError::graceful_shutdown());
        }
        let mut state = self.lock();
        self.sweep(&mut state);
        if state.rooms.len() >= self.max_rooms {
            let text = "Too many conferences";
            return Err(ColibriError::new(Condition::ResourceConstraint, text));
        }
        if self.empty(&state, from) >= MAX_EMPTY {
            let text = "Too many conferences without endpoints";
            return Err(ColibriError::new(Condition::ResourceConstraint, text));
        }
        let id = loop {
            let id = format!("{:x}", state.rng.next_u64());
            if !state.rooms.contains_key(&id) {
                break id;
            }
        };
        let shared = Arc::new(Shared {
            owner: from.to_owned(),
            created: Instant::now(),
            meeting: meeting(&id),
            room: tokio::sync::Mutex::new(Room::new(
                id.clone(),
                request.name.clone(),
                self.bridge.offers_sctp(),
            )),
        });
        let (name, gid) = (request.name.as_deref(), request.gid.as_deref());
        tracing::info!(conference = id, name, gid, focus = from, "COLIBRI 1: conference created");
        state.rooms.insert(id, shared.clone());
        Ok(shared)
    }

    /// How many empty conferences a bare JID has that may still be filled. Older ones are forgotten when the
    /// bound is reached.
    fn empty(&self, state: &State, from: &str) -> usize {
        let who = bare(from);
        let is_empty = |shared: &&Arc<Shared>| {
            bare(&shared.owner) == who
                && shared.created.elapsed() <= FILL_TIME
                // One with a request in progress is about to be filled, or to end.
                && shared.room.try_lock().is_ok()
                && !self.bridge.conference_exists(&shared.meeting)
        };
        state.rooms.values().filter(is_empty).count()
    }

    /// Forgets conferences that ended by themselves.
    fn sweep(&self, state: &mut State) {
        let is_full = state.rooms.len() >= self.max_rooms;
        let interval = if is_full { FULL_SWEEP_INTERVAL } else { SWEEP_INTERVAL };
        if state.swept.elapsed() < interval {
            return;
        }
        state.swept = Instant::now();
        state.rooms.retain(|_, shared| {
            // One with a request in progress may be about to be created again.
            shared.room.try_lock().is_err()
                || shared.created.elapsed() <= FILL_TIME
                || self.bridge.conference_exists(&shared.meeting)
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A JID without its resource.
fn bare(jid: &str) -> &str {
    jid.split_once('/').map_or(jid, |(bare, _)| bare)
}

/// The endpoint of a request to the bridge, which has one.
fn asked(ask: &ConferenceModify) -> String {
    ask.endpoints.first().map(|edit| edit.id.clone()).unwrap_or_default()
}

fn not_found(id: &str) -> ColibriError {
    let quoted: String = id.chars().take(64).collect();
    ColibriError::bad_request(format!("Conference not found for ID: {quoted}"))
}
