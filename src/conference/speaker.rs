//! Who speaks: dominant speaker identification after Volfin and Cohen, "Dominant speaker
//! identification for multipoint videoconferencing" (2012), with the parameters that Jitsi
//! Videobridge uses.
//!
//! A speaker's last second is kept as fifty frames of 20 ms. Each frame's level becomes a number of
//! active sub-bands (0..=13); a medium interval (5 frames) counts its active frames, the long
//! interval (10 medium ones) counts its active medium ones. For each of the three lengths a score
//! says how much more likely the count is under speech than under silence. Somebody who beats the
//! dominant speaker at the immediate, and clearly at the medium length, takes over; a burst of noise
//! does not last long enough for that.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

/// One frame of history.
const FRAME: Duration = Duration::from_millis(20);
/// Sub-bands of the level range.
const N1: u32 = 13;
/// Frames of a medium interval.
const N2: u32 = 5;
/// Medium intervals of the long one.
const N3: u32 = 10;
const HISTORY: usize = (N2 * N3) as usize;
/// Width of a sub-band: 0..=127 in [`N1`] parts.
const BAND: u8 = 10;
/// A frame with more active sub-bands than this is active.
const MEDIUM_THRESHOLD: u32 = 7;
/// A medium interval with more active frames than this is active.
const LONG_THRESHOLD: u32 = 4;
/// Advantage over the dominant speaker that is needed: immediate, medium, long.
const C1: f64 = 3.0;
const C2: f64 = 2.0;
const C3: f64 = 0.0;
const MIN_SCORE: f64 = 1e-10;
/// Time between decisions.
const DECISION_INTERVAL: Duration = Duration::from_millis(300);
/// Levels come about every 100 ms; nothing for longer than this is silence.
const LEVEL_IDLE: Duration = Duration::from_millis(140);
/// A speaker who is silent for this long is forgotten, unless dominant.
const SPEAKER_IDLE: Duration = Duration::from_secs(3600);
/// How many previous dominant speakers are remembered.
const RECENT_SPEAKERS: usize = 10;

/// Levels and decisions. `K` names a speaker.
#[derive(Debug)]
pub struct Speakers<K> {
    histories: BTreeMap<K, Speaker>,
    dominant: Option<K>,
    /// Who was dominant before, latest first.
    previous: VecDeque<K>,
    recent: usize,
    next_decision: Instant,
    changes: u64,
    /// How long the dominant speaker may be silent before silence is reported; `None`: never.
    silence_after: Option<Duration>,
    /// When the dominant speaker became it.
    since: Instant,
    silence: bool,
}

/// The dominant speaker or the previous speakers changed, or silence began or ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpeakerChange<K> {
    /// Who speaks now.
    pub dominant: K,
    /// Who spoke before, latest first.
    pub previous: Vec<K>,
    /// The dominant speaker has been silent for a while.
    pub silence: bool,
    /// What changed.
    pub what: Changed,
}

/// What about speakers changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// Who speaks.
    Speaker,
    /// Whether anybody does.
    Silence,
}

#[derive(Debug)]
struct Speaker {
    /// Levels, latest first, 0 (silence) to 127.
    levels: VecDeque<u8>,
    /// Up to when frames were filled in.
    filled: Instant,
    /// When a level last came.
    heard: Instant,
    /// When a frame was last active.
    active: Option<Instant>,
    floor: Floor,
    scores: [f64; 3],
}

/// The level that is silence for a speaker: the minimum of the last windows of frames.
#[derive(Debug, Default)]
struct Floor {
    min: u8,
    next_min: u8,
    frames: u32,
}

impl<K: Ord + Copy> Speakers<K> {
    /// Nobody yet.
    pub fn new(now: Instant) -> Self {
        Self {
            histories: BTreeMap::new(),
            dominant: None,
            previous: VecDeque::new(),
            recent: RECENT_SPEAKERS,
            next_decision: now,
            changes: 0,
            silence_after: None,
            since: now,
            silence: false,
        }
    }

    /// Sets how many previous speakers are kept.
    #[must_use]
    pub fn remembering(mut self, recent: usize) -> Self {
        self.recent = recent;
        self
    }

    /// Reports when the dominant speaker has been silent for this long, and when the silence ends.
    #[must_use]
    pub fn noticing_silence(mut self, after: Option<Duration>) -> Self {
        self.silence_after = after;
        self
    }

    /// Whether that is so.
    pub fn silence(&self) -> bool {
        self.silence
    }

    /// Who speaks.
    pub fn dominant(&self) -> Option<K> {
        self.dominant
    }

    /// Who spoke before, latest first.
    pub fn previous(&self) -> impl Iterator<Item = K> {
        self.previous.iter().copied()
    }

    /// How often that changed.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// A speaker's loudest level of the time since the last: 0 is silence, 127 is loudest.
    pub fn level(&mut self, speaker: K, level: u8, now: Instant) {
        self.histories.entry(speaker).or_insert_with(|| Speaker::new(now)).level(level, now);
    }

    /// Forgets an endpoint. Returns the change when that was the dominant speaker and others spoke before.
    pub fn remove(&mut self, speaker: K) -> Option<SpeakerChange<K>> {
        self.histories.remove(&speaker);
        self.previous.retain(|other| *other != speaker);
        if self.dominant != Some(speaker) {
            return None;
        }
        self.dominant = self.previous.pop_front();
        self.change(Changed::Speaker)
    }

    /// Decides, when it is time to.
    pub fn decide(&mut self, now: Instant) -> Option<SpeakerChange<K>> {
        if now < self.next_decision {
            return None;
        }
        self.next_decision = now + DECISION_INTERVAL;
        let dominant = self.dominant;
        self.histories.retain(|key, speaker| {
            Some(*key) == dominant || now.saturating_duration_since(speaker.heard) < SPEAKER_IDLE
        });
        for speaker in self.histories.values_mut() {
            speaker.evaluate(now);
        }
        let winner = self.winner()?;
        if Some(winner) == self.dominant {
            let silence = self.is_silent(winner, now);
            let changed = std::mem::replace(&mut self.silence, silence) != silence;
            return changed.then(|| self.change(Changed::Silence)).flatten();
        }
        (self.since, self.silence) = (now, false);
        self.previous.retain(|other| *other != winner);
        if let Some(old) = self.dominant.replace(winner) {
            self.previous.push_front(old);
            self.previous.truncate(self.recent);
        }
        self.changes = self.changes.wrapping_add(1);
        self.change(Changed::Speaker)
    }

    /// Whether an endpoint has been silent for too long since it became dominant.
    fn is_silent(&self, speaker: K, now: Instant) -> bool {
        let Some(after) = self.silence_after else { return false };
        let spoke = self.histories.get(&speaker).and_then(|speaker| speaker.active);
        now.saturating_duration_since(self.since.max(spoke.unwrap_or(self.since))) >= after
    }

    /// The endpoint that should be dominant: the one that no other beats, or else the one that beats by the
    /// most at the medium length. Without a dominant speaker, the loudest of late is nominated.
    fn winner(&self) -> Option<K> {
        let (incumbent, held) = match self.dominant.and_then(|k| Some((k, self.histories.get(&k)?)))
        {
            Some(incumbent) => incumbent,
            None => self
                .histories
                .iter()
                .max_by(|(_, a), (_, b)| a.scores[1].total_cmp(&b.scores[1]))
                .map(|(key, speaker)| (*key, speaker))?,
        };
        let mut winner = incumbent;
        let mut best = C2;
        for (key, speaker) in self.histories.iter().filter(|(key, _)| **key != incumbent) {
            let [immediate, medium, long] = [0, 1, 2].map(|length: usize| {
                let ours = speaker.scores.get(length).copied().unwrap_or(MIN_SCORE);
                let theirs = held.scores.get(length).copied().unwrap_or(MIN_SCORE);
                (ours / theirs).ln()
            });
            if immediate > C1 && medium > best && long > C3 {
                best = medium;
                winner = *key;
            }
        }
        Some(winner)
    }

    fn change(&self, what: Changed) -> Option<SpeakerChange<K>> {
        let dominant = self.dominant?;
        let previous = self.previous.iter().copied().collect();
        Some(SpeakerChange { dominant, previous, silence: self.silence, what })
    }
}

impl Speaker {
    fn new(now: Instant) -> Self {
        Self {
            levels: std::iter::repeat_n(0, HISTORY).collect(),
            filled: now.checked_sub(FRAME).unwrap_or(now),
            heard: now,
            active: None,
            floor: Floor::default(),
            scores: [MIN_SCORE; 3],
        }
    }

    fn level(&mut self, level: u8, now: Instant) {
        if now.saturating_duration_since(self.heard) > LEVEL_IDLE {
            self.fill(0, now.checked_sub(FRAME).unwrap_or(now));
        }
        self.heard = now;
        self.floor.observe(level.min(127));
        self.fill(level.min(127), now);
    }

    /// Repeats a level for every frame that has passed, at most the whole history.
    fn fill(&mut self, level: u8, until: Instant) {
        let frames = until.saturating_duration_since(self.filled).as_millis() / FRAME.as_millis();
        for _ in 0..frames.min(HISTORY as u128) {
            self.levels.pop_back();
            self.levels.push_front(level);
        }
        let whole = FRAME.saturating_mul(u32::try_from(frames).unwrap_or(u32::MAX));
        self.filled = self.filled.checked_add(whole).unwrap_or(until);
    }

    fn evaluate(&mut self, now: Instant) {
        if now.saturating_duration_since(self.heard) > LEVEL_IDLE {
            self.fill(0, now);
        }
        let silence = self.floor.min.saturating_add(BAND);
        let immediates: Vec<u32> = self
            .levels
            .iter()
            .map(|level| if *level < silence { 0 } else { u32::from(*level / BAND).min(N1) })
            .collect();
        if let Some(ago) = immediates.iter().position(|bands| *bands > MEDIUM_THRESHOLD) {
            let ago = FRAME.saturating_mul(ago as u32);
            self.active = self.active.max(self.filled.checked_sub(ago));
        }
        let mediums: Vec<u32> = immediates
            .chunks_exact(N2 as usize)
            .map(|frames| count_above(frames, MEDIUM_THRESHOLD))
            .collect();
        let long = count_above(&mediums, LONG_THRESHOLD);
        let latest = |values: &[u32]| values.first().copied().unwrap_or(0);
        self.scores = [
            score(latest(&immediates), N1, 0.78),
            score(latest(&mediums), N2, 24.0),
            score(long, N3, 47.0),
        ];
    }
}

impl Floor {
    /// Levels of a window, 15 s of them; after it the floor moves towards the window's minimum.
    const WINDOW: u32 = 150;

    fn observe(&mut self, level: u8) {
        if level == 0 {
            return;
        }
        if self.min == 0 || level < self.min {
            *self = Self { min: level, next_min: 0, frames: 0 };
            return;
        }
        self.next_min = if self.next_min == 0 { level } else { self.next_min.min(level) };
        self.frames += 1;
        if self.frames >= Self::WINDOW {
            let halfway = (f64::from(self.min) * f64::from(self.next_min)).sqrt();
            *self = Self { min: halfway as u8, next_min: 0, frames: 0 };
        }
    }
}

fn count_above(values: &[u32], threshold: u32) -> u32 {
    values.iter().filter(|value| **value > threshold).count() as u32
}

/// How much more likely `active` of `total` is under speech (binomial with p = 1/2) than under
/// silence (exponential with `lambda`), as a logarithm, no less than [`MIN_SCORE`].
fn score(active: u32, total: u32, lambda: f64) -> f64 {
    let coefficient = (1..=active).fold(1.0, |c, k| c * f64::from(total + 1 - k) / f64::from(k));
    let speech = coefficient.ln() + f64::from(total) * 0.5f64.ln();
    let silence = lambda.ln() - lambda * f64::from(active);
    (speech - silence).max(MIN_SCORE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds levels every 100 ms and decides every 100 ms; the last change. Each tenth level is a
    /// pause between words: a level that never changes is background noise to the algorithm.
    fn run(
        speakers: &mut Speakers<u8>,
        now: &mut Instant,
        tenths: u32,
        levels: &[(u8, u8)],
    ) -> Option<SpeakerChange<u8>> {
        let mut last = None;
        for tenth in 0..tenths {
            *now += Duration::from_millis(100);
            for (who, level) in levels {
                let level = if tenth % 10 == 0 { (*level).min(30) } else { *level };
                speakers.level(*who, level, *now);
            }
            last = speakers.decide(*now).or(last);
        }
        last
    }

    fn speaks(dominant: u8, previous: &[u8]) -> SpeakerChange<u8> {
        let previous = previous.to_vec();
        SpeakerChange { dominant, previous, silence: false, what: Changed::Speaker }
    }

    fn falls_silent(dominant: u8, previous: &[u8], silence: bool) -> SpeakerChange<u8> {
        let previous = previous.to_vec();
        SpeakerChange { dominant, previous, silence, what: Changed::Silence }
    }

    #[test]
    fn the_only_speaker_is_dominant() {
        let mut now = Instant::now();
        let mut speakers = Speakers::new(now);
        let change = run(&mut speakers, &mut now, 10, &[(1, 90)]);
        assert_eq!(change, Some(speaks(1, &[])));
        assert_eq!(speakers.changes(), 1);
    }

    #[test]
    fn who_speaks_takes_over_from_who_stopped() {
        let mut now = Instant::now();
        let mut speakers = Speakers::new(now);
        run(&mut speakers, &mut now, 30, &[(1, 100)]);
        let change = run(&mut speakers, &mut now, 30, &[(2, 100)]);
        assert_eq!(change, Some(speaks(2, &[1])));
        let change = run(&mut speakers, &mut now, 30, &[(1, 100)]);
        assert_eq!(change, Some(speaks(1, &[2])));
        assert_eq!(speakers.changes(), 3);
    }

    #[test]
    fn silence_changes_nothing() {
        let mut now = Instant::now();
        let mut speakers = Speakers::new(now);
        run(&mut speakers, &mut now, 20, &[(1, 100)]);
        assert_eq!(run(&mut speakers, &mut now, 100, &[]), None);
        assert_eq!(speakers.dominant(), Some(1));
        assert_eq!(run(&mut speakers, &mut now, 50, &[(2, 0)]), None, "silence is no speech");
    }

    #[test]
    fn silence_is_reported_when_it_begins_and_when_it_ends() {
        let mut now = Instant::now();
        let three = Duration::from_secs(3);
        let mut speakers = Speakers::new(now).noticing_silence(Some(three));
        run(&mut speakers, &mut now, 20, &[(1, 100)]);
        assert_eq!(run(&mut speakers, &mut now, 25, &[(1, 0)]), None, "a pause");
        let fell = run(&mut speakers, &mut now, 10, &[(1, 0)]);
        assert_eq!(fell, Some(falls_silent(1, &[], true)));
        assert!(speakers.silence());
        assert_eq!(run(&mut speakers, &mut now, 100, &[(1, 0)]), None, "told once");
        let ended = run(&mut speakers, &mut now, 5, &[(1, 100)]);
        assert_eq!(ended, Some(falls_silent(1, &[], false)));
        // An endpoint whose levels no longer come is silent too; another one ends the silence by taking over.
        assert_eq!(run(&mut speakers, &mut now, 40, &[]), Some(falls_silent(1, &[], true)));
        assert_eq!(run(&mut speakers, &mut now, 20, &[(2, 100)]), Some(speaks(2, &[1])));
        assert!(!speakers.silence());
        assert_eq!(speakers.changes(), 2, "silence is no change of the speaker");
    }

    #[test]
    fn who_is_dominant_and_never_says_anything_is_silent() {
        let mut now = Instant::now();
        let mut speakers = Speakers::new(now).noticing_silence(Some(Duration::from_secs(3)));
        assert_eq!(run(&mut speakers, &mut now, 20, &[(1, 0)]), Some(speaks(1, &[])));
        let fell = run(&mut speakers, &mut now, 20, &[(1, 0)]);
        assert_eq!(fell, Some(falls_silent(1, &[], true)));
    }

    #[test]
    fn a_knock_does_not_take_over() {
        let mut now = Instant::now();
        let mut speakers = Speakers::new(now);
        run(&mut speakers, &mut now, 30, &[(1, 100), (2, 5)]);
        now += Duration::from_millis(100);
        speakers.level(1, 100, now);
        speakers.level(2, 120, now);
        assert_eq!(speakers.decide(now), None);
        assert_eq!(run(&mut speakers, &mut now, 30, &[(1, 100), (2, 5)]), None);
        assert_eq!(speakers.dominant(), Some(1));
    }

    #[test]
    fn the_one_before_follows_who_leaves() {
        let mut now = Instant::now();
        let mut speakers = Speakers::new(now);
        run(&mut speakers, &mut now, 30, &[(1, 100)]);
        run(&mut speakers, &mut now, 30, &[(2, 100)]);
        let change = speakers.remove(2);
        assert_eq!(change, Some(speaks(1, &[])));
        assert_eq!(speakers.remove(1), None);
        assert_eq!(speakers.dominant(), None);
    }

    #[test]
    fn scores_grow_with_activity() {
        for (total, lambda) in [(N2, 24.0), (N3, 47.0)] {
            let scores: Vec<f64> = (0..=total).map(|n| score(n, total, lambda)).collect();
            assert!(scores.windows(2).all(|pair| pair[0] <= pair[1]), "{scores:?}");
            assert!(scores.last() > scores.first());
        }
    }

    #[test]
    fn so_many_former_speakers_are_remembered() {
        let mut now = Instant::now();
        let mut speakers = Speakers::new(now).remembering(1);
        for who in 1..=3 {
            run(&mut speakers, &mut now, 30, &[(who, 100)]);
        }
        assert_eq!(speakers.previous().collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn any_levels_and_times_are_safe() {
        let mut now = Instant::now();
        let mut speakers = Speakers::new(now);
        for step in 0..2000u32 {
            now += Duration::from_millis(u64::from(step % 977));
            speakers.level((step % 7) as u8, (step % 256) as u8, now);
            speakers.decide(now);
        }
        now += SPEAKER_IDLE + SPEAKER_IDLE;
        speakers.decide(now);
        assert!(speakers.histories.len() <= 1, "the idle are forgotten");
    }
}
