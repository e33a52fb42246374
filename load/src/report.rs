//! The results of a run, as JSON and as a table.

use std::fmt::{self, Write as _};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::{
    call::Failure,
    client::Step,
    layers::LayerFigures,
    plan::{Media, Plan},
    shared::{TotalsSample, histogram},
    worker::{WorkerReport, client::ClientReport},
};

/// A distribution.
#[derive(Clone, Copy, Default, Serialize, Debug)]
pub struct Quantiles {
    /// The median.
    pub p50: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The 99.9th percentile.
    pub p99_9: f64,
    /// The maximum.
    pub max: f64,
    /// Number of values.
    pub count: u64,
}

impl Quantiles {
    /// Of a histogram of nanoseconds, in units of `unit` nanoseconds.
    pub fn of(values: &Histogram<u64>, unit: f64) -> Self {
        let at = |quantile| values.value_at_quantile(quantile) as f64 / unit;
        Self {
            p50: at(0.5),
            p99: at(0.99),
            p99_9: at(0.999),
            max: values.max() as f64 / unit,
            count: values.len(),
        }
    }
}

/// The joins.
#[derive(Clone, Default, Serialize, Debug)]
pub struct Joins {
    /// Endpoints that tried to join.
    pub attempted: usize,
    /// Endpoints that connected.
    pub connected: usize,
    /// Time from the start of the first join to the end of the last, seconds.
    pub seconds: f64,
    /// Endpoints connected per second of that time.
    pub per_second: f64,
    /// Time from the start of a join to its SRTP keys.
    pub connect_ms: Quantiles,
    /// Time from the start of a join to the first media packet.
    pub first_media_ms: Quantiles,
    /// Time from the start of a join to the first keyframe.
    pub first_keyframe_ms: Quantiles,
}

/// Packets of one kind at all receivers, over the whole run.
#[derive(Clone, Copy, Default, Serialize, Debug)]
pub struct Kind {
    /// Packets that should have arrived, from each receiver's first one on.
    pub expected: u64,
    /// Packets that arrived, each counted once.
    pub received: u64,
    /// Packets that never arrived.
    pub lost: u64,
    /// Packets that arrived again.
    pub duplicates: u64,
    /// Packets that arrived after they had been requested again.
    pub recovered: u64,
    /// Retransmissions (RFC 4588).
    pub retransmissions: u64,
}

/// The media.
#[derive(Clone, Default, Serialize, Debug)]
pub struct MediaFigures {
    /// Length of the measured window, seconds.
    pub seconds: f64,
    /// In the window.
    pub window: TotalsSample,
    /// Packets forwarded per second in the window.
    pub forwarded_per_second: f64,
    /// Forwarded bit/s in the window, above UDP.
    pub forwarded_bps: f64,
    /// Audio.
    pub audio: Kind,
    /// Video.
    pub video: Kind,
    /// Packets that the bridge requested again from senders.
    pub nacked_by_bridge: u64,
    /// Keyframes that the bridge requested from senders.
    pub keyframe_requests: u64,
    /// Transport-wide feedback packets from the bridge.
    pub transport_feedbacks: u64,
    /// SRTP packets that could not be decrypted.
    pub not_opened: u64,
    /// SRTP packets that had been decrypted before: sent twice by the bridge, byte for byte.
    pub replays: u64,
}

/// The bridge's process.
#[derive(Clone, Default, Serialize, Debug)]
pub struct BridgeFigures {
    /// Process id.
    pub pid: u32,
    /// CPU time per forwarded packet in the window, µs.
    pub cpu_us_per_packet: f64,
    /// CPU usage in the window, % of one core.
    pub cpu_percent: f64,
    /// The part of that in the kernel.
    pub system_percent: f64,
    /// Resident memory before anybody joined, KiB.
    pub resident_idle_kib: u64,
    /// Resident memory when all had joined.
    pub resident_connected_kib: u64,
    /// Most resident memory in the window.
    pub resident_load_kib: u64,
    /// (connected - idle) / endpoints, KiB.
    pub resident_per_connected_kib: f64,
    /// (load - idle) / endpoints, KiB.
    pub resident_per_endpoint_kib: f64,
    /// Threads in the window.
    pub threads: u64,
}

/// The generator itself.
#[derive(Clone, Default, Serialize, Debug)]
pub struct GeneratorFigures {
    /// Threads that carry media.
    pub threads: usize,
    /// CPU usage of the busiest of these threads in the window, % of one core.
    pub busiest_thread_percent: f64,
    /// CPU time of the process per packet received in the window, µs.
    pub cpu_us_per_packet: f64,
    /// How late frames were made.
    pub schedule_lag_us: Quantiles,
    /// Duration of a round of reading.
    pub round_us: Quantiles,
    /// Datagrams dropped because a client's receive queue was full.
    pub kernel_drops: u64,
    /// Reasons why the figures may be limited by the generator and not the bridge. Empty if there
    /// are none.
    pub bottleneck: Vec<String>,
}

/// The whole report.
#[derive(Clone, Serialize, Debug)]
pub struct Report {
    /// The bridge.
    pub bridge: String,
    /// Conferences.
    pub conferences: usize,
    /// Senders per conference.
    pub senders: usize,
    /// Endpoints per conference that only receive.
    pub receivers: usize,
    /// The seed.
    pub seed: u64,
    /// Joins.
    pub joins: Joins,
    /// Media.
    pub media: MediaFigures,
    /// Results about layers, if videos have some.
    pub layers: Option<LayerFigures>,
    /// Forwarding latency in the window, of packets that needed no recovery.
    pub latency_us: Quantiles,
    /// The bridge's process, with `--bridge-pid`.
    pub bridge_process: Option<BridgeFigures>,
    /// The generator.
    pub generator: GeneratorFigures,
    /// Endpoints that failed to join, or joined and received nothing.
    pub failures: Vec<Failure>,
    /// Why the run ended early, if it did.
    pub ended_early: Option<String>,
}

impl Report {
    /// Returns whether nobody failed, nothing broke and the run did not end early.
    pub fn is_ok(&self) -> bool {
        self.complaint().is_none() && self.ended_early.is_none()
    }

    /// Describes who received nothing and where it stopped, or what was wrong; `None` if nothing
    /// was.
    pub fn complaint(&self) -> Option<String> {
        if self.failures.is_empty() {
            return self.layers.as_ref()?.complaint();
        }
        let steps = [Step::Signalling, Step::Ice, Step::Dtls, Step::Channel, Step::Media];
        let by_step: Vec<_> = steps
            .iter()
            .filter_map(|step| {
                let count = self.failures.iter().filter(|f| f.step == *step).count();
                (count > 0).then(|| format!("{count} stopped at {step}"))
            })
            .collect();
        let first = &self.failures[0];
        Some(format!(
            "{} of {} endpoints got nothing or not all they should: {} (first: {}: {})",
            self.failures.len(),
            self.joins.attempted,
            by_step.join(", "),
            first.id,
            first.reason,
        ))
    }
}

/// Sums over clients.
pub struct Summary {
    /// Joins; times only.
    pub joins: Joins,
    /// Media over the whole run.
    pub media: MediaFigures,
    /// Clients that connected and miss a source whose sender is present.
    pub silent: Vec<Failure>,
}

impl Summary {
    /// Sums over all clients.
    pub fn of(plan: &Plan, clients: &[ClientReport]) -> Self {
        let mut connect = histogram();
        let mut first_media = histogram();
        let mut first_keyframe = histogram();
        let mut media = MediaFigures::default();
        let mut silent = Vec::new();
        let present =
            |endpoint| clients.iter().any(|c| c.endpoint == endpoint && c.connected.is_some());
        for client in clients {
            let since_start = |at: u64| at.saturating_sub(client.started);
            if let Some(at) = client.connected {
                connect.saturating_record(since_start(at));
            }
            let sources = client.sources.iter();
            if let Some(at) = sources.clone().filter_map(|s| s.totals.first).min() {
                first_media.saturating_record(since_start(at));
            }
            if let Some(at) = sources.clone().filter_map(|s| s.totals.keyframe).min() {
                first_keyframe.saturating_record(since_start(at));
            }
            for source in sources {
                let kind = match source.media {
                    Media::Audio => &mut media.audio,
                    Media::Video => &mut media.video,
                };
                kind.expected += source.expected;
                kind.received += source.unique;
                kind.lost += source.lost();
                kind.duplicates += source.duplicates;
                kind.recovered += source.totals.recovered;
                kind.retransmissions += source.totals.retransmissions;
            }
            media.nacked_by_bridge += client.counts.heard.nacked;
            media.keyframe_requests += client.counts.heard.keyframe_requests;
            media.transport_feedbacks += client.counts.heard.transport_feedbacks;
            media.not_opened += client.counts.not_opened;
            media.replays += client.counts.replays;
            silent.extend(silence(plan, client, present));
        }
        let joins = Joins {
            connected: clients.iter().filter(|c| c.connected.is_some()).count(),
            connect_ms: Quantiles::of(&connect, 1e6),
            first_media_ms: Quantiles::of(&first_media, 1e6),
            first_keyframe_ms: Quantiles::of(&first_keyframe, 1e6),
            ..Joins::default()
        };
        Self { joins, media, silent }
    }
}

fn silence(plan: &Plan, client: &ClientReport, present: impl Fn(usize) -> bool) -> Option<Failure> {
    client.connected?;
    let due: Vec<_> =
        client.sources.iter().filter(|s| present(plan.sources[s.source].endpoint)).collect();
    let missing: Vec<_> = due
        .iter()
        .filter(|s| s.totals.first.is_none())
        .map(|s| plan.sources[s.source].name.as_str())
        .collect();
    if missing.is_empty() {
        return None;
    }
    let named = missing.iter().take(3).copied().collect::<Vec<_>>().join(", ");
    let more = if missing.len() > 3 { ", …" } else { "" };
    Some(Failure {
        endpoint: client.endpoint,
        id: plan.endpoints[client.endpoint].id.clone(),
        step: Step::Media,
        reason: format!(
            "connected, but nothing came of {} of {} sources ({named}{more})",
            missing.len(),
            due.len()
        ),
    })
}

/// Merges the threads' histograms: latency, schedule lag, rounds.
pub fn merge(reports: &[WorkerReport]) -> [Histogram<u64>; 3] {
    let mut merged = [histogram(), histogram(), histogram()];
    for report in reports {
        let parts = [&report.latency, &report.schedule_lag, &report.round];
        for (whole, part) in merged.iter_mut().zip(parts) {
            let _ = whole.add(part);
        }
    }
    merged
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = String::new();
        self.rows(&mut table)?;
        f.write_str(&table)
    }
}

impl Report {
    fn rows(&self, out: &mut String) -> fmt::Result {
        let (joins, media) = (&self.joins, &self.media);
        writeln!(
            out,
            "calls        {} x ({} senders + {} receivers) on {}, seed {}",
            self.conferences, self.senders, self.receivers, self.bridge, self.seed
        )?;
        writeln!(
            out,
            "joins        {} of {} in {:.2} s: {:.1} per second",
            joins.connected, joins.attempted, joins.seconds, joins.per_second
        )?;
        let times = [
            ("to connect", &joins.connect_ms),
            ("to media", &joins.first_media_ms),
            ("to keyframe", &joins.first_keyframe_ms),
        ];
        for (name, q) in times.iter().filter(|(_, q)| q.count > 0) {
            writeln!(
                out,
                "{name:<12} p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
                q.p50, q.p99, q.max
            )?;
        }
        writeln!(
            out,
            "window       {:.1} s: {} packets sent, {} forwarded ({:.0} per second, {:.2} Mbit/s)",
            media.seconds,
            media.window.sent,
            media.window.received,
            media.forwarded_per_second,
            media.forwarded_bps / 1e6
        )?;
        for (name, kind) in [("audio", &media.audio), ("video", &media.video)] {
            if kind.expected > 0 {
                writeln!(
                    out,
                    "{name:<12} {} expected, {} received, {} lost, {} recovered, {} duplicates",
                    kind.expected, kind.received, kind.lost, kind.recovered, kind.duplicates
                )?;
            }
        }
        writeln!(
            out,
            "feedback     {} packets asked for again, {} keyframes wanted, {} transport-wide",
            media.nacked_by_bridge, media.keyframe_requests, media.transport_feedbacks
        )?;
        if let Some(layers) = &self.layers {
            layers.rows(out)?;
        }
        let q = &self.latency_us;
        if q.count > 0 {
            writeln!(
                out,
                "latency      p50 {:.0} µs, p99 {:.0} µs, p99.9 {:.0} µs, max {:.0} µs ({} packets)",
                q.p50, q.p99, q.p99_9, q.max, q.count
            )?;
        }
        self.process_rows(out)
    }

    fn process_rows(&self, out: &mut String) -> fmt::Result {
        if let Some(bridge) = &self.bridge_process {
            writeln!(
                out,
                "bridge CPU   {:.2} µs per forwarded packet; {:.0} % of a core, {:.0} % in the kernel; \
                 {} threads",
                bridge.cpu_us_per_packet, bridge.cpu_percent, bridge.system_percent, bridge.threads
            )?;
            writeln!(
                out,
                "bridge RSS   {:.1} MiB idle, {:.1} connected, {:.1} under load; per endpoint {:.0} KiB \
                 connected, {:.0} under load",
                bridge.resident_idle_kib as f64 / 1024.0,
                bridge.resident_connected_kib as f64 / 1024.0,
                bridge.resident_load_kib as f64 / 1024.0,
                bridge.resident_per_connected_kib,
                bridge.resident_per_endpoint_kib
            )?;
        }
        let own = &self.generator;
        writeln!(
            out,
            "generator    {} thread(s), the busiest at {:.0} % of a core; {:.2} µs per packet; frames \
             late p99 {:.0} µs; rounds p99 {:.0} µs; {} datagrams dropped",
            own.threads,
            own.busiest_thread_percent,
            own.cpu_us_per_packet,
            own.schedule_lag_us.p99,
            own.round_us.p99,
            own.kernel_drops
        )?;
        for reason in &own.bottleneck {
            writeln!(out, "  beware     {reason}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_in_the_unit_asked_for() {
        let mut values = histogram();
        (1..=1000u64).for_each(|v| values.record(v * 1000).unwrap());
        let q = Quantiles::of(&values, 1e3);
        assert!((499.0..=501.0).contains(&q.p50), "{q:?}");
        assert!((989.0..=991.0).contains(&q.p99), "{q:?}");
        assert!((999.0..=1001.0).contains(&q.max), "{q:?}");
        assert_eq!(q.count, 1000);
    }
}
