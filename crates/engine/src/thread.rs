//! The loop of one shard: what it does in which order, how much of each at most, and when it sleeps.
//!
//! One tick: commands, batches of other shards, timers, what the sockets received, flush, send,
//! batches for other shards, events for control. Each phase has a budget, and a counter that says that
//! the budget was used up, in which case the next tick follows without sleep.
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

/// Commands in one tick. A join is some ten commands and takes some microseconds of each; media waits
/// for no more than a few hundred of those.
const COMMANDS: usize = 128;

/// Batches of other shards in one tick.
const PEER_BATCHES: usize = 64;

/// Datagrams of each socket in one tick, after which no further receive call is made. At some 20
/// receivers for each, they take a few milliseconds to forward, and commands and timers wait for them.
const RECEIVE_DATAGRAMS: usize = 256;

/// Slots of one receive call.
const SLOTS: usize = 32;

/// Length of a slot for single datagrams: more than any path carries without fragments.
const PLAIN_SLOT: usize = 2_048;

/// Length of a slot that may receive coalesced datagrams. An uncoalesced one touches no more of it than
/// of a small slot, and costs the same.
const GRO_SLOT: usize = 64 << 10;

/// What a shard does, without I/O. Time is passed in; datagrams are written to the outbox.
pub trait ShardCore {
    /// What control sends.
    type Command;
    /// What crosses between shards.
    type Peer;
    /// What control is told.
    type Event;

    /// Applies a command.
    fn on_command(&mut self, now: Instant, command: Self::Command, out: &mut SocketOutbox);

    /// Takes a batch of another shard and empties it.
    fn on_peer(&mut self, now: Instant, batch: &mut Self::Peer, out: &mut SocketOutbox);

    /// Takes a datagram that was sent to `local`; its bytes may be changed. One of more than 2,000
    /// bytes may be cut.
    fn on_datagram(
        &mut self,
        now: Instant,
        local: SocketAddr,
        remote: SocketAddr,
        bytes: &mut [u8],
        out: &mut SocketOutbox,
    );

    /// The end of a tick: writes what is due.
    fn flush(&mut self, now: Instant, out: &mut SocketOutbox);

    /// When [`on_timeout`](Self::on_timeout) is to be called.
    fn next_timeout(&self) -> Instant;

    /// Does what is due.
    fn on_timeout(&mut self, now: Instant, out: &mut SocketOutbox);

    /// Exchanges what there is for shard `to` for the empty `spare`; false: there is nothing.
    fn take_peer(&mut self, to: usize, spare: &mut Self::Peer) -> bool;

    /// Whether there is something for shard `to`.
    fn has_peer(&self, to: usize) -> bool;

    /// Whether what there is for other shards should leave before the end of the tick, lest it
    /// outgrow its bound. True once for each time that it comes to be so.
    fn peers_press(&mut self) -> bool;

    /// What has happened for control since the last call.
    fn events(&mut self) -> impl Iterator<Item = Self::Event>;

    /// Control was behind, and so many events were dropped.
    fn on_events_dropped(&mut self, count: u64);

    /// Whether something was written whose way through the shard is to be measured.
    fn is_leaving(&self) -> bool;

    /// What was written has left.
    fn on_sent(&mut self, now: Instant);

    /// The loop's counters, and the most that waited in its lanes since the last call, before each
    /// [`on_timeout`](Self::on_timeout).
    fn on_counters(&mut self, counters: &LoopCounters, sent: &SendCounters, waiting: Waiting);
}

/// What the loop did, since the start.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct LoopCounters {
    /// Times round.
    pub ticks: u64,
    /// Receive calls that brought something.
    pub receive_calls: u64,
    /// Receive calls that failed.
    pub receive_errors: u64,
    /// Ticks that used up the budget of commands.
    pub command_budget_hit: u64,
    /// Ticks that used up the budget of other shards' batches.
    pub peer_budget_hit: u64,
    /// Ticks that used up the budget of receive calls.
    pub receive_budget_hit: u64,
    /// Times that another shard was behind by all batches, and ours had to wait.
    pub peer_lane_full: u64,
    /// Time with nothing to do.
    pub asleep: Duration,
}

/// The mailboxes of a shard.
#[derive(Debug)]
pub struct Mailboxes<Command, Peer> {
    /// From control; the loop ends when control lets go of it.
    pub commands: CommandReceiver<Command>,
    /// From and to the other shards.
    pub peers: PeerPort<Peer>,
    /// By which they wake this shard.
    pub waker: Arc<Waker>,
}

/// A shard with everything that its thread needs.
#[derive(Debug)]
pub struct ShardLoop<C: ShardCore> {
    core: C,
    outbox: SocketOutbox,
    mailboxes: Mailboxes<C::Command, C::Peer>,
    counters: LoopCounters,
    waiting: Waiting,
}

impl<C: ShardCore> ShardLoop<C> {
    /// Puts a shard together.
    pub fn new(core: C, outbox: SocketOutbox, mailboxes: Mailboxes<C::Command, C::Peer>) -> Self {
        let (counters, waiting) = (LoopCounters::default(), Waiting::default());
        Self { core, outbox, mailboxes, counters, waiting }
    }

    /// Runs until control lets go of the command lane. `event` takes an event and never waits; false:
    /// it had to be dropped.
    ///
    /// # Errors
    /// Waiting failed; none is expected.
    pub fn run(mut self, mut event: impl FnMut(C::Event) -> bool) -> io::Result<()> {
        // Without this a wait of 250 µs may take 300.
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

    /// True: the budget was used up.
    fn commands(&mut self) -> bool {
        for _ in 0..COMMANDS {
            let Some(command) = self.mailboxes.commands.recv() else { return false };
            self.core.on_command(Instant::now(), command, &mut self.outbox);
        }
        self.counters.command_budget_hit += 1;
        true
    }

    /// True: the budget was used up.
    fn peers(&mut self) -> bool {
        for _ in 0..PEER_BATCHES {
            let Some((from, mut batch)) = self.mailboxes.peers.recv() else { return false };
            self.core.on_peer(Instant::now(), &mut batch, &mut self.outbox);
            self.mailboxes.peers.recycle(from, batch);
            if self.core.peers_press() {
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

    /// True: the budget was used up, and more may wait in the socket.
    fn receive(&mut self, socket: &UdpSocket, slots: &mut RecvBatch) -> bool {
        let bound = socket.local_addr();
        let mut budget = RECEIVE_DATAGRAMS;
        while budget > 0 {
            match slots.recv(socket) {
                Ok(0) => return false,
                Ok(_) => self.counters.receive_calls += 1,
                Err(_) => {
                    // What is told here is about a datagram sent earlier; the next call goes on.
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
                if self.core.peers_press() {
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

    /// Hands over what the core has for other shards. While a shard is behind, the core keeps it.
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

    /// Waits for something to do; only looks if there is `more` already.
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

    /// So many datagrams for the next shard are as many as there is room for.
    const PRESSING: usize = 4;

    /// Echoes datagrams through the next shard: what comes from the network goes to the peer as
    /// (address, bytes), and the peer sends it to `address`. Commands come back as events, and the
    /// timer tells its number.
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
            assert!(self.held.len() < PRESSING, "they should have left");
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

        fn peers_press(&mut self) -> bool {
            self.held.len() >= PRESSING
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
        // At once, more than there is room for in the batch of one tick.
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
