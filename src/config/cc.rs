//! `videobridge.cc`, `videobridge.connection-stats` and `jmt.bwe.estimator`: what receivers get of videos
//! and of their links.

use std::time::Duration;

use super::reader::Reader;

/// Choice of what a receiver gets.
#[derive(Clone, PartialEq, Debug)]
pub struct Cc {
    /// `initial-last-n`: video sources for a receiver that did not say; -1 is all. -1.
    pub initial_last_n: i32,
    /// `jvb-last-n`: video sources for any receiver at most; -1 is all. -1.
    pub jvb_last_n: i32,
    /// `initial-max-height-px`: height of videos for a receiver that has not asked for any; -1 is any.
    /// -1; JVB: 0.
    pub initial_max_height: i32,
    /// `default-max-height-px`: height of videos that a receiver did not name when it first asks. 180.
    pub default_max_height: i32,
    /// `onstage-preferred-height-px`: a camera grows to this height before others. 360.
    pub onstage_preferred_height: u16,
    /// `onstage-preferred-framerate`: and beyond it only at this rate, frames per second. 30.
    pub onstage_preferred_framerate: f64,
    /// `allow-oversend-onstage`: a shared screen on stage may exceed the link a little. true.
    pub allow_oversend_onstage: bool,
    /// `max-oversend-bitrate`: by so much, bit/s. 500,000.
    pub max_oversend_bps: u64,
    /// `bwe-change-threshold`: smaller changes of an estimate change nothing. 0.15.
    pub bwe_change_threshold: f64,
    /// `trust-bwe`: send what is estimated; else everything. true.
    pub trust_bwe: bool,
    /// `assumed-bandwidth-limit`: clients may say what their links carry, up to so much, bit/s. Unset:
    /// they may not.
    pub assumed_bandwidth_limit: Option<u64>,
    /// `max-time-between-calculations`. 5 s.
    pub max_time_between_calculations: Duration,
    /// `use-vla-target-bitrate`: layers cost what their senders say; else what is measured. false.
    pub use_vla_target_bitrate: bool,
    /// `videobridge.connection-stats`: how often clients hear what their link is estimated to carry.
    pub connection_stats: ConnectionStats,
    /// `jmt.bwe.estimator`.
    pub bandwidth: Bandwidth,
}

impl Default for Cc {
    fn default() -> Self {
        Self {
            initial_last_n: -1,
            jvb_last_n: -1,
            initial_max_height: -1,
            default_max_height: 180,
            onstage_preferred_height: 360,
            onstage_preferred_framerate: 30.0,
            allow_oversend_onstage: true,
            max_oversend_bps: 500_000,
            bwe_change_threshold: 0.15,
            trust_bwe: true,
            assumed_bandwidth_limit: None,
            max_time_between_calculations: Duration::from_secs(5),
            use_vla_target_bitrate: false,
            connection_stats: ConnectionStats::default(),
            bandwidth: Bandwidth::default(),
        }
    }
}

/// What clients hear of their links.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnectionStats {
    /// `enabled`. true.
    pub enabled: bool,
    /// `interval`. 10 s.
    pub interval: Duration,
}

impl Default for ConnectionStats {
    fn default() -> Self {
        Self { enabled: true, interval: Duration::from_secs(10) }
    }
}

/// Bounds of what links are estimated to carry, bit/s.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bandwidth {
    /// `initial-bw`. 2,500,000.
    pub initial_bps: u64,
    /// `min-bw`. 30,000.
    pub min_bps: u64,
    /// `max-bw`. 20,000,000.
    pub max_bps: u64,
}

impl Default for Bandwidth {
    fn default() -> Self {
        Self { initial_bps: 2_500_000, min_bps: 30_000, max_bps: 20_000_000 }
    }
}

/// Fills `c`, which holds the defaults.
pub(super) fn read(r: &mut Reader<'_>, c: &mut Cc) {
    r.integer("videobridge.cc.initial-last-n", &mut c.initial_last_n, -1, 10_000);
    r.integer("videobridge.cc.jvb-last-n", &mut c.jvb_last_n, -1, 10_000);
    r.integer("videobridge.cc.initial-max-height-px", &mut c.initial_max_height, -1, 65_535);
    r.integer("videobridge.cc.default-max-height-px", &mut c.default_max_height, -1, 65_535);
    // The old name of both comes before them, as in JVB.
    let mut thumbnail = -1;
    r.integer("videobridge.cc.thumbnail-max-height-px", &mut thumbnail, -1, 65_535);
    if thumbnail >= 0 {
        (c.initial_max_height, c.default_max_height) = (thumbnail, thumbnail);
    }
    allocation(r, c);
    let stats = &mut c.connection_stats;
    r.boolean("videobridge.connection-stats.enabled", &mut stats.enabled);
    r.interval("videobridge.connection-stats.interval", &mut stats.interval);
    let bandwidth = &mut c.bandwidth;
    for (now, old, target) in [
        ("jmt.bwe.estimator.min-bw", "jmt.bwe.google-cc.min-bw", &mut bandwidth.min_bps),
        ("jmt.bwe.estimator.max-bw", "jmt.bwe.google-cc.max-bw", &mut bandwidth.max_bps),
    ] {
        r.bandwidth(now, target);
        let mut before = None;
        r.optional_bandwidth(old, &mut before);
        *target = before.unwrap_or(*target);
    }
    r.bandwidth("jmt.bwe.estimator.initial-bw", &mut bandwidth.initial_bps);
    if bandwidth.min_bps == 0 || bandwidth.min_bps > bandwidth.max_bps {
        let key = "jmt.bwe.estimator.min-bw";
        r.mistake(key, key, "needs a bandwidth of more than nothing and at most max-bw");
    }
}

fn allocation(r: &mut Reader<'_>, c: &mut Cc) {
    r.integer(
        "videobridge.cc.onstage-preferred-height-px",
        &mut c.onstage_preferred_height,
        0,
        u16::MAX,
    );
    r.number("videobridge.cc.onstage-preferred-framerate", &mut c.onstage_preferred_framerate);
    r.boolean("videobridge.cc.allow-oversend-onstage", &mut c.allow_oversend_onstage);
    r.bandwidth("videobridge.cc.max-oversend-bitrate", &mut c.max_oversend_bps);
    r.fraction("videobridge.cc.bwe-change-threshold", &mut c.bwe_change_threshold);
    r.boolean("videobridge.cc.trust-bwe", &mut c.trust_bwe);
    r.optional_bandwidth("videobridge.cc.assumed-bandwidth-limit", &mut c.assumed_bandwidth_limit);
    let key = "videobridge.cc.max-time-between-calculations";
    r.interval(key, &mut c.max_time_between_calculations);
    r.boolean("videobridge.cc.use-vla-target-bitrate", &mut c.use_vla_target_bitrate);
    // Old names come before new ones, as in JVB.
    let mut suspend = !c.allow_oversend_onstage;
    r.boolean("videobridge.cc.enable-onstage-video-suspend", &mut suspend);
    c.allow_oversend_onstage = !suspend;
    let mut percent = c.bwe_change_threshold * 100.0;
    r.number("videobridge.cc.bwe-change-threshold-pct", &mut percent);
    c.bwe_change_threshold = percent / 100.0;
}
