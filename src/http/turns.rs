//! How many requests a server computes at one time. What asks for health takes no turn: it must not
//! queue behind a thousand others.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll};

use axum::{extract::Request, middleware::Next, response::Response};
use tokio::{sync::Semaphore, task::yield_now};

/// More than cores that the control plane usually has, so that none idles while there is work.
const TURNS: usize = 4;

/// Turns of requests, in the order in which they ask for them.
#[derive(Clone)]
pub(super) struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(TURNS)))
    }
}

impl Turns {
    /// `work`, which takes a turn for each of its steps. It has none while it waits: for the rest of a
    /// slow client's body, for instance.
    async fn take<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            let turn = self.0.acquire().await;
            // A thread of the runtime that always has work looks at its sockets after 61 tasks only.
            // Before it comes back to a task that yields, it looks at them.
            yield_now().await;
            if let Poll::Ready(done) = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await {
                return done;
            }
            drop(turn);
            until_woken().await;
        }
    }

    /// Answers a request when it has a turn.
    pub(super) async fn answer(self, request: Request, next: Next) -> Response {
        self.take(next.run(request)).await
    }

    /// Keeps all turns from others.
    #[cfg(test)]
    pub(super) async fn hold(&self) -> tokio::sync::OwnedSemaphorePermit {
        self.0.clone().acquire_many_owned(TURNS as u32).await.unwrap()
    }
}

/// Until the task is polled again: what was polled before has its waker.
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
    async fn who_waits_has_no_turn() {
        let turns = Turns::default();
        let (mut ends, mut waiting) = (Vec::new(), Vec::new());
        for _ in 0..2 * TURNS {
            let (end, ended) = oneshot::channel();
            let turns = turns.clone();
            ends.push(end);
            waiting.push(tokio::spawn(async move { turns.take(ended).await }));
        }
        assert_eq!(turns.take(async { 1 }).await, 1);
        // All of them are at their second step when they are woken.
        for (number, end) in ends.into_iter().enumerate() {
            end.send(number).unwrap();
        }
        for (number, waiting) in waiting.into_iter().enumerate() {
            assert_eq!(waiting.await.unwrap(), Ok(number));
        }
        assert_eq!(turns.0.available_permits(), TURNS);
    }

    #[tokio::test]
    async fn who_goes_away_gives_its_turn_back() {
        let turns = Turns::default();
        for _ in 0..2 * TURNS {
            let task = tokio::spawn({
                let turns = turns.clone();
                async move { turns.take(std::future::pending::<()>()).await }
            });
            // With its turn, and before its step.
            tokio::task::yield_now().await;
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
        }
        assert_eq!(turns.0.available_permits(), TURNS);
    }
}
