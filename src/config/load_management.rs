//! `videobridge.load-management`: how load is measured, and from which value on the bridge is overloaded.

use std::{collections::BTreeMap, time::Duration};

use super::reader::{Invalid, Reader, scalar, wants};

/// Load measurement, its thresholds, and the reduction of load.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// `load-measurements.load-measurement`. `cpu-usage`.
    pub measure: LoadMeasure,
    /// `load-measurements.cpu-usage.load-threshold`, a fraction of all cores. 0.9.
    pub cpu_threshold: f64,
    /// `load-measurements.cpu-usage.detect-cpu-steal`: time that the hypervisor gave to other machines
    /// counts as busy. true.
    pub detect_steal: bool,
    /// `load-measurements.packet-rate.load-threshold`, RTP packets per second in both directions. 50,000.
    pub packet_threshold: u32,
    /// `average-participant-stress`: what a focus adds for a participant whose load is not in the
    /// measurement yet. 0.01.
    pub average_participant_stress: f64,
    /// `load-measurements.cpu-usage.recovery-threshold`: below it, the reduction is lifted step by step.
    /// 0.72.
    pub cpu_recovery: f64,
    /// `load-measurements.packet-rate.recovery-threshold`: the same for packet rate. 40,000.
    pub packet_recovery: u32,
    /// `reducer-enabled`: lower last-N for all receivers while the bridge is overloaded. false.
    pub reduce: bool,
    /// `load-reducers.last-n`: how last-N is lowered.
    pub last_n: LastNReducer,
    /// `conference-last-n-limits`: maximum last-N by the minimum number of endpoints of the conference.
    /// None.
    pub last_n_by_size: BTreeMap<u32, u32>,
}

/// How last-N is lowered while the bridge is overloaded.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LastNReducer {
    /// `reduction-scale`: the new limit as a fraction of the most video sources that any receiver gets.
    /// 0.75.
    pub reduction_scale: f64,
    /// `recover-scale`: on recovery, the new limit as a multiple of the current one. 1.25.
    pub recover_scale: f64,
    /// `impact-time`: minimum time between two changes, so that the effect of one shows. 1 minute.
    pub impact_time: Duration,
    /// `minimum-last-n-value`: the lowest limit. 1.
    pub minimum: u32,
    /// `maximum-enforced-last-n-value`: a limit of this value or more is lifted. 40.
    pub maximum: u32,
}

impl Default for LastNReducer {
    fn default() -> Self {
        Self {
            reduction_scale: 0.75,
            recover_scale: 1.25,
            impact_time: Duration::from_secs(60),
            minimum: 1,
            maximum: 40,
        }
    }
}

/// The measure of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadMeasure {
    /// `cpu-usage`: how busy the machine's processors are.
    CpuUsage,
    /// `packet-rate`: RTP packets per second.
    PacketRate,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            measure: LoadMeasure::CpuUsage,
            cpu_threshold: 0.9,
            detect_steal: true,
            packet_threshold: 50_000,
            average_participant_stress: 0.01,
            cpu_recovery: 0.72,
            packet_recovery: 40_000,
            reduce: false,
            last_n: LastNReducer::default(),
            last_n_by_size: BTreeMap::new(),
        }
    }
}

/// Fills `c`, which holds the defaults.
pub(super) fn read(r: &mut Reader<'_>, c: &mut Load) {
    let key = "videobridge.load-management.load-measurements.load-measurement";
    let names = [("cpu-usage", LoadMeasure::CpuUsage), ("packet-rate", LoadMeasure::PacketRate)];
    r.choice(key, &mut c.measure, &names);
    let key = "videobridge.load-management.load-measurements.cpu-usage.load-threshold";
    r.fraction(key, &mut c.cpu_threshold);
    let key = "videobridge.load-management.load-measurements.cpu-usage.detect-cpu-steal";
    r.boolean(key, &mut c.detect_steal);
    let key = "videobridge.load-management.load-measurements.packet-rate.load-threshold";
    r.integer(key, &mut c.packet_threshold, 1, 1_000_000_000);
    let key = "videobridge.load-management.average-participant-stress";
    r.fraction(key, &mut c.average_participant_stress);
    let key = "videobridge.load-management.load-measurements.cpu-usage.recovery-threshold";
    r.fraction(key, &mut c.cpu_recovery);
    let key = "videobridge.load-management.load-measurements.packet-rate.recovery-threshold";
    r.integer(key, &mut c.packet_recovery, 0, 1_000_000_000);
    r.boolean("videobridge.load-management.reducer-enabled", &mut c.reduce);
    let last_n = &mut c.last_n;
    let key = "videobridge.load-management.load-reducers.last-n.reduction-scale";
    r.number(key, &mut last_n.reduction_scale);
    let key = "videobridge.load-management.load-reducers.last-n.recover-scale";
    r.number(key, &mut last_n.recover_scale);
    let key = "videobridge.load-management.load-reducers.last-n.impact-time";
    r.duration(key, &mut last_n.impact_time);
    let key = "videobridge.load-management.load-reducers.last-n.minimum-last-n-value";
    r.integer(key, &mut last_n.minimum, 0, 10_000);
    let key = "videobridge.load-management.load-reducers.last-n.maximum-enforced-last-n-value";
    r.integer(key, &mut last_n.maximum, 1, 10_000);
    last_n_by_size(r, &mut c.last_n_by_size);
}

/// An object whose keys must be numbers.
fn last_n_by_size(r: &mut Reader<'_>, target: &mut BTreeMap<u32, u32>) {
    let key = "videobridge.load-management.conference-last-n-limits";
    for (name, value) in r.section(key) {
        let full = format!("{key}.{name}");
        r.add_known(&full);
        let number = |text: &str| text.trim().parse::<u32>().ok().filter(|n| *n <= 10_000);
        if let (Some(size), Some(last_n)) = (number(&name), scalar(&value.kind).and_then(number)) {
            target.insert(size, last_n);
        } else {
            let what = wants("whole numbers such as 20 = 10", &value.kind);
            r.invalid.push(Invalid { key: full, origin: value.origin, what });
        }
    }
}
