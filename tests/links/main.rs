//! Real browsers over emulated links: what somebody behind one sees and hears, and what the link carries.
//!
//! The tests are the short forms. `make links` measures for a minute each and prints a table beside the
//! committed one; `docs/links.md` says what its columns mean.

#[path = "../calls/mod.rs"]
mod calls;
mod emulator;
mod figures;
#[path = "../calls/jitsi/mod.rs"]
mod jitsi;
mod record;
mod scenario;

use std::{path::Path, time::Duration};

use calls::{
    PATIENCE,
    bridge::Bridge,
    chromium::{Chromium, Setup, serially},
    participant::{Look, Participant},
};
use emulator::Emulator;
use figures::{Measured, head};
use jitsi::Jitsi;
use record::{Record, Span};
use scenario::{Behind, SCENARIOS, STORM, Scenario};
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until};

/// What is committed.
const COMMITTED: &str = include_str!("table.txt");

/// A bridge with a clean and an emulated way to it, and a browser on each.
struct World {
    bridge: Bridge,
    near: Chromium,
    far: Chromium,
    emulator: Emulator,
}

impl World {
    /// `None` where there are no browsers or no links.
    async fn start(link: &str) -> Option<Self> {
        let emulator = Emulator::start(link)?;
        let bridge = Bridge::start_at(emulator.host.into(), 1);
        let secure = Some(bridge.origin());
        let namespace = Some((&*emulator.name, emulator.relay));
        let (near, far) = tokio::join!(
            Chromium::start_with(Setup { namespace: None, secure }),
            Chromium::start_with(Setup { namespace, secure }),
        );
        let (near, far) = (near?, far?);
        Some(Self { bridge, near, far, emulator })
    }

    async fn stop(self) {
        self.near.stop().await;
        self.far.stop().await;
    }
}

/// Who sends 720p25 that is hard to encode. Of several, only the first one sends 25 frames per second: two
/// cores cannot encode three of them.
fn sender(number: u8) -> Look {
    let colours = [[200, 40, 40], [40, 170, 60], [50, 70, 210]];
    let colour = colours[usize::from(number - 1) % colours.len()];
    let size = (1280, 720);
    let look = Look::new(number, colour, 220 * u32::from(number));
    let fps = if number == 1 { 25 } else { 10 };
    Look { size, busy: true, fps, script: sampler(None, true), ..look }
}

/// Who only receives; the first sender has the stage where there is one.
fn receiver(number: u8, senders: u8) -> Look {
    let pin = (senders == 1).then_some("Person 1");
    Look { devices: false, script: sampler(pin, false), ..Look::new(number, [0; 3], 440) }
}

fn sampler(pin: Option<&str>, blind: bool) -> String {
    let settings = json!({ "every": 200, "pin": pin, "blind": blind });
    format!("const SAMPLER = {settings};\n{}", include_str!("../pages/sampler.js"))
}

async fn record(person: &Participant) -> Record {
    Record::new(person.eval("record").await)
}

/// Plays a scenario in its long (0) or short (1) form.
async fn play(scenario: &Scenario, form: usize) -> Option<Measured> {
    let world = World::start(scenario.link).await?;
    let url = world.bridge.url("link");
    let mut senders = Vec::new();
    // The first one comes last: browsers give less to windows behind another one.
    for number in (1..=scenario.senders).rev() {
        let at = if scenario.behind == Behind::Sender { &world.far } else { &world.near };
        senders.push((at, sender(number)));
    }
    let mut people = Vec::new();
    let clean = receiver(8, scenario.senders);
    let clean = Participant::join(&world.near, &url, clean).await;
    for (at, look) in senders {
        people.push(Participant::join(at, &url, look).await);
    }
    people.reverse();
    let far = if scenario.behind == Behind::Receiver {
        until_sent(&clean, scenario.senders).await;
        Some(Participant::join(&world.far, &url, receiver(9, scenario.senders)).await)
    } else {
        None
    };
    let subject = far.as_ref().unwrap_or(&people[0]);
    let begun = subject
        .until("the page to write down its connection", async |person| {
            person.eval("record.connected && Date.now() - record.connected").await.as_f64()
        })
        .await;
    let ago = Duration::from_secs_f64(begun.max(0.0) / 1000.0);
    let begun = Instant::now().checked_sub(ago).expect("a machine that is up for longer");
    let mut changes = Vec::new();
    for step in scenario.steps {
        sleep_until(begun + Duration::from_secs(step.at[form].into())).await;
        world.emulator.change(step.changes);
        changes.push(now());
    }
    sleep_until(begun + Duration::from_secs(scenario.seconds[form].into())).await;
    let to = now();

    let behind = record(subject).await;
    let span = Span { from: behind.connected.expect("a connection"), to };
    let beside = record(&clean).await;
    let sender = record(&people[0]).await;
    let (receiver, clean) = match far {
        Some(_) => (behind, Some(beside)),
        None => (beside, None),
    };
    let direction = if scenario.behind == Behind::Sender { "up" } else { "down" };
    let reports = world.emulator.take_reports();
    let reports = reports.into_iter().filter(|report| report.direction == direction).collect();
    world.stop().await;
    Some(Measured { span, changes, reports, receiver, clean, sender })
}

/// ms since 1970, as pages count.
fn now() -> f64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("a clock after 1970").as_secs_f64() * 1000.0
}

/// Waits until the clean receiver has everybody's picture, one's in full size; a sender that does not get
/// there shows in the row of the clean receiver.
async fn until_sent(clean: &Participant, senders: u8) {
    let good = format!(
        "record.samples.at(-1)?.in.filter((s) => s.kind === 'video' && s.frames > 50 \
         && s.height >= {}).length >= {senders}",
        if senders == 1 { 720 } else { 180 },
    );
    let start = Instant::now();
    while clean.eval(&good).await != true && start.elapsed() < PATIENCE {
        sleep(Duration::from_millis(200)).await;
    }
}

/// Plays the short form of a scenario.
async fn short(name: &str) {
    let _turn = serially().await;
    let scenario = scenario::named(name).expect("a scenario");
    let Some(measured) = play(scenario, 1).await else { return };
    let figures = measured.figures(scenario);
    println!("{}\n{}", head(), figures.row(scenario.name));
    // Whatever the bridge does, there was a call, and it went over the link.
    let counts = measured.reports.iter().map(|report| &report.counts);
    let bytes: u64 = counts.map(|counts| counts.offered.bytes).sum();
    assert!(bytes > 50_000, "{bytes} bytes went over the link");
    let clean = figures.clean.as_ref().unwrap_or(&figures.pictures[0]);
    assert!(clean.fps > 1.0, "the clean receiver sees nothing: {clean:?}");
    let storm = figures.broken(&STORM);
    assert!(storm.is_empty(), "{storm:#?}");
    for broken in figures.broken(&scenario.bounds) {
        println!("not kept: {broken}");
    }
}

#[tokio::test]
async fn steady() {
    short("steady").await;
}

#[tokio::test]
async fn join_on_a_narrow_link() {
    short("join-1M").await;
}

#[tokio::test]
async fn down_and_up_again() {
    short("step").await;
}

#[tokio::test]
async fn random_loss() {
    short("loss").await;
}

#[tokio::test]
async fn loss_in_bursts() {
    short("bursts").await;
}

#[tokio::test]
async fn jitter_that_overtakes() {
    short("jitter").await;
}

/// How many joins of a sender are measured.
const JOINS: usize = 20;
/// What a sender needs for all its encodings, bit/s, and for how long it is waited for.
const ENOUGH: f64 = 2_500_000.0;
const JOIN_PATIENCE: Duration = Duration::from_secs(20);

/// A row about how soon senders on a clean link know that they may send all their encodings.
async fn joins() -> Option<String> {
    let bridge = Bridge::start(1);
    let secure = Some(bridge.origin());
    let near = Chromium::start_with(Setup { namespace: None, secure }).await?;
    let url = bridge.url("joins");
    let watcher = Participant::join(&near, &url, receiver(8, 1)).await;
    let mut times = Vec::new();
    for _ in 0..JOINS {
        let person = Participant::join(&near, &url, sender(1)).await;
        let start = Instant::now();
        let time = loop {
            if let Some(time) = record(&person).await.available_from(ENOUGH) {
                break time;
            }
            if start.elapsed() > JOIN_PATIENCE {
                break f64::INFINITY;
            }
            sleep(Duration::from_millis(200)).await;
        };
        times.push(time);
        let id = person.id().await;
        person.run("rialto.leave()").await;
        person.close().await;
        let gone = async |person: &Participant| {
            (!person.state().await["peers"].to_string().contains(&id)).then_some(())
        };
        watcher.until("the sender to be gone", gone).await;
    }
    near.stop().await;
    times.sort_by(f64::total_cmp);
    let soon = times.iter().filter(|time| **time <= 2.0).count();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    let told = |time: f64| match time {
        time if time.is_finite() => format!("{time:.1} s"),
        _ => format!("more than {} s", JOIN_PATIENCE.as_secs()),
    };
    Some(format!(
        "| joins | 2.5 Mbit/s within 2 s in {soon} of {JOINS} joins; median {}, longest {} |",
        told(median),
        told(worst)
    ))
}

/// Notes the time from the page's joining, when it opens its signalling, to the first frame of anybody.
const FIRST_FRAME: &str = "(() => {
    const Plain = window.WebSocket;
    let joined = null;
    window.WebSocket = class extends Plain {
        constructor(...args) { super(...args); joined ??= performance.now(); }
    };
    const look = setInterval(() => {
        const shown = (video) => video.videoWidth > 0 && video.readyState >= 2;
        if (joined === null || ![...document.querySelectorAll('video')].some(shown)) return;
        window.firstFrame = (performance.now() - joined) / 1000;
        clearInterval(look);
    }, 5);
})();";

/// A row about how soon who joins sees the first frame of a sender, on a clean link.
async fn first_frames() -> Option<String> {
    let bridge = Bridge::start(1);
    let secure = Some(bridge.origin());
    let near = Chromium::start_with(Setup { namespace: None, secure }).await?;
    let url = bridge.url("first-frames");
    let look = Look { size: (640, 360), ..Look::new(1, [200, 40, 40], 220) };
    let sender = Participant::join(&near, &url, look).await;
    let mut times = Vec::new();
    for _ in 0..JOINS {
        let look = Look { devices: false, ..Look::new(8, [0; 3], 440) };
        let look = Look { script: FIRST_FRAME.to_owned(), ..look };
        let person = Participant::join(&near, &url, look).await;
        let seen = async |person: &Participant| person.eval("window.firstFrame").await.as_f64();
        times.push(person.until("a frame", seen).await);
        person.run("rialto.leave()").await;
        person.close().await;
        sender.focus().await;
    }
    near.stop().await;
    let (median, late) = median_and_late(&mut times);
    Some(format!(
        "| first-frames | {median:.2} s median, {late:.2} s 95th percentile of {JOINS} joins |"
    ))
}

/// The median and the 95th percentile.
fn median_and_late(times: &mut [f64]) -> (f64, f64) {
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], times[times.len() * 95 / 100])
}

/// What a client of a call over Prosody notes on its way to the first frame, in this order, and what the row
/// calls the time from the one before.
const PHASES: [(&str, &str); 6] = [
    ("conference", "request"),
    ("offered", "offer"),
    ("local", "answer"),
    ("ice connected", "ICE"),
    ("pc connected", "DTLS"),
    ("frame", "frame"),
];

/// The same over Prosody with a focus: from the request for the conference to the first decoded frame, and
/// what each phase takes of it.
async fn first_frames_over_prosody() -> Option<String> {
    let jitsi = Jitsi::start().await?;
    let look = Look { size: (640, 360), ..Look::new(1, [200, 40, 40], 220) };
    let sender = jitsi.open(look).await;
    let simulcast = json!({ "codec": "VP8", "simulcast": true, "rates": [200, 500, 1500] });
    sender.enter("first-frames", simulcast).await;
    sender.in_call().await;
    let (mut all, mut phases) = (Vec::new(), vec![Vec::new(); PHASES.len()]);
    for _ in 0..JOINS {
        let look = Look { devices: false, ..Look::new(8, [0; 3], 440) };
        let person = jitsi.open(look).await;
        person.enter("first-frames", json!({ "sends": false })).await;
        let seen = async |person: &Participant| {
            let times = person.eval("rialto.times()").await;
            times["frame"].is_number().then_some(times)
        };
        let times = person.until("a frame", seen).await;
        let at = |name: &str| times[name].as_f64().unwrap_or(f64::NAN) / 1000.0;
        let mut before = at("join");
        all.push(at("frame") - before);
        for (phase, (name, _)) in phases.iter_mut().zip(PHASES) {
            phase.push(at(name) - before);
            before = at(name);
        }
        person.leave().await;
        person.close().await;
        sender.focus().await;
    }
    jitsi.stop().await;
    let (median, late) = median_and_late(&mut all);
    let steps: Vec<_> = phases
        .iter_mut()
        .zip(PHASES)
        .map(|(times, (_, name))| {
            let (median, late) = median_and_late(times);
            format!("{name} {:.0}/{:.0}", median * 1000.0, late * 1000.0)
        })
        .collect();
    Some(format!(
        "| first-frames-prosody | {median:.2} s median, {late:.2} s 95th percentile of {JOINS} joins; ms: {} |",
        steps.join(", ")
    ))
}

/// What is measured without an emulated link.
const MEASURES: [&str; 3] = ["joins", "first-frames", "first-frames-prosody"];

/// Prints the rows of the scenarios that `SCENARIO` names, or of all, beside the committed ones.
#[tokio::test]
#[ignore = "takes a minute for each scenario: make links"]
async fn table() {
    let _turn = serially().await;
    let chosen = std::env::var("SCENARIO").unwrap_or_default();
    let chosen: Vec<&str> = chosen.split_whitespace().collect();
    let known = |name: &&str| MEASURES.contains(name) || scenario::named(name).is_some();
    if let Some(unknown) = chosen.iter().find(|name| !known(name)) {
        let names: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        panic!("no scenario {unknown}: there are {}, {}", names.join(", "), MEASURES.join(", "));
    }
    let wanted = |name: &str| chosen.is_empty() || chosen.contains(&name);
    println!("{}", head());
    for scenario in SCENARIOS.iter().filter(|scenario| wanted(scenario.name)) {
        println!("{}:", scenario.title);
        let measured = play(scenario, 0).await.expect("browsers and a link");
        keep(scenario, &measured);
        let figures = measured.figures(scenario);
        show(scenario.name, &figures.row(scenario.name));
        for broken in figures.broken(&scenario.bounds) {
            println!("  not kept: {broken}");
        }
    }
    if wanted("joins") {
        let row = joins().await.expect("a browser");
        show("joins", &row);
    }
    if wanted("first-frames") {
        let row = first_frames().await.expect("a browser");
        show("first-frames", &row);
    }
    if wanted("first-frames-prosody") {
        let row = first_frames_over_prosody().await.expect("a server and a browser");
        show("first-frames-prosody", &row);
    }
}

/// Prints a row and the committed one.
fn show(name: &str, row: &str) {
    let start = format!("| {name} |");
    let committed = COMMITTED.lines().rfind(|line| line.starts_with(&start));
    println!("{row}\n  committed: {}", committed.unwrap_or("none"));
}

/// Writes the lines of the link into a file for those who want to look closer.
fn keep(scenario: &Scenario, measured: &Measured) {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.jsonl", scenario.name));
    let lines: Vec<_> = measured.reports.iter().map(|report| report.line() + "\n").collect();
    if let Err(error) = std::fs::write(&path, lines.concat()) {
        eprintln!("{}: {error}", path.display());
    }
}
