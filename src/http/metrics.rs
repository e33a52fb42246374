//! `/metrics`: OpenMetrics by default, Prometheus text or JSON when asked for.

use std::{
    fmt::{self, Write as _},
    sync::{Arc, LazyLock},
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge, info::Info},
    registry::Registry,
};
use serde_json::{Map, Value};

use super::{
    Shared,
    histogram::{Histogram, forwarding_delay, pacing_delay, transit_time},
    labelled::{Family, families},
    queues::JVB_QUEUES,
    readings::{DISTRIBUTIONS, Distribution, JVB, JVM, Metric, PROCESS, RIALTO, TOSSED, XMPP},
    refuse,
};
use crate::{
    bridge::BridgeStats,
    stats::{Mucs, Number, Process},
};

const OPENMETRICS: &str = "application/openmetrics-text;charset=utf-8;version=1.0.0";
const PLAIN: &str = "text/plain;charset=utf-8;version=0.0.4";

/// Start of serving, ms since 1970; the first scrape sets it if nothing did before.
pub(super) static STARTED: LazyLock<f64> = LazyLock::new(|| {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as f64
});

pub(super) async fn metrics(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let reading = Reading {
        stats: shared.report.stats(),
        region: shared.report.region().map(str::to_owned),
        transit_times: shared.transit_times,
        mucs: shared.report.mucs(),
        process: Process::read(),
        started: *STARTED,
    };
    let format = choose(headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()));
    if format == Format::Json {
        return Json(reading.json()).into_response();
    }
    let Ok(text) = reading.text() else {
        return refuse(StatusCode::INTERNAL_SERVER_ERROR, "Metrics could not be written");
    };
    match format {
        Format::Plain => ([(header::CONTENT_TYPE, PLAIN)], plain(&text)).into_response(),
        _ => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Format {
    OpenMetrics,
    Plain,
    Json,
}

/// The first known type of an `Accept` header wins; Prometheus lists its preference first.
fn choose(accept: Option<&str>) -> Format {
    for entry in accept.unwrap_or_default().split(',') {
        match entry.split(';').next().unwrap_or_default().trim() {
            "application/openmetrics-text" | "*/*" => return Format::OpenMetrics,
            "text/plain" => return Format::Plain,
            "application/json" => return Format::Json,
            _ => {}
        }
    }
    Format::OpenMetrics
}

#[derive(Debug)]
struct Reading {
    stats: BridgeStats,
    /// Region of the bridge, if configured.
    region: Option<String>,
    /// Whether JVB's histogram of transit times is wanted.
    transit_times: bool,
    mucs: Mucs,
    process: Process,
    /// Milliseconds since 1970.
    started: f64,
}

impl Reading {
    fn text(self) -> Result<String, fmt::Error> {
        let reading = Arc::new(self);
        let mut text = String::new();
        let mut jvb = Registry::with_prefix("jitsi_jvb");
        jvb.register_collector(Box::new(Jvb(reading.clone())));
        text::encode_registry(&mut text, &jvb)?;
        let mut own = Registry::with_prefix("rialto");
        own.register_collector(Box::new(Own(reading)));
        text::encode_registry(&mut text, &own)?;
        text::encode_eof(&mut text)?;
        Ok(text)
    }

    /// Returns JVB's JSON: names without the prefix, distributions as objects. This bridge's own metrics
    /// could collide with JVB's names, so they are under `rialto`.
    fn json(&self) -> Value {
        let mut all = numbers(JVB, &self.stats);
        all.extend(numbers(XMPP, &self.mucs));
        for queue in &JVB_QUEUES {
            let name = queue.name;
            all.insert(
                format!("{name}_dropped_packets_total"),
                (queue.dropped)(&self.stats).into(),
            );
            all.insert(format!("{name}_exceptions_total"), 0.into());
        }
        all.extend(self.histograms().into_iter().map(|each| (each.name.to_owned(), each.json())));
        all.insert("startup_time".to_owned(), self.started.into());
        all.extend(
            JVM.iter().filter_map(|(name, _, read)| {
                Some(((*name).to_owned(), read(&self.process)?.into()))
            }),
        );
        if let Some(region) = &self.region {
            all.insert("region".to_owned(), region.as_str().into());
        }
        let mut own = numbers(RIALTO, &self.stats);
        own.extend(
            PROCESS.iter().filter_map(|(name, _, read)| {
                Some(((*name).to_owned(), read(&self.process)?.into()))
            }),
        );
        own.extend(families(&self.stats).iter().map(Family::json));
        for delays in [forwarding_delay(&self.stats), pacing_delay(&self.stats)] {
            own.insert(delays.name.to_owned(), delays.json());
        }
        all.insert("rialto".to_owned(), Value::Object(own));
        Value::Object(all)
    }

    /// Histograms under JVB's names.
    fn histograms(&self) -> Vec<Histogram> {
        let of = |(name, help, read): &Distribution| Histogram::of(name, help, read(&self.stats));
        let mut all: Vec<Histogram> = DISTRIBUTIONS.iter().map(of).collect();
        all.push(Histogram {
            name: "tossed_packets_energy",
            help: "Loudness of audio packets dropped because others are louder. Always empty: see rialto_dropped_packets_total",
            sum: 0.0,
            buckets: TOSSED.into_iter().chain([f64::INFINITY]).map(|bound| (bound, 0)).collect(),
        });
        if self.transit_times {
            all.push(transit_time(&self.stats));
        }
        all
    }
}

fn numbers<S>(metrics: &[Metric<S>], stats: &S) -> Map<String, Value> {
    let name = |metric: &Metric<S>| {
        if metric.counter { metric.name.to_owned() + "_total" } else { metric.name.to_owned() }
    };
    metrics.iter().map(|metric| (name(metric), (metric.read)(stats).into())).collect()
}

#[derive(Debug)]
struct Jvb(Arc<Reading>);

impl Collector for Jvb {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let reading = &*self.0;
        let Reading { stats, mucs, process, started, .. } = reading;
        encode_all(&mut encoder, JVB, stats)?;
        encode_all(&mut encoder, XMPP, mucs)?;
        for queue in &JVB_QUEUES {
            for (what, help, count) in [
                (
                    "dropped_packets",
                    "Packets or messages dropped where JVB has the queue of this name",
                    (queue.dropped)(stats),
                ),
                ("exceptions", "Exceptions in JVB's queue of this name. Always 0", 0),
            ] {
                let name = format!("{}_{what}", queue.name);
                let encoder = encoder.encode_descriptor(&name, help, None, MetricType::Counter)?;
                ConstCounter::new(count).encode(encoder)?;
            }
        }
        for histogram in reading.histograms() {
            histogram.encode(&mut encoder)?;
        }
        if reading.transit_times {
            let help = "Packets whose delay is unknown. Always 0";
            let name = "rtp_transit_time_unknown_delay";
            let encoder = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(0_u64).encode(encoder)?;
        }
        if let Some(region) = &reading.region {
            let help = "Region of the bridge";
            let encoder = encoder.encode_descriptor("region", help, None, MetricType::Info)?;
            Info::new([("region", region.as_str())]).encode(encoder)?;
        }
        let help = "Start time of the process, ms since 1970";
        gauge(&mut encoder, "startup_time", help, Number::Fraction(*started))?;
        JVM.iter().try_for_each(|(name, help, read)| {
            read(process).map_or(Ok(()), |value| gauge(&mut encoder, name, help, value.into()))
        })
    }
}

#[derive(Debug)]
struct Own(Arc<Reading>);

impl Collector for Own {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let stats = &self.0.stats;
        encode_all(&mut encoder, RIALTO, stats)?;
        for (name, help, read) in PROCESS {
            if let Some(value) = read(&self.0.process) {
                gauge(&mut encoder, name, help, value.into())?;
            }
        }
        forwarding_delay(stats).encode(&mut encoder)?;
        pacing_delay(stats).encode(&mut encoder)?;
        families(stats).iter().try_for_each(|family| family.encode(&mut encoder))
    }
}

fn encode_all<S>(
    encoder: &mut DescriptorEncoder<'_>,
    metrics: &[Metric<S>],
    stats: &S,
) -> Result<(), fmt::Error> {
    metrics.iter().try_for_each(|metric| {
        let number = (metric.read)(stats);
        if !metric.counter {
            return gauge(encoder, metric.name, metric.help, number);
        }
        let encoder =
            encoder.encode_descriptor(metric.name, metric.help, None, MetricType::Counter)?;
        match number {
            Number::Whole(value) => ConstCounter::new(value).encode(encoder),
            Number::Fraction(value) => ConstCounter::new(value).encode(encoder),
            Number::Flag(value) => ConstCounter::new(u64::from(value)).encode(encoder),
        }
    })
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    number: Number,
) -> Result<(), fmt::Error> {
    let encoder = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    match number {
        Number::Whole(value) => {
            ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(encoder)
        }
        Number::Fraction(value) => ConstGauge::new(value).encode(encoder),
        Number::Flag(value) => ConstGauge::new(i64::from(value)).encode(encoder),
    }
}

/// Rewrites OpenMetrics into the older text format: there a counter's description carries its `_total`, and
/// there is no end mark.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len() + 1024);
    // The help line precedes the type line that identifies a counter.
    let mut help = None;
    for line in text.lines().filter(|line| *line != "# EOF") {
        let mut words = line.splitn(4, ' ');
        let (mark, what) = (words.next(), words.next());
        match (mark, what, words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(name), Some(text)) => help = Some((name, text)),
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                let counter = if kind == "counter" { "_total" } else { "" };
                if let Some((name, text)) = help.take() {
                    let _ = writeln!(plain, "# HELP {name}{counter} {text}");
                }
                let _ = writeln!(plain, "# TYPE {name}{counter} {kind}");
            }
            _ => {
                plain.push_str(line);
                plain.push('\n');
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use rialto_engine::{DelayHistogram, Waiting};

    use crate::bridge::ShardLoad;

    fn reading() -> Reading {
        let mut delays = DelayHistogram::default();
        delays.record(Duration::from_micros(200));
        delays.record(Duration::from_micros(700));
        let stats = BridgeStats {
            conferences: 2,
            conference_sizes: vec![2, 30],
            receive_bps: 1_999,
            send_bps: 999,
            incoming_loss: f64::NAN,
            healthy: true,
            drops: vec![("replay", 3), ("unknown-ssrc", 1)],
            delays,
            shard_loads: vec![ShardLoad {
                shard: 1,
                busy: 0.5,
                endpoints: 2,
                waiting: Waiting { commands: 3, batches: 0 },
            }],
            ice_checks: vec![("10.0.0.5:10000".parse().unwrap(), 9)],
            ..BridgeStats::default()
        };
        Reading {
            stats,
            region: Some("eu \"west\"".to_owned()),
            transit_times: true,
            mucs: Mucs { joined: 1, ..Mucs::default() },
            process: Process { threads: Some(7), open_files: Some(11), ..Process::default() },
            started: 1.0e12,
        }
    }

    #[test]
    fn openmetrics() {
        let text = reading().text().unwrap();
        for line in [
            "# TYPE jitsi_jvb_conferences gauge",
            "jitsi_jvb_conferences 2",
            "jitsi_jvb_incoming_bitrate 1999",
            "jitsi_jvb_outgoing_bitrate 999",
            "jitsi_jvb_healthy 1",
            "# TYPE jitsi_jvb_packets_received counter",
            "jitsi_jvb_packets_received_total 0",
            "jitsi_jvb_conferences_by_size_bucket{le=\"2.0\"} 1",
            "jitsi_jvb_conferences_by_size_bucket{le=\"+Inf\"} 2",
            "jitsi_jvb_conferences_by_size_sum 32.0",
            "jitsi_jvb_incoming_loss_fraction 0.0",
            "jitsi_jvb_thread_count 7",
            "jitsi_jvb_jvm_open_fd_count 11",
            "jitsi_jvb_queue_exceptions_total 0",
            "jitsi_jvb_rtp_transit_time_bucket{le=\"5.0\"} 2",
            "jitsi_jvb_region_info{region=\"eu \\\"west\\\"\"} 1",
            "rialto_forwarding_delay_seconds_bucket{le=\"0.00025\"} 1",
            "rialto_forwarding_delay_seconds_count 2",
            "rialto_pacing_delay_seconds_count 0",
            "rialto_shard_busy{shard=\"1\"} 0.5",
            "rialto_queue_depth{queue=\"commands\",shard=\"1\"} 3",
            "rialto_queue_depth{queue=\"requests\"} 0",
            "rialto_ice_checks_total{candidate=\"10.0.0.5:10000\"} 9",
            "rialto_dropped_packets_total{reason=\"replay\"} 3",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn the_older_text_format() {
        let text = plain(&reading().text().unwrap());
        for line in [
            "# TYPE jitsi_jvb_conferences gauge",
            "# TYPE jitsi_jvb_packets_received_total counter",
            "# HELP jitsi_jvb_packets_received_total RTP packets received",
            "jitsi_jvb_packets_received_total 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("# EOF"));
    }

    #[test]
    fn json() {
        let json = reading().json();
        assert_eq!(json["healthy"], true);
        assert_eq!(json["conferences"], 2);
        assert_eq!(json["packets_received_total"], 0);
        assert_eq!(json["conferences_by_size"]["bucket_le_3.0"], 1.0);
        assert_eq!(json["conferences_by_size"]["bucket_le_+Inf"], 2.0);
        assert_eq!(json["rialto"]["dropped_packets_total"]["unknown-ssrc"], 1);
    }

    #[test]
    fn the_format_is_negotiated() {
        assert_eq!(choose(None), Format::OpenMetrics);
        assert_eq!(choose(Some("*/*")), Format::OpenMetrics);
        assert_eq!(choose(Some("application/json")), Format::Json);
        assert_eq!(choose(Some("text/plain;version=0.0.4;q=0.5,*/*;q=0.1")), Format::Plain);
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.2";
        assert_eq!(choose(Some(prometheus)), Format::OpenMetrics);
    }
}
