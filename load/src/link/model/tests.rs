use proptest::prelude::*;

use super::{
    super::settings::{Change, Schedule},
    *,
};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn settings(text: &str) -> Settings {
    let mut settings = Settings::default();
    Change::parse(text).unwrap().apply(&mut settings);
    settings
}

/// Sends packets of `sizes` at these times through a link, and plays it to its end: number and time of
/// arrival of each.
fn play(link: &mut Link<usize>, packets: &[(Duration, usize)]) -> Vec<(usize, Duration)> {
    let mut arrivals = Vec::new();
    for (number, (time, bytes)) in packets.iter().enumerate() {
        drain(link, *time, &mut arrivals);
        link.push(*time, *bytes, number);
    }
    drain(link, Duration::MAX / 2, &mut arrivals);
    arrivals
}

/// Lets time pass up to `until`.
fn drain(link: &mut Link<usize>, until: Duration, arrivals: &mut Vec<(usize, Duration)>) {
    while let Some(next) = link.next_time().filter(|next| *next <= until) {
        while let Some(number) = link.pop(next) {
            arrivals.push((number, next));
        }
    }
}

/// Packets of 1,250 bytes (10,000 bits), so many a second.
fn stream(per_second: u64, seconds: u64) -> Vec<(Duration, usize)> {
    (0..per_second * seconds)
        .map(|number| (Duration::from_nanos(number * 1_000_000_000 / per_second), 1250))
        .collect()
}

#[test]
fn a_packet_takes_its_bits_and_the_delay() {
    let mut link = Link::new(settings("rate=1M delay=25ms"), 1);
    assert_eq!(play(&mut link, &[(ms(5), 1250)]), [(0, ms(5 + 10 + 25))]);
    // Behind another one it waits.
    let mut link = Link::new(settings("rate=1M delay=25ms"), 1);
    assert_eq!(play(&mut link, &[(ms(0), 1250), (ms(4), 1250)])[1], (1, ms(10 + 10 + 25)));
    let waits = link.take_counts(ms(100)).queue();
    assert!((waits.max - 6.0).abs() < 0.1 && waits.p50 < 0.1, "{waits:?}");
}

#[test]
fn without_a_rate_there_is_no_queue() {
    let mut link = Link::new(settings("rate=max delay=5ms"), 1);
    let arrivals = play(&mut link, &[(ms(1), 65_000), (ms(1), 65_000)]);
    assert_eq!(arrivals, [(0, ms(6)), (1, ms(6))]);
}

#[test]
fn what_would_wait_for_longer_than_the_queue_is_dropped() {
    // 200 packets at once of 10 ms each: one is carried, and 30 wait.
    let mut link = Link::new(settings("rate=1M queue=300ms"), 1);
    let burst = vec![(ms(0), 1250); 200];
    let arrivals = play(&mut link, &burst);
    assert_eq!(arrivals.len(), 31);
    assert_eq!(arrivals.last(), Some(&(30, ms(310))));
    let counts = link.take_counts(ms(310));
    assert_eq!((counts.queue_dropped.packets, counts.queue_dropped.bytes), (169, 169 * 1250));
    assert!((counts.queue().max - 300.0).abs() < 0.5);
    // A queue of no length carries what finds the bottleneck idle.
    let mut link = Link::new(settings("rate=1M queue=0"), 1);
    assert_eq!(play(&mut link, &[(ms(0), 1250), (ms(9), 1250), (ms(10), 1250)]).len(), 2);
}

#[test]
fn what_is_queued_leaves_at_the_new_rate() {
    let mut link = Link::new(settings("rate=1M"), 1);
    for number in 0..3 {
        link.push(ms(0), 1250, number);
    }
    // Half of the first one is left: 5 ms at the old rate, 20 ms at a quarter of it.
    link.set(ms(5), settings("rate=250k"));
    let mut arrivals = Vec::new();
    drain(&mut link, ms(1000), &mut arrivals);
    assert_eq!(arrivals, [(0, ms(25)), (1, ms(65)), (2, ms(105))]);
}

#[test]
fn a_link_that_is_gone_keeps_a_queue_and_comes_back() {
    let mut link = Link::new(settings("rate=1M queue=20ms"), 1);
    link.set(ms(0), settings("rate=0 queue=20ms"));
    for number in 0..5 {
        link.push(ms(number), 1250, number as usize);
    }
    assert_eq!(link.next_time(), None);
    assert_eq!(link.pop(ms(2999)), None);
    link.set(ms(3000), settings("rate=1M queue=20ms"));
    let mut arrivals = Vec::new();
    drain(&mut link, ms(4000), &mut arrivals);
    assert_eq!(arrivals, [(0, ms(3010)), (1, ms(3020)), (2, ms(3030))]);
    assert_eq!(link.take_counts(ms(4000)).queue_dropped.packets, 2);
    // Where there never was a rate, nothing can be kept.
    let mut link = Link::new(settings("rate=0"), 1);
    link.push(ms(0), 100, 0);
    link.set(ms(1), settings("rate=max"));
    assert_eq!(link.pop(ms(1)), None);
}

#[test]
fn loss_takes_its_share() {
    for (text, expected) in
        [("loss=2%", 0.02), ("loss=10% burst=8", 0.1), ("loss=30% burst=3", 0.3)]
    {
        let mut link = Link::new(settings(text), 7);
        let sent = stream(100_000, 1);
        let arrived = play(&mut link, &sent).len();
        let lost = link.take_counts(ms(1000)).lost.packets as usize;
        assert_eq!(lost + arrived, sent.len());
        let share = lost as f64 / sent.len() as f64;
        assert!((share / expected - 1.0).abs() < 0.1, "{text}: {share}");
    }
    let mut link = Link::new(settings("loss=100% burst=5"), 7);
    assert!(play(&mut link, &stream(1000, 1)).is_empty());
}

/// Lengths of the runs of packets that are missing.
fn runs(arrivals: &[(usize, Duration)]) -> Vec<usize> {
    let gaps = arrivals.windows(2).map(|pair| pair[1].0 - pair[0].0 - 1);
    gaps.filter(|gap| *gap > 0).collect()
}

#[test]
fn bursts_have_their_length() {
    for (text, expected) in [("loss=10% burst=8", 8.0), ("loss=10%", 1.0 / 0.9)] {
        let mut link = Link::new(settings(text), 3);
        let runs = runs(&play(&mut link, &stream(100_000, 1)));
        let mean = runs.iter().sum::<usize>() as f64 / runs.len() as f64;
        assert!((mean / expected - 1.0).abs() < 0.1, "{text}: {mean}");
    }
}

#[test]
fn jitter_spreads_and_overtaking_passes() {
    let sent = stream(100, 100);
    let extra =
        |(number, arrived): &(usize, Duration)| arrived.saturating_sub(sent[*number].0 + ms(50));
    let mut link = Link::new(settings("delay=50ms jitter=30ms"), 5);
    let arrivals = play(&mut link, &sent);
    assert!(arrivals.iter().map(extra).all(|extra| extra <= ms(30)));
    assert!(arrivals.iter().map(extra).any(|extra| extra < ms(5)));
    assert!(arrivals.iter().map(extra).any(|extra| extra > ms(28)));
    assert!(arrivals.is_sorted_by_key(|(number, _)| *number), "held, and not passed");

    let mut link = Link::new(settings("delay=50ms jitter=30ms overtake=5%"), 5);
    let arrivals = play(&mut link, &stream(1000, 100));
    let passed = arrivals.windows(2).filter(|pair| pair[1].0 < pair[0].0).count();
    let share = passed as f64 / arrivals.len() as f64;
    assert!((0.03..0.06).contains(&share), "{share}");
}

#[test]
fn a_schedule_is_kept() {
    let schedule = Schedule::parse("0s rate=5M; 20s rate=1M; 40s rate=5M").unwrap();
    let mut link = Link::new(Settings::default(), 1);
    // 6 Mbit/s: more than the link carries at any time.
    let sent = stream(600, 60);
    let mut steps = schedule.0.iter().peekable();
    let mut arrivals = Vec::new();
    for (number, (time, bytes)) in sent.iter().enumerate() {
        while let Some((at, changes)) = steps.next_if(|(at, _)| at <= time) {
            drain(&mut link, *at, &mut arrivals);
            let mut settings = link.settings().clone();
            changes.down.apply(&mut settings);
            link.set(*at, settings);
        }
        drain(&mut link, *time, &mut arrivals);
        link.push(*time, *bytes, number);
    }
    // What was queued at the change leaves later than the change.
    let between = |from, to| {
        let inside = |(_, at): &&(usize, Duration)| (from..to).contains(&at.as_secs());
        arrivals.iter().filter(inside).count() * 10_000
    };
    for (from, to, rate) in [(1, 20, 5e6), (22, 40, 1e6), (41, 60, 5e6)] {
        let carried = between(from, to) as f64 / (to - from) as f64;
        assert!((carried / rate - 1.0).abs() < 0.01, "{from} to {to}: {carried}");
    }
}

#[test]
fn the_seed_reaches_every_choice() {
    for text in ["loss=20%", "loss=20% burst=3", "jitter=30ms", "jitter=30ms overtake=50%"] {
        let run = |seed| play(&mut Link::new(settings(text), seed), &stream(500, 1));
        assert_eq!(run(1), run(1), "{text}");
        assert_ne!(run(1), run(2), "{text}");
    }
}

/// What the link did before a change does not decide what it does after it.
#[test]
fn fates_do_not_depend_on_what_was_set_before() {
    let run = |text: &str| {
        let mut link = Link::new(settings(text), 9);
        let sent = stream(1000, 2);
        let (first, second) = sent.split_at(1000);
        play(&mut link, first);
        link.set(ms(1000), settings("loss=50% jitter=5ms"));
        let mut arrivals = Vec::new();
        for (number, (time, bytes)) in second.iter().enumerate() {
            drain(&mut link, *time + ms(2000), &mut arrivals);
            link.push(*time + ms(2000), *bytes, number);
        }
        arrivals
    };
    assert_eq!(run("loss=0"), run("loss=90%"));
}

fn any_settings() -> impl Strategy<Value = Settings> {
    let rate = prop_oneof![
        1 => Just(None),
        1 => Just(Some(0)),
        8 => (1_000u64..100_000_000).prop_map(Some),
    ];
    let times = (0u64..2000, 0u64..500, 0u64..100);
    let shares = (0.0..=1.0, 0.0..=1.0, 1.0..20.0);
    (rate, times, shares).prop_map(|(rate, (queue, delay, jitter), (overtake, loss, burst))| {
        let (queue, delay, jitter) = (ms(queue), ms(delay), ms(jitter));
        Settings { rate, queue, delay, jitter, overtake, loss, burst }
    })
}

fn any_packets() -> impl Strategy<Value = Vec<(Duration, usize)>> {
    let packet = (0u64..20_000, 1usize..9000);
    prop::collection::vec(packet, 0..300).prop_map(|packets| {
        let mut time = Duration::ZERO;
        packets
            .into_iter()
            .map(|(gap, bytes)| {
                time += Duration::from_micros(gap);
                (time, bytes)
            })
            .collect()
    })
}

proptest! {
    /// Whatever is offered is delivered, dropped, lost, or still waits where nothing is carried.
    #[test]
    fn every_packet_has_one_fate(
        settings in any_settings(), later in any_settings(), packets in any_packets(), seed: u64,
    ) {
        let mut link = Link::new(settings, seed);
        let (first, second) = packets.split_at(packets.len() / 2);
        let mut arrivals = Vec::new();
        for (half, settings) in [(first, None), (second, Some(later))] {
            if let (Some(settings), Some((time, _))) = (settings, half.first()) {
                drain(&mut link, *time, &mut arrivals);
                link.set(*time, settings);
            }
            for (time, bytes) in half {
                drain(&mut link, *time, &mut arrivals);
                link.push(*time, *bytes, 0);
            }
        }
        drain(&mut link, Duration::MAX / 2, &mut arrivals);
        let kept = link.queue.len() as u64;
        prop_assert!(kept == 0 || link.settings.rate == Some(0));
        let counts = link.take_counts(Duration::ZERO);
        prop_assert_eq!(counts.offered.packets, packets.len() as u64);
        prop_assert_eq!(counts.delivered.packets, arrivals.len() as u64);
        let gone = counts.queue_dropped.packets + counts.lost.packets;
        prop_assert_eq!(counts.offered.packets, counts.delivered.packets + gone + kept);
        prop_assert!(arrivals.is_sorted_by_key(|(_, at)| *at));
    }

    /// The rate is kept over every span of time, and the queue is never longer than its bound.
    #[test]
    fn the_rate_and_the_bound_hold(
        rate in 10_000u64..50_000_000, queue in 0u64..1000, packets in any_packets(),
    ) {
        let settings = Settings { rate: Some(rate), queue: ms(queue), ..Settings::default() };
        let mut link = Link::new(settings, 0);
        let arrivals = play(&mut link, &packets);
        let waits = link.take_counts(Duration::ZERO).queue();
        // The histogram keeps three digits.
        prop_assert!(waits.max <= queue as f64 * 1.001 + 0.01, "{:?}", waits);
        prop_assert!(arrivals.is_sorted_by_key(|(number, _)| *number), "no jitter, no disorder");
        for (index, (_, from)) in arrivals.iter().enumerate() {
            let mut bits = 0;
            for (number, to) in &arrivals[index + 1..] {
                bits += 8 * packets[*number].1 as u64;
                let most = rate as f64 * to.saturating_sub(*from).as_secs_f64();
                prop_assert!(bits as f64 <= most + 1.0, "{bits} bits, at most {most}");
            }
        }
    }

    /// The bottleneck never rests while there is something to carry.
    #[test]
    fn no_time_is_wasted(rate in 10_000u64..50_000_000, packets in any_packets()) {
        let settings = Settings { rate: Some(rate), queue: ms(60_000), ..Settings::default() };
        let arrivals = play(&mut Link::new(settings, 0), &packets);
        let mut free = Duration::ZERO;
        for (number, arrived) in arrivals {
            let (sent, bytes) = packets[number];
            let nanos = (8 * bytes as u64 * 1_000_000_000).div_ceil(rate);
            free = free.max(sent) + Duration::from_nanos(nanos);
            prop_assert_eq!(arrived, free);
        }
    }

    /// Without overtaking, order is kept whatever the jitter.
    #[test]
    fn jitter_alone_keeps_order(settings in any_settings(), packets in any_packets(), seed: u64) {
        let mut link = Link::new(Settings { overtake: 0.0, ..settings }, seed);
        let arrivals = play(&mut link, &packets);
        prop_assert!(arrivals.is_sorted_by_key(|(number, _)| *number));
    }
}
