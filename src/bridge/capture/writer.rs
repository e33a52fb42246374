//! The one thread that writes captures, and how many there may be.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use rialto_engine::{Tap, Tapped};
use tokio::{
    runtime,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
};

use super::{CaptureError, file::PcapFile, unix_us};
use crate::bridge::lock;

/// Captures at a time. Each has a queue of at most about 1.5 MB.
const MAX_CAPTURES: usize = 16;
/// Bound of the bytes of all files since the start: a full disk is worse for others than a lost capture.
const MAX_TOTAL: u64 = 4 << 30;
/// Copies taken from a queue at a time.
const BATCH: usize = 64;

/// Where captures are written.
#[derive(Debug)]
pub(in crate::bridge) struct Writer {
    slots: Arc<Semaphore>,
    shared: Arc<Shared>,
    refused: AtomicU64,
    thread: Mutex<Option<Thread>>,
}

#[derive(Debug)]
struct Shared {
    /// Bytes that may still be written.
    room: AtomicU64,
    /// Copies that were not written.
    dropped: Arc<AtomicU64>,
}

/// The thread `pcap`. It begins with the first capture and ends when this is dropped.
#[derive(Debug)]
struct Thread {
    captures: runtime::Handle,
    _end: oneshot::Sender<()>,
}

impl Default for Writer {
    fn default() -> Self {
        Self::new(MAX_CAPTURES, MAX_TOTAL)
    }
}

impl Writer {
    fn new(captures: usize, bytes: u64) -> Self {
        let shared = Shared { room: AtomicU64::new(bytes), dropped: Arc::default() };
        Self {
            slots: Arc::new(Semaphore::new(captures)),
            shared: Arc::new(shared),
            refused: AtomicU64::new(0),
            thread: Mutex::default(),
        }
    }

    /// Copies that were not written, in all.
    pub(crate) fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Captures that there was no room for, in all.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Begins a file that is written until the last clone of the tap is dropped. Does not block: the receiver
    /// returned gets the outcome later, and the tap is closed if the file could not be created.
    pub(crate) fn begin(
        &self,
        path: PathBuf,
    ) -> Result<(Tap, oneshot::Receiver<io::Result<()>>), CaptureError> {
        let slot = Arc::clone(&self.slots).try_acquire_owned();
        let is_full = self.shared.room.load(Ordering::Relaxed) == 0;
        let (Ok(slot), false) = (slot, is_full) else {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(CaptureError::Busy);
        };
        let captures = self.thread().map_err(CaptureError::Thread)?;
        let (tap, copies) = Tap::new(Arc::clone(&self.shared.dropped));
        let (tell, told) = oneshot::channel();
        captures.spawn(run(path, copies, Arc::clone(&self.shared), tell, slot));
        Ok((tap, told))
    }

    fn thread(&self) -> io::Result<runtime::Handle> {
        let mut thread = lock(&self.thread);
        if let Some(thread) = &*thread {
            return Ok(thread.captures.clone());
        }
        let runtime = runtime::Builder::new_current_thread().build()?;
        let captures = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        thread::Builder::new()
            .name("pcap".to_owned())
            .spawn(move || drop(runtime.block_on(ended)))?;
        *thread = Some(Thread { captures: captures.clone(), _end: end });
        Ok(captures)
    }
}

/// Runs one capture on the thread `pcap`, where blocking delays only other captures.
async fn run(
    path: PathBuf,
    mut copies: mpsc::Receiver<Tapped>,
    shared: Arc<Shared>,
    tell: oneshot::Sender<io::Result<()>>,
    slot: OwnedSemaphorePermit,
) {
    let mut file = match PcapFile::create(&path) {
        Ok(file) => file,
        Err(error) => {
            tracing::warn!(file = %path.display(), %error, "cannot write a capture");
            // Closed before the outcome is sent. The caller that began it need not wait for this.
            drop(copies);
            return drop(tell.send(Err(error)));
        }
    };
    drop(tell.send(Ok(())));
    let mut batch = Vec::with_capacity(BATCH);
    // Ends when the endpoint does, or the capture.
    while copies.recv_many(&mut batch, BATCH).await > 0 {
        let written = write(&mut file, &path, &mut batch, &shared);
        if !written {
            copies.close();
            let mut lost = batch.len();
            while copies.recv().await.is_some() {
                lost += 1;
            }
            shared.dropped.fetch_add(lost as u64, Ordering::Relaxed);
            break;
        }
    }
    drop(slot);
}

/// Writes a batch as far as it can. False: nothing more can be written.
fn write(file: &mut PcapFile, path: &Path, batch: &mut Vec<Tapped>, shared: &Shared) -> bool {
    let mut done = 0;
    let result = batch.iter().try_for_each(|copy| {
        let before = file.len();
        let room = shared.room.load(Ordering::Relaxed);
        if room == 0 || !file.write(copy, unix_us())? {
            return Err(io::ErrorKind::StorageFull.into());
        }
        done += 1;
        // This thread alone writes it.
        let left = room.saturating_sub(file.len().saturating_sub(before));
        shared.room.store(left, Ordering::Relaxed);
        Ok(())
    });
    batch.drain(..done);
    // A reader of the file finds what was sent so far.
    let result: io::Result<()> = result.and(file.flush());
    if let Err(error) = &result {
        tracing::warn!(file = %path.display(), %error, "capture ended");
    }
    result.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::{
        BridgeConfig, CaptureConfig,
        tests::rig::{creation, rig},
    };

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("rialto-writer-{}-{name}.pcap", std::process::id()))
    }

    #[tokio::test]
    async fn no_more_than_so_many_at_a_time() {
        let writer = Writer::new(2, 1_000);
        let paths = ["a", "b", "c"].map(path);
        let (first, told) = writer.begin(paths[0].clone()).unwrap();
        told.await.unwrap().unwrap();
        let (_second, told) = writer.begin(paths[1].clone()).unwrap();
        told.await.unwrap().unwrap();
        assert!(matches!(writer.begin(paths[2].clone()), Err(CaptureError::Busy)));
        assert_eq!(writer.refused(), 1);
        first.copy(true, &[1; 10]);
        drop(first);
        // Its place becomes free.
        drop(writer.slots.acquire().await.unwrap());
        let (_third, told) = writer.begin(paths[2].clone()).unwrap();
        told.await.unwrap().unwrap();
        assert_eq!(std::fs::read(&paths[0]).unwrap().len(), 24 + 16 + 28 + 10);
        for path in paths {
            std::fs::remove_file(path).unwrap();
        }
    }

    #[tokio::test]
    async fn all_files_together_have_an_end() {
        let writer = Writer::new(1, 100);
        let path = path("full");
        let (tap, told) = writer.begin(path.clone()).unwrap();
        told.await.unwrap().unwrap();
        for _ in 0..5 {
            tap.copy(true, &[1; 10]);
        }
        drop(writer.slots.acquire().await.unwrap());
        assert!(tap.is_closed());
        assert_eq!((writer.shared.room.load(Ordering::Relaxed), writer.dropped()), (0, 3));
        assert_eq!(std::fs::read(&path).unwrap().len(), 24 + 2 * (16 + 28 + 10));
        assert!(matches!(writer.begin(path.clone()), Err(CaptureError::Busy)));
        std::fs::remove_file(path).unwrap();
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_created_is_reported_and_closes_the_tap() {
        let writer = Writer::new(1, 100);
        let (tap, told) = writer.begin(path("no/such/folder")).unwrap();
        assert_eq!(told.await.unwrap().unwrap_err().kind(), io::ErrorKind::NotFound);
        drop(writer.slots.acquire().await.unwrap());
        assert!(tap.is_closed());
    }

    /// Look-ups of names need the runtime's threads for blocking work.
    #[test]
    fn captures_take_no_thread_of_the_runtime() {
        let runtime = runtime::Builder::new_current_thread().max_blocking_threads(1).build();
        runtime.unwrap().block_on(async {
            let writer = Writer::new(2, 1_000);
            let paths = ["x", "y"].map(path);
            let taps = paths.clone().map(|path| writer.begin(path).unwrap());
            tokio::task::spawn_blocking(|| ()).await.unwrap();
            for (_, told) in taps {
                told.await.unwrap().unwrap();
            }
            for path in paths {
                std::fs::remove_file(path).unwrap();
            }
        });
    }

    #[tokio::test]
    async fn captures_end_with_their_endpoints_and_the_one_too_many_is_counted() {
        let directory = std::env::temp_dir().join(format!("rialto-taps-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let capture =
            CaptureConfig { allowed: true, from_start: true, directory: directory.clone() };
        let rig = rig(BridgeConfig { capture, ..BridgeConfig::default() });
        for n in 0..=MAX_CAPTURES {
            let mut request = creation("m", &format!("{n:08x}"));
            request["create"] = (n == 0).into();
            rig.ask(&request).await.unwrap();
        }
        let inner = &rig.bridge.inner;
        let handle = inner.registry.by_meeting("m").unwrap();
        let taps = handle.mailbox.ask(|task, _| task.taps.len()).await;
        assert_eq!((taps, rig.bridge.stats().captures_refused), (Some(MAX_CAPTURES), 1));
        let debug = rig.bridge.debug(false).await;
        let id = debug["conferences"].as_object().unwrap().keys().next().unwrap();
        let last = format!("{MAX_CAPTURES:08x}");
        assert_eq!(rig.bridge.is_captured(id, &last).await, Some(false));
        let refused = rig.bridge.capture(id, &last, true).await;
        assert!(matches!(refused, Err(CaptureError::Busy)));
        // Another one's end makes room.
        rig.bridge.capture(id, "00000000", false).await.unwrap();
        drop(rig.recorder.take());
        drop(inner.captures.slots.acquire().await.unwrap());
        rig.bridge.capture(id, &last, true).await.unwrap();
        assert_eq!(rig.bridge.is_captured(id, &last).await, Some(true));
        rig.bridge.expire_all().await;
        let late = rig.bridge.capture(id, &last, true).await;
        assert!(matches!(late, Err(CaptureError::NotFound)));
        drop(rig.recorder.take());
        drop(inner.captures.slots.acquire_many(MAX_CAPTURES as u32).await.unwrap());
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), MAX_CAPTURES + 1);
        std::fs::remove_dir_all(directory).unwrap();
    }
}
