//! Checks whether what a bridge sent to one receiver is a stream that a browser can take for one
//! encoder's.
//!
//! It is meant for the packets as they leave the bridge, so that only the senders' networks excuse
//! anything; it also applies to what a receiver got over a network without loss.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    time::Duration,
};

use rialto_media::Codec;

use crate::{
    Body, Decoder, Sent,
    decoder::{FrameId, Received, survives},
    descriptor::{self, Structure},
};

/// Most spatial layers of a picture.
const MAX_LAYERS: u32 = 3;
/// Packets that a keyframe may overtake on a network that reorders.
const OVERTAKEN: usize = 16;

/// A rule that the stream must keep.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Rule {
    /// A payload is what somebody sent, under the payload type of its codec.
    Payload,
    /// A number stands for one packet.
    Reused,
    /// Packets that the bridge does not forward leave no gap in the sequence numbers.
    Gap,
    /// A frame's packets are consecutive and complete.
    Torn,
    /// Frames are in the order in which they were made.
    Order,
    /// Everything that a frame refers to was forwarded.
    Reference,
    /// The marker is on a picture's last packet, and on no other.
    Marker,
    /// Picture ids.
    PictureId,
    /// TL0PICIDX.
    Tl0,
    /// Frame numbers of dependency descriptors.
    FrameNumber,
    /// Timestamps.
    Timestamp,
    /// A dependency descriptor can be read, and is true.
    Descriptor,
}

/// A violation of a rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// When the packet left or arrived.
    pub at: Duration,
    /// Its number.
    pub seq: u64,
    /// The rule.
    pub rule: Rule,
    /// How it was violated.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, seq, rule, what } = self;
        write!(f, "at {at:?}, number {seq}: {rule:?}: {what}")
    }
}

/// Properties of the path from the sender to the bridge.
#[derive(Clone, Copy, Debug)]
pub struct Network<'a> {
    /// Packets that it lost when they were first sent.
    pub lost: &'a BTreeSet<Body>,
    /// It neither loses nor reorders.
    pub orderly: bool,
    /// What the sender sent.
    pub sent: Option<&'a Sent>,
    /// The bridge may have dropped what overtook the keyframe that it follows.
    pub overtaken: bool,
    /// Later packets may still have gaps that retransmissions will fill.
    pub until: Duration,
    /// Packets are lost on either side of the bridge, without a record: gaps in the numbers are no
    /// fault of the bridge, nor is what cannot be decoded because of them.
    pub lossy: bool,
    /// Links may be full: what waits too long at the bridge is dropped, up to a frame that starts
    /// anew, and the frame before that may be truncated.
    pub full: bool,
}

impl Network<'_> {
    /// A path without impairments.
    pub const FINE: Network<'static> = Network {
        lost: &BTreeSet::new(),
        orderly: true,
        sent: None,
        overtaken: false,
        until: Duration::MAX,
        lossy: false,
        full: false,
    };

    /// A path that loses packets without a record.
    pub const LOSSY: Network<'static> = Network { orderly: false, lossy: true, ..Network::FINE };

    /// Number of packets of these frames that were lost.
    fn lost(&self, body: Body, from: u32, to: u32) -> usize {
        let at = |frame| Body { frame, part: 0, parts: 0, key: false, ..body };
        self.lost.range(at(from)..at(to.saturating_add(1))).count()
    }
}

/// What the bridge adds to a sender's running numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Offsets {
    timestamp: u32,
    picture_id: Option<u16>,
    tl0: Option<u8>,
    frame_number: Option<u16>,
}

impl Received {
    fn id(&self) -> FrameId {
        (self.truth.body.encoding, self.truth.body.frame)
    }

    fn frame_number(&self) -> Option<u16> {
        let bytes = self.descriptor.as_ref()?.get(1..3)?;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// Returns whether it needs nothing before it.
    fn starts_anew(&self) -> bool {
        self.truth.refs.is_empty()
    }

    fn offsets(&self) -> Offsets {
        let own = self.truth.numbers;
        let id = |id: u16| id.wrapping_sub(own.picture_id) & 0x7fff;
        Offsets {
            timestamp: self.timestamp.wrapping_sub(self.truth.timestamp),
            // Those of VP8 have a rule of their own.
            picture_id: self
                .described
                .picture_id
                .filter(|_| self.truth.codec == Codec::Vp9)
                .map(id),
            tl0: self.described.tl0.map(|tl0| tl0.wrapping_sub(own.tl0)),
            frame_number: self.frame_number().map(|n| n.wrapping_sub(own.frame_number)),
        }
    }
}

/// The state at some packet, from those before it.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    /// The newest frame of each encoding.
    newest: HashMap<u8, u32>,
    /// Frames that can be referred to: spatial layer, picture.
    have: HashMap<FrameId, (u8, u32)>,
    /// The frame from which on nothing refers to earlier ones.
    key: u32,
    structure: Option<Structure>,
    /// Numbers were missing since that frame, on a path that loses packets.
    torn: bool,
}

struct Judge<'a> {
    empty: &'a BTreeSet<u64>,
    packets: Vec<(u64, &'a Received)>,
    network: Network<'a>,
    state: State,
    problems: Vec<Problem>,
}

impl Decoder {
    /// All problems of packets that are not settled.
    pub fn judge(&self, network: &Network<'_>) -> Vec<Problem> {
        let settled = self.log.iter().rfind(|(_, received)| received.at <= network.until);
        let last = settled.map_or(0, |(seq, _)| *seq);
        let packets = self.log.range(..=last).map(|(seq, received)| (*seq, received));
        self.judge_these(packets.collect(), usize::MAX, network).problems
    }

    /// Judges the packets up to those that arrived after `until` for good: they are then forgotten,
    /// and later changes to them are ignored.
    pub fn settle(&mut self, until: Duration, network: &Network<'_>) -> Vec<Problem> {
        let count = self.log.values().take_while(|received| received.at <= until).count();
        if count == 0 {
            return std::mem::take(&mut self.found);
        }
        let packets = self.log.iter().map(|(seq, received)| (*seq, received));
        let judge = self.judge_these(packets.take(count + OVERTAKEN).collect(), count, network);
        let Judge { state, problems, .. } = judge;
        self.state = state;
        self.found.clear();
        for _ in 0..count {
            self.settled = self.log.pop_first();
        }
        let end = self.settled.as_ref().map_or(0, |(seq, _)| *seq);
        self.empty = self.empty.split_off(&end);
        self.forget(end);
        problems
    }

    /// Judges the first `count` of these packets.
    fn judge_these<'a>(
        &'a self,
        packets: Vec<(u64, &'a Received)>,
        count: usize,
        network: &Network<'a>,
    ) -> Judge<'a> {
        let before = self.settled.iter().map(|(seq, received)| (*seq, received));
        let from = usize::from(self.settled.is_some());
        let mut judge = Judge {
            empty: &self.empty,
            packets: before.chain(packets).collect(),
            network: *network,
            state: self.state.clone(),
            problems: self.found.clone(),
        };
        for at in from..judge.packets.len().min(from.saturating_add(count)) {
            judge.packet(at);
        }
        judge.problems.sort_by_key(|problem| problem.at);
        judge
    }

    /// Returns the differences between what was received and what was sent according to `wire`.
    pub fn compare(&self, wire: &Self) -> Vec<Problem> {
        let mut problems = self.found.clone();
        // Which cycle of numbers is the first depends on where each began to listen.
        let aligned = |shift: i64| {
            let first = self.log.iter().next();
            first.is_some_and(|(seq, received)| {
                let there = wire.log.get(&seq.wrapping_add_signed(shift));
                there.is_some_and(|there| there.same_as(received))
            })
        };
        let shift = [0, 0x1_0000, -0x1_0000].into_iter().find(|shift| aligned(*shift)).unwrap_or(0);
        for (seq, received) in &self.log {
            let there = wire.log.get(&seq.wrapping_add_signed(shift));
            if !there.is_some_and(|there| there.same_as(received)) {
                let (at, what) = (received.at, format!("{received:?} came of {there:?}"));
                problems.push(Problem { at, seq: *seq, rule: Rule::Reused, what });
            }
        }
        problems
    }
}

impl Judge<'_> {
    /// Checks one packet against those before it.
    fn packet(&mut self, at: usize) {
        let missing = self.missing_numbers(at);
        let (_, received) = self.packets[at];
        let fresh = received.starts_anew() && !self.state.have.contains_key(&received.id());
        let hole = self.network.lossy && missing > 0;
        self.state.torn |= hole;
        self.state.torn &= !fresh || received.truth.independent;
        self.gap(at, missing);
        self.frame(at);
        self.references(at);
        self.marker(at);
        if !hole && at > 0 {
            self.offsets(at);
            self.picture_ids(at);
        }
        self.descriptor(at);
    }

    fn report(&mut self, at: usize, rule: Rule, what: String) {
        let (seq, received) = self.packets[at];
        self.problems.push(Problem { at: received.at, seq, rule, what });
    }

    /// Number of missing numbers before a packet.
    fn missing_numbers(&self, at: usize) -> usize {
        let Some(before) = at.checked_sub(1) else { return 0 };
        let ((a, _), (b, _)) = (self.packets[before], self.packets[at]);
        (b - a - 1) as usize - self.empty.range(a..b).count()
    }

    /// Checks a gap in the numbers.
    fn gap(&mut self, at: usize, missing: usize) {
        if missing > 0 && !self.network.lossy {
            let ((_, before), (_, received)) = (self.packets[at - 1], self.packets[at]);
            let near = |r: &Received| {
                let body = r.truth.body;
                self.network.lost(body, body.frame.saturating_sub(6), body.frame + 6)
            };
            let mut lost = near(before) + near(received);
            if before.id().0 == received.id().0 && before.id().1 < received.id().1 {
                lost += self.network.lost(received.truth.body, before.id().1, received.id().1);
            }
            let overtaken = self.network.overtaken && before.truth.body.key;
            let excused = missing <= lost || overtaken || self.ends_soon(at);
            if self.network.orderly || !excused {
                let (a, b) = (before.truth.body, received.truth.body);
                self.report(at, Rule::Gap, format!("{missing} numbers between {a:?} and {b:?}"));
            }
        }
    }

    /// Returns whether a frame starts anew shortly after a packet: what it overtook is then of no
    /// use.
    fn ends_soon(&self, at: usize) -> bool {
        let next = self.packets[at..].iter().take(OVERTAKEN);
        let (_, received) = self.packets[at];
        next.into_iter().any(|(_, r)| r.starts_anew() && r.id() != received.id())
            || received.starts_anew()
    }

    /// Checks the packets of each frame, and the order of frames.
    fn frame(&mut self, at: usize) {
        let (seq, received) = self.packets[at];
        let (body, id) = (received.truth.body, received.id());
        let before = at.checked_sub(1).map(|before| self.packets[before]);
        let same = before.filter(|(_, before)| before.id() == id);
        if let Some((before, other)) = same {
            let (numbers, parts) =
                (seq - before, i64::from(body.part) - i64::from(other.truth.body.part));
            if numbers as i64 != parts || self.network.orderly && parts != 1 {
                self.report(at, Rule::Torn, format!("{parts} parts on, {numbers} numbers on"));
            }
            return;
        }
        let last = self.state.newest.insert(id.0, id.1);
        if last.is_some_and(|last| last >= id.1) {
            self.report(at, Rule::Order, format!("{id:?} after {last:?}"));
        }
        if let Some((_, before)) = before {
            let other = before.truth.body;
            let cut = self.network.full && received.starts_anew();
            if self.network.orderly && other.part + 1 != other.parts && !cut {
                self.report(at, Rule::Torn, format!("{other:?} was the last of its frame"));
            }
        }
        if self.network.orderly && body.part != 0 {
            self.report(at, Rule::Torn, format!("{body:?} is the first of its frame"));
        }
    }

    /// Checks that everything a frame refers to was forwarded before, or lost before it reached the
    /// bridge.
    fn references(&mut self, at: usize) {
        let (_, received) = self.packets[at];
        let (id, truth) = (received.id(), &received.truth);
        if self.state.have.contains_key(&id) {
            return;
        }
        if received.starts_anew() {
            self.state.have.retain(|id, layer| survives(*id, *layer, truth));
            self.state.key = truth.body.frame;
        }
        for r in &truth.refs {
            let missing = self.missing(truth.body, *r);
            // The keyframes of other layers of one picture are among what may be dropped.
            let overtaken = |m: &u32| self.network.overtaken && m + MAX_LAYERS > self.state.key;
            if let Some(missing) = missing.filter(|m| !self.state.torn && !overtaken(m)) {
                let what = format!(
                    "{:?} (S{}T{}) needs frame {missing} for its reference {r}",
                    truth.body, truth.spatial, truth.temporal
                );
                self.report(at, Rule::Reference, what);
            }
        }
        self.state.have.insert(id, (truth.spatial, truth.picture));
    }

    /// The frame that was not forwarded though it could have been, and for lack of which `frame`
    /// cannot be decoded.
    fn missing(&self, body: Body, frame: u32) -> Option<u32> {
        let mut open = vec![frame];
        let mut seen = BTreeSet::new();
        while let Some(frame) = open.pop() {
            if self.state.have.contains_key(&(body.encoding, frame)) || !seen.insert(frame) {
                continue;
            }
            if self.network.lost(body, frame, frame) == 0 {
                return Some(frame);
            }
            // It was lost, so what it needs must be there for it to be of use.
            let sent = self.network.sent.and_then(|s| s.frames.get(&(body.encoding, frame)));
            open.extend(sent.iter().flat_map(|(refs, _)| refs));
        }
        None
    }

    fn marker(&mut self, at: usize) {
        let (_, received) = self.packets[at];
        let Some((_, next)) = self.packets.get(at + 1).copied() else { return };
        let last = next.timestamp != received.timestamp;
        if received.marker && !last {
            self.report(at, Rule::Marker, format!("{:?} is not the last", received.truth.body));
        }
        let cut = self.network.full && next.starts_anew();
        if last && !received.marker && self.network.orderly && !cut {
            self.report(at, Rule::Marker, format!("{:?} is the last", received.truth.body));
        }
    }

    /// Checks that running numbers keep the sender's distances, except where a frame starts anew:
    /// there they continue.
    fn offsets(&mut self, at: usize) {
        let ((_, before), (_, received)) = (self.packets[at - 1], self.packets[at]);
        let (was, is) = (before.offsets(), received.offsets());
        let fresh = received.id() != before.id() && received.starts_anew();
        if before.truth.codec != received.truth.codec && fresh {
            let step = received.timestamp.wrapping_sub(before.timestamp) as i32;
            if step <= 0 {
                self.report(at, Rule::Timestamp, format!("{step} after another codec"));
            }
            return;
        }
        let timestamp = received.timestamp.wrapping_sub(before.timestamp);
        let ids = (before.described.picture_id, received.described.picture_id);
        let tl0 = (before.described.tl0, received.described.tl0);
        let numbers = (before.frame_number(), received.frame_number());
        let forward = [
            (Rule::Timestamp, was.timestamp == is.timestamp, (timestamp as i32) > 0),
            (
                Rule::PictureId,
                was.picture_id == is.picture_id,
                distance(ids, |a, b| (1..0x4000).contains(&(b.wrapping_sub(a) & 0x7fff))),
            ),
            (
                Rule::Tl0,
                was.tl0 == is.tl0,
                distance(tl0, |a, b| (1..0x80).contains(&b.wrapping_sub(a))),
            ),
            (
                Rule::FrameNumber,
                was.frame_number == is.frame_number,
                distance(numbers, |a, b| (1..0x8000).contains(&b.wrapping_sub(a))),
            ),
        ];
        for (rule, same, forward) in forward {
            let goes_on = same || fresh && forward;
            if !goes_on {
                let what = format!("{was:?} and then {is:?} at {:?}", received.truth.body);
                self.report(at, rule, what);
            }
        }
    }

    /// A VP8 decoder takes each missing picture id for a lost frame.
    fn picture_ids(&mut self, at: usize) {
        let ((_, before), (_, received)) = (self.packets[at - 1], self.packets[at]);
        if received.truth.codec != Codec::Vp8 || before.truth.codec != Codec::Vp8 {
            return;
        }
        let ids = (before.described.picture_id, received.described.picture_id);
        let (Some(was), Some(is)) = ids else { return };
        let step = usize::from(is.wrapping_sub(was) & 0x7fff);
        let (a, b) = (before.id(), received.id());
        let most = if a == b {
            0
        } else if a.0 == b.0
            && a.1 < b.1
            && !received.starts_anew()
            && !(self.network.overtaken && before.truth.body.key)
        {
            let lost: BTreeSet<u32> = (a.1 + 1..b.1)
                .filter(|n| self.network.lost(received.truth.body, *n, *n) > 0)
                .collect();
            1 + lost.len()
        } else if self.network.orderly {
            1
        } else {
            0x3fff
        };
        if step > most || step == 0 && most > 0 {
            self.report(at, Rule::PictureId, format!("{step} on from {a:?} to {b:?}"));
        }
    }

    fn descriptor(&mut self, at: usize) {
        let (_, received) = self.packets[at];
        let (described, truth) = (received.described, &received.truth);
        let layers = (
            described.spatial.unwrap_or(truth.spatial),
            described.temporal.unwrap_or(truth.temporal),
        );
        if layers != (truth.spatial, truth.temporal) {
            let what = format!("{:?} is not of layer {layers:?}", truth.body);
            self.report(at, Rule::Descriptor, what);
        }
        let Some(bytes) = &received.descriptor else { return };
        let read = descriptor::read(bytes, self.state.structure.as_ref());
        let Some(read) = read else {
            if !self.state.torn {
                self.report(at, Rule::Descriptor, format!("{bytes:x?} cannot be read"));
            }
            return;
        };
        if read.structure.is_some() {
            self.state.structure = read.structure;
        }
        let body = truth.body;
        if (read.start, read.end) != (body.part == 0, body.part + 1 == body.parts) {
            self.report(at, Rule::Descriptor, format!("{body:?} is not where it says"));
        }
        let lies = Some(read.number) != received.frame_number();
        let lies = lies
            || read.frame.is_none_or(|frame| {
                let refs = frame.fdiffs.iter().map(|diff| body.frame.wrapping_sub(*diff));
                (frame.spatial, frame.temporal) != (truth.spatial, truth.temporal)
                    || refs.into_iter().any(|r| !truth.refs.contains(&r))
            });
        // The structure may have been lost with its keyframe.
        if lies && self.network.orderly {
            self.report(at, Rule::Descriptor, format!("{bytes:x?} does not describe {body:?}"));
        }
    }
}

fn distance<T>((a, b): (Option<T>, Option<T>), sound: impl Fn(T, T) -> bool) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => sound(a, b),
        _ => true,
    }
}
