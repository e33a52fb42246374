//! Keeps one connection: connects, logs in, serves it, and reconnects when it is lost.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use minidom::Element;
use tokio::{
    sync::watch,
    time::{sleep, sleep_until, timeout},
};
use xmpp_parsers::{ping::Ping, sm};

use super::{
    acks::Acks,
    answers::{Answer, Answers, Asked, Later},
    bounded::now,
    cause::Cause,
    connect::{FIRST_RETRY, RETRY, pause},
    life::Life,
    log::Log,
    login::{Account, LoggedIn, Session},
    stanza::{CLIENT, Inbound, Stanza, iq, put},
    wire::{Event, Wire, size},
};
use crate::config::SourcePattern;

/// Bound of the bytes that the server has not taken yet. Statistics are 5 kB every 5 s, an answer less.
const MAX_UNSENT: usize = 4 << 20;
/// Requests that may wait for their answers.
const MAX_WAITING: usize = 4096;
/// After this many bytes the task yields to others.
const PAUSE_AFTER: u64 = 8 << 10;
/// How long sending the rest may take when leaving.
const LEAVE_PATIENCE: Duration = Duration::from_millis(500);

/// The purpose of a connection beside its answers. No I/O: stanzas and the time in, stanzas out.
pub(super) trait Purpose: Send {
    /// A session begins, under this address.
    fn begin(&mut self, jid: &str, now: Instant);
    /// The session was resumed over a new connection: nothing was lost.
    fn resumed(&mut self, now: Instant);
    /// The connection is lost.
    fn lost(&mut self, unwanted: bool);
    /// Handles a stanza that is no request.
    fn on_stanza(&mut self, stanza: &Stanza, now: Instant);
    /// When to call [`Purpose::on_time`] at the latest.
    fn deadline(&self) -> Option<Instant>;
    /// Handles timers that are due.
    fn on_time(&mut self, now: Instant);
    /// Returns when there is something new to publish.
    fn changed(&mut self) -> impl Future<Output = ()> + Send;
    /// Publishes it.
    fn publish(&mut self, now: Instant);
    /// Leaves.
    fn leave(&mut self);
    /// What to send next. Asked after every other call until there is nothing.
    fn next(&mut self) -> Option<Element>;
}

/// A connection and its purpose.
pub(super) struct Driver<P> {
    pub account: Account,
    pub answers: Arc<dyn Answers>,
    /// See [`Asked::authorized`].
    pub authorized: Option<SourcePattern>,
    pub purpose: P,
    pub stop: watch::Receiver<bool>,
}

/// The state that outlives a connection.
#[derive(Default)]
pub(super) struct SessionState {
    /// Counts of the session, where the server has them.
    acks: Option<Acks>,
    /// Answers that are pending.
    waiting: FuturesUnordered<Later>,
    /// Those that came while there was no connection, and can still be sent.
    held: Vec<Element>,
    /// Pings so far.
    pings: u64,
}

impl<P: Purpose> Driver<P> {
    /// Runs until it is asked to stop.
    pub(super) async fn run(mut self) {
        let mut log = Log::new(&self.account);
        let mut kept = SessionState::default();
        let mut stop = self.stop.clone();
        loop {
            let resume = kept.acks.as_ref().and_then(Acks::resume);
            let entered = tokio::select! {
                entered = kept.meanwhile(self.account.enter(resume)) => entered,
                () = stops(&mut stop) => return,
            };
            let up = now();
            let (cause, longest) = match entered {
                Err(cause) => (cause, RETRY),
                Ok(entered) => {
                    log.entered(&entered.session);
                    let end = self.serve(entered, &mut kept).await;
                    self.purpose.lost(end.is_err());
                    let Err(cause) = end else { return log.left() };
                    if !cause.leaves_session() {
                        kept.acks = None;
                    }
                    (cause, longest_pause(now().saturating_duration_since(up)))
                }
            };
            log.failed(cause);
            tokio::select! {
                () = kept.meanwhile(sleep(pause(longest))) => {}
                () = stops(&mut stop) => return,
            }
        }
    }

    /// Runs one connection; `Ok` when it was left on request.
    pub(super) async fn serve(
        &mut self,
        entered: LoggedIn,
        kept: &mut SessionState,
    ) -> Result<(), Cause> {
        let LoggedIn { wire, session } = entered;
        let mut line = Line { wire, kept, from: None };
        match session {
            Session::Resumed(count) => {
                line.resume(count)?;
                self.purpose.resumed(now());
            }
            Session::New { jid, counted } => {
                line.kept.acks = counted.map(Acks::new);
                line.kept.held.clear();
                self.purpose.begin(&jid, now());
                line.from = self.account.is_component().then_some(jid);
            }
        }
        let mut life = Life::new();
        let mut stop = self.stop.clone();
        let mut read = line.wire.read();
        loop {
            while let Some(stanza) = self.purpose.next() {
                line.send(stanza);
            }
            line.ask();
            if line.wire.unsent() > MAX_UNSENT {
                return Err(Cause::Slow);
            }
            let silent = life.deadline(line.wire.last_received());
            let due = self.purpose.deadline().map_or(silent, |due| due.min(silent));
            tokio::select! {
                event = line.wire.next() => self.take(event?, &mut line)?,
                Some(answer) = line.kept.waiting.next(), if !line.kept.waiting.is_empty() => {
                    line.send(answer);
                }
                () = self.purpose.changed() => self.purpose.publish(now()),
                () = sleep_until(due.into()) => {
                    if life.on_time(line.wire.last_received(), now())? {
                        line.ping(self.account.pinged());
                    }
                    self.purpose.on_time(now());
                }
                () = stops(&mut stop) => break,
            }
            if line.wire.read().saturating_sub(read) >= PAUSE_AFTER {
                read = line.wire.read();
                // A server that sends without end must not keep a thread to itself.
                tokio::task::yield_now().await;
            }
        }
        self.purpose.leave();
        while let Some(stanza) = self.purpose.next() {
            line.send(stanza);
        }
        // The server may have gone too.
        let _ = timeout(LEAVE_PATIENCE, line.wire.close()).await;
        Ok(())
    }

    fn take(&mut self, event: Event, line: &mut Line<'_>) -> Result<(), Cause> {
        let stanza = match event {
            Event::Nonza(Inbound::Acks(nonza)) => return line.on_acks(&nonza),
            Event::Stanza(stanza) if stanza.element().has_ns(CLIENT) => stanza,
            // No other nonza has a meaning after login.
            Event::Nonza(_) | Event::Stanza(_) => return Ok(()),
        };
        if let Some(acks) = &mut line.kept.acks {
            acks.received();
        }
        if !stanza.is_request() {
            self.purpose.on_stanza(&stanza, now());
            return Ok(());
        }
        let busy = line.kept.waiting.len() >= MAX_WAITING;
        let authorized = self.authorized.as_ref();
        match self.answers.answer(Asked { stanza: &stanza, authorized, busy }) {
            Answer::Now(answer) => line.send(answer),
            Answer::Later(answer) => line.kept.waiting.push(answer),
            Answer::Nothing => {}
        }
        Ok(())
    }
}

/// An established connection.
struct Line<'a> {
    wire: Wire,
    kept: &'a mut SessionState,
    /// The `from` of our stanzas, where the server does not add it.
    from: Option<String>,
}

impl Line<'_> {
    fn send(&mut self, mut stanza: Element) {
        if let Some(from) = self.from.as_ref().filter(|_| stanza.attr("from").is_none()) {
            put(stanza.attrs_mut(), "from", from);
        }
        let size = size(&stanza);
        if let Some(acks) = &mut self.kept.acks {
            acks.sent(&stanza, size);
        }
        self.wire.send_sized(stanza, size);
    }

    /// Sends the stanzas that the server has not received, and the answers that were held.
    fn resume(&mut self, count: u32) -> Result<(), Cause> {
        if let Some(acks) = &mut self.kept.acks {
            for stanza in acks.resumed(count)? {
                self.wire.send(stanza);
            }
        }
        for stanza in std::mem::take(&mut self.kept.held) {
            self.send(stanza);
        }
        Ok(())
    }

    /// Requests an acknowledgement, if there are stanzas to acknowledge.
    fn ask(&mut self) {
        if let Some(request) = self.kept.acks.as_mut().and_then(Acks::request) {
            self.wire.send(request);
        }
    }

    fn on_acks(&mut self, nonza: &sm::Nonza) -> Result<(), Cause> {
        let Some(acks) = &mut self.kept.acks else {
            return Err(Cause::Protocol("acknowledgement without agreement".to_owned()));
        };
        match nonza {
            sm::Nonza::Req(_) => self.wire.send(acks.answer()),
            sm::Nonza::Ack(count) => acks.acknowledged(count.h)?,
            _ => {}
        }
        Ok(())
    }

    fn ping(&mut self, to: Option<&str>) {
        self.kept.pings = self.kept.pings.wrapping_add(1);
        let id = format!("ping-{}", self.kept.pings);
        self.send(iq("get", &id, to, Ping));
    }
}

impl SessionState {
    /// Waits for `end` while there is no connection, and goes on with pending answers meanwhile: even if an answer is
    /// never sent, a request that is dropped half-way, or stands still, would leave state that only one side knows of.
    async fn meanwhile<T>(&mut self, end: impl Future<Output = T>) -> T {
        tokio::pin!(end);
        loop {
            tokio::select! {
                ended = &mut end => return ended,
                Some(answer) = self.waiting.next(), if !self.waiting.is_empty() => {
                    if self.acks.as_ref().is_some_and(Acks::goes_on) && self.held.len() < MAX_WAITING {
                        self.held.push(answer);
                    }
                }
            }
        }
    }
}

/// The longest wait for the next attempt, by how long the last connection was up: short after a loss, unless
/// connections are lost again and again.
fn longest_pause(up: Duration) -> Duration {
    if up > RETRY { FIRST_RETRY } else { RETRY }
}

/// Returns when it is time to stop.
async fn stops(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        // The owner has gone, and ends this task otherwise.
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests;
