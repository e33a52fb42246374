//! Selects the speakers of a conference that are forwarded when only the loudest are
//! (`videobridge.loudest`).
//!
//! Each shard ranks the speakers that it forwards: those of its own senders, and those from other
//! shards, whose packets carry their loudness. So all shards with receivers know the loudest of
//! all, with the delay of a packet between shards.
//!
//! A packet of another speaker is dropped before it is decrypted, by the level that its header
//! claims (RFC 6464). Only decrypted packets affect the state: a forged packet can at most cause
//! its own drop.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "averages of numbers of seven bits, and counts of a bounded list"
)]

use std::time::{Duration, Instant};

use rialto_media::SourceId;
use rialto_rtp::ext::SILENCE;

use crate::Loudest;

/// Most speakers of one conference that are remembered at a time. They expire after a fraction of a
/// second, and are not many more than those that may be heard.
const MAX_SPEAKERS: usize = 64;
/// A speaker must be this much louder to replace one that is forwarded, dB: two equally loud
/// speakers must not cut into each other.
const MARGIN: u8 = 3;
/// A speaker of another shard is no longer forwarded there if no packet of it arrived for this
/// long: there is no other notice. An audio packet is 20 ms long, seldom 60.
const REMOTE: Duration = Duration::from_millis(70);

#[derive(Clone, Copy, Debug)]
struct Speaker {
    source: SourceId,
    /// 0 is silence, 127 is loudest.
    energy: u8,
    /// When a packet of it was last forwarded.
    at: Instant,
    /// Another shard forwards it.
    remote: bool,
}

/// The speakers of one conference that are forwarded, or were a moment ago.
#[derive(Debug, Default)]
pub struct Speakers(Vec<Speaker>);

impl Speakers {
    /// Returns whether a packet of this level is among the loudest.
    #[inline]
    pub fn admits(&self, rules: &Loudest, source: SourceId, level: u8, now: Instant) -> bool {
        let known = self.known(rules, source, now);
        let own = average(rules, known.map(|voice| voice.energy), level);
        let margin = if known.is_some() { 0 } else { MARGIN };
        let louder = self.0.iter().filter(|other| {
            other.source != source
                && other.is_live(rules, now)
                && (own, other.source) < (other.energy.saturating_add(margin), source)
        });
        louder.count() < usize::from(rules.speakers)
    }

    /// Records a decrypted packet of this level that is forwarded. Returns how loud its source is
    /// now.
    pub fn record(&mut self, rules: &Loudest, source: SourceId, level: u8, now: Instant) -> u8 {
        let known = self.known(rules, source, now).map(|voice| voice.energy);
        let energy = average(rules, known, level);
        self.set(rules, Speaker { source, energy, at: now, remote: false });
        energy
    }

    /// Records a decrypted packet of this level that is not forwarded: a speaker that became
    /// quieter counts as such from now on.
    pub fn record_dropped(&mut self, rules: &Loudest, source: SourceId, level: u8, now: Instant) {
        let known = self.0.iter_mut().find(|voice| voice.source == source);
        if let Some(voice) = known.filter(|voice| voice.is_live(rules, now)) {
            voice.energy = voice.energy.min(average(rules, Some(voice.energy), level));
        }
    }

    /// Returns whether a speaker is among those that are forwarded, or was a moment ago.
    pub fn contains(&self, rules: &Loudest, source: SourceId, now: Instant) -> bool {
        self.known(rules, source, now).is_some()
    }

    /// Records that another shard forwards a packet of a source with this loudness.
    pub fn record_remote(&mut self, rules: &Loudest, source: SourceId, energy: u8, now: Instant) {
        self.set(rules, Speaker { source, energy, at: now, remote: true });
    }

    fn set(&mut self, rules: &Loudest, new: Speaker) {
        if let Some(voice) = self.0.iter_mut().find(|voice| voice.source == new.source) {
            *voice = new;
            return;
        }
        if self.0.len() >= MAX_SPEAKERS {
            self.expire(rules, new.at);
        }
        if self.0.len() < MAX_SPEAKERS {
            self.0.push(new);
        }
    }

    /// Removes speakers that have been silent for a while. Returns whether any are left.
    pub fn expire(&mut self, rules: &Loudest, now: Instant) -> bool {
        self.0.retain(|voice| voice.is_live(rules, now));
        !self.0.is_empty()
    }

    fn known(&self, rules: &Loudest, source: SourceId, now: Instant) -> Option<&Speaker> {
        self.0.iter().find(|voice| voice.source == source && voice.is_live(rules, now))
    }
}

impl Speaker {
    fn is_live(&self, rules: &Loudest, now: Instant) -> bool {
        let lives = if self.remote { rules.expires.min(REMOTE) } else { rules.expires };
        now.saturating_duration_since(self.at) <= lives
    }
}

/// The average loudness of a source with this packet. A source that has not been heard lately is as
/// loud as the packet.
fn average(rules: &Loudest, before: Option<u8>, level: u8) -> u8 {
    let now = SILENCE.saturating_sub(level);
    let Some(before) = before else { return now };
    let alpha = u32::from(rules.alpha.min(100));
    ((u32::from(now) * alpha + u32::from(before) * (100 - alpha)) / 100) as u8
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const RULES: Loudest = Loudest {
        only: true,
        speakers: 3,
        dominant: true,
        expires: Duration::from_millis(150),
        alpha: 50,
    };

    fn offer(speakers: &mut Speakers, source: u32, level: u8, now: Instant) -> bool {
        let source = SourceId(source);
        let admitted = speakers.admits(&RULES, source, level, now);
        if admitted {
            speakers.record(&RULES, source, level, now);
        }
        admitted
    }

    #[test]
    fn the_loudest_are_heard_and_a_louder_one_takes_the_place_of_the_quietest() {
        let (mut speakers, now) = (Speakers::default(), Instant::now());
        for (source, level) in [(1, 40), (2, 30), (3, 20)] {
            assert!(offer(&mut speakers, source, level, now));
        }
        assert!(!offer(&mut speakers, 4, 60, now));
        assert!(!offer(&mut speakers, 4, 38, now), "not by so little");
        assert!(offer(&mut speakers, 4, 25, now));
        assert!(!offer(&mut speakers, 1, 40, now));
        assert!(offer(&mut speakers, 2, 30, now) && offer(&mut speakers, 3, 20, now));
    }

    #[test]
    fn who_falls_silent_gives_way_after_a_while() {
        let (mut speakers, start) = (Speakers::default(), Instant::now());
        for source in 1..4 {
            assert!(offer(&mut speakers, source, 20, start));
        }
        let later = start + Duration::from_millis(100);
        assert!(offer(&mut speakers, 1, 20, later) && offer(&mut speakers, 2, 20, later));
        assert!(!offer(&mut speakers, 4, 60, later));
        let later = start + Duration::from_millis(160);
        assert!(offer(&mut speakers, 4, 60, later));
        assert!(speakers.expire(&RULES, later));
        assert!(!speakers.expire(&RULES, later + Duration::from_secs(1)));
    }

    #[test]
    fn who_is_displaced_and_grows_quieter_is_no_match_for_others() {
        let (mut speakers, now) = (Speakers::default(), Instant::now());
        for source in 1..4 {
            assert!(offer(&mut speakers, source, 20, now));
        }
        for source in [4, 5, 6] {
            assert!(!offer(&mut speakers, source, 20, now));
        }
        speakers.record_dropped(&RULES, SourceId(2), 80, now);
        assert!(offer(&mut speakers, 5, 20, now));
        assert!(!offer(&mut speakers, 6, 20, now));
        speakers.record_dropped(&RULES, SourceId(1), 0, now);
        assert_eq!(speakers.known(&RULES, SourceId(1), now).unwrap().energy, 107, "not louder");
        speakers.record_remote(&RULES, SourceId(1), 107, now);
        assert!(offer(&mut speakers, 6, 20, now + REMOTE + Duration::from_millis(1)));
    }

    #[test]
    fn loudness_is_an_average() {
        let (mut speakers, now) = (Speakers::default(), Instant::now());
        let mut hear = |level| speakers.record(&RULES, SourceId(1), level, now);
        assert_eq!((hear(27), hear(127), hear(127)), (100, 50, 25));
    }

    #[test]
    fn equals_are_told_apart() {
        // As when two shards each selected three before hearing of the other's.
        let (mut speakers, now) = (Speakers::default(), Instant::now());
        for source in 1..7 {
            speakers.record_remote(&RULES, SourceId(source), 100, now);
        }
        let heard = (1..7).filter(|s| speakers.admits(&RULES, SourceId(*s), 27, now)).count();
        assert_eq!(heard, 3);
    }

    #[test]
    fn memory_is_bounded() {
        let (mut speakers, now) = (Speakers::default(), Instant::now());
        for source in 0..10_000 {
            speakers.record_remote(&RULES, SourceId(source), 100, now);
        }
        assert_eq!(speakers.0.len(), MAX_SPEAKERS);
    }

    proptest! {
        /// Whatever the levels and their order: once all were heard a few times, as many are
        /// forwarded as may be, and nobody who is left out is much louder than one of them.
        #[test]
        fn so_many_are_heard_as_may_be(levels in proptest::collection::vec(0u8..127, 1..20)) {
            let (mut speakers, start) = (Speakers::default(), Instant::now());
            let mut heard = vec![false; levels.len()];
            for round in 0..40u32 {
                let now = start + Duration::from_millis(20) * round;
                for (source, level) in (0..).zip(&levels) {
                    heard[source as usize] = offer(&mut speakers, source, *level, now);
                }
            }
            let count = heard.iter().filter(|heard| **heard).count();
            prop_assert_eq!(count, levels.len().min(3));
            let with = |wanted: bool| levels.iter().zip(&heard).filter(move |(_, h)| **h == wanted);
            let quietest = with(true).map(|(level, _)| *level).max().unwrap();
            for (level, _) in with(false) {
                prop_assert!(level + MARGIN + 1 >= quietest, "{level} {quietest}");
            }
        }
    }
}
