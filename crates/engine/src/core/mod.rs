//! The core of a shard: everything it does with packets, without I/O. Its inputs are time,
//! datagrams and commands; its outputs are datagrams, batches for other shards and events. The same
//! code runs over sockets ([`super::thread`]) and over a simulated network with virtual time.
//!
//! The packet path, in order: [`Core::on_datagram`] →
//! [`Sender::on_rtp`](crate::ingress::Sender::on_rtp) → `Core::route` →
//! [`SourceFeed::push`](crate::egress::SourceFeed::push) → [`Core::flush`] →
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
    api::{AllocationConfig, BandwidthConfig, MediaEvent, ShardTotals, SourceConstraint, Waiting},
    audio::AudioConfig,
    delay::DelayHistogram,
    slots::{EndpointSlot, FeedSlot, OutStreamSlot, SourceSlot},
};
use crate::{
    egress::{SourceFeed, allocation::Allocator, pace::ArrivalPace, receiver::poll::Scratch},
    ingress::{Speakers, keyframe::KeyframeLimits, rate::StepClock},
};

/// Largest datagram that is accepted or sent: what a path without fragmentation carries.
pub const MAX_DATAGRAM: usize = 1_500;

/// Largest DTLS datagram that is accepted: a flight with a certificate of 16 KB, from a peer whose
/// library does not keep datagram boundaries. IP carries it in fragments.
pub const MAX_FLIGHT: usize = 20 << 10;

/// Interval of periodic work while there are endpoints: that of transport-wide feedback. Each tick
/// wakes a shard that may have nothing else to do.
const TICK: Duration = crate::ingress::twcc::INTERVAL;
/// Delay of urgent feedback (NACKs and keyframe requests). It also tolerates slight reordering.
const URGENT_TICK: Duration = Duration::from_millis(10);
/// Hash key of the address table. Endpoints' own maps use their ids as keys.
const ADDRESSES: u64 = 1 << 32;
/// Interval while there are no endpoints.
const IDLE_TICK: Duration = Duration::from_secs(1);

/// Configuration of a shard's core.
#[derive(Clone, Debug)]
pub struct CoreConfig {
    /// This shard.
    pub shard: ShardId,
    /// Number of shards.
    pub shards: u16,
    /// The addresses that each shard's sockets are bound to; [`Dest::socket`](crate::dest::Dest) is
    /// an index into them.
    pub sockets: Vec<SocketAddr>,
    /// How long a video packet may wait for the rest of its frame.
    pub video_hold: Duration,
    /// Limits and initial value of the bandwidth estimates.
    pub bandwidth: BandwidthConfig,
    /// How bandwidth is allocated to a receiver's sources.
    pub allocation: AllocationConfig,
    /// Rate limits of keyframe requests.
    pub keyframes: KeyframeLimits,
    /// How audio is forwarded.
    pub audio: AudioConfig,
    /// Seed of the random choices.
    pub seed: u64,
}

/// The endpoint to which a remote address is bound.
#[derive(Clone, Copy, Debug)]
struct Bound {
    endpoint: EndpointId,
    home: ShardId,
    /// The endpoint's slot, if it lives on this shard. While this is set, the address is one of
    /// [`Endpoint::addresses`] and is removed with the endpoint.
    slot: Option<EndpointSlot>,
}

/// An event for control.
#[derive(Clone, Debug)]
pub enum ControlEvent {
    /// For the transports.
    Transport(TransportEvent),
    /// For the conferences.
    Media(MediaEvent),
}

/// The core of a shard. See the module's description.
#[derive(Debug)]
pub struct Core {
    config: CoreConfig,
    epoch: Instant,
    now: Instant,
    addresses: KeyedMap<SocketAddr, Bound>,
    flights: inbound::LargeFlights,
    endpoints: SlotMap<EndpointSlot, Endpoint>,
    endpoint_slots: FxHashMap<EndpointId, EndpointSlot>,
    feeds: SlotMap<FeedSlot, SourceFeed>,
    feed_slots: FxHashMap<SourceId, FeedSlot>,
    /// The speakers of each conference, if only the loudest are forwarded.
    speakers: FxHashMap<u64, Speakers>,
    /// How close together the packets of each conference's speakers arrive, if audio may wait for
    /// others.
    speech_pace: FxHashMap<u64, ArrivalPace>,
    /// The endpoint slot of each source whose home is this shard.
    source_homes: FxHashMap<SourceId, EndpointSlot>,
    /// Sources with packets that were not offered yet. Some may be gone.
    dirty: Vec<FeedSlot>,
    /// Receivers with a scheduled allocation, each once. Some may be gone.
    to_allocate: VecDeque<EndpointSlot>,
    allocator: Allocator,
    /// Scratch space: a receiver's videos in order of priority.
    allocation_order: Vec<(OutStreamSlot, SourceConstraint)>,
    /// Scratch space: the layers of one source.
    layer_list: Vec<crate::egress::allocation::Layer>,
    /// When the bitrates of encodings were last measured.
    rate_clock: StepClock,
    /// Receivers to poll in this tick, each once. Some may be gone.
    ready: Vec<EndpointSlot>,
    /// When to poll receivers that hold packets back. An entry is valid only if it equals
    /// [`Queue::wake`].
    ///
    /// [`Queue::wake`]: crate::egress::receiver::queue::Queue::wake
    paced: BinaryHeap<Reverse<(Instant, EndpointSlot)>>,
    /// Sources with receivers that wait for a keyframe, each once. Some may be gone, or wait no
    /// longer.
    waiting_feeds: Vec<FeedSlot>,
    peers: PeerBatches,
    events: Vec<ControlEvent>,
    next_tick: Instant,
    /// Keyframe requests scheduled before any receiver asked: when, and from which sender.
    ahead: BinaryHeap<Reverse<(Instant, EndpointSlot)>>,
    /// Senders that need feedback soon, each once. Some may be gone.
    urgent: Vec<EndpointSlot>,
    /// When that feedback is sent; `None` if there is none.
    urgent_at: Option<Instant>,
    descriptions: Descriptions,
    next_levels: Instant,
    next_snapshot: Instant,
    last_snapshot: Instant,
    /// The snapshot in progress.
    survey: Option<snapshot::SnapshotInProgress>,
    /// Time asleep at the last snapshot, µs.
    last_asleep_us: u64,
    random: u64,
    /// Totals since the start.
    pub totals: ShardTotals,
    /// Drops since the start, by reason.
    pub drops: DropCounters,
    /// How long packets spent in this shard, since the start.
    pub delays: DelayHistogram,
    /// How long pacers delayed packets, since the start.
    pub pacing: DelayHistogram,
    /// Longest queues in front of the shard since the last snapshot.
    pub waiting: Waiting,
    /// When the oldest of the packets arrived that were written but not sent yet.
    leaving: Option<Instant>,
    scratch: Scratch,
    /// Scratch space: a list of all endpoints.
    endpoint_list: Vec<EndpointSlot>,
    /// Scratch space: the sources of one endpoint.
    source_list: Vec<SourceSlot>,
}

impl Core {
    /// Creates a core without endpoints. `now` becomes its epoch.
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
            speakers: FxHashMap::default(),
            speech_pace: FxHashMap::default(),
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

    /// Applies a command. What must leave at once (a datagram from control, a BYE) is written to
    /// `out`.
    pub fn on_command(&mut self, now: Instant, command: ShardCommand, out: &mut impl Outbox) {
        self.now = now;
        self.apply(command, out);
    }

    /// Handles a datagram from the network, decrypting it in place.
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

    /// Handles a batch from another shard and empties it.
    pub fn on_peer(&mut self, now: Instant, batch: &mut PeerBatch) {
        self.now = now;
        let from = batch.from;
        batch.drain(|item, bytes| self.on_peer_item(from, item, bytes));
    }

    /// Ends a batch: writes everything that is due.
    pub fn flush(&mut self, now: Instant, out: &mut impl Outbox) {
        self.now = now;
        self.flush_due(out);
    }

    /// Returns whether something was written that was not sent yet.
    #[inline]
    pub fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// Records that what was written was sent at `now`: one measurement for all of it, the longest.
    pub fn on_sent(&mut self, now: Instant) {
        if let Some(came) = self.leaving.take() {
            self.delays.record(now.saturating_duration_since(came));
        }
    }

    /// Returns whether a receiver on this shard gets a source.
    pub fn receives(&self, source: SourceId) -> bool {
        self.feed_slots.contains_key(&source)
    }

    /// Returns when [`Self::on_timeout`] is to be called.
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

    /// Does the periodic work that is due at `now`.
    pub fn on_timeout(&mut self, now: Instant, out: &mut impl Outbox) {
        self.now = now;
        self.flush_due(out);
        self.request_keyframes_ahead();
        if now >= self.next_tick {
            self.tick(out);
            let idle = self.endpoints.is_empty();
            self.next_tick = now + if idle { IDLE_TICK } else { TICK };
        } else if self.urgent_at.is_some_and(|at| now >= at) {
            self.urgent_feedback(out);
        }
    }

    /// Schedules urgent feedback to a sender.
    fn set_urgent(&mut self, slot: EndpointSlot) {
        self.urgent_at.get_or_insert(self.now + URGENT_TICK);
        if let Some(e) = self.endpoints.get_mut(slot)
            && !std::mem::replace(&mut e.urgent, true)
        {
            self.urgent.push(slot);
        }
    }

    /// Calls `each` for every endpoint.
    fn for_each_endpoint(&mut self, mut each: impl FnMut(&mut Self, EndpointSlot)) {
        let mut all = std::mem::take(&mut self.endpoint_list);
        all.extend(self.endpoints.keys());
        for slot in all.drain(..) {
            each(self, slot);
        }
        self.endpoint_list = all;
    }

    /// Swaps the pending batch for a shard with an empty one. Returns false if nothing is pending.
    pub fn take_peer(&mut self, shard: ShardId, spare: &mut PeerBatch) -> bool {
        self.peers.take(shard, spare)
    }

    /// Returns whether a batch for a shard is pending.
    pub fn has_peer(&self, shard: ShardId) -> bool {
        self.peers.has(shard)
    }

    /// Returns true once for each batch for another shard that has become half full: it should be
    /// sent before the end of the tick.
    pub fn take_peer_flush_request(&mut self) -> bool {
        self.peers.half_full()
    }

    /// Takes the events for control.
    pub fn events(&mut self) -> std::vec::Drain<'_, ControlEvent> {
        self.events.drain(..)
    }

    fn now_ms(&self) -> u32 {
        self.now.saturating_duration_since(self.epoch).as_millis() as u32
    }

    /// xorshift64*, for values that need little secrecy (which SSRCs share a cell).
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}
