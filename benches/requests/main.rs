//! How long a request waits for its answer on a bridge with 2,000 conferences of 3, while one of 300 is
//! being joined: requests to the small ones, and those by which the large one is joined.
//!
//! The engine is played: audio levels, snapshots and allocations come as shards send them. Requests are
//! sent on schedule, whether or not earlier ones were answered, and timed from when they were due.
//!
//! `REQUESTS_SECONDS=20 cargo bench -p rialto-benches --bench requests` measures for longer.

mod engine;
mod requests;

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::AtomicUsize},
    thread,
    time::{Duration, Instant},
};

use engine::Clock;
use rialto::{
    bridge::{Bridge, BridgeConfig, RestartAnswer, TransportPort},
    colibri::{ConferenceModify, IceUdp},
    conference::CreateTransport,
};
use rialto_engine::{Control, ControlSink, Engine};
use rialto_media::EndpointId;
use rialto_transport::{ChannelText, TransportCounters, TransportUpdate};
use serde_json::Value;
use tokio::{runtime::Handle, sync::mpsc};

/// Conferences beside the large one, and endpoints of each.
const SMALL: u32 = 2_000;
const SMALL_SIZE: u32 = 3;
/// Endpoints of the large conference before and after.
const LARGE_FROM: u32 = 200;
const LARGE_TO: u32 = 300;
/// Requests to small conferences, each second.
const RATE: u32 = 400;
const THREADS: usize = 2;

fn main() {
    let seconds = std::env::var("REQUESTS_SECONDS").ok().and_then(|n| n.parse().ok()).unwrap_or(10);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_time()
        .build()
        .expect("threads");
    let measured = runtime.block_on(runtime.spawn(run(seconds))).expect("no panic");
    println!(
        "{SMALL} conferences of {SMALL_SIZE}, one from {LARGE_FROM} to {LARGE_TO} in {seconds} s, {THREADS} threads"
    );
    println!(
        "{:<34} {:>6} {:>9} {:>9} {:>9}",
        "from a request to its answer", "n", "p50 ms", "p99 ms", "max ms"
    );
    for (name, mut times) in [
        ("requests to small conferences", measured.small),
        ("joins of the large conference", measured.large),
    ] {
        times.sort_unstable();
        let ms = |at: usize| times.get(at).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3);
        let n = times.len();
        println!(
            "{name:<34} {n:>6} {:>9.2} {:>9.2} {:>9.2}",
            ms(n / 2),
            ms(n * 99 / 100),
            ms(n.saturating_sub(1))
        );
    }
    println!(
        "events of the engine: {}, of which there was no room for {}",
        measured.events.0, measured.events.1
    );
    println!("processor time: {:.2} s", measured.cpu);
    println!("memory of a small conference: {:.1} KiB", measured.memory);
}

struct Measured {
    small: Vec<Duration>,
    large: Vec<Duration>,
    events: (u64, u64),
    /// Of all threads, seconds.
    cpu: f64,
    /// Of a small conference, KiB.
    memory: f64,
}

type Times = Arc<Mutex<Vec<Duration>>>;

async fn run(seconds: u64) -> Measured {
    let (commands, told) = std::sync::mpsc::channel();
    let engine = Engine::new(Arc::new(Sink(commands)), vec![]);
    let (media, media_events) = mpsc::channel(8_192);
    let clock = Clock::start(told, media);
    let (updates, transport_updates) = mpsc::unbounded_channel();
    // Endpoints come and stay.
    let config =
        BridgeConfig { sctp: true, connect_timeout: Duration::MAX, ..BridgeConfig::default() };
    let bridge = Bridge::new(config, engine, Port, media_events, transport_updates);
    let resident_before = resident();
    for conference in 0..SMALL {
        let meeting = format!("small-{conference}");
        for endpoint in 0..SMALL_SIZE {
            join(&bridge, &updates, &meeting, endpoint).await;
        }
    }
    let memory = (resident() - resident_before) / f64::from(SMALL);
    for endpoint in 0..LARGE_FROM {
        join(&bridge, &updates, "large", endpoint).await;
    }
    clock.begin();
    // What the joins have left to do is not measured.
    tokio::time::sleep(Duration::from_secs(2)).await;

    let cpu_before = cpu_time();
    let (small, large) = (Times::default(), Times::default());
    let asking = {
        let (bridge, times, runtime) = (bridge.clone(), small.clone(), Handle::current());
        thread::spawn(move || ask_small(&bridge, seconds, &times, &runtime))
    };
    let joining = {
        let (bridge, times, runtime) = (bridge.clone(), large.clone(), Handle::current());
        thread::spawn(move || join_large(&bridge, &updates, seconds, &times, &runtime))
    };
    while !(asking.is_finished() && joining.is_finished()) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let events = clock.stop();
    let cpu = cpu_time() - cpu_before;
    let take =
        |times: &Times| std::mem::take(&mut *times.lock().unwrap_or_else(PoisonError::into_inner));
    Measured { small: take(&small), large: take(&large), events, cpu, memory }
}

/// Requests to one small conference after the other. On a thread of its own: the runtime's timers have
/// milliseconds only.
fn ask_small(bridge: &Bridge, seconds: u64, times: &Times, runtime: &Handle) {
    let start = Instant::now();
    let all = u32::try_from(seconds).unwrap_or(u32::MAX).saturating_mul(RATE);
    for n in 0..all {
        let due = start + Duration::from_secs(1) * n / RATE;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        // A prime, so that neighbours are not asked one after the other.
        let meeting = format!("small-{}", n.wrapping_mul(769) % SMALL);
        let request = requests::mute(&meeting, n % SMALL_SIZE, n % 2 == 0);
        answer_in_time(bridge, request, due, times, runtime);
    }
}

/// Somebody joins again and again, says what videos to send, and asks for some.
fn join_large(
    bridge: &Bridge,
    updates: &mpsc::UnboundedSender<TransportUpdate>,
    seconds: u64,
    times: &Times,
    runtime: &Handle,
) {
    let (start, newcomers) = (Instant::now(), LARGE_TO - LARGE_FROM);
    for nth in 0..newcomers {
        let due = start + Duration::from_secs(seconds) * nth / newcomers;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let endpoint = LARGE_FROM + nth;
        for request in requests::join("large", endpoint) {
            answer_in_time(bridge, request, due, times, runtime);
        }
        connect(updates, requests::engine_id(SMALL * SMALL_SIZE + endpoint));
    }
}

fn answer_in_time(
    bridge: &Bridge,
    request: ConferenceModify,
    due: Instant,
    times: &Times,
    runtime: &Handle,
) {
    let _runtime = runtime.enter();
    let answer = bridge.submit(request);
    let times = times.clone();
    runtime.spawn(async move {
        answer.await.expect("an answer");
        times.lock().unwrap_or_else(PoisonError::into_inner).push(due.elapsed());
    });
}

async fn join(
    bridge: &Bridge,
    updates: &mpsc::UnboundedSender<TransportUpdate>,
    meeting: &str,
    endpoint: u32,
) {
    for request in requests::join(meeting, endpoint) {
        bridge.modify(request).await.expect("an answer");
    }
    let before = match meeting.strip_prefix("small-") {
        Some(conference) => conference.parse::<u32>().expect("a number") * SMALL_SIZE,
        None => SMALL * SMALL_SIZE,
    };
    connect(updates, requests::engine_id(before + endpoint));
}

/// An endpoint connects, opens its channel and says what it wants.
fn connect(updates: &mpsc::UnboundedSender<TransportUpdate>, endpoint: EndpointId) {
    let text = ChannelText::new(requests::CONSTRAINTS.to_owned(), &Arc::<AtomicUsize>::default());
    let text = text.expect("there is room");
    for update in [
        TransportUpdate::Ready { endpoint },
        TransportUpdate::ChannelOpened { endpoint },
        TransportUpdate::ChannelText { endpoint, text },
    ] {
        updates.send(update).expect("the bridge is there");
    }
}

/// What all threads have used, seconds (proc_pid_stat(5)); the clock ticks a hundred times a second.
fn cpu_time() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let (_, fields) = stat.rsplit_once(')').expect("a name in brackets");
    let ticks = fields.split_ascii_whitespace().skip(11).take(2).map(str::parse::<f64>);
    ticks.map(|n| n.expect("a number")).sum::<f64>() / 100.0
}

/// Resident memory, KiB (proc_pid_status(5)). The played engine keeps little.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim_end_matches("kB").trim().parse().expect("a number")
}

/// Where commands for the engine go.
struct Sink(std::sync::mpsc::Sender<Control>);

impl ControlSink for Sink {
    fn control(&self, control: Control) {
        // Nobody plays any more at the end.
        let _ = self.0.send(control);
    }
}

/// Transports that are always up.
struct Port;

impl TransportPort for Port {
    fn create(&self, _: EndpointId, _: CreateTransport, _: Arc<str>) {}
    fn set_remote(&self, _: EndpointId, _: &IceUdp) {}
    fn restart_ice(&self, _: EndpointId) -> RestartAnswer {
        RestartAnswer::Refused
    }
    fn describe(&self, _: EndpointId) -> Option<IceUdp> {
        Some(IceUdp::default())
    }
    fn send_text(&self, _: EndpointId, _: &str) -> Result<(), rialto_transport::SendError> {
        Ok(())
    }
    fn remove(&self, _: EndpointId) {}
    fn debug(&self, _: EndpointId) -> Value {
        Value::Null
    }
    fn counters(&self) -> TransportCounters {
        TransportCounters::default()
    }
    fn last_activity(&self, _: EndpointId) -> Option<Instant> {
        Some(Instant::now())
    }
}
