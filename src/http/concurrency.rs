//! Limits how many requests a server computes at once. Health requests are exempt: they must not queue
//! behind a thousand others.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll};

use axum::{extract::Request, middleware::Next, response::Response};
use tokio::{sync::Semaphore, task::yield_now};

/// More than the cores of the usual control plane, so that no core idles while there is work.
const MAX_CONCURRENT: usize = 4;

/// Permits to compute requests, granted in order of arrival.
#[derive(Clone)]
pub(super) struct RequestLimiter(Arc<Semaphore>);

impl Default for RequestLimiter {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_CONCURRENT)))
    }
}

impl RequestLimiter {
    /// Runs `work` and holds a permit for each of its polls. It holds none while it waits, for example for
    /// the rest of a slow client's body.
    async fn run<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            let permit = self.0.acquire().await;
            // A busy runtime thread polls its sockets only after 61 tasks. Yielding makes it poll them
            // before it returns to this task.
            yield_now().await;
            if let Poll::Ready(done) = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await {
                return done;
            }
            drop(permit);
            until_woken().await;
        }
    }

    /// Answers a request once a permit is free.
    pub(super) async fn answer(self, request: Request, next: Next) -> Response {
        self.run(next.run(request)).await
    }

    /// Takes all permits.
    #[cfg(test)]
    pub(super) async fn hold(&self) -> tokio::sync::OwnedSemaphorePermit {
        self.0.clone().acquire_many_owned(MAX_CONCURRENT as u32).await.unwrap()
    }
}

/// Completes at the task's next poll: the future polled before has registered the waker.
async fn until_woken() {
    let mut polled = false;
    poll_fn(|_| {
        let before = std::mem::replace(&mut polled, true);
        if before { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_waiting_request_holds_no_permit() {
        let limiter = RequestLimiter::default();
        let (mut ends, mut waiting) = (Vec::new(), Vec::new());
        for _ in 0..2 * MAX_CONCURRENT {
            let (end, ended) = oneshot::channel();
            let limiter = limiter.clone();
            ends.push(end);
            waiting.push(tokio::spawn(async move { limiter.run(ended).await }));
        }
        assert_eq!(limiter.run(async { 1 }).await, 1);
        // All of them are at their second poll when they are woken.
        for (number, end) in ends.into_iter().enumerate() {
            end.send(number).unwrap();
        }
        for (number, waiting) in waiting.into_iter().enumerate() {
            assert_eq!(waiting.await.unwrap(), Ok(number));
        }
        assert_eq!(limiter.0.available_permits(), MAX_CONCURRENT);
    }

    #[tokio::test]
    async fn a_cancelled_request_returns_its_permit() {
        let limiter = RequestLimiter::default();
        for _ in 0..2 * MAX_CONCURRENT {
            let task = tokio::spawn({
                let limiter = limiter.clone();
                async move { limiter.run(std::future::pending::<()>()).await }
            });
            // It holds a permit and has not polled yet.
            tokio::task::yield_now().await;
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
        }
        assert_eq!(limiter.0.available_permits(), MAX_CONCURRENT);
    }
}
