//! Entry points of the fuzz targets of this crate, so that a stable toolchain can replay their corpora. A
//! target panics when an invariant is broken, and only then.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "a fuzz target panics when an invariant is broken"
)]

use std::time::{Duration, Instant};

use crate::{Config, Estimator, Kind, Pacer, Report};

/// A fuzz target: it panics when an invariant is broken.
pub type Target = fn(&[u8]);

/// Name and function of each fuzz target.
pub const TARGETS: &[(&str, Target)] = &[("bwe_feedback", feedback)];

const MAX_STEPS: usize = 4_096;
/// Media is paced at this multiple of the estimate.
const PACING: u64 = 3;
/// Time's worth that may leave beyond the rate: a step of 5 ms, and the packet that exceeds it.
const BURST_MS: u64 = 6;

struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn short(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes([self.byte()?, self.byte()?]))
    }

    fn long(&mut self) -> Option<u64> {
        let (bytes, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*bytes))
    }
}

struct Run {
    start: Instant,
    now: Instant,
    estimator: Estimator,
    pacer: Pacer,
    max: u64,
    /// The highest that it ever was.
    highest: u64,
    /// Bytes that the pacer allowed, and the largest packet among them.
    paced: u64,
    largest: u64,
}

/// A sender to a receiver that reports anything: the estimate stays within its limits, the pacer
/// obeys it, memory is bounded, and no timer is due again at once.
pub fn feedback(data: &[u8]) {
    let start = Instant::now();
    let config = Config::default();
    let mut run = Run {
        start,
        now: start,
        estimator: Estimator::new(config, start),
        pacer: Pacer::new(start),
        max: config.max_bps,
        highest: config.max_bps,
        paced: 0,
        largest: 0,
    };
    let mut script = Script(data);
    for _ in 0..MAX_STEPS {
        if run.step(&mut script).is_none() {
            break;
        }
        run.check();
    }
}

impl Run {
    fn step(&mut self, script: &mut Script<'_>) -> Option<()> {
        let now = self.now;
        let op = script.byte()?;
        match op % 9 {
            0 => {
                let scale = if op < 128 { 1 } else { 25 };
                self.now += Duration::from_millis(u64::from(script.byte()?) * scale);
            }
            1 => self.send(script)?,
            2 => self.report(script)?,
            3 => self.estimator.on_remb(now, script.long()?),
            4 => {
                let rtt = Duration::from_millis(u64::from(script.short()?));
                self.estimator.on_receiver_report(now, script.byte()?, Some(rtt));
                self.estimator.on_round_trip(now, rtt);
            }
            5 => {
                let (useful, next) = (script.short()?, script.short()?);
                let next = (next > 0).then(|| u64::from(next) * 1_000);
                self.estimator.set_useful(now, u64::from(useful) * 1_000, next);
            }
            6 => {
                self.max = u64::from(script.short()?) * 1_000;
                self.estimator.set_max(self.max);
                self.max = self.max.max(1);
                self.highest = self.highest.max(self.max);
            }
            7 => self.time_out(),
            _ => self.report_prompt(script)?,
        }
        Some(())
    }

    /// Sends as many packets as a byte says, as far as the pacer allows.
    fn send(&mut self, script: &mut Script<'_>) -> Option<()> {
        let (count, size) = (script.byte()?, script.short()? % 1_500);
        for _ in 0..count {
            self.pacer.set_rate(self.estimator.target_bps().saturating_mul(PACING));
            if self.pacer.allows(self.now) {
                self.estimator.on_sent(self.now, size, Kind::Video, self.pacer.running_probe());
                self.pacer.on_sent(usize::from(size));
                self.paced += u64::from(size);
                self.largest = self.largest.max(u64::from(size));
            } else {
                assert!(self.pacer.next_send(self.now) > self.now);
            }
        }
        Some(())
    }

    /// Reports any numbers and times.
    fn report(&mut self, script: &mut Script<'_>) -> Option<()> {
        let count = script.byte()?;
        let mut number = script.short()?;
        let mut reports = Vec::new();
        for _ in 0..count {
            let received = match script.byte()? {
                0..=99 => None,
                100..=199 => Some(i64::from(script.short()?) * 250),
                _ => Some(script.long()?.cast_signed()),
            };
            reports.push(Report { number, received });
            number = number.wrapping_add(u16::from(script.byte()? % 4));
        }
        let summary = self.estimator.on_feedback(self.now, reports.iter().copied());
        let counted = summary.known + summary.unknown + summary.duplicate + summary.lost;
        assert!(counted <= u32::from(count) && summary.bad_time <= summary.known);
        Some(())
    }

    /// Reports the latest packets, at possible times.
    fn report_prompt(&mut self, script: &mut Script<'_>) -> Option<()> {
        let (count, delay, lost) = (script.byte()?, script.byte()?, script.byte()?);
        let next = self.estimator.next_number();
        let arrival = self.now.duration_since(self.start) + Duration::from_millis(delay.into());
        let arrival = i64::try_from(arrival.as_micros()).ok()?;
        let reports = (0..count).map(|n| {
            let number = next.wrapping_sub(u16::from(count)).wrapping_add(n.into());
            let received = (n.wrapping_mul(37) >= lost).then(|| arrival + i64::from(n) * 100);
            Report { number, received }
        });
        self.estimator.on_feedback(self.now, reports);
        Some(())
    }

    fn time_out(&mut self) {
        self.estimator.on_timeout(self.now);
        while let Some(probe) = self.estimator.take_probe(self.now) {
            // A packet is sent even if the limit is less than one.
            let most = self.max / 8 + 1;
            assert!(probe.bps <= self.max && u64::from(probe.min_bytes) <= most);
            self.pacer.start_probe(self.now, probe);
        }
        assert!(self.estimator.next_timeout().is_none_or(|due| due > self.now));
        for _ in 0..1_000 {
            let Some((cluster, bytes)) = self.pacer.probe_due(self.now) else { return };
            let size = u16::try_from(bytes.clamp(1, 1_200)).unwrap_or(1_200);
            self.estimator.on_sent(self.now, size, Kind::Probe, Some(cluster));
            self.pacer.on_probe_sent(self.now, usize::from(size));
        }
        panic!("a probe does not wait");
    }

    fn check(&self) {
        let (min, debug) = (Config::default().min_bps.min(self.max), self.estimator.debug());
        let target = self.estimator.target_bps();
        assert!((min..=self.max).contains(&target), "{target} not in {min}..={}", self.max);
        assert_eq!(debug.target_bps, target);
        assert!(debug.loss_based_bps.is_none_or(|bps| bps < u64::MAX / 2));
        assert!(self.estimator.memory() <= 8_192 * 16);
        let elapsed = self.now.duration_since(self.start).as_millis();
        let most = u128::from(PACING * self.highest) / 8_000;
        let burst = u128::from(BURST_MS);
        assert!(u128::from(self.paced) <= most * (elapsed + burst) + u128::from(self.largest));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn no_target_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            for (_, target) in super::TARGETS {
                target(&bytes);
            }
        }
    }
}
