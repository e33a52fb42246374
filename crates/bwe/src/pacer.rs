//! Decides when the next packet may leave.

use std::time::{Duration, Instant};

use crate::{ClusterId, Probe};

/// What may leave at once, and thus the most debt that delays no packet.
const STEP: Duration = Duration::from_millis(5);
/// Probe packets leave in batches of this length at the probe's rate.
const PROBE_STEP: Duration = Duration::from_millis(2);
/// A probe that has not ended by then is given up.
const PROBE_LIFE: Duration = Duration::from_secs(1);
/// Most probes that wait.
const PROBES: usize = 4;
const NANOS: u64 = 1_000_000_000;

/// A probe in progress.
#[derive(Debug, Clone, Copy)]
struct Running {
    probe: Probe,
    /// When its first packet was due.
    since: Option<Instant>,
    bytes: u64,
    packets: u32,
}

/// A pacer without a queue: sent packets add to a debt, which is paid off at the rate.
///
/// On an idle link there is no debt, and packets leave at once. What exceeds one step of 5 ms waits
/// for [`Pacer::next_send`].
#[derive(Debug, Clone)]
pub struct Pacer {
    bps: u64,
    /// Bits that were sent and not paid off, times a billion so that no fraction is lost.
    debt: u128,
    paid_until: Instant,
    /// The first one is in progress.
    probes: [Option<Running>; PROBES],
}

impl Pacer {
    /// Creates a pacer without debt. Until a rate is set nothing is held back.
    pub fn new(now: Instant) -> Self {
        Self { bps: u64::MAX, debt: 0, paid_until: now, probes: [None; PROBES] }
    }

    /// Sets the rate at which debt is paid off. Existing debt stays.
    pub fn set_rate(&mut self, bps: u64) {
        self.bps = bps.max(1);
    }

    /// The rate at which debt is paid off, bits per second.
    pub fn rate(&self) -> u64 {
        self.bps
    }

    /// Returns whether a packet may leave: the debt is less than a step.
    pub fn allows(&mut self, now: Instant) -> bool {
        self.pay(now);
        self.debt <= self.step()
    }

    /// Records a packet of `size` bytes that has left.
    pub fn on_sent(&mut self, size: usize) {
        let bits = u128::try_from(size).unwrap_or(u128::MAX).saturating_mul(8);
        self.debt = self.debt.saturating_add(bits.saturating_mul(u128::from(NANOS)));
    }

    /// When [`Self::allows`] becomes true if nothing is sent until then; `now` if it is.
    pub fn next_send(&self, now: Instant) -> Instant {
        let over = self.debt.saturating_sub(self.step());
        let nanos = over.div_ceil(u128::from(self.bps));
        let wait = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.paid_until.checked_add(wait).unwrap_or(now).max(now)
    }

    /// Queues a probe. If too many wait it is dropped.
    pub fn start_probe(&mut self, now: Instant, probe: Probe) {
        let since = self.probes.iter().all(Option::is_none).then_some(now);
        if let Some(free) = self.probes.iter_mut().find(|running| running.is_none()) {
            *free = Some(Running { probe, since, bytes: 0, packets: 0 });
        }
    }

    /// Returns the probe in progress, and how many bytes of it must leave now; `None` if none must.
    ///
    /// Both media and padding count: pass both to [`Self::on_probe_sent`].
    pub fn probe_due(&mut self, now: Instant) -> Option<(ClusterId, usize)> {
        self.end_probes(now);
        let running = self.probes.first()?.as_ref()?;
        if running.next(now) > now {
            return None;
        }
        let elapsed = now.saturating_duration_since(running.since.unwrap_or(now));
        let due = bytes_in(running.probe.bps, elapsed.saturating_add(PROBE_STEP));
        // A caller that is late does not catch up at once: a burst says nothing about a rate.
        let most = bytes_in(running.probe.bps, PROBE_STEP.saturating_mul(2)).max(1);
        let bytes = due.saturating_sub(running.bytes).clamp(1, most);
        Some((running.probe.cluster, usize::try_from(bytes).unwrap_or(usize::MAX)))
    }

    /// Records a packet of the probe in progress.
    pub fn on_probe_sent(&mut self, now: Instant, size: usize) {
        if let Some(Some(running)) = self.probes.first_mut() {
            running.since.get_or_insert(now);
            running.bytes = running.bytes.saturating_add(u64::try_from(size).unwrap_or(u64::MAX));
            running.packets = running.packets.saturating_add(1);
        }
        self.end_probes(now);
    }

    /// When the probe in progress is due again.
    pub fn next_probe_send(&self) -> Option<Instant> {
        let running = self.probes.first()?.as_ref()?;
        Some(running.next(running.since.unwrap_or(self.paid_until)))
    }

    /// The probe in progress.
    pub fn running_probe(&self) -> Option<ClusterId> {
        self.probes.first()?.as_ref().map(|running| running.probe.cluster)
    }

    /// Removes probes that are complete or too old; the next one starts at `now`.
    fn end_probes(&mut self, now: Instant) {
        while let Some(Some(running)) = self.probes.first() {
            let complete = running.bytes >= u64::from(running.probe.min_bytes)
                && running.packets >= running.probe.min_packets;
            let old = running
                .since
                .is_some_and(|since| now.saturating_duration_since(since) > PROBE_LIFE);
            if !complete && !old {
                break;
            }
            self.probes.rotate_left(1);
            if let Some(last) = self.probes.last_mut() {
                *last = None;
            }
            if let Some(Some(running)) = self.probes.first_mut() {
                running.since = Some(now);
            }
        }
    }

    fn pay(&mut self, now: Instant) {
        if now == self.paid_until {
            return;
        }
        let nanos = now.saturating_duration_since(self.paid_until).as_nanos();
        self.debt = self.debt.saturating_sub(nanos.saturating_mul(u128::from(self.bps)));
        self.paid_until = self.paid_until.max(now);
    }

    fn step(&self) -> u128 {
        STEP.as_nanos().saturating_mul(u128::from(self.bps))
    }
}

impl Running {
    /// When its next packet is due: when the earlier ones have been paid off at the probe's rate.
    fn next(&self, otherwise: Instant) -> Instant {
        let since = self.since.unwrap_or(otherwise);
        let nanos = u128::from(self.bytes)
            .saturating_mul(8)
            .saturating_mul(u128::from(NANOS))
            .checked_div(u128::from(self.probe.bps))
            .unwrap_or(0);
        let wait = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        since.checked_add(wait).unwrap_or(since)
    }
}

/// Bytes at a rate in a time.
fn bytes_in(bps: u64, time: Duration) -> u64 {
    let bits = u128::from(bps).saturating_mul(time.as_nanos());
    u64::try_from(bits.checked_div(u128::from(NANOS).saturating_mul(8)).unwrap_or(0))
        .unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn on_an_idle_link_everything_leaves_at_once() {
        let start = Instant::now();
        let mut pacer = Pacer::new(start);
        assert!(pacer.allows(start));
        pacer.set_rate(8_000_000);
        for frame in 0..100 {
            let now = start + 40 * MS * frame;
            for _ in 0..5 {
                assert!(pacer.allows(now), "a step of 5 ms is 5,000 bytes");
                assert_eq!(pacer.next_send(now), now);
                pacer.on_sent(1_000);
            }
        }
    }

    #[test]
    fn a_keyframe_leaves_at_the_rate_in_steps_of_five_milliseconds() {
        let start = Instant::now();
        let mut pacer = Pacer::new(start);
        pacer.set_rate(8_000_000);
        let (mut now, mut at, mut sent) = (start, Vec::new(), 0);
        while sent < 100 {
            if pacer.allows(now) {
                pacer.on_sent(1_000);
                at.push(now);
                sent += 1;
            } else {
                let next = pacer.next_send(now);
                assert!(next > now && next - now <= 5 * MS);
                now = next;
            }
        }
        assert!(at[5] == start && at[6] > start);
        assert_eq!(at[99] - start, 94 * MS);
    }

    #[test]
    fn a_debt_stays_when_the_rate_changes_and_waiting_saves_nothing_up() {
        let start = Instant::now();
        let mut pacer = Pacer::new(start);
        pacer.set_rate(80_000);
        pacer.on_sent(1_050);
        assert!(!pacer.allows(start));
        assert_eq!(pacer.next_send(start) - start, 100 * MS);
        pacer.set_rate(800_000);
        assert_eq!(pacer.next_send(start) - start, Duration::from_micros(5_500));
        let later = start + Duration::from_secs(100);
        assert!(pacer.allows(later));
        pacer.on_sent(1_050);
        assert!(!pacer.allows(later));
    }

    fn probe(n: u16, bps: u64, min_bytes: u32) -> Probe {
        Probe { cluster: ClusterId(n), bps, min_bytes, min_packets: 5 }
    }

    #[test]
    fn probes_leave_one_after_the_other_at_their_rates() {
        let start = Instant::now();
        let mut pacer = Pacer::new(start);
        pacer.start_probe(start, probe(1, 8_000_000, 15_000));
        pacer.start_probe(start, probe(2, 4_000_000, 15_000));
        let (mut now, mut sent) = (start, [0, 0]);
        let mut ends = Vec::new();
        while let Some(due) = pacer.next_probe_send() {
            now = now.max(due);
            let running = pacer.running_probe();
            while let Some((cluster, bytes)) = pacer.probe_due(now) {
                assert!(bytes <= 4_000);
                let size = bytes.min(1_000);
                sent[usize::from(cluster.0) - 1] += size;
                pacer.on_probe_sent(now, size);
            }
            if pacer.running_probe() != running {
                ends.push(now);
            }
        }
        assert!(sent.iter().all(|sent| (15_000..17_000).contains(sent)), "{sent:?}");
        let [first, second] = ends[..] else { panic!("{ends:?}") };
        assert!((10..=15).contains(&(first - start).as_millis()), "{:?}", first - start);
        assert!((24..=30).contains(&(second - first).as_millis()), "{:?}", second - first);
    }

    #[test]
    fn a_probe_that_nobody_sends_is_given_up_and_too_many_are_dropped() {
        let start = Instant::now();
        let mut pacer = Pacer::new(start);
        for n in 1..=6 {
            pacer.start_probe(start, probe(n, 1_000_000, 2_000));
        }
        let mut seen = Vec::new();
        for second in 0..10 {
            let now = start + Duration::from_millis(1_100) * second;
            seen.extend(pacer.probe_due(now).map(|(cluster, _)| cluster.0));
        }
        assert_eq!(seen, [1, 2, 3, 4]);
        assert_eq!((pacer.next_probe_send(), pacer.running_probe()), (None, None));
    }
}
