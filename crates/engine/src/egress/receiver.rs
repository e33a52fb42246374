//! One receiver on its home shard: keys, address, and what it gets.

use std::{
    collections::hash_map::Entry,
    sync::Arc,
    time::{Duration, Instant},
};

use rialto_media::{
    PtMap, SourceId, Terms,
    encodings::{self, EncodingMask},
};
use rialto_srtp::TxContext;
use rustc_hash::FxHashMap;

use super::{history::History, projection::Projection};
use crate::{
    dest::Dest,
    ingress::keyframe::Granted,
    slots::{EndpointSlot, FeedSlot, Place},
};

/// SSRCs whose numbers are remembered after their subscription ended, so that none is used twice
/// under one key (RFC 3711 section 9.1). A receiver that has had so many gets no new ones.
const MAX_REMEMBERED_SSRCS: usize = 4_096;

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
    used: FxHashMap<u32, Used>,
    /// Round trip from receiver reports, else from STUN.
    pub rtt: Option<Duration>,
    /// Packets and bytes sent.
    pub sent: (u64, u64),
    /// The same at the last snapshot.
    pub sent_before: (u64, u64),
}

/// What was sent under one SSRC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Used {
    /// A subscription counts now.
    Now,
    /// None does any more; this is the first index that was never used.
    Before(u64),
}

/// Why nothing may be sent under an SSRC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SsrcRefused {
    /// Two streams under one SSRC and key would use the same nonces (RFC 3711 section 9.1).
    #[error("another subscription sends under this SSRC")]
    InUse,
    /// The bound of what is remembered.
    #[error("the numbers of {MAX_REMEMBERED_SSRCS} SSRCs are remembered already")]
    TooMany,
}

impl Receiver {
    /// New keys: every index is unused under them.
    pub fn set_keys(&mut self, tx: TxContext) {
        self.tx = Some(tx);
        self.used.retain(|_, used| *used == Used::Now);
    }

    /// Whether anything can be sent to it.
    pub fn is_ready(&self) -> bool {
        self.tx.is_some() && self.dest.is_some()
    }

    /// Takes an SSRC for a subscription: the first index that may be used under it, `None` when it was
    /// never used under the present key.
    ///
    /// # Errors
    /// [`SsrcRefused`]: nothing may be sent under it.
    pub fn resume(&mut self, ssrc: u32) -> Result<Option<u64>, SsrcRefused> {
        let full = self.used.len() >= MAX_REMEMBERED_SSRCS;
        match self.used.entry(ssrc) {
            Entry::Occupied(mut e) => match e.insert(Used::Now) {
                Used::Now => Err(SsrcRefused::InUse),
                Used::Before(next) => Ok(Some(next)),
            },
            Entry::Vacant(_) if full => Err(SsrcRefused::TooMany),
            Entry::Vacant(e) => {
                e.insert(Used::Now);
                Ok(None)
            }
        }
    }

    /// Remembers how far the SSRCs of an ended subscription have come.
    pub fn retire(&mut self, subscription: &Subscription) {
        let streams = [
            (Some(subscription.ssrc), subscription.projection.next_index()),
            (subscription.rtx_ssrc, subscription.rtx_next),
        ];
        for (ssrc, next) in streams {
            match ssrc {
                Some(ssrc) if next > 0 => drop(self.used.insert(ssrc, Used::Before(next))),
                Some(ssrc) => drop(self.used.remove(&ssrc)),
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ssrc_in_use_is_refused() {
        let mut r = Receiver::default();
        assert_eq!(r.resume(1), Ok(None));
        assert_eq!(r.resume(1), Err(SsrcRefused::InUse));
        assert_eq!(r.resume(1), Err(SsrcRefused::InUse), "being refused does not free it");
    }

    #[test]
    fn no_more_ssrcs_are_remembered_than_the_bound() {
        let mut r = Receiver::default();
        for ssrc in 0..MAX_REMEMBERED_SSRCS as u32 {
            assert_eq!(r.resume(ssrc), Ok(None));
        }
        assert_eq!(r.resume(u32::MAX), Err(SsrcRefused::TooMany));
    }
}
