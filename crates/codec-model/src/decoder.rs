//! A model of a browser that receives one SSRC: it assembles frames, and decodes each frame whose
//! references it has decoded.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
    time::Duration,
};

use rialto_media::Codec;
use rialto_rtp::{ExtSeq, Seq, SeqUnwrapper};

use crate::{
    Truth,
    judge::{Problem, Rule, State},
    payload::{Described, describe},
};

/// A browser requests a keyframe after this time without a frame, while packets arrive.
const PATIENCE: Duration = Duration::from_millis(300);
/// Interval of further requests.
const REQUEST_INTERVAL: Duration = Duration::from_millis(500);
/// Most frames that wait for their references: as many as arrive while those are retransmitted.
const MAX_WAITING: usize = 100;
/// Packets are arriving if the last one is not older than this.
const ALIVE: Duration = Duration::from_millis(100);

/// A decrypted packet; of a retransmission, the original one.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Its sequence number.
    pub seq: Seq,
    /// Its timestamp.
    pub timestamp: u32,
    /// Its marker.
    pub marker: bool,
    /// The codec of its payload type.
    pub codec: Codec,
    /// Its payload without padding.
    pub payload: &'a [u8],
    /// Its dependency descriptor.
    pub descriptor: Option<&'a [u8]>,
}

/// A packet that was received.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) at: Duration,
    pub(crate) timestamp: u32,
    pub(crate) marker: bool,
    pub(crate) described: Described,
    pub(crate) descriptor: Option<Vec<u8>>,
    pub(crate) truth: Truth,
}

impl Received {
    /// Returns whether a packet is the same, apart from what a retransmission changes.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        (self.timestamp, self.marker, self.described)
            == (other.timestamp, other.marker, other.described)
            && (&self.truth, &self.descriptor) == (&other.truth, &other.descriptor)
    }
}

/// A frame by its encoding and number.
pub(crate) type FrameId = (u8, u32);

/// A frame that was decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shown {
    /// When it was decoded.
    pub at: Duration,
    /// Its encoding.
    pub encoding: u8,
    /// The picture of that encoding.
    pub picture: u32,
    /// Its spatial layer.
    pub spatial: u8,
    /// Its temporal layer.
    pub temporal: u8,
    /// Its height, pixels.
    pub height: u16,
}

#[derive(Debug)]
struct Partial {
    /// A bit for each packet of the frame.
    parts: u128,
    first: u64,
    truth: Truth,
}

/// A decoder of one SSRC. See the module's description.
#[derive(Debug, Default)]
pub struct Decoder {
    /// All received packets, by number.
    pub(crate) log: BTreeMap<u64, Received>,
    /// Numbers of packets without a payload.
    pub(crate) empty: BTreeSet<u64>,
    /// The last packet that was judged for good.
    pub(crate) settled: Option<(u64, Received)>,
    /// The state up to that packet.
    pub(crate) state: State,
    /// Problems of single packets.
    pub(crate) found: Vec<Problem>,
    unwrapper: SeqUnwrapper,
    partial: HashMap<FrameId, Partial>,
    /// Complete frames, by the number of their first packet.
    whole: BTreeMap<u64, FrameId>,
    /// Frames that may be referred to: spatial layer, picture.
    decoded: HashMap<FrameId, (u8, u32)>,
    /// The first packet of the last keyframe.
    last_key: u64,
    shown: Vec<Shown>,
    last_shown: Duration,
    last_packet: Duration,
    last_request: Option<Duration>,
    /// Number of keyframes that it requested.
    pub requests: u32,
}

impl Decoder {
    /// Handles a packet.
    pub fn take(&mut self, now: Duration, packet: &Packet<'_>) {
        let ExtSeq(seq) = self.unwrapper.update(packet.seq);
        self.last_packet = now;
        if self.settled.as_ref().is_some_and(|(settled, _)| seq <= *settled) {
            return;
        }
        if packet.payload.is_empty() {
            self.empty.insert(seq);
            return;
        }
        let truth = Truth::read(packet.payload).filter(|truth| truth.codec == packet.codec);
        let described = describe(packet.codec, packet.payload);
        let (Some(truth), Some(described)) = (truth, described) else {
            return self.report(now, seq, Rule::Payload, "a payload that nobody sent".to_owned());
        };
        let received = Received {
            at: now,
            timestamp: packet.timestamp,
            marker: packet.marker,
            described,
            descriptor: packet.descriptor.map(<[u8]>::to_vec),
            truth,
        };
        if let Some(had) = self.log.get(&seq) {
            if !had.same_as(&received) {
                let what = format!("{had:?} and then {received:?}");
                self.report(now, seq, Rule::Reused, what);
            }
            return;
        }
        let body = received.truth.body;
        let id = (body.encoding, body.frame);
        let first = seq.saturating_sub(body.part.into());
        let partial = || Partial { parts: 0, first, truth: received.truth.clone() };
        let frame = self.partial.entry(id).or_insert_with(partial);
        frame.parts |= 1u128.checked_shl(body.part.into()).unwrap_or_default();
        // Parts with a hole between them never count as a frame.
        if frame.first == first && frame.parts.count_ones() == body.parts.into() {
            self.whole.insert(first, id);
        }
        self.log.insert(seq, received);
        self.decode(now);
    }

    fn report(&mut self, at: Duration, seq: u64, rule: Rule, what: String) {
        self.found.push(Problem { at, seq, rule, what });
    }

    fn decode(&mut self, now: Duration) {
        while self.whole.len() > MAX_WAITING {
            self.whole.pop_first();
        }
        loop {
            self.whole = self.whole.split_off(&self.last_key);
            let ready = self.whole.iter().find(|(_, id)| {
                let truth = &self.partial[*id].truth;
                truth.refs.iter().all(|r| self.decoded.contains_key(&(id.0, *r)))
            });
            let Some((first, id)) = ready.map(|(first, id)| (*first, *id)) else { return };
            self.whole.remove(&first);
            let truth = self.partial[&id].truth.clone();
            if truth.refs.is_empty() {
                self.decoded.retain(|id, layer| survives(*id, *layer, &truth));
                if !truth.independent {
                    self.last_key = first;
                }
            }
            self.decoded.insert(id, (truth.spatial, truth.picture));
            self.last_shown = now;
            self.shown.push(Shown {
                at: now,
                encoding: id.0,
                picture: truth.picture,
                spatial: truth.spatial,
                temporal: truth.temporal,
                height: truth.height,
            });
        }
    }

    /// Returns whether it requests a keyframe now, and counts the request.
    pub fn asks_for_keyframe(&mut self, now: Duration) -> bool {
        let since = |at: Duration| now.saturating_sub(at);
        let asks = (!self.log.is_empty() || self.settled.is_some())
            && since(self.last_packet) < ALIVE
            && since(self.last_shown) > PATIENCE
            && self.last_request.is_none_or(|at| since(at) > REQUEST_INTERVAL);
        if asks {
            self.last_request = Some(now);
            self.requests += 1;
        }
        asks
    }

    /// Removes frames that began before a number.
    pub(crate) fn forget(&mut self, seq: u64) {
        self.partial.retain(|_, partial| partial.first >= seq);
        let partial = &self.partial;
        self.whole.retain(|_, id| partial.contains_key(id));
    }

    /// Takes the frames decoded since the last call.
    pub fn take_shown(&mut self) -> Vec<Shown> {
        std::mem::take(&mut self.shown)
    }

    /// All decoded frames.
    pub fn shown(&self) -> &[Shown] {
        &self.shown
    }

    /// Number of received packets.
    pub fn packets(&self) -> usize {
        self.log.len()
    }

    /// The longest time without a decoded frame within `window`.
    pub fn longest_freeze(&self, window: &Range<Duration>) -> Duration {
        let within = self.shown.iter().map(|shown| shown.at).filter(|at| window.contains(at));
        let times: Vec<_> = [window.start].into_iter().chain(within).chain([window.end]).collect();
        times.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().unwrap_or_default()
    }

    /// The pictures shown within `window`, each by its highest frame: number of pictures by height.
    pub fn heights(&self, window: &Range<Duration>) -> BTreeMap<u16, u32> {
        let mut pictures: BTreeMap<(u8, u32), u16> = BTreeMap::new();
        for shown in self.shown.iter().filter(|shown| window.contains(&shown.at)) {
            let height = pictures.entry((shown.encoding, shown.picture)).or_default();
            *height = shown.height.max(*height);
        }
        let mut heights = BTreeMap::new();
        for height in pictures.into_values() {
            *heights.entry(height).or_default() += 1;
        }
        heights
    }
}

/// Returns whether a decoded frame can be referred to after a frame without references.
pub(crate) fn survives(id: FrameId, (spatial, picture): (u8, u32), key: &Truth) -> bool {
    if id.0 != key.body.encoding {
        return false;
    }
    picture == key.picture || key.independent && spatial != key.spatial
}
