//! One receiver on its home shard: an object that owns everything that is sent to one endpoint.
//! Sources offer packets to it; [`poll`] decides which of them leave now, and in which form.

pub mod allocation_state;
pub mod budget;
mod emit;
pub mod history;
pub mod link;
pub mod numbers;
mod plan;
pub mod poll;
pub mod premature;
pub mod projection;
pub mod queue;
pub mod redundancy;
mod reported;
pub mod retained_requests;
pub mod stream;
pub mod vacated;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rialto_media::{HashKey, KeyedMap, PtMap, SlotSsrcs, SubscriptionParams};
use rialto_srtp::TxContext;
use slotmap::SlotMap;

pub use self::stream::Stream;
use self::{
    allocation_state::AllocationState,
    budget::ResendBudget,
    link::Link,
    numbers::{SsrcNumbers, SsrcRefused},
    queue::Queue,
    redundancy::Losses,
    retained_requests::RetainedRequests,
    stream::Begin,
    vacated::VacatedSlots,
};
use crate::{
    dest::Dest,
    egress::{SourceFeed, source::Subscriber},
    slots::{EndpointSlot, FeedSlot, OutStreamSlot},
};

/// Round-trip time assumed until one is measured.
pub const DEFAULT_RTT: Duration = Duration::from_millis(100);

/// The sending side of an endpoint.
#[derive(Debug)]
pub struct Receiver {
    /// Keys; `None` until the DTLS handshake is done.
    pub tx: Option<TxContext>,
    /// The address to send to.
    pub dest: Option<Dest>,
    /// Its streams, each with its own numbering.
    pub streams: SlotMap<OutStreamSlot, Stream>,
    /// Streams by SSRC, as feedback names them.
    pub by_ssrc: KeyedMap<u32, OutStreamSlot>,
    /// The next unused numbers of SSRCs under the current key.
    pub numbers: SsrcNumbers,
    /// Slots without a source.
    pub vacated: VacatedSlots,
    /// Packets that wait to be sent.
    pub queue: Queue,
    /// Its constraints and its bandwidth allocation.
    pub allocation: AllocationState,
    /// The estimate of its bandwidth; `None` if it negotiated no feedback.
    pub link: Option<Box<Link>>,
    /// The round-trip time to use: what the receiver reports, but not less than what ICE measured.
    pub rtt: Option<Duration>,
    /// The last measurement of ICE. A STUN response cannot be sent before its request has arrived,
    /// so this cannot be understated.
    ice_rtt: Option<Duration>,
    /// The round-trip time from the receiver's last report, in which the receiver claims how long
    /// it held the report back.
    reported_rtt: Option<Duration>,
    /// The retransmission budget.
    pub resend: ResendBudget,
    /// Keyframe requests for sources that it no longer gets.
    pub retained_requests: RetainedRequests,
    /// Whether it loses audio.
    pub audio_losses: Losses,
    /// Packets and bytes sent.
    pub sent: (u64, u64),
    /// The same counts at the last snapshot.
    pub sent_before: (u64, u64),
}

impl Receiver {
    /// Creates a receiver that cannot be sent anything yet.
    pub fn new(allocation: AllocationState) -> Self {
        Self {
            tx: None,
            dest: None,
            streams: SlotMap::default(),
            by_ssrc: KeyedMap::default(),
            numbers: SsrcNumbers::default(),
            vacated: VacatedSlots::default(),
            queue: Queue::default(),
            allocation,
            link: None,
            rtt: None,
            ice_rtt: None,
            reported_rtt: None,
            resend: ResendBudget::default(),
            retained_requests: RetainedRequests::default(),
            audio_losses: Losses::default(),
            sent: (0, 0),
            sent_before: (0, 0),
        }
    }

    /// Sets the secret hash key of the maps by SSRC, which must be empty.
    pub fn set_hash_key(&mut self, key: HashKey) {
        self.by_ssrc = KeyedMap::with_hasher(key);
        self.numbers.set_hash_key(key);
    }

    /// Handles a round-trip time that ICE measured.
    pub fn on_ice_round_trip(&mut self, now: Instant, rtt: Duration) {
        self.ice_rtt = Some(rtt);
        self.believe(now);
    }

    /// Handles a round-trip time from a receiver report.
    pub fn on_reported_round_trip(&mut self, now: Instant, rtt: Duration) {
        self.reported_rtt = Some(rtt);
        self.believe(now);
    }

    fn believe(&mut self, now: Instant) {
        let least = self.ice_rtt.unwrap_or(DEFAULT_RTT);
        self.rtt = self.reported_rtt.or(self.ice_rtt).map(|rtt| rtt.max(least));
        if let (Some(link), Some(rtt)) = (self.link.as_mut(), self.rtt) {
            link.estimator.on_round_trip(now, rtt);
        }
    }

    /// The round-trip time to use, or a default until one is measured.
    pub fn round_trip(&self) -> Duration {
        self.rtt.unwrap_or(DEFAULT_RTT)
    }

    /// Sets new keys. Every index is unused under them.
    pub fn set_keys(&mut self, tx: TxContext) {
        self.tx = Some(tx);
        self.numbers.new_keys();
    }

    /// Returns whether its link has room for redundant audio; without a link nothing limits it. `None`: no
    /// audio was measured.
    pub fn affords_redundancy(&self, now: Instant) -> Option<bool> {
        let Some(link) = &self.link else { return Some(true) };
        let redundant = self.audio_losses.happen(now);
        self.allocation.affords_redundancy(link.estimator.target_bps(), redundant)
    }

    /// Returns whether anything can be sent to it.
    pub fn is_ready(&self) -> bool {
        self.tx.is_some() && self.dest.is_some()
    }

    /// Marks a stream as having packets to send. Returns whether no stream had any before: the
    /// shard must then poll the receiver.
    #[inline]
    pub fn offer(&mut self, slot: OutStreamSlot) -> bool {
        if let Some(stream) = self.streams.get_mut(slot)
            && !std::mem::replace(&mut stream.queued, true)
        {
            self.queue.push(slot, stream.is_video());
        }
        !std::mem::replace(&mut self.queue.listed, true)
    }

    /// Returns the stream with an SSRC.
    pub fn stream_by_ssrc(&mut self, ssrc: u32) -> Option<(OutStreamSlot, &mut Stream)> {
        let slot = *self.by_ssrc.get(&ssrc)?;
        Some((slot, self.streams.get_mut(slot)?))
    }

    /// Begins a stream of the source at `at` on this shard, under the SSRCs of its slot or under
    /// the source's own. `own` is this receiver's endpoint.
    ///
    /// # Errors
    /// [`SsrcRefused`]: nothing may be sent under its SSRC.
    pub fn add_stream(
        &mut self,
        own: EndpointSlot,
        at: FeedSlot,
        feed: &mut SourceFeed,
        terms: SubscriptionParams,
        payload_types: Arc<PtMap>,
    ) -> Result<OutStreamSlot, SsrcRefused> {
        let source = &feed.info.spec;
        let first = source.encodings.first();
        let first = first.map(|first| SlotSsrcs { ssrc: first.ssrc, rtx: first.rtx });
        let SlotSsrcs { ssrc, rtx } = terms.slot.or(first).ok_or(SsrcRefused::Lacking)?;
        let next = self.numbers.begin(ssrc)?;
        let rtx_next = rtx.and_then(|rtx| self.numbers.begin(rtx).ok());
        let id = source.id;
        let begin = Begin {
            ssrc,
            rtx: rtx.zip(rtx_next),
            next,
            after: terms.slot.and_then(|slot| self.vacated.take(slot.ssrc)),
            ready: self.is_ready(),
            terms,
            payload_types,
        };
        if self.streams.capacity() == 0 {
            // The default would reserve room for three, of a KiB each.
            self.streams = SlotMap::with_capacity_and_key(1);
        }
        let stream = self.streams.insert(Stream::new(at, feed, begin));
        let subscriber = feed.subscribe(Subscriber { receiver: own, stream });
        let keyframes = self.retained_requests.take(id);
        if let Some(s) = self.streams.get_mut(stream) {
            (s.subscriber, s.keyframes) = (subscriber, keyframes);
        }
        self.by_ssrc.insert(ssrc, stream);
        Ok(stream)
    }

    /// Ends a stream, and remembers the next unused numbers of its SSRCs.
    pub fn remove_stream(&mut self, slot: OutStreamSlot, random: u64) -> Option<Stream> {
        let gone = self.streams.remove(slot)?;
        self.by_ssrc.remove(&gone.ssrc);
        self.numbers.end(gone.ssrc, gone.projection.next_index(), random);
        if let Some(rtx) = gone.rtx_ssrc {
            self.numbers.end(rtx, gone.rtx_next, random);
        }
        self.vacated.keep(&gone);
        Some(gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_is_never_believed_to_be_less_than_ice_measured() {
        let (ms, now) = (Duration::from_millis, Instant::now());
        let mut r = Receiver::new(AllocationState::new(&crate::AllocationConfig::default(), now));
        assert_eq!((r.rtt, r.round_trip()), (None, DEFAULT_RTT));
        r.on_reported_round_trip(now, Duration::ZERO);
        assert_eq!(r.rtt, Some(DEFAULT_RTT), "nothing was measured");
        r.on_ice_round_trip(now, ms(40));
        assert_eq!(r.rtt, Some(ms(40)));
        r.on_reported_round_trip(now, ms(70));
        assert_eq!(r.rtt, Some(ms(70)));
        r.on_ice_round_trip(now, ms(90));
        assert_eq!(r.rtt, Some(ms(90)));
        r.on_ice_round_trip(now, ms(20));
        assert_eq!(r.rtt, Some(ms(70)));
    }
}
