//! The bridge's stress level, by which a focus chooses among bridges.
//!
//! As in JVB, stress is a measure of load divided by its threshold. At 1 and more the bridge is overloaded,
//! and where that is configured every receiver gets fewer videos.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// How load is measured, and its thresholds (`videobridge.load-management`).
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
    /// `load-measurements.cpu-usage.recovery-threshold`: below it, the reduction is undone. 0.72.
    pub cpu_recovery: f64,
    /// `load-measurements.packet-rate.recovery-threshold`, likewise. 40,000.
    pub packet_recovery: u32,
    /// How load is reduced (`reducer-enabled`); `None`: it is not. None.
    pub reducer: Option<ReducerConfig>,
}

/// How an overloaded bridge bounds the videos of all receivers (`load-reducers.last-n`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReducerConfig {
    /// `reduction-scale`: of the most that anybody gets. 0.75.
    pub reduction_scale: f64,
    /// `recover-scale`: of the limit there is, on the way back. 1.25.
    pub recover_scale: f64,
    /// `impact-time`: how long to wait for a change to take effect. 1 minute.
    pub impact_time: Duration,
    /// `minimum-last-n-value`: no limit is lower. 1.
    pub minimum: usize,
    /// `maximum-enforced-last-n-value`: no limit is as high. 40.
    pub maximum: usize,
}

impl Default for ReducerConfig {
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Measure {
    /// Usage of the machine's processors, by all processes.
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
            cpu_recovery: 0.72,
            packet_recovery: 40_000,
            reducer: None,
        }
    }
}

/// How often load is measured. JVB measures every 10 s; by then dozens of participants may have joined.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// Measurements over which a rise of load is reported: long enough that a single burst does not count.
const SHORT: usize = 2;

/// Measurements over which a fall is reported, as long as JVB's.
const LONG: usize = 10;

/// Time of all processors since the machine started, in ticks (proc_stat(5)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CpuTimes {
    busy: u64,
    idle: u64,
    steal: u64,
}

impl CpuTimes {
    /// The times of this machine; `None` where the system does not provide them.
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

    /// Usage since `before`, as fractions of the time: by this machine, and by others on the hypervisor.
    fn since(self, before: Self) -> Option<(f64, f64)> {
        let steal = self.steal.saturating_sub(before.steal);
        let busy = self.busy.saturating_sub(before.busy);
        let idle = self.idle.saturating_sub(before.idle);
        let all = busy.saturating_add(idle).saturating_add(steal);
        (all > 0).then(|| (busy as f64 / all as f64, steal as f64 / all as f64))
    }
}

/// Measures processor usage between readings. The reported load rises at once and falls as slowly as JVB's: a
/// focus that sends all participants here must see the rise at once, and must not see a lull of a second.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter {
    /// The last readings, the oldest first.
    looks: VecDeque<CpuTimes>,
    /// How busy the busiest shard was, likewise.
    shards: VecDeque<f64>,
    load: f64,
    /// The load over all readings that are kept.
    average: f64,
    steal: f64,
}

impl Meter {
    /// Takes a reading. `busiest`: the part of the last second in which the busiest shard did not sleep. A
    /// shard has one core and cannot hand its load to another: when its core is busy, the machine's other
    /// cores do not help.
    pub(super) fn look(
        &mut self,
        now: Option<CpuTimes>,
        busiest: Option<f64>,
        config: &LoadConfig,
    ) {
        if self.shards.len() >= LONG {
            self.shards.pop_front();
        }
        self.shards.extend(busiest);
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
            let mean = |looks: usize| {
                let last = self.shards.len().min(looks);
                let busy: f64 = self.shards.iter().rev().take(looks).sum();
                if last == 0 { 0.0 } else { busy / last as f64 }
            };
            self.average = used(long).max(mean(LONG));
            self.load = back(SHORT).map_or(0.0, used).max(mean(SHORT)).max(self.average);
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

    /// Whether the load has been over the threshold, or is low enough to undo the reduction.
    pub(super) fn pressure(&self, packets_per_second: u64, config: &LoadConfig) -> Pressure {
        let (load, too_much, little) = match config.measure {
            Measure::CpuUsage => (self.average, config.cpu_threshold, config.cpu_recovery),
            Measure::PacketRate => (
                packets_per_second as f64,
                config.packet_threshold.into(),
                config.packet_recovery.into(),
            ),
        };
        if load >= too_much {
            Pressure::TooMuch
        } else if load < little {
            Pressure::Little
        } else {
            Pressure::Enough
        }
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

/// Load, as a reducer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pressure {
    /// Above the threshold.
    TooMuch,
    /// Between the thresholds.
    Enough,
    /// Below the recovery threshold.
    Little,
}

/// The bound of videos for each receiver while the bridge is overloaded.
#[derive(Clone, Debug, Default)]
pub(super) struct Reducer {
    limit: Option<usize>,
    changed: Option<Instant>,
}

/// A change of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub before: Option<usize>,
    pub after: Option<usize>,
}

impl Reducer {
    /// At most so many; `None`: as many as they want.
    pub(super) fn limit(&self) -> Option<usize> {
        self.limit
    }

    /// Takes a reading. `most_forwarded`: the most videos that anybody gets.
    pub(super) fn look(
        &mut self,
        pressure: Pressure,
        most_forwarded: impl FnOnce() -> usize,
        config: &ReducerConfig,
        now: Instant,
    ) -> Option<Step> {
        let waits = |then| now.saturating_duration_since(then) < config.impact_time;
        if self.changed.is_some_and(waits) {
            return None;
        }
        let before = self.limit;
        let scaled = |videos: usize, scale: f64| (videos as f64 * scale) as usize;
        let after = match (pressure, before) {
            (Pressure::TooMuch, _) => match most_forwarded() {
                // There is nothing to reduce.
                0 => before,
                most => Some(scaled(most, config.reduction_scale).max(config.minimum)),
            },
            (Pressure::Little, Some(limit)) => {
                let more = scaled(limit, config.recover_scale).max(limit.saturating_add(1));
                Some(more).filter(|more| *more < config.maximum)
            }
            (Pressure::Enough | Pressure::Little, _) => before,
        };
        if after == before {
            return None;
        }
        (self.limit, self.changed) = (after, Some(now));
        Some(Step { before, after })
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
        meter.look(times(1_000, 1_000, 0), None, &config);
        assert!(meter.stress(0, &config) < 1e-9, "nothing is known yet");
        meter.look(times(1_350, 1_550, 100), None, &config);
        assert!((meter.stress(0, &config) - 0.45 / 0.9).abs() < 1e-9);
        meter.look(None, None, &config);
        assert!((meter.stress(0, &config) - 0.5).abs() < 1e-9, "the last that is known");
        assert!((meter.steal() - 0.1).abs() < 1e-9);
        config.detect_steal = false;
        let mut meter = Meter::default();
        meter.look(times(0, 0, 0), None, &config);
        meter.look(times(90, 10, 100), None, &config);
        assert!((meter.stress(0, &config) - 0.45 / 0.9).abs() < 1e-9);
        config.measure = Measure::PacketRate;
        assert!((meter.stress(25_000, &config) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn a_rise_is_reported_at_once_and_a_fall_is_not() {
        let config = LoadConfig { cpu_threshold: 1.0, ..LoadConfig::default() };
        let mut meter = Meter::default();
        let mut now = CpuTimes::default();
        let mut second = |busy: u64| {
            now = CpuTimes { busy: now.busy + busy, idle: now.idle + 100 - busy, steal: 0 };
            meter.look(Some(now), None, &config);
            (meter.stress(0, &config) * 100.0).round() as u64
        };
        for _ in 0..20 {
            second(10);
        }
        assert_eq!([second(90), second(90)], [50, 90], "it jumps");
        let falls: Vec<u64> = (0..10).map(|_| second(10)).collect();
        assert_eq!(falls, [50, 26, 26, 26, 26, 26, 26, 26, 18, 10]);
    }

    #[test]
    fn a_shard_at_its_end_is_stress_though_other_cores_idle() {
        let config = LoadConfig::default();
        let mut meter = Meter::default();
        let times = |busy, idle| Some(CpuTimes { busy, idle, steal: 0 });
        for second in 0..12 {
            meter.look(times(second * 10, second * 90), Some(0.99), &config);
        }
        assert!((meter.stress(0, &config) - 1.1).abs() < 1e-9);
        assert_eq!(meter.pressure(0, &config), Pressure::TooMuch);
        for second in 12..24 {
            meter.look(times(second * 10, second * 90), Some(0.2), &config);
        }
        assert_eq!(meter.pressure(0, &config), Pressure::Little);
        let packets = LoadConfig { measure: Measure::PacketRate, ..config };
        let pressure = |rate| meter.pressure(rate, &packets);
        assert_eq!(
            [pressure(39_999), pressure(40_000), pressure(50_000)],
            [Pressure::Little, Pressure::Enough, Pressure::TooMuch]
        );
    }

    #[test]
    fn a_limit_falls_while_load_is_too_much_and_comes_back_in_steps() {
        let config = ReducerConfig { maximum: 20, ..ReducerConfig::default() };
        let mut reducer = Reducer::default();
        let start = Instant::now();
        let mut minute = 0;
        let mut look = |pressure, most: usize| {
            minute += 1;
            let now = start + config.impact_time * minute;
            let changed = reducer.look(pressure, || most, &config, now).is_some();
            // A reading right after a change does not show its effect yet.
            let again = changed.then(|| reducer.look(Pressure::TooMuch, || most, &config, now));
            assert_eq!(again.flatten(), None);
            reducer.limit()
        };
        let (too_much, little) = (Pressure::TooMuch, Pressure::Little);
        assert_eq!(look(little, 20), None, "nothing was taken");
        assert_eq!(look(too_much, 20), Some(15));
        assert_eq!(look(Pressure::Enough, 15), Some(15));
        assert_eq!(look(too_much, 15), Some(11));
        assert_eq!(look(too_much, 1), Some(1), "the least");
        assert_eq!(look(little, 1), Some(2), "one more at least");
        let back: Vec<_> = (0..11).map(|_| look(little, 9)).collect();
        assert_eq!(back[..4], [Some(3), Some(4), Some(5), Some(6)]);
        assert_eq!(back[8..], [Some(15), Some(18), None], "beyond the highest there is none");
    }
}
