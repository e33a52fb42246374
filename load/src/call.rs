//! A call in progress: the clients that have joined, the threads that carry their media, and
//! operations on them.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rialto_srtp::Profile;
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    client::{Conference, JoinError, Joined, Joining, Step, dtls::Identity},
    colibri,
    http::{Bridge, HttpError},
    plan::{Plan, Shape},
    shared::{MediaOptions, Shared},
    worker::{Command, Worker, WorkerReport, client::ClientReport},
};

/// Most joins in progress at a time.
const JOINS_AT_ONCE: usize = 32;

/// Parameters of a call.
#[derive(Clone, Debug)]
pub struct CallOptions {
    /// The bridge's HTTP interface.
    pub bridge: String,
    /// The bearer token that it requires (RFC 6750).
    pub token: Option<String>,
    /// Who sends what.
    pub shape: Shape,
    /// How media is carried.
    pub media: MediaOptions,
    /// SRTP profiles to offer, the preferred one first.
    pub profiles: Vec<Profile>,
    /// Threads that carry media.
    pub threads: usize,
    /// Joins per second; `None`: as fast as possible.
    pub join_rate: Option<f64>,
    /// Time limit of a join.
    pub patience: Duration,
}

impl Default for CallOptions {
    fn default() -> Self {
        Self {
            bridge: "http://127.0.0.1:8080".to_owned(),
            token: None,
            shape: Shape::default(),
            media: MediaOptions::default(),
            profiles: vec![Profile::AeadAes128Gcm, Profile::Aes128CmSha1_80],
            threads: 1,
            join_rate: None,
            patience: Duration::from_secs(30),
        }
    }
}

/// Why no call could be set up.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The bridge's address.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// No certificate.
    #[error("no certificate could be made: {0}")]
    Certificate(String),
    /// No thread.
    #[error("no thread could be started: {0}")]
    Thread(#[from] io::Error),
}

/// An endpoint that failed to join.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Failure {
    /// Index into the plan.
    #[serde(skip)]
    pub endpoint: usize,
    /// Its id.
    pub id: String,
    /// The step that failed.
    pub step: Step,
    /// The reason.
    pub reason: String,
}

/// A call.
pub struct Call {
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// Endpoints that did not join.
    pub failures: Vec<Failure>,
    /// Time from the start of the first join to the end of the last.
    pub joining_took: Duration,
    options: CallOptions,
    joining: Arc<Joining>,
    workers: Arc<Vec<Worker>>,
    joined: FxHashMap<usize, Joined>,
    connected: Arc<AtomicUsize>,
}

impl Call {
    /// Prepares a call; nobody joins yet.
    pub fn new(options: CallOptions) -> Result<Self, CallError> {
        let bridge = Bridge::new(&options.bridge, options.token.as_deref())?;
        let identity = Identity::generate().map_err(|e| CallError::Certificate(e.to_string()))?;
        let plan = Plan::new(options.shape.clone());
        let shared = Arc::new(Shared::new(plan, options.media.clone()));
        let workers: io::Result<Vec<_>> =
            (0..options.threads.max(1)).map(|n| Worker::start(shared.clone(), n)).collect();
        let joining = Joining {
            shared: shared.clone(),
            bridge,
            identity,
            profiles: options.profiles.clone(),
            patience: options.patience,
        };
        Ok(Self {
            shared,
            failures: Vec::new(),
            joining_took: Duration::ZERO,
            options,
            joining: Arc::new(joining),
            workers: Arc::new(workers?),
            joined: FxHashMap::default(),
            connected: Arc::default(),
        })
    }

    /// The bridge.
    pub fn bridge(&self) -> &Bridge {
        &self.joining.bridge
    }

    /// Joins all endpoints, senders first. Those that fail are in [`Call::failures`].
    pub async fn join_all(&mut self) {
        let plan = &self.shared.plan;
        let conference = |index| {
            let first = plan.endpoints.iter().position(|e| e.conference == index);
            Conference::new(first.unwrap_or(usize::MAX))
        };
        let conferences: Arc<Vec<_>> =
            Arc::new((0..plan.conferences.len()).map(conference).collect());
        let mut order: Vec<_> = (0..plan.endpoints.len()).collect();
        order.sort_by_key(|&endpoint| plan.endpoints[endpoint].sources.is_empty());
        let at_once = Arc::new(Semaphore::new(JOINS_AT_ONCE));
        let began = Instant::now();
        let mut joins = JoinSet::new();
        for (turn, endpoint) in order.into_iter().enumerate() {
            if let Some(rate) = self.options.join_rate {
                let due = began + Duration::from_secs_f64(turn as f64 / rate);
                tokio::time::sleep_until(due.into()).await;
            }
            // The semaphore is never closed.
            let Ok(permit) = at_once.clone().acquire_owned().await else { break };
            let (joining, workers) = (self.joining.clone(), self.workers.clone());
            let (conferences, connected) = (conferences.clone(), self.connected.clone());
            joins.spawn(async move {
                let member = &joining.shared.plan.endpoints[endpoint];
                let conference = &conferences[member.conference];
                let worker = &workers[endpoint % workers.len()];
                let result = joining.join(endpoint, conference, worker).await;
                drop(permit);
                connected.fetch_add(usize::from(result.is_ok()), Ordering::Relaxed);
                (endpoint, result)
            });
        }
        while let Some(finished) = joins.join_next().await {
            match finished {
                Ok((endpoint, Ok(joined))) => {
                    self.joined.insert(endpoint, joined);
                }
                Ok((endpoint, Err(error))) => self.failed(endpoint, &error),
                Err(panic) => eprintln!("a client failed unexpectedly: {panic}"),
            }
        }
        self.joining_took = began.elapsed();
    }

    fn failed(&mut self, endpoint: usize, error: &JoinError) {
        self.failures.push(Failure {
            endpoint,
            id: self.shared.plan.endpoints[endpoint].id.clone(),
            step: error.step(),
            reason: error.to_string(),
        });
    }

    /// A view of the clients that have joined so far, for a watcher that runs beside
    /// [`Call::join_all`].
    pub fn progress(&self) -> Progress {
        Progress { shared: self.shared.clone(), connected: self.connected.clone() }
    }

    /// Number of clients that are present.
    pub fn present(&self) -> usize {
        self.joined.len()
    }

    /// Ports of the clients that are present.
    pub fn ports(&self) -> Vec<u16> {
        self.joined.values().map(|joined| joined.local.port()).collect()
    }

    /// The measurements of the threads so far.
    pub async fn reports(&self) -> Vec<WorkerReport> {
        let mut reports = Vec::new();
        for worker in self.workers.iter() {
            reports.extend(worker.report().await);
        }
        reports
    }

    /// The reports of the clients so far, in the order of the plan.
    pub async fn clients(&self) -> Vec<ClientReport> {
        let mut clients: Vec<_> =
            self.reports().await.into_iter().flat_map(|report| report.clients).collect();
        clients.sort_by_key(|client| client.endpoint);
        clients
    }

    /// Waits until every present client has received media of every source whose sender is present,
    /// at most `patience`. Returns whether that happened.
    pub async fn media_everywhere(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            let clients = self.clients().await;
            let present: FxHashSet<_> =
                clients.iter().filter(|c| c.present).map(|c| c.endpoint).collect();
            let everywhere = clients.iter().filter(|c| c.present).all(|client| {
                client.sources.iter().all(|source| {
                    let sender = self.shared.plan.sources[source.source].endpoint;
                    source.totals.first.is_some() || !present.contains(&sender)
                })
            });
            if everywhere || Instant::now() > deadline {
                return everywhere;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Lets a client disappear without notice.
    pub async fn vanish(&mut self, endpoint: usize) {
        let Some(joined) = self.joined.remove(&endpoint) else { return };
        self.workers[endpoint % self.workers.len()].send(Command::Vanish(endpoint));
        joined.vanish().await;
    }

    /// Lets a client leave: tells the bridge to expire its endpoint.
    pub async fn expire(&mut self, endpoint: usize) -> Result<(), HttpError> {
        let plan = &self.shared.plan;
        let member = &plan.endpoints[endpoint];
        let request = colibri::expire_endpoint(plan, endpoint);
        let what = format!("expire endpoint {}", member.id);
        self.bridge().modify(&plan.conferences[member.conference], &what, &request).await?;
        self.vanish(endpoint).await;
        Ok(())
    }

    /// Ends all clients and conferences. Returns the first refusal, if any.
    pub async fn end(mut self) -> Result<(), HttpError> {
        for (_, joined) in self.joined.drain() {
            joined.close().await;
        }
        let mut result = Ok(());
        for meeting in &self.shared.plan.conferences {
            let request = colibri::expire_conference(meeting);
            let expired = self.bridge().modify(meeting, "expire the conference", &request).await;
            if result.is_ok() {
                result = expired.map(|_| ());
            }
        }
        result
    }
}

/// A view of a call that another task runs.
#[derive(Clone)]
pub struct Progress {
    /// What all threads share.
    pub shared: Arc<Shared>,
    connected: Arc<AtomicUsize>,
}

impl Progress {
    /// Number of clients that have joined.
    pub fn connected(&self) -> usize {
        self.connected.load(Ordering::Relaxed)
    }
}
