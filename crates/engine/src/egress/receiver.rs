//! One receiver on its home shard: keys, address, and what it gets.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rialto_media::{
    HashKey, KeyedMap, PtMap, SourceId, Terms,
    encodings::{self, EncodingMask},
};
use rialto_srtp::TxContext;
use rustc_hash::FxHashMap;

use super::{
    budget::ResendBudget,
    history::History,
    numbers::{FIRST, SsrcNumbers},
    projection::Projection,
};
use crate::{
    dest::Dest,
    ingress::keyframe::{ReceiverRequests, RequestLimit},
    slots::{EndpointSlot, FeedSlot, Place},
};

/// Round trip assumed before one is measured.
pub const DEFAULT_RTT: Duration = Duration::from_millis(100);

/// Whether and how a receiver can get a source.
#[derive(Debug)]
pub struct Subscription {
    /// The receiving endpoint.
    pub receiver: EndpointSlot,
    /// SSRC it sees.
    pub ssrc: u32,
    /// SSRC of retransmissions.
    pub rtx_ssrc: Option<u32>,
    /// Next index of the retransmission stream.
    pub rtx_next: u64,
    /// MID to stamp, and which encodings it may get.
    pub terms: Terms,
    /// Payload types of the receiver for those of the sender.
    pub payload_types: Arc<PtMap>,
    /// Which encoding, with which numbers.
    pub projection: Projection,
    /// What was sent.
    pub history: History,
    /// Limits of its keyframe requests.
    pub keyframes: ReceiverRequests,
    /// The encoding that it waits for, once it has asked for a keyframe of it.
    pub asked: Option<u8>,
    /// The receiver has keys and an address.
    pub ready: bool,
    /// Packets and payload bytes sent, for sender reports.
    pub packets: u32,
    /// See `packets`.
    pub octets: u32,
    /// Bytes since the last snapshot.
    pub interval_bytes: u64,
    /// Retransmissions sent.
    pub retransmissions: u64,
    /// The last sender report's middle 32 bits and when it was sent: for the next one, and to measure
    /// the round trip.
    pub last_sr: Option<(u32, Instant)>,
    /// Fraction lost as last reported, 0..=255.
    pub fraction_lost: u8,
}

impl Subscription {
    /// Encodings that it gets or waits for, and whether it waits.
    #[inline]
    pub fn wanted(&self) -> (EncodingMask, bool) {
        let (current, target) = (self.projection.current(), self.projection.target());
        (encodings::bit(current) | encodings::bit(target), self.projection.waits())
    }

    /// New keys of the receiver: numbers begin anew, as a receiver expects of them (RFC 3711 section
    /// 3.3.1), and nothing is sent again that was sent under the old.
    pub fn on_new_keys(&mut self, now_ms: u32) {
        self.projection.restart(FIRST, now_ms);
        self.rtx_next = FIRST;
        self.history.clear();
    }
}

/// Where feedback about an SSRC belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionRef {
    /// The source.
    pub source: SourceId,
    /// The feed.
    pub feed: FeedSlot,
    /// Its place among the feed's subscriptions.
    pub at: Place,
}

/// The requests for keyframes of subscriptions that have ended and may come again.
#[derive(Debug, Default)]
struct GivenUp {
    requests: FxHashMap<SourceId, ReceiverRequests>,
    /// The number at which those are looked for that no longer matter.
    tidy_at: usize,
}

/// The fewest subscriptions that have ended among which it is worth to look.
const MIN_TIDY: usize = 16;

/// The sending side of an endpoint.
#[derive(Debug, Default)]
pub struct Receiver {
    /// Keys; none before the handshake is over.
    pub tx: Option<TxContext>,
    /// Where to send.
    pub dest: Option<Dest>,
    /// Feedback's way back to the subscription.
    pub by_ssrc: KeyedMap<u32, SubscriptionRef>,
    /// How far the SSRCs of this key have come.
    pub numbers: SsrcNumbers,
    /// The round trip that is believed: what the receiver reports, but not less than what ICE measured.
    pub rtt: Option<Duration>,
    /// What ICE measured last. No answer of STUN can be given before its request is there.
    ice_rtt: Option<Duration>,
    /// What follows from the receiver's last report; it claims for how long it held the report back.
    reported_rtt: Option<Duration>,
    /// What may be sent again.
    pub resend: ResendBudget,
    /// What was asked for of sources that it has just given up: it may want them again.
    given_up: GivenUp,
    /// Packets and bytes sent.
    pub sent: (u64, u64),
    /// The same at the last snapshot.
    pub sent_before: (u64, u64),
}

impl Receiver {
    /// Gives the maps of SSRCs their secret. They must be empty.
    pub fn set_hash_key(&mut self, key: HashKey) {
        self.by_ssrc = KeyedMap::with_hasher(key);
        self.numbers.set_hash_key(key);
    }

    /// ICE measured a round trip.
    pub fn on_ice_round_trip(&mut self, rtt: Duration) {
        self.ice_rtt = Some(rtt);
        self.believe();
    }

    /// A report of the receiver makes this the round trip.
    pub fn on_reported_round_trip(&mut self, rtt: Duration) {
        self.reported_rtt = Some(rtt);
        self.believe();
    }

    fn believe(&mut self) {
        let least = self.ice_rtt.unwrap_or(DEFAULT_RTT);
        self.rtt = self.reported_rtt.or(self.ice_rtt).map(|rtt| rtt.max(least));
    }

    /// The round trip that is believed, or what is assumed before one is measured.
    pub fn round_trip(&self) -> Duration {
        self.rtt.unwrap_or(DEFAULT_RTT)
    }

    /// New keys: every index is unused under them.
    pub fn set_keys(&mut self, tx: TxContext) {
        self.tx = Some(tx);
        self.numbers.new_keys();
    }

    /// Whether anything can be sent to it.
    pub fn is_ready(&self) -> bool {
        self.tx.is_some() && self.dest.is_some()
    }

    /// What the receiver has asked for of a source that it gets again.
    pub fn take_requests(&mut self, source: SourceId) -> ReceiverRequests {
        self.given_up.requests.remove(&source).unwrap_or_default()
    }

    /// Keeps what it has asked for of a source that it gives up, for as long as that counts: else who
    /// unsubscribes and subscribes has no limit.
    pub fn keep_requests(
        &mut self,
        source: SourceId,
        requests: ReceiverRequests,
        now: Instant,
        limit: &RequestLimit,
    ) {
        if requests.is_past(now, limit) {
            return;
        }
        let GivenUp { requests: kept, tidy_at } = &mut self.given_up;
        if kept.len() >= (*tidy_at).max(MIN_TIDY) {
            kept.retain(|_, requests| !requests.is_past(now, limit));
            *tidy_at = kept.len().saturating_mul(2);
        }
        kept.insert(source, requests);
    }

    /// Remembers how far the SSRCs of an ended subscription have come.
    pub fn retire(&mut self, subscription: &Subscription, random: u64) {
        self.numbers.end(subscription.ssrc, subscription.projection.next_index(), random);
        if let Some(rtx) = subscription.rtx_ssrc {
            self.numbers.end(rtx, subscription.rtx_next, random);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_of_sources_given_up_is_kept_while_it_counts() {
        let (start, limit) = (Instant::now(), RequestLimit { max: 3, ..LIMIT });
        let at = |s| start + Duration::from_secs(s);
        let mut r = Receiver::default();
        let mut asked = ReceiverRequests::default();
        assert!(asked.granted.grant(start, &limit));
        for n in 0..1_000 {
            r.keep_requests(SourceId(n), asked.clone(), at(1), &limit);
        }
        r.keep_requests(SourceId(1_000), ReceiverRequests::default(), at(1), &limit);
        assert_eq!(r.given_up.requests.len(), 1_000, "who has not asked has no need");
        let mut again = r.take_requests(SourceId(7));
        let left = (0..3).filter(|_| again.granted.grant(at(2), &limit)).count();
        assert_eq!(left, 2, "one was asked for before");
        for n in 0..2_000 {
            r.keep_requests(SourceId(n), again.clone(), at(11), &limit);
        }
        assert!(r.given_up.requests.len() <= 2_000);
        r.keep_requests(SourceId(5_000), asked.clone(), at(9), &limit);
        r.given_up.tidy_at = 0;
        again.granted.grant(at(30), &limit);
        r.keep_requests(SourceId(5_001), again, at(30), &limit);
        assert_eq!(r.given_up.requests.len(), 1, "the others count no more");
    }

    const LIMIT: RequestLimit =
        RequestLimit { min_interval: Duration::ZERO, max: 1, window: Duration::from_secs(10) };

    #[test]
    fn a_round_trip_is_never_believed_to_be_less_than_ice_measured() {
        let ms = Duration::from_millis;
        let mut r = Receiver::default();
        assert_eq!((r.rtt, r.round_trip()), (None, DEFAULT_RTT));
        r.on_reported_round_trip(Duration::ZERO);
        assert_eq!(r.rtt, Some(DEFAULT_RTT), "nothing was measured");
        r.on_ice_round_trip(ms(40));
        assert_eq!(r.rtt, Some(ms(40)));
        r.on_reported_round_trip(ms(70));
        assert_eq!(r.rtt, Some(ms(70)));
        r.on_ice_round_trip(ms(90));
        assert_eq!(r.rtt, Some(ms(90)));
        r.on_ice_round_trip(ms(20));
        assert_eq!(r.rtt, Some(ms(70)));
    }
}
