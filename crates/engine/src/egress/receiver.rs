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

use super::{
    budget::ResendBudget,
    history::History,
    numbers::{FIRST, SsrcNumbers},
    projection::Projection,
};
use crate::{
    dest::Dest,
    ingress::keyframe::Granted,
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
    /// Limit of its keyframe requests.
    pub keyframes: Granted,
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
