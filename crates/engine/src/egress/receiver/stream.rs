//! One stream to a receiver: a subscribed source with its own SSRC and numbering.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rialto_media::{
    MAX_ENCODINGS, MediaType, PtMap, SourceId, SubscriptionParams,
    encodings::{self, EncodingMask},
};

use super::{history::History, numbers::FIRST, projection::Projection, vacated::Vacated};
use crate::{
    egress::{
        SourceFeed,
        allocation::{Explanation, LayerId},
        ring::RingIndex,
    },
    ingress::{
        PacketMeta,
        keyframe::{ReceiverRequests, SWITCHES},
    },
    slots::{FeedSlot, SubscriberSlot},
};

/// The most time, apart from the round trip, that a receiver needs to have a keyframe and what it
/// depends on.
const MOOT_AFTER_MS: u32 = 300;

/// One stream to a receiver.
#[derive(Debug)]
pub struct Stream {
    /// The source.
    pub source: SourceId,
    /// The source on this shard.
    pub feed: FeedSlot,
    /// The receiver's entry among the source's subscribers.
    pub subscriber: SubscriberSlot,
    /// Audio or video.
    pub media: MediaType,
    /// SSRC that the receiver sees.
    pub ssrc: u32,
    /// SSRC of retransmissions.
    pub rtx_ssrc: Option<u32>,
    /// Next packet index of the retransmission stream.
    pub rtx_next: u64,
    /// Parameters of the subscription: the MID to stamp, the maximum height.
    pub terms: SubscriptionParams,
    /// The receiver's payload types, by those of the sender.
    pub payload_types: Arc<PtMap>,
    /// Chooses the encoding and the numbers.
    pub projection: Projection,
    /// Packets sent lately.
    pub history: History,
    /// Limits of its keyframe requests.
    pub keyframes: ReceiverRequests,
    /// The encoding and the spatial layer that it waits for, once a keyframe of it was requested.
    pub asked: Option<(u8, u8)>,
    /// Whether the receiver requested a keyframe that is to come with a switch.
    pub lost: bool,
    /// Whether the receiver has keys and an address.
    pub ready: bool,
    /// The first packet in each encoding's ring that was not handled for this receiver yet.
    pub next: [RingIndex; MAX_ENCODINGS],
    /// Whether it is among the receiver's streams with packets to send.
    pub queued: bool,
    /// Whether its packets could not leave when they arrived.
    pub waited: bool,
    /// Whether a packet is missing that is not retransmitted: the stream continues at a keyframe.
    pub given_up: bool,
    /// Packets below this index are of no use any more: the stream continued at a keyframe since.
    moot_below: u64,
    /// The allocated layer. `Some(None)`: none, for lack of bandwidth. `None`: there is no
    /// allocation.
    pub allocated: Option<Option<LayerId>>,
    /// Why it is not a higher one.
    pub explanation: Option<Explanation>,
    /// Priority of a video when not all can be sent: 0 is first.
    pub rank: u16,
    /// Index of the newest keyframe's first packet, and when it was sent, ms. Older packets soon
    /// need no retransmission.
    pub keyframe: Option<(u64, u32)>,
    /// Packets and payload bytes sent.
    pub packets: u32,
    /// See `packets`.
    pub octets: u32,
    /// Packets and payload bytes of the sources that were in its slot before.
    before: (u32, u32),
    /// Bytes since the last snapshot.
    pub interval_bytes: u64,
    /// Retransmissions sent.
    pub retransmissions: u64,
    /// The last sender report's middle 32 bits and when it was sent: for the next one, and to
    /// measure the round trip.
    pub last_sr: Option<(u32, Instant)>,
    /// Fraction lost as last reported, 0..=255.
    pub fraction_lost: u8,
}

/// The encoding and spatial layer that a keyframe must bring.
const fn place(layer: LayerId) -> (u8, u8) {
    (layer.encoding, layer.spatial)
}

/// The parameters of a new stream.
#[derive(Debug)]
pub struct Begin {
    /// SSRC that the receiver sees.
    pub ssrc: u32,
    /// SSRC of retransmissions, and its first index.
    pub rtx: Option<(u32, u64)>,
    /// The first index.
    pub next: u64,
    /// State of the sources that were in its slot before.
    pub after: Option<Vacated>,
    /// Whether the receiver has keys and an address.
    pub ready: bool,
    /// See [`Stream::terms`].
    pub terms: SubscriptionParams,
    /// See [`Stream::payload_types`].
    pub payload_types: Arc<PtMap>,
}

impl Stream {
    /// Creates a stream that has sent nothing. Its subscriber entry is set later.
    pub fn new(slot: FeedSlot, feed: &SourceFeed, begin: Begin) -> Self {
        let clock_rate = feed.info.clock_rate();
        let projection = match &begin.after {
            Some(vacated) => vacated.projection.of_next_source(clock_rate, begin.next),
            None => Projection::new(clock_rate, begin.next),
        };
        Self {
            source: feed.info.spec.id,
            feed: slot,
            subscriber: SubscriberSlot::default(),
            media: feed.info.spec.media,
            ssrc: begin.ssrc,
            rtx_ssrc: begin.rtx.map(|(ssrc, _)| ssrc),
            rtx_next: begin.rtx.map_or(FIRST, |(_, next)| next),
            terms: begin.terms,
            payload_types: begin.payload_types,
            projection,
            history: History::default(),
            keyframes: ReceiverRequests::default(),
            asked: None,
            lost: false,
            ready: begin.ready,
            next: feed.begin(),
            queued: false,
            waited: false,
            given_up: false,
            moot_below: 0,
            allocated: None,
            explanation: None,
            rank: 0,
            keyframe: None,
            packets: 0,
            octets: 0,
            before: begin.after.map_or((0, 0), |vacated| vacated.sent),
            interval_bytes: 0,
            retransmissions: 0,
            last_sr: None,
            fraction_lost: 0,
        }
    }

    /// The encodings that it gets or waits for, and whether it waits.
    #[inline]
    pub fn wanted(&self) -> (EncodingMask, bool) {
        let (current, target) = (self.projection.current(), self.projection.target());
        (encodings::bit(current) | encodings::bit(target), self.projection.waits())
    }

    /// Packets and payload bytes sent under its SSRC, whichever sources were in its slot.
    pub fn sent(&self) -> (u32, u32) {
        let (packets, octets) = self.before;
        (self.packets.wrapping_add(packets), self.octets.wrapping_add(octets))
    }

    /// Whether it is video.
    #[inline]
    pub fn is_video(&self) -> bool {
        self.media == MediaType::Video
    }

    /// SSRC and payload type of a retransmission of a packet (RFC 4588); `None`: it is sent again
    /// unchanged.
    #[inline]
    pub fn resend_type(&self, meta: &PacketMeta) -> Option<(u32, u8)> {
        self.rtx_ssrc.zip(self.payload_types.rtx(meta.payload_type))
    }

    /// Returns whether the request for a packet is moot because of the newest keyframe: the
    /// receiver could have that by now, and then needs nothing older.
    pub fn is_moot(&self, index: u64, now_ms: u32, rtt: Duration) -> bool {
        let patience =
            u32::try_from(rtt.as_millis()).unwrap_or(u32::MAX).saturating_add(MOOT_AFTER_MS);
        let by_keyframe = self.keyframe.is_some_and(|(first, at)| {
            index < first && now_ms.wrapping_sub(at).wrapping_sub(patience) <= u32::MAX / 2
        });
        by_keyframe || index < self.moot_below
    }

    /// Drops everything that arrived and was not sent: the stream continues at a keyframe.
    pub fn cut(&mut self, now_ms: u32) {
        self.projection.pause(now_ms);
        self.moot_below = self.history.next();
    }

    /// Returns whether a keyframe of the chosen encoding waits to be sent.
    pub fn keyframe_waits(&self, feed: &SourceFeed) -> bool {
        let Some(target) = self.projection.target() else { return false };
        let Some(next) = self.next.get(usize::from(target)) else { return false };
        (*next..feed.head(target)).any(|at| feed.packet(target, at).is_some_and(|m| m.keyframe))
    }

    /// Handles new keys of the receiver: numbers start anew, as a receiver expects (RFC 3711
    /// section 3.3.1), and nothing that was sent under the old keys is retransmitted.
    pub fn on_new_keys(&mut self, feed: &mut SourceFeed, now_ms: u32) {
        let before = self.wanted();
        self.projection.restart(FIRST, now_ms);
        self.rtx_next = FIRST;
        self.history.clear();
        (self.moot_below, self.given_up) = (0, false);
        self.keyframe = None;
        self.lost = false;
        feed.wanted.change(before, self.wanted());
    }

    /// Chooses anew which layer it gets. Returns, as a mask, the encoding of which it then needs a
    /// keyframe.
    pub fn retarget(&mut self, feed: &mut SourceFeed, now: Instant, now_ms: u32) -> EncodingMask {
        let active = feed.offered_encodings();
        let before = self.wanted();
        let target = match self.allocated {
            Some(None) => {
                self.projection.pause(now_ms);
                None
            }
            Some(Some(layer)) if active & encodings::bit(Some(layer.encoding)) != 0 => Some(layer),
            // If nothing arrives, what was forwarded last is what will be recognised first.
            _ => feed.choose(self.terms.max_height).or(self.projection.current_layers()),
        };
        let target = target.map(|layer| feed.open_ended(layer));
        if !self.projection.set_target(target, now_ms) || self.asked != target.map(place) {
            self.asked = None;
        }
        let target = target.map(|layer| layer.encoding);
        let current = self.projection.current();
        self.projection.set_orphaned(active & encodings::bit(current) == 0);
        feed.wanted.change(before, self.wanted());
        if target == current && !self.projection.waits() && std::mem::take(&mut self.lost) {
            // The switch is cancelled.
            return encodings::bit(current);
        }
        self.keyframe_for(feed, now)
    }

    /// The encoding of which the receiver needs a keyframe that it could use, as a mask. None for
    /// audio, without keys, or without the codec, or while a keyframe waits to be sent: another one
    /// behind it would only fill the link. Receivers that switch too often wait longer.
    pub fn keyframe_for(&mut self, feed: &SourceFeed, now: Instant) -> EncodingMask {
        if !self.is_video() || !self.ready || !self.projection.waits() {
            return 0;
        }
        let Some(target) = self.projection.target() else { return 0 };
        let sent = feed.encodings.get(usize::from(target)).and_then(|e| e.payload_type);
        let reads = sent.is_none_or(|pt| self.payload_types.media(pt).is_some());
        if !reads || self.keyframe_waits(feed) {
            return 0;
        }
        let asked = self.projection.target_layers().map(place);
        if self.asked != asked && !self.keyframes.switches.take(&SWITCHES, 1, now) {
            return 0;
        }
        self.asked = asked;
        encodings::bit(Some(target))
    }
}
