//! Whose voices of a conference are forwarded when only the loudest are (`videobridge.loudest`).
//!
//! Each shard ranks the voices that it forwards, those of its own senders and those that come from other
//! shards, whose packets carry their loudness with them. So all shards with receivers know the loudest of
//! all, a packet's way between shards later.
//!
//! A packet that is not among them is dropped before it is opened, by the level that its header claims
//! (RFC 6464). Only what was opened is ever remembered: who forges a packet can at most have that one
//! dropped.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "averages of numbers of seven bits, and counts of a bounded list"
)]

use std::time::{Duration, Instant};

use rialto_media::SourceId;
use rialto_rtp::ext::SILENCE;

use crate::Loudest;

/// Voices of one conference that are remembered at a time. They expire after a fraction of a second, and
/// are not many more than those that may be heard.
const MAX_VOICES: usize = 64;
/// Who is not heard has to be so much louder than one who is, dB: two voices that are equally loud are not
/// to be cut into each other.
const MARGIN: u8 = 3;
/// Another shard forwards a voice no more when no packet of it came for so long: it is not told what else
/// is there. A packet of audio is 20 ms long, seldom 60.
const REMOTE: Duration = Duration::from_millis(70);

#[derive(Clone, Copy, Debug)]
struct Voice {
    source: SourceId,
    /// 0 is silence, 127 is loudest.
    energy: u8,
    /// When a packet of it was last forwarded.
    at: Instant,
    /// It is forwarded by another shard.
    remote: bool,
}

/// The voices of one conference that are forwarded, or were a moment ago.
#[derive(Debug, Default)]
pub struct Voices(Vec<Voice>);

impl Voices {
    /// Whether a packet of this level is among the loudest.
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

    /// A packet of this level was opened and is forwarded. Returns how loud its source is now.
    pub fn hear(&mut self, rules: &Loudest, source: SourceId, level: u8, now: Instant) -> u8 {
        let known = self.known(rules, source, now).map(|voice| voice.energy);
        let energy = average(rules, known, level);
        self.set(rules, Voice { source, energy, at: now, remote: false });
        energy
    }

    /// A packet of this level was opened, and is not forwarded: whoever is less loud than before is so from
    /// now on.
    pub fn overhear(&mut self, rules: &Loudest, source: SourceId, level: u8, now: Instant) {
        let known = self.0.iter_mut().find(|voice| voice.source == source);
        if let Some(voice) = known.filter(|voice| voice.is_live(rules, now)) {
            voice.energy = voice.energy.min(average(rules, Some(voice.energy), level));
        }
    }

    /// Whether a voice is among those that are forwarded, or was a moment ago.
    pub fn knows(&self, rules: &Loudest, source: SourceId, now: Instant) -> bool {
        self.known(rules, source, now).is_some()
    }

    /// Another shard forwards a packet of a source that is so loud.
    pub fn told(&mut self, rules: &Loudest, source: SourceId, energy: u8, now: Instant) {
        self.set(rules, Voice { source, energy, at: now, remote: true });
    }

    fn set(&mut self, rules: &Loudest, new: Voice) {
        if let Some(voice) = self.0.iter_mut().find(|voice| voice.source == new.source) {
            *voice = new;
            return;
        }
        if self.0.len() >= MAX_VOICES {
            self.expire(rules, new.at);
        }
        if self.0.len() < MAX_VOICES {
            self.0.push(new);
        }
    }

    /// Forgets who has said nothing for a while. Returns whether anybody is left.
    pub fn expire(&mut self, rules: &Loudest, now: Instant) -> bool {
        self.0.retain(|voice| voice.is_live(rules, now));
        !self.0.is_empty()
    }

    fn known(&self, rules: &Loudest, source: SourceId, now: Instant) -> Option<&Voice> {
        self.0.iter().find(|voice| voice.source == source && voice.is_live(rules, now))
    }
}

impl Voice {
    fn is_live(&self, rules: &Loudest, now: Instant) -> bool {
        let lives = if self.remote { rules.expires.min(REMOTE) } else { rules.expires };
        now.saturating_duration_since(self.at) <= lives
    }
}

/// How loud a source is with this packet. Who has not been heard lately is as loud as the packet.
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

    fn offer(voices: &mut Voices, source: u32, level: u8, now: Instant) -> bool {
        let source = SourceId(source);
        let admitted = voices.admits(&RULES, source, level, now);
        if admitted {
            voices.hear(&RULES, source, level, now);
        }
        admitted
    }

    #[test]
    fn the_loudest_are_heard_and_a_louder_one_takes_the_place_of_the_quietest() {
        let (mut voices, now) = (Voices::default(), Instant::now());
        for (source, level) in [(1, 40), (2, 30), (3, 20)] {
            assert!(offer(&mut voices, source, level, now));
        }
        assert!(!offer(&mut voices, 4, 60, now));
        assert!(!offer(&mut voices, 4, 38, now), "not by so little");
        assert!(offer(&mut voices, 4, 25, now));
        assert!(!offer(&mut voices, 1, 40, now));
        assert!(offer(&mut voices, 2, 30, now) && offer(&mut voices, 3, 20, now));
    }

    #[test]
    fn who_falls_silent_gives_way_after_a_while() {
        let (mut voices, start) = (Voices::default(), Instant::now());
        for source in 1..4 {
            assert!(offer(&mut voices, source, 20, start));
        }
        let later = start + Duration::from_millis(100);
        assert!(offer(&mut voices, 1, 20, later) && offer(&mut voices, 2, 20, later));
        assert!(!offer(&mut voices, 4, 60, later));
        let later = start + Duration::from_millis(160);
        assert!(offer(&mut voices, 4, 60, later));
        assert!(voices.expire(&RULES, later));
        assert!(!voices.expire(&RULES, later + Duration::from_secs(1)));
    }

    #[test]
    fn who_is_displaced_and_grows_quieter_is_no_match_for_others() {
        let (mut voices, now) = (Voices::default(), Instant::now());
        for source in 1..4 {
            assert!(offer(&mut voices, source, 20, now));
        }
        for source in [4, 5, 6] {
            assert!(!offer(&mut voices, source, 20, now));
        }
        voices.overhear(&RULES, SourceId(2), 80, now);
        assert!(offer(&mut voices, 5, 20, now));
        assert!(!offer(&mut voices, 6, 20, now));
        voices.overhear(&RULES, SourceId(1), 0, now);
        assert_eq!(voices.known(&RULES, SourceId(1), now).unwrap().energy, 107, "not louder");
        voices.told(&RULES, SourceId(1), 107, now);
        assert!(offer(&mut voices, 6, 20, now + REMOTE + Duration::from_millis(1)));
    }

    #[test]
    fn loudness_is_an_average() {
        let (mut voices, now) = (Voices::default(), Instant::now());
        let mut hear = |level| voices.hear(&RULES, SourceId(1), level, now);
        assert_eq!((hear(27), hear(127), hear(127)), (100, 50, 25));
    }

    #[test]
    fn equals_are_told_apart() {
        // As when each of two shards took three before it heard of the other's.
        let (mut voices, now) = (Voices::default(), Instant::now());
        for source in 1..7 {
            voices.told(&RULES, SourceId(source), 100, now);
        }
        let heard = (1..7).filter(|s| voices.admits(&RULES, SourceId(*s), 27, now)).count();
        assert_eq!(heard, 3);
    }

    #[test]
    fn memory_is_bounded() {
        let (mut voices, now) = (Voices::default(), Instant::now());
        for source in 0..10_000 {
            voices.told(&RULES, SourceId(source), 100, now);
        }
        assert_eq!(voices.0.len(), MAX_VOICES);
    }

    proptest! {
        /// However loud they are, and in whatever order they come: once all have been heard a few times,
        /// so many go on as may, and no one who is left out is louder than one of them by much.
        #[test]
        fn so_many_are_heard_as_may_be(levels in proptest::collection::vec(0u8..127, 1..20)) {
            let (mut voices, start) = (Voices::default(), Instant::now());
            let mut heard = vec![false; levels.len()];
            for round in 0..40u32 {
                let now = start + Duration::from_millis(20) * round;
                for (source, level) in (0..).zip(&levels) {
                    heard[source as usize] = offer(&mut voices, source, *level, now);
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
