//! A source on one shard: its packets (one ring per encoding) and its subscribers there. It knows
//! nothing of how a receiver is sent its packets.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "the head of a ring is never behind what was offered"
)]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rialto_media::{
    Description, MAX_ENCODINGS, MediaType,
    encodings::{self, EncodingMask, Heights},
};
use rialto_rtp::codec::{MAX_SPATIAL, MAX_TEMPORAL};

use slotmap::DenseSlotMap;

use super::{
    SourceInfo,
    allocation::LayerId,
    pace::ArrivalPace,
    report::ClockReport,
    ring::{PacketRing, RingIndex, RingSize},
};
use crate::{
    ingress::{
        PacketMeta,
        layers::EncodingLayers,
        rate::{Rate, Rates},
    },
    slots::{EndpointSlot, OutStreamSlot, SubscriberSlot},
};

/// Supposed height of the lowest spatial layer while no height is known, pixels; each further layer
/// has twice as much.
const LOWEST: u16 = 180;

/// A source is flushed early when this many packets wait in one ring.
const FLUSH_AT: u64 = 32;

/// The packets of one encoding on this shard.
#[derive(Debug, Default)]
pub struct EncodingFeed {
    /// Allocated when the first packet arrives.
    pub ring: Option<PacketRing>,
    /// First packet that was not offered to the receivers yet.
    pub fresh: RingIndex,
    /// The clocks in the sender's last report.
    pub report: Option<ClockReport>,
    /// Payload type of the last packet, as the sender numbers it.
    pub payload_type: Option<u8>,
    /// The pace at which its packets arrive.
    pub pace: ArrivalPace,
}

impl EncodingFeed {
    /// The index that the next packet will get.
    #[inline]
    pub fn head(&self) -> RingIndex {
        self.ring.as_ref().map_or(0, PacketRing::head)
    }
}

/// A receiver of a source.
#[derive(Clone, Copy, Debug)]
pub struct Subscriber {
    /// The endpoint.
    pub receiver: EndpointSlot,
    /// Its stream.
    pub stream: OutStreamSlot,
}

/// How many receivers get or wait for each encoding, so that not all of them have to be asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct WantedCounts {
    receivers: [u32; MAX_ENCODINGS],
    /// How many of them wait.
    pub(crate) waiting: u32,
}

impl WantedCounts {
    /// Updates the counts for a receiver that wants other encodings than before, or starts or stops
    /// waiting (see [`Stream::wanted`](crate::egress::Stream::wanted)).
    #[inline]
    pub fn change(&mut self, before: (EncodingMask, bool), after: (EncodingMask, bool)) {
        if before == after {
            return;
        }
        for (encoding, count) in self.receivers.iter_mut().enumerate() {
            let (before, after) = (before.0 >> encoding & 1, after.0 >> encoding & 1);
            *count = count.saturating_add(after.into()).saturating_sub(before.into());
        }
        self.waiting = self.waiting.saturating_add(after.1.into()).saturating_sub(before.1.into());
    }

    /// The encodings that at least one receiver wants.
    pub fn mask(&self) -> EncodingMask {
        let bits = self
            .receivers
            .iter()
            .enumerate()
            .map(|(at, count)| EncodingMask::from(*count > 0) << at);
        bits.fold(0, |mask, bit| mask | bit)
    }
}

/// A source on one shard.
#[derive(Debug)]
pub struct SourceFeed {
    /// The source.
    pub info: Arc<SourceInfo>,
    /// What its sender negotiated.
    pub media: Description,
    /// One for each signalled encoding.
    pub encodings: [EncodingFeed; MAX_ENCODINGS],
    /// The receivers on this shard.
    pub subscribers: DenseSlotMap<SubscriberSlot, Subscriber>,
    /// How many of them get or wait for each encoding.
    pub wanted: WantedCounts,
    /// Whether it is in the shard's list of sources with waiting receivers; see
    /// [`Self::is_waited_for`].
    pub waits: bool,
    /// The active encodings, as the sender's home last reported them.
    pub active: EncodingMask,
    /// The height of each encoding, as last reported.
    pub heights: Heights,
    /// The bitrate of each encoding, as last reported.
    pub rates: Rates,
    /// The layers of each encoding, as last reported.
    pub layers: [EncodingLayers; MAX_ENCODINGS],
    /// The wanted mask last sent to the sender's home shard.
    pub advertised_wanted: EncodingMask,
    /// The sender's CNAME, if it announced one.
    pub cname: Option<Box<str>>,
    /// When the next sender report to a receiver is due; `None`: to be computed.
    pub next_report: Option<Instant>,
    /// When fresh packets must leave; `None` if there are none.
    pub due: Option<Instant>,
    /// When the oldest of them arrived on this shard.
    pub since: Option<Instant>,
}

impl SourceFeed {
    /// Creates a source without packets and receivers.
    pub fn new(info: Arc<SourceInfo>, media: Description) -> Self {
        Self {
            info,
            media,
            encodings: Default::default(),
            subscribers: DenseSlotMap::with_key(),
            wanted: WantedCounts::default(),
            waits: false,
            active: 0,
            heights: Heights::default(),
            rates: Rates::default(),
            layers: Default::default(),
            advertised_wanted: 0,
            cname: None,
            next_report: None,
            due: None,
            since: None,
        }
    }

    /// Stores a packet. `most`: how long a video packet may wait for the rest of its frame, and how
    /// long an audio packet waits for those of others. Returns whether the source had no packets to
    /// offer before.
    pub fn push(
        &mut self,
        encoding: u8,
        meta: PacketMeta,
        packet: &[u8],
        now: Instant,
        most: Duration,
    ) -> bool {
        let audio = self.is_audio();
        let Some(feed) = self.encodings.get_mut(usize::from(encoding)) else { return false };
        feed.payload_type = Some(meta.payload_type);
        let size = if audio { RingSize::AUDIO } else { RingSize::VIDEO };
        let ring = feed.ring.get_or_insert_with(|| PacketRing::new(size));
        if ring.push(meta, packet).is_none() {
            return false;
        }
        let full = ring.head() - feed.fresh >= FLUSH_AT;
        let since = *self.since.get_or_insert(now);
        // The last packet of a frame has nothing to wait for.
        let at = if meta.marker || full {
            now
        } else if audio {
            since + most
        } else {
            feed.pace.on_packet(now, meta.timestamp);
            (now + feed.pace.hold(most)).min(since + most)
        };
        let first = self.due.is_none();
        // The wait starts anew with each packet, unless it is over already.
        self.due = Some(self.due.filter(|due| *due <= now).unwrap_or(at));
        first
    }

    /// Stores the clocks of an encoding from a sender report and, unless it is empty, the sender's
    /// CNAME.
    pub fn on_report(&mut self, encoding: u8, report: ClockReport, cname: &str) {
        if let Some(feed) = self.encodings.get_mut(usize::from(encoding)) {
            feed.report = Some(report);
        }
        self.next_report = None;
        if !cname.is_empty() && self.cname.as_deref() != Some(cname) {
            self.cname = Some(cname.into());
        }
    }

    /// Returns whether any sender report arrived.
    pub fn has_reports(&self) -> bool {
        self.encodings.iter().any(|e| e.report.is_some())
    }

    /// Adds a receiver.
    pub fn subscribe(&mut self, subscriber: Subscriber) -> SubscriberSlot {
        self.next_report = None;
        self.subscribers.insert(subscriber)
    }

    /// Removes a receiver; `wanted`: what it wanted, and whether it waited.
    pub fn unsubscribe(&mut self, slot: SubscriberSlot, wanted: (EncodingMask, bool)) {
        if self.subscribers.remove(slot).is_some() {
            self.wanted.change(wanted, (0, false));
        }
    }

    /// Marks all packets as offered.
    pub fn offered(&mut self) {
        for encoding in &mut self.encodings {
            encoding.fresh = encoding.head();
        }
        self.due = None;
    }

    /// Where a new receiver begins: at the packets that are offered next.
    pub fn begin(&self) -> [RingIndex; MAX_ENCODINGS] {
        self.encodings.each_ref().map(|encoding| encoding.fresh)
    }

    /// Encodings that receivers on this shard get or wait for.
    pub fn wanted(&self) -> EncodingMask {
        self.wanted.mask()
    }

    /// Returns whether it is audio, whose packets leave together with those of others.
    pub fn is_audio(&self) -> bool {
        self.info.spec.media == MediaType::Audio
    }

    /// Returns whether a receiver waits for a keyframe, even if it could not use one yet. Always
    /// false for audio.
    pub fn is_waited_for(&self) -> bool {
        self.wanted.waiting > 0 && self.info.spec.media == MediaType::Video
    }

    /// Active encodings, as far as receivers need to know: a single encoding always counts as
    /// active.
    pub fn offered_encodings(&self) -> EncodingMask {
        if self.info.spec.encodings.len() == 1 { 1 } else { self.active }
    }

    /// The layers of one encoding.
    pub fn layers_of(&self, encoding: u8) -> &EncodingLayers {
        self.layers.get(usize::from(encoding)).unwrap_or(EncodingLayers::NONE)
    }

    /// The best layer for a receiver whose only limit is a height: the best one that is not higher,
    /// or the lowest; `None` if no encoding is active.
    pub fn choose(&self, max_height: Option<u16>) -> Option<LayerId> {
        let encoding = encodings::choose(self.offered_encodings(), self.heights, max_height)?;
        let layers = self.layers_of(encoding);
        let (top, temporal) = layers.top();
        let fits = |spatial: &u8| {
            max_height.is_none_or(|bound| self.layer_height(encoding, *spatial) <= bound)
        };
        let spatial = (0..=top).rev().find(fits).unwrap_or(0);
        Some(LayerId { encoding, spatial, temporal })
    }

    /// The height of a spatial layer, pixels: as reported, or derived from that of the encoding; 0
    /// if it is unknown and the only layer.
    pub fn layer_height(&self, encoding: u8, spatial: u8) -> u16 {
        let layers = self.layers_of(encoding);
        let known = layers.heights.get(usize::from(spatial)).copied().unwrap_or(0);
        if known > 0 {
            return known;
        }
        let all = self.heights.get(usize::from(encoding)).copied().unwrap_or(0);
        let (top, _) = layers.top();
        match all {
            0 if top > 0 => LOWEST.checked_shl(spatial.into()).unwrap_or(u16::MAX),
            _ => all.checked_shr(top.saturating_sub(spatial).into()).unwrap_or(0),
        }
    }

    /// The bitrate of a layer.
    pub fn rate(&self, layer: LayerId) -> Rate {
        let layers = self.layers_of(layer.encoding);
        if layers.targets.is_empty() {
            return self.rates.get(usize::from(layer.encoding)).copied().unwrap_or_default();
        }
        let LayerId { spatial, temporal, .. } = self.existing(layer);
        layers.rate(spatial, temporal)
    }

    /// The target of a projection for an allocated layer: if that is the highest there is, any higher
    /// layer that appears later is included.
    pub fn open_ended(&self, layer: LayerId) -> LayerId {
        let (spatial, temporal) = self.layers_of(layer.encoding).top();
        LayerId {
            encoding: layer.encoding,
            spatial: if layer.spatial >= spatial { MAX_SPATIAL - 1 } else { layer.spatial },
            temporal: if layer.temporal >= temporal { MAX_TEMPORAL - 1 } else { layer.temporal },
        }
    }

    /// The reverse of [`Self::open_ended`].
    pub fn existing(&self, layer: LayerId) -> LayerId {
        let (spatial, temporal) = self.layers_of(layer.encoding).top();
        LayerId {
            encoding: layer.encoding,
            spatial: layer.spatial.min(spatial),
            temporal: layer.temporal.min(temporal),
        }
    }

    /// The ring of an encoding, once a packet has arrived.
    #[inline]
    pub fn ring(&self, encoding: u8) -> Option<&PacketRing> {
        self.encodings.get(usize::from(encoding))?.ring.as_ref()
    }

    /// The index that an encoding's next packet will get.
    pub fn head(&self, encoding: u8) -> RingIndex {
        self.encodings.get(usize::from(encoding)).map_or(0, EncodingFeed::head)
    }

    /// The description of a packet that is still in its ring.
    pub fn packet(&self, encoding: u8, at: RingIndex) -> Option<&PacketMeta> {
        self.ring(encoding)?.get(at).map(|(meta, _)| meta)
    }

    /// Bytes allocated for packets.
    pub fn memory(&self) -> usize {
        self.encodings.iter().filter_map(|e| e.ring.as_ref()).map(PacketRing::memory).sum()
    }
}
