//! The queue of messages that one channel has to send.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// Bound of waiting messages. A client that reads never has so many.
const MESSAGES: usize = 512;

/// Bound of the bytes of all waiting messages.
const BYTES: usize = 1 << 20;

/// Why the bridge ends a channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Close {
    /// The endpoint opened another of the same kind.
    Replaced,
    /// The endpoint is gone.
    Expired,
}

impl Close {
    /// The code of a WebSocket's close frame (RFC 6455 section 7.4.1).
    pub fn code(self) -> u16 {
        match self {
            Self::Replaced => 1000,
            Self::Expired => 1001,
        }
    }

    /// The text of a close frame.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Replaced => "replaced",
            Self::Expired => "endpoint closed",
        }
    }
}

/// The next thing to do on a channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outgoing {
    /// Send this.
    Text(Arc<str>),
    /// End it; nothing follows. What waited is not sent.
    Close(Close),
}

/// A bounded queue with one reader.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    texts: VecDeque<Arc<str>>,
    bytes: usize,
    closed: Option<Close>,
}

impl Outbox {
    /// The next message, or the end; `None` when there is nothing yet.
    pub fn try_next(&self) -> Option<Outgoing> {
        let mut waiting = self.lock();
        if let Some(close) = waiting.closed {
            return Some(Outgoing::Close(close));
        }
        let text = waiting.texts.pop_front()?;
        waiting.bytes = waiting.bytes.saturating_sub(text.len());
        Some(Outgoing::Text(text))
    }

    /// The next message, or the end, when there is one. May be dropped and called again.
    pub async fn next(&self) -> Outgoing {
        loop {
            if let Some(next) = self.try_next() {
                return next;
            }
            self.changed.notified().await;
        }
    }

    /// Queues a message. `false` when there is no room for it, or the channel has ended.
    pub(super) fn push(&self, text: Arc<str>) -> bool {
        let mut waiting = self.lock();
        let bytes = waiting.bytes.saturating_add(text.len());
        if waiting.closed.is_some() || waiting.texts.len() >= MESSAGES || bytes > BYTES {
            return false;
        }
        waiting.bytes = bytes;
        waiting.texts.push_back(text);
        drop(waiting);
        self.changed.notify_one();
        true
    }

    /// Ends the channel.
    pub(super) fn close(&self, why: Close) {
        let mut waiting = self.lock();
        waiting.closed.get_or_insert(why);
        waiting.texts.clear();
        waiting.bytes = 0;
        drop(waiting);
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(outbox: &Outbox) -> Option<String> {
        match outbox.try_next()? {
            Outgoing::Text(text) => Some(text.to_string()),
            Outgoing::Close(_) => None,
        }
    }

    #[test]
    fn messages_come_out_in_order_and_the_end_comes_at_once() {
        let outbox = Outbox::default();
        assert_eq!(outbox.try_next(), None);
        for message in ["one", "two", "three"] {
            assert!(outbox.push(message.into()));
        }
        assert_eq!(text(&outbox).as_deref(), Some("one"));
        outbox.close(Close::Replaced);
        outbox.close(Close::Expired);
        assert_eq!(outbox.try_next(), Some(Outgoing::Close(Close::Replaced)));
        assert!(!outbox.push("four".into()));
        assert_eq!(outbox.try_next(), Some(Outgoing::Close(Close::Replaced)));
    }

    #[test]
    fn what_waits_is_bounded_in_number_and_bytes() {
        let outbox = Outbox::default();
        let pushed = (0..MESSAGES * 2).filter(|_| outbox.push("{}".into())).count();
        assert_eq!(pushed, MESSAGES);
        let outbox = Outbox::default();
        let long: Arc<str> = "x".repeat(64 << 10).into();
        let pushed = (0..MESSAGES).filter(|_| outbox.push(long.clone())).count();
        assert_eq!(pushed, BYTES / (64 << 10));
        assert!(text(&outbox).is_some());
        assert!(outbox.push(long), "there is room again");
    }

    #[tokio::test]
    async fn a_waiting_reader_is_woken() {
        let outbox = Arc::new(Outbox::default());
        let reader = tokio::spawn({
            let outbox = outbox.clone();
            async move { (outbox.next().await, outbox.next().await) }
        });
        tokio::task::yield_now().await;
        assert!(outbox.push("one".into()));
        while !outbox.lock().texts.is_empty() {
            tokio::task::yield_now().await;
        }
        outbox.close(Close::Expired);
        let (first, second) = reader.await.unwrap();
        assert_eq!(first, Outgoing::Text("one".into()));
        assert_eq!(second, Outgoing::Close(Close::Expired));
    }
}
