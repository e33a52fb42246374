//! The core of a shard: everything it does with packets, without I/O. Time, datagrams and commands go
//! in; datagrams, batches for other shards and events come out. The same code runs under sockets
//! ([`super::thread`]) and under a simulated network with virtual time.
//!
//! The packet path, in the order in which a packet takes it: [`Core::on_datagram`] →
//! [`Sender::on_rtp`](crate::ingress::Sender::on_rtp) → `Core::route` →
//! [`Feed::push`](crate::egress::Feed::push) → [`Core::flush`] →
//! [`Receiver::offer`](crate::egress::Receiver::offer) →
//! [`Poll::receiver`](crate::egress::receiver::poll::Poll::receiver) →
//! [`write_rtp`](crate::egress::wire::write_rtp).
#![expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "counters of 64 bits, and times of this process; milliseconds may wrap"
)]

mod allocate;
#[cfg(any(test, feature = "sim"))]
mod checks;
mod command;
#[cfg(test)]
mod consistency;
mod endpoint;
mod feedback;
mod forward;
mod inbound;
mod outbox;
mod peer;
mod reports;
mod setup;
mod snapshot;
mod timers;
#[cfg(test)]
mod upstream;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

use rialto_media::{
    Descriptions, DropCounters, EndpointId, HashKey, KeyedMap, ShardId, SourceId, TransportEvent,
};
use rustc_hash::FxHashMap;
use slotmap::SlotMap;

pub use command::ShardCommand;
pub use endpoint::Endpoint;
pub use outbox::{Collected, Outbox};
pub use peer::{PeerBatch, PeerBatches, PeerItem};

use super::{
    api::{AllocationConfig, BandwidthConfig, MediaEvent, ShardTotals, Waiting, Wish},
    audio::AudioConfig,
    delay::DelayHistogram,
    slots::{EndpointSlot, FeedSlot, OutStreamSlot, SourceSlot},
};
use crate::{
    egress::{Feed, allocation::Allocator, company::Company, receiver::poll::Scratch},
    ingress::{Voices, keyframe::KeyframeLimits, rate::StepClock},
};

/// Largest datagram that is taken or made; what a path without fragments carries.
pub const MAX_DATAGRAM: usize = 1_500;

/// Largest datagram of DTLS that is taken: a flight with a certificate of 16 KB, of a peer whose library
/// writes into a buffer that forgets where datagrams end. IP carries it in fragments.
pub const MAX_FLIGHT: usize = 20 << 10;

/// Periodic work is looked at this often while there are endpoints: as often as transport-wide feedback
/// leaves. Each look wakes a shard that may have nothing else to do.
const TICK: Duration = crate::ingress::twcc::INTERVAL;
/// What cannot wait for that is looked at this soon: packets to be asked for again, keyframe requests.
/// It also forgives small reordering.
const URGENT_TICK: Duration = Duration::from_millis(10);
/// The hash key of the address table; those of endpoints' maps go by their ids.
const ADDRESSES: u64 = 1 << 32;
/// While there are no endpoints.
const IDLE_TICK: Duration = Duration::from_secs(1);

/// How a shard's core is set up.
#[derive(Clone, Debug)]
pub struct CoreConfig {
    /// Which shard it is.
    pub shard: ShardId,
    /// How many there are.
    pub shards: u16,
    /// The addresses that each shard's sockets are bound to; [`Dest::socket`](crate::dest::Dest) is
    /// an index into them.
    pub sockets: Vec<SocketAddr>,
    /// How long a video packet may wait for the rest of its frame.
    pub video_hold: Duration,
    /// Bounds and start of the estimate of each receiver's link.
    pub bandwidth: BandwidthConfig,
    /// How it is shared among its sources.
    pub allocation: AllocationConfig,
    /// How often keyframes are asked for.
    pub keyframes: KeyframeLimits,
    /// How audio is forwarded.
    pub audio: AudioConfig,
    /// Seed of random choices.
    pub seed: u64,
}

/// Whose packets come from an address.
#[derive(Clone, Copy, Debug)]
struct Bound {
    endpoint: EndpointId,
    home: ShardId,
    /// Where the endpoint is, if it lives on this shard. While it is set, the address is one of
    /// [`Endpoint::addresses`] and ends with the endpoint.
    slot: Option<EndpointSlot>,
}

/// Something for control.
#[derive(Clone, Debug)]
pub enum Event {
    /// For the transports.
    Transport(TransportEvent),
    /// For the conferences.
    Media(MediaEvent),
}

/// See the module's description.
#[derive(Debug)]
pub struct Core {
    config: CoreConfig,
    epoch: Instant,
    now: Instant,
    addresses: KeyedMap<SocketAddr, Bound>,
    flights: inbound::LargeFlights,
    endpoints: SlotMap<EndpointSlot, Endpoint>,
    endpoint_slots: FxHashMap<EndpointId, EndpointSlot>,
    feeds: SlotMap<FeedSlot, Feed>,
    feed_slots: FxHashMap<SourceId, FeedSlot>,
    /// The voices of each conference, where only the loudest are forwarded.
    voices: FxHashMap<u64, Voices>,
    /// How close the packets of each conference's talkers come, where audio may wait for company.
    talk: FxHashMap<u64, Company>,
    /// The home endpoint of a source, on its sender's shard.
    source_homes: FxHashMap<SourceId, EndpointSlot>,
    /// Sources with packets that have not been offered yet; some may be gone.
    dirty: Vec<FeedSlot>,
    /// Receivers whose links are to be shared out anew, each once; some may be gone.
    to_allocate: VecDeque<EndpointSlot>,
    allocator: Allocator,
    /// Memory for a receiver's videos in the order of priority.
    allocation_order: Vec<(OutStreamSlot, Wish)>,
    /// The layers of one source, while a link is shared out.
    layer_list: Vec<crate::egress::allocation::Layer>,
    /// When the rates of encodings were last measured.
    rate_clock: StepClock,
    /// Receivers to poll in this tick, each once; some may be gone.
    ready: Vec<EndpointSlot>,
    /// When receivers are to be polled that hold something back. Only what [`Queue::wake`] says counts.
    ///
    /// [`Queue::wake`]: crate::egress::receiver::queue::Queue::wake
    paced: BinaryHeap<Reverse<(Instant, EndpointSlot)>>,
    /// Feeds with receivers that wait for a keyframe, each once; some may be gone, or wait no longer.
    waiting_feeds: Vec<FeedSlot>,
    peers: PeerBatches,
    events: Vec<Event>,
    next_tick: Instant,
    /// Senders of whom a keyframe is to be asked for ahead, and when.
    ahead: BinaryHeap<Reverse<(Instant, EndpointSlot)>>,
    /// Senders that something must be asked of soon, each once; some may be gone.
    urgent: Vec<EndpointSlot>,
    /// When they are looked at; `None`: there is none.
    urgent_at: Option<Instant>,
    descriptions: Descriptions,
    next_levels: Instant,
    next_snapshot: Instant,
    last_snapshot: Instant,
    /// The snapshot that is being made.
    survey: Option<snapshot::Survey>,
    /// Time asleep by then, µs.
    last_asleep_us: u64,
    random: u64,
    /// Totals since the start.
    pub totals: ShardTotals,
    /// Drops since the start, by reason.
    pub drops: DropCounters,
    /// How long packets took through this shard, since the start.
    pub delays: DelayHistogram,
    /// How long pacers held packets back, since the start.
    pub pacing: DelayHistogram,
    /// The most that waited in its lanes since the last snapshot.
    pub waiting: Waiting,
    /// When the oldest of the packets came that have just been written and not left yet.
    leaving: Option<Instant>,
    scratch: Scratch,
    /// Memory for a list of all endpoints.
    endpoint_list: Vec<EndpointSlot>,
    /// The same for sources of one endpoint.
    source_list: Vec<SourceSlot>,
}

impl Core {
    /// A core without endpoints. `now` becomes its epoch.
    pub fn new(config: CoreConfig, now: Instant) -> Self {
        let peers = PeerBatches::new(config.shard, config.shards);
        let random = config.seed ^ (u64::from(config.shard.0) << 48) | 1;
        Self {
            epoch: now,
            now,
            flights: inbound::LargeFlights::new(now),
            addresses: KeyedMap::with_hasher(HashKey::new(config.seed, ADDRESSES)),
            endpoints: SlotMap::default(),
            endpoint_slots: FxHashMap::default(),
            feeds: SlotMap::default(),
            feed_slots: FxHashMap::default(),
            voices: FxHashMap::default(),
            talk: FxHashMap::default(),
            source_homes: FxHashMap::default(),
            dirty: Vec::new(),
            to_allocate: VecDeque::new(),
            allocator: Allocator::new(config.allocation),
            allocation_order: Vec::new(),
            layer_list: Vec::new(),
            rate_clock: StepClock::new(now),
            ready: Vec::new(),
            paced: BinaryHeap::new(),
            waiting_feeds: Vec::new(),
            peers,
            events: Vec::new(),
            next_tick: now,
            urgent: Vec::new(),
            urgent_at: None,
            ahead: BinaryHeap::new(),
            descriptions: Descriptions::default(),
            next_levels: now,
            next_snapshot: now,
            last_snapshot: now,
            survey: None,
            last_asleep_us: 0,
            random,
            totals: ShardTotals::default(),
            drops: DropCounters::default(),
            delays: DelayHistogram::default(),
            pacing: DelayHistogram::default(),
            waiting: Waiting::default(),
            leaving: None,
            scratch: Scratch::default(),
            endpoint_list: Vec::new(),
            source_list: Vec::new(),
            config,
        }
    }

    /// Which shard it is.
    pub fn shard(&self) -> ShardId {
        self.config.shard
    }

    /// Applies a command. What must leave at once (a datagram of control, a BYE) goes to `out`.
    pub fn on_command(&mut self, now: Instant, command: ShardCommand, out: &mut impl Outbox) {
        self.now = now;
        self.apply(command, out);
    }

    /// Takes a datagram from the network; its bytes are decrypted in place.
    #[inline]
    pub fn on_datagram(
        &mut self,
        now: Instant,
        local: SocketAddr,
        remote: SocketAddr,
        bytes: &mut [u8],
    ) {
        self.now = now;
        self.totals.datagrams_received += 1;
        self.inbound(local, remote, bytes);
    }

    /// Takes what another shard sent; empties the batch.
    pub fn on_peer(&mut self, now: Instant, batch: &mut PeerBatch) {
        self.now = now;
        let from = batch.from;
        batch.drain(|item, bytes| self.on_peer_item(from, item, bytes));
    }

    /// The end of a batch: whatever is due leaves.
    pub fn flush(&mut self, now: Instant, out: &mut impl Outbox) {
        self.now = now;
        self.flush_due(out);
    }

    /// Whether something was written that has not left yet.
    #[inline]
    pub fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// What was written has left at `now`: one measurement for all of it, the longest.
    pub fn on_sent(&mut self, now: Instant) {
        if let Some(came) = self.leaving.take() {
            self.delays.record(now.saturating_duration_since(came));
        }
    }

    /// Whether somebody here gets a source.
    pub fn receives(&self, source: SourceId) -> bool {
        self.feed_slots.contains_key(&source)
    }

    /// When [`Self::on_timeout`] wants to be called.
    pub fn next_timeout(&self) -> Instant {
        let feeds = self.dirty.iter().filter_map(|f| self.feeds.get(*f)?.due);
        let paced = self.paced.peek().map(|Reverse((at, _))| *at);
        let more = !self.ready.is_empty() || !self.to_allocate.is_empty();
        let ready = more.then_some(self.now);
        let ahead = self.ahead.peek().map(|Reverse((at, _))| *at);
        feeds
            .chain(self.urgent_at)
            .chain(ahead)
            .chain(paced)
            .chain(ready)
            .fold(self.next_tick, Instant::min)
    }

    /// Does what is due at `now`.
    pub fn on_timeout(&mut self, now: Instant, out: &mut impl Outbox) {
        self.now = now;
        self.flush_due(out);
        self.ask_ahead();
        if now >= self.next_tick {
            self.tick(out);
            let idle = self.endpoints.is_empty();
            self.next_tick = now + if idle { IDLE_TICK } else { TICK };
        } else if self.urgent_at.is_some_and(|at| now >= at) {
            self.urgent_feedback(out);
        }
    }

    /// A sender must be asked for something soon.
    fn set_urgent(&mut self, slot: EndpointSlot) {
        self.urgent_at.get_or_insert(self.now + URGENT_TICK);
        if let Some(e) = self.endpoints.get_mut(slot)
            && !std::mem::replace(&mut e.urgent, true)
        {
            self.urgent.push(slot);
        }
    }

    /// Does something with each endpoint.
    fn for_each_endpoint(&mut self, mut each: impl FnMut(&mut Self, EndpointSlot)) {
        let mut all = std::mem::take(&mut self.endpoint_list);
        all.extend(self.endpoints.keys());
        for slot in all.drain(..) {
            each(self, slot);
        }
        self.endpoint_list = all;
    }

    /// Exchanges the batch for a shard, if it has content, for an empty one.
    pub fn take_peer(&mut self, shard: ShardId, spare: &mut PeerBatch) -> bool {
        self.peers.take(shard, spare)
    }

    /// Whether there is something for a shard.
    pub fn has_peer(&self, shard: ShardId) -> bool {
        self.peers.has(shard)
    }

    /// Whether batches for other shards should leave before the end of the tick; true once for each
    /// that has become half full.
    pub fn peers_press(&mut self) -> bool {
        self.peers.half_full()
    }

    /// What has happened for control since the last call.
    pub fn events(&mut self) -> std::vec::Drain<'_, Event> {
        self.events.drain(..)
    }

    fn now_ms(&self) -> u32 {
        self.now.saturating_duration_since(self.epoch).as_millis() as u32
    }

    /// xorshift64*: for values whose secrecy little depends on (which SSRCs share a cell).
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}
