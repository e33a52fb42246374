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
    encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use serde_json::{Map, Value, json};

use super::{
    Shared,
    readings::{DISTRIBUTIONS, JVB, Metric, PROCESS, RIALTO, XMPP},
    refuse,
};
use crate::{
    bridge::BridgeStats,
    channel::Dropped,
    stats::{Mucs, Number, Process},
};

const OPENMETRICS: &str = "application/openmetrics-text;charset=utf-8;version=1.0.0";
const PLAIN: &str = "text/plain;charset=utf-8;version=0.0.4";

/// When the process began to serve, ms since 1970; the first scrape fixes it if nothing did before.
pub(super) static STARTED: LazyLock<f64> = LazyLock::new(|| {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as f64
});

pub(super) async fn metrics(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let reading = Reading {
        stats: shared.bridge.stats(),
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

    /// As JVB's: names without the prefix, distributions as objects. The other bridge's names are a
    /// set of their own, so ours go under `rialto`.
    fn json(&self) -> Value {
        let mut all = numbers(JVB, &self.stats);
        all.extend(numbers(XMPP, &self.mucs));
        for (name, _, read) in DISTRIBUTIONS {
            let (sum, count, buckets) = distribution(read(&self.stats));
            let mut so_far = 0;
            let mut object: Map<String, Value> = buckets
                .iter()
                .map(|(upper, count)| {
                    so_far += count;
                    let upper =
                        if upper.is_finite() { format!("{upper:.1}") } else { "+Inf".to_owned() };
                    (format!("bucket_le_{upper}"), (so_far as f64).into())
                })
                .collect();
            object.insert("count".to_owned(), (count as f64).into());
            object.insert("sum".to_owned(), sum.into());
            all.insert(name.to_owned(), Value::Object(object));
        }
        all.insert("startup_time".to_owned(), self.started.into());
        if let Some(threads) = self.process.threads {
            all.insert("thread_count".to_owned(), threads.into());
        }
        let mut own = numbers(RIALTO, &self.stats);
        own.extend(
            PROCESS.iter().filter_map(|(name, _, read)| {
                Some(((*name).to_owned(), read(&self.process)?.into()))
            }),
        );
        let drops: Map<String, Value> =
            self.stats.drops.iter().map(|(why, n)| ((*why).to_owned(), (*n).into())).collect();
        own.insert("dropped_packets_total".to_owned(), json!(drops));
        let drops: Map<String, Value> =
            channel_drops(&self.stats).map(|(why, n)| (why.to_owned(), n.into())).collect();
        own.insert("dropped_channel_messages_total".to_owned(), json!(drops));
        all.insert("rialto".to_owned(), Value::Object(own));
        Value::Object(all)
    }
}

fn numbers<S>(metrics: &[Metric<S>], stats: &S) -> Map<String, Value> {
    let name = |metric: &Metric<S>| {
        if metric.counter { metric.name.to_owned() + "_total" } else { metric.name.to_owned() }
    };
    metrics.iter().map(|metric| (name(metric), (metric.read)(stats).into())).collect()
}

/// Sum, count, and the count of each bucket (not cumulative) for 0, 1, … 20 and the rest.
fn distribution(values: &[usize]) -> (f64, u64, Vec<(f64, u64)>) {
    let mut buckets: Vec<(f64, u64)> = (0..=20).map(|upper| (f64::from(upper), 0)).collect();
    buckets.push((f64::INFINITY, 0));
    for &value in values {
        if let Some((_, count)) = buckets.iter_mut().find(|(upper, _)| value as f64 <= *upper) {
            *count += 1;
        }
    }
    (values.iter().sum::<usize>() as f64, values.len() as u64, buckets)
}

#[derive(Debug)]
struct Jvb(Arc<Reading>);

impl Collector for Jvb {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let Reading { stats, mucs, process, started } = &*self.0;
        encode_all(&mut encoder, JVB, stats)?;
        encode_all(&mut encoder, XMPP, mucs)?;
        for (name, help, read) in DISTRIBUTIONS {
            let (sum, count, buckets) = distribution(read(stats));
            encoder
                .encode_descriptor(name, help, None, MetricType::Histogram)?
                .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        let help = "When the process started, ms since 1970";
        gauge(&mut encoder, "startup_time", help, Number::Fraction(*started))?;
        process.threads.map_or(Ok(()), |threads| {
            gauge(&mut encoder, "thread_count", "Threads of the process", threads.into())
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
        let help = "Packets dropped, by reason";
        let mut family =
            encoder.encode_descriptor("dropped_packets", help, None, MetricType::Counter)?;
        for (reason, count) in &stats.drops {
            let labels = [("reason", *reason)];
            ConstCounter::new(*count).encode(family.encode_family(&labels)?)?;
        }
        let (name, help) =
            ("dropped_channel_messages", "Bridge-channel messages dropped, by reason");
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (reason, count) in channel_drops(stats) {
            let labels = [("reason", reason)];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// Why bridge-channel messages went nowhere, and how many.
fn channel_drops(stats: &BridgeStats) -> impl Iterator<Item = (&'static str, u64)> {
    Dropped::ALL.into_iter().map(Dropped::label).zip(stats.channels.dropped)
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

/// OpenMetrics as the older text format: there a counter's description carries its `_total`, and
/// there is no end mark.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len() + 1024);
    // The help comes before the type that tells a counter.
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
    use super::*;

    fn reading() -> Reading {
        let stats = BridgeStats {
            conferences: 2,
            conference_sizes: vec![2, 30],
            incoming_loss: f64::NAN,
            healthy: true,
            drops: vec![("replay", 3), ("unknown-ssrc", 1)],
            ..BridgeStats::default()
        };
        Reading {
            stats,
            mucs: Mucs { joined: 1, ..Mucs::default() },
            process: Process { threads: Some(7), ..Process::default() },
            started: 1.0e12,
        }
    }

    #[test]
    fn openmetrics() {
        let text = reading().text().unwrap();
        for line in [
            "# TYPE jitsi_jvb_conferences gauge",
            "jitsi_jvb_conferences 2",
            "jitsi_jvb_healthy 1",
            "# TYPE jitsi_jvb_packets_received counter",
            "jitsi_jvb_packets_received_total 0",
            "jitsi_jvb_conferences_by_size_bucket{le=\"2.0\"} 1",
            "jitsi_jvb_conferences_by_size_bucket{le=\"+Inf\"} 2",
            "jitsi_jvb_conferences_by_size_sum 32.0",
            "jitsi_jvb_incoming_loss_fraction 0.0",
            "jitsi_jvb_thread_count 7",
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
