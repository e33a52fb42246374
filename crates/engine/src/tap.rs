//! Copies of an endpoint's packets in the clear, for whoever writes them down.
#![expect(clippy::disallowed_types, reason = "control reads how many copies were dropped")]

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::mpsc;

/// Copies that may wait to be written: about 1.5 MB of full packets.
pub const TAP_DEPTH: usize = 1_024;

/// A packet as it is inside SRTP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tapped {
    /// Sent to the endpoint rather than received from it.
    pub outgoing: bool,
    /// RTP or RTCP.
    pub bytes: Vec<u8>,
}

/// The engine's end: never waits, and counts what did not fit. A packet of an endpoint without one
/// costs a branch; one of an endpoint with one is copied and allocates.
#[derive(Clone, Debug)]
pub struct Tap {
    to: mpsc::Sender<Tapped>,
    dropped: Arc<AtomicU64>,
}

impl Tap {
    /// A tap and where its copies come out. `dropped` counts those that do not fit.
    pub fn new(dropped: Arc<AtomicU64>) -> (Self, mpsc::Receiver<Tapped>) {
        let (to, copies) = mpsc::channel(TAP_DEPTH);
        (Self { to, dropped }, copies)
    }

    /// Whether nobody takes copies any more.
    pub fn is_closed(&self) -> bool {
        self.to.is_closed()
    }

    /// Copies a packet.
    #[cold]
    pub fn copy(&self, outgoing: bool, packet: &[u8]) {
        // Nothing is allocated for what does not fit.
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
