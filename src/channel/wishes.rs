//! What a receiver wants.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::message::{AudioSubscription, VideoConstraints};

/// What the configuration says of receivers' wishes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Height of videos for a receiver that has asked for nothing yet, pixels
    /// (`videobridge.cc.initial-max-height-px`); `None`: no bound.
    pub initial_max_height: Option<i32>,
    /// Height of videos that a receiver did not name when it first asks for others, pixels
    /// (`videobridge.cc.default-max-height-px`, 180).
    pub default_max_height: i32,
    /// No receiver gets more videos (`videobridge.cc.jvb-last-n`); `None`: no bound.
    pub last_n: Option<usize>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { initial_max_height: None, default_max_height: 180, last_n: None }
    }
}

/// An upper bound of a video.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Constraint {
    /// Pixels; 0: it is not wanted, -1: no bound.
    pub max_height: i32,
    /// Frames per second; 0: it is not wanted, -1: no bound.
    pub max_frame_rate: f64,
}

impl Constraint {
    fn height_only(max_height: i32) -> Self {
        Self { max_height, max_frame_rate: -1.0 }
    }

    /// It wants none of it.
    pub fn is_nothing(self) -> bool {
        self.max_height == 0 || self.max_frame_rate == 0.0
    }

    /// The bound, pixels; `None`: there is none.
    pub fn height(self) -> Option<u16> {
        (self.max_height >= 0).then(|| u16::try_from(self.max_height).unwrap_or(u16::MAX))
    }
}

/// What a receiver has asked for over its channel. Each part was one message of bounded length.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ReceiverConstraints {
    limits: Limits,
    /// At most so many videos; negative is all. `None`: it did not say.
    pub last_n: Option<i32>,
    /// Videos that come first.
    pub selected: Vec<String>,
    /// Videos that come before these.
    pub on_stage: Vec<String>,
    /// For videos that are not named. `None` until it has asked for any.
    pub default: Option<Constraint>,
    /// By source.
    pub constraints: BTreeMap<String, Constraint>,
    /// Bandwidth to assume, bit/s.
    pub assumed_bandwidth_bps: Option<u64>,
    /// Which audio. `None`: it did not say, and gets all.
    pub audio: Option<AudioSubscription>,
}

impl ReceiverConstraints {
    /// Of a receiver that has not asked for anything.
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// At most so many videos, when it would otherwise get `last_n` (negative: all) of them. `None`: all.
    pub fn video_limit(&self, initial: Option<i32>) -> Option<usize> {
        let asked = self.last_n.or(initial).and_then(|n| usize::try_from(n).ok());
        asked.into_iter().chain(self.limits.last_n).min()
    }

    /// It shows a video first, or before all others.
    pub fn names(&self, source: &str) -> bool {
        self.on_stage.iter().chain(&self.selected).any(|named| named == source)
    }

    /// Takes what is new; the rest stays.
    pub fn update(&mut self, update: VideoConstraints) {
        self.last_n = update.last_n.or(self.last_n);
        let unnamed = Constraint::height_only(self.limits.default_max_height);
        self.default = update.default.or(self.default).or(Some(unnamed));
        if let Some(selected) = update.selected {
            self.selected = selected;
        }
        if let Some(on_stage) = update.on_stage {
            self.on_stage = on_stage;
        }
        if let Some(constraints) = update.constraints {
            self.constraints = constraints;
        }
        if let Some(bandwidth) = update.assumed_bandwidth_bps {
            self.assumed_bandwidth_bps = u64::try_from(bandwidth).ok();
        }
    }

    /// The bound of a video by the source's name; `None` when there is none because it has asked for
    /// nothing yet.
    pub fn constraint(&self, source: &str) -> Option<Constraint> {
        let initial = || self.limits.initial_max_height.map(Constraint::height_only);
        self.constraints.get(source).copied().or(self.default).or_else(initial)
    }

    /// There are videos of which it wants none.
    pub fn declines_some(&self) -> bool {
        self.default.iter().chain(self.constraints.values()).any(|bound| bound.is_nothing())
    }

    /// Whether it wants the audio of a source.
    pub fn wants_audio(&self, source: &str) -> bool {
        let Some(audio) = &self.audio else { return true };
        !audio.exclude.contains(source) && (audio.all || audio.include.contains(source))
    }

    /// Whether it asked for the audio of a source by name.
    pub fn includes_audio(&self, source: &str) -> bool {
        let Some(audio) = &self.audio else { return false };
        audio.include.contains(source) && !audio.exclude.contains(source)
    }

    /// For people.
    pub fn debug(&self) -> Value {
        let constraints: Map<String, Value> =
            self.constraints.iter().map(|(name, c)| (name.clone(), debug_constraint(*c))).collect();
        json!({
            "lastN": self.last_n,
            "selectedSources": self.selected,
            "onStageSources": self.on_stage,
            "defaultConstraints": self.default.map(debug_constraint),
            "constraints": constraints,
            "assumedBandwidthBps": self.assumed_bandwidth_bps,
            "audio": self.audio.as_ref().map(|audio| json!({
                "all": audio.all,
                "include": audio.include,
                "exclude": audio.exclude,
            })),
        })
    }
}

fn debug_constraint(constraint: Constraint) -> Value {
    json!({ "maxHeight": constraint.max_height, "maxFrameRate": constraint.max_frame_rate })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn height(max_height: i32) -> Constraint {
        Constraint { max_height, max_frame_rate: -1.0 }
    }

    #[test]
    fn an_update_leaves_what_it_does_not_name() {
        let mut wishes = ReceiverConstraints::default();
        assert_eq!(wishes.constraint("a"), None);
        wishes.update(VideoConstraints { last_n: Some(3), ..VideoConstraints::default() });
        assert_eq!(wishes.constraint("a"), Some(height(180)));
        wishes.update(VideoConstraints {
            default: Some(height(0)),
            constraints: Some(BTreeMap::from([("a".into(), height(720))])),
            on_stage: Some(vec!["a".into()]),
            ..VideoConstraints::default()
        });
        wishes.update(VideoConstraints {
            selected: Some(vec!["b".into()]),
            assumed_bandwidth_bps: Some(-1),
            ..VideoConstraints::default()
        });
        assert_eq!(wishes.last_n, Some(3));
        assert_eq!(wishes.constraint("a"), Some(height(720)));
        assert_eq!(wishes.constraint("b"), Some(height(0)));
        assert_eq!((wishes.on_stage.len(), wishes.selected.len()), (1, 1));
        assert!(wishes.names("a") && wishes.names("b") && !wishes.names("c"));
        assert_eq!(wishes.assumed_bandwidth_bps, None);
    }

    #[test]
    fn the_configuration_bounds_what_is_not_asked_for() {
        let limits =
            Limits { initial_max_height: Some(0), default_max_height: 90, last_n: Some(5) };
        let mut wishes = ReceiverConstraints::new(limits);
        assert!(wishes.constraint("a").unwrap().is_nothing());
        assert_eq!(wishes.video_limit(None), Some(5));
        assert_eq!(wishes.video_limit(Some(2)), Some(2));
        wishes.update(VideoConstraints { last_n: Some(-1), ..VideoConstraints::default() });
        assert_eq!(wishes.constraint("a"), Some(height(90)));
        assert_eq!(wishes.video_limit(Some(2)), Some(5));
        assert_eq!(ReceiverConstraints::default().video_limit(Some(-1)), None);
    }

    #[test]
    fn a_height_or_frame_rate_of_zero_is_nothing() {
        let rate = |max_frame_rate| Constraint { max_height: 180, max_frame_rate };
        assert!(height(0).is_nothing() && rate(0.0).is_nothing());
        assert!(!height(-1).is_nothing() && !rate(15.0).is_nothing());
        assert_eq!((height(-1).height(), height(i32::MAX).height()), (None, Some(u16::MAX)));
    }

    #[test]
    fn exclusion_comes_before_inclusion_before_all() {
        let wishes = |all, include: &[&str], exclude: &[&str]| {
            let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            let audio = AudioSubscription { all, include: names(include), exclude: names(exclude) };
            ReceiverConstraints { audio: Some(audio), ..ReceiverConstraints::default() }
        };
        assert!(ReceiverConstraints::default().wants_audio("a"));
        assert!(wishes(true, &[], &[]).wants_audio("a"));
        assert!(!wishes(false, &[], &[]).wants_audio("a"));
        assert!(wishes(false, &["a"], &[]).wants_audio("a"));
        assert!(!wishes(true, &["a"], &["a"]).wants_audio("a"));
    }
}
