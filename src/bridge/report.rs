//! The bridge's published statistics and health, the same over HTTP, in presence and over pubsub.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    Bridge, BridgeStats, HealthError, colibri1_stats::colibri1_stats, published::published,
};
use crate::stats::{Mucs, Process, Stat, Surroundings};

/// The bridge's statistics, together with what it does not measure itself.
#[derive(Clone)]
pub struct SelfReport {
    bridge: Bridge,
    version: Arc<str>,
    release: Option<Arc<str>>,
    region: Option<Arc<str>>,
    mucs: Arc<dyn Fn() -> Mucs + Send + Sync>,
    component: Option<Arc<dyn Fn() -> Option<Duration> + Send + Sync>>,
}

impl SelfReport {
    /// Of a bridge that announces itself as `version` and is in no room.
    pub fn new(bridge: Bridge, version: &str) -> Self {
        let mucs = Arc::new(Mucs::default);
        Self { bridge, version: version.into(), release: None, region: None, mucs, component: None }
    }

    /// With a release and a region, if there are any.
    #[must_use]
    pub fn at(mut self, release: Option<&str>, region: Option<&str>) -> Self {
        self.release = release.map(Arc::from);
        self.region = region.map(Arc::from);
        self
    }

    /// With the rooms that it is in.
    #[must_use]
    pub fn in_rooms(mut self, mucs: impl Fn() -> Mucs + Send + Sync + 'static) -> Self {
        self.mucs = Arc::new(mucs);
        self
    }

    /// As a component of an XMPP server. `absent_for`: for how long it has not been connected.
    #[must_use]
    pub fn as_component(
        mut self,
        absent_for: impl Fn() -> Option<Duration> + Send + Sync + 'static,
    ) -> Self {
        self.component = Some(Arc::new(absent_for));
        self
    }

    /// The bridge.
    pub fn bridge(&self) -> &Bridge {
        &self.bridge
    }

    /// Where it is, if that is configured.
    pub fn region(&self) -> Option<&str> {
        self.region.as_deref()
    }

    /// The rooms that it is in.
    pub fn mucs(&self) -> Mucs {
        (self.mucs)()
    }

    /// Whether the bridge can serve, and whether a focus can know it. A restart of the focus's server is no
    /// reason to restart the bridge, so a short absence is not reported.
    ///
    /// # Errors
    /// Why not.
    pub fn health(&self) -> Result<(), HealthError> {
        self.bridge.health()?;
        let absence = self.bridge.inner.config.health.absence;
        let absent = |time: Option<Duration>, what: &str| match time {
            Some(time) if time > absence => {
                let message = format!("XMPP: {what} for {} s", time.as_secs());
                Err(HealthError { hard: false, message })
            }
            _ => Ok(()),
        };
        absent(self.mucs().absent_for, "in none of its rooms")?;
        let component = self.component.as_ref().and_then(|absent_for| absent_for());
        absent(component, "the component is not connected")
    }

    /// Everything that is published, as it is now.
    pub fn read(&self) -> Vec<(&'static str, Stat)> {
        let around = Surroundings {
            now: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            version: self.version.to_string(),
            release: self.release.as_deref().map(str::to_owned),
            region: self.region.as_deref().map(str::to_owned),
            threads: Process::read().threads,
            mucs: self.mucs(),
        };
        published(&self.stats(), &around)
    }

    /// The bridge's statistics; healthy only if the report is.
    pub fn stats(&self) -> BridgeStats {
        BridgeStats { healthy: self.health().is_ok(), ..self.bridge.stats() }
    }

    /// All published statistics, and those that focuses with COLIBRI 1 read besides.
    pub fn read_for_v1(&self) -> Vec<(&'static str, Stat)> {
        let mut all = self.read();
        all.extend(colibri1_stats(&self.bridge.stats()));
        all
    }
}

impl fmt::Debug for SelfReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SelfReport").field("version", &self.version).finish_non_exhaustive()
    }
}
