//! Limits a server's connections; when all slots are taken, a connection that waits for its client loses
//! its slot.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Body, Bytes};
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::sleep,
};

/// How often, and how far apart, a connection on a reserved slot checks whether a regular slot is free.
const REGULAR_SLOT_POLLS: u32 = 100;
const REGULAR_SLOT_POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The slots of a server's connections, and a reserve for health requests. A connection that waits for its
/// client keeps its slot only until another connection needs it: one that has sent no complete request, one
/// kept alive between requests, and one whose client does not read the answer.
pub(super) struct ConnectionSlots {
    free: Arc<Semaphore>,
    reserve: usize,
    waiting: Arc<WaitingConnections>,
}

/// The connections that wait for their clients.
#[derive(Default)]
struct WaitingConnections {
    queue: Mutex<WaitQueue>,
    /// Notified when a connection is queued.
    joined: Notify,
}

#[derive(Default)]
struct WaitQueue {
    last: u64,
    /// The longest waiting first.
    entries: BTreeMap<u64, QueueEntry>,
}

struct QueueEntry {
    /// Closes the connection.
    close: Arc<Notify>,
    /// The connection has never sent a complete request.
    unused: bool,
}

impl WaitingConnections {
    fn lock(&self) -> MutexGuard<'_, WaitQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionSlots {
    /// Creates `count` slots, and `reserve` more.
    pub(super) fn new(count: usize, reserve: usize) -> Self {
        let free = Arc::new(Semaphore::new(count.saturating_add(reserve)));
        Self { free, reserve, waiting: Arc::default() }
    }

    /// Takes a slot. If only reserved slots are free, the connection that has waited longest is closed.
    pub(super) async fn take(&self) -> Option<Arc<ConnectionSlot>> {
        let reserved = self.free.available_permits() <= self.reserve;
        let mut closing = reserved && self.close_longest_waiting();
        let permit = loop {
            if let Ok(permit) = self.free.clone().try_acquire_owned() {
                break permit;
            }
            if closing {
                break self.free.clone().acquire_owned().await.ok()?;
            }
            tokio::select! {
                permit = self.free.clone().acquire_owned() => break permit.ok()?,
                () = self.waiting.joined.notified() => closing = self.close_longest_waiting(),
            }
        };
        let slot = ConnectionSlot {
            _permit: permit,
            free: self.free.clone(),
            reserve: self.reserve,
            reserved: AtomicBool::new(reserved),
            waiting: self.waiting.clone(),
            close: Arc::default(),
            entry: Mutex::new(0),
            requested: Notify::new(),
            unused: AtomicBool::new(true),
        };
        slot.enqueue();
        Some(Arc::new(slot))
    }

    /// Closes the connection that has waited longest. Returns false when none waits.
    pub(super) fn close_longest_waiting(&self) -> bool {
        let longest = self.waiting.lock().entries.pop_first();
        longest.is_some_and(|(_, entry)| {
            entry.close.notify_one();
            true
        })
    }

    /// Closes the longest waiting of the connections that never sent a complete request. Returns false when
    /// there is none.
    pub(super) fn close_longest_unused(&self) -> bool {
        let mut queue = self.waiting.lock();
        let unused =
            queue.entries.iter().find(|(_, entry)| entry.unused).map(|(number, _)| *number);
        let entry = unused.and_then(|number| queue.entries.remove(&number));
        entry.is_some_and(|entry| {
            entry.close.notify_one();
            true
        })
    }
}

/// A connection's slot; dropping it frees it.
pub(super) struct ConnectionSlot {
    _permit: OwnedSemaphorePermit,
    free: Arc<Semaphore>,
    reserve: usize,
    /// The slot is from the reserve, and no other slot has been free since.
    reserved: AtomicBool,
    waiting: Arc<WaitingConnections>,
    close: Arc<Notify>,
    entry: Mutex<u64>,
    requested: Notify,
    unused: AtomicBool,
}

impl ConnectionSlot {
    /// Completes when another connection needs the slot.
    pub(super) async fn reclaimed(&self) {
        self.close.notified().await;
    }

    /// Completes when the head of a request has arrived.
    pub(super) async fn first_request(&self) {
        self.requested.notified().await;
    }

    /// Returns whether the slot is a regular one; a reserved slot becomes regular when others are free
    /// again.
    pub(super) fn is_regular(&self) -> bool {
        if self.reserved.load(Ordering::Relaxed) && self.free.available_permits() >= self.reserve {
            self.reserved.store(false, Ordering::Relaxed);
        }
        !self.reserved.load(Ordering::Relaxed)
    }

    /// Waits until the slot is a regular one, for as long as closing another connection may take, and
    /// returns whether it is. This connection may be closed meanwhile.
    pub(super) async fn wait_until_regular(&self) -> bool {
        for _ in 0..REGULAR_SLOT_POLLS {
            if self.is_regular() {
                return true;
            }
            sleep(REGULAR_SLOT_POLL_INTERVAL).await;
        }
        self.is_regular()
    }

    /// Called with the head of a request. The connection counts as busy from the end of the request's body
    /// until the returned [`ActiveRequest`] is dropped. Returns the body to read instead of `body`.
    pub(super) fn request(self: &Arc<Self>, body: Incoming) -> (ActiveRequest, Body) {
        self.requested.notify_one();
        if body.is_end_stream() {
            self.request_received();
            return (ActiveRequest(Some(self.clone())), Body::empty());
        }
        (ActiveRequest(Some(self.clone())), Body::new(RequestBody { body, slot: self.clone() }))
    }

    fn entry(&self) -> MutexGuard<'_, u64> {
        self.entry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enqueue(&self) {
        let mut entry = self.entry();
        let mut queue = self.waiting.lock();
        queue.entries.remove(&entry);
        queue.last += 1;
        *entry = queue.last;
        let unused = self.unused.load(Ordering::Relaxed);
        queue.entries.insert(*entry, QueueEntry { close: self.close.clone(), unused });
        drop(queue);
        self.waiting.joined.notify_one();
    }

    /// A complete request has arrived.
    fn request_received(&self) {
        self.unused.store(false, Ordering::Relaxed);
        self.dequeue();
    }

    fn dequeue(&self) {
        let entry = self.entry();
        self.waiting.lock().entries.remove(&entry);
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.dequeue();
    }
}

/// A request in progress. Dropping it puts the connection back into the queue of those that wait for their
/// clients.
pub(super) struct ActiveRequest(Option<Arc<ConnectionSlot>>);

impl ActiveRequest {
    /// The connection was upgraded: it keeps its slot until it ends.
    pub(super) fn upgraded(mut self) {
        if let Some(slot) = self.0.take() {
            slot.dequeue();
        }
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        if let Some(slot) = &self.0 {
            slot.enqueue();
        }
    }
}

/// Keeps the slot of a connection that became a WebSocket. Handlers find it among the extensions of their
/// request.
#[derive(Clone)]
pub struct SlotHold {
    _slot: Arc<ConnectionSlot>,
}

impl SlotHold {
    pub(super) fn new(slot: &Arc<ConnectionSlot>) -> Self {
        Self { _slot: slot.clone() }
    }
}

/// The body of a request. At its end the connection no longer waits for its client.
struct RequestBody {
    body: Incoming,
    slot: Arc<ConnectionSlot>,
}

impl hyper::body::Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None)) || self.body.is_end_stream() {
            self.slot.request_received();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn is_wanted(slot: &ConnectionSlot) -> bool {
        slot.reclaimed().now_or_never().is_some()
    }

    /// A request whose body has arrived.
    fn work(slot: &Arc<ConnectionSlot>) -> ActiveRequest {
        slot.requested.notify_one();
        slot.request_received();
        ActiveRequest(Some(slot.clone()))
    }

    #[tokio::test]
    async fn the_longest_waiting_connection_is_closed() {
        let slots = ConnectionSlots::new(2, 0);
        let first = slots.take().await.unwrap();
        let second = slots.take().await.unwrap();
        // The first has sent a request, and waits since then.
        drop(work(&first));
        let mut third = Box::pin(slots.take());
        assert!(third.as_mut().now_or_never().is_none());
        assert!(is_wanted(&second) && !is_wanted(&first));
        drop(second);
        let third = third.await.unwrap();
        assert!(slots.take().now_or_never().is_none());
        assert!(is_wanted(&first) && !is_wanted(&third));
    }

    #[tokio::test]
    async fn a_connection_with_a_request_in_progress_is_not_closed() {
        let slots = ConnectionSlots::new(2, 0);
        let (asked, upgraded) = (slots.take().await.unwrap(), slots.take().await.unwrap());
        work(&upgraded).upgraded();
        let answer = work(&asked);
        let mut next = Box::pin(slots.take());
        assert!(next.as_mut().now_or_never().is_none());
        assert!(!is_wanted(&asked) && !is_wanted(&upgraded));
        // The client may be slow to read the answer.
        drop(answer);
        assert!(next.as_mut().now_or_never().is_none());
        assert!(is_wanted(&asked) && !is_wanted(&upgraded));
        drop(asked);
        assert!(next.await.is_some());
    }

    #[tokio::test]
    async fn the_reserve_is_there_at_once_while_all_others_are_in_hand() {
        let slots = ConnectionSlots::new(2, 1);
        let one = slots.take().await.unwrap();
        let two = slots.take().await.unwrap();
        let (work_one, _work_two) = (work(&one), work(&two));
        let last = slots.take().now_or_never().flatten().unwrap();
        assert!(one.is_regular() && two.is_regular() && !last.is_regular());
        // It can be closed too, like others that wait.
        drop(work_one);
        assert!(slots.take().now_or_never().is_none());
        assert!(is_wanted(&last) && !is_wanted(&two));
        drop(one);
        assert!(last.is_regular(), "there is room again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_reserved_connection_waits_for_a_regular_slot() {
        let slots = ConnectionSlots::new(1, 1);
        let first = slots.take().await.unwrap();
        let answer = work(&first);
        let next = slots.take().await.unwrap();
        assert!(!next.wait_until_regular().await, "the first is in hand");
        let room = async { next.wait_until_regular().await };
        let (room, ()) = tokio::join!(room, async { drop((answer, first)) });
        assert!(room);
    }

    #[tokio::test]
    async fn unused_connections_are_closed_first_when_files_run_out() {
        let slots = ConnectionSlots::new(3, 0);
        let [kept, slow] = [slots.take().await.unwrap(), slots.take().await.unwrap()];
        drop(work(&kept));
        let newest = slots.take().await.unwrap();
        assert!(slots.close_longest_unused() && is_wanted(&slow));
        assert!(slots.close_longest_unused() && is_wanted(&newest));
        assert!(!slots.close_longest_unused() && !is_wanted(&kept));
        assert!(slots.close_longest_waiting() && is_wanted(&kept));
    }

    #[tokio::test]
    async fn waiting_connections_are_closed_before_the_reserve_is_used() {
        let slots = ConnectionSlots::new(1, 4);
        let slow = slots.take().await.unwrap();
        let next = slots.take().now_or_never().flatten().unwrap();
        assert!(is_wanted(&slow) && !next.is_regular());
        drop(slow);
        assert!(next.is_regular());
    }
}
