//! The bandwidth estimator of one receiver.

use std::time::{Duration, Instant};

use crate::{
    ClusterId, Config, FeedbackSummary, Kind, Probe, Report,
    aimd::Aimd,
    delay::{DelayDetector, VirtualQueue},
    history::{Fate, Sent, SentHistory},
    loss::{Bounds, LossBased},
    num::{MS, Micros, after, duration_micros, micros, millis, real, whole},
    probe::{ProbeInputs, ProbeResult, Prober},
    reports::Reports,
    throughput::{LONG, SHORT, Throughput},
};

/// Feedback is not missed before the first of these times, and is after the second, whatever the
/// round trip.
const PATIENCE: (Micros, Micros) = (500 * MS, 900 * MS);
/// Fewer unanswered packets may just have been lost.
const UNANSWERED: u32 = 3;
/// Receiver reports and REMB arrive seldom.
const REPORT_PATIENCE: Micros = 6_000 * MS;
/// Queued packets are sent at this multiple of the estimate (libwebrtc's `kDefaultPaceMultiplier`).
const PACE: f64 = 2.5;
/// The same while a long queue drains.
const PACE_DRAINING: f64 = 0.8;
/// A queue that overflows is longer than this.
const FULL_QUEUE_MS: f64 = 60.0;
/// A shorter queue counts as empty, ms.
const EMPTY_QUEUE_MS: f64 = 10.0;
/// While feedback is missing the estimate is multiplied by this, this often.
const STARVING: f64 = 0.5;
const STARVING_STEP: Micros = 300 * MS;
/// While feedback is missing and nothing else is sent, a packet is sent this often, so that
/// feedback can resume.
const KEEPALIVE: Micros = 500 * MS;
/// An arrival time that differs by more than this from what earlier ones predict is impossible.
const MAX_JUMP: i64 = 10_000_000;
/// This many impossible times in a row are a new clock.
const NEW_CLOCK: u32 = 30;
/// Shifts arrival times, which have no particular origin, above zero.
const ARRIVAL_BIAS: i64 = 1 << 40;
/// Below this fraction of the estimate, the application limits what is sent.
const APP_LIMITED: f64 = 0.8;
/// A decrease below this fraction is a large one.
const LARGE_DROP: f64 = 0.66;
/// This many decreases that do not shorten a queue show that it is not ours.
const STUCK: u32 = 3;
/// Provided that less than this fraction is sent since the first of them.
const STUCK_SENT: f64 = 0.7;
/// A longer queue is drained faster, by up to a quarter of the rate.
const DRAIN_MS: (f64, f64) = (80.0, 160.0);
const DRAIN: f64 = 0.25;

/// The trend of packet delays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trend {
    /// A queue drains.
    Underuse,
    /// Delay is steady.
    Normal,
    /// A queue builds up.
    Overuse,
}

/// State of the estimator for `/debug` and metrics. Rates are bits per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Debug {
    /// [`Estimator::target_bps`].
    pub target_bps: u64,
    /// The delay-based estimate.
    pub delay_based_bps: u64,
    /// The loss-based estimate; `None` while it does not limit.
    pub loss_based_bps: Option<u64>,
    /// The rate that the receiver acknowledges.
    pub acknowledged_bps: Option<u64>,
    /// The trend of the delay.
    pub trend: Trend,
    /// The queue in front of the receiver that the sender's own bursts do not explain.
    pub queue: Duration,
    /// The round-trip time.
    pub rtt: Option<Duration>,
    /// Bytes sent and not reported yet.
    pub in_flight_bytes: u64,
    /// Whether a probe is in progress.
    pub probing: bool,
    /// Whether packets are in flight and feedback is missing.
    pub starving: bool,
}

/// State while feedback is missing.
#[derive(Debug, Clone, Copy)]
struct Starving {
    /// The lowered estimate.
    bps: f64,
    /// The estimate before.
    before: f64,
}

/// A series of decreases that have not shortened a queue.
#[derive(Debug, Clone, Copy)]
struct Series {
    /// The time of the last one, and the queue then.
    at: Micros,
    queue: f64,
    /// The sending rate at the first one.
    sent: f64,
    decreases: u32,
}

/// Estimates the bandwidth of the path to one receiver.
#[derive(Debug, Clone)]
pub struct Estimator {
    config: Config,
    epoch: Instant,
    /// The last time asked for, and its distance from the epoch.
    clock: (Instant, Micros),
    history: SentHistory,
    virtual_queue: VirtualQueue,
    /// What is sent, without padding.
    sent: Throughput,
    received: Throughput,
    detector: DelayDetector,
    delay_based: Aimd,
    loss_based: LossBased,
    prober: Prober,
    reports: Reports,
    target: u64,
    rtt: Option<Duration>,
    /// Time from sending a packet to its report, in milliseconds.
    answer_ms: f64,
    /// Whether there ever was transport-wide feedback.
    fed: bool,
    feedback_at: Option<Micros>,
    /// The longest recent time between two feedback packets.
    gap: Micros,
    /// Since when packets are in flight without feedback.
    waiting_since: Option<Micros>,
    /// Packets sent since then.
    unanswered: u32,
    starving: Option<Starving>,
    sent_at: Option<Micros>,
    /// The first arrival and when it was sent, and the distance of the latest arrival from both.
    arrivals: Option<(i64, Micros)>,
    offset: i64,
    impossible: u32,
    series: Option<Series>,
    polled: Micros,
    keepalive_at: Option<Micros>,
}

impl Estimator {
    /// Creates an estimator that starts from the initial rate.
    pub fn new(config: Config, now: Instant) -> Self {
        let config = config.in_order();
        let initial = real(config.initial_bps);
        Self {
            config,
            epoch: now,
            clock: (now, 0),
            history: SentHistory::new(),
            virtual_queue: VirtualQueue::new(),
            sent: Throughput::new(),
            received: Throughput::new(),
            detector: DelayDetector::new(),
            delay_based: Aimd::new(initial, 0),
            loss_based: LossBased::new(),
            prober: Prober::new(),
            reports: Reports::new(initial),
            target: config.initial_bps,
            rtt: None,
            answer_ms: 200.0,
            fed: false,
            feedback_at: None,
            gap: 100 * MS,
            waiting_since: None,
            unanswered: 0,
            starving: None,
            sent_at: None,
            arrivals: None,
            offset: 0,
            impossible: 0,
            series: None,
            polled: 0,
            keepalive_at: None,
        }
    }

    /// Sets the upper limit of the estimate.
    pub fn set_max(&mut self, bps: u64) {
        self.config.max_bps = bps;
        self.update_target();
    }

    /// Sets the wanted bandwidth. `useful_bps` is the bitrate of everything that the receiver
    /// wants; probes do not go beyond it. `next_bps` is the rate at which the next better layer
    /// becomes possible; without one there is nothing to gain, and no probe.
    pub fn set_useful(&mut self, now: Instant, useful_bps: u64, next_bps: Option<u64>) {
        let at = self.micros(now);
        self.prober.set_useful(at, useful_bps, next_bps);
    }

    /// Handles a measured round-trip time.
    pub fn on_round_trip(&mut self, _now: Instant, rtt: Duration) {
        self.rtt = Some(rtt);
    }

    /// Records a packet of `size` bytes, headers included, that is being sent. Returns its
    /// transport sequence number.
    pub fn on_sent(
        &mut self,
        now: Instant,
        size: u16,
        kind: Kind,
        cluster: Option<ClusterId>,
    ) -> u16 {
        let at = self.micros(now);
        let own = self.virtual_queue.send(at, size, self.target);
        if kind != Kind::Probe {
            self.sent.add(at, size);
        }
        if let Some(cluster) = cluster {
            self.prober.on_sent(at, cluster, size);
        }
        // After a silence the wait starts again: a last packet that was lost is no sign of an
        // outage.
        let silent = self.sent_at.is_some_and(|last| at.saturating_sub(last) > PATIENCE.0);
        if silent && self.starving.is_none() {
            (self.waiting_since, self.unanswered) = (None, 0);
        }
        self.sent_at = Some(at);
        self.waiting_since.get_or_insert(at);
        self.unanswered = self.unanswered.saturating_add(1);
        self.history.record(at, size, cluster, own)
    }

    /// Time since the epoch. Cached, since much is sent at one time.
    #[inline]
    fn micros(&mut self, now: Instant) -> Micros {
        if self.clock.0 != now {
            self.clock = (now, micros(self.epoch, now));
        }
        self.clock.1
    }

    /// The number that [`Self::on_sent`] will return.
    pub fn next_number(&self) -> u16 {
        self.history.next_number()
    }

    /// Handles the reports of one transport-wide feedback packet, in the order of their numbers.
    pub fn on_feedback(
        &mut self,
        now: Instant,
        reports: impl Iterator<Item = Report>,
    ) -> FeedbackSummary {
        let mut summary = FeedbackSummary::default();
        let at = self.micros(now);
        let mut newest = None;
        for report in reports {
            let found = self.history.find(report.number);
            let Some((number, sent)) =
                found.and_then(|number| Some((number, self.history.get(number)?)))
            else {
                summary.unknown = summary.unknown.saturating_add(1);
                continue;
            };
            match report.received {
                Some(received) => {
                    let news = self.on_arrival(&mut summary, number, sent, received);
                    newest = newest.max(news.then_some(sent.at));
                }
                None if sent.fate() == Fate::Outstanding => {
                    summary.lost = summary.lost.saturating_add(1);
                    self.history.set_fate(number, Fate::Lost);
                    self.loss_based.on_packet(sent.at, sent.size, true);
                    if let Some(cluster) = sent.cluster() {
                        self.prober.on_packet(cluster, sent.size, sent.at, None);
                    }
                }
                None => {}
            }
        }
        if let Some(newest) = newest {
            self.on_news(at, newest);
        }
        summary
    }

    /// Handles the estimate of a receiver that negotiated only REMB.
    pub fn on_remb(&mut self, now: Instant, bps: u64) {
        if self.fed {
            return;
        }
        self.reports.on_remb(bps);
        let at = self.micros(now);
        self.on_sign_of_life(at);
    }

    /// Handles a receiver report. Its loss counts only without transport-wide feedback.
    pub fn on_receiver_report(&mut self, now: Instant, fraction_lost: u8, rtt: Option<Duration>) {
        self.rtt = rtt.or(self.rtt);
        if self.fed {
            return;
        }
        let at = self.micros(now);
        let sent = self.sent.over(LONG, at);
        self.reports.on_loss(at, fraction_lost, sent, real(self.config.in_order().max_bps));
        self.on_sign_of_life(at);
    }

    /// Handles the time passing: [`Self::next_timeout`] is due.
    pub fn on_timeout(&mut self, now: Instant) {
        let at = self.micros(now);
        self.polled = at;
        if self.starves_at().is_some_and(|due| due <= at) {
            let before = self.starving.map_or(real(self.target), |starving| starving.before);
            let lowered = real(self.target) * STARVING;
            self.starving = Some(Starving { bps: lowered, before });
            self.waiting_since = Some(at);
            self.update_target();
        }
    }

    /// When to call [`Self::on_timeout`], and [`Self::take_probe`] after it.
    pub fn next_timeout(&self) -> Option<Instant> {
        after(self.epoch, self.due()?)
    }

    /// Returns whether [`Self::next_timeout`] has passed. Cheaper than that, for callers that ask
    /// with each packet.
    #[inline]
    pub fn is_due(&mut self, now: Instant) -> bool {
        let now = self.micros(now);
        self.due().is_some_and(|due| due <= now)
    }

    fn due(&self) -> Option<Micros> {
        let probe = if self.starving.is_some() {
            Some(self.polled.saturating_add(KEEPALIVE))
        } else {
            let probe = self.prober.due(real(self.target));
            probe.map(|due| due.max(self.polled.saturating_add(100 * MS)))
        };
        [self.starves_at(), probe].into_iter().flatten().min()
    }

    /// The bandwidth to use, bits per second, headers included.
    pub fn target_bps(&self) -> u64 {
        self.target
    }

    /// The rate at which to send queued packets, bits per second: faster than the estimate, so that
    /// bursts do not wait for long, and slower while a long queue stands, so that it drains.
    /// Retransmissions of what it dropped would keep it full.
    pub fn pacing_bps(&self) -> u64 {
        let stands = self.detector.is_queued() && self.detector.queue_ms() > FULL_QUEUE_MS;
        let factor = if stands || self.starving.is_some() { PACE_DRAINING } else { PACE };
        whole(real(self.target) * factor)
    }

    /// Returns a probe that should be sent now. Call until it returns `None`.
    pub fn take_probe(&mut self, now: Instant) -> Option<Probe> {
        let at = self.micros(now);
        self.polled = at;
        if self.starving.is_some() {
            let last = self.sent_at.max(self.keepalive_at).unwrap_or(0);
            if at.saturating_sub(last) < KEEPALIVE {
                return None;
            }
            self.keepalive_at = Some(at);
            return Some(self.prober.keepalive(self.target));
        }
        if self.prober.is_idle(at, real(self.target)) {
            return None;
        }
        let situation = ProbeInputs {
            target: real(self.target),
            initial: real(self.config.initial_bps),
            max: real(self.config.in_order().max_bps),
            jitter_ms: self.detector.jitter_ms(),
            strained: self.is_strained(),
        };
        self.prober.take(at, &situation)
    }

    /// Returns whether less is sent than the estimate allows, so that it shows little about the
    /// path.
    pub fn is_application_limited(&self) -> bool {
        let sent = self.sent.over(LONG, self.sent_at.unwrap_or(0)).unwrap_or(0.0);
        sent < real(self.target) * APP_LIMITED
    }

    /// The fraction of the bytes of the last seconds that the path lost by itself, 0..=1. It is 0
    /// while there is a queue, which drops what it cannot hold, and while little is known.
    pub fn loss_without_queue(&self) -> f64 {
        if self.is_queued() { 0.0 } else { self.loss_based.lost().unwrap_or(0.0) }
    }

    /// How long packets wait on the path, beyond its delay when it is empty.
    pub fn queue(&self) -> Duration {
        Duration::try_from_secs_f64(self.detector.queue_ms() / 1_000.0).unwrap_or_default()
    }

    /// Returns whether there is a queue, or one builds up.
    pub fn is_queued(&self) -> bool {
        self.detector.state() != Trend::Normal || self.detector.is_queued()
    }

    /// Bytes sent and not reported yet.
    pub fn in_flight_bytes(&self) -> u64 {
        self.history.in_flight_bytes()
    }

    /// Memory apart from the struct itself, bytes.
    pub fn memory(&self) -> usize {
        self.history.memory()
    }

    /// The state of the estimator.
    pub fn debug(&self) -> Debug {
        Debug {
            target_bps: self.target,
            delay_based_bps: whole(self.delay_based.bps()),
            loss_based_bps: self.loss_based.limit().map(whole),
            acknowledged_bps: self.acknowledged().map(whole),
            trend: self.detector.state(),
            queue: Duration::from_micros(whole(self.detector.excess_ms() * 1_000.0)),
            rtt: self.rtt,
            in_flight_bytes: self.history.in_flight_bytes(),
            probing: self.prober.is_out(),
            starving: self.starving.is_some(),
        }
    }

    /// Handles a reported arrival. Returns whether it is new.
    fn on_arrival(
        &mut self,
        summary: &mut FeedbackSummary,
        number: u64,
        sent: Sent,
        received: i64,
    ) -> bool {
        let sent_at = sent.at;
        let fate = sent.fate();
        if fate == Fate::Received {
            summary.duplicate = summary.duplicate.saturating_add(1);
            return false;
        }
        summary.known = summary.known.saturating_add(1);
        self.history.set_fate(number, Fate::Received);
        if fate == Fate::Lost {
            summary.late = summary.late.saturating_add(1);
            self.loss_based.on_late(sent.size);
        } else {
            self.loss_based.on_packet(sent_at, sent.size, false);
        }
        let delay = self.delay_of(sent_at, received);
        let arrivals = &mut self.received;
        self.history.settle_below(number, |unsaid| {
            // Feedback was lost: the packets that it would have reported most likely arrived.
            if let Some(at) = delay.and_then(|delay| biased(unsaid.at, delay)) {
                arrivals.add(at, unsaid.size);
            }
        });
        let Some(delay) = delay else {
            summary.bad_time = summary.bad_time.saturating_add(1);
            return true;
        };
        let arrival = delay.saturating_add(i64::try_from(sent_at).unwrap_or(i64::MAX));
        if !sent.is_overtaken() {
            self.received.add(biased(sent_at, delay).unwrap_or(0), sent.size);
        }
        if fate == Fate::Outstanding {
            self.detector.on_packet(sent_at, delay as f64 / 1_000.0, sent.own_ms());
            if let Some(cluster) = sent.cluster() {
                self.prober.on_packet(cluster, sent.size, sent_at, Some(arrival));
            }
        }
        true
    }

    /// The delay of a packet relative to the first one's, in microseconds; `None` if its arrival is
    /// impossible.
    fn delay_of(&mut self, sent_at: Micros, received: i64) -> Option<i64> {
        let (first, first_sent) = *self.arrivals.get_or_insert((received, sent_at));
        let sent = i64::try_from(sent_at).ok()?.checked_sub(i64::try_from(first_sent).ok()?)?;
        let delay = received.checked_sub(first)?.checked_sub(sent)?;
        if delay.checked_sub(self.offset)?.checked_abs()? <= MAX_JUMP {
            self.impossible = 0;
            self.offset = delay;
            return Some(delay);
        }
        self.impossible = self.impossible.saturating_add(1);
        if self.impossible >= NEW_CLOCK {
            self.impossible = 0;
            self.offset = 0;
            self.arrivals = None;
            self.received = Throughput::new();
            self.detector = DelayDetector::new();
        }
        None
    }

    /// Handles new feedback; the newest packet that arrived was sent at `newest`.
    fn on_news(&mut self, now: Micros, newest: Micros) {
        self.fed = true;
        let answer_ms = millis(now.saturating_sub(newest)).min(2_000.0);
        if let Some(before) = self.feedback_at.replace(now) {
            let gap = now.saturating_sub(before).min(1_000 * MS);
            self.gap = gap.max(self.gap.saturating_sub(self.gap / 16));
        }
        self.waiting_since = (self.history.in_flight_bytes() > 0).then_some(now);
        self.unanswered = 0;
        let prompt = answer_ms <= 2.0 * self.answer_ms + 200.0;
        if let Some(starving) = self.starving.take() {
            self.on_return(now, starving, prompt);
        }
        self.answer_ms += (answer_ms - self.answer_ms) / 4.0;
        let before = self.target;
        self.follow_delay(now);
        if let Some(shown) = self.prober.result(now, newest) {
            self.on_shown(now, shown);
        }
        self.loss_based.update(&Bounds {
            delay_based: self.delay_based.bps(),
            acknowledged: self.acknowledged(),
            app_limited: self.is_application_limited(),
            queue_stands: self.detector.excess_ms() > 15.0,
            max: real(self.config.in_order().max_bps),
        });
        self.update_target();
        if real(self.target) < real(before) * LARGE_DROP {
            self.prober.recover(now, 700 * MS);
        }
    }

    /// Handles the return of feedback. If it is prompt, the path is as it was; if it is late, a
    /// queue has formed.
    fn on_return(&mut self, now: Micros, starving: Starving, prompt: bool) {
        self.loss_based.forget();
        let resumed = if prompt { starving.before * STARVING } else { starving.bps };
        self.delay_based.set(now, resumed.max(starving.bps).min(self.delay_based.bps()));
        self.prober.recover(now, 0);
    }

    fn follow_delay(&mut self, now: Micros) {
        let answer_ms = self.answer_ms;
        // A full queue does not grow: its delay is steady, and only the overflow shows it.
        let floods = self.loss_based.is_flooding() && self.detector.queue_ms() > FULL_QUEUE_MS;
        let trend = if floods { Trend::Overuse } else { self.detector.state() };
        match trend {
            Trend::Underuse => {}
            Trend::Normal => {
                let acknowledged = self.acknowledged();
                self.delay_based.increase(now, acknowledged, answer_ms);
                let empty = !self.is_strained() && self.detector.queue_ms() < EMPTY_QUEUE_MS;
                if let Some(acknowledged) = acknowledged.filter(|_| empty) {
                    self.delay_based.prove(now, acknowledged);
                }
            }
            Trend::Overuse => {
                let delivered = self.delivered();
                let overloaded = self.detector.is_overloaded() || self.loss_based.is_dropping();
                self.prober.on_overuse(now);
                if self.delay_based.decrease(now, delivered, overloaded, answer_ms) {
                    self.on_decrease(now);
                }
            }
        }
    }

    /// Handles several decreases in a row that leave the queue as it was, although far less is
    /// sent: it is somebody else's, or the path has become longer.
    fn on_decrease(&mut self, now: Micros) {
        let queue = self.detector.queue_ms();
        let sent = self.sent.over(LONG, now).unwrap_or(0.0);
        let first = self.series.filter(|series| {
            now.saturating_sub(series.at) < 3_000 * MS && queue > series.queue * 0.7
        });
        let series = first.unwrap_or(Series { at: now, queue, sent, decreases: 0 });
        let decreases = series.decreases.saturating_add(1);
        self.series = Some(Series { at: now, queue, decreases, ..series });
        if decreases > STUCK && sent < series.sent * STUCK_SENT {
            self.series = None;
            self.detector.start_again();
        }
    }

    fn on_shown(&mut self, now: Micros, shown: ProbeResult) {
        if shown.bps > self.delay_based.bps() || (shown.first && shown.full) {
            self.delay_based.set(now, shown.bps);
        }
        self.loss_based.set(shown.bps);
        if shown.full {
            self.delay_based.learn(shown.bps);
        }
    }

    /// The rate that the receiver acknowledges, over a time in which the number of frames does not
    /// matter.
    fn acknowledged(&self) -> Option<f64> {
        let received = self.received.over(LONG, 0)?;
        // A receiver that claims more than was sent is not believed.
        let sent = self.sent.over(LONG, self.sent_at?).unwrap_or(f64::INFINITY);
        Some(received.min(sent * 2.0 + 100_000.0))
    }

    /// The rate that the link delivers while a queue builds up.
    fn delivered(&self) -> f64 {
        let long = self.acknowledged();
        let short = self.received.over(SHORT, 0).filter(|_| self.detector.is_standing());
        match (long, short) {
            (Some(long), Some(short)) => long.min(short),
            (Some(bps), None) | (None, Some(bps)) => bps,
            (None, None) => self.delay_based.bps() * 0.5,
        }
    }

    fn is_strained(&self) -> bool {
        self.detector.state() != Trend::Normal
            || self.detector.is_queued()
            || self.loss_based.is_lossy()
            || self.starving.is_some()
    }

    fn on_sign_of_life(&mut self, now: Micros) {
        self.starving = None;
        self.waiting_since = Some(now);
        self.unanswered = 0;
        self.update_target();
    }

    fn starves_at(&self) -> Option<Micros> {
        let since = self.waiting_since?;
        if self.starving.is_none() && self.unanswered < UNANSWERED {
            return None;
        }
        let patience = if self.starving.is_some() {
            STARVING_STEP
        } else if self.fed {
            let rtt = self.rtt.map_or(0, duration_micros);
            let usual =
                whole(self.answer_ms * 1_000.0).max(rtt).saturating_add(self.gap.saturating_mul(2));
            usual.clamp(PATIENCE.0, PATIENCE.1)
        } else if self.reports.is_alive() {
            REPORT_PATIENCE
        } else {
            PATIENCE.1
        };
        Some(since.saturating_add(patience))
    }

    fn update_target(&mut self) {
        // An upper limit below the lower limit wins.
        let Config { min_bps, max_bps, .. } = self.config.in_order();
        self.delay_based.clamp(real(min_bps), real(max_bps));
        let mut bps = if !self.fed && self.reports.is_alive() {
            self.reports.bps()
        } else {
            let queue = self.detector.excess_ms();
            let long = ((queue - DRAIN_MS.0) / DRAIN_MS.1).clamp(0.0, 1.0);
            let bps = self.delay_based.bps() * (1.0 - DRAIN * long);
            bps.min(self.loss_based.limit().unwrap_or(bps))
        };
        if let Some(starving) = self.starving {
            bps = bps.min(starving.bps);
        }
        self.target = whole(bps).clamp(min_bps, max_bps);
    }
}

/// The arrival time of a packet on a clock that is never negative.
fn biased(sent_at: Micros, delay: i64) -> Option<Micros> {
    let arrival = i64::try_from(sent_at).ok()?.checked_add(delay)?;
    u64::try_from(arrival.checked_add(ARRIVAL_BIAS)?).ok()
}

#[cfg(test)]
mod tests;
