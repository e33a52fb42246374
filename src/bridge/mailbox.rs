//! The mailbox of a conference's task.
//!
//! All messages to a conference pass through its mailbox, in the order in which they were sent. The queue
//! itself has no bound: each kind of message has one of its own, so that no kind takes another's room.
//!
//! | what | its bound |
//! |---|---|
//! | requests | `max_queued_requests`; more are refused |
//! | what the engine measures and decides | latest wins: one entry for each endpoint; [`MAX_LEVELS`] of loudness |
//! | transport updates | a few for each endpoint and consent interval; texts of data channels count towards the limit that all transports share ([`ChannelText`](rialto_transport::ChannelText)) |
//! | texts of WebSockets | each client's rate, and [`MAX_TEXT_BYTES`] of a conference; more are dropped and counted |
//! | questions | each has a caller that waits |

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rialto_engine::{Allocation, EndpointSnapshot};
use rialto_media::{EndpointId, SourceId};
use rialto_transport::TransportUpdate;
use tokio::sync::{mpsc, oneshot};

use super::{Inner, lock, modify::Job, task::Task};
use crate::channel::ChannelKind;

/// Bound of the WebSocket texts that may wait for a conference, in bytes with an overhead for each text. A
/// task that is not stuck takes them as they come.
const MAX_TEXT_BYTES: usize = 4 << 20;
const TEXT_OVERHEAD: usize = 128;

/// A message to a conference's task.
pub(super) enum Message {
    /// An allocation request of a focus.
    Request(Box<Job>),
    /// [`Waiting::media`] is not empty any more.
    Media,
    /// A transport of one of its endpoints changed.
    Transport(TransportUpdate),
    /// A text came over a WebSocket.
    Text(Text),
    /// A question or change whose caller waits for the result.
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

/// Events of the engine since the task last looked. A newer measurement or allocation of an endpoint replaces
/// the older one.
#[derive(Debug, Default)]
pub(super) struct Media {
    pub levels: VecDeque<Level>,
    pub measured: BTreeMap<EndpointId, EndpointSnapshot>,
    pub allocated: BTreeMap<EndpointId, Box<Allocation>>,
}

/// The audio level of a source (RFC 6464).
#[derive(Clone, Copy, Debug)]
pub(super) struct Level {
    pub at: Instant,
    pub endpoint: EndpointId,
    pub source: SourceId,
    pub loudness: u8,
}

/// Audio levels that may wait. More arrive within seconds only if the task is stuck; then the latest replace
/// the others.
const MAX_LEVELS: usize = 256;

/// A small conference reads levels no more often than it decides the dominant speaker: there are many small
/// conferences, and waking a task costs more than the work that it then does.
const LOOK_AT_LEVELS: Duration = Duration::from_millis(300);

/// Waiting events of the engine, and whether the task has been woken for them.
#[derive(Debug, Default)]
struct MediaBox {
    said: Media,
    woken: bool,
    /// Each level wakes the task: in a large conference a voice may need a slot at once.
    at_once: bool,
    looked: Option<Instant>,
}

/// The bounded contents of a mailbox.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    requests: AtomicUsize,
    text_bytes: AtomicUsize,
    media: Mutex<MediaBox>,
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

    /// Takes out the engine's events. `at_once`: each level wakes the task from now on.
    pub(super) fn take_media(&self, now: Instant, at_once: bool) -> Media {
        let mut media = lock(&self.media);
        (media.woken, media.at_once, media.looked) = (false, at_once, Some(now));
        std::mem::take(&mut media.said)
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

/// The sending side of a conference's mailbox.
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

    /// Stores a measurement or an allocation of the engine.
    pub(super) fn media(&self, say: impl FnOnce(&mut Media)) {
        let mut media = lock(&self.waiting.media);
        say(&mut media.said);
        self.wake(&mut media);
    }

    /// Stores an audio level.
    pub(super) fn level(&self, level: Level) {
        let mut media = lock(&self.waiting.media);
        if media.said.levels.len() >= MAX_LEVELS {
            media.said.levels.pop_front();
        }
        media.said.levels.push_back(level);
        let since = |looked| level.at.saturating_duration_since(looked);
        if media.at_once || media.looked.is_none_or(|looked| since(looked) >= LOOK_AT_LEVELS) {
            self.wake(&mut media);
        }
    }

    fn wake(&self, media: &mut MediaBox) {
        if !std::mem::replace(&mut media.woken, true) {
            // A conference that has ended needs no message. The same holds for the methods below.
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
            // The caller may have gone.
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
            // An error also means that the conference has ended.
            let _ = told.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(at: Instant, level: u8) -> Level {
        Level { at, endpoint: EndpointId(1), source: SourceId(1), loudness: level }
    }

    #[test]
    fn levels_wake_as_often_as_they_can_mean_something() {
        let (mailbox, mut mail) = Mailbox::new();
        let start = Instant::now();
        let mut woken = |tenth: u32, at_once: bool| {
            let at = start + Duration::from_millis(100) * tenth;
            mailbox.level(level(at, tenth as u8));
            let woken = matches!(mail.try_recv(), Ok(Message::Media));
            if woken {
                mailbox.waiting.take_media(at, at_once);
            }
            woken
        };
        assert_eq!(
            [0, 1, 2, 3, 4].map(|tenth| woken(tenth, false)),
            [true, false, false, true, false]
        );
        assert_eq!([6, 7, 8].map(|tenth| woken(tenth, true)), [true, true, true]);
    }

    #[test]
    fn of_what_the_engine_says_the_latest_wins_and_wakes_once() {
        let (mailbox, mut mail) = Mailbox::new();
        let start = Instant::now();
        for n in 0..1_000 {
            mailbox.level(level(start, (n % 250) as u8));
        }
        assert!(matches!(mail.try_recv(), Ok(Message::Media)));
        assert!(mail.try_recv().is_err(), "once");
        let levels = mailbox.waiting.take_media(start, false).levels;
        assert_eq!(
            (levels.len(), levels.back().map(|last| last.loudness)),
            (MAX_LEVELS, Some(249))
        );
        let allocation = |target_bps| Allocation {
            receiver: EndpointId(1),
            estimate_bps: None,
            target_bps,
            ideal_bps: 0,
            oversend_bps: 0,
            suspended: 0,
            sources: Vec::new(),
        };
        for target_bps in 0..10 {
            mailbox.media(|media| {
                media.allocated.insert(EndpointId(1), Box::new(allocation(target_bps)));
            });
        }
        assert!(matches!(mail.try_recv(), Ok(Message::Media)), "and again");
        assert!(mail.try_recv().is_err());
        let allocated = mailbox.waiting.take_media(start, false).allocated;
        let targets: Vec<u64> = allocated.values().map(|one| one.target_bps).collect();
        assert_eq!(targets, [9]);
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
