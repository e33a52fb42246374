use super::*;

/// A sender on a path: this many packets every 10 ms, reported every 50 ms.
struct Path {
    start: Instant,
    now: Micros,
    estimator: Estimator,
    /// Arrivals that were not reported yet.
    arrived: Vec<Report>,
    free: Micros,
    /// The path's rate, and its additional delay.
    bps: u64,
    delay: Micros,
    feedback: bool,
}

const START: Duration = Duration::from_secs(5);

impl Path {
    fn new(bps: u64) -> Self {
        let start = Instant::now();
        let estimator = Estimator::new(Config::default(), start);
        Self {
            start: start + START,
            now: 0,
            estimator,
            arrived: Vec::new(),
            free: 0,
            bps,
            delay: 20 * MS,
            feedback: true,
        }
    }

    fn instant(&self) -> Instant {
        self.start + Duration::from_micros(self.now)
    }

    /// Sends at a rate for a time.
    fn run(&mut self, bps: u64, time: Micros) {
        for _ in 0..time / (10 * MS) {
            let mut left = bps / 100 / 8;
            while left > 0 {
                let size = left.min(1_200);
                left -= size;
                let now = self.instant();
                let number =
                    self.estimator.on_sent(now, u16::try_from(size).unwrap(), Kind::Video, None);
                let took = size * 8_000_000 / self.bps;
                self.free = self.free.max(self.now) + took;
                let received = i64::try_from(self.free + self.delay).unwrap();
                self.arrived.push(Report { number, received: Some(received) });
            }
            self.now += 10 * MS;
            self.report();
        }
    }

    fn report(&mut self) {
        let now = self.instant();
        if self.feedback && self.now.is_multiple_of(50 * MS) {
            let by = i64::try_from(self.now).unwrap();
            let due = self.arrived.partition_point(|report| report.received <= Some(by));
            self.estimator.on_feedback(now, self.arrived.drain(..due));
        }
        while self.estimator.is_due(now) {
            assert!(self.estimator.next_timeout().is_some_and(|due| due <= now));
            self.estimator.on_timeout(now);
            while self.estimator.take_probe(now).is_some() {}
        }
    }

    fn target(&self) -> u64 {
        self.estimator.target_bps()
    }
}

#[test]
fn it_is_small() {
    assert!(size_of::<Estimator>() < 4_096, "{}", size_of::<Estimator>());
    assert!(size_of::<crate::Pacer>() < 512, "{}", size_of::<crate::Pacer>());
}

#[test]
fn it_starts_at_the_initial_rate_and_stays_in_its_bounds() {
    let now = Instant::now();
    let config = Config { initial_bps: 1, min_bps: 10_000, max_bps: 5_000 };
    assert_eq!(Estimator::new(config, now).target_bps(), 5_000, "the cap wins");
    let mut estimator = Estimator::new(Config::default(), now);
    assert_eq!(estimator.target_bps(), 2_500_000);
    estimator.set_max(1_000_000);
    assert_eq!(estimator.target_bps(), 1_000_000);
    estimator.set_max(0);
    assert_eq!(estimator.target_bps(), 1);
    estimator.set_max(u64::MAX);
    assert_eq!(estimator.target_bps(), 30_000);
}

#[test]
fn a_path_that_carries_everything_is_believed_in() {
    let mut path = Path::new(10_000_000);
    path.run(2_500_000, 5_000 * MS);
    assert!(path.target() >= 2_500_000 && path.target() < 3_200_000, "{}", path.target());
    let debug = path.estimator.debug();
    assert_eq!(debug.trend, Trend::Normal);
    assert!(debug.acknowledged_bps.unwrap().abs_diff(2_500_000) < 100_000, "{debug:?}");
    assert!(!path.estimator.is_application_limited());
    path.run(500_000, 2_000 * MS);
    assert!(path.estimator.is_application_limited());
    assert!(path.target() >= 2_500_000, "what is not sent lowers nothing");
}

#[test]
fn a_path_that_carries_less_is_found_out_within_half_a_second() {
    let mut path = Path::new(10_000_000);
    path.run(2_500_000, 5_000 * MS);
    path.bps = 1_000_000;
    path.run(2_500_000, 500 * MS);
    assert!((650_000..1_000_000).contains(&path.target()), "{}", path.target());
    path.run(600_000, 3_000 * MS);
    assert!((850_000..1_100_000).contains(&path.target()), "{}", path.target());
}

#[test]
fn missing_feedback_lowers_it_within_a_second_and_holds_it_down() {
    for fed in [true, false] {
        let mut path = Path::new(10_000_000);
        path.feedback = fed;
        path.run(2_500_000, if fed { 5_000 * MS } else { 10 * MS });
        let before = path.target();
        path.feedback = false;
        path.run(2_500_000, 1_000 * MS);
        assert!(path.target() <= before / 2, "fed {fed}: {}", path.target());
        path.run(2_500_000, 4_000 * MS);
        assert_eq!(path.target(), 30_000);
        assert!(path.estimator.debug().starving);
        path.run(2_500_000, 60_000 * MS);
        assert_eq!(path.target(), 30_000);
    }
}

#[test]
fn after_an_outage_it_starts_at_half_if_the_path_is_prompt() {
    let mut path = Path::new(10_000_000);
    path.run(2_500_000, 5_000 * MS);
    let before = path.target();
    path.feedback = false;
    path.run(100_000, 3_000 * MS);
    assert_eq!(path.target(), 30_000);
    // Packets that are reported now were sent now.
    path.arrived.clear();
    path.feedback = true;
    path.run(100_000, 150 * MS);
    assert!(!path.estimator.debug().starving);
    assert!(path.target().abs_diff(before / 2) < before / 10, "{} of {before}", path.target());
}

#[test]
fn while_nothing_is_sent_it_knocks_so_that_feedback_can_come_back() {
    let mut path = Path::new(10_000_000);
    path.run(2_500_000, 1_000 * MS);
    path.feedback = false;
    path.run(2_500_000, 2_000 * MS);
    let mut knocks = 0;
    for _ in 0..500 {
        path.now += 10 * MS;
        let now = path.instant();
        if path.estimator.next_timeout().is_some_and(|due| due <= now) {
            path.estimator.on_timeout(now);
        }
        while let Some(probe) = path.estimator.take_probe(now) {
            assert_eq!((probe.min_packets, probe.bps), (1, path.target()));
            knocks += 1;
        }
    }
    assert!((8..=11).contains(&knocks), "{knocks}");
}

#[test]
fn reports_that_lie_are_counted_and_estimate_nothing() {
    let mut path = Path::new(10_000_000);
    path.run(2_500_000, 5_000 * MS);
    let (now, before) = (path.instant(), path.target());
    let next = path.estimator.next_number();
    let report = |number, received| Report { number, received };
    let reports = [
        report(next.wrapping_add(5), Some(0)),
        report(next.wrapping_add(30_000), None),
        report(next.wrapping_sub(500), Some(0)),
        report(next.wrapping_sub(1), Some(i64::MAX)),
        report(next.wrapping_sub(2), Some(i64::MIN)),
        report(next.wrapping_sub(2), Some(0)),
        report(next.wrapping_sub(3), None),
        report(next.wrapping_sub(3), None),
    ];
    let summary = path.estimator.on_feedback(now, reports.into_iter());
    let expected =
        FeedbackSummary { known: 2, unknown: 2, duplicate: 2, lost: 1, late: 0, bad_time: 2 };
    assert_eq!(summary, expected);
    assert_eq!(path.target(), before);
}

#[test]
fn a_receiver_cannot_claim_more_than_was_sent() {
    let mut path = Path::new(10_000_000);
    path.run(500_000, 1_000 * MS);
    // Everything arrives at the same time.
    for _ in 0..1_000 {
        let now = path.instant();
        let number = path.estimator.on_sent(now, 1_200, Kind::Video, None);
        path.now += 20 * MS;
        let report = Report { number, received: Some(1_000_000) };
        path.estimator.on_feedback(path.instant(), std::iter::once(report));
    }
    assert!(path.target() <= 2_600_000, "{}", path.target());
}

#[test]
fn a_clock_that_starts_again_is_followed() {
    let mut path = Path::new(10_000_000);
    path.run(2_500_000, 2_000 * MS);
    let before = path.target();
    path.delay += 3_600_000 * MS;
    path.free += 3_600_000 * MS;
    path.feedback = false;
    path.run(2_500_000, 300 * MS);
    let now = path.instant();
    let summary = path.estimator.on_feedback(now, path.arrived.drain(..));
    assert!((29..=31).contains(&summary.bad_time), "{summary:?}");
    assert!(path.target() >= before);
}

#[test]
fn remb_counts_only_without_feedback() {
    let now = Instant::now();
    let mut estimator = Estimator::new(Config::default(), now);
    for (remb, target) in [(0, 30_000), (1_000_000, 1_000_000), (1 << 63, 20_000_000)] {
        estimator.on_remb(now, remb);
        assert_eq!(estimator.target_bps(), target);
    }
    let mut path = Path::new(10_000_000);
    path.run(2_500_000, 1_000 * MS);
    let before = path.target();
    path.estimator.on_remb(path.instant(), 0);
    path.estimator.on_receiver_report(path.instant(), 255, None);
    assert_eq!(path.target(), before);
}

#[test]
fn a_receiver_without_feedback_is_heard_by_its_reports() {
    let start = Instant::now();
    let mut estimator = Estimator::new(Config::default(), start);
    for second in 0..30 {
        let now = start + Duration::from_secs(second);
        for _ in 0..100 {
            estimator.on_sent(now, 1_200, Kind::Video, None);
        }
        estimator.on_receiver_report(now, 0, Some(Duration::from_millis(50)));
        if estimator.next_timeout().is_some_and(|due| due <= now) {
            estimator.on_timeout(now);
        }
    }
    assert!(estimator.target_bps() >= 2_500_000, "{}", estimator.target_bps());
    for second in 30..40 {
        estimator.on_receiver_report(start + Duration::from_secs(second), 64, None);
    }
    assert!(estimator.target_bps() < 1_000_000);
}

#[test]
fn a_last_packet_that_was_lost_is_no_outage() {
    let mut path = Path::new(10_000_000);
    path.run(2_500_000, 2_000 * MS);
    // The last packet is never reported, and then there is silence.
    path.arrived.pop();
    path.run(0, 10_000 * MS);
    let before = path.target();
    assert!(!path.estimator.debug().starving);
    // The first packets after it are not acknowledged yet.
    path.feedback = false;
    path.run(500_000, 300 * MS);
    assert_eq!((path.target(), path.estimator.debug().starving), (before, false));
    path.run(500_000, 700 * MS);
    assert!(path.estimator.debug().starving);
}

#[test]
fn feedback_for_packets_whose_history_is_gone_is_no_feedback() {
    let start = Instant::now();
    let mut estimator = Estimator::new(Config::default(), start);
    let mut unknown = 0;
    // 16,000 packets a second: the ring covers half a second, and feedback comes after one.
    for n in 0..200_u64 {
        let now = start + Duration::from_millis(n * 10);
        for _ in 0..160 {
            estimator.on_sent(now, 1_200, Kind::Video, None);
        }
        let reported = estimator.next_number().wrapping_sub(16_000);
        let reports = (0..160).map(|packet| Report {
            number: reported.wrapping_add(packet),
            received: i64::try_from(n * 10_000).ok(),
        });
        unknown += estimator.on_feedback(now, reports).unknown;
        if estimator.next_timeout().is_some_and(|due| due <= now) {
            estimator.on_timeout(now);
        }
    }
    assert_eq!(unknown, 200 * 160);
    assert!(estimator.target_bps() < 200_000, "{}", estimator.target_bps());
}
