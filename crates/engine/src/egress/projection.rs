//! The projection of a source for one receiver: which of the source's encodings the receiver gets, and
//! how that encoding's running numbers continue the ones the receiver has seen.
//!
//! Sequence numbers are shifted by a constant between two switches, so a packet lost on the way to the
//! bridge stays a gap that the receiver can name. A switch happens at a keyframe of the target; packets
//! of the old encoding that come after it are late and dropped.

use crate::ingress::{PacketMeta, Vp8Place};

/// When a codec's keyframes can be recognised but none comes (end-to-end encryption may hide them),
/// forwarding starts anyway after this time, as JVB does at once.
const START_ANYWAY_MS: u32 = 3_000;
/// The same for a stream that has never shown a keyframe, most likely because it cannot.
const START_HIDDEN_MS: u32 = 1_000;

/// The running numbers that a projected packet gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Projected {
    /// Packet index: its low 16 bits are the sequence number, the rest is the ROC.
    pub index: u64,
    /// RTP timestamp.
    pub timestamp: u32,
    /// Added to a VP8 picture id (modulo its width).
    pub picture_id_delta: u16,
    /// Added to TL0PICIDX.
    pub tl0_delta: u8,
}

/// See the module's description.
#[derive(Clone, Debug)]
pub struct Projection {
    clock_rate: u32,
    current: Option<u8>,
    target: Option<u8>,
    /// Smallest index of the current encoding that still belongs to it.
    floor: u64,
    /// `out = in + delta`.
    delta: i64,
    timestamp_delta: u32,
    picture_id_delta: u16,
    tl0_delta: u8,
    /// The next index never sent.
    next: u64,
    started: bool,
    newest_timestamp: u32,
    newest_at_ms: u32,
    newest_picture_id: u16,
    newest_tl0: u8,
    waiting_since_ms: Option<u32>,
    /// The encoding that is forwarded does not arrive any more.
    orphaned: bool,
}

impl Projection {
    /// `resume`: the first index that may be used, when the receiver has had packets of this SSRC
    /// under the same key before; an index is never used twice.
    pub fn new(clock_rate: u32, resume: Option<u64>) -> Self {
        Self {
            clock_rate,
            current: None,
            target: None,
            floor: 0,
            delta: 0,
            timestamp_delta: 0,
            picture_id_delta: 0,
            tl0_delta: 0,
            next: resume.unwrap_or(0),
            started: resume.is_some(),
            newest_timestamp: 0,
            newest_at_ms: 0,
            newest_picture_id: 0,
            newest_tl0: 0,
            waiting_since_ms: None,
            orphaned: false,
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

    /// The numbers that this packet gets, or `None` when it is not forwarded.
    #[inline]
    pub fn accept(&mut self, encoding: u8, meta: &PacketMeta) -> Option<Projected> {
        if self.current != Some(encoding) {
            if self.target != Some(encoding) || !self.may_switch(meta) {
                return None;
            }
            self.switch(encoding, meta);
        } else if meta.index < self.floor {
            return None;
        }
        let index = u64::try_from(i64::try_from(meta.index).ok()?.checked_add(self.delta)?).ok()?;
        let timestamp = meta.timestamp.wrapping_add(self.timestamp_delta);
        if index >= self.next {
            self.next = index + 1;
            self.newest_timestamp = timestamp;
            self.newest_at_ms = meta.arrival_ms;
            if meta.vp8.picture_id_bits != 0 {
                self.newest_picture_id = meta.vp8.picture_id.wrapping_add(self.picture_id_delta);
                self.newest_tl0 = meta.vp8.tl0.wrapping_add(self.tl0_delta);
            }
        }
        Some(Projected {
            index,
            timestamp,
            picture_id_delta: self.picture_id_delta,
            tl0_delta: self.tl0_delta,
        })
    }

    fn may_switch(&self, meta: &PacketMeta) -> bool {
        if meta.payload_len == 0 {
            return false;
        }
        if !meta.keyframes_known || meta.keyframe {
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
        let out = if self.started {
            self.next
        } else {
            // The receiver starts with ROC 0 (RFC 3711 section 3.3.1).
            meta.index & 0xffff
        };
        self.delta = out as i64 - meta.index as i64;
        if self.started && self.newest_at_ms != 0 {
            // The old encoding's newest packet may have come after this one: both wait to be flushed.
            let elapsed = (meta.arrival_ms.wrapping_sub(self.newest_at_ms) as i32).max(0);
            let ticks = elapsed as u64 * u64::from(self.clock_rate) / 1000;
            let timestamp = self.newest_timestamp.wrapping_add((ticks as u32).max(1));
            self.timestamp_delta = timestamp.wrapping_sub(meta.timestamp);
            self.continue_vp8(meta.vp8);
        }
        self.started = true;
        self.floor = meta.index;
        self.current = Some(encoding);
        self.waiting_since_ms = None;
    }

    fn continue_vp8(&mut self, vp8: Vp8Place) {
        if vp8.picture_id_bits == 0 {
            return;
        }
        self.picture_id_delta = self.newest_picture_id.wrapping_add(1).wrapping_sub(vp8.picture_id);
        self.tl0_delta = self.newest_tl0.wrapping_add(1).wrapping_sub(vp8.tl0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ..PacketMeta::default()
        }
    }

    #[test]
    fn starts_at_a_keyframe_with_the_senders_numbers() {
        let mut p = Projection::new(90_000, None);
        assert!(p.set_target(Some(0), 0));
        assert_eq!(p.accept(0, &packet(0x1_0005, 7, 1, false)), None);
        let out = p.accept(0, &packet(0x1_0006, 8, 2, true)).unwrap();
        assert_eq!((out.index, out.timestamp), (6, 8), "ROC starts at 0 for the receiver");
        assert_eq!(p.accept(0, &packet(0x1_0005, 7, 3, false)), None, "from before the keyframe");
        assert_eq!(p.accept(0, &packet(0x1_0008, 9, 3, false)).unwrap().index, 8, "gaps stay gaps");
        assert_eq!(p.accept(0, &packet(0x1_0007, 9, 3, false)).unwrap().index, 7, "late fills it");
        assert_eq!(p.next_index(), 9);
    }

    #[test]
    fn a_switch_continues_every_running_number() {
        let mut p = Projection::new(90_000, None);
        p.set_target(Some(0), 0);
        p.accept(0, &packet(100, 1_000, 10, true)).unwrap();
        assert!(p.set_target(Some(2), 20));
        assert_eq!(p.accept(2, &packet(5_000, 77_000, 20, false)), None);
        assert_eq!(p.accept(0, &packet(101, 4_000, 43, false)).unwrap().index, 101);
        let out = p.accept(2, &packet(5_001, 80_000, 53, true)).unwrap();
        assert_eq!(out.index, 102);
        assert_eq!(out.timestamp, 4_000 + 900, "10 ms at 90 kHz");
        assert_eq!(5_001u16.wrapping_add(out.picture_id_delta), 102);
        assert_eq!((5_001u64 as u8).wrapping_add(out.tl0_delta), 102);
        assert_eq!(p.accept(0, &packet(102, 7_000, 54, false)), None, "the old one has ended");
        assert!(!p.waits());
    }

    #[test]
    fn a_switch_to_what_came_earlier_does_not_turn_time_back() {
        let mut p = Projection::new(90_000, None);
        p.set_target(Some(0), 0);
        p.accept(0, &packet(100, 1_000, 10, true)).unwrap();
        p.accept(0, &packet(101, 4_000, 43, false)).unwrap();
        p.set_target(Some(1), 43);
        let out = p.accept(1, &packet(7, 80_000, 42, true)).unwrap();
        assert_eq!((out.index, out.timestamp), (102, 4_001));
    }

    #[test]
    fn an_index_is_never_used_again_after_a_return() {
        let mut p = Projection::new(90_000, None);
        p.set_target(Some(0), 0);
        p.accept(0, &packet(500, 0, 0, true)).unwrap();
        let next = p.next_index();
        let mut again = Projection::new(90_000, Some(next));
        again.set_target(Some(0), 0);
        assert!(again.accept(0, &packet(400, 0, 0, true)).unwrap().index >= next);
    }

    #[test]
    fn starts_without_a_keyframe_when_none_can_be_seen() {
        let mut p = Projection::new(90_000, None);
        p.set_target(Some(0), 1);
        assert_eq!(p.accept(0, &packet(1, 0, 2_000, false)), None);
        assert!(p.accept(0, &packet(2, 0, 3_100, false)).is_some());
    }
}
