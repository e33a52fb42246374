//! `videobridge.load-management`: how load is measured, and what is too much.

use super::reader::Reader;

/// How load is measured, and what is too much.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// `load-measurements.load-measurement`. `cpu-usage`.
    pub measure: LoadMeasure,
    /// `load-measurements.cpu-usage.load-threshold`, a fraction of all cores. 0.9.
    pub cpu_threshold: f64,
    /// `load-measurements.cpu-usage.detect-cpu-steal`: time that the hypervisor gave to others counts
    /// as busy. true.
    pub detect_steal: bool,
    /// `load-measurements.packet-rate.load-threshold`, RTP packets per second both ways. 50,000.
    pub packet_threshold: u32,
    /// `average-participant-stress`: what a focus adds for a participant whose load is not measured
    /// yet. 0.01.
    pub average_participant_stress: f64,
}

/// What load is.
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
}
