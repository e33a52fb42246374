//! The bridge: conferences by meeting id, and what control surfaces call.
//!
//! A conference is a task with a mailbox, and conferences do not wait for each other. Each publishes a
//! snapshot of what statistics, health and load need, so that these wait for no conference. Callers that need
//! the current state ask the task.

mod adapter;
mod answer;
mod capture;
mod channel;
mod colibri1_stats;
mod commands;
mod config;
mod data_channel;
mod delays;
mod health;
mod housekeeping;
mod ids;
mod load;
mod mailbox;
mod modify;
mod name;
mod packets;
mod port;
mod published;
mod readings;
mod registry;
mod report;
mod stats;
mod status;
mod task;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use health::Shutdown;
use ids::SharedIds;
use readings::Readings;
use registry::{Handle, Registry};
use rialto_engine::{Engine, MediaEvent};
use rialto_media::Mid;
use rialto_transport::TransportUpdate;
use serde_json::{Map, Value, json};
use stats::Totals;
use task::Task;
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
    conference::Conference,
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
    registry: Registry,
    channels: Hub,
    ids: SharedIds,
    totals: Totals,
    drain: AtomicBool,
    shutdown: watch::Sender<Shutdown>,
    /// The bridge's latest measurements of itself.
    readings: ArcSwap<Readings>,
    /// Why the bridge failed, where failures are sticky.
    failed_once: OnceLock<HealthError>,
    delays: delays::RequestDelays,
    captures: capture::Writer,
    started: Instant,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bridge").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Bridge {
    /// A bridge over an engine and its transports. Must be called within a tokio runtime: it starts
    /// a task that takes `media` and `updates`, and later one for each conference.
    pub fn new(
        config: BridgeConfig,
        engine: Engine,
        transports: impl TransportPort,
        media: mpsc::Receiver<MediaEvent>,
        updates: mpsc::UnboundedReceiver<TransportUpdate>,
    ) -> Self {
        let inner = Arc::new(Inner {
            registry: Registry::new(config.seed),
            channels: Hub::default(),
            ids: SharedIds::default(),
            totals: Totals::default(),
            drain: AtomicBool::new(config.initial_drain),
            shutdown: watch::Sender::new(Shutdown::default()),
            readings: ArcSwap::default(),
            failed_once: OnceLock::new(),
            delays: delays::RequestDelays::default(),
            captures: capture::Writer::default(),
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

    /// Sets the MIDs that a receiver assigned to the sources that it gets, by source name. A source may come
    /// later. Does nothing when the endpoint is gone.
    pub async fn assign_mids(&self, meeting_id: &str, endpoint: &str, mids: Vec<(String, Mid)>) {
        let Some(handle) = self.inner.registry.by_meeting(meeting_id) else { return };
        let endpoint = endpoint.to_owned();
        let assigned = handle.mailbox.ask(move |task, bridge| {
            task.change(bridge, |conference, effects| {
                conference.assign_mids(&endpoint, mids, effects)
            })
        });
        assigned.await;
    }

    /// The events of a conference from now on; `None` when there is no such conference. A receiver that falls
    /// behind misses events.
    pub fn watch(&self, meeting_id: &str) -> Option<broadcast::Receiver<ConferenceEvent>> {
        Some(self.inner.registry.by_meeting(meeting_id)?.watch())
    }

    /// Whether a conference of this meeting exists.
    pub fn conference_exists(&self, meeting_id: &str) -> bool {
        self.inner.registry.by_meeting(meeting_id).is_some()
    }

    /// The ids of a conference's endpoints; `None` when there is no such conference.
    pub async fn endpoint_ids(&self, meeting_id: &str) -> Option<BTreeSet<String>> {
        self.read(meeting_id, |c| c.endpoints().map(|e| e.id.clone()).collect()).await
    }

    /// Our side of an endpoint's transport, as it is now.
    pub async fn transport(&self, meeting_id: &str, endpoint: &str) -> Option<IceUdp> {
        let handle = self.inner.registry.by_meeting(meeting_id)?;
        let endpoint = endpoint.to_owned();
        let transport = handle.mailbox.ask(move |task, bridge| {
            let id = task.conference.endpoint(&endpoint)?.engine_id;
            let mut ice = bridge.transports.describe(id)?;
            ice.web_sockets = bridge.web_sockets(&task.handle, &endpoint, id);
            Some(ice)
        });
        transport.await?
    }

    /// Whether bridge channels over SCTP are offered.
    pub fn offers_sctp(&self) -> bool {
        self.inner.config.sctp
    }

    /// New conferences are refused.
    pub fn is_shutting_down(&self) -> bool {
        self.shutdown_state() != ShutdownState::Running
    }

    /// The allocation and the measurements of a receiver.
    pub async fn endpoint_view(&self, meeting_id: &str, endpoint: &str) -> Option<EndpointView> {
        let endpoint = endpoint.to_owned();
        self.read(meeting_id, move |c| c.view(&endpoint)).await?
    }

    /// Why a receiver gets no more of each video of the others.
    pub async fn video_reasons(
        &self,
        meeting_id: &str,
        endpoint: &str,
    ) -> Option<Vec<VideoReason>> {
        let endpoint = endpoint.to_owned();
        self.read(meeting_id, move |c| c.video_reasons(&endpoint)).await?
    }

    /// The speech activity of a conference, in the form of `dominant-speaker-identification`.
    pub async fn speech_activity(&self, meeting_id: &str) -> Option<Value> {
        self.read(meeting_id, Conference::speech_activity).await
    }

    /// Asks a conference's task; `None` when there is no such conference.
    async fn read<T: Send + 'static>(
        &self,
        meeting_id: &str,
        read: impl FnOnce(&Conference) -> T + Send + 'static,
    ) -> Option<T> {
        let handle = self.inner.registry.by_meeting(meeting_id)?;
        handle.mailbox.ask(move |task, _| read(&task.conference)).await
    }

    /// All statistics, as conferences and shards last published them. Does not wait for them.
    pub fn stats(&self) -> BridgeStats {
        self.inner.stats()
    }

    /// The stress level: load as a fraction of the configured threshold.
    pub fn stress_level(&self) -> f64 {
        self.inner.readings.load().stress
    }

    /// How long requests took, in the form of `xmpp-delay-stats`.
    pub fn request_delays(&self) -> Value {
        self.inner.delays.json()
    }

    /// Packets and bytes of conferences by size, in the form of `conference-packet-stats`.
    pub fn packets_by_size(&self) -> Value {
        self.inner.readings.load().packets.json()
    }

    /// Whether the bridge can serve.
    pub fn health(&self) -> Result<(), HealthError> {
        self.inner.health()
    }

    /// Whether all threads and tasks of the bridge work, for a supervisor that would restart the process.
    pub fn alive(&self) -> Result<(), HealthError> {
        self.inner.alive()
    }

    /// Whether the bridge is in drain mode.
    pub fn drain(&self) -> bool {
        self.inner.drain.load(Ordering::Relaxed)
    }

    /// Sets drain mode. New conferences are still accepted: the focus chooses.
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

    /// The state of a shutdown.
    pub fn shutdown_state(&self) -> ShutdownState {
        self.inner.shutdown.borrow().state
    }

    /// Returns when a shutdown has completed.
    pub async fn stopped(&self) {
        let mut shutdown = self.inner.shutdown.subscribe();
        // The sender lives in `self`.
        let _ = shutdown.wait_for(|shutdown| shutdown.over).await;
    }

    /// Expires every conference that there is now; the future waits for that.
    pub fn expire_all(&self) -> impl Future<Output = ()> + Send + use<> {
        let handles = self.inner.registry.all();
        let expired: Vec<_> =
            handles.iter().map(|handle| handle.mailbox.expire("the bridge stops")).collect();
        async move {
            for one in expired {
                one.await;
            }
        }
    }

    /// Debug output of all conferences: ids and names, and with `full` everything.
    pub async fn debug(&self, full: bool) -> Value {
        let mut state = self.debug_head();
        let conferences = self.debug_of(self.inner.registry.all(), full, None, |_| true).await;
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

    /// Debug output of one conference, or of one endpoint of it, by the bridge's id for the conference. An
    /// unknown one is `"null"`.
    pub async fn debug_conference(&self, id: &str, endpoint: Option<&str>, full: bool) -> Value {
        let handles = self.inner.registry.by_id(id).into_iter().collect();
        let mut conferences = self.debug_of(handles, full, endpoint, |_| true).await;
        conferences.entry(id).or_insert_with(|| "null".into());
        let mut state = self.debug_head();
        state.insert("conferences".to_owned(), Value::Object(conferences));
        Value::Object(state)
    }

    /// Everything of the conferences whose focus allows it to be collected, in the form of `/stats`.
    pub async fn debug_collected(&self) -> Value {
        let allowed = |conference: &Conference| conference.identity().rtcstats_enabled;
        let conferences = self.debug_of(self.inner.registry.all(), true, None, allowed).await;
        json!({ "conferences": conferences })
    }

    /// Asks conferences all at once, those that are `wanted`.
    async fn debug_of(
        &self,
        handles: Vec<Arc<Handle>>,
        full: bool,
        endpoint: Option<&str>,
        wanted: fn(&Conference) -> bool,
    ) -> Map<String, Value> {
        let asked = handles.into_iter().map(|handle| {
            let endpoint = endpoint.map(str::to_owned);
            let answer = handle.mailbox.ask(move |task, bridge| {
                wanted(&task.conference).then(|| bridge.debug(task, full, endpoint.as_deref()))
            });
            (handle, answer)
        });
        let mut conferences = Map::new();
        for (handle, answer) in asked.collect::<Vec<_>>() {
            if let Some(Some(conference)) = answer.await {
                conferences.insert(handle.id.clone(), conference);
            }
        }
        conferences
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
    /// The bound of videos for each receiver at the present load.
    fn last_n_by_load(&self) -> Option<usize> {
        self.readings.load().last_n_by_load
    }

    fn debug(&self, task: &Task, full: bool, endpoint: Option<&str>) -> Value {
        task.conference.debug(full, endpoint, task.handle.created_unix_ms, &|endpoint| {
            let id = endpoint.engine_id;
            let channels = self.channels.kinds(id).into_iter().map(ChannelKind::as_str);
            (self.transports.debug(id), channels.collect())
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
