//! Which layer of which source a receiver gets of what its link carries.
//!
//! The rules are Jitsi Videobridge's (its `doc/allocation.md`): sources come in order of priority; what
//! is on stage grows to its preferred layer before anybody else gets anything; from then on each round
//! gives every source one step more, as long as it fits; what shares a screen may exceed the link by a
//! bounded amount. Sans-IO: rates and heights in, layers and reasons out. After its first runs an
//! [`Allocator`] allocates no memory.

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

/// What a receiver's allocation goes by (`videobridge.cc`).
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Config {
    /// `onstage-preferred-height-px`: a camera of which more than 180 lines are wanted grows to this
    /// height first, and beyond it only at full frame rate. 360.
    pub onstage_preferred_height: u16,
    /// `onstage-preferred-framerate`: what counts as full, frames per second. 30.
    pub onstage_preferred_framerate: f32,
    /// `allow-oversend-onstage`: a shared screen on stage is sent although it exceeds the link a little,
    /// rather than not. true.
    pub allow_oversend_onstage: bool,
    /// `max-oversend-bitrate`: by so much, bit/s. 500,000.
    pub max_oversend_bps: u64,
    /// `bwe-change-threshold`: an estimate that differs from the one last allocated by no more than this
    /// fraction changes nothing. 0.15.
    pub change_threshold: f64,
    /// `trust-bwe`: allocate what is estimated; else as though links carried everything. true.
    pub trust_bwe: bool,
    /// `assumed-bandwidth-limit`: a receiver may have its link assumed to carry up to so much, bit/s.
    /// None: it may not.
    pub assumed_bandwidth_limit: Option<u64>,
    /// `max-time-between-calculations`: rates change without an event, so that allocation runs at least
    /// this often. 5 s.
    pub max_time_between_calculations: Duration,
    /// `use-vla-target-bitrate`: layers cost what their senders say
    /// (<http://www.webrtc.org/experiments/rtp-hdrext/video-layers-allocation00>), where they say it; else what is
    /// measured. false.
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
    /// What there is to allocate, bit/s, by what is estimated and by what the receiver wants to be
    /// assumed; `None`: everything.
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
    /// All of an encoding that has no layers.
    pub const fn encoding(encoding: u8) -> Self {
        Self { encoding, spatial: 0, temporal: 0 }
    }
}

/// A layer as it is measured.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Layer {
    /// Which.
    pub id: LayerId,
    /// What it costs together with what it depends on, bit/s. 0: not measured.
    pub bps: u64,
    /// The shorter side of its frames, pixels, where known.
    pub height: Option<u16>,
    /// Its frames per second, where known.
    pub fps: Option<f32>,
    /// It arrives.
    pub active: bool,
}

/// What a source shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Kind {
    /// A camera: motion matters before resolution.
    #[default]
    Camera,
    /// A shared screen: resolution matters before motion.
    Desktop,
}

/// Why a source is none of a receiver's, whatever its link carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// Beyond its last-N.
    LastN,
    /// Beyond the last-N that the bridge's load allows.
    Load,
}

/// A source that a receiver could get.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// The source.
    pub source: SourceId,
    /// What it shows.
    pub kind: Kind,
    /// The receiver has it on stage.
    pub on_stage: bool,
    /// The receiver selected it.
    pub selected: bool,
    /// At most so high, pixels. 0: it is not wanted; `None`: any height.
    pub max_height: Option<u16>,
    /// It is left out.
    pub cut: Option<Cut>,
    /// Its sender has muted it, or is muted.
    pub muted: bool,
    /// The layer that the receiver has been given.
    pub current: Option<LayerId>,
}

impl Wanted {
    /// A camera at any height.
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

    /// It is to get nothing.
    fn is_disabled(&self) -> bool {
        self.cut.is_some() || self.max_height == Some(0)
    }
}

/// Why a receiver gets no more of a source.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Reason {
    /// It gets all there is.
    #[default]
    Nothing,
    /// Its link carries no more.
    Link,
    /// Others are among its last-N.
    LastN,
    /// It wants no more.
    Constraint,
    /// The sender sends no more.
    NotSent,
    /// The source is muted.
    Muted,
    /// A keyframe of what was decided has not come.
    WaitingForKeyframe,
    /// The bridge is overloaded.
    SuspendedByLoad,
    /// It wants none of it.
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

    /// The reason in a word, for metrics and debug output.
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

    /// The receiver wants more, and it is neither its own nor the sender's choice that it gets no more.
    pub const fn is_shortage(self) -> bool {
        matches!(self, Self::Link | Self::WaitingForKeyframe | Self::SuspendedByLoad)
    }
}

/// What was decided of one source.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Decision {
    /// The source.
    pub source: SourceId,
    /// The layer that the receiver gets; of a source of which nothing arrives, the one that it is
    /// meant to get.
    pub target: Option<LayerId>,
    /// What that costs, bit/s.
    pub target_bps: u64,
    /// How high it is, pixels.
    pub target_height: Option<u16>,
    /// It arrives.
    pub arrives: bool,
    /// The layer that it would get of a link that carries everything.
    pub ideal: Option<LayerId>,
    /// What that costs, bit/s.
    pub ideal_bps: u64,
    /// How high it is, pixels.
    pub ideal_height: Option<u16>,
    /// Why it gets no more.
    pub reason: Reason,
}

/// What was decided in sum.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// What the targets cost, bit/s.
    pub target_bps: u64,
    /// What the ideals cost, bit/s.
    pub ideal_bps: u64,
    /// The smallest bandwidth of which more would come, bit/s; `None`: of none.
    pub next_bps: Option<u64>,
    /// Sources that arrive and get nothing because the link carries no more.
    pub suspended: usize,
    /// By how much the targets exceed the bandwidth, bit/s.
    pub oversend_bps: u64,
}

/// A layer above the one that a receiver has must leave this part of its cost free, so that rates that
/// are measured anew do not move the receiver there and back.
const MARGIN: u64 = 20;

/// Shares a receiver's bandwidth among its sources: [`Self::begin`], [`Self::add`] each source in the
/// order of priority, [`Self::run`].
#[derive(Clone, Debug, Default)]
pub struct Allocator {
    config: Config,
    shares: Vec<Share>,
    layers: Vec<Layer>,
    candidates: Vec<Candidate>,
    decisions: Vec<Decision>,
    /// Sources looked at in the last run.
    looks: usize,
}

/// A source, and how much of it has been given.
#[derive(Clone, Copy, Debug)]
struct Share {
    wanted: Wanted,
    layers: (usize, usize),
    ladder: Ladder,
    /// How many candidates up it is.
    given: usize,
}

impl Allocator {
    /// An allocator of no sources.
    pub fn new(config: Config) -> Self {
        Self { config, ..Self::default() }
    }

    /// What it goes by.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Forgets all sources, to be told them anew.
    pub fn begin(&mut self) {
        self.shares.clear();
        self.layers.clear();
        self.candidates.clear();
    }

    /// Adds the source that comes next. `layers`: from the worst to the best, arriving or not.
    pub fn add(&mut self, wanted: Wanted, layers: &[Layer]) {
        let first = self.layers.len();
        self.layers.extend_from_slice(layers);
        let ladder = single::select(&self.config, &wanted, layers, &mut self.candidates);
        self.shares.push(Share { wanted, layers: (first, layers.len()), ladder, given: 0 });
    }

    /// Shares `budget`, bit/s; `None`: there is enough for all.
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
                // Else a thumbnail would come now and go as soon as the stage can grow.
                if share.wanted.on_stage && !share.has_preferred() {
                    break;
                }
            }
        }
        let (budget, shortage) = (round.budget, round.shortage);
        self.decide(budget, shortage)
    }

    /// What was decided last, in the order of the sources.
    pub fn decisions(&self) -> &[Decision] {
        &self.decisions
    }

    /// The same, for a caller that knows better why a source is not sent.
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

/// Rounds over the sources.
struct Round<'a> {
    config: &'a Config,
    candidates: &'a [Candidate],
    budget: u64,
    spent: u64,
    /// The least that was lacking for a step.
    shortage: Option<u64>,
}

impl Round<'_> {
    /// Gives a source its next step, or all up to the preferred one if it is on stage and has nothing.
    /// `first`: it has the highest priority. Returns whether it has more now.
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
            // Others may have more than there is.
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
                // What may exceed the link lacks nothing.
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
