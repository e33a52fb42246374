//! The loop of one shard: the order of its work, the budget of each phase, and when it sleeps.
//!
//! One tick: commands, batches of other shards, timers, received datagrams, flush, send, batches
//! for other shards, events for control. Each phase has a budget and a counter of the times it was
//! used up. When it was, the next tick follows without sleep.
#![expect(clippy::arithmetic_side_effects, reason = "counters of 64 bits")]

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use rialto_sys::{Datagram, PollFd, RecvBatch, UdpSocket, poll, set_timer_slack};
use tracing::error;

use super::{
    api::Waiting,
    io::{SendCounters, SocketOutbox},
    mailbox::{CommandReceiver, PeerPort, Waker},
};

/// Commands per tick. A join takes some ten commands of some microseconds each; media waits for no
/// more than a few hundred of those.
const COMMANDS: usize = 128;

/// Batches from other shards per tick.
const PEER_BATCHES: usize = 64;

/// Datagrams per socket and tick, after which no further receive call is made. With some 20
/// receivers each, forwarding them takes a few milliseconds, during which commands and timers wait.
const RECEIVE_DATAGRAMS: usize = 256;

/// Slots per receive call.
const SLOTS: usize = 32;

/// Length of a slot for single datagrams: more than any path carries without fragmentation.
const PLAIN_SLOT: usize = 2_048;

/// Length of a slot that may receive coalesced datagrams. A single datagram touches no more of it
/// than of a small slot, and costs the same.
const GRO_SLOT: usize = 64 << 10;

/// What a shard does, without I/O. Callers pass the time; datagrams are written to the outbox.
pub trait ShardCore {
    /// Commands from control.
    type Command;
    /// Batches between shards.
    type Peer;
    /// Events for control.
    type Event;

    /// Applies a command.
    fn on_command(&mut self, now: Instant, command: Self::Command, out: &mut SocketOutbox);

    /// Handles a batch from another shard and empties it.
    fn on_peer(&mut self, now: Instant, batch: &mut Self::Peer, out: &mut SocketOutbox);

    /// Handles a datagram that was sent to `local`, possibly changing its bytes. Datagrams of more
    /// than 2,000 bytes may arrive truncated.
    fn on_datagram(
        &mut self,
        now: Instant,
        local: SocketAddr,
        remote: SocketAddr,
        bytes: &mut [u8],
        out: &mut SocketOutbox,
    );

    /// Ends a tick: writes everything that is due.
    fn flush(&mut self, now: Instant, out: &mut SocketOutbox);

    /// Returns when [`on_timeout`](Self::on_timeout) is to be called.
    fn next_timeout(&self) -> Instant;

    /// Does the periodic work that is due.
    fn on_timeout(&mut self, now: Instant, out: &mut SocketOutbox);

    /// Swaps the pending batch for shard `to` with the empty `spare`. Returns false if nothing is
    /// pending.
    fn take_peer(&mut self, to: usize, spare: &mut Self::Peer) -> bool;

    /// Returns whether a batch for shard `to` is pending.
    fn has_peer(&self, to: usize) -> bool;

    /// Returns true once each time a batch for another shard passes half its limit. The caller
    /// should then send batches now instead of at the end of the tick.
    fn take_peer_flush_request(&mut self) -> bool;

    /// Takes the events for control.
    fn events(&mut self) -> impl Iterator<Item = Self::Event>;

    /// Counts events that were dropped because control fell behind.
    fn on_events_dropped(&mut self, count: u64);

    /// Returns whether packets were written whose time in the shard is to be measured.
    fn is_leaving(&self) -> bool;

    /// Records that the written packets were sent at `now`.
    fn on_sent(&mut self, now: Instant);

    /// Passes the loop's counters, and the longest queues since the last call, before each
    /// [`on_timeout`](Self::on_timeout).
    fn on_counters(&mut self, counters: &LoopCounters, sent: &SendCounters, waiting: Waiting);
}

/// Counters of the loop since the start.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct LoopCounters {
    /// Ticks.
    pub ticks: u64,
    /// Receive calls that returned datagrams.
    pub receive_calls: u64,
    /// Receive calls that failed.
    pub receive_errors: u64,
    /// Ticks that used up the budget for commands.
    pub command_budget_hit: u64,
    /// Ticks that used up the budget for batches of other shards.
    pub peer_budget_hit: u64,
    /// Ticks that used up the budget for receiving.
    pub receive_budget_hit: u64,
    /// Times that another shard still held all our batches, so that ours had to wait.
    pub peer_lane_full: u64,
    /// Time asleep.
    pub asleep: Duration,
}

/// The mailboxes of a shard.
#[derive(Debug)]
pub struct Mailboxes<Command, Peer> {
    /// From control. The loop ends when control drops its end.
    pub commands: CommandReceiver<Command>,
    /// To and from the other shards.
    pub peers: PeerPort<Peer>,
    /// With which others wake this shard.
    pub waker: Arc<Waker>,
}

/// A core with everything that its thread needs.
#[derive(Debug)]
pub struct ShardLoop<C: ShardCore> {
    core: C,
    outbox: SocketOutbox,
    mailboxes: Mailboxes<C::Command, C::Peer>,
    counters: LoopCounters,
    waiting: Waiting,
}

impl<C: ShardCore> ShardLoop<C> {
    /// Creates the loop of a shard.
    pub fn new(core: C, outbox: SocketOutbox, mailboxes: Mailboxes<C::Command, C::Peer>) -> Self {
        let (counters, waiting) = (LoopCounters::default(), Waiting::default());
        Self { core, outbox, mailboxes, counters, waiting }
    }

    /// Runs until control drops its end of the command lane. `event` takes an event and never
    /// waits; it returns false if it dropped the event.
    ///
    /// # Errors
    /// Waiting failed, which is not expected.
    pub fn run(mut self, mut event: impl FnMut(C::Event) -> bool) -> io::Result<()> {
        // Without this, a wait of 250 µs may take 300.
        set_timer_slack(Duration::from_nanos(1))?;
        let sockets = self.outbox.sockets().clone();
        let waker = self.mailboxes.waker.clone();
        let mut fds = vec![PollFd::new(waker.event())];
        fds.extend(sockets.iter().map(PollFd::new));
        let gro = sockets.iter().any(UdpSocket::gro);
        let mut slots = RecvBatch::new(SLOTS, if gro { GRO_SLOT } else { PLAIN_SLOT });
        while !self.mailboxes.commands.is_closed() {
            self.counters.ticks += 1;
            self.waiting = self.waiting.max(Waiting {
                commands: self.mailboxes.commands.len(),
                batches: self.mailboxes.peers.len(),
            });
            let mut more = self.commands();
            more |= self.peers();
            self.timers();
            for (socket, fd) in sockets.iter().zip(fds.iter().skip(1)) {
                if fd.is_ready() {
                    more |= self.receive(socket, &mut slots);
                }
            }
            self.core.flush(Instant::now(), &mut self.outbox);
            self.outbox.send();
            if self.core.is_leaving() {
                self.core.on_sent(Instant::now());
            }
            self.send_peers();
            let dropped = self.core.events().map(&mut event).filter(|taken| !taken).count();
            if dropped > 0 {
                self.core.on_events_dropped(dropped as u64);
            }
            self.wait(more, &mut fds)?;
        }
        Ok(())
    }

    /// Returns true if the budget was used up.
    fn commands(&mut self) -> bool {
        for _ in 0..COMMANDS {
            let Some(command) = self.mailboxes.commands.recv() else { return false };
            self.core.on_command(Instant::now(), command, &mut self.outbox);
        }
        self.counters.command_budget_hit += 1;
        true
    }

    /// Returns true if the budget was used up.
    fn peers(&mut self) -> bool {
        for _ in 0..PEER_BATCHES {
            let Some((from, mut batch)) = self.mailboxes.peers.recv() else { return false };
            self.core.on_peer(Instant::now(), &mut batch, &mut self.outbox);
            self.mailboxes.peers.recycle(from, batch);
            if self.core.take_peer_flush_request() {
                self.send_peers();
            }
        }
        self.counters.peer_budget_hit += 1;
        true
    }

    fn timers(&mut self) {
        let now = Instant::now();
        if self.core.next_timeout() <= now {
            let waiting = std::mem::take(&mut self.waiting);
            self.core.on_counters(&self.counters, self.outbox.counters(), waiting);
            self.core.on_timeout(now, &mut self.outbox);
        }
    }

    /// Returns true if the budget was used up, so that more datagrams may wait in the socket.
    fn receive(&mut self, socket: &UdpSocket, slots: &mut RecvBatch) -> bool {
        let bound = socket.local_addr();
        let mut budget = RECEIVE_DATAGRAMS;
        while budget > 0 {
            match slots.recv(socket) {
                Ok(0) => return false,
                Ok(_) => self.counters.receive_calls += 1,
                Err(_) => {
                    // The error is about a datagram sent earlier; the next call goes on.
                    self.counters.receive_errors += 1;
                    return false;
                }
            }
            let now = Instant::now();
            for datagram in slots.datagrams() {
                budget = budget.saturating_sub(1);
                let ip = datagram.local_ip.unwrap_or(bound.ip());
                let local = SocketAddr::new(ip, bound.port());
                let Datagram { remote, bytes, .. } = datagram;
                self.core.on_datagram(now, local, remote, bytes, &mut self.outbox);
                if self.core.take_peer_flush_request() {
                    self.send_peers();
                }
            }
            if !slots.is_full() {
                return false;
            }
        }
        self.counters.receive_budget_hit += 1;
        true
    }

    /// Sends the core's batches to the other shards. While a shard is behind, the core keeps its
    /// batch.
    fn send_peers(&mut self) {
        let peers = &self.mailboxes.peers;
        for to in 0..peers.shards() {
            if !self.core.has_peer(to) {
                continue;
            }
            let Some(mut batch) = peers.spare(to) else {
                self.counters.peer_lane_full += 1;
                continue;
            };
            if self.core.take_peer(to, &mut batch) {
                peers.send(to, batch);
            } else {
                peers.give_back(to, batch);
            }
        }
    }

    /// Waits for work. If there is `more` already, only polls.
    fn wait(&mut self, more: bool, fds: &mut [PollFd<'_>]) -> io::Result<()> {
        let Mailboxes { commands, peers, waker } = &self.mailboxes;
        waker.prepare_sleep();
        let busy = more || !commands.is_empty() || !peers.is_empty() || commands.is_closed();
        let asleep_at = (!busy).then(Instant::now);
        let timeout = asleep_at
            .map_or(Duration::ZERO, |now| self.core.next_timeout().saturating_duration_since(now));
        poll(fds, Some(timeout)).inspect_err(|error| error!("a shard cannot wait: {error}"))?;
        self.counters.asleep += asleep_at.map_or(Duration::ZERO, |since| since.elapsed());
        waker.woke(fds.first().is_some_and(PollFd::is_ready));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, sync::mpsc, thread};

    use super::*;
    use crate::{
        EngineConfig,
        dest::Dest,
        io::bind_sockets,
        mailbox::{CommandSender, command_lane, peer_ports},
    };

    /// A batch with this many datagrams for the next shard is full.
    const FULL_BATCH: usize = 4;

    /// Echoes datagrams through the next shard: a datagram from the network goes to the peer as
    /// (address, bytes), and the peer sends it to `address`. Commands come back as events, and each
    /// timeout emits its number.
    struct Relay {
        me: usize,
        shards: usize,
        held: VecDeque<(SocketAddr, Vec<u8>)>,
        events: Vec<u32>,
        timeout: Instant,
        timeouts: u32,
    }

    impl ShardCore for Relay {
        type Command = u32;
        type Peer = VecDeque<(SocketAddr, Vec<u8>)>;
        type Event = u32;

        fn on_command(&mut self, _: Instant, command: u32, _: &mut SocketOutbox) {
            self.events.push(command);
        }

        fn on_peer(&mut self, _: Instant, batch: &mut Self::Peer, out: &mut SocketOutbox) {
            for (remote, bytes) in batch.drain(..) {
                let dest = Dest { remote, local_ip: None, socket: 0 };
                let room = out.reserve(&dest, bytes.len()).unwrap();
                room.copy_from_slice(&bytes);
                out.commit(bytes.len());
            }
        }

        fn on_datagram(
            &mut self,
            _: Instant,
            _: SocketAddr,
            remote: SocketAddr,
            bytes: &mut [u8],
            _: &mut SocketOutbox,
        ) {
            assert!(self.held.len() < FULL_BATCH, "they should have left");
            self.held.push_back((remote, bytes.to_vec()));
        }

        fn flush(&mut self, _: Instant, _: &mut SocketOutbox) {}

        fn next_timeout(&self) -> Instant {
            self.timeout
        }

        fn on_timeout(&mut self, now: Instant, _: &mut SocketOutbox) {
            self.timeouts += 1;
            self.timeout = now + Duration::from_millis(1);
            if self.timeouts == 3 {
                self.events.push(u32::MAX);
            }
        }

        fn take_peer(&mut self, to: usize, spare: &mut Self::Peer) -> bool {
            self.has_peer(to) && {
                std::mem::swap(spare, &mut self.held);
                true
            }
        }

        fn has_peer(&self, to: usize) -> bool {
            to == (self.me + 1) % self.shards && !self.held.is_empty()
        }

        fn take_peer_flush_request(&mut self) -> bool {
            self.held.len() >= FULL_BATCH
        }

        fn events(&mut self) -> impl Iterator<Item = u32> {
            self.events.drain(..)
        }

        fn on_events_dropped(&mut self, _: u64) {}

        fn is_leaving(&self) -> bool {
            false
        }

        fn on_sent(&mut self, _: Instant) {}

        fn on_counters(&mut self, counters: &LoopCounters, _: &SendCounters, _: Waiting) {
            assert!(counters.ticks > 0);
        }
    }

    type Running = (Vec<CommandSender<u32>>, Vec<thread::JoinHandle<io::Result<()>>>);

    fn start(shards: usize, events: &mpsc::Sender<(usize, u32)>) -> (SocketAddr, Running) {
        let config = EngineConfig {
            bind: vec!["127.0.0.1:0".parse().unwrap()],
            shards: shards as u16,
            socket_buffer: 1 << 17,
            ..EngineConfig::default()
        };
        let bound = bind_sockets(&config).unwrap();
        let wakers: Vec<_> = (0..shards).map(|_| Arc::new(Waker::new().unwrap())).collect();
        let ports = peer_ports(&wakers, 64, |_| VecDeque::new());
        let mut running = (Vec::new(), Vec::new());
        for (me, ((sockets, peers), waker)) in
            bound.shards.into_iter().zip(ports).zip(wakers).enumerate()
        {
            let (sender, commands) = command_lane(8, waker.clone());
            let core = Relay {
                me,
                shards,
                held: VecDeque::new(),
                events: Vec::new(),
                timeout: Instant::now(),
                timeouts: 0,
            };
            let shard = ShardLoop::new(
                core,
                SocketOutbox::new(sockets, true),
                Mailboxes { commands, peers, waker },
            );
            let events = events.clone();
            let run = move || shard.run(|event| events.send((me, event)).is_ok());
            running.0.push(sender);
            running.1.push(thread::spawn(run));
        }
        (bound.local_addrs[0], running)
    }

    #[test]
    fn datagrams_cross_shards_commands_arrive_in_order_and_timers_fire() {
        let (events, told) = mpsc::channel();
        let (addr, (senders, threads)) = start(3, &events);
        let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        for n in 0..50u8 {
            client.send_to(&[n; 100], addr).unwrap();
            let mut bytes = [0; 200];
            let (len, from) = client.recv_from(&mut bytes).unwrap();
            assert_eq!((bytes.get(..len), from), (Some(&[n; 100][..]), addr));
        }
        // At once, more than the batch of one tick has room for.
        for _ in 0..50 {
            client.send_to(&[7; 100], addr).unwrap();
        }
        for _ in 0..50 {
            assert_eq!(client.recv(&mut [0; 200]).unwrap(), 100);
        }
        let told_by = |shard: usize, count: usize| {
            let mut commands = Vec::new();
            let mut timer = false;
            while commands.len() < count || !timer {
                match told.recv_timeout(Duration::from_secs(10)).unwrap() {
                    (_, u32::MAX) => timer = true,
                    (from, command) => {
                        assert_eq!(from, shard);
                        commands.push(command);
                    }
                }
            }
            commands
        };
        for n in 0..1000 {
            senders[1].send(n);
        }
        assert_eq!(told_by(1, 1000), (0..1000).collect::<Vec<_>>());
        drop(senders);
        for thread in threads {
            thread.join().unwrap().unwrap();
        }
    }
}
