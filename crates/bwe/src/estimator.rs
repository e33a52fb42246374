//! The estimator of one receiver.

use std::time::{Duration, Instant};

use crate::{ClusterId, Config, FeedbackSummary, Kind, Probe, Report, SentHistory, history::Fate};

/// Feedback that has been missing so long while packets are in flight lowers the estimate.
const FEEDBACK_MISSING: Duration = Duration::from_millis(500);

/// What the delay of packets does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trend {
    /// A queue empties.
    Underuse,
    /// Delay is steady.
    Normal,
    /// A queue builds up.
    Overuse,
}

/// What the estimator holds, for `/debug` and metrics. Rates are bits per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Debug {
    /// [`Estimator::target_bps`].
    pub target_bps: u64,
    /// The part of the estimate that follows delay.
    pub delay_based_bps: u64,
    /// The part of the estimate that follows loss; `None` while it limits nothing.
    pub loss_based_bps: Option<u64>,
    /// What the receiver acknowledges to have received.
    pub acknowledged_bps: Option<u64>,
    /// What the delay does.
    pub trend: Trend,
    /// The round trip.
    pub rtt: Option<Duration>,
    /// Bytes that were sent and not reported.
    pub in_flight_bytes: u64,
    /// Whether a probe is out.
    pub probing: bool,
    /// Whether packets are in flight and feedback is missing.
    pub starving: bool,
}

/// Estimates what the path to one receiver carries.
#[derive(Debug, Clone)]
pub struct Estimator {
    config: Config,
    history: SentHistory,
    target: u64,
    useful: u64,
    remb: Option<u64>,
    rtt: Option<Duration>,
    /// The oldest time since which packets are in flight without feedback.
    waiting_since: Option<Instant>,
    starving: bool,
}

impl Estimator {
    /// An estimator that believes in the initial rate until it knows better.
    pub fn new(config: Config, _now: Instant) -> Self {
        let config = config.in_order();
        Self {
            config,
            history: SentHistory::new(),
            target: config.initial_bps,
            useful: 0,
            remb: None,
            rtt: None,
            waiting_since: None,
            starving: false,
        }
    }

    /// Sets what the estimate never exceeds.
    pub fn set_max(&mut self, bps: u64) {
        self.config.max_bps = bps;
        self.config = self.config.in_order();
        self.set_target(self.target);
    }

    /// Says what is wanted: `useful_bps` is what everything that the receiver wants would take, and probes
    /// reach no further; `next_bps` is the rate at which the next better layer becomes possible. Without
    /// one nothing better is to be had, and there are no probes.
    pub fn set_useful(&mut self, _now: Instant, useful_bps: u64, _next_bps: Option<u64>) {
        self.useful = useful_bps;
    }

    /// A round trip was measured.
    pub fn on_round_trip(&mut self, _now: Instant, rtt: Duration) {
        self.rtt = Some(rtt);
    }

    /// A packet of `size` bytes, headers included, leaves; returns its transport-wide number.
    pub fn on_sent(
        &mut self,
        now: Instant,
        size: u16,
        kind: Kind,
        cluster: Option<ClusterId>,
    ) -> u16 {
        self.waiting_since.get_or_insert(now);
        self.history.record(now, size, kind, cluster)
    }

    /// The number that [`Self::on_sent`] will return.
    pub fn next_number(&self) -> u16 {
        self.history.next_number()
    }

    /// The reports of one transport-wide feedback packet, in the order of their numbers.
    pub fn on_feedback(
        &mut self,
        now: Instant,
        reports: impl Iterator<Item = Report>,
    ) -> FeedbackSummary {
        let mut summary = FeedbackSummary::default();
        for report in reports {
            let found = self.history.find(report.number);
            let Some((number, (sent, _))) =
                found.and_then(|number| Some((number, self.history.get(number)?)))
            else {
                summary.unknown = summary.unknown.saturating_add(1);
                continue;
            };
            match (report.received, sent.fate) {
                (Some(_), Fate::Received) => {
                    summary.duplicate = summary.duplicate.saturating_add(1);
                }
                (Some(_), _) => {
                    summary.known = summary.known.saturating_add(1);
                    self.history.set_fate(number, Fate::Received);
                    self.history.settle_below(number);
                }
                (None, Fate::Outstanding) => {
                    summary.lost = summary.lost.saturating_add(1);
                    self.history.set_fate(number, Fate::Lost);
                }
                (None, _) => {}
            }
        }
        if summary.known > 0 {
            self.starving = false;
            self.waiting_since = (self.history.in_flight_bytes() > 0).then_some(now);
        }
        summary
    }

    /// A receiver that negotiated only REMB says what it estimates.
    pub fn on_remb(&mut self, _now: Instant, bps: u64) {
        self.remb = Some(bps);
        self.set_target(bps);
    }

    /// A receiver report came. Its loss counts only where there is no transport-wide feedback.
    pub fn on_receiver_report(&mut self, _now: Instant, _fraction_lost: u8, rtt: Option<Duration>) {
        self.rtt = rtt.or(self.rtt);
    }

    /// Time has passed: [`Self::next_timeout`] is due.
    pub fn on_timeout(&mut self, now: Instant) {
        if self.next_timeout().is_some_and(|due| due <= now) {
            self.starving = true;
            self.waiting_since = Some(now);
            self.set_target(self.target / 2);
        }
    }

    /// When [`Self::on_timeout`] wants to be called.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.waiting_since?.checked_add(FEEDBACK_MISSING)
    }

    /// What may be sent, bits per second, headers included.
    pub fn target_bps(&self) -> u64 {
        self.target
    }

    /// A probe that should be sent now. Call until it returns `None`.
    pub fn take_probe(&mut self, _now: Instant) -> Option<Probe> {
        None
    }

    /// Whether less is sent than the estimate allows, so that it says little about the path.
    pub fn is_application_limited(&self) -> bool {
        false
    }

    /// Bytes that were sent and not reported.
    pub fn in_flight_bytes(&self) -> u64 {
        self.history.in_flight_bytes()
    }

    /// Bytes of memory beside the struct itself.
    pub fn memory(&self) -> usize {
        self.history.memory()
    }

    /// What the estimator holds.
    pub fn debug(&self) -> Debug {
        Debug {
            target_bps: self.target,
            delay_based_bps: self.target,
            loss_based_bps: None,
            acknowledged_bps: None,
            trend: Trend::Normal,
            rtt: self.rtt,
            in_flight_bytes: self.history.in_flight_bytes(),
            probing: false,
            starving: self.starving,
        }
    }

    fn set_target(&mut self, bps: u64) {
        self.target = bps.clamp(self.config.min_bps, self.config.max_bps);
    }
}
