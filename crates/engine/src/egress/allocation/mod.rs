//! Decides which layer of each source a receiver gets within its bandwidth.
//!
//! The rules are Jitsi Videobridge's (its `doc/allocation.md`): sources are served in order of
//! priority; the source on stage grows to its preferred layer before any other gets anything; after
//! that, each round gives every source one more step, as long as it fits; screen sharing may exceed
//! the bandwidth by a bounded amount. Sans-IO: the inputs are bitrates and heights, the outputs
//! layers and reasons. After its first runs an [`Allocator`] allocates no memory.

mod explain;
mod hysteresis;
mod single;
#[cfg(test)]
mod tests;

use std::{fmt, time::Duration};

pub use explain::Explanation;
pub use hysteresis::Hysteresis;
use rialto_media::SourceId;
use single::{Candidate, Ladder};

/// Settings of the allocation (`videobridge.cc`).
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Config {
    /// `onstage-preferred-height-px`: a camera that the receiver wants at more than 180 lines grows
    /// to this height first, and beyond it only at full frame rate. Default 360.
    pub onstage_preferred_height: u16,
    /// `onstage-preferred-framerate`: what counts as full frame rate, frames per second. Default
    /// 30.
    pub onstage_preferred_framerate: f32,
    /// `allow-oversend-onstage`: screen sharing on stage is sent even if it exceeds the bandwidth a
    /// little. Default true.
    pub allow_oversend_onstage: bool,
    /// `max-oversend-bitrate`: how far it may exceed the bandwidth, bit/s. Default 500,000.
    pub max_oversend_bps: u64,
    /// `bwe-change-threshold`: an estimate that differs by no more than this fraction from the one
    /// last allocated has no effect. Default 0.15.
    pub change_threshold: f64,
    /// `trust-bwe`: allocate the estimated bandwidth; otherwise allocate as if bandwidth were
    /// unlimited. Default true.
    pub trust_bwe: bool,
    /// `assumed-bandwidth-limit`: the most that a receiver may ask the bridge to assume for its
    /// link, bit/s. `None`: receivers may not ask.
    pub assumed_bandwidth_limit: Option<u64>,
    /// `max-time-between-calculations`: allocation runs at least this often, since bitrates change
    /// without an event. Default 5 s.
    pub max_time_between_calculations: Duration,
    /// `use-vla-target-bitrate`: use the bitrates that senders announce for their layers
    /// (<http://www.webrtc.org/experiments/rtp-hdrext/video-layers-allocation00>) where they do,
    /// and measured ones otherwise. Default false.
    pub use_announced: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            onstage_preferred_height: 360,
            onstage_preferred_framerate: 30.0,
            allow_oversend_onstage: true,
            max_oversend_bps: 500_000,
            change_threshold: 0.15,
            trust_bwe: true,
            assumed_bandwidth_limit: None,
            max_time_between_calculations: Duration::from_secs(5),
            use_announced: false,
        }
    }
}

impl Config {
    /// The bandwidth to allocate, bit/s, from the estimate and from what the receiver asked the
    /// bridge to assume; `None` is unlimited.
    pub fn budget(&self, estimate: Option<u64>, assumed: Option<u64>) -> Option<u64> {
        match (assumed, self.assumed_bandwidth_limit) {
            (Some(assumed), Some(limit)) => Some(assumed.min(limit)),
            _ => estimate.filter(|_| self.trust_bwe),
        }
    }
}

/// A layer of a source.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct LayerId {
    /// The encoding (the simulcast stream).
    pub encoding: u8,
    /// The spatial layer within it.
    pub spatial: u8,
    /// The temporal layer within it.
    pub temporal: u8,
}

/// `encoding/spatial/temporal`.
impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.encoding, self.spatial, self.temporal)
    }
}

impl LayerId {
    /// The id that stands for the whole of an encoding without layers.
    pub const fn encoding(encoding: u8) -> Self {
        Self { encoding, spatial: 0, temporal: 0 }
    }
}

/// A layer and its measurements.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Layer {
    /// Which.
    pub id: LayerId,
    /// Bitrate of this layer and the layers that it depends on, bit/s. 0: not measured.
    pub bps: u64,
    /// The shorter side of its frames, pixels, if known.
    pub height: Option<u16>,
    /// Its frame rate, frames per second, if known.
    pub fps: Option<f32>,
    /// Whether it is being received.
    pub active: bool,
}

/// What a source shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Kind {
    /// A camera: motion matters before resolution.
    #[default]
    Camera,
    /// Screen sharing: resolution matters before motion.
    Desktop,
}

/// Why a source is excluded whatever the bandwidth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// It is outside the receiver's last-N.
    LastN,
    /// It is outside the last-N that the bridge's load allows.
    Load,
}

/// A source that a receiver may get, with its constraints.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// The source.
    pub source: SourceId,
    /// Camera or screen.
    pub kind: Kind,
    /// The receiver has it on stage.
    pub on_stage: bool,
    /// The receiver selected it.
    pub selected: bool,
    /// Maximum frame height, pixels. 0: the receiver does not want the source; `None`: unlimited.
    pub max_height: Option<u16>,
    /// Why the source is excluded, if it is.
    pub cut: Option<Cut>,
    /// The sender muted it, or is force-muted.
    pub muted: bool,
    /// The layer that the receiver gets now.
    pub current: Option<LayerId>,
}

impl Wanted {
    /// A camera of any height.
    pub const fn new(source: SourceId) -> Self {
        Self {
            source,
            kind: Kind::Camera,
            on_stage: false,
            selected: false,
            max_height: None,
            cut: None,
            muted: false,
            current: None,
        }
    }

    /// Whether it must not be sent at all.
    fn is_disabled(&self) -> bool {
        self.cut.is_some() || self.max_height == Some(0)
    }
}

/// Why a receiver does not get a higher layer of a source.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Reason {
    /// It gets the highest layer there is.
    #[default]
    Nothing,
    /// Its bandwidth does not allow more.
    Link,
    /// The source is outside its last-N.
    LastN,
    /// Its constraints do not allow more.
    Constraint,
    /// The sender does not send more.
    NotSent,
    /// The source is muted.
    Muted,
    /// A keyframe of the allocated layer has not arrived yet.
    WaitingForKeyframe,
    /// The bridge is overloaded.
    SuspendedByLoad,
    /// The receiver does not want the source.
    NotWanted,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 9] = [
        Self::Nothing,
        Self::Link,
        Self::LastN,
        Self::Constraint,
        Self::NotSent,
        Self::Muted,
        Self::WaitingForKeyframe,
        Self::SuspendedByLoad,
        Self::NotWanted,
    ];

    /// A name for metrics and debug output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "none",
            Self::Link => "link",
            Self::LastN => "last_n",
            Self::Constraint => "constraint",
            Self::NotSent => "not_sent",
            Self::Muted => "muted",
            Self::WaitingForKeyframe => "waiting_for_keyframe",
            Self::SuspendedByLoad => "bridge_load",
            Self::NotWanted => "not_wanted",
        }
    }

    /// Whether the receiver wants more, and neither its own constraints nor the sender's choice is
    /// the reason that it does not get more.
    pub const fn is_shortage(self) -> bool {
        matches!(self, Self::Link | Self::WaitingForKeyframe | Self::SuspendedByLoad)
    }
}

/// The decision about one source.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Decision {
    /// The source.
    pub source: SourceId,
    /// The layer that the receiver gets. For a source that is not being received: the layer that it
    /// is to get.
    pub target: Option<LayerId>,
    /// Bitrate of that layer, bit/s.
    pub target_bps: u64,
    /// Frame height of that layer, pixels.
    pub target_height: Option<u16>,
    /// Whether it is being received.
    pub arrives: bool,
    /// The layer that unlimited bandwidth would allow.
    pub ideal: Option<LayerId>,
    /// Bitrate of that layer, bit/s.
    pub ideal_bps: u64,
    /// Frame height of that layer, pixels.
    pub ideal_height: Option<u16>,
    /// Why the receiver does not get a higher layer.
    pub reason: Reason,
}

/// Sums over the decisions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// Bitrate of the target layers, bit/s.
    pub target_bps: u64,
    /// Bitrate of the ideal layers, bit/s.
    pub ideal_bps: u64,
    /// The lowest bandwidth that would allow more, bit/s; `None` if none would.
    pub next_bps: Option<u64>,
    /// Number of active sources that get nothing for lack of bandwidth.
    pub suspended: usize,
    /// How far the targets exceed the bandwidth, bit/s.
    pub oversend_bps: u64,
}

/// A layer above the receiver's current one must leave this fraction of its bitrate unused, so that
/// new measurements do not move the receiver up and down.
const MARGIN: u64 = 20;

/// Divides a receiver's bandwidth among its sources: call [`Self::begin`], then [`Self::add`] for
/// each source in order of priority, then [`Self::run`].
#[derive(Clone, Debug, Default)]
pub struct Allocator {
    config: Config,
    shares: Vec<Share>,
    layers: Vec<Layer>,
    candidates: Vec<Candidate>,
    decisions: Vec<Decision>,
    /// Sources visited in the last run.
    looks: usize,
}

/// A source, and its share of the bandwidth.
#[derive(Clone, Copy, Debug)]
struct Share {
    wanted: Wanted,
    layers: (usize, usize),
    ladder: Ladder,
    /// How many candidates up the source has been given.
    given: usize,
}

impl Allocator {
    /// Creates an allocator without sources.
    pub fn new(config: Config) -> Self {
        Self { config, ..Self::default() }
    }

    /// Its settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Removes all sources.
    pub fn begin(&mut self) {
        self.shares.clear();
        self.layers.clear();
        self.candidates.clear();
    }

    /// Adds the source that is next in priority. `layers` are its layers from the worst to the
    /// best, whether they are being received or not.
    pub fn add(&mut self, wanted: Wanted, layers: &[Layer]) {
        let first = self.layers.len();
        self.layers.extend_from_slice(layers);
        let ladder = single::select(&self.config, &wanted, layers, &mut self.candidates);
        self.shares.push(Share { wanted, layers: (first, layers.len()), ladder, given: 0 });
    }

    /// Divides `budget`, bit/s; `None` is unlimited.
    pub fn run(&mut self, budget: Option<u64>) -> Totals {
        let mut round = Round {
            config: &self.config,
            candidates: &self.candidates,
            budget: budget.unwrap_or(u64::MAX),
            spent: 0,
            shortage: None,
        };
        for share in &mut self.shares {
            share.given = 0;
        }
        self.looks = 0;
        let mut gave = true;
        while gave {
            gave = false;
            let mut first = true;
            for share in &mut self.shares {
                if share.ladder.is_empty() {
                    continue;
                }
                self.looks = self.looks.saturating_add(1);
                gave |= round.improve(share, first);
                first = false;
                // Otherwise a thumbnail would appear now and vanish as soon as the stage can grow.
                if share.wanted.on_stage && !share.has_preferred() {
                    break;
                }
            }
        }
        let (budget, shortage) = (round.budget, round.shortage);
        self.decide(budget, shortage)
    }

    /// The last decisions, in the order of the sources.
    pub fn decisions(&self) -> &[Decision] {
        &self.decisions
    }

    /// The last decisions, for a caller that knows a better reason why a source is not sent.
    pub fn decisions_mut(&mut self) -> &mut [Decision] {
        &mut self.decisions
    }

    fn decide(&mut self, budget: u64, shortage: Option<u64>) -> Totals {
        self.decisions.clear();
        let mut totals = Totals {
            next_bps: shortage.map(|shortage| budget.saturating_add(shortage)),
            ..Totals::default()
        };
        for share in &self.shares {
            let (first, count) = share.layers;
            let layers = self.layers.get(first..first.saturating_add(count)).unwrap_or_default();
            let candidates = share.ladder.of(&self.candidates);
            let at = |steps: usize| steps.checked_sub(1).and_then(|i| candidates.get(i));
            let (target, ideal) = (at(share.given), at(candidates.len()));
            let layer = |c: Option<&Candidate>| c.and_then(|c| layers.get(c.layer));
            let (target_layer, ideal_layer) = (layer(target), layer(ideal));
            let all = share.given == candidates.len();
            let reason = single::reason(&share.wanted, layers, ideal.map(|ideal| ideal.layer), all);
            let decision = Decision {
                source: share.wanted.source,
                target: target_layer.map(|layer| layer.id),
                target_bps: target.map_or(0, |target| target.bps),
                target_height: target_layer.and_then(|layer| layer.height),
                arrives: target_layer.is_some_and(|layer| layer.active),
                ideal: ideal_layer.map(|layer| layer.id),
                ideal_bps: ideal.map_or(0, |ideal| ideal.bps),
                ideal_height: ideal_layer.and_then(|layer| layer.height),
                reason,
            };
            totals.target_bps = totals.target_bps.saturating_add(decision.target_bps);
            totals.ideal_bps = totals.ideal_bps.saturating_add(decision.ideal_bps);
            let suspended = target.is_none() && ideal.is_some_and(|ideal| ideal.bps > 0);
            totals.suspended = totals.suspended.saturating_add(usize::from(suspended));
            self.decisions.push(decision);
        }
        totals.oversend_bps = totals.target_bps.saturating_sub(budget);
        totals
    }
}

impl Share {
    fn has_preferred(&self) -> bool {
        self.given >= self.ladder.preferred
    }
}

/// One round over the sources.
struct Round<'a> {
    config: &'a Config,
    candidates: &'a [Candidate],
    budget: u64,
    spent: u64,
    /// The smallest bandwidth that was missing for a step.
    shortage: Option<u64>,
}

impl Round<'_> {
    /// Gives a source its next step, or all steps up to the preferred layer if it is on stage and
    /// has nothing. `first`: it has the highest priority. Returns whether it got more.
    fn improve(&mut self, share: &mut Share, first: bool) -> bool {
        let candidates = share.ladder.of(self.candidates);
        let cost = |given: usize| {
            given.checked_sub(1).and_then(|i| candidates.get(i)).map_or(0, |c| c.bps)
        };
        let before = share.given;
        let others = self.spent.saturating_sub(cost(before));
        let most = self.budget.saturating_sub(others);
        let eager = share.wanted.on_stage && before == 0;
        let upto = if eager { share.ladder.preferred.max(1) } else { before.saturating_add(1) };
        let mut lacking = 0;
        for candidate in candidates.get(before..upto.min(candidates.len())).unwrap_or_default() {
            let higher = share.wanted.current.is_some_and(|current| candidate.id > current);
            let margin = if higher { candidate.bps / MARGIN } else { 0 };
            // The others may already exceed the budget.
            let all = others.saturating_add(candidate.bps).saturating_add(margin);
            lacking = all.saturating_sub(self.budget);
            if lacking > 0 {
                break;
            }
            share.given = share.given.saturating_add(1);
        }
        if first && self.config.allow_oversend_onstage {
            let beyond = most.saturating_add(self.config.max_oversend_bps);
            let steps = share.given..share.ladder.oversend;
            for candidate in candidates.get(steps).unwrap_or_default() {
                // A source that may oversend is not short of bandwidth.
                lacking = 0;
                if candidate.bps > beyond {
                    let all = others.saturating_add(candidate.bps);
                    let most = self.budget.saturating_add(self.config.max_oversend_bps);
                    lacking = all.saturating_sub(most);
                    break;
                }
                share.given = share.given.saturating_add(1);
            }
        }
        if lacking > 0 {
            self.shortage = Some(self.shortage.map_or(lacking, |least| least.min(lacking)));
        }
        self.spent = others.saturating_add(cost(share.given));
        share.given > before
    }
}
