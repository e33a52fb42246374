//! Packets of an endpoint, in the clear, into a file that Wireshark reads
//! (`/debug/features/endpoint/…/pcap-dump`; `jmt.debug.pcap`).

mod file;
mod writer;

use std::{io, path::PathBuf};

use rialto_engine::{Control, Tap};
use rialto_media::EndpointId;
use tokio::sync::oneshot;

pub(super) use writer::Writer;

use super::{Bridge, Inner, task::Task, unix_ms};

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
    pub async fn is_captured(&self, conference: &str, endpoint: &str) -> Option<bool> {
        let handle = self.inner.registry.by_id(conference)?;
        let endpoint = endpoint.to_owned();
        let captured = handle.mailbox.ask(move |task, _| {
            let id = task.conference.endpoint(&endpoint)?.engine_id;
            Some(task.taps.get(&id).is_some_and(|tap| !tap.is_closed()))
        });
        captured.await?
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
        let handle = self.inner.registry.by_id(conference).ok_or(CaptureError::NotFound)?;
        let endpoint = endpoint.to_owned();
        let begun = handle.mailbox.ask(move |task, bridge| {
            let known = task.conference.endpoint(&endpoint).ok_or(CaptureError::NotFound)?;
            let id = known.engine_id;
            if on {
                return Ok(task.start_capture(bridge, &endpoint, id)?.map(|begun| (id, begun)));
            }
            if task.untap(bridge, id, |_| true) {
                tracing::info!(conference = task.handle.id, endpoint, "capture ended");
            }
            Ok(None)
        });
        let begun = begun.await.ok_or(CaptureError::NotFound)??;
        let Some((id, Begun { file, told })) = begun else { return Ok(()) };
        match told.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(source)) => {
                handle
                    .mailbox
                    .ask(move |task, bridge| task.untap(bridge, id, Tap::is_closed))
                    .await;
                Err(CaptureError::File { file, source })
            }
            // The bridge is shutting down.
            Err(_) => Err(CaptureError::Busy),
        }
    }
}

/// A capture whose file is being created.
pub(super) struct Begun {
    file: PathBuf,
    /// Its outcome.
    told: oneshot::Receiver<io::Result<()>>,
}

impl Task {
    /// Removes an endpoint's tap if it has this one.
    fn untap(
        &mut self,
        bridge: &Inner,
        id: EndpointId,
        is_such: impl FnOnce(&Tap) -> bool,
    ) -> bool {
        let is_such = self.taps.get(&id).is_some_and(is_such);
        if is_such {
            bridge.engine.send(Control::Tap(id, None));
            self.taps.remove(&id);
        }
        is_such
    }

    /// `None`: it is captured already. Waits for no disk.
    pub(super) fn start_capture(
        &mut self,
        bridge: &Inner,
        endpoint: &str,
        id: EndpointId,
    ) -> Result<Option<Begun>, CaptureError> {
        let config = &bridge.config.capture;
        if !config.allowed {
            return Err(CaptureError::Forbidden);
        }
        if self.taps.get(&id).is_some_and(|tap| !tap.is_closed()) {
            return Ok(None);
        }
        let conference = &self.handle.id;
        let name = format!("{}-{}-{}.pcap", plain(conference), plain(endpoint), unix_ms());
        let file = config.directory.join(name);
        let (tap, told) = bridge.captures.begin(file.clone())?;
        tracing::info!(conference, endpoint, file = %file.display(), "capture begun");
        bridge.engine.send(Control::Tap(id, Some(tap.clone())));
        self.taps.insert(id, tap);
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
