//! The bridge: conferences by meeting id, and what control surfaces call.
//!
//! Requests of one conference go through its queue, in order; conferences do not wait for each
//! other. Everything that happens to a conference happens under its own lock, which is never held
//! across a wait, and what comes of it goes out under the same lock, so that the engine sees changes
//! in the order in which they were decided.

mod adapter;
mod capture;
mod channel;
mod commands;
mod config;
mod data_channel;
mod delays;
mod health;
mod housekeeping;
mod load;
mod modify;
mod name;
mod older;
mod packets;
mod port;
mod published;
mod registry;
mod report;
mod stats;
mod status;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use dashmap::DashMap;
use health::{ShardReports, Shutdown};
use registry::{Handle, Registry};
use rialto_engine::{Engine, MediaEvent, Tap};
use rialto_media::{EndpointId, Mid};
use rialto_transport::TransportUpdate;
use serde_json::{Map, Value, json};
use stats::Totals;
use tokio::sync::{broadcast, mpsc, watch};

pub use crate::conference::{
    ConferenceEvent, ConferenceStatus, CreateTransport, EndpointStatus, EndpointView,
    ReceivedSource, VideoReason, VideoStatus,
};
pub use capture::{CaptureConfig, CaptureError};
pub use channel::{Channel, WebSocketPermit};
pub use commands::EngineCommands;
pub use config::{BridgeConfig, HealthConfig, ShutdownConfig};
pub use health::{HealthError, ShutdownState};
pub use load::{LoadConfig, Measure, ReducerConfig};
pub(crate) use name::is_bare_jid;
pub use port::{RestartAnswer, TransportPort};
#[cfg(test)]
pub(crate) use published::published;
pub use report::SelfReport;
pub use stats::{BridgeStats, Queues, ShardLoad};
pub use status::{
    ConferenceSummary, Delay, DropStatus, Health, ShardStatus, ShownConference, Status,
};

use crate::{
    channel::{ChannelKind, Hub},
    colibri::{ColibriError, ConferenceModified, ConferenceModify, IceUdp},
    conference::{Conference, Effects, SequentialIds},
};

/// The bridge. Cheap to clone; it lives as long as a clone does.
#[derive(Clone, Debug)]
pub struct Bridge {
    inner: Arc<Inner>,
}

struct Inner {
    config: BridgeConfig,
    engine: Engine,
    transports: Box<dyn TransportPort>,
    registry: Mutex<Registry>,
    /// Whose an endpoint is, for events that know only its place in the engine.
    routes: DashMap<EndpointId, Arc<Handle>>,
    channels: Hub,
    data_channels: DashMap<EndpointId, data_channel::DataChannel>,
    ids: Mutex<SequentialIds>,
    totals: Totals,
    drain: AtomicBool,
    shutdown: Mutex<Shutdown>,
    stopped: watch::Sender<bool>,
    reports: Mutex<ShardReports>,
    /// Why it was unwell, where that is not forgotten.
    failed_once: OnceLock<HealthError>,
    /// Endpoints that should have a channel by then.
    channels_due: Mutex<VecDeque<(Instant, EndpointId)>>,
    delays: Mutex<delays::RequestDelays>,
    /// Endpoints whose packets are captured.
    taps: DashMap<EndpointId, Tap>,
    captures: capture::Writer,
    packets: Mutex<packets::PacketsBySize>,
    load: Mutex<load::Meter>,
    reducer: Mutex<load::Reducer>,
    started: Instant,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bridge").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Bridge {
    /// A bridge over an engine and its transports. Must be called within a tokio runtime: it starts
    /// a task that takes `media` and `updates` and keeps the house.
    pub fn new(
        config: BridgeConfig,
        engine: Engine,
        transports: impl TransportPort,
        media: mpsc::Receiver<MediaEvent>,
        updates: mpsc::UnboundedReceiver<TransportUpdate>,
    ) -> Self {
        let inner = Arc::new(Inner {
            registry: Mutex::new(Registry::new(config.seed)),
            routes: DashMap::new(),
            channels: Hub::default(),
            data_channels: DashMap::new(),
            ids: Mutex::default(),
            totals: Totals::default(),
            drain: AtomicBool::new(config.initial_drain),
            shutdown: Mutex::default(),
            stopped: watch::Sender::new(false),
            reports: Mutex::default(),
            failed_once: OnceLock::new(),
            channels_due: Mutex::default(),
            delays: Mutex::default(),
            taps: DashMap::new(),
            captures: capture::Writer::default(),
            packets: Mutex::default(),
            load: Mutex::default(),
            reducer: Mutex::default(),
            started: now(),
            transports: Box::new(transports),
            engine,
            config,
        });
        tokio::spawn(housekeeping::run(Arc::downgrade(&inner), media, updates));
        Self { inner }
    }

    /// Handles a request. Requests of one conference are answered in the order in which this is
    /// first polled; [`Bridge::submit`] fixes the order at the call.
    pub async fn modify(
        &self,
        request: ConferenceModify,
    ) -> Result<ConferenceModified, ColibriError> {
        self.submit(request).await
    }

    /// Takes a request; the future is its answer.
    pub fn submit(
        &self,
        request: ConferenceModify,
    ) -> impl Future<Output = Result<ConferenceModified, ColibriError>> + Send + use<> {
        self.inner.submit(request)
    }

    /// Tells which MIDs a receiver gave to the sources that it gets, by source name. A source may
    /// come later. Does nothing when the endpoint is gone.
    #[expect(clippy::unused_async, reason = "may wait for the conference's queue one day")]
    pub async fn assign_mids(&self, meeting_id: &str, endpoint: &str, mids: Vec<(String, Mid)>) {
        if let Some(handle) = self.inner.by_meeting(meeting_id) {
            self.inner.with(&handle, |conference, effects| {
                conference.assign_mids(endpoint, mids, effects)
            });
        }
    }

    /// What happens in a conference from now on; `None` when there is no such conference. Who does
    /// not keep up misses events.
    pub fn watch(&self, meeting_id: &str) -> Option<broadcast::Receiver<ConferenceEvent>> {
        Some(self.inner.by_meeting(meeting_id)?.events.subscribe())
    }

    /// Whether a conference of this meeting exists.
    pub fn conference_exists(&self, meeting_id: &str) -> bool {
        self.inner.by_meeting(meeting_id).is_some()
    }

    /// The ids of a conference's endpoints; `None` when there is no such conference.
    pub fn endpoint_ids(&self, meeting_id: &str) -> Option<BTreeSet<String>> {
        self.inner.by_meeting(meeting_id)?.read(|c| c.endpoints().map(|e| e.id.clone()).collect())
    }

    /// Our side of an endpoint's transport, as it is now.
    pub fn transport(&self, meeting_id: &str, endpoint: &str) -> Option<IceUdp> {
        let handle = self.inner.by_meeting(meeting_id)?;
        let id = handle.read(|c| c.endpoint(endpoint).map(|e| e.engine_id))??;
        let mut ice = self.inner.transports.describe(id)?;
        ice.web_sockets = self.inner.web_sockets(&handle, endpoint, id);
        Some(ice)
    }

    /// Whether bridge channels over SCTP are offered.
    pub fn offers_sctp(&self) -> bool {
        self.inner.config.sctp
    }

    /// New conferences are refused.
    pub fn is_shutting_down(&self) -> bool {
        lock(&self.inner.shutdown).state != ShutdownState::Running
    }

    /// What was decided for a receiver, and what is measured of it.
    pub fn endpoint_view(&self, meeting_id: &str, endpoint: &str) -> Option<EndpointView> {
        self.inner.by_meeting(meeting_id)?.read(|c| c.view(endpoint))?
    }

    /// Why a receiver gets no more of each video of the others.
    pub fn video_reasons(&self, meeting_id: &str, endpoint: &str) -> Option<Vec<VideoReason>> {
        self.inner.by_meeting(meeting_id)?.read(|c| c.video_reasons(endpoint))?
    }

    /// Who speaks in a conference, in the form of `dominant-speaker-identification`.
    pub fn speech_activity(&self, meeting_id: &str) -> Option<Value> {
        self.inner.by_meeting(meeting_id)?.read(Conference::speech_activity)
    }

    /// All numbers, in one reading.
    pub fn stats(&self) -> BridgeStats {
        self.inner.stats()
    }

    /// How busy the bridge is, as a fraction of what is too much. Cheap where that is measured by
    /// processors.
    pub fn stress_level(&self) -> f64 {
        self.inner.stress_level()
    }

    /// How long requests took, in the form of `xmpp-delay-stats`.
    pub fn request_delays(&self) -> Value {
        lock(&self.inner.delays).json()
    }

    /// What conferences of each size carried, in the form of `conference-packet-stats`.
    pub fn packets_by_size(&self) -> Value {
        lock(&self.inner.packets).json()
    }

    /// Whether the bridge can serve.
    pub fn health(&self) -> Result<(), HealthError> {
        self.inner.health()
    }

    /// Whether all of its threads and tasks are at work, for those who would start the process anew.
    pub fn alive(&self) -> Result<(), HealthError> {
        self.inner.alive()
    }

    /// No new conferences are wanted.
    pub fn drain(&self) -> bool {
        self.inner.drain.load(Ordering::Relaxed)
    }

    /// Announces whether new conferences are wanted. They are still taken: it is for the focus to
    /// choose.
    pub fn set_drain(&self, drain: bool) {
        tracing::info!(drain, "drain mode set");
        self.inner.drain.store(drain, Ordering::Relaxed);
    }

    /// Begins a graceful shutdown: no new conferences; when the endpoints have left, or the longest
    /// time has passed, the end is announced, and a while later [`Bridge::stopped`] returns.
    pub fn graceful_shutdown(&self) {
        self.inner.begin_shutdown(true);
    }

    /// Announces the end without waiting for endpoints to leave.
    pub fn shutdown(&self) {
        self.inner.begin_shutdown(false);
    }

    /// On the way out?
    pub fn shutdown_state(&self) -> ShutdownState {
        lock(&self.inner.shutdown).state
    }

    /// Returns when a shutdown has run its course.
    pub async fn stopped(&self) {
        let mut stopped = self.inner.stopped.subscribe();
        // The sender lives in `self`.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    }

    /// Expires every conference.
    pub fn expire_all(&self) {
        for handle in self.inner.handles() {
            self.inner.expire(&handle, "the bridge stops");
        }
    }

    /// Every conference for people: ids and names, and with `full` everything.
    pub fn debug(&self, full: bool) -> Value {
        let mut state = self.debug_head();
        let conferences: Map<String, Value> = self
            .inner
            .handles()
            .iter()
            .filter_map(|handle| Some((handle.id.clone(), self.inner.debug(handle, full, None)?)))
            .collect();
        state.insert("conferences".to_owned(), Value::Object(conferences));
        let health = self.health();
        state.insert(
            "health".to_owned(),
            json!({
                "success": health.is_ok(),
                "hardFailure": health.as_ref().err().is_none_or(|error| error.hard),
                "responseCode": null,
                "message": health.err().map(|error| error.message),
            }),
        );
        Value::Object(state)
    }

    /// One conference, or one endpoint of it, by the bridge's id for the conference, for people. An
    /// unknown one is `"null"`.
    pub fn debug_conference(&self, id: &str, endpoint: Option<&str>, full: bool) -> Value {
        let conference = lock(&self.inner.registry)
            .by_id(id)
            .and_then(|handle| self.inner.debug(&handle, full, endpoint));
        let mut state = self.debug_head();
        state.insert(
            "conferences".to_owned(),
            json!({ id: conference.unwrap_or_else(|| "null".into()) }),
        );
        Value::Object(state)
    }

    /// Everything of the conferences whose focus allows it to be collected, in the form of `/stats`.
    pub fn debug_collected(&self) -> Value {
        let collected = |handle: &Arc<Handle>| {
            let allowed = handle.read(|conference| conference.identity().rtcstats_enabled);
            let state = (allowed == Some(true)).then(|| self.inner.debug(handle, true, None));
            Some((handle.id.clone(), state??))
        };
        let conferences: Map<String, Value> =
            self.inner.handles().iter().filter_map(collected).collect();
        json!({ "conferences": conferences })
    }

    fn debug_head(&self) -> Map<String, Value> {
        let mut state = Map::new();
        state.insert("shutdown_state".to_owned(), self.shutdown_state().as_str().into());
        state.insert("drain".to_owned(), self.drain().into());
        state.insert("time".to_owned(), unix_ms().into());
        let stress = self.stress_level();
        state.insert(
            "load_management".to_owned(),
            json!({
                "state": if stress >= 1.0 { "OVERLOADED" } else { "NOT_OVERLOADED" },
                "stress": format!("{stress:?}"),
                "reducer_enabled": self.inner.config.load.reducer.is_some().to_string(),
                "reducer": { "jvbLastN": self.inner.last_n_by_load().map_or(-1, |n| n as i64) },
            }),
        );
        state
    }
}

impl Inner {
    fn by_meeting(&self, meeting_id: &str) -> Option<Arc<Handle>> {
        lock(&self.registry).by_meeting(meeting_id)
    }

    fn handles(&self) -> Vec<Arc<Handle>> {
        lock(&self.registry).all()
    }

    /// Changes a conference that still exists, and does what comes of it.
    fn with<T>(
        &self,
        handle: &Handle,
        change: impl FnOnce(&mut Conference, &mut Effects) -> T,
    ) -> Option<T> {
        let mut state = lock(&handle.state);
        let mut effects = Effects::default();
        let conference = state.as_mut()?;
        let result = change(conference, &mut effects);
        conference.tell_wishes(&mut effects);
        conference.tell_slots(&mut effects);
        self.apply(handle, effects);
        Some(result)
    }

    /// Does what a change asks for. The caller holds the conference's lock.
    fn apply(&self, handle: &Handle, effects: Effects) {
        for endpoint in effects.removed {
            self.transports.remove(endpoint);
            self.routes.remove(&endpoint);
            self.taps.remove(&endpoint);
            self.channels.remove(endpoint);
            self.data_channels.remove(&endpoint);
        }
        // What is in a slot is told before any of it can be sent.
        for (endpoint, text) in effects.messages {
            self.channels.send(endpoint, text);
        }
        for control in effects.controls {
            self.engine.send(control);
        }
        for event in effects.events {
            handle.log(&event);
            // Nobody watching is no error.
            let _ = handle.events.send(event);
        }
    }

    /// Ends a conference. `false` when it had ended.
    fn expire(&self, handle: &Handle, why: &'static str) -> bool {
        lock(&self.registry).remove(handle);
        let mut state = lock(&handle.state);
        let Some(mut conference) = state.take() else { return false };
        let mut effects = Effects::default();
        conference.expire(&mut effects);
        self.totals.conference_ended(now().saturating_duration_since(conference.created()));
        self.totals.of_the_gone(&conference.tally());
        self.apply(handle, effects);
        // The queue ends when what waits in it is answered.
        lock(&handle.queue).take();
        tracing::info!(conference = %handle.id, meeting = %handle.meeting_id, why, "conference expired");
        true
    }

    fn debug(&self, handle: &Handle, full: bool, endpoint: Option<&str>) -> Option<Value> {
        handle.read(|conference| {
            conference.debug(full, endpoint, handle.created_unix_ms, &|endpoint| {
                let id = endpoint.engine_id;
                let channels = self.channels.kinds(id).into_iter().map(ChannelKind::as_str);
                (self.transports.debug(id), channels.collect())
            })
        })
    }
}

/// Locks; a panic elsewhere does not make the data wrong, every change is complete or absent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The time, which tests can pause.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
pub(crate) mod tests;
