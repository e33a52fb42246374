//! The component's socket: connected, served, and connected again when it is lost.

use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use minidom::Element;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
    task::JoinHandle,
    time::{sleep, sleep_until, timeout},
};

use super::{
    ComponentConfig, Link,
    requests::{Known, Reply, Step, handle},
    session::{Event, Lost, Session},
};
use crate::{
    bridge::SelfReport,
    faces::colibri1::Adapter,
    xmpp::{
        Stanza,
        connect::{ConnectError, FIRST_RETRY, PER_ADDRESS, RETRY, connect_any, pause},
        presence,
    },
};

/// After reading so many bytes at once others have their turn.
const PAUSE_AFTER: usize = 8 << 10;
/// How long leaving may take.
const LEAVE_TIME: Duration = Duration::from_secs(1);
/// Requests that are being answered; more have to wait in the socket.
const MAX_REQUESTS: usize = 1_000;
/// What the server has not taken yet.
const MAX_UNSENT: usize = 4 << 20;

/// What the component is for.
pub struct Services {
    /// Who answers COLIBRI 1.
    pub face: Arc<Adapter>,
    /// What is published.
    pub report: SelfReport,
    /// Version of the software, as it says to whom asks.
    pub version: String,
    /// Its operating system, likewise.
    pub os: String,
    /// Where it says whether it is connected.
    pub link: Link,
}

/// Requests that are being answered, and whom the answers are for.
type Answers<'a> = FuturesUnordered<Pin<Box<dyn Future<Output = Element> + Send + 'a>>>;

/// What a stanza leads to.
enum Todo {
    Send(Element),
    Ask { from: String, request: Element, reply: Reply },
    Nothing,
}

impl Services {
    fn take(&self, stanza: Stanza, config: &ComponentConfig, up: Duration) -> Todo {
        let (version, os) = (self.version.as_str(), self.os.as_str());
        match handle(stanza, &Known { version, os, up, allowed: &config.allowed }) {
            Step::Answer(answer) => Todo::Send(answer),
            Step::Stats(reply) => {
                let stats = presence::stats(&self.report.read_for_v1(), None);
                Todo::Send(reply.result(Some(stats)))
            }
            Step::Health(reply) => Todo::Send(reply.health(self.report.bridge().health())),
            Step::Shutdown { graceful, from, answer } => {
                tracing::info!(from, graceful, "XMPP component: asked to shut down");
                if graceful {
                    self.report.bridge().graceful_shutdown();
                } else {
                    self.report.bridge().shutdown();
                }
                Todo::Send(answer)
            }
            Step::Conference { from, request, reply } => Todo::Ask { from, request, reply },
            Step::Ignore => Todo::Nothing,
        }
    }
}

/// The component. It ends when this is dropped.
#[derive(Debug)]
pub struct Component {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Component {
    /// Connects and serves, for ever. Must be called in a tokio runtime.
    pub fn start(config: ComponentConfig, services: Services) -> Self {
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(run(config, services, stopped));
        Self { stop, task }
    }

    /// Leaves the server, and waits for that for a second at the longest.
    pub async fn leave(&mut self) {
        self.stop.send_replace(true);
        let _ = timeout(LEAVE_TIME, &mut self.task).await;
    }
}

/// Shows the secret and goes again.
///
/// # Errors
/// Why the server does not let the component in.
pub async fn probe(config: &ComponentConfig) -> Result<(), Lost> {
    let mut stream = connect(config).await?;
    let mut session = Session::new(config, Instant::now());
    let mut buffer = vec![0; 4096];
    loop {
        stream.write_all(&session.take_output()).await?;
        tokio::select! {
            read = stream.read(&mut buffer) => {
                let bytes = buffer.get(..read?).filter(|b| !b.is_empty()).ok_or(Lost::Closed)?;
                let events = session.receive(Instant::now(), bytes)?;
                if events.iter().any(|event| matches!(event, Event::Up)) {
                    session.close();
                    let _ = timeout(LEAVE_TIME, stream.write_all(&session.take_output())).await;
                    return Ok(());
                }
            }
            () = sleep_until(session.next().into()) => {
                session.tick(Instant::now(), Vec::new, Vec::new)?;
            }
        }
    }
}

async fn connect(config: &ComponentConfig) -> Result<TcpStream, Lost> {
    let connected = connect_any(&config.host, config.port, PER_ADDRESS).await;
    connected.map_err(|error| match error {
        ConnectError::Unresolved(error) => Lost::Unresolved(error),
        ConnectError::Refused(error) => Lost::Connect(error),
    })
}

async fn run(config: ComponentConfig, services: Services, mut stopped: watch::Receiver<bool>) {
    let (jid, server) = (config.jid(), format!("{}:{}", config.host, config.port));
    let began = Instant::now();
    let mut told = None;
    let mut answers = Answers::new();
    loop {
        let mut up: Option<Instant> = None;
        let lost = match serve(&config, &services, &mut answers, &mut stopped, began, &mut up).await
        {
            Ok(()) => return,
            Err(lost) => lost.to_string(),
        };
        services.link.down();
        // What the bridge was asked it does, whether or not somebody still hears of it: a request that
        // is dropped half-way would leave a channel of which only one side knows.
        let _ = timeout(RETRY, async { while answers.next().await.is_some() {} }).await;
        // One line when something changes, not one for each attempt.
        if up.is_some() || told.as_ref() != Some(&lost) {
            tracing::warn!(
                jid,
                server,
                cause = lost,
                "XMPP component: not connected, trying for ever"
            );
            told = Some(lost);
        }
        let longest = longest_pause(up.map(|up| up.elapsed()));
        tokio::select! {
            () = sleep(pause(longest)) => {}
            () = asked_to_stop(&mut stopped) => return,
        }
    }
}

/// The longest wait for the next attempt, by how long the last connection was up: short after a loss,
/// if that has not become a habit.
fn longest_pause(up: Option<Duration>) -> Duration {
    if up.is_some_and(|up| up > RETRY) { FIRST_RETRY } else { RETRY }
}

/// Until the component is stopped, or dropped.
async fn asked_to_stop(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// One connection. `Ok`: it was asked to end.
async fn serve<'a>(
    config: &ComponentConfig,
    services: &'a Services,
    answers: &mut Answers<'a>,
    stopped: &mut watch::Receiver<bool>,
    began: Instant,
    up: &mut Option<Instant>,
) -> Result<(), Lost> {
    let stream = tokio::select! {
        connected = connect(config) => connected?,
        () = asked_to_stop(stopped) => return Ok(()),
    };
    let (mut from, mut to) = stream.into_split();
    let mut session = Session::new(config, Instant::now());
    let mut buffer = vec![0; 16 * 1024];
    let mut unsent = BytesMut::new();
    loop {
        unsent.extend_from_slice(&session.take_output());
        if unsent.len() > MAX_UNSENT {
            return Err(Lost::Slow);
        }
        tokio::select! {
            sent = to.write_buf(&mut unsent), if !unsent.is_empty() => {
                // Nothing else waits for a server that does not read.
                if sent? == 0 {
                    return Err(Lost::Closed);
                }
            }
            read = from.read(&mut buffer), if answers.len() < MAX_REQUESTS => {
                let read = read?;
                let bytes = buffer.get(..read).filter(|bytes| !bytes.is_empty()).ok_or(Lost::Closed)?;
                for event in session.receive(Instant::now(), bytes)? {
                    match event {
                        Event::Up => {
                            *up = Some(Instant::now());
                            services.link.up();
                            tracing::info!(jid = config.jid(), "XMPP component: connected");
                        }
                        Event::Stanza(stanza) => {
                            match services.take(stanza, config, began.elapsed()) {
                                Todo::Send(answer) => session.send(answer),
                                Todo::Ask { from, request, reply } => answers.push(Box::pin(async move {
                                    match services.face.ask(&from, &request).await {
                                        Ok(answer) => reply.result(Some(answer)),
                                        Err(refusal) => reply.error(|ns| refusal.element(ns)),
                                    }
                                })),
                                Todo::Nothing => {}
                            }
                        }
                    }
                }
                if read >= PAUSE_AFTER {
                    // A server that sends without end must not keep a thread to itself.
                    tokio::task::yield_now().await;
                }
            }
            Some(answer) = answers.next(), if !answers.is_empty() => {
                session.send(answer);
            }
            () = sleep_until(session.next().into()) => {
                session.tick(Instant::now(), || services.report.read_for_v1(), || services.face.owners())?;
            }
            () = asked_to_stop(stopped) => {
                session.close();
                unsent.extend_from_slice(&session.take_output());
                let _ = timeout(LEAVE_TIME, to.write_all_buf(&mut unsent)).await;
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_made_good_soon_and_a_habit_is_waited_out() {
        for (up, expected) in [
            (Some(Duration::from_secs(3_600)), FIRST_RETRY),
            (Some(RETRY + Duration::from_millis(1)), FIRST_RETRY),
            (Some(RETRY), RETRY),
            (Some(Duration::ZERO), RETRY),
            (None, RETRY),
        ] {
            assert_eq!(longest_pause(up), expected, "{up:?}");
        }
    }
}
