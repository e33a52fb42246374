//! How busy the bridge says it is: its stress, by which a focus chooses among bridges.
//!
//! As JVB has it: a measure of load divided by the load that is too much. 1 and more is too much.

use std::{collections::VecDeque, time::Duration};

/// How load is measured, and what is too much (`videobridge.load-management`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoadConfig {
    /// `load-measurements.load-measurement`: `cpu-usage`.
    pub measure: Measure,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Measure {
    /// The machine's processors, of which this process may have others' company.
    #[default]
    CpuUsage,
    /// RTP packets per second.
    PacketRate,
}

impl Default for LoadConfig {
    fn default() -> Self {
        Self {
            measure: Measure::CpuUsage,
            cpu_threshold: 0.9,
            detect_steal: true,
            packet_threshold: 50_000,
            average_participant_stress: 0.01,
        }
    }
}

/// Load is looked at this often. JVB looks every 10 s; by then dozens may have joined.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// Looks back from which a rise of load is told: long enough that a single burst is none.
const SHORT: usize = 2;

/// Looks back from which a fall is told, as long as JVB's.
const LONG: usize = 10;

/// What all processors did since the machine started, in ticks (proc_stat(5)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CpuTimes {
    busy: u64,
    idle: u64,
    steal: u64,
}

impl CpuTimes {
    /// Of this machine; `None` where it does not tell.
    pub(super) fn now() -> Option<Self> {
        Self::read(&std::fs::read_to_string("/proc/stat").ok()?)
    }

    fn read(text: &str) -> Option<Self> {
        let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let mut fields = line.split_ascii_whitespace().map(|field| field.parse::<u64>().ok());
        let mut next = || fields.next().flatten();
        let (user, nice, system, idle) = (next()?, next()?, next()?, next()?);
        // Older kernels know less.
        let mut later = || next().unwrap_or(0);
        let (wait, irq, soft_irq, steal) = (later(), later(), later(), later());
        let busy = [nice, system, irq, soft_irq].iter().fold(user, |sum, n| sum.saturating_add(*n));
        Some(Self { busy, idle: idle.saturating_add(wait), steal })
    }

    /// What was done since `before`, as fractions of the time: by anybody here, and by the hypervisor
    /// for others.
    fn since(self, before: Self) -> Option<(f64, f64)> {
        let steal = self.steal.saturating_sub(before.steal);
        let busy = self.busy.saturating_sub(before.busy);
        let idle = self.idle.saturating_sub(before.idle);
        let all = busy.saturating_add(idle).saturating_add(steal);
        (all > 0).then(|| (busy as f64 / all as f64, steal as f64 / all as f64))
    }
}

/// Measures processors from one look to the next. Load is told as soon as it rises, and falls as
/// slowly as JVB's: a focus that sends everybody here must hear at once, and one that hears of a lull
/// of a second must not.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter {
    /// The last looks, the oldest first.
    looks: VecDeque<CpuTimes>,
    load: f64,
    steal: f64,
}

impl Meter {
    /// Takes a reading.
    pub(super) fn look(&mut self, now: Option<CpuTimes>, config: &LoadConfig) {
        let Some(now) = now else { return };
        let back = |looks: usize| {
            let at = self.looks.len().saturating_sub(looks);
            self.looks.get(at).and_then(|before| now.since(*before))
        };
        let used = |(busy, steal): (f64, f64)| {
            if config.detect_steal { busy + steal } else { busy }
        };
        if let Some(long) = back(LONG) {
            self.steal = long.1;
            self.load = back(SHORT).map_or(0.0, used).max(used(long));
        }
        if self.looks.len() >= LONG {
            self.looks.pop_front();
        }
        self.looks.push_back(now);
    }

    /// The part of the time that was stolen lately.
    pub(super) fn steal(&self) -> f64 {
        self.steal
    }

    /// The stress, at this rate of packets.
    pub(super) fn stress(&self, packets_per_second: u64, config: &LoadConfig) -> f64 {
        match config.measure {
            Measure::CpuUsage => self.load / config.cpu_threshold.max(f64::MIN_POSITIVE),
            Measure::PacketRate => {
                packets_per_second as f64 / f64::from(config.packet_threshold.max(1))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  100 20 30 400 50 6 7 80 9 0\ncpu0 1 2 3 4\nintr 1\n";

    #[test]
    fn reads_what_linux_writes() {
        assert_eq!(CpuTimes::read(STAT), Some(CpuTimes { busy: 163, idle: 450, steal: 80 }));
        let old = CpuTimes { busy: 6, idle: 4, steal: 0 };
        assert_eq!(CpuTimes::read("cpu  1 2 3 4\n"), Some(old));
        for bad in ["", "cpu\n", "cpu  1 2 x 4\n", "cpu0 1 2 3 4\n"] {
            assert_eq!(CpuTimes::read(bad), None, "{bad:?}");
        }
        assert!(CpuTimes::now().is_some(), "this machine tells");
    }

    #[test]
    fn stress_is_load_by_threshold() {
        let mut config = LoadConfig::default();
        let mut meter = Meter::default();
        let times = |busy, idle, steal| Some(CpuTimes { busy, idle, steal });
        meter.look(times(1_000, 1_000, 0), &config);
        assert!(meter.stress(0, &config) < 1e-9, "nothing is known yet");
        meter.look(times(1_350, 1_550, 100), &config);
        assert!((meter.stress(0, &config) - 0.45 / 0.9).abs() < 1e-9);
        meter.look(None, &config);
        assert!((meter.stress(0, &config) - 0.5).abs() < 1e-9, "the last that is known");
        assert!((meter.steal() - 0.1).abs() < 1e-9);
        config.detect_steal = false;
        let mut meter = Meter::default();
        meter.look(times(0, 0, 0), &config);
        meter.look(times(90, 10, 100), &config);
        assert!((meter.stress(0, &config) - 0.45 / 0.9).abs() < 1e-9);
        config.measure = Measure::PacketRate;
        assert!((meter.stress(25_000, &config) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn a_rise_is_told_at_once_and_a_fall_is_not() {
        let config = LoadConfig { cpu_threshold: 1.0, ..LoadConfig::default() };
        let mut meter = Meter::default();
        let mut now = CpuTimes::default();
        let mut second = |busy: u64| {
            now = CpuTimes { busy: now.busy + busy, idle: now.idle + 100 - busy, steal: 0 };
            meter.look(Some(now), &config);
            (meter.stress(0, &config) * 100.0).round() as u64
        };
        for _ in 0..20 {
            second(10);
        }
        assert_eq!([second(90), second(90)], [50, 90], "it jumps");
        let falls: Vec<u64> = (0..10).map(|_| second(10)).collect();
        assert_eq!(falls, [50, 26, 26, 26, 26, 26, 26, 26, 18, 10]);
    }
}
