//! Packets of an endpoint, in the clear, into a file that Wireshark reads
//! (`/debug/features/endpoint/…/pcap-dump`; `jmt.debug.pcap`).

mod file;

use std::{
    io,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
};

use super::{Bridge, Inner, lock, unix_ms};
use crate::engine::{Control, EndpointId, Tap};
use file::PcapFile;

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
        Some(self.inner.taps.contains_key(&id))
    }

    /// Begins or ends to capture an endpoint's packets. Doing so twice changes nothing.
    ///
    /// # Errors
    /// See [`CaptureError`].
    pub fn capture(&self, conference: &str, endpoint: &str, on: bool) -> Result<(), CaptureError> {
        let id = self.inner.endpoint_id(conference, endpoint).ok_or(CaptureError::NotFound)?;
        if !on {
            if self.inner.taps.remove(&id).is_some() {
                self.inner.engine.send(Control::Tap(id, None));
                tracing::info!(conference, endpoint, "capture ended");
            }
            return Ok(());
        }
        self.inner.start_capture(conference, endpoint, id)
    }
}

impl Inner {
    fn endpoint_id(&self, conference: &str, endpoint: &str) -> Option<EndpointId> {
        let handle = lock(&self.registry).by_id(conference)?;
        handle.read(|conference| conference.endpoint(endpoint).map(|e| e.engine_id))?
    }

    /// The caller may hold the conference's lock.
    pub(super) fn start_capture(
        &self,
        conference: &str,
        endpoint: &str,
        id: EndpointId,
    ) -> Result<(), CaptureError> {
        let config = &self.config.capture;
        if !config.allowed {
            return Err(CaptureError::Forbidden);
        }
        if self.taps.contains_key(&id) {
            return Ok(());
        }
        let name = format!("{}-{}-{}.pcap", plain(conference), plain(endpoint), unix_ms());
        let path = config.directory.join(name);
        let mut file = PcapFile::create(&path)
            .map_err(|source| CaptureError::File { file: path.clone(), source })?;
        let dropped = Arc::clone(&self.captures_dropped);
        let (tap, mut copies) = Tap::new(Arc::clone(&dropped));
        tracing::info!(conference, endpoint, file = %path.display(), "capture begun");
        tokio::task::spawn_blocking(move || {
            // Ends when the endpoint does, or the capture.
            while let Some(copy) = copies.blocking_recv() {
                match file.write(&copy, unix_us()) {
                    Ok(true) => {}
                    // What follows is counted by the tap.
                    Ok(false) => return tracing::warn!(file = %path.display(), "capture is full"),
                    Err(error) => {
                        dropped.fetch_add(1, Ordering::Relaxed);
                        return tracing::warn!(file = %path.display(), %error, "capture ended");
                    }
                }
            }
        });
        self.engine.send(Control::Tap(id, Some(tap.clone())));
        self.taps.insert(id, tap);
        Ok(())
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
