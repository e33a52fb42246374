//! The registry of conferences, and of the conference to which each endpoint belongs.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use arc_swap::ArcSwap;
use dashmap::{DashMap, Entry};
use rand::{Rng, SeedableRng, rngs::StdRng};
use rialto_media::EndpointId;
use tokio::sync::broadcast;

use super::mailbox::Mailbox;
use crate::{
    colibri::ConferenceModify,
    conference::{ConferenceEvent, Identity, Tally},
};

/// How many events a watcher may fall behind.
const EVENT_BACKLOG: usize = 256;

/// The shared part of a conference, outside its task.
#[derive(Debug)]
pub(super) struct Handle {
    /// The bridge's id, 16 hexadecimal digits.
    pub id: String,
    pub meeting_id: String,
    /// The room's bare JID.
    pub name: Option<String>,
    pub created_unix_ms: u64,
    pub mailbox: Mailbox,
    /// The snapshot that it last published.
    pub published: ArcSwap<Published>,
    /// Created for the first watcher: the backlog is large, and most conferences are never watched.
    events: OnceLock<broadcast::Sender<ConferenceEvent>>,
}

/// The snapshot that a conference publishes for statistics, health and load after a change.
#[derive(Debug, Default)]
pub(super) struct Published {
    pub tally: Tally,
    /// Videos that receivers get less of for a reason that is neither the receiver's nor the sender's choice.
    pub shortages: usize,
}

impl Handle {
    /// Its events from now on.
    pub(super) fn watch(&self) -> broadcast::Receiver<ConferenceEvent> {
        self.events.get_or_init(|| broadcast::Sender::new(EVENT_BACKLOG)).subscribe()
    }

    /// Logs an event and sends it to watchers.
    pub(super) fn announce(&self, event: ConferenceEvent) {
        self.log(&event);
        if let Some(events) = self.events.get() {
            // It is no error if no watcher is left.
            let _ = events.send(event);
        }
    }

    /// Logs the events that operators ask about later.
    fn log(&self, event: &ConferenceEvent) {
        let (conference, meeting) = (&self.id, &self.meeting_id);
        match event {
            ConferenceEvent::DominantSpeaker { endpoint, .. } => {
                tracing::info!(%conference, %meeting, %endpoint, "dominant speaker");
            }
            ConferenceEvent::EndpointConnected { endpoint } => {
                tracing::info!(%conference, %meeting, %endpoint, "endpoint connected");
            }
            ConferenceEvent::EndpointDisconnected { endpoint } => {
                tracing::info!(%conference, %meeting, %endpoint, "endpoint disconnected");
            }
            ConferenceEvent::EndpointExpired { endpoint } => {
                tracing::info!(%conference, %meeting, %endpoint, "endpoint expired");
            }
            ConferenceEvent::Decision { endpoint, source, current, target } => {
                tracing::debug!(
                    %conference, %meeting, %endpoint, source, ?current, ?target, "forwarding changed"
                );
            }
            ConferenceEvent::ShortStage {
                endpoint,
                source,
                wanted_height,
                height,
                reason,
                estimate_bps,
            } => {
                tracing::info!(
                    %conference, %meeting, %endpoint, source, wanted_height, height, reason,
                    estimate_bps, "stage below its requested height for 10 s"
                );
            }
            ConferenceEvent::ConferenceExpired => {}
        }
    }
}

/// Conferences by both of their ids and by the endpoints that they have. Nothing is held locked for longer
/// than a look or a change of one entry.
#[derive(Debug)]
pub(super) struct Registry {
    by_meeting: DashMap<String, Arc<Handle>>,
    by_id: DashMap<String, Arc<Handle>>,
    /// The conference of each endpoint, for events that have only its engine id.
    routes: DashMap<EndpointId, Arc<Handle>>,
    conferences: AtomicUsize,
    endpoints: AtomicUsize,
    seed: u64,
    created: AtomicU64,
}

/// The conference that was found or created for a meeting.
pub(super) enum Found {
    /// The conference that there was.
    Existing(Arc<Handle>),
    /// A new one.
    Created(Arc<Handle>),
}

impl Registry {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            by_meeting: DashMap::new(),
            by_id: DashMap::new(),
            routes: DashMap::new(),
            conferences: AtomicUsize::new(0),
            endpoints: AtomicUsize::new(0),
            seed,
            created: AtomicU64::new(0),
        }
    }

    pub(super) fn by_meeting(&self, meeting_id: &str) -> Option<Arc<Handle>> {
        self.by_meeting.get(meeting_id).map(|handle| handle.value().clone())
    }

    pub(super) fn by_id(&self, id: &str) -> Option<Arc<Handle>> {
        self.by_id.get(id).map(|handle| handle.value().clone())
    }

    pub(super) fn all(&self) -> Vec<Arc<Handle>> {
        self.by_id.iter().map(|handle| handle.value().clone()).collect()
    }

    /// How many conferences there are.
    pub(super) fn len(&self) -> usize {
        self.conferences.load(Ordering::Relaxed)
    }

    /// How many endpoints all conferences have.
    pub(super) fn endpoints(&self) -> usize {
        self.endpoints.load(Ordering::Relaxed)
    }

    /// The conference of an endpoint.
    pub(super) fn route(&self, endpoint: EndpointId) -> Option<Arc<Handle>> {
        self.routes.get(&endpoint).map(|route| route.value().clone())
    }

    /// An endpoint came into a conference.
    pub(super) fn add_route(&self, endpoint: EndpointId, handle: Arc<Handle>) {
        if self.routes.insert(endpoint, handle).is_none() {
            self.endpoints.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// An endpoint is gone.
    pub(super) fn remove_route(&self, endpoint: EndpointId) {
        if self.routes.remove(&endpoint).is_some() {
            self.endpoints.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The conference of a meeting, or else the one that `create` makes, if it may: of two concurrent calls
    /// one creates it.
    pub(super) fn find_or_create<E>(
        &self,
        meeting_id: &str,
        create: impl FnOnce() -> Result<Arc<Handle>, E>,
    ) -> Result<Found, E> {
        match self.by_meeting.entry(meeting_id.to_owned()) {
            Entry::Occupied(entry) => Ok(Found::Existing(entry.get().clone())),
            Entry::Vacant(entry) => {
                let handle = create()?;
                self.by_id.insert(handle.id.clone(), handle.clone());
                entry.insert(handle.clone());
                self.conferences.fetch_add(1, Ordering::Relaxed);
                Ok(Found::Created(handle))
            }
        }
    }

    /// The identity of the conference that a request names.
    pub(super) fn identity(&self, request: &ConferenceModify) -> Identity {
        loop {
            let nth = self.created.fetch_add(1, Ordering::Relaxed);
            let mut rng = StdRng::seed_from_u64(self.seed.wrapping_add(nth));
            let id = format!("{:016x}", rng.random::<u64>());
            if !self.by_id.contains_key(&id) {
                return Identity {
                    id,
                    meeting_id: request.meeting_id.clone(),
                    name: request.name.clone(),
                    rtcstats_enabled: request.rtcstats_enabled,
                    audio_ssrc: rng.random(),
                    video_ssrc: rng.random(),
                };
            }
        }
    }

    /// Forgets a conference, and not another of the same meeting.
    pub(super) fn remove(&self, handle: &Handle) {
        if self.by_id.remove(&handle.id).is_some() {
            self.by_meeting.remove_if(&handle.meeting_id, |_, other| other.id == handle.id);
            self.conferences.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The shared part of a new conference.
pub(super) fn handle_of(identity: &Identity, mailbox: Mailbox) -> Arc<Handle> {
    Arc::new(Handle {
        id: identity.id.clone(),
        meeting_id: identity.meeting_id.clone(),
        name: identity.name.clone(),
        created_unix_ms: super::unix_ms(),
        mailbox,
        published: ArcSwap::default(),
        events: OnceLock::new(),
    })
}
