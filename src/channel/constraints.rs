//! The receiver constraints of one receiver.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::message::{AudioSubscription, VideoConstraints};

/// Configured limits and defaults of receiver constraints.
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

    /// Whether the receiver wants none of the video.
    pub fn is_nothing(self) -> bool {
        self.max_height == 0 || self.max_frame_rate == 0.0
    }

    /// The bound, pixels; `None`: there is none.
    pub fn height(self) -> Option<u16> {
        (self.max_height >= 0).then(|| u16::try_from(self.max_height).unwrap_or(u16::MAX))
    }
}

/// The constraints that a receiver has sent over its channel. Each part was one message of bounded length.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ReceiverConstraints {
    limits: Limits,
    /// Last-N; negative is all. `None`: not set.
    pub last_n: Option<i32>,
    /// Selected videos, which come first.
    pub selected: Vec<String>,
    /// Videos on stage, which come before the selected ones.
    pub on_stage: Vec<String>,
    /// For videos that are not named. `None` until the receiver has sent any constraints.
    pub default: Option<Constraint>,
    /// By source.
    pub constraints: BTreeMap<String, Constraint>,
    /// Bandwidth to assume, bit/s.
    pub assumed_bandwidth_bps: Option<u64>,
    /// Audio subscription. `None`: not set, it gets all.
    pub audio: Option<AudioSubscription>,
}

impl ReceiverConstraints {
    /// The constraints of a receiver that has sent none.
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// The bound of its videos; `initial` (negative: all) applies until it sends a last-N. `None`: all.
    pub fn video_limit(&self, initial: Option<i32>) -> Option<usize> {
        let asked = self.last_n.or(initial).and_then(|n| usize::try_from(n).ok());
        asked.into_iter().chain(self.limits.last_n).min()
    }

    /// Whether a video is on stage or selected.
    pub fn names(&self, source: &str) -> bool {
        self.on_stage.iter().chain(&self.selected).any(|named| named == source)
    }

    /// Applies the fields that an update has; the others stay.
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

    /// The constraint of a source by name; `None` when the receiver has sent none yet and no default applies.
    pub fn constraint(&self, source: &str) -> Option<Constraint> {
        let initial = || self.limits.initial_max_height.map(Constraint::height_only);
        self.constraints.get(source).copied().or(self.default).or_else(initial)
    }

    /// Whether it declines some videos.
    pub fn declines_some(&self) -> bool {
        self.default.iter().chain(self.constraints.values()).any(|bound| bound.is_nothing())
    }

    /// Whether it wants the audio of a source.
    pub fn wants_audio(&self, source: &str) -> bool {
        let Some(audio) = &self.audio else { return true };
        !audio.exclude.contains(source) && (audio.all || audio.include.contains(source))
    }

    /// Whether it requested the audio of a source by name.
    pub fn includes_audio(&self, source: &str) -> bool {
        let Some(audio) = &self.audio else { return false };
        audio.include.contains(source) && !audio.exclude.contains(source)
    }

    /// Debug output.
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
        let mut constraints = ReceiverConstraints::default();
        assert_eq!(constraints.constraint("a"), None);
        constraints.update(VideoConstraints { last_n: Some(3), ..VideoConstraints::default() });
        assert_eq!(constraints.constraint("a"), Some(height(180)));
        constraints.update(VideoConstraints {
            default: Some(height(0)),
            constraints: Some(BTreeMap::from([("a".into(), height(720))])),
            on_stage: Some(vec!["a".into()]),
            ..VideoConstraints::default()
        });
        constraints.update(VideoConstraints {
            selected: Some(vec!["b".into()]),
            assumed_bandwidth_bps: Some(-1),
            ..VideoConstraints::default()
        });
        assert_eq!(constraints.last_n, Some(3));
        assert_eq!(constraints.constraint("a"), Some(height(720)));
        assert_eq!(constraints.constraint("b"), Some(height(0)));
        assert_eq!((constraints.on_stage.len(), constraints.selected.len()), (1, 1));
        assert!(constraints.names("a") && constraints.names("b") && !constraints.names("c"));
        assert_eq!(constraints.assumed_bandwidth_bps, None);
    }

    #[test]
    fn the_configuration_bounds_what_is_not_asked_for() {
        let limits =
            Limits { initial_max_height: Some(0), default_max_height: 90, last_n: Some(5) };
        let mut constraints = ReceiverConstraints::new(limits);
        assert!(constraints.constraint("a").unwrap().is_nothing());
        assert_eq!(constraints.video_limit(None), Some(5));
        assert_eq!(constraints.video_limit(Some(2)), Some(2));
        constraints.update(VideoConstraints { last_n: Some(-1), ..VideoConstraints::default() });
        assert_eq!(constraints.constraint("a"), Some(height(90)));
        assert_eq!(constraints.video_limit(Some(2)), Some(5));
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
        let constraints = |all, include: &[&str], exclude: &[&str]| {
            let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            let audio = AudioSubscription { all, include: names(include), exclude: names(exclude) };
            ReceiverConstraints { audio: Some(audio), ..ReceiverConstraints::default() }
        };
        assert!(ReceiverConstraints::default().wants_audio("a"));
        assert!(constraints(true, &[], &[]).wants_audio("a"));
        assert!(!constraints(false, &[], &[]).wants_audio("a"));
        assert!(constraints(false, &["a"], &[]).wants_audio("a"));
        assert!(!constraints(true, &["a"], &["a"]).wants_audio("a"));
    }
}
