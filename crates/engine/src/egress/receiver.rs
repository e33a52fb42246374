//! One receiver on its home shard: keys, address, and what it gets.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rialto_media::{
    PtMap, SourceId, Terms,
    encodings::{self, EncodingMask},
};
use rialto_srtp::TxContext;
use rustc_hash::FxHashMap;

use super::{
    history::History,
    numbers::{FIRST, SsrcNumbers},
    projection::Projection,
};
use crate::{
    dest::Dest,
    ingress::keyframe::Granted,
    slots::{EndpointSlot, FeedSlot, Place},
};

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
    /// When the keyframe that it waits for was last asked for.
    pub asked_at: Option<Instant>,
    /// Packets and payload bytes sent, for sender reports.
    pub packets: u32,
    /// See `packets`.
    pub octets: u32,
    /// Bytes since the last snapshot.
    pub interval_bytes: u64,
    /// Retransmissions sent.
    pub retransmissions: u64,
    /// The last sender report's middle 32 bits and when it was sent, to measure the round trip.
    pub last_sr: Option<(u32, Instant)>,
    /// Fraction lost as last reported, 0..=255.
    pub fraction_lost: u8,
}

impl Subscription {
    /// Encodings that it gets or waits for.
    #[inline]
    pub fn wanted(&self) -> EncodingMask {
        encodings::bit(self.projection.current()) | encodings::bit(self.projection.target())
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
    pub by_ssrc: FxHashMap<u32, SubscriptionRef>,
    /// How far the SSRCs of this key have come.
    pub numbers: SsrcNumbers,
    /// Round trip from receiver reports, else from STUN.
    pub rtt: Option<Duration>,
    /// Packets and bytes sent.
    pub sent: (u64, u64),
    /// The same at the last snapshot.
    pub sent_before: (u64, u64),
}

impl Receiver {
    /// New keys: every index is unused under them.
    pub fn set_keys(&mut self, tx: TxContext) {
        self.tx = Some(tx);
        self.numbers.new_keys();
    }

    /// Remembers how far the SSRCs of an ended subscription have come.
    pub fn retire(&mut self, subscription: &Subscription, random: u64) {
        self.numbers.end(subscription.ssrc, subscription.projection.next_index(), random);
        if let Some(rtx) = subscription.rtx_ssrc {
            self.numbers.end(rtx, subscription.rtx_next, random);
        }
    }
}
