//! Starts and stops the engine: sockets, threads and lanes around the cores of the shards.
//!
//! Threads: `shard-0`, `shard-1`, … Queues: for each shard one lane of commands, and one lane of
//! batches to each other shard ([`super::mailbox`]); one queue of transport events and one of media
//! events, from all shards to control.
#![expect(
    clippy::disallowed_types,
    reason = "control's commands are put in order under one mutex, off the packet path"
)]
#![expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "numbers of shards, and counters of 64 bits"
)]

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Instant,
};

use rialto_media::{ShardId, TransportEvent};
use tokio::sync::mpsc;
use tracing::error;

use super::{
    api::{EngineConfig, MediaEvent, StartError, Waiting},
    core::{ControlEvent, Core, CoreConfig, Outbox, PeerBatch, ShardCommand},
    director::{CommandSink, Director},
    handle::{Control, ControlSink, Engine},
    io::{BoundSockets, SendCounters, SocketOutbox, bind_sockets},
    mailbox::{CommandReceiver, CommandSender, PeerPort, Waker, command_lane, peer_ports},
    thread::{LoopCounters, Mailboxes, ShardCore, ShardLoop},
};

/// Commands that a lane holds before a mutex is needed: some hundred joins.
const COMMANDS: usize = 4_096;

/// Batches in flight from one shard to another. While all are in flight, the sender's next batch
/// grows.
const PEER_BATCHES: usize = 16;

/// Capacity of the queue of STUN and DTLS datagrams for control. At 1.5 kB each they are 12 MB.
const TRANSPORT_EVENTS: usize = 8_192;

/// Capacity of the queue of media events for control.
const MEDIA_EVENTS: usize = 8_192;

/// A running engine.
#[derive(Debug)]
pub struct Running {
    /// Control's handle.
    pub engine: Engine,
    /// Events for the transports.
    pub transport_events: mpsc::Receiver<TransportEvent>,
    /// Events for the bridge.
    pub media_events: mpsc::Receiver<MediaEvent>,
    /// The engine's threads.
    pub threads: EngineThreads,
}

/// Binds the sockets and starts a thread for each shard.
///
/// # Errors
/// An address cannot be bound, or a thread cannot be started.
pub fn start(config: &EngineConfig) -> Result<Running, StartError> {
    let BoundSockets { shards, local_addrs } = bind_sockets(config)?;
    let wakers =
        shards.iter().map(|_| Waker::new().map(Arc::new)).collect::<io::Result<Vec<_>>>()?;
    let ports = peer_ports(&wakers, PEER_BATCHES, |from| PeerBatch::new(ShardId(from as u16)));
    let (transport, transport_events) = mpsc::channel(TRANSPORT_EVENTS);
    let (media, media_events) = mpsc::channel(MEDIA_EVENTS);
    let events = Events { transport, media };

    let mut threads = Vec::new();
    let mut lanes = Vec::new();
    for (shard, ((sockets, port), waker)) in shards.into_iter().zip(ports).zip(wakers).enumerate() {
        let core_config = CoreConfig {
            shard: ShardId(shard as u16),
            shards: config.shards.max(1),
            sockets: local_addrs.clone(),
            video_hold: config.video_hold,
            bandwidth: config.bandwidth,
            allocation: config.allocation,
            keyframes: config.keyframes,
            audio: config.audio,
            seed: config.seed,
        };
        let (sender, commands) = command_lane(COMMANDS, waker.clone());
        lanes.push(sender);
        let outbox = SocketOutbox::new(sockets, config.gso);
        threads.push(spawn(core_config, outbox, (commands, port, waker), events.clone())?);
    }
    let director = Director::new(config.shards.max(1));
    let sink = Arc::new(Sink(Mutex::new(Directed { director, lanes: Lanes(lanes) })));
    Ok(Running {
        engine: Engine::new(sink.clone(), local_addrs),
        transport_events,
        media_events,
        threads: EngineThreads { sink, threads },
    })
}

type ShardMail = (CommandReceiver<ShardCommand>, PeerPort<PeerBatch>, Arc<Waker>);

fn spawn(
    config: CoreConfig,
    outbox: SocketOutbox,
    (commands, peers, waker): ShardMail,
    events: Events,
) -> io::Result<JoinHandle<()>> {
    let shard = config.shard;
    thread::Builder::new().name(format!("shard-{shard}")).spawn(move || {
        let core = Core::new(config, Instant::now());
        let shard_loop = ShardLoop::new(core, outbox, Mailboxes { commands, peers, waker });
        if let Err(error) = shard_loop.run(|event| events.offer(event)) {
            error!("shard {shard} has ended: {error}");
        }
    })
}

/// The engine's threads. Dropping this stops them.
#[derive(Debug)]
pub struct EngineThreads {
    sink: Arc<Sink>,
    threads: Vec<JoinHandle<()>>,
}

impl EngineThreads {
    /// Returns whether all threads run. A thread that ended on its own has a fault.
    pub fn are_running(&self) -> bool {
        !self.threads.iter().any(JoinHandle::is_finished)
    }
}

impl Drop for EngineThreads {
    fn drop(&mut self) {
        self.sink.lanes(|directed| directed.lanes.0.clear());
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                error!("an engine thread has panicked");
            }
        }
    }
}

/// Turns control's commands into commands for shards.
#[derive(Debug)]
struct Sink(Mutex<Directed>);

#[derive(Debug)]
struct Directed {
    director: Director,
    lanes: Lanes,
}

#[derive(Debug)]
struct Lanes(Vec<CommandSender<ShardCommand>>);

impl Sink {
    fn lanes(&self, with: impl FnOnce(&mut Directed)) {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl ControlSink for Sink {
    fn control(&self, control: Control) {
        self.lanes(|Directed { director, lanes }| director.control(control, lanes));
    }
}

impl CommandSink for Lanes {
    fn send(&mut self, shard: ShardId, command: ShardCommand) {
        let Some(lane) = self.0.get(usize::from(shard.0)) else { return };
        if matches!(command, ShardCommand::Transmit { .. }) {
            lane.send_or_drop(command);
        } else {
            lane.send(command);
        }
    }
}

/// Queues of events to control.
#[derive(Clone, Debug)]
struct Events {
    transport: mpsc::Sender<TransportEvent>,
    media: mpsc::Sender<MediaEvent>,
}

impl Events {
    /// Returns false if the queue is full and the event was dropped.
    fn offer(&self, event: ControlEvent) -> bool {
        match event {
            ControlEvent::Transport(event) => self.transport.try_send(event).is_ok(),
            ControlEvent::Media(event) => self.media.try_send(event).is_ok(),
        }
    }
}

impl Outbox for SocketOutbox {
    fn reserve(&mut self, dest: &crate::dest::Dest, max_len: usize) -> Option<&mut [u8]> {
        SocketOutbox::reserve(self, dest, max_len)
    }

    fn commit(&mut self, len: usize) {
        SocketOutbox::commit(self, len);
    }
}

impl ShardCore for Core {
    type Command = ShardCommand;
    type Peer = PeerBatch;
    type Event = ControlEvent;

    fn on_command(&mut self, now: Instant, command: ShardCommand, out: &mut SocketOutbox) {
        Core::on_command(self, now, command, out);
    }

    fn on_peer(&mut self, now: Instant, batch: &mut PeerBatch, _: &mut SocketOutbox) {
        Core::on_peer(self, now, batch);
    }

    fn on_datagram(
        &mut self,
        now: Instant,
        local: SocketAddr,
        remote: SocketAddr,
        bytes: &mut [u8],
        _: &mut SocketOutbox,
    ) {
        Core::on_datagram(self, now, local, remote, bytes);
    }

    fn flush(&mut self, now: Instant, out: &mut SocketOutbox) {
        Core::flush(self, now, out);
    }

    fn next_timeout(&self) -> Instant {
        Core::next_timeout(self)
    }

    fn on_timeout(&mut self, now: Instant, out: &mut SocketOutbox) {
        Core::on_timeout(self, now, out);
    }

    fn take_peer(&mut self, to: usize, spare: &mut PeerBatch) -> bool {
        Core::take_peer(self, ShardId(to as u16), spare)
    }

    fn has_peer(&self, to: usize) -> bool {
        Core::has_peer(self, ShardId(to as u16))
    }

    fn take_peer_flush_request(&mut self) -> bool {
        Core::take_peer_flush_request(self)
    }

    fn events(&mut self) -> impl Iterator<Item = ControlEvent> {
        Core::events(self)
    }

    fn on_events_dropped(&mut self, count: u64) {
        self.totals.events_dropped += count;
    }

    fn is_leaving(&self) -> bool {
        Core::is_leaving(self)
    }

    fn on_sent(&mut self, now: Instant) {
        Core::on_sent(self, now);
    }

    fn on_counters(&mut self, counters: &LoopCounters, sent: &SendCounters, waiting: Waiting) {
        self.waiting = self.waiting.max(waiting);
        self.totals.asleep_us = counters.asleep.as_micros() as u64;
        self.totals.receive_errors = counters.receive_errors;
        self.totals.budgets_hit =
            counters.command_budget_hit + counters.peer_budget_hit + counters.receive_budget_hit;
        self.totals.send_calls = sent.calls;
        self.totals.datagrams_sent = sent.datagrams;
        self.totals.send_errors = sent.failed + sent.blocked;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;

    fn config(shards: u16) -> EngineConfig {
        EngineConfig {
            bind: vec!["127.0.0.1:0".parse().unwrap()],
            shards,
            socket_buffer: 1 << 17,
            ..EngineConfig::default()
        }
    }

    #[tokio::test]
    async fn stun_goes_to_control_and_its_answer_out_from_any_shard() {
        for shards in [1, 4] {
            let mut running = start(&config(shards)).unwrap();
            let addr = running.engine.local_addrs()[0];
            let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let mut request = [0; 20];
            request[..8].copy_from_slice(&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
            client.send_to(&request, addr).unwrap();
            let Some(TransportEvent::Stun(datagram)) = running.transport_events.recv().await else {
                panic!("no event");
            };
            assert_eq!(datagram.bytes, &request[..]);
            assert_eq!(datagram.local, addr);
            assert_eq!(datagram.remote, client.local_addr().unwrap());
            for shard in 0..shards {
                running.engine.send(Control::Transmit {
                    shard: ShardId(shard),
                    local: datagram.local,
                    remote: datagram.remote,
                    bytes: Bytes::from_static(b"answer"),
                });
                let mut bytes = [0; 100];
                let (len, from) = client.recv_from(&mut bytes).unwrap();
                assert_eq!((bytes.get(..len), from), (Some(&b"answer"[..]), addr));
            }
            assert!(running.threads.are_running());
        }
    }

    #[tokio::test]
    async fn dropping_the_threads_ends_them_and_their_events() {
        let mut running = start(&config(2)).unwrap();
        drop(running.threads);
        assert!(running.transport_events.recv().await.is_none());
        while running.media_events.recv().await.is_some() {}
        // The handle may outlive the engine; its commands then have no effect.
        running.engine.send(Control::RemoveEndpoint(rialto_media::EndpointId(0)));
    }
}
