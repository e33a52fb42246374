//! Copies of an endpoint's decrypted packets, for whoever records them.
#![expect(clippy::disallowed_types, reason = "control reads how many copies were dropped")]

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::mpsc;

/// Capacity of the queue of copies: about 1.5 MB of full packets.
pub const TAP_DEPTH: usize = 1_024;

/// A decrypted packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tapped {
    /// Whether it was sent to the endpoint; else the endpoint sent it.
    pub outgoing: bool,
    /// RTP or RTCP.
    pub bytes: Vec<u8>,
}

/// The engine's end of a tap. It never waits, and counts copies that did not fit. Without a tap a
/// packet costs a branch; with one it is copied, which allocates.
#[derive(Clone, Debug)]
pub struct Tap {
    to: mpsc::Sender<Tapped>,
    dropped: Arc<AtomicU64>,
}

impl Tap {
    /// Creates a tap and the receiver of its copies. `dropped` counts copies that did not fit.
    pub fn new(dropped: Arc<AtomicU64>) -> (Self, mpsc::Receiver<Tapped>) {
        let (to, copies) = mpsc::channel(TAP_DEPTH);
        (Self { to, dropped }, copies)
    }

    /// Returns whether the receiver of the copies is gone.
    pub fn is_closed(&self) -> bool {
        self.to.is_closed()
    }

    /// Copies a packet.
    #[cold]
    pub fn copy(&self, outgoing: bool, packet: &[u8]) {
        // Reserve first, so that a copy that does not fit is never allocated.
        match self.to.try_reserve() {
            Ok(place) => place.send(Tapped { outgoing, bytes: packet.to_vec() }),
            Err(_) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_reads_is_dropped_and_counted() {
        let dropped = Arc::default();
        let (tap, mut copies) = Tap::new(Arc::clone(&dropped));
        for _ in 0..TAP_DEPTH + 3 {
            tap.copy(true, &[1, 2]);
        }
        assert_eq!(dropped.load(Ordering::Relaxed), 3);
        assert_eq!(copies.try_recv(), Ok(Tapped { outgoing: true, bytes: vec![1, 2] }));
        assert!(!tap.is_closed());
        drop(copies);
        assert!(tap.is_closed());
        tap.copy(false, &[3]);
        assert_eq!(dropped.load(Ordering::Relaxed), 4);
    }
}
