//! The places of a server's connections, and who gives theirs up when there is none left.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use axum::body::{Body, Bytes};
use hyper::body::{Frame, SizeHint};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// As many as were said. A connection that waits for a request of its client has a place only until
/// somebody else wants it.
pub(super) struct Places {
    free: Arc<Semaphore>,
    waiting: Arc<Waiting>,
}

/// The connections that wait for a request: those that have not sent a whole head yet, and those
/// that are kept between requests.
#[derive(Default)]
struct Waiting {
    line: Mutex<Line>,
    /// Somebody has joined.
    joined: Notify,
}

#[derive(Default)]
struct Line {
    last: u64,
    /// How to close them, longest first.
    tickets: BTreeMap<u64, Arc<Notify>>,
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places {
    pub fn new(count: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(count)), waiting: Arc::default() }
    }

    /// A place. If there is none, the connection that has waited longest is closed; if all have
    /// requests in hand, the first that is done.
    pub async fn take(&self) -> Option<Arc<Place>> {
        let permit = loop {
            if let Ok(permit) = self.free.clone().try_acquire_owned() {
                break permit;
            }
            let oldest = self.waiting.lock().tickets.pop_first();
            if let Some((_, close)) = oldest {
                close.notify_one();
                break self.free.clone().acquire_owned().await.ok()?;
            }
            tokio::select! {
                permit = self.free.clone().acquire_owned() => break permit.ok()?,
                () = self.waiting.joined.notified() => {}
            }
        };
        let place = Place {
            _permit: permit,
            waiting: self.waiting.clone(),
            close: Arc::default(),
            ticket: Mutex::new(0),
            asked: Notify::new(),
        };
        place.wait();
        Some(Arc::new(place))
    }
}

/// Free again when it is dropped.
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    waiting: Arc<Waiting>,
    close: Arc<Notify>,
    ticket: Mutex<u64>,
    asked: Notify,
}

impl Place {
    /// Ends when the place is wanted for somebody else.
    pub async fn wanted(&self) {
        self.close.notified().await;
    }

    /// Ends when there was a request.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }

    /// There is a request, until what is returned is dropped.
    pub fn busy(self: &Arc<Self>) -> Busy {
        self.leave();
        self.asked.notify_one();
        Busy { place: self.clone(), upgraded: false }
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
        line.tickets.insert(*ticket, self.close.clone());
        drop(line);
        self.waiting.joined.notify_one();
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

/// A request in hand.
pub(super) struct Busy {
    place: Arc<Place>,
    upgraded: bool,
}

impl Busy {
    /// The connection is no longer one for requests.
    pub fn upgraded(mut self) {
        self.upgraded = true;
    }

    /// Until the answer is on its way as a whole.
    pub fn until_sent(self, body: Body) -> Body {
        Body::new(Answer { body, _busy: self })
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if !self.upgraded {
            self.place.wait();
        }
    }
}

struct Answer {
    body: Body,
    _busy: Busy,
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
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

    #[tokio::test]
    async fn who_has_waited_longest_goes() {
        let places = Places::new(2);
        let first = places.take().await.unwrap();
        let second = places.take().await.unwrap();
        // The first has asked, and waits since then.
        drop(first.busy().until_sent(Body::from("answer")));
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
        let places = Places::new(2);
        let (asked, upgraded) = (places.take().await.unwrap(), places.take().await.unwrap());
        upgraded.busy().upgraded();
        let answer = asked.busy().until_sent(Body::from("answer"));
        let mut next = Box::pin(places.take());
        assert!(next.as_mut().now_or_never().is_none());
        assert!(!is_wanted(&asked) && !is_wanted(&upgraded));
        drop(answer);
        assert!(next.as_mut().now_or_never().is_none());
        assert!(is_wanted(&asked) && !is_wanted(&upgraded));
        drop(asked);
        assert!(next.await.is_some());
    }
}
