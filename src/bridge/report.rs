//! What the bridge says of itself, the same wherever it is said: HTTP, presence, pubsub.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{Bridge, HealthError};
use crate::stats::{Mucs, Process, Stat, Surroundings, published};

/// No room to be found in for so long is a failure: as long as JVB gives a check that does not come.
const ABSENCE: Duration = Duration::from_secs(90);

/// The bridge's statistics, together with what it does not measure itself.
#[derive(Clone)]
pub struct SelfReport {
    bridge: Bridge,
    version: Arc<str>,
    release: Option<Arc<str>>,
    region: Option<Arc<str>>,
    mucs: Arc<dyn Fn() -> Mucs + Send + Sync>,
}

impl SelfReport {
    /// Of a bridge that announces itself as `version` and is in no room.
    pub fn new(bridge: Bridge, version: &str) -> Self {
        let mucs = Arc::new(Mucs::default);
        Self { bridge, version: version.into(), release: None, region: None, mucs }
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

    /// The bridge.
    pub fn bridge(&self) -> &Bridge {
        &self.bridge
    }

    /// The rooms that it is in.
    pub fn mucs(&self) -> Mucs {
        (self.mucs)()
    }

    /// Whether the bridge can serve, and whether a focus can know it. A focus's server that restarts is
    /// no reason to restart the bridge: nothing is said of it for a while.
    ///
    /// # Errors
    /// Why not.
    pub fn health(&self) -> Result<(), HealthError> {
        self.bridge.health()?;
        match self.mucs().absent_for {
            Some(time) if time > ABSENCE => {
                let message = format!("XMPP: in none of its rooms for {} s", time.as_secs());
                Err(HealthError { hard: false, message })
            }
            _ => Ok(()),
        }
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
        published(&self.bridge.stats(), &around)
    }
}

impl fmt::Debug for SelfReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SelfReport").field("version", &self.version).finish_non_exhaustive()
    }
}
