//! The bridge's health, and the state of its shutdown.

use std::time::{Duration, Instant};

use rialto_engine::{DelayHistogram, ShardTotals};

use super::{Inner, now, stats::ShardLoad};

/// Shards report about once a second; one that has been silent for this long is stuck or gone.
const SHARD_SILENCE: Duration = Duration::from_secs(10);

/// Why the bridge cannot serve.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct HealthError {
    /// It will not recover by itself.
    pub hard: bool,
    /// What is wrong.
    pub message: String,
}

/// The state of a shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ShutdownState {
    /// No shutdown.
    #[default]
    Running,
    /// New conferences are refused; waiting for endpoints to leave.
    Graceful,
    /// The end is announced.
    ShuttingDown,
}

impl ShutdownState {
    /// The name in debug output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Graceful => "GRACEFUL_SHUTDOWN",
            Self::ShuttingDown => "SHUTTING_DOWN",
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Shutdown {
    pub state: ShutdownState,
    /// It was begun gracefully; stays so when the end is announced, as JVB's flag does.
    pub graceful: bool,
    /// When the current state ends at the latest.
    until: Option<Instant>,
    /// It is complete.
    pub over: bool,
}

/// A shard's report.
#[derive(Debug)]
pub(super) struct ShardReport {
    pub at: Instant,
    pub totals: ShardTotals,
    pub drops: Vec<(&'static str, u64)>,
    pub delays: DelayHistogram,
    /// How long it held packets back for their receivers' links, since the start.
    pub pacing: DelayHistogram,
    pub load: ShardLoad,
    /// RTP packets per second of its endpoints, both ways.
    pub packet_rate: u64,
}

impl Inner {
    /// Whether the bridge can serve. Reads only what is known already, so no check can be slow.
    pub(super) fn health(&self) -> Result<(), HealthError> {
        if let Some(failed) = self.failed_once.get() {
            return Err(failed.clone());
        }
        let fault = self.config.health.address_fault.borrow().clone();
        let health = self.alive().and(match fault {
            Some(message) => Err(HealthError { hard: true, message }),
            None => Ok(()),
        });
        if let (Err(error), true) = (&health, self.config.health.sticky_failures) {
            tracing::error!(%error, "unhealthy until the bridge is restarted");
            let _ = self.failed_once.set(error.clone());
        }
        health
    }

    /// Whether all threads of the bridge are alive and report.
    pub(super) fn alive(&self) -> Result<(), HealthError> {
        let reports = self.readings.load();
        let hard = |message: &str| HealthError { hard: true, message: message.to_owned() };
        if reports.engine_gone {
            return Err(hard("The engine has stopped"));
        }
        if reports.transports_gone {
            return Err(hard("The transports have stopped"));
        }
        let now = now();
        for shard in 0..self.config.shards {
            let last = reports.shards.get(&shard).map_or(self.started, |report| report.at);
            let silent = now.saturating_duration_since(last);
            if silent > SHARD_SILENCE {
                return Err(HealthError {
                    hard: false,
                    message: format!("Engine thread {shard} is silent for {} s", silent.as_secs()),
                });
            }
        }
        Ok(())
    }

    pub(super) fn begin_shutdown(&self, graceful: bool) {
        let longest = self.config.shutdown.graceful_max;
        self.shutdown.send_modify(|shutdown| match (shutdown.state, graceful) {
            (ShutdownState::Running, true) => {
                shutdown.state = ShutdownState::Graceful;
                shutdown.graceful = true;
                shutdown.until = now().checked_add(longest);
                tracing::info!(?longest, "graceful shutdown: no new conferences");
            }
            (ShutdownState::ShuttingDown, _) | (ShutdownState::Graceful, true) => {}
            (_, false) => shutdown.announce_end(self.config.shutdown.delay),
        });
    }

    /// Takes the next step of a shutdown when it is time to.
    pub(super) fn advance_shutdown(&self) {
        let config = &self.config.shutdown;
        self.shutdown.send_if_modified(|shutdown| {
            let due = shutdown.until.is_some_and(|until| now() >= until);
            let left = self.registry.endpoints();
            match shutdown.state {
                ShutdownState::Graceful if due || left <= config.min_participants => {
                    tracing::info!(endpoints = left, "graceful shutdown: done waiting");
                    shutdown.announce_end(config.delay);
                    true
                }
                ShutdownState::ShuttingDown if due && !shutdown.over => {
                    shutdown.over = true;
                    true
                }
                _ => false,
            }
        });
    }
}

impl Shutdown {
    fn announce_end(&mut self, delay: Duration) {
        self.state = ShutdownState::ShuttingDown;
        self.until = now().checked_add(delay);
        tracing::info!(?delay, "shutting down");
    }
}
