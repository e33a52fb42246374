//! Whether the component is connected, for those who ask for its health.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::xmpp::bounded::now;

/// Whether a component is connected to its server. Clones share it.
#[derive(Clone, Debug)]
pub struct Link(Arc<Mutex<Option<Instant>>>);

impl Default for Link {
    /// Not connected, from now on.
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Some(now()))))
    }
}

impl Link {
    /// For how long it has not been connected; `None`: it is.
    pub fn absent_for(&self) -> Option<Duration> {
        self.lock().map(|since| now().saturating_duration_since(since))
    }

    /// Recorder that the server has accepted the component.
    pub(super) fn up(&self) {
        self.lock().take();
    }

    /// Recorder that the component is not connected.
    pub(super) fn down(&self) {
        self.lock().get_or_insert_with(now);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
