//! One run: join, wait for media, measure, drain, report; with a progress line each second and
//! supervision of the bridge.

use std::{
    fmt::Write as _,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use crate::{
    call::{Call, CallError, CallOptions, Progress},
    layers::LayerFigures,
    procfs::{self, ProcessSample},
    report::{BridgeFigures, GeneratorFigures, MediaFigures, Quantiles, Report, Summary, merge},
    shared::TotalsSample,
};

/// Time after the last join within which media must reach everybody.
const MEDIA_PATIENCE: Duration = Duration::from_secs(10);
/// Time for media to settle before the measurement: the first keyframes are large.
const SETTLE: Duration = Duration::from_secs(1);
/// Time after the window in which missing packets may be recovered.
const DRAIN: Duration = Duration::from_millis(1500);
/// Interval of checking whether the bridge answers.
const LOOK: Duration = Duration::from_millis(200);
/// If nothing is received for this long while something is sent, the bridge is dead or stuck.
const STALL: Duration = Duration::from_secs(5);

/// What to run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The call.
    pub call: CallOptions,
    /// How long to measure.
    pub duration: Duration,
    /// How long to wait for a bridge that does not answer yet.
    pub wait: Duration,
    /// The bridge's process.
    pub bridge_pid: Option<u32>,
    /// Print a progress line each second, to standard error.
    pub progress: bool,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No call could be set up.
    #[error(transparent)]
    Call(#[from] CallError),
    /// `--bridge-pid` names no process.
    #[error("--bridge-pid {0}: there is no such process")]
    Pid(u32),
    /// The user stopped it before it measured anything.
    #[error("interrupted")]
    Interrupted,
    /// No endpoint could join.
    #[error("nobody could join: {complaint}")]
    Nobody {
        /// The first reason.
        complaint: String,
        /// The bridge refused or could not be reached.
        signalling: bool,
    },
}

/// Samples of all processes at one time.
struct Moment {
    at: Instant,
    totals: TotalsSample,
    bridge: Option<ProcessSample>,
    own: ProcessSample,
    busiest: Duration,
}

impl Moment {
    fn now(progress: &Progress, pid: Option<u32>) -> Self {
        Self {
            at: Instant::now(),
            totals: progress.shared.totals.sample(),
            bridge: pid.and_then(procfs::process),
            own: procfs::process(std::process::id()).unwrap_or_default(),
            busiest: procfs::own_threads("load-").1,
        }
    }
}

/// Runs it.
pub async fn run(options: RunOptions) -> Result<Report, RunError> {
    let pid = options.bridge_pid;
    if let Some(pid) = pid {
        procfs::process(pid).ok_or(RunError::Pid(pid))?;
    }
    let mut call = Call::new(options.call.clone())?;
    let bridge = call.bridge().clone();
    let told = || {
        if options.progress {
            eprintln!("waiting for the bridge at {}", bridge.url());
        }
    };
    tokio::select! {
        () = until_there(|| bridge.is_there(), options.wait, told) => {}
        () = interrupt() => return Err(RunError::Interrupted),
    }
    // Sampled once it serves: its memory at the start is not that of a call.
    let idle = match pid {
        Some(pid) => Some(procfs::process(pid).ok_or(RunError::Pid(pid))?),
        None => None,
    };
    let mut watch = Watch::new(call.progress(), &options);
    let interrupted = tokio::select! {
        () = call.join_all() => false,
        () = interrupt() => true,
        never = watch.lines() => match never {}
    };
    if interrupted {
        let _ = call.end().await;
        return Err(RunError::Interrupted);
    }
    let connected = pid.and_then(procfs::process);
    if call.present() == 0 && !call.failures.is_empty() {
        return Err(nobody(&call));
    }
    tokio::select! {
        _ = call.media_everywhere(MEDIA_PATIENCE) => {}
        never = watch.lines() => match never {}
    }
    tokio::select! {
        () = tokio::time::sleep(SETTLE) => {}
        never = watch.lines() => match never {}
    }

    call.reports().await; // publishes the totals
    call.shared.measuring.store(true, Ordering::Relaxed);
    let before = Moment::now(&watch.progress, pid);
    watch.measuring = true;
    let ended_early = tokio::select! {
        () = tokio::time::sleep(options.duration) => None,
        () = interrupt() => Some("interrupted".to_owned()),
        reason = watch.trouble(&call) => Some(reason),
    };
    call.reports().await;
    let after = Moment::now(&watch.progress, pid);
    call.shared.measuring.store(false, Ordering::Relaxed);
    call.shared.draining.store(true, Ordering::Release);
    if ended_early.is_none() {
        tokio::time::sleep(DRAIN).await;
    }

    let memory = Memory { idle, connected, most: watch.most_resident };
    let report = conclude(&call, &options, &before, &after, &memory, ended_early).await;
    if let Err(error) = call.end().await
        && report.ended_early.is_none()
    {
        eprintln!("the conferences could not be ended: {error}");
    }
    Ok(report)
}

/// Waits until the bridge answers, healthy or not, at most `patience`. `told` is called once if it
/// does not answer at first. The first join reports what is wrong with a bridge that never answers.
async fn until_there<F: Future<Output = bool>>(
    is_there: impl Fn() -> F,
    patience: Duration,
    told: impl FnOnce(),
) {
    let answers = async {
        if is_there().await {
            return;
        }
        told();
        while !is_there().await {
            tokio::time::sleep(LOOK).await;
        }
    };
    let _ = tokio::time::timeout(patience, answers).await;
}

/// Waits for Ctrl-C; forever if there is no such signal.
async fn interrupt() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn nobody(call: &Call) -> RunError {
    let step = call.failures.iter().map(|f| f.step).min();
    let first = call.failures.iter().find(|f| f.reason != "its conference was not created");
    let first = first.or(call.failures.first());
    RunError::Nobody {
        complaint: first.map_or_else(String::new, |f| format!("{}: {}", f.step, f.reason)),
        signalling: step == Some(crate::client::Step::Signalling),
    }
}

struct Memory {
    idle: Option<ProcessSample>,
    connected: Option<ProcessSample>,
    most: u64,
}

async fn conclude(
    call: &Call,
    options: &RunOptions,
    before: &Moment,
    after: &Moment,
    memory: &Memory,
    ended_early: Option<String>,
) -> Report {
    let plan = &call.shared.plan;
    let reports = call.reports().await;
    let [latency, lag, round] = merge(&reports);
    let clients = call.clients().await;
    let mut summary = Summary::of(plan, &clients);
    summary.joins.attempted = plan.endpoints.len();
    summary.joins.seconds = call.joining_took.as_secs_f64();
    summary.joins.per_second =
        summary.joins.connected as f64 / summary.joins.seconds.max(f64::EPSILON);
    let mut failures = call.failures.clone();
    failures.extend(summary.silent);
    let window = after.totals - before.totals;
    let seconds = (after.at - before.at).as_secs_f64();
    let media = MediaFigures {
        seconds,
        window,
        forwarded_per_second: window.received as f64 / seconds,
        forwarded_bps: window.received_bytes as f64 * 8.0 / seconds,
        ..summary.media
    };
    let latency_us = Quantiles::of(&latency, 1e3);
    let generator = GeneratorFigures {
        threads: options.call.threads,
        busiest_thread_percent: percent(after.busiest.saturating_sub(before.busiest), seconds),
        cpu_us_per_packet: per_packet(after.own, before.own, window.received),
        schedule_lag_us: Quantiles::of(&lag, 1e3),
        round_us: Quantiles::of(&round, 1e3),
        kernel_drops: procfs::udp_drops(&call.ports()),
        bottleneck: Vec::new(),
    };
    let mut report = Report {
        bridge: call.bridge().url().to_owned(),
        conferences: plan.shape.conferences,
        senders: plan.shape.senders,
        receivers: plan.shape.receivers,
        seed: plan.shape.seed,
        joins: summary.joins,
        media,
        layers: LayerFigures::of(plan, &clients),
        latency_us,
        bridge_process: bridge_figures(options, before, after, memory, plan.endpoints.len()),
        generator,
        failures,
        ended_early,
    };
    report.generator.bottleneck = bottlenecks(&report);
    report
}

fn bridge_figures(
    options: &RunOptions,
    before: &Moment,
    after: &Moment,
    memory: &Memory,
    endpoints: usize,
) -> Option<BridgeFigures> {
    let (from, to) = (before.bridge?, after.bridge?);
    let seconds = (after.at - before.at).as_secs_f64();
    let packets = after.totals.received - before.totals.received;
    let cpu = to.cpu().saturating_sub(from.cpu());
    let idle = memory.idle.unwrap_or_default().resident / 1024;
    let connected = memory.connected.unwrap_or_default().resident / 1024;
    let load = memory.most.max(to.resident) / 1024;
    Some(BridgeFigures {
        pid: options.bridge_pid?,
        cpu_us_per_packet: per_packet(to, from, packets),
        cpu_percent: percent(cpu, seconds),
        system_percent: percent(to.system.saturating_sub(from.system), cpu.as_secs_f64()),
        resident_idle_kib: idle,
        resident_connected_kib: connected,
        resident_load_kib: load,
        resident_per_connected_kib: connected.saturating_sub(idle) as f64 / endpoints.max(1) as f64,
        resident_per_endpoint_kib: load.saturating_sub(idle) as f64 / endpoints.max(1) as f64,
        threads: to.threads,
    })
}

fn per_packet(to: ProcessSample, from: ProcessSample, packets: u64) -> f64 {
    if packets == 0 {
        return 0.0;
    }
    to.cpu().saturating_sub(from.cpu()).as_secs_f64() * 1e6 / packets as f64
}

fn percent(part: Duration, whole_seconds: f64) -> f64 {
    part.as_secs_f64() * 100.0 / whole_seconds.max(f64::EPSILON)
}

/// Reasons why the figures may be limited by the generator.
fn bottlenecks(report: &Report) -> Vec<String> {
    let own = &report.generator;
    let mut reasons = Vec::new();
    if own.busiest_thread_percent > 85.0 {
        reasons.push(format!(
            "the generator's busiest thread used {:.0} % of a core: give it more --threads, or cores",
            own.busiest_thread_percent
        ));
    }
    if own.schedule_lag_us.p99 > 5000.0 {
        reasons.push(format!(
            "frames were made {:.1} ms late (p99): the generator did not keep its schedule",
            own.schedule_lag_us.p99 / 1e3
        ));
    }
    if own.kernel_drops > 0 {
        reasons.push(format!(
            "{} datagrams were dropped at the clients' sockets: the generator read too slowly, and \
             what is counted as lost may be its own",
            own.kernel_drops
        ));
    }
    if report.media.window.send_errors > 0 {
        reasons.push(format!("{} datagrams could not be sent", report.media.window.send_errors));
    }
    reasons
}

/// The progress line, and supervision of the bridge.
struct Watch {
    progress: Progress,
    pid: Option<u32>,
    show: bool,
    measuring: bool,
    began: Instant,
    last: (Instant, TotalsSample, Option<ProcessSample>),
    most_resident: u64,
    next_line: tokio::time::Instant,
}

impl Watch {
    fn new(progress: Progress, options: &RunOptions) -> Self {
        let now = Instant::now();
        Self {
            last: (now, progress.shared.totals.sample(), None),
            progress,
            pid: options.bridge_pid,
            show: options.progress,
            measuring: false,
            began: now,
            most_resident: 0,
            next_line: tokio::time::Instant::from_std(now) + Duration::from_secs(1),
        }
    }

    /// Prints lines forever.
    async fn lines(&mut self) -> std::convert::Infallible {
        loop {
            self.line().await;
        }
    }

    /// Prints lines until something is wrong with the bridge, and returns what it is.
    async fn trouble(&mut self, call: &Call) -> String {
        let mut last = (Instant::now(), self.progress.shared.totals.sample());
        loop {
            self.line().await;
            if let Some(pid) = self.pid
                && procfs::process(pid).is_none()
            {
                return format!("the bridge died: process {pid} is gone");
            }
            let totals = self.progress.shared.totals.sample();
            let idle = totals.sent == last.1.sent || self.progress.shared.plan.endpoints.len() < 2;
            if totals.received > last.1.received || idle {
                last = (Instant::now(), totals);
            } else if last.0.elapsed() > STALL {
                let stopped = format!("media stopped: nothing came for {} s", STALL.as_secs());
                return if call.bridge().is_there().await {
                    format!("{stopped}, though the bridge still answers HTTP")
                } else {
                    format!("the bridge died: it no longer answers HTTP, and {stopped}")
                };
            }
        }
    }

    /// Waits for the next second and prints its line.
    async fn line(&mut self) {
        tokio::time::sleep_until(self.next_line).await;
        self.next_line += Duration::from_secs(1);
        let now = Instant::now();
        let totals = self.progress.shared.totals.sample();
        let bridge = self.pid.and_then(procfs::process);
        let (last_at, last_totals, last_bridge) =
            std::mem::replace(&mut self.last, (now, totals, bridge));
        self.most_resident = self.most_resident.max(bridge.map_or(0, |b| b.resident));
        if !self.show {
            return;
        }
        let seconds = (now - last_at).as_secs_f64().max(f64::EPSILON);
        let passed = totals - last_totals;
        let latency = {
            let mut recent = self.progress.shared.recent();
            let quantiles = Quantiles::of(&recent, 1e3);
            recent.reset();
            quantiles
        };
        let mut line = format!(
            "{:>4.0} s  {}  connected {}/{}  sent {:.0}/s  forwarded {:.0}/s  {:.1} Mbit/s",
            self.began.elapsed().as_secs_f64(),
            if self.measuring { "measuring" } else { "joining  " },
            self.progress.connected(),
            self.progress.shared.plan.endpoints.len(),
            passed.sent as f64 / seconds,
            passed.received as f64 / seconds,
            passed.received_bytes as f64 * 8.0 / seconds / 1e6,
        );
        if latency.count > 0 {
            let _ = write!(line, "  latency p50 {:.0} µs, p99 {:.0} µs", latency.p50, latency.p99);
        }
        if let (Some(bridge), Some(last)) = (bridge, last_bridge) {
            let _ = write!(
                line,
                "  bridge {:.0} % CPU, {:.2} µs/packet, {:.1} MiB",
                percent(bridge.cpu().saturating_sub(last.cpu()), seconds),
                per_packet(bridge, last, passed.received),
                bridge.resident as f64 / f64::from(1 << 20),
            );
        }
        eprintln!("{line}");
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_bridge_that_starts_later_is_waited_for() {
        let (asked, told) = (Cell::new(0), Cell::new(0));
        let is_there = || {
            asked.set(asked.get() + 1);
            std::future::ready(asked.get() == 11)
        };
        let start = tokio::time::Instant::now();
        until_there(is_there, Duration::from_secs(10), || told.set(told.get() + 1)).await;
        assert_eq!((asked.get(), told.get(), start.elapsed()), (11, 1, 9 * LOOK));
        // A bridge that answers is not waited for.
        until_there(|| std::future::ready(true), Duration::ZERO, || told.set(9)).await;
        assert_eq!(told.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_bridge_that_never_comes_is_given_up() {
        let start = tokio::time::Instant::now();
        until_there(|| std::future::ready(false), Duration::from_secs(10), || {}).await;
        assert_eq!(start.elapsed(), Duration::from_secs(10));
        // Nor one that accepts the connection and does not answer.
        until_there(std::future::pending, Duration::from_secs(10), || {}).await;
        assert_eq!(start.elapsed(), Duration::from_secs(20));
    }
}
