//! Real browsers that send layers, and others that ask the bridge for heights that change.
//!
//! The test of the gate is one short case. `make layers` has each mode of [`modes::MODES`] for a minute and
//! prints a table beside the committed one. Somebody who asks for the best all the time watches beside.

#[path = "../calls/mod.rs"]
mod calls;
mod modes;
mod record;

use std::{path::Path, time::Duration};

use calls::{
    PATIENCE,
    bridge::Bridge,
    chromium::{Chromium, serially},
    participant::{Look, Participant},
};
use modes::{MODES, Mode};
use record::{HEAD, Period, Record};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// What is committed.
const COMMITTED: &str = include_str!("table.txt");

/// Each height follows each other one.
const MINUTE: &[u32] = &[
    180, 720, 360, 180, 360, 720, 180, 720, 360, 180, 360, 720, 180, 720, 360, 180, 360, 720, 180,
    720,
];
/// How long each height is asked for, ms.
const EVERY: u32 = 3000;

/// Frames per second that two cores can encode in each codec, beside the receivers.
const FPS: u32 = 15;
/// Of a sender with one encoding.
const KBPS: u32 = 2500;

/// What was written down of a call.
struct Measured {
    sender: Record,
    receiver: Record,
    beside: Option<Record>,
}

fn script(layers: &Value) -> String {
    format!("const LAYERS = {layers};\n{}", include_str!("../pages/layers.js"))
}

fn sender(mode: &Mode) -> Look {
    let script = script(&json!({ "send": mode.sending(KBPS) }));
    let look = Look::new(1, [200, 40, 40], 440);
    Look { size: (1280, 720), busy: true, fps: FPS, script, ..look }
}

fn receiver(number: u8) -> Look {
    let script = script(&json!({ "ask": true }));
    Look { devices: false, script, ..Look::new(number, [0; 3], 440) }
}

async fn written(person: &Participant) -> Value {
    person.eval("layers").await
}

/// Joins somebody who asks for the best.
async fn join(chromium: &Chromium, url: &str, number: u8, mode: &Mode) -> Participant {
    let person = Participant::join(chromium, url, receiver(number)).await;
    let open =
        async |person: &Participant| (person.state().await["channel"] == "open").then_some(());
    person.until("an open channel", open).await;
    person.run(&format!("layers.ask({})", mode.top())).await;
    person
}

/// Has one page send in this mode while another one asks for these heights.
async fn play(mode: &Mode, heights: &[u32], beside: bool) -> Option<Measured> {
    let chromium = Chromium::start().await?;
    let bridge = Bridge::start(1);
    let url = bridge.url("layers");
    let sending = Participant::join(&chromium, &url, sender(mode)).await;
    let receiving = join(&chromium, &url, 2, mode).await;
    let watching = if beside { Some(join(&chromium, &url, 3, mode).await) } else { None };
    until_best(&receiving, mode.top()).await;
    let play = format!("layers.play({}, {EVERY})", json!(heights));
    receiving.run(&format!("layers.asked.length = 0, {play}")).await;
    let over = async |person: &Participant| person.eval("layers.over").await.as_f64();
    let length = Duration::from_millis(u64::from(EVERY) * heights.len() as u64);
    sleep(length).await;
    receiving.until("the end", over).await;
    let mut all = vec![written(&sending).await, written(&receiving).await];
    if let Some(person) = &watching {
        all.push(written(person).await);
    }
    chromium.stop().await;
    keep(&mode.name(), &all);
    let (sender, receiver) = (Record::new(&all[0]), Record::new(&all[1]));
    let beside = all.get(2).map(Record::new);
    Some(Measured { sender, receiver, beside })
}

/// Waits until somebody has seen nothing but the best for two seconds; a sender that does not get there shows
/// in the table.
async fn until_best(person: &Participant, height: u32) {
    let best = format!(
        "layers.frames.length > 50 \
         && layers.frames.slice(-{}).every((frame) => frame.height === {height})",
        2 * FPS
    );
    let start = Instant::now();
    while person.eval(&best).await != true && start.elapsed() < PATIENCE {
        sleep(Duration::from_millis(200)).await;
    }
}

/// Prints what came of it; what is not as it has to be.
fn judge(mode: &Mode, measured: &Measured) -> Vec<String> {
    let Measured { sender, receiver, beside } = measured;
    let (span, name) = (receiver.span(), mode.name());
    let periods = receiver.periods(mode, span);
    let mut broken: Vec<_> = periods.iter().flat_map(Period::broken).collect();
    let mut rates = Vec::new();
    for height in [180, 360, 720] {
        let Some(merged) = Period::merged(&periods, height) else { continue };
        show(&format!("| {name} | {height} |"), &merged.row(&name));
        rates.push((mode.height_for(height), merged.kbps));
    }
    for pair in rates.windows(2) {
        let [(low, less), (high, more)] = pair else { continue };
        if low < high && less >= more {
            broken.push(format!("{low} costs {less:.0} kbit/s, {high} {more:.0}"));
        }
    }
    if receiver.decoded(span) < 1.0 {
        broken.push("nothing was decoded".to_owned());
    }
    println!("  sent: {}", sender.sent(span));
    println!("  received: {}", receiver.received(span));
    if let Some(beside) = beside {
        println!("  beside: {}", beside.received(span));
        let whole = beside.whole(mode, span);
        show(&format!("| {name} | beside |"), &whole.row(&name).replacen(" 720 ", " beside ", 1));
        broken.extend(whole.broken().iter().map(|broken| format!("beside: {broken}")));
    }
    for problem in sender.problems.iter().chain(&receiver.problems) {
        println!("  problem: {problem}");
    }
    broken
}

/// Prints a row and the committed one.
fn show(start: &str, row: &str) {
    let committed = COMMITTED.lines().rfind(|line| line.starts_with(start));
    println!("{row}\n  committed: {}", committed.unwrap_or("none"));
}

/// VP9 with spatial layers that depend on each other at keyframes only, as Chromium sends it by itself.
#[tokio::test]
async fn heights_change_within_an_encoding() {
    let _turn = serially().await;
    let mode = MODES.iter().find(|mode| mode.name() == "VP9-L3T3_KEY").expect("a mode");
    let Some(measured) = play(mode, &[180, 360, 180, 360, 720], false).await else { return };
    let broken = judge(mode, &measured);
    let span = measured.receiver.span();
    for period in measured.receiver.periods(mode, span) {
        // How long it takes depends on what else the machine does, and is for the table.
        assert!(period.came(), "{period:?} {broken:#?}");
    }
}

/// Prints the rows of the modes that `MODE` names, or of all, beside the committed ones.
#[tokio::test]
#[ignore = "takes a minute for each mode: make layers"]
async fn table() {
    let _turn = serially().await;
    let chosen = std::env::var("MODE").unwrap_or_default();
    let chosen: Vec<&str> = chosen.split_whitespace().collect();
    let names: Vec<_> = MODES.iter().map(Mode::name).collect();
    if let Some(unknown) = chosen.iter().find(|name| !names.iter().any(|known| known == *name)) {
        panic!("no mode {unknown}: there are {}", names.join(", "));
    }
    println!("{HEAD}");
    for mode in MODES {
        if !chosen.is_empty() && !chosen.contains(&mode.name().as_str()) {
            continue;
        }
        let measured = play(mode, MINUTE, true).await.expect("a browser");
        for broken in judge(mode, &measured) {
            println!("  not kept: {broken}");
        }
    }
}

/// Writes what the pages wrote into a file for those who want to look closer.
fn keep(name: &str, written: &[Value]) {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("layers-{name}.json"));
    if let Err(error) = std::fs::write(&path, json!(written).to_string()) {
        eprintln!("{}: {error}", path.display());
    }
}
