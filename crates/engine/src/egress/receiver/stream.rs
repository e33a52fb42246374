//! One stream to a receiver: a source as it gets it, under numbers of its own.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rialto_media::{
    MAX_ENCODINGS, MediaType, PtMap, SourceId, Terms,
    encodings::{self, EncodingMask},
};

use super::{history::History, numbers::FIRST, projection::Projection, vacated::Vacated};
use crate::{
    egress::{
        Feed,
        allocation::{Explanation, LayerId},
        ring::RingIndex,
    },
    ingress::{
        PacketMeta,
        keyframe::{ReceiverRequests, SWITCHES},
    },
    slots::{FeedSlot, SubscriberSlot},
};

/// Beside the round trip, the time that a receiver takes at most to have a keyframe and what it depends on.
const MOOT_AFTER_MS: u32 = 300;

/// See the module's description.
#[derive(Debug)]
pub struct Stream {
    /// What it is of.
    pub source: SourceId,
    /// The source on this shard.
    pub feed: FeedSlot,
    /// The receiver among those of the source.
    pub subscriber: SubscriberSlot,
    /// Audio or video.
    pub media: MediaType,
    /// SSRC that the receiver sees.
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
    /// The encoding and the spatial layer that it waits for, once it has asked for a keyframe of it.
    pub asked: Option<(u8, u8)>,
    /// The receiver has asked for a keyframe, which is to come with a switch.
    pub lost: bool,
    /// The receiver has keys and an address.
    pub ready: bool,
    /// Of each encoding, the first packet in the ring that was not looked at for this receiver.
    pub next: [RingIndex; MAX_ENCODINGS],
    /// It is among the receiver's streams that have something to send.
    pub queued: bool,
    /// What it has to send could not leave when it came.
    pub waited: bool,
    /// Something is missing that is not sent again: it goes on at a keyframe.
    pub given_up: bool,
    /// Nothing below this index is of use any more: the stream went on at a keyframe since.
    moot_below: u64,
    /// The layer that its share of the link was given for; `Some(None)`: none, the link carries no more.
    /// `None`: nothing is shared out.
    pub allocated: Option<Option<LayerId>>,
    /// Why it is no more.
    pub explanation: Option<Explanation>,
    /// Which video goes first when not all can leave: 0 is first.
    pub rank: u16,
    /// Index of the newest keyframe's first packet, and when it left, ms: what was sent before need not be
    /// sent again for long.
    pub keyframe: Option<(u64, u32)>,
    /// Packets and payload bytes sent.
    pub packets: u32,
    /// See `packets`.
    pub octets: u32,
    /// The same of those that were in its slot before.
    before: (u32, u32),
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

/// What a keyframe is needed of.
const fn place(layer: LayerId) -> (u8, u8) {
    (layer.encoding, layer.spatial)
}

/// How a stream begins.
#[derive(Debug)]
pub struct Begin {
    /// SSRC that the receiver sees.
    pub ssrc: u32,
    /// That of retransmissions, and its first index.
    pub rtx: Option<(u32, u64)>,
    /// The first index.
    pub next: u64,
    /// How far those have come that were in its slot before.
    pub after: Option<Vacated>,
    /// The receiver has keys and an address.
    pub ready: bool,
    /// See [`Stream::terms`].
    pub terms: Terms,
    /// See [`Stream::payload_types`].
    pub payload_types: Arc<PtMap>,
}

impl Stream {
    /// A stream that has sent nothing. Its place among the source's subscribers follows.
    pub fn new(slot: FeedSlot, feed: &Feed, begin: Begin) -> Self {
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

    /// Encodings that it gets or waits for, and whether it waits.
    #[inline]
    pub fn wanted(&self) -> (EncodingMask, bool) {
        let (current, target) = (self.projection.current(), self.projection.target());
        (encodings::bit(current) | encodings::bit(target), self.projection.waits())
    }

    /// Packets and payload bytes that were sent under its SSRC, whatever was in its slot.
    pub fn sent(&self) -> (u32, u32) {
        let (packets, octets) = self.before;
        (self.packets.wrapping_add(packets), self.octets.wrapping_add(octets))
    }

    /// Whether it is video.
    #[inline]
    pub fn is_video(&self) -> bool {
        self.media == MediaType::Video
    }

    /// SSRC and payload type under which a packet is sent again (RFC 4588); `None`: as it was.
    #[inline]
    pub fn resend_type(&self, meta: &PacketMeta) -> Option<(u32, u8)> {
        self.rtx_ssrc.zip(self.payload_types.rtx(meta.payload_type))
    }

    /// Whether a packet is asked for again that the newest keyframe has made moot: the receiver could have
    /// that by now, and needs nothing from before.
    pub fn is_moot(&self, index: u64, now_ms: u32, rtt: Duration) -> bool {
        let patience =
            u32::try_from(rtt.as_millis()).unwrap_or(u32::MAX).saturating_add(MOOT_AFTER_MS);
        let by_keyframe = self.keyframe.is_some_and(|(first, at)| {
            index < first && now_ms.wrapping_sub(at).wrapping_sub(patience) <= u32::MAX / 2
        });
        by_keyframe || index < self.moot_below
    }

    /// Nothing more of what has come leaves: the stream goes on at a keyframe.
    pub fn cut(&mut self, now_ms: u32) {
        self.projection.pause(now_ms);
        self.moot_below = self.history.next();
    }

    /// Whether a keyframe of the encoding that was decided waits to be sent.
    pub fn keyframe_waits(&self, feed: &Feed) -> bool {
        let Some(target) = self.projection.target() else { return false };
        let Some(next) = self.next.get(usize::from(target)) else { return false };
        (*next..feed.head(target)).any(|at| feed.packet(target, at).is_some_and(|m| m.keyframe))
    }

    /// New keys of the receiver: numbers begin anew, as a receiver expects of them (RFC 3711 section
    /// 3.3.1), and nothing is sent again that was sent under the old.
    pub fn on_new_keys(&mut self, feed: &mut Feed, now_ms: u32) {
        let before = self.wanted();
        self.projection.restart(FIRST, now_ms);
        self.rtx_next = FIRST;
        self.history.clear();
        self.moot_below = 0;
        self.keyframe = None;
        self.lost = false;
        feed.wanted.change(before, self.wanted());
    }

    /// Decides anew which layer it gets. Returns the encoding of which it then needs a keyframe, as a mask.
    pub fn retarget(&mut self, feed: &mut Feed, now: Instant, now_ms: u32) -> EncodingMask {
        let active = feed.offered_encodings();
        let before = self.wanted();
        let target = match self.allocated {
            Some(None) => {
                self.projection.pause(now_ms);
                None
            }
            Some(Some(layer)) if active & encodings::bit(Some(layer.encoding)) != 0 => Some(layer),
            // With nothing arriving, what was forwarded last is what will be recognised first.
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
            // The switch is called off.
            return encodings::bit(current);
        }
        self.keyframe_for(feed, now)
    }

    /// The encoding of which the receiver needs a keyframe that it could use, as a mask: of audio there
    /// are none, neither keys nor codec may be missing, and none may wait to be sent: another one would come
    /// behind it and only fill the link. Who switches too often waits longer.
    pub fn keyframe_for(&mut self, feed: &Feed, now: Instant) -> EncodingMask {
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
