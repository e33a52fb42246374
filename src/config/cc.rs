//! `videobridge.cc`, `videobridge.connection-stats` and `jmt.bwe.estimator`: how video is allocated to
//! receivers, and what they are told of their links.

use std::time::Duration;

use super::reader::Reader;

/// Settings of the allocation.
#[derive(Clone, PartialEq, Debug)]
pub struct Cc {
    /// `initial-last-n`: last-N of a receiver that has not set its own; -1 is all. -1.
    pub initial_last_n: i32,
    /// `jvb-last-n`: upper bound of every receiver's last-N; -1 is all. -1.
    pub jvb_last_n: i32,
    /// `initial-max-height-px`: maximum height of video for a receiver that has sent no constraints; -1 is
    /// unlimited. -1; JVB: 0.
    pub initial_max_height: i32,
    /// `default-max-height-px`: maximum height of sources that a receiver's first constraints do not name.
    /// 180.
    pub default_max_height: i32,
    /// `onstage-preferred-height-px`: a camera on stage gets layers up to this height before other sources
    /// get more. 360.
    pub onstage_preferred_height: u16,
    /// `onstage-preferred-framerate`: layers above that height need this frame rate, frames per second. 30.
    pub onstage_preferred_framerate: f64,
    /// `allow-oversend-onstage`: a shared screen on stage may exceed the link a little. true.
    pub allow_oversend_onstage: bool,
    /// `max-oversend-bitrate`: the most that it may exceed the link by, bit/s. 500,000.
    pub max_oversend_bps: u64,
    /// `bwe-change-threshold`: smaller relative changes of the estimate trigger no new allocation. 0.15.
    pub bwe_change_threshold: f64,
    /// `trust-bwe`: limit the allocation to the estimate; otherwise send everything. true.
    pub trust_bwe: bool,
    /// `assumed-bandwidth-limit`: clients may set their own estimate, up to this value, bit/s. Unset: they
    /// may not.
    pub assumed_bandwidth_limit: Option<u64>,
    /// `max-time-between-calculations`: a new allocation is made at least this often. 5 s.
    pub max_time_between_calculations: Duration,
    /// `use-vla-target-bitrate`: take a layer's bitrate from its sender's declaration instead of the
    /// measurement. false.
    pub use_vla_target_bitrate: bool,
    /// `videobridge.connection-stats`: how often clients are told the estimate of their link.
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

/// Connection statistics that clients get.
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

/// Initial value and bounds of the bandwidth estimate, bit/s.
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
    // The old name of both keys takes precedence, as in JVB.
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
    // Old names take precedence over new ones, as in JVB.
    let mut suspend = !c.allow_oversend_onstage;
    r.boolean("videobridge.cc.enable-onstage-video-suspend", &mut suspend);
    c.allow_oversend_onstage = !suspend;
    let mut percent = c.bwe_change_threshold * 100.0;
    r.number("videobridge.cc.bwe-change-threshold-pct", &mut percent);
    c.bwe_change_threshold = percent / 100.0;
}
