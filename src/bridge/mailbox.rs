//! The mailbox of a conference's task.
//!
//! Everything that happens to a conference comes through here, in the order in which it was sent. The queue
//! itself has no bound: each kind of message has one of its own, so that no kind takes another's room.
//!
//! | what | its bound |
//! |---|---|
//! | requests | `max_queued_requests`; more are refused |
//! | what the engine measures and decides | latest wins: one entry for each source and endpoint |
//! | transport updates | a few for each endpoint and consent interval; texts of data channels count towards the limit that all transports share ([`ChannelText`](rialto_transport::ChannelText)) |
//! | texts of WebSockets | each client's rate, and [`MAX_TEXT_BYTES`] of a conference; more are dropped and counted |
//! | questions | each has a caller that waits |

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use rialto_engine::{Allocation, EndpointSnapshot};
use rialto_media::{EndpointId, SourceId};
use rialto_transport::TransportUpdate;
use tokio::sync::{mpsc, oneshot};

use super::{Inner, lock, modify::Job, task::Task};
use crate::channel::ChannelKind;

/// Texts of WebSockets that may wait for a conference, in bytes with what each costs beside its own. A task
/// that is not stuck takes them as they come.
const MAX_TEXT_BYTES: usize = 4 << 20;
const TEXT_OVERHEAD: usize = 128;

/// What a conference's task is sent.
pub(super) enum Message {
    /// A focus asks.
    Request(Box<Job>),
    /// [`Waiting::media`] is not empty any more.
    Media,
    /// A transport of one of its endpoints changed.
    Transport(TransportUpdate),
    /// A text came over a WebSocket.
    Text(Text),
    /// Somebody wants to know or to change something, and waits for it.
    Question(Question),
    /// The conference is to end.
    Expire(&'static str, oneshot::Sender<()>),
}

/// Runs on the conference's task.
type Question = Box<dyn FnOnce(&mut Task, &Arc<Inner>) + Send>;

/// A text that came over a WebSocket.
pub(super) struct Text {
    pub endpoint: EndpointId,
    pub kind: ChannelKind,
    pub body: Box<str>,
}

/// What the engine said since the task last looked. What is said again replaces what was said before.
#[derive(Debug, Default)]
pub(super) struct Media {
    pub levels: BTreeMap<SourceId, (EndpointId, u8)>,
    pub measured: BTreeMap<EndpointId, EndpointSnapshot>,
    pub allocated: BTreeMap<EndpointId, Box<Allocation>>,
}

impl Media {
    fn is_empty(&self) -> bool {
        self.levels.is_empty() && self.measured.is_empty() && self.allocated.is_empty()
    }
}

/// What waits in a mailbox, as far as it is bounded here.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    requests: AtomicUsize,
    text_bytes: AtomicUsize,
    media: Mutex<Media>,
}

impl Waiting {
    /// Requests that wait.
    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// A request was taken out.
    pub(super) fn request_taken(&self) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
    }

    /// A text was taken out.
    pub(super) fn text_taken(&self, text: &Text) {
        self.text_bytes.fetch_sub(text.body.len() + TEXT_OVERHEAD, Ordering::Relaxed);
    }

    /// Takes out what the engine said.
    pub(super) fn take_media(&self) -> Media {
        std::mem::take(&mut *lock(&self.media))
    }
}

/// Why a request was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refused {
    /// Too many wait already.
    Full,
    /// The conference has ended.
    Ended,
}

/// By which a conference's task is reached.
#[derive(Debug)]
pub(super) struct Mailbox {
    sender: mpsc::UnboundedSender<Message>,
    pub waiting: Arc<Waiting>,
}

impl Mailbox {
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<Message>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { sender, waiting: Arc::default() }, receiver)
    }

    /// Sends a request, unless `most` wait already.
    pub(super) fn request(&self, job: Job, most: usize) -> Result<(), Refused> {
        let requests = &self.waiting.requests;
        let room = |waiting: usize| (waiting < most).then_some(waiting + 1);
        requests
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, room)
            .map_err(|_| Refused::Full)?;
        self.sender.send(Message::Request(Box::new(job))).map_err(|_| {
            self.waiting.request_taken();
            Refused::Ended
        })
    }

    /// Notes what the engine says.
    pub(super) fn media(&self, say: impl FnOnce(&mut Media)) {
        let mut media = lock(&self.waiting.media);
        let was_empty = media.is_empty();
        say(&mut media);
        if was_empty && !media.is_empty() {
            // A conference that has ended needs to hear nothing. The same goes for what follows.
            let _ = self.sender.send(Message::Media);
        }
    }

    /// Sends a transport's update.
    pub(super) fn transport(&self, update: TransportUpdate) {
        let _ = self.sender.send(Message::Transport(update));
    }

    /// Sends a text of a WebSocket. `false` when too much waits already.
    pub(super) fn text(&self, text: Text) -> bool {
        let cost = text.body.len() + TEXT_OVERHEAD;
        let room = |waiting: usize| waiting.checked_add(cost).filter(|sum| *sum <= MAX_TEXT_BYTES);
        let bytes = &self.waiting.text_bytes;
        let fits = bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_ok();
        if fits {
            let _ = self.sender.send(Message::Text(text));
        }
        fits
    }

    /// Runs a question on the conference's task, after everything that was sent before this call. `None`
    /// when the conference has ended.
    pub(super) fn ask<T, F>(
        &self,
        question: F,
    ) -> impl Future<Output = Option<T>> + Send + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce(&mut Task, &Arc<Inner>) -> T + Send + 'static,
    {
        let (tell, told) = oneshot::channel();
        let question = |task: &mut Task, bridge: &Arc<Inner>| {
            // Who asked may have gone.
            let _ = tell.send(question(task, bridge));
        };
        let sent = self.sender.send(Message::Question(Box::new(question))).is_ok();
        async move { if sent { told.await.ok() } else { None } }
    }

    /// Ends the conference; the future waits for that.
    pub(super) fn expire(&self, why: &'static str) -> impl Future<Output = ()> + Send + use<> {
        let (tell, told) = oneshot::channel();
        let _ = self.sender.send(Message::Expire(why, tell));
        async move {
            // An error as well says that it has ended.
            let _ = told.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(mailbox: &Mailbox, source: u32, level: u8) {
        mailbox.media(|media| {
            media.levels.insert(SourceId(source), (EndpointId(1), level));
        });
    }

    #[test]
    fn of_what_the_engine_says_the_latest_wins_and_wakes_once() {
        let (mailbox, mut mail) = Mailbox::new();
        for n in 0..1_000 {
            level(&mailbox, n % 3, n as u8);
        }
        assert!(matches!(mail.try_recv(), Ok(Message::Media)));
        assert!(mail.try_recv().is_err(), "once");
        let media = mailbox.waiting.take_media();
        let levels: Vec<u8> = media.levels.values().map(|(_, level)| *level).collect();
        assert_eq!(levels, [999_u32 as u8, 997_u32 as u8, 998_u32 as u8]);
        level(&mailbox, 1, 1);
        assert!(matches!(mail.try_recv(), Ok(Message::Media)), "and again");
    }

    #[test]
    fn texts_that_nobody_takes_have_a_bound() {
        let (mailbox, mut mail) = Mailbox::new();
        let text = || Text {
            endpoint: EndpointId(1),
            kind: ChannelKind::WebSocket,
            body: "x".repeat(64 << 10).into(),
        };
        let taken = (0..1_000).filter(|_| mailbox.text(text())).count();
        assert_eq!(taken, 63, "4 MiB with what each costs beside its own");
        let Ok(Message::Text(first)) = mail.try_recv() else { panic!("a text") };
        mailbox.waiting.text_taken(&first);
        assert!(mailbox.text(text()) && !mailbox.text(text()));
    }
}
