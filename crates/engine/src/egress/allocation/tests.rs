//! Results of the rules, and properties that hold for any sources and any bandwidth.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

/// What a browser sends for a camera, kbit/s.
const CAMERA: [(u16, u64); 3] = [(180, 155), (360, 540), (720, 2_550)];

fn encodings(ladder: &[(u16, u64)]) -> Vec<Layer> {
    let layer = |(encoding, (height, kbps)): (usize, &(u16, u64))| Layer {
        id: LayerId::encoding(encoding as u8),
        bps: kbps * 1_000,
        height: Some(*height),
        fps: Some(30.0),
        active: *kbps > 0,
    };
    ladder.iter().enumerate().map(layer).collect()
}

/// Three encodings of three frame rates each, as VP8 and AV1 have them.
fn temporal(ladder: &[(u16, u64)]) -> Vec<Layer> {
    let mut layers = Vec::new();
    for layer in encodings(ladder) {
        for (temporal, (part, fps)) in [(0.4, 7.5), (0.6, 15.0), (1.0, 30.0)].iter().enumerate() {
            let id = LayerId { temporal: temporal as u8, ..layer.id };
            let bps = (layer.bps as f64 * part) as u64;
            layers.push(Layer { id, bps, fps: Some(*fps), ..layer });
        }
    }
    layers
}

type Sources = Vec<(Wanted, Vec<Layer>)>;

fn camera(id: u32) -> Wanted {
    Wanted::new(SourceId(id))
}

fn staged(id: u32) -> Wanted {
    Wanted { on_stage: true, ..camera(id) }
}

fn up_to(id: u32, height: u16) -> Wanted {
    Wanted { max_height: Some(height), ..camera(id) }
}

fn allocate_with(config: Config, sources: &Sources, budget: Option<u64>) -> (Totals, Allocator) {
    let mut allocator = Allocator::new(config);
    allocator.begin();
    for (wanted, layers) in sources {
        allocator.add(*wanted, layers);
    }
    (allocator.run(budget), allocator)
}

fn allocate(sources: &Sources, kbps: u64) -> (Totals, Vec<Decision>) {
    let (totals, allocator) = allocate_with(Config::default(), sources, Some(kbps * 1_000));
    (totals, allocator.decisions().to_vec())
}

fn heights(sources: &Sources, kbps: u64) -> Vec<u16> {
    allocate(sources, kbps).1.iter().map(|d| d.target_height.unwrap_or(0)).collect()
}

fn cameras(wanted: &[Wanted]) -> Sources {
    wanted.iter().map(|wanted| (*wanted, encodings(&CAMERA))).collect()
}

#[test]
fn the_stage_has_its_preferred_height_before_there_are_thumbnails() {
    let sources = cameras(&[staged(0), up_to(1, 180), up_to(2, 180)]);
    for (kbps, expected) in [
        (100, [0, 0, 0]),
        (155, [180, 0, 0]),
        (539, [180, 0, 0]),
        (540, [360, 0, 0]),
        (695, [360, 180, 0]),
        (2_700, [360, 180, 180]),
        (2_860, [720, 180, 180]),
    ] {
        assert_eq!(heights(&sources, kbps), expected, "{kbps} kbit/s");
    }
}

#[test]
fn tiles_grow_step_by_step_in_their_order() {
    let sources = cameras(&[camera(0), camera(1), camera(2)]);
    for (kbps, expected) in [
        (400, [180, 180, 0]),
        (465, [180, 180, 180]),
        (850, [360, 180, 180]),
        (1_235, [360, 360, 180]),
        (1_620, [360, 360, 360]),
        (3_630, [720, 360, 360]),
        (100_000, [720, 720, 720]),
    ] {
        assert_eq!(heights(&sources, kbps), expected, "{kbps} kbit/s");
    }
}

#[test]
fn beyond_the_preferred_height_a_camera_needs_its_full_frame_rate() {
    let of = |wanted: Wanted| {
        let sources = vec![(wanted, temporal(&CAMERA))];
        let steps: std::collections::BTreeSet<(u16, u8)> = (0..3_000)
            .step_by(10)
            .map(|kbps| allocate(&sources, kbps).1[0])
            .filter_map(|d| Some((d.target_height?, d.target?.temporal)))
            .collect();
        Vec::from_iter(steps)
    };
    let up = [(180, 0), (180, 1), (180, 2), (360, 2), (720, 2)];
    assert_eq!(of(camera(0)), up, "what JVB considers");
    assert_eq!(of(up_to(0, 360)), up[..4]);
    assert_eq!(of(up_to(0, 180)), up[..3]);
    assert_eq!(of(up_to(0, 90)), up[..3], "the lowest, rather than none");
}

#[test]
fn a_higher_encoding_that_starves_is_none() {
    let mut layers = encodings(&[(180, 120), (360, 350)]);
    layers[0].fps = Some(25.0);
    layers[1].fps = Some(9.0);
    let decision = allocate(&vec![(staged(0), layers.clone())], 5_000).1[0];
    assert_eq!((decision.target_height, decision.reason), (Some(180), Reason::NotSent));
    layers[1].fps = Some(11.0);
    let decision = allocate(&vec![(staged(0), layers.clone())], 5_000).1[0];
    assert_eq!((decision.target_height, decision.reason), (Some(180), Reason::NotSent));
    // AV1 in Chromium leaves out frames of single encodings for seconds.
    layers[1].fps = Some(13.0);
    let decision = allocate(&vec![(staged(0), layers)], 5_000).1[0];
    assert_eq!((decision.target_height, decision.reason), (Some(360), Reason::Nothing));
}

#[test]
fn a_spatial_layer_of_which_frames_are_left_out_stays() {
    let mut layers = temporal(&[(180, 120), (360, 350)]);
    for layer in &mut layers {
        layer.id = LayerId { encoding: 0, spatial: layer.id.encoding, ..layer.id };
    }
    let of = |layers: &Vec<Layer>| allocate(&vec![(camera(0), layers.clone())], 5_000).1[0].target;
    let upper = |temporal| Some(LayerId { encoding: 0, spatial: 1, temporal });
    for (fps, target) in [(24.0, upper(2)), (13.0, upper(2)), (9.0, Some(layers[2].id))] {
        layers[5].fps = Some(fps);
        assert_eq!(of(&layers), target, "{fps}");
    }
}

#[test]
fn a_better_layer_that_costs_no_more_takes_the_place_of_a_worse_one() {
    let sources = vec![(camera(0), encodings(&[(180, 200), (360, 150), (720, 600)]))];
    assert_eq!(heights(&sources, 149), [0]);
    assert_eq!(heights(&sources, 150), [360]);
    assert_eq!(heights(&sources, 600), [720]);
}

#[test]
fn a_screen_is_resolution_first() {
    let desktop = Wanted { kind: Kind::Desktop, ..camera(0) };
    let screen = temporal(&[(360, 200), (1_080, 1_500)]);
    let best = |wanted: Wanted, kbps| {
        let d = allocate(&vec![(wanted, screen.clone()), (camera(1), encodings(&CAMERA))], kbps).1;
        (d[0].target_height, d[0].target.map(|t| t.temporal), d[1].target_height)
    };
    let even = (Some(360), Some(2), Some(360));
    assert_eq!(best(desktop, 900), even, "in tiles it grows as cameras do");
    let stage = Wanted { on_stage: true, ..desktop };
    assert_eq!(best(stage, 900), (Some(1_080), Some(1), None), "all before others, at once");
    assert_eq!(best(stage, 1_654), (Some(1_080), Some(2), None));
    assert_eq!(best(stage, 1_655), (Some(1_080), Some(2), Some(180)));
    let bounded = Wanted { max_height: Some(720), ..stage };
    assert_eq!(best(bounded, 9_000), (Some(360), Some(2), Some(720)));
    let tiny = Wanted { max_height: Some(100), ..stage };
    assert_eq!(best(tiny, 9_000), (Some(360), Some(2), Some(720)), "the lowest there is");
}

#[test]
fn of_a_screen_of_one_height_and_no_rate_a_thumbnail_is_the_cheapest() {
    let mut layers = encodings(&[(1_080, 300), (1_080, 900), (1_080, 2_000)]);
    for layer in &mut layers {
        layer.fps = None;
    }
    let thumbnail = Wanted { kind: Kind::Desktop, ..up_to(0, 180) };
    let target = |wanted| allocate(&vec![(wanted, layers.clone())], 9_000).1[0].target;
    assert_eq!(target(thumbnail), Some(LayerId::encoding(0)));
    let stage = Wanted { on_stage: true, ..thumbnail };
    assert_eq!(target(stage), Some(LayerId::encoding(2)));
}

#[test]
fn only_a_screen_on_stage_exceeds_the_link_and_by_no_more_than_configured() {
    let screen = |on_stage| Wanted { kind: Kind::Desktop, on_stage, ..camera(0) };
    let target = |config, wanted, kbps: u64| {
        let sources = vec![
            (wanted, temporal(&[(360, 300), (1_080, 2_000)])),
            cameras(&[camera(1)])[0].clone(),
        ];
        let (totals, allocator) = allocate_with(config, &sources, Some(kbps * 1_000));
        (allocator.decisions()[0].target, totals.oversend_bps / 1_000)
    };
    let config = Config::default();
    let layer = |encoding, temporal| Some(LayerId { encoding, spatial: 0, temporal });
    // The cheapest layer of the full height costs 800.
    assert_eq!(target(config, screen(true), 300), (layer(1, 0), 500));
    assert_eq!(target(config, screen(true), 299), (layer(0, 2), 1));
    assert_eq!(target(config, screen(true), 800), (layer(1, 0), 0));
    assert_eq!(target(config, screen(false), 300), (layer(0, 0), 0), "the camera has the rest");
    let strict = Config { allow_oversend_onstage: false, ..config };
    assert_eq!(target(strict, screen(true), 300), (layer(0, 2), 0));
    let cameras = cameras(&[staged(0)]);
    assert_eq!(heights(&cameras, 154), [0], "a camera never does");
}

#[test]
fn one_reason_says_why_it_is_no_more() {
    let of = |wanted: Wanted, ladder: &[(u16, u64)], kbps| {
        allocate(&vec![(wanted, encodings(ladder))], kbps).1[0].reason
    };
    let plenty = 9_000;
    assert_eq!(of(camera(0), &CAMERA, plenty), Reason::Nothing);
    assert_eq!(of(camera(0), &CAMERA, 1_000), Reason::Link);
    assert_eq!(of(camera(0), &CAMERA, 100), Reason::Link);
    assert_eq!(of(up_to(0, 360), &CAMERA, plenty), Reason::Constraint);
    assert_eq!(of(up_to(0, 360), &CAMERA, 300), Reason::Link);
    assert_eq!(of(up_to(0, 0), &CAMERA, plenty), Reason::NotWanted);
    let starved = [(180, 155), (360, 0), (720, 0)];
    assert_eq!(of(camera(0), &starved, plenty), Reason::NotSent);
    assert_eq!(of(up_to(0, 180), &starved, plenty), Reason::Constraint);
    assert_eq!(of(camera(0), &[(180, 0), (360, 0)], plenty), Reason::NotSent);
    assert_eq!(of(camera(0), &[], plenty), Reason::NotSent);
    let muted = Wanted { muted: true, ..camera(0) };
    assert_eq!(of(muted, &[(180, 0)], plenty), Reason::Muted);
    for (cut, reason) in [(Cut::LastN, Reason::LastN), (Cut::Load, Reason::SuspendedByLoad)] {
        let wanted = Wanted { cut: Some(cut), ..camera(0) };
        let (totals, decisions) = allocate(&cameras(&[wanted]), plenty);
        assert_eq!((decisions[0].target, decisions[0].reason), (None, reason));
        assert_eq!((totals.ideal_bps, totals.suspended), (0, 0));
    }
}

#[test]
fn what_does_not_arrive_is_decided_all_the_same_and_costs_nothing() {
    let sources = vec![
        (camera(0), encodings(&[(180, 0), (360, 0), (720, 0)])),
        (camera(1), encodings(&CAMERA)),
    ];
    let (totals, decisions) = allocate(&sources, 155);
    assert_eq!(decisions[0].target, Some(LayerId::encoding(2)));
    assert!(!decisions[0].arrives && decisions[1].arrives);
    assert_eq!((totals.target_bps, totals.suspended), (155_000, 0));
}

#[test]
fn heights_that_are_not_known_follow_from_those_that_are() {
    let mut layers = encodings(&CAMERA);
    for layer in &mut layers {
        layer.height = None;
    }
    let target = |layers: &[Layer], height| {
        allocate(&vec![(up_to(0, height), layers.to_vec())], 9_000).1[0].target
    };
    assert_eq!(target(&layers, 360), Some(LayerId::encoding(1)));
    layers[2].height = Some(1_080);
    assert_eq!(target(&layers, 540), Some(LayerId::encoding(1)));
    assert_eq!(target(&layers, 539), Some(LayerId::encoding(0)));
    layers = encodings(&[(270, 100), (0, 300), (0, 900)]);
    layers[1].height = None;
    layers[2].height = None;
    assert_eq!(target(&layers, 540), Some(LayerId::encoding(1)));
}

#[test]
fn a_step_up_leaves_a_margin_that_a_first_choice_need_not() {
    let at = |current, kbps| {
        let wanted = Wanted { current, ..camera(0) };
        heights(&cameras(&[wanted]), kbps)[0]
    };
    let low = Some(LayerId::encoding(0));
    assert_eq!([at(None, 540), at(low, 540), at(low, 566), at(low, 567)], [360, 180, 180, 360]);
    assert_eq!(at(Some(LayerId::encoding(1)), 540), 360, "what it has it keeps");
}

#[test]
fn the_budget_is_what_is_estimated_unless_told_otherwise() {
    let mut config = Config::default();
    assert_eq!(config.budget(Some(5), Some(7)), Some(5), "not allowed");
    config.assumed_bandwidth_limit = Some(6);
    assert_eq!(config.budget(Some(5), Some(7)), Some(6));
    assert_eq!(config.budget(Some(5), Some(1)), Some(1));
    assert_eq!(config.budget(None, None), None);
    config.trust_bwe = false;
    assert_eq!(config.budget(Some(5), None), None);
    let sources = cameras(&[camera(0), camera(1)]);
    let (totals, allocator) = allocate_with(config, &sources, None);
    assert!(allocator.decisions().iter().all(|d| d.target == d.ideal));
    assert_eq!((totals.next_bps, totals.oversend_bps), (None, 0));
}

#[test]
fn a_source_that_gets_nothing_of_the_link_is_suspended() {
    let sources = cameras(&[staged(0), up_to(1, 180), up_to(2, 180)]);
    assert_eq!(allocate(&sources, 700).0.suspended, 1);
    assert_eq!(allocate(&sources, 9_000).0.suspended, 0);
}

#[test]
fn an_explanation_dates_from_the_change_of_its_reason() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let low = Some(LayerId::encoding(0));
    let decide = |kbps| allocate(&cameras(&[camera(0)]), kbps).1[0];
    let mut why = Explanation::new(start);
    assert!(why.update(&decide(200), None, at(1)));
    assert_eq!((why.reason, why.since), (Reason::WaitingForKeyframe, at(1)));
    assert!(why.update(&decide(200), low, at(2)));
    assert_eq!((why.reason, why.since, why.sent), (Reason::Link, at(2), low));
    assert_eq!(why.wanted, Some(LayerId::encoding(2)));
    assert!(!why.update(&decide(210), low, at(3)), "nothing is new");
    assert!(why.update(&decide(600), low, at(4)));
    assert_eq!((why.reason, why.since), (Reason::WaitingForKeyframe, at(4)));
    assert!(why.update(&decide(600), Some(LayerId::encoding(1)), at(5)));
    assert_eq!((why.reason, why.since), (Reason::Link, at(5)));
    assert!(!why.update(&decide(200), Some(LayerId::encoding(1)), at(6)), "on its way down");
    assert_eq!((why.reason, why.since), (Reason::Link, at(5)));
}

#[test]
fn small_changes_count_when_they_last() {
    let mut hysteresis = Hysteresis::new(0.15);
    assert!(hysteresis.estimated(1_000));
    assert!(!hysteresis.estimated(1_140) && !hysteresis.estimated(860));
    assert!(!hysteresis.settle(), "within what was seen");
    assert!(!hysteresis.estimated(1_100) && !hysteresis.estimated(1_120));
    assert!(hysteresis.settle());
    assert_eq!(hysteresis.bandwidth(), Some(1_100));
    assert!(hysteresis.estimated(900), "a fall counts at once");
    assert!(!hysteresis.estimated(1_150), "a rise after it must be larger");
    assert!(hysteresis.estimated(1_200));
    assert_eq!(hysteresis.bandwidth(), Some(1_200));
    assert!(!Hysteresis::new(0.15).settle());
}

/// Layers of three encodings and up to three frame rates, with any bitrates.
fn any_layers() -> impl Strategy<Value = Vec<Layer>> {
    let layer = (0u64..3_000_000, prop::bool::weighted(0.8), prop::option::of(1u16..1_200));
    prop::collection::vec(layer, 0..9).prop_map(|layers| {
        let layer = |(n, (bps, active, height)): (usize, (u64, bool, Option<u16>))| Layer {
            id: LayerId { encoding: n as u8 / 3, spatial: 0, temporal: n as u8 % 3 },
            bps: if active { bps } else { 0 },
            height,
            fps: [None, Some(7.5), Some(30.0)][n % 3],
            active,
        };
        layers.into_iter().enumerate().map(layer).collect()
    })
}

fn any_wanted() -> impl Strategy<Value = Wanted> {
    let height = prop::option::of(prop::sample::select(vec![0u16, 90, 180, 360, 720, 2_160]));
    let cut = prop::option::weighted(0.1, prop::sample::select(vec![Cut::LastN, Cut::Load]));
    let current = prop::option::of((0u8..3).prop_map(LayerId::encoding));
    (any::<bool>(), prop::bool::weighted(0.2), height, cut, any::<bool>(), current).prop_map(
        |(desktop, on_stage, max_height, cut, muted, current)| Wanted {
            kind: if desktop { Kind::Desktop } else { Kind::Camera },
            on_stage,
            max_height,
            cut,
            muted,
            current,
            ..camera(0)
        },
    )
}

fn any_sources() -> impl Strategy<Value = Sources> {
    prop::collection::vec((any_wanted(), any_layers()), 0..12)
}

/// A ladder in which each step costs more than the one before, as for cameras.
fn convex_ladder() -> impl Strategy<Value = Vec<(u16, u64)>> {
    (30u64..300, 1u64..6, 1u64..6).prop_map(|(first, second, third)| {
        let (a, b) = (first * second, first * second * third);
        vec![(180, first), (360, first + a), (720, first + a + b)]
    })
}

proptest! {
    #[test]
    fn the_bandwidth_is_never_exceeded_beyond_what_is_allowed(
        sources in any_sources(),
        budget in 0u64..10_000_000,
        allow: bool,
    ) {
        let config = Config { allow_oversend_onstage: allow, ..Config::default() };
        let (totals, allocator) = allocate_with(config, &sources, Some(budget));
        let sum: u64 = allocator.decisions().iter().map(|d| d.target_bps).sum();
        prop_assert_eq!(sum, totals.target_bps);
        let first = sources.iter().find(|(wanted, layers)| !wanted.is_disabled() && !layers.is_empty());
        let may = allow && first.is_some_and(|(w, _)| w.on_stage && w.kind == Kind::Desktop);
        let most = if may { budget + config.max_oversend_bps } else { budget };
        prop_assert!(sum <= most, "{sum} of {most}");
        prop_assert_eq!(totals.oversend_bps, sum.saturating_sub(budget));
    }

    #[test]
    fn nobody_is_given_what_it_does_not_want(sources in any_sources(), budget in 0u64..10_000_000) {
        let (totals, allocator) = allocate_with(Config::default(), &sources, Some(budget));
        let mut ideal = 0;
        for ((wanted, layers), decision) in sources.iter().zip(allocator.decisions()) {
            ideal += decision.ideal_bps;
            prop_assert!(decision.target_bps <= decision.ideal_bps);
            prop_assert!(decision.target <= decision.ideal);
            if wanted.is_disabled() {
                prop_assert_eq!(decision.ideal, None);
            }
            if let Some(target) = decision.target {
                prop_assert!(layers.iter().any(|layer| layer.id == target));
            }
        }
        prop_assert_eq!(totals.ideal_bps, ideal);
    }

    #[test]
    fn whoever_gets_less_of_more_bandwidth_does_so_for_somebody_who_gets_more(
        sources in any_sources(),
        budget in 0u64..10_000_000,
        more in 0u64..10_000_000,
    ) {
        let (_, before) = allocate_with(Config::default(), &sources, Some(budget));
        let (_, after) = allocate_with(Config::default(), &sources, Some(budget + more));
        let pairs = || before.decisions().iter().zip(after.decisions());
        let less = pairs().any(|(before, after)| after.target < before.target);
        prop_assert!(!less || pairs().any(|(before, after)| after.target > before.target));
    }

    #[test]
    fn more_bandwidth_never_gives_anyone_less_of_sources_that_cost_alike(
        ladder in convex_ladder(),
        bounds in prop::collection::vec(prop::sample::select(vec![180u16, 360, 720]), 1..30),
        kbps in 0u64..20_000,
        more in 0u64..20_000,
    ) {
        let tile = |(n, bound): (usize, &u16)| (up_to(n as u32, *bound), encodings(&ladder));
        let tiles: Sources = bounds.iter().enumerate().map(tile).collect();
        let (before, after) = (allocate(&tiles, kbps).1, allocate(&tiles, kbps + more).1);
        for (before, after) in before.iter().zip(&after) {
            prop_assert!(before.target <= after.target);
        }
    }

    #[test]
    fn more_bandwidth_never_gives_the_stage_less_up_to_its_preferred_height(
        layers in any_layers(),
        wanted in any_wanted(),
        others in any_sources(),
        budget in 0u64..10_000_000,
        more in 0u64..10_000_000,
    ) {
        let wanted = Wanted { on_stage: true, ..wanted };
        let mut sources = vec![(wanted, layers.clone())];
        let alone = |budget| {
            let (_, allocator) = allocate_with(Config::default(), &sources, Some(budget));
            allocator.decisions()[0].target
        };
        prop_assert!(alone(budget) <= alone(budget + more));
        let by_itself = alone(budget);
        sources.extend(others);
        let (_, allocator) = allocate_with(Config::default(), &sources, Some(budget));
        let mut candidates = Vec::new();
        let ladder = single::select(&Config::default(), &wanted, &layers, &mut candidates);
        let preferred = ladder.preferred.checked_sub(1).map(|at| candidates[at].id);
        // It waits for no other source: others affect what it gets only beyond its preferred layer.
        let beside = allocator.decisions()[0].target;
        prop_assert_eq!(beside.min(preferred), by_itself.min(preferred));
    }

    #[test]
    fn of_sources_that_cost_alike_none_waits_for_one_of_lower_priority(
        ladder in convex_ladder(),
        count in 1usize..30,
        kbps in 0u64..20_000,
    ) {
        let tiles: Sources = (0..count).map(|n| (camera(n as u32), encodings(&ladder))).collect();
        let decisions = allocate(&tiles, kbps).1;
        prop_assert!(decisions.is_sorted_by(|first, next| first.target >= next.target));
    }

    #[test]
    fn no_thumbnail_is_shown_before_the_stage_is_at_its_preferred_height(
        stage in convex_ladder(),
        tile in convex_ladder(),
        count in 1usize..20,
        kbps in 0u64..5_000,
    ) {
        let mut sources = vec![(staged(0), encodings(&stage))];
        sources.extend((1..=count).map(|n| (camera(n as u32), encodings(&tile))));
        let heights = heights(&sources, kbps);
        prop_assert!(heights[0] >= 360 || heights[1..].iter().all(|height| *height == 0));
    }

    #[test]
    fn something_gets_better_at_the_next_bandwidth_and_nothing_before(
        sources in any_sources(),
        budget in 0u64..10_000_000,
    ) {
        let at = |budget| {
            let (totals, allocator) = allocate_with(Config::default(), &sources, Some(budget));
            let targets = allocator.decisions().iter().map(|d| d.target).collect::<Vec<_>>();
            (totals.next_bps, targets)
        };
        let (next, now) = at(budget);
        if let Some(next) = next {
            prop_assert!(next > budget);
            prop_assert_eq!(&at(next - 1).1, &now);
            let then = at(next).1;
            prop_assert!(then.iter().zip(&now).any(|(then, now)| then > now));
        } else {
            prop_assert_eq!(at(u64::MAX).1, now);
        }
    }

    #[test]
    fn noise_of_a_tenth_does_not_flap(
        base in 100_000u64..10_000_000,
        noise in prop::collection::vec(-0.1f64..0.1, 600),
        sources in any_sources(),
    ) {
        let mut hysteresis = Hysteresis::new(0.15);
        let mut allocator = Allocator::new(Config::default());
        let (mut last, mut changes) = (Vec::new(), 0);
        for (n, noise) in noise.iter().enumerate() {
            let changed = hysteresis.estimated((base as f64 * (1.0 + noise)) as u64);
            let periodic = n % 50 == 49 && hysteresis.settle();
            if !changed && !periodic {
                continue;
            }
            allocator.begin();
            for (wanted, layers) in &sources {
                allocator.add(*wanted, layers);
            }
            allocator.run(hysteresis.bandwidth());
            let now: Vec<_> = allocator.decisions().iter().map(|d| d.target).collect();
            changes += usize::from(now != last && !last.is_empty());
            last = now;
        }
        prop_assert!(changes <= 4, "{changes} changes in a minute");
    }
}

#[test]
fn a_hundred_sources_take_as_many_looks_as_layers_and_no_memory_twice() {
    let tiles: Sources = (0..100).map(|n| (camera(n), temporal(&CAMERA))).collect();
    let mut allocator = Allocator::new(Config::default());
    let mut capacity = None;
    for budget in [1_000_000, 20_000_000, 500_000_000, u64::MAX] {
        allocator.begin();
        for (wanted, layers) in &tiles {
            allocator.add(*wanted, layers);
        }
        allocator.run(Some(budget));
        assert!(allocator.looks <= 100 * 10, "{} looks", allocator.looks);
        let now = (
            allocator.shares.capacity(),
            allocator.layers.capacity(),
            allocator.candidates.capacity(),
            allocator.decisions.capacity(),
        );
        assert_eq!(*capacity.get_or_insert(now), now);
    }
}
