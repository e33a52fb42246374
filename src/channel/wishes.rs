//! What a receiver wants.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::message::{AudioSubscription, VideoConstraints};

/// Height of videos that a receiver did not name when it first asks for others, in pixels
/// (`videobridge.cc.default-max-height-px`).
const DEFAULT_HEIGHT: i32 = 180;

/// An upper bound of a video.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Constraint {
    /// Pixels; 0: it is not wanted, negative: no bound.
    pub max_height: i32,
    /// Frames per second; negative: no bound.
    pub max_frame_rate: f64,
}

/// What a receiver has asked for over its channel. Each part was one message of bounded length.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Wishes {
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

impl Wishes {
    /// Takes what is new; the rest stays.
    pub fn update(&mut self, update: VideoConstraints) {
        self.last_n = update.last_n.or(self.last_n);
        let unnamed = Constraint { max_height: DEFAULT_HEIGHT, max_frame_rate: -1.0 };
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

    /// The bound of a video by the source's name; `None` when it asked for nothing yet.
    pub fn constraint(&self, source: &str) -> Option<Constraint> {
        self.constraints.get(source).copied().or(self.default)
    }

    /// Whether it wants the audio of a source.
    pub fn wants_audio(&self, source: &str) -> bool {
        let Some(audio) = &self.audio else { return true };
        !audio.exclude.contains(source) && (audio.all || audio.include.contains(source))
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
        let mut wishes = Wishes::default();
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
        assert_eq!(wishes.assumed_bandwidth_bps, None);
    }

    #[test]
    fn exclusion_comes_before_inclusion_before_all() {
        let wishes = |all, include: &[&str], exclude: &[&str]| {
            let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            let audio = AudioSubscription { all, include: names(include), exclude: names(exclude) };
            Wishes { audio: Some(audio), ..Wishes::default() }
        };
        assert!(Wishes::default().wants_audio("a"));
        assert!(wishes(true, &[], &[]).wants_audio("a"));
        assert!(!wishes(false, &[], &[]).wants_audio("a"));
        assert!(wishes(false, &["a"], &[]).wants_audio("a"));
        assert!(!wishes(true, &["a"], &["a"]).wants_audio("a"));
    }
}
