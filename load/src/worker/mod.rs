//! The threads that carry media. Each owns the sockets of some clients: it sends by schedule,
//! receives in batches, handles feedback, and passes STUN and DTLS to the clients' agents.

pub mod client;
mod coder;
pub mod feedback;
mod pace;
pub mod receive;
pub mod screen;
pub mod send;
pub mod sink;
mod timers;

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd},
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token, Waker, unix::SourceFd};
use rialto_sys::{RecvBatch, SendBatch, UdpSocket};
use rustc_hash::FxHashMap;
use tokio::sync::{mpsc, oneshot};

use self::{
    client::{Client, ClientReport},
    timers::Timers,
};
use crate::{
    shared::{Shared, histogram},
    srtp::Keys,
};

/// Messages read in one system call.
const RECV_SLOTS: usize = 32;
/// How often missing packets are requested.
const NACK_EVERY: Duration = Duration::from_millis(10);
/// How often figures are passed to the progress line.
const PUBLISH_EVERY: Duration = Duration::from_millis(200);
/// If a datagram seems to have waited longer in its queue, the clock was set.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
const WAKE: Token = Token(usize::MAX);

/// A command to a worker.
pub enum Command {
    /// Starts reading this client's socket; STUN and DTLS go to `ice`.
    Add {
        /// Index into the plan.
        endpoint: usize,
        /// Its socket.
        socket: Arc<UdpSocket>,
        /// Its agent.
        ice: mpsc::Sender<(Bytes, SocketAddr)>,
        /// When it started to join, nanoseconds of the run's clock.
        started: u64,
    },
    /// The client is connected: its media starts.
    Connected {
        /// Index into the plan.
        endpoint: usize,
        /// The bridge's address.
        remote: SocketAddr,
        /// SRTP keys.
        keys: Keys,
    },
    /// Lets the client disappear without notice: nothing is sent or read any more. Its counts are
    /// kept for the report.
    Vanish(usize),
    /// Reports the state so far.
    Report(oneshot::Sender<WorkerReport>),
}

/// The measurements of a worker.
#[derive(Clone, Debug)]
pub struct WorkerReport {
    /// Forwarding latency of packets that needed no recovery, nanoseconds.
    pub latency: Histogram<u64>,
    /// How late packets were made relative to the schedule, nanoseconds.
    pub schedule_lag: Histogram<u64>,
    /// Duration of a round of the loop, nanoseconds: what is due meanwhile is sent late.
    pub round: Histogram<u64>,
    /// Its clients.
    pub clients: Vec<ClientReport>,
}

/// The handle of a running worker. Stops it when dropped.
pub struct Worker {
    commands: Option<Sender<Command>>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts a thread called `load-N`.
    pub fn start(shared: Arc<Shared>, number: usize) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let (commands, inbox) = channel();
        let thread = std::thread::Builder::new()
            .name(format!("load-{number}"))
            .spawn(move || Loop::new(shared, poll, inbox).run())?;
        Ok(Self { commands: Some(commands), waker, thread: Some(thread) })
    }

    /// Sends a command. Does nothing if the worker is gone.
    pub fn send(&self, command: Command) {
        if let Some(commands) = &self.commands {
            let _ = commands.send(command);
            let _ = self.waker.wake();
        }
    }

    /// The measurements so far; `None` if the worker is gone.
    pub async fn report(&self) -> Option<WorkerReport> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Report(reply));
        answer.await.ok()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.commands = None;
        let _ = self.waker.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What clients need of their worker to send and receive.
pub struct Context {
    shared: Arc<Shared>,
    sender: SendBatch,
    latency: Histogram<u64>,
    recent: Histogram<u64>,
    schedule_lag: Histogram<u64>,
    counts: Counts,
    /// Clients with missing packets.
    missing: Vec<usize>,
}

/// Totals since they were last published.
#[derive(Default)]
struct Counts {
    sent: u64,
    sent_bytes: u64,
    received: u64,
    received_bytes: u64,
    send_errors: u64,
}

struct Loop {
    poll: Poll,
    inbox: Receiver<Command>,
    clients: FxHashMap<usize, Client>,
    timers: Timers,
    batch: RecvBatch,
    round: Histogram<u64>,
    next_nack: Instant,
    next_publish: Instant,
    context: Context,
}

impl Loop {
    fn new(shared: Arc<Shared>, poll: Poll, inbox: Receiver<Command>) -> Self {
        let now = Instant::now();
        let slot = if shared.media.gro { 65_536 } else { 2048 };
        Self {
            poll,
            inbox,
            clients: FxHashMap::default(),
            timers: Timers::default(),
            batch: RecvBatch::new(RECV_SLOTS, slot),
            round: histogram(),
            next_nack: now + NACK_EVERY,
            next_publish: now + PUBLISH_EVERY,
            context: Context {
                shared,
                sender: SendBatch::new(false),
                latency: histogram(),
                recent: histogram(),
                schedule_lag: histogram(),
                counts: Counts::default(),
                missing: Vec::new(),
            },
        }
    }

    fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        loop {
            let now = Instant::now();
            let until = self.timers.next().unwrap_or(self.next_publish).min(self.next_publish);
            let until =
                if self.context.missing.is_empty() { until } else { until.min(self.next_nack) };
            let timeout = until.saturating_duration_since(now);
            if let Err(error) = self.poll.poll(&mut events, Some(timeout))
                && error.kind() != io::ErrorKind::Interrupted
            {
                return;
            }
            let woken = Instant::now();
            if !self.take_commands() {
                return;
            }
            for event in &events {
                self.receive(event.token().0);
            }
            self.run_timers();
            self.ask_again();
            if !events.is_empty() {
                self.round.saturating_record(woken.elapsed().as_nanos() as u64);
            }
            self.publish();
        }
    }

    /// Returns whether to continue.
    fn take_commands(&mut self) -> bool {
        loop {
            match self.inbox.try_recv() {
                Ok(command) => self.take(command),
                Err(std::sync::mpsc::TryRecvError::Empty) => return true,
                Err(std::sync::mpsc::TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Add { endpoint, socket, ice, started } => {
                let fd = socket.as_fd().as_raw_fd();
                let registry = self.poll.registry();
                let _ = registry.register(&mut SourceFd(&fd), Token(endpoint), Interest::READABLE);
                let client = Client::new(endpoint, socket, ice, started, &self.context.shared);
                self.clients.insert(endpoint, client);
            }
            Command::Connected { endpoint, remote, keys } => {
                let Some(client) = self.clients.get_mut(&endpoint) else { return };
                let now = Instant::now();
                client.connected(remote, &keys, now, &mut self.context);
                client.schedule(now, &mut self.timers);
            }
            Command::Vanish(endpoint) => {
                let Some(client) = self.clients.get_mut(&endpoint) else { return };
                let fd = client.socket.as_fd().as_raw_fd();
                let _ = self.poll.registry().deregister(&mut SourceFd(&fd));
                client.vanish(&self.context);
            }
            Command::Report(reply) => {
                self.next_publish = Instant::now();
                self.publish();
                let clients = self.clients.values().map(|c| c.report(&self.context)).collect();
                let _ = reply.send(WorkerReport {
                    latency: self.context.latency.clone(),
                    schedule_lag: self.context.schedule_lag.clone(),
                    round: self.round.clone(),
                    clients,
                });
            }
        }
    }

    /// Reads a socket until nothing waits.
    fn receive(&mut self, endpoint: usize) {
        let Some(client) = self.clients.get_mut(&endpoint) else { return };
        let socket = client.socket.clone();
        loop {
            match self.batch.recv(&socket) {
                Ok(0) => return,
                Ok(_) => {}
                // An ICMP error about something sent earlier; the next call continues.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(_) => return,
            }
            let now = Instant::now();
            let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            for datagram in self.batch.datagrams() {
                let at = arrival(now, wall, datagram.received);
                client.datagram(datagram.bytes, datagram.remote, at, &mut self.context);
            }
            if !self.batch.is_full() {
                return;
            }
        }
    }

    fn run_timers(&mut self) {
        let now = Instant::now();
        while let Some((endpoint, what)) = self.timers.pop(now) {
            let Some(client) = self.clients.get_mut(&endpoint) else { continue };
            if let Some(again) = client.timer(what, now, &mut self.context) {
                self.timers.push(again, endpoint, what);
            }
        }
    }

    fn ask_again(&mut self) {
        let now = Instant::now();
        if now < self.next_nack || self.context.missing.is_empty() {
            return;
        }
        self.next_nack = now + NACK_EVERY;
        for endpoint in std::mem::take(&mut self.context.missing) {
            if let Some(client) = self.clients.get_mut(&endpoint) {
                client.ask_again(now, &mut self.context);
            }
        }
    }

    fn publish(&mut self) {
        let now = Instant::now();
        if now < self.next_publish {
            return;
        }
        self.next_publish = now + PUBLISH_EVERY;
        let counts = std::mem::take(&mut self.context.counts);
        let totals = &self.context.shared.totals;
        totals.sent.fetch_add(counts.sent, Ordering::Relaxed);
        totals.sent_bytes.fetch_add(counts.sent_bytes, Ordering::Relaxed);
        totals.received.fetch_add(counts.received, Ordering::Relaxed);
        totals.received_bytes.fetch_add(counts.received_bytes, Ordering::Relaxed);
        totals.send_errors.fetch_add(counts.send_errors, Ordering::Relaxed);
        let _ = self.context.shared.recent().add(&self.context.recent);
        self.context.recent.reset();
    }
}

/// When the kernel received a datagram, on this process's clock: it waited in the socket's queue
/// from then on. `wall` is `now` since 1970; a clock that was set meanwhile is not believed.
fn arrival(now: Instant, wall: Duration, received: Option<Duration>) -> Instant {
    let waited = received.and_then(|received| wall.checked_sub(received));
    let waited = waited.filter(|waited| *waited < LONGEST_WAIT).unwrap_or_default();
    now.checked_sub(waited).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waited_arrived_before_it_was_read() {
        let (now, wall) = (Instant::now(), Duration::from_secs(1_700_000_000));
        let waited = Duration::from_millis(3);
        let later = (now + waited, wall + waited);
        assert_eq!(arrival(later.0, later.1, Some(wall)), now);
        for unlikely in [None, Some(wall + waited), Some(Duration::ZERO)] {
            assert_eq!(arrival(now, wall, unlikely), now);
        }
    }
}
