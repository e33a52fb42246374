//! Which conferences there are.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Instant,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::sync::{broadcast, mpsc};

use super::{lock, modify::Job};
use crate::{
    colibri::ConferenceModify,
    conference::{Conference, ConferenceEvent, Identity, Rules},
};

/// Events that a watcher may fall behind.
const EVENT_BACKLOG: usize = 256;

/// A conference and what belongs to it.
#[derive(Debug)]
pub(super) struct Handle {
    /// The bridge's id, 16 hexadecimal digits.
    pub id: String,
    pub meeting_id: String,
    pub created_unix_ms: u64,
    /// `None` when it has expired.
    pub state: Mutex<Option<Conference>>,
    /// `None` when it has expired.
    pub queue: Mutex<Option<mpsc::Sender<Job>>>,
    pub events: broadcast::Sender<ConferenceEvent>,
}

impl Handle {
    /// Reads the conference if it still exists.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Conference) -> T) -> Option<T> {
        lock(&self.state).as_ref().map(read)
    }

    /// One line for what people ask about later.
    pub(super) fn log(&self, event: &ConferenceEvent) {
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
                    estimate_bps, "stage below its wish for 10 s"
                );
            }
            ConferenceEvent::ConferenceExpired => {}
        }
    }
}

/// Conferences by both of their ids.
#[derive(Debug)]
pub(super) struct Registry {
    by_meeting: HashMap<String, Arc<Handle>>,
    by_id: HashMap<String, Arc<Handle>>,
    rng: StdRng,
}

impl Registry {
    pub(super) fn new(seed: u64) -> Self {
        Self { by_meeting: HashMap::new(), by_id: HashMap::new(), rng: StdRng::seed_from_u64(seed) }
    }

    pub(super) fn by_meeting(&self, meeting_id: &str) -> Option<Arc<Handle>> {
        self.by_meeting.get(meeting_id).cloned()
    }

    pub(super) fn by_id(&self, id: &str) -> Option<Arc<Handle>> {
        self.by_id.get(id).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Handle>> {
        self.by_id.values().cloned().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Makes the conference that a request asks for.
    pub(super) fn create(
        &mut self,
        request: &ConferenceModify,
        rules: Rules,
        queue: mpsc::Sender<Job>,
        now: Instant,
    ) -> Arc<Handle> {
        let id = loop {
            let id = format!("{:016x}", self.rng.random::<u64>());
            if !self.by_id.contains_key(&id) {
                break id;
            }
        };
        let identity = Identity {
            id: id.clone(),
            meeting_id: request.meeting_id.clone(),
            name: request.name.clone(),
            rtcstats_enabled: request.rtcstats_enabled,
            audio_ssrc: self.rng.random(),
            video_ssrc: self.rng.random(),
        };
        let handle = Arc::new(Handle {
            id: id.clone(),
            meeting_id: request.meeting_id.clone(),
            created_unix_ms: super::unix_ms(),
            state: Mutex::new(Some(Conference::new(identity, rules, now))),
            queue: Mutex::new(Some(queue)),
            events: broadcast::Sender::new(EVENT_BACKLOG),
        });
        self.by_meeting.insert(request.meeting_id.clone(), handle.clone());
        self.by_id.insert(id, handle.clone());
        handle
    }

    /// Forgets a conference, and not another of the same meeting.
    pub(super) fn remove(&mut self, handle: &Handle) {
        if self.by_id.remove(&handle.id).is_some() {
            self.by_meeting.remove(&handle.meeting_id);
        }
    }
}
