//! The projection of a source for one receiver: which of the source's encodings the receiver gets, and
//! how that encoding's running numbers continue the ones the receiver has seen.
//!
//! The receiver's sequence numbers are its own. They are the source's, shifted by a constant for as long
//! as all of the source goes through, so that a packet lost on the way to the bridge stays a gap that the
//! receiver can name. Whatever is skipped leaves none: a switch, a pause, a packet whose codec the receiver
//! lacks, a sender whose numbers leap. So the numbers never run away from a receiver (RFC 3711 section
//! 3.3.1 bears gaps of less than 2^15). A switch happens at a keyframe of the target; packets of the old
//! encoding that come after it are late and dropped.

use crate::{egress::wire::Shift, ingress::PacketMeta};

/// When a codec's keyframes can be recognised but none comes (end-to-end encryption may hide them),
/// forwarding starts anyway after this time, as JVB does at once.
const START_ANYWAY_MS: u32 = 3_000;
/// The same for a stream that has never shown a keyframe, most likely because it cannot.
const START_HIDDEN_MS: u32 = 1_000;

/// The widest gap that is passed on, packets: nobody asks for more ([`crate::ingress::nack::MAX_GAP`]).
const MAX_GAP: i64 = crate::ingress::nack::MAX_GAP as i64;
/// A packet that is late by more is none: ingress bears half as much. Its numbers begin anew.
const MAX_LATE: i64 = 2_048;

/// Stands for the encoding that was forwarded last when it was another source's.
const OTHER_SOURCE: u8 = u8::MAX;

/// The running numbers that a projected packet gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Projected {
    /// Packet index: its low 16 bits are the sequence number, the rest is the ROC.
    pub index: u64,
    /// RTP timestamp.
    pub timestamp: u32,
    /// Added to the codec's running numbers.
    pub shift: Shift,
}

/// See the module's description.
#[derive(Clone, Debug)]
pub struct Projection {
    clock_rate: u32,
    current: Option<u8>,
    target: Option<u8>,
    /// The encoding that was forwarded last.
    last: Option<u8>,
    /// It began without a keyframe, as none could be seen of it.
    blind: bool,
    /// Smallest index of the current encoding that `delta` is for.
    floor: u64,
    /// `out = in + delta`, modulo 2^64.
    delta: u64,
    /// The same for packets that are late: from where, and how much.
    earlier: Option<(u64, u64)>,
    timestamp_delta: u32,
    shift: Shift,
    /// The next index never given to a packet.
    next: u64,
    /// The next index under which no packet has left.
    left: u64,
    newest_timestamp: u32,
    newest_at_ms: u32,
    newest_picture_id: u16,
    newest_tl0: u8,
    newest_frame_number: u16,
    waiting_since_ms: Option<u32>,
    /// The encoding that is forwarded does not arrive any more.
    orphaned: bool,
}

impl Projection {
    /// `first`: the first index that may be used under this SSRC and the receiver's key; an index is
    /// never used twice.
    pub fn new(clock_rate: u32, first: u64) -> Self {
        Self {
            clock_rate,
            current: None,
            target: None,
            last: None,
            blind: false,
            floor: 0,
            delta: 0,
            earlier: None,
            timestamp_delta: 0,
            shift: Shift::default(),
            next: first,
            left: first,
            newest_timestamp: 0,
            newest_at_ms: 0,
            newest_picture_id: 0,
            newest_tl0: 0,
            newest_frame_number: 0,
            waiting_since_ms: None,
            orphaned: false,
        }
    }

    /// The projection of another source that is sent under the same SSRC from index `first` on: the
    /// running numbers go on where these ended, as they do at a switch between encodings.
    #[must_use]
    pub fn of_next_source(&self, clock_rate: u32, first: u64) -> Self {
        Self {
            last: self.last.map(|_| OTHER_SOURCE),
            newest_timestamp: self.newest_timestamp,
            newest_at_ms: self.newest_at_ms,
            newest_picture_id: self.newest_picture_id,
            newest_tl0: self.newest_tl0,
            newest_frame_number: self.newest_frame_number,
            ..Self::new(clock_rate, first)
        }
    }

    /// The encoding that is forwarded.
    pub fn current(&self) -> Option<u8> {
        self.current
    }

    /// The encoding that was decided.
    pub fn target(&self) -> Option<u8> {
        self.target
    }

    /// The first index that was never used.
    pub fn next_index(&self) -> u64 {
        self.next
    }

    /// The clock of its timestamps, Hz.
    pub fn clock_rate(&self) -> u32 {
        self.clock_rate
    }

    /// What is added to the current encoding's timestamps.
    pub fn timestamp_delta(&self) -> u32 {
        self.timestamp_delta
    }

    /// Decides the encoding. Returns whether a keyframe of it is now needed.
    pub fn set_target(&mut self, target: Option<u8>, now_ms: u32) -> bool {
        if self.target != target {
            self.target = target;
            self.waiting_since_ms = None;
        }
        let waits = self.waits();
        if waits && self.waiting_since_ms.is_none() {
            self.waiting_since_ms = Some(now_ms);
        }
        waits
    }

    /// Says whether the encoding that is forwarded still arrives.
    pub fn set_orphaned(&mut self, orphaned: bool) {
        self.orphaned = orphaned && self.current.is_some();
    }

    /// The receiver can be sent something from now on: it waits since now.
    pub fn restart_waiting(&mut self, now_ms: u32) {
        self.waiting_since_ms = self.waits().then_some(now_ms);
    }

    /// Whether a keyframe of the target is needed before it can be forwarded.
    pub fn waits(&self) -> bool {
        self.target.is_some() && self.target != self.current
    }

    /// Nothing goes to the receiver for a while. It goes on at a keyframe, without a gap.
    pub fn pause(&mut self, now_ms: u32) {
        if self.current.take().is_some() {
            self.waiting_since_ms = Some(now_ms);
        }
    }

    /// New keys of the receiver: begins anew at index `first`.
    pub fn restart(&mut self, first: u64, now_ms: u32) {
        self.pause(now_ms);
        (self.next, self.left) = (first, first);
    }

    /// A packet with this index has left.
    #[inline]
    pub fn on_sent(&mut self, index: u64) {
        self.left = self.left.max(index.saturating_add(1));
    }

    /// Numbers of packets that could not leave are given to others before they run away from the
    /// receiver.
    #[inline]
    pub fn reclaim(&mut self, now_ms: u32) {
        if self.next.saturating_sub(self.left) > MAX_GAP.unsigned_abs() {
            self.pause(now_ms);
            self.next = self.left;
        }
    }

    /// A packet that the receiver cannot get: it has not the codec.
    pub fn skip(&mut self, encoding: u8, meta: &PacketMeta) {
        if self.current != Some(encoding) || meta.index < self.floor || self.ahead(meta) < 0 {
            // Later ones have their numbers already.
            return;
        }
        if meta.keyframes_known {
            // What follows may refer to it.
            return self.pause(meta.arrival_ms);
        }
        if meta.index > self.floor {
            self.earlier = Some((self.floor, self.delta));
        }
        self.floor = meta.index.saturating_add(1);
        self.delta = self.delta.wrapping_sub(1);
    }

    /// How far ahead a packet is of the next one, were it of the current encoding.
    #[inline]
    fn ahead(&self, meta: &PacketMeta) -> i64 {
        meta.index.wrapping_add(self.delta).wrapping_sub(self.next) as i64
    }

    /// The numbers that this packet gets, or `None` when it is not forwarded.
    #[inline]
    pub fn accept(&mut self, encoding: u8, meta: &PacketMeta) -> Option<Projected> {
        if self.current == Some(encoding)
            && (meta.resumes || !(-MAX_LATE..=MAX_GAP).contains(&self.ahead(meta)))
        {
            self.pause(meta.arrival_ms);
        }
        if self.current != Some(encoding) {
            if self.target != Some(encoding) || !self.may_switch(encoding, meta) {
                return None;
            }
            self.switch(encoding, meta);
        }
        let delta = if meta.index >= self.floor { self.delta } else { self.late_delta(meta)? };
        let index = meta.index.wrapping_add(delta);
        let timestamp = meta.timestamp.wrapping_add(self.timestamp_delta);
        if index >= self.next {
            self.next = index.saturating_add(1);
            self.newest_timestamp = timestamp;
            self.newest_at_ms = meta.arrival_ms;
            if meta.vp8.picture_id_bits != 0 {
                self.newest_picture_id = meta.vp8.picture_id.wrapping_add(self.shift.picture_id);
                self.newest_tl0 = meta.vp8.tl0.wrapping_add(self.shift.tl0);
            }
            if let Some(number) = meta.frame_number {
                self.newest_frame_number = number.wrapping_add(self.shift.frame_number);
            }
        }
        Some(Projected { index, timestamp, shift: self.shift })
    }

    #[cold]
    fn late_delta(&self, meta: &PacketMeta) -> Option<u64> {
        self.earlier.filter(|(from, _)| meta.index >= *from).map(|(_, delta)| delta)
    }

    fn may_switch(&self, encoding: u8, meta: &PacketMeta) -> bool {
        if meta.payload_len == 0 {
            return false;
        }
        if !meta.keyframes_known || meta.keyframe {
            return true;
        }
        if self.blind && self.last == Some(encoding) {
            // To wait for what cannot be seen would only make a pause longer.
            return true;
        }
        let patience = if meta.keyframes_hidden { START_HIDDEN_MS } else { START_ANYWAY_MS };
        // Who has nothing meanwhile is not left with nothing for ever.
        (self.current.is_none() || self.orphaned)
            && self.waiting_since_ms.is_some_and(|since| {
                let waited = meta.arrival_ms.wrapping_sub(since);
                waited > patience && waited <= u32::MAX / 2
            })
    }

    /// Makes `encoding` the current one, its packet `meta` the next to be sent.
    fn switch(&mut self, encoding: u8, meta: &PacketMeta) {
        self.delta = self.next.wrapping_sub(meta.index);
        self.earlier = None;
        self.floor = meta.index;
        if self.last.is_some() {
            // The old encoding's newest packet may have come after this one: both wait to be flushed.
            let elapsed = (meta.arrival_ms.wrapping_sub(self.newest_at_ms) as i32).max(0);
            let ticks = i64::from(elapsed).wrapping_mul(i64::from(self.clock_rate)) / 1000;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "RTP timestamps count modulo 2^32"
            )]
            let timestamp = self.newest_timestamp.wrapping_add((ticks as u32).max(1));
            let own = meta.timestamp.wrapping_add(self.timestamp_delta);
            // An encoding that goes on after a pause keeps its own time, when that is plausible.
            let same = self.last == Some(encoding)
                && (own.wrapping_sub(timestamp) as i32).unsigned_abs() < self.clock_rate
                && (own.wrapping_sub(self.newest_timestamp) as i32) > 0;
            if !same {
                self.timestamp_delta = timestamp.wrapping_sub(meta.timestamp);
                self.continue_numbers(meta);
            }
        }
        self.blind = meta.keyframes_known && !meta.keyframe;
        self.last = Some(encoding);
        self.current = Some(encoding);
        self.waiting_since_ms = None;
    }

    /// The codec's numbers go on where those of the old encoding ended: a decoder takes a keyframe whose
    /// numbers are lower than what it has seen for one that is late.
    fn continue_numbers(&mut self, meta: &PacketMeta) {
        let after = |newest: u16, own: u16| newest.wrapping_add(1).wrapping_sub(own);
        if meta.vp8.picture_id_bits != 0 {
            self.shift.picture_id = after(self.newest_picture_id, meta.vp8.picture_id);
            self.shift.tl0 = self.newest_tl0.wrapping_add(1).wrapping_sub(meta.vp8.tl0);
        }
        if let Some(own) = meta.frame_number {
            self.shift.frame_number = after(self.newest_frame_number, own);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{egress::receiver::numbers::FIRST, ingress::Vp8Place};

    fn packet(index: u64, timestamp: u32, arrival_ms: u32, keyframe: bool) -> PacketMeta {
        PacketMeta {
            index,
            timestamp,
            arrival_ms,
            keyframe,
            keyframes_known: true,
            payload_len: 100,
            vp8: Vp8Place {
                picture_id_at: 2,
                picture_id_bits: 15,
                tl0_at: 4,
                tl0: index as u8,
                picture_id: index as u16,
            },
            frame_number: Some((index as u16).wrapping_mul(3)),
            ..PacketMeta::default()
        }
    }

    #[test]
    fn starts_at_a_keyframe_with_numbers_of_its_own() {
        let mut p = Projection::new(90_000, FIRST);
        assert!(p.set_target(Some(0), 0));
        assert_eq!(p.accept(0, &packet(0x1_fff5, 7, 1, false)), None);
        let out = p.accept(0, &packet(0x1_fff6, 8, 2, true)).unwrap();
        assert_eq!((out.index, out.timestamp), (1, 8), "whatever the sender's, it begins low");
        assert_eq!(p.accept(0, &packet(0x1_fff5, 7, 3, false)), None, "from before the keyframe");
        assert_eq!(
            p.accept(0, &packet(0x1_fff8, 9, 3, false)).unwrap().index,
            3,
            "a loss is a gap"
        );
        assert_eq!(p.accept(0, &packet(0x1_fff7, 9, 3, false)).unwrap().index, 2, "late fills it");
        assert_eq!(p.next_index(), 4);
    }

    #[test]
    fn a_switch_continues_every_running_number() {
        let mut p = Projection::new(90_000, FIRST);
        p.set_target(Some(0), 0);
        p.accept(0, &packet(100, 1_000, 10, true)).unwrap();
        assert!(p.set_target(Some(2), 20));
        assert_eq!(p.accept(2, &packet(5_000, 77_000, 20, false)), None);
        assert_eq!(p.accept(0, &packet(101, 4_000, 43, false)).unwrap().index, 2);
        let out = p.accept(2, &packet(5_001, 80_000, 53, true)).unwrap();
        assert_eq!(out.index, 3);
        assert_eq!(out.timestamp, 4_000 + 900, "10 ms at 90 kHz");
        assert_eq!(5_001u16.wrapping_add(out.shift.picture_id), 102);
        assert_eq!((5_001u64 as u8).wrapping_add(out.shift.tl0), 102);
        assert_eq!(15_003u16.wrapping_add(out.shift.frame_number), 3 * 101 + 1);
        assert_eq!(p.accept(0, &packet(102, 7_000, 54, false)), None, "the old one has ended");
        assert!(!p.waits());
    }

    /// A projection that has forwarded packet 100 as its first.
    fn forwarding() -> Projection {
        let mut p = Projection::new(90_000, FIRST);
        p.set_target(Some(0), 0);
        assert_eq!(p.accept(0, &packet(100, 9_000, 100, true)).unwrap().index, 1);
        p.on_sent(1);
        p
    }

    #[test]
    fn what_leaps_goes_on_at_a_keyframe_without_a_gap() {
        for index in [100 + 102, 60_000, 1 << 20, 5_000_000_000, u64::MAX / 2] {
            let mut p = forwarding();
            assert_eq!(p.accept(0, &packet(index, 18_000, 200, false)), None, "{index}");
            assert!(p.waits());
            let out = p.accept(0, &packet(index + 1, 18_090, 201, true)).unwrap();
            assert_eq!((out.index, out.timestamp), (2, 18_090), "{index}");
        }
        let mut p = forwarding();
        assert_eq!(p.accept(0, &packet(201, 18_000, 200, false)).unwrap().index, 102, "a loss");
    }

    #[test]
    fn numbers_that_begin_anew_are_not_late() {
        let mut p = Projection::new(90_000, FIRST);
        p.set_target(Some(0), 0);
        p.accept(0, &packet(1 << 20, 9_000, 100, true)).unwrap();
        assert_eq!(p.accept(0, &packet(7, 18_000, 200, true)).unwrap().index, 2);
        assert_eq!(p.accept(0, &packet(8, 18_000, 200, false)).unwrap().index, 3);
    }

    #[test]
    fn what_ended_at_the_bridge_before_makes_it_wait_for_a_keyframe() {
        let mut p = forwarding();
        let resumes =
            |index, keyframe| PacketMeta { resumes: true, ..packet(index, 18_000, 200, keyframe) };
        assert_eq!(p.accept(0, &resumes(101, false)), None);
        assert_eq!(p.accept(0, &packet(102, 18_000, 200, false)), None);
        assert_eq!(p.accept(0, &packet(103, 18_000, 200, true)).unwrap().index, 2);
        assert_eq!(p.accept(0, &resumes(104, true)).unwrap().index, 3, "it is one itself");
    }

    #[test]
    fn a_codec_that_is_lacking_leaves_no_gap() {
        let other = |index| PacketMeta { keyframes_known: false, ..packet(index, 0, 100, false) };
        let mut p = forwarding();
        assert_eq!(p.accept(0, &packet(101, 9_000, 100, false)).unwrap().index, 2);
        // 102 is late, and so is 105; 103, 104 and 106 are of the other codec.
        p.skip(0, &other(103));
        p.skip(0, &other(104));
        p.skip(0, &other(106));
        assert_eq!(p.accept(0, &packet(107, 9_000, 100, false)).unwrap().index, 5);
        assert_eq!(p.accept(0, &packet(105, 9_000, 100, false)).unwrap().index, 4);
        assert_eq!(
            p.accept(0, &packet(102, 9_000, 100, false)),
            None,
            "two such gaps are forgotten"
        );
        p.skip(0, &other(100));
        assert_eq!(p.accept(0, &packet(108, 9_000, 100, false)).unwrap().index, 6, "it was late");
        for index in 109..200_000 {
            p.skip(0, &other(index));
        }
        assert_eq!(p.accept(0, &packet(200_000, 9_000, 100, false)).unwrap().index, 7);
        // A video codec is what others refer to.
        p.skip(0, &packet(200_001, 9_000, 100, false));
        assert_eq!(p.accept(0, &packet(200_002, 9_000, 100, false)), None);
        assert_eq!(p.accept(0, &packet(200_003, 9_000, 100, true)).unwrap().index, 8);
    }

    #[test]
    fn numbers_of_what_could_not_leave_are_given_again() {
        let mut p = forwarding();
        for index in 101..=150 {
            p.accept(0, &packet(index, 9_000, 100, false)).unwrap();
        }
        p.reclaim(100);
        assert_eq!(p.next_index(), 52, "a gap like that of a lossy link");
        for index in 151..=250 {
            p.accept(0, &packet(index, 9_000, 100, false)).unwrap();
        }
        p.reclaim(100);
        assert_eq!(p.accept(0, &packet(251, 9_000, 100, false)), None);
        assert_eq!(p.accept(0, &packet(252, 9_000, 100, true)).unwrap().index, 2);
    }

    #[test]
    fn new_keys_of_the_receiver_begin_with_the_first_number() {
        let mut p = forwarding();
        for index in 101..70_000 {
            p.accept(0, &packet(index, 9_000, 100, false)).unwrap();
        }
        p.restart(FIRST, 100);
        assert_eq!(p.accept(0, &packet(70_000, 9_000, 100, false)), None);
        assert_eq!(p.accept(0, &packet(70_001, 9_000, 100, true)).unwrap().index, FIRST);
    }

    #[test]
    fn a_switch_to_what_came_earlier_does_not_turn_time_back() {
        let mut p = Projection::new(90_000, FIRST);
        p.set_target(Some(0), 0);
        p.accept(0, &packet(100, 1_000, 10, true)).unwrap();
        p.accept(0, &packet(101, 4_000, 43, false)).unwrap();
        p.set_target(Some(1), 43);
        let out = p.accept(1, &packet(7, 80_000, 42, true)).unwrap();
        assert_eq!((out.index, out.timestamp), (3, 4_001));
    }

    #[test]
    fn another_source_goes_on_where_the_one_before_ended() {
        let before = forwarding();
        let mut p = before.of_next_source(90_000, before.next_index());
        p.set_target(Some(0), 140);
        assert_eq!(p.accept(0, &packet(7_001, 500, 140, false)), None, "no keyframe");
        let out = p.accept(0, &packet(7_002, 600, 150, true)).unwrap();
        assert_eq!((out.index, out.timestamp), (2, 9_000 + 50 * 90), "50 ms at 90 kHz");
        assert_eq!(7_002u16.wrapping_add(out.shift.picture_id), 101);
        assert_eq!((7_002u64 as u8).wrapping_add(out.shift.tl0), 101);
        assert_eq!(21_006u16.wrapping_add(out.shift.frame_number), 3 * 100 + 1);
        let unused = Projection::new(90_000, FIRST).of_next_source(48_000, FIRST);
        assert_eq!((unused.last, unused.clock_rate()), (None, 48_000), "nothing to go on from");
    }

    #[test]
    fn an_index_is_never_used_again_after_a_return() {
        let mut p = Projection::new(90_000, FIRST);
        p.set_target(Some(0), 0);
        p.accept(0, &packet(500, 0, 0, true)).unwrap();
        let next = p.next_index();
        let mut again = Projection::new(90_000, next);
        again.set_target(Some(0), 0);
        assert!(again.accept(0, &packet(400, 0, 0, true)).unwrap().index >= next);
    }

    #[test]
    fn starts_without_a_keyframe_when_none_can_be_seen() {
        let mut p = Projection::new(90_000, FIRST);
        p.set_target(Some(0), 1);
        assert_eq!(p.accept(0, &packet(1, 0, 2_000, false)), None);
        assert!(p.accept(0, &packet(2, 0, 3_100, false)).is_some());
        let after_a_leap = p.accept(0, &packet(70_000, 0, 3_200, false)).unwrap();
        assert_eq!(after_a_leap.index, 2, "and goes on without one");
    }
}
