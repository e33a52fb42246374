//! The places of a server's connections, and who gives theirs up when there is none left.

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

/// How often, and how far apart, a connection in reserve looks whether another place is free by now.
const ROOM_LOOKS: u32 = 100;
const ROOM_PAUSE: Duration = Duration::from_millis(10);

/// As many as were said, and some in reserve for requests about health. A connection that waits for its
/// client has a place only until somebody else wants it: one that has sent no whole request, one that is
/// kept between requests, and one whose client does not take the answer.
pub(super) struct Places {
    free: Arc<Semaphore>,
    reserve: usize,
    waiting: Arc<Waiting>,
}

/// The connections that wait for their clients.
#[derive(Default)]
struct Waiting {
    line: Mutex<Line>,
    /// Somebody has joined.
    joined: Notify,
}

#[derive(Default)]
struct Line {
    last: u64,
    /// Longest first.
    tickets: BTreeMap<u64, Ticket>,
}

struct Ticket {
    /// Closes the connection.
    close: Arc<Notify>,
    /// It has never sent a whole request.
    fresh: bool,
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places {
    /// `count` places, and `reserve` more.
    pub(super) fn new(count: usize, reserve: usize) -> Self {
        let free = Arc::new(Semaphore::new(count.saturating_add(reserve)));
        Self { free, reserve, waiting: Arc::default() }
    }

    /// A place. If there is none but in reserve, the connection that has waited longest is closed.
    pub(super) async fn take(&self) -> Option<Arc<Place>> {
        let reserved = self.free.available_permits() <= self.reserve;
        let mut closing = reserved && self.close_longest();
        let permit = loop {
            if let Ok(permit) = self.free.clone().try_acquire_owned() {
                break permit;
            }
            if closing {
                break self.free.clone().acquire_owned().await.ok()?;
            }
            tokio::select! {
                permit = self.free.clone().acquire_owned() => break permit.ok()?,
                () = self.waiting.joined.notified() => closing = self.close_longest(),
            }
        };
        let place = Place {
            _permit: permit,
            free: self.free.clone(),
            reserve: self.reserve,
            reserved: AtomicBool::new(reserved),
            waiting: self.waiting.clone(),
            close: Arc::default(),
            ticket: Mutex::new(0),
            asked: Notify::new(),
            fresh: AtomicBool::new(true),
        };
        place.wait();
        Some(Arc::new(place))
    }

    /// Closes the connection that has waited longest. False: none waits.
    pub(super) fn close_longest(&self) -> bool {
        let longest = self.waiting.lock().tickets.pop_first();
        longest.is_some_and(|(_, ticket)| {
            ticket.close.notify_one();
            true
        })
    }

    /// Closes the connection that has waited longest of those that never sent a whole request. False: none
    /// is such.
    pub(super) fn close_fresh(&self) -> bool {
        let mut line = self.waiting.lock();
        let fresh = line.tickets.iter().find(|(_, ticket)| ticket.fresh).map(|(number, _)| *number);
        let ticket = fresh.and_then(|number| line.tickets.remove(&number));
        ticket.is_some_and(|ticket| {
            ticket.close.notify_one();
            true
        })
    }
}

/// Free again when it is dropped.
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    free: Arc<Semaphore>,
    reserve: usize,
    /// Taken from the reserve, and there was no other since.
    reserved: AtomicBool,
    waiting: Arc<Waiting>,
    close: Arc<Notify>,
    ticket: Mutex<u64>,
    asked: Notify,
    fresh: AtomicBool,
}

impl Place {
    /// Ends when the place is wanted for somebody else.
    pub(super) async fn wanted(&self) {
        self.close.notified().await;
    }

    /// Ends when there was a request.
    pub(super) async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Whether this is more than a place in reserve: whether others are free by now.
    pub(super) fn is_full(&self) -> bool {
        if self.reserved.load(Ordering::Relaxed) && self.free.available_permits() >= self.reserve {
            self.reserved.store(false, Ordering::Relaxed);
        }
        !self.reserved.load(Ordering::Relaxed)
    }

    /// Waits until there is room for more than health, for as long as who gives way may need to go. The
    /// connection may be closed meanwhile.
    pub(super) async fn gets_room(&self) -> bool {
        for _ in 0..ROOM_LOOKS {
            if self.is_full() {
                return true;
            }
            sleep(ROOM_PAUSE).await;
        }
        self.is_full()
    }

    /// There is the head of a request. From the end of its body on there is work, until what is returned
    /// is dropped; with the body to read instead.
    pub(super) fn request(self: &Arc<Self>, body: Incoming) -> (Work, Body) {
        self.asked.notify_one();
        if body.is_end_stream() {
            self.work();
            return (Work(Some(self.clone())), Body::empty());
        }
        (Work(Some(self.clone())), Body::new(Request { body, place: self.clone() }))
    }

    fn ticket(&self) -> MutexGuard<'_, u64> {
        self.ticket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self) {
        let mut ticket = self.ticket();
        let mut line = self.waiting.lock();
        line.tickets.remove(&ticket);
        line.last += 1;
        *ticket = line.last;
        let fresh = self.fresh.load(Ordering::Relaxed);
        line.tickets.insert(*ticket, Ticket { close: self.close.clone(), fresh });
        drop(line);
        self.waiting.joined.notify_one();
    }

    /// A whole request has come.
    fn work(&self) {
        self.fresh.store(false, Ordering::Relaxed);
        self.leave();
    }

    fn leave(&self) {
        let ticket = self.ticket();
        self.waiting.lock().tickets.remove(&ticket);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

/// A request that is being answered. Its connection waits for its client again when this is dropped.
pub(super) struct Work(Option<Arc<Place>>);

impl Work {
    /// The connection is no longer one for requests: it goes on with its place for as long as it lasts.
    pub(super) fn upgraded(mut self) {
        if let Some(place) = self.0.take() {
            place.leave();
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Some(place) = &self.0 {
            place.wait();
        }
    }
}

/// Keeps the place of a connection that became a WebSocket. Handlers find it among the extensions of
/// their request.
#[derive(Clone)]
pub struct Seat {
    _place: Arc<Place>,
}

impl Seat {
    pub(super) fn new(place: &Arc<Place>) -> Self {
        Self { _place: place.clone() }
    }
}

/// The body of a request: when it has ended, the connection waits for us.
struct Request {
    body: Incoming,
    place: Arc<Place>,
}

impl hyper::body::Body for Request {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None)) || self.body.is_end_stream() {
            self.place.work();
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

    fn is_wanted(place: &Place) -> bool {
        place.wanted().now_or_never().is_some()
    }

    /// A request whose body has come.
    fn work(place: &Arc<Place>) -> Work {
        place.asked.notify_one();
        place.work();
        Work(Some(place.clone()))
    }

    #[tokio::test]
    async fn who_has_waited_longest_goes() {
        let places = Places::new(2, 0);
        let first = places.take().await.unwrap();
        let second = places.take().await.unwrap();
        // The first has asked, and waits since then.
        drop(work(&first));
        let mut third = Box::pin(places.take());
        assert!(third.as_mut().now_or_never().is_none());
        assert!(is_wanted(&second) && !is_wanted(&first));
        drop(second);
        let third = third.await.unwrap();
        assert!(places.take().now_or_never().is_none());
        assert!(is_wanted(&first) && !is_wanted(&third));
    }

    #[tokio::test]
    async fn a_request_in_hand_is_not_given_up() {
        let places = Places::new(2, 0);
        let (asked, upgraded) = (places.take().await.unwrap(), places.take().await.unwrap());
        work(&upgraded).upgraded();
        let answer = work(&asked);
        let mut next = Box::pin(places.take());
        assert!(next.as_mut().now_or_never().is_none());
        assert!(!is_wanted(&asked) && !is_wanted(&upgraded));
        // The client may take its time for the answer.
        drop(answer);
        assert!(next.as_mut().now_or_never().is_none());
        assert!(is_wanted(&asked) && !is_wanted(&upgraded));
        drop(asked);
        assert!(next.await.is_some());
    }

    #[tokio::test]
    async fn the_reserve_is_there_at_once_while_all_others_are_in_hand() {
        let places = Places::new(2, 1);
        let one = places.take().await.unwrap();
        let two = places.take().await.unwrap();
        let (work_one, _work_two) = (work(&one), work(&two));
        let last = places.take().now_or_never().flatten().unwrap();
        assert!(one.is_full() && two.is_full() && !last.is_full());
        // It gives way itself, and so do others that wait.
        drop(work_one);
        assert!(places.take().now_or_never().is_none());
        assert!(is_wanted(&last) && !is_wanted(&two));
        drop(one);
        assert!(last.is_full(), "there is room again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_in_reserve_waits_for_who_gives_way() {
        let places = Places::new(1, 1);
        let first = places.take().await.unwrap();
        let answer = work(&first);
        let next = places.take().await.unwrap();
        assert!(!next.gets_room().await, "the first is in hand");
        let room = async { next.gets_room().await };
        let (room, ()) = tokio::join!(room, async { drop((answer, first)) });
        assert!(room);
    }

    #[tokio::test]
    async fn who_never_asked_goes_first_where_files_lack() {
        let places = Places::new(3, 0);
        let [kept, slow] = [places.take().await.unwrap(), places.take().await.unwrap()];
        drop(work(&kept));
        let newest = places.take().await.unwrap();
        assert!(places.close_fresh() && is_wanted(&slow));
        assert!(places.close_fresh() && is_wanted(&newest));
        assert!(!places.close_fresh() && !is_wanted(&kept));
        assert!(places.close_longest() && is_wanted(&kept));
    }

    #[tokio::test]
    async fn who_waits_gives_way_before_the_reserve_is_used_up() {
        let places = Places::new(1, 4);
        let slow = places.take().await.unwrap();
        let next = places.take().now_or_never().flatten().unwrap();
        assert!(is_wanted(&slow) && !next.is_full());
        drop(slow);
        assert!(next.is_full());
    }
}
