//! Packets of an endpoint, in the clear, into a file that Wireshark reads
//! (`/debug/features/endpoint/…/pcap-dump`; `jmt.debug.pcap`).

mod file;
mod writer;

use std::{io, path::PathBuf};

use dashmap::Entry;
use rialto_engine::{Control, Tap};
use rialto_media::EndpointId;
use tokio::sync::oneshot;

pub(super) use writer::Writer;

use super::{Bridge, Inner, lock, unix_ms};

/// Whether packets may be captured, and where to (`jmt.debug.pcap`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CaptureConfig {
    /// `enabled`: they may be. false.
    pub allowed: bool,
    /// `start-enabled`: from every endpoint's beginning. false.
    pub from_start: bool,
    /// `directory`: for the files. `/tmp`.
    pub directory: PathBuf,
}

impl Default for CaptureConfig {
    fn default() -> Self {
        Self { allowed: false, from_start: false, directory: PathBuf::from("/tmp") }
    }
}

/// Why nothing is captured.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// No such endpoint.
    #[error("No endpoint was found with the specified id.")]
    NotFound,
    /// The configuration does not allow it.
    #[error("PCAP capture is disabled in configuration")]
    Forbidden,
    /// There are as many as may be, or their files have all the bytes that they may have.
    #[error("No more packets can be captured now")]
    Busy,
    /// The system has no thread to write them.
    #[error("cannot start to write captures: {0}")]
    Thread(io::Error),
    /// The file cannot be made.
    #[error("cannot write {}: {source}", file.display())]
    File {
        /// Its name.
        file: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl Bridge {
    /// Whether an endpoint's packets are captured; `None`: there is no such endpoint. `conference` is
    /// the bridge's id.
    pub fn is_captured(&self, conference: &str, endpoint: &str) -> Option<bool> {
        let id = self.inner.endpoint_id(conference, endpoint)?;
        Some(self.inner.taps.get(&id).is_some_and(|tap| !tap.is_closed()))
    }

    /// Begins or ends to capture an endpoint's packets. Doing so twice changes nothing.
    ///
    /// # Errors
    /// See [`CaptureError`].
    pub async fn capture(
        &self,
        conference: &str,
        endpoint: &str,
        on: bool,
    ) -> Result<(), CaptureError> {
        let inner = &self.inner;
        let begun = {
            let handle = lock(&inner.registry).by_id(conference).ok_or(CaptureError::NotFound)?;
            // An endpoint leaves under this lock, and takes its tap with it.
            let state = lock(&handle.state);
            let endpoint_is = state.as_ref().and_then(|conference| conference.endpoint(endpoint));
            let id = endpoint_is.map(|e| e.engine_id).ok_or(CaptureError::NotFound)?;
            if !on {
                if inner.untap(id, |_| true) {
                    tracing::info!(conference, endpoint, "capture ended");
                }
                return Ok(());
            }
            inner.start_capture(conference, endpoint, id)?.map(|begun| (id, begun))
        };
        let Some((id, Begun { file, told })) = begun else { return Ok(()) };
        match told.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(source)) => {
                inner.untap(id, Tap::is_closed);
                Err(CaptureError::File { file, source })
            }
            // The bridge is on its way out.
            Err(_) => Err(CaptureError::Busy),
        }
    }
}

/// A capture whose file is being made.
pub(super) struct Begun {
    file: PathBuf,
    /// What becomes of it.
    told: oneshot::Receiver<io::Result<()>>,
}

impl Inner {
    fn endpoint_id(&self, conference: &str, endpoint: &str) -> Option<EndpointId> {
        let handle = lock(&self.registry).by_id(conference)?;
        handle.read(|conference| conference.endpoint(endpoint).map(|e| e.engine_id))?
    }

    /// Takes an endpoint's tap away if it is such a one.
    fn untap(&self, id: EndpointId, is_such: impl FnOnce(&Tap) -> bool) -> bool {
        let Entry::Occupied(tap) = self.taps.entry(id) else { return false };
        let is_such = is_such(tap.get());
        if is_such {
            // Told while nobody can put another one there.
            self.engine.send(Control::Tap(id, None));
            tap.remove();
        }
        is_such
    }

    /// `None`: it is captured already. The caller holds the conference's lock, so this waits for no
    /// disk.
    pub(super) fn start_capture(
        &self,
        conference: &str,
        endpoint: &str,
        id: EndpointId,
    ) -> Result<Option<Begun>, CaptureError> {
        let config = &self.config.capture;
        if !config.allowed {
            return Err(CaptureError::Forbidden);
        }
        let entry = self.taps.entry(id);
        if matches!(&entry, Entry::Occupied(tap) if !tap.get().is_closed()) {
            return Ok(None);
        }
        let name = format!("{}-{}-{}.pcap", plain(conference), plain(endpoint), unix_ms());
        let file = config.directory.join(name);
        let (tap, told) = self.captures.begin(file.clone())?;
        tracing::info!(conference, endpoint, file = %file.display(), "capture begun");
        self.engine.send(Control::Tap(id, Some(tap.clone())));
        entry.insert(tap);
        Ok(Some(Begun { file, told }))
    }
}

fn unix_us() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as u64)
}

/// A name as a part of a file's: nothing in it leads elsewhere.
fn plain(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    name.chars().take(64).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_nowhere() {
        assert_eq!(plain("../a b/\u{e4}c-1"), "___a_b__c-1");
        assert_eq!(plain(&"x".repeat(1_000)).len(), 64);
    }
}
