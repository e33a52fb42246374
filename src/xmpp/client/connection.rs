//! Carries bytes and time to a login and a session, and begins again when the connection is lost.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use minidom::Element;
use rand::Rng as _;
use tokio::{
    io::{AsyncReadExt as _, split},
    sync::watch,
    time::{sleep, sleep_until, timeout},
};

use super::{
    Cause, MucCounts,
    counts::ClientState,
    login::bytes,
    now,
    room::Room,
    session::{Out, Session},
    wire::{Established, Unsent, broken, establish},
};
use crate::{
    bridge::Bridge,
    colibri::{ColibriError, Condition},
    config::XmppClient,
    xmpp::{
        connect::{FIRST_RETRY, RETRY, pause},
        iq::About,
    },
};

/// An unchanged reason is told again after so many attempts, about every five minutes.
const REMIND_AFTER: u32 = 75;
/// What the server has not taken yet. Statistics are 5 kB every 5 s, an answer less.
const MAX_UNSENT: usize = 4 << 20;
/// What is left to send when leaving may take this long.
const LEAVE_PATIENCE: Duration = Duration::from_millis(500);
/// After reading so many bytes at once others have their turn.
const PAUSE_AFTER: usize = 8 << 10;
/// Requests that may wait for the bridge.
const MAX_WAITING: usize = 4096;
/// One client of the configuration.
pub(super) struct Connection {
    pub client: XmppClient,
    pub about: About,
    pub bridge: Bridge,
    pub stats: watch::Receiver<Element>,
    pub stop: watch::Receiver<bool>,
    pub counts: MucCounts,
    pub state: Arc<ClientState>,
    /// The same for all its logins: where a server has not noticed that a connection is dead, the next
    /// one replaces it. Otherwise the dead one would go on to get what is sent to the nickname.
    pub resource: String,
}

/// Answers that the bridge has not given yet.
type Waiting = FuturesUnordered<Pin<Box<dyn Future<Output = Element> + Send>>>;

impl Connection {
    /// Until it is told to stop.
    pub(super) async fn run(mut self) {
        let mut log = Log::new(&self.client);
        loop {
            let mut stop = self.stop.clone();
            let established = tokio::select! {
                established = establish(&self.client, Some(&self.resource)) => established,
                () = stops(&mut stop) => return,
            };
            let (cause, longest) = match established {
                Err(cause) => (cause, RETRY),
                Ok(established) => {
                    log.logged_in(established.jid());
                    self.set_state(true, 0);
                    let end = self.serve(established).await;
                    self.set_state(false, 0);
                    match end {
                        Ok(()) => return tracing::info!(client = log.client, "XMPP: left"),
                        Err(cause) => {
                            self.counts.lost();
                            (cause, FIRST_RETRY)
                        }
                    }
                }
            };
            log.failed(cause);
            tokio::select! {
                () = sleep(pause(longest)) => {}
                () = stops(&mut stop) => return,
            }
        }
    }

    /// From the login to the end; `Ok` when it was left because it was told to.
    async fn serve(&mut self, established: Established) -> Result<(), Cause> {
        let Established { mut wire, bound } = established;
        let stats = self.stats.borrow_and_update().clone();
        let mut session = Session::new(&bound, self.rooms(), self.about.clone(), stats, now())
            .only(self.client.authorized.clone());
        let mut unsent = Unsent::default();
        let mut waiting = Waiting::new();
        let mut stop = self.stop.clone();
        let (mut from, mut to) = split(wire.io);
        loop {
            while let Some(event) = wire.unread.event()? {
                session.on_event(event, now())?;
                self.act(&mut session, &mut unsent, &waiting);
            }
            self.act(&mut session, &mut unsent, &waiting);
            if unsent.len() > MAX_UNSENT {
                return Err(Cause::Slow);
            }
            tokio::select! {
                read = from.read_buf(wire.unread.space()) => {
                    let read = read.map_err(broken)?;
                    if read == 0 {
                        return Err(Cause::Closed);
                    }
                    session.on_life(now());
                    if read >= PAUSE_AFTER {
                        // A server that sends without end must not keep a thread to itself.
                        tokio::task::yield_now().await;
                    }
                }
                sent = unsent.step(&mut to), if !unsent.is_done() => sent?,
                Some(answer) = waiting.next(), if !waiting.is_empty() => {
                    unsent.push(&bytes(&answer));
                }
                Ok(()) = self.stats.changed() => {
                    session.publish(self.stats.borrow_and_update().clone(), now());
                }
                () = sleep_until(session.deadline().into()) => session.on_time(now())?,
                () = stops(&mut stop) => break,
            }
        }
        session.leave();
        self.act(&mut session, &mut unsent, &waiting);
        unsent.push(b"</stream:stream>");
        // The server may be gone as well.
        let _ = timeout(LEAVE_PATIENCE, unsent.finish(&mut to)).await;
        Ok(())
    }

    /// Does what the session wants.
    fn act(&self, session: &mut Session, unsent: &mut Unsent, waiting: &Waiting) {
        let client = self.client.id.as_str();
        let nick = self.client.nickname.as_str();
        while let Some(out) = session.next() {
            match out {
                Out::Send(element) => unsent.push(&bytes(&element)),
                Out::Health(reply) => unsent.push(&bytes(&reply.health(self.bridge.health()))),
                Out::Modify(_, reply) if waiting.len() >= MAX_WAITING => {
                    let error =
                        ColibriError::new(Condition::ResourceConstraint, "Too many requests");
                    unsent.push(&bytes(&reply.refuse(&error)));
                }
                Out::Modify(request, reply) => {
                    let answer = self.bridge.submit(*request);
                    waiting.push(Box::pin(async move { reply.modified(answer.await) }));
                }
                Out::Joined { room, created } => {
                    tracing::info!(client, room, nick, created, "XMPP: joined the room");
                    self.set_state(true, session.joined());
                }
                Out::Absent { room, absence } => {
                    tracing::warn!(client, room, nick, cause = %absence, "XMPP: not in the room, trying for ever");
                    self.set_state(true, session.joined());
                }
                Out::NotConfigured { room, condition } => {
                    tracing::warn!(
                        client,
                        room,
                        condition,
                        "XMPP: cannot configure the room, trying for ever"
                    );
                }
            }
        }
    }

    fn rooms(&self) -> Vec<Room> {
        let nickname = &self.client.nickname;
        let jitter = || rand::rng().random();
        self.client.rooms.iter().map(|room| Room::new(room, nickname, now(), jitter)).collect()
    }

    fn set_state(&self, connected: bool, joined: usize) {
        self.counts.set(&self.state, connected, joined);
    }
}

/// One line for each change of state, and for a new reason.
struct Log {
    client: String,
    server: String,
    last: Option<Cause>,
    attempts: u32,
}

impl Log {
    fn new(client: &XmppClient) -> Self {
        let server = format!("{}:{}", client.host, client.port);
        Self { client: client.id.clone(), server, last: None, attempts: 0 }
    }

    fn logged_in(&mut self, jid: &str) {
        self.last = None;
        self.attempts = 0;
        tracing::info!(client = self.client, server = self.server, jid, "XMPP: logged in");
    }

    fn failed(&mut self, cause: Cause) {
        self.attempts = self.attempts.saturating_add(1);
        let (client, server, attempts) = (&self.client, &self.server, self.attempts);
        if self.last.as_ref() != Some(&cause) || attempts % REMIND_AFTER == 0 {
            tracing::warn!(client, server, %cause, attempts, "XMPP: not connected, trying for ever");
        } else {
            tracing::debug!(client, server, %cause, attempts, "XMPP: not connected");
        }
        self.last = Some(cause);
    }
}

/// Returns when it is time to stop.
async fn stops(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        // Who could have said so is gone, and ends this otherwise.
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncWriteExt as _, DuplexStream, duplex},
        time::Instant,
    };

    use super::*;
    use crate::{
        bridge::BridgeConfig,
        xmpp::{
            client::{
                login::Bound,
                tests::{bridge, client},
                wire::Wire,
            },
            presence,
        },
    };

    /// Two streams of large stanzas on two threads held up health and joins for seconds.
    #[tokio::test]
    async fn a_server_that_sends_without_end_lets_others_have_their_turn() {
        let (ours, mut theirs) = duplex(8 << 20);
        let begin = b"<stream:stream xmlns='jabber:client' \
            xmlns:stream='http://etherx.jabber.org/streams'>";
        let stanza = format!("<presence>{}</presence>", "<d>x</d>".repeat(1000));
        let stream = [&begin[..], stanza.repeat(300).as_bytes(), b"</stream:stream>"].concat();
        theirs.write_all(&stream).await.unwrap();
        let turns = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let others = turns.clone();
        let others = tokio::spawn(async move {
            loop {
                others.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        let (cause, _) = given_up(ours).await;
        others.abort();
        assert_eq!(cause, Cause::Closed);
        let turns = turns.load(std::sync::atomic::Ordering::Relaxed);
        assert!(turns >= stream.len() / (16 << 10) / 2, "{turns} turns in {} bytes", stream.len());
    }

    /// Serves a server at the other end of `io` until it is given up: why, and after how long.
    async fn given_up(io: DuplexStream) -> (Cause, Duration) {
        let (bridge, _media) = bridge(BridgeConfig::default());
        let (client, counts) = (client(), MucCounts::default());
        let (_stats, stats) = watch::channel(presence::stats(&[], None));
        let (_stop, stop) = watch::channel(false);
        let (name, version, os) = ("Rialto".to_owned(), "1".to_owned(), "Linux".to_owned());
        let mut connection = Connection {
            about: About { name, version, os, sign: false },
            bridge,
            stats,
            stop,
            state: counts.add(&client),
            counts,
            client,
            resource: "bridge".to_owned(),
        };
        let bound = Bound { jid: "jvb@example.com/bridge".to_owned(), acks: true };
        let begin = Instant::now();
        let end = connection.serve(Established { wire: Wire::new(Box::new(io)), bound }).await;
        (end.unwrap_err(), begin.elapsed())
    }

    /// A connection that is half open takes what is sent, or does not even that, and says nothing.
    #[tokio::test(start_paused = true)]
    async fn a_server_that_says_nothing_is_given_up() {
        for takes in [1, 1 << 20] {
            let (ours, _theirs) = duplex(takes);
            let (cause, after) = given_up(ours).await;
            assert_eq!((cause, after.as_secs()), (Cause::Silent, 20), "it takes {takes} bytes");
        }
    }
}
