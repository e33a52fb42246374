//! `/debug/features` and `/debug/stats`: JVB's switches for measurements, and their results.
//!
//! This bridge always measures. Switches and statistics of JVB's components that it does not have (nodes,
//! buffer pools, payload verification) are 404.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use rialto_engine::{BOUNDS_US, DelayHistogram};
use serde_json::{Map, Value, json};
use tokio::runtime::Handle;

use super::{Shared, queues::JVB_QUEUES, readings::TOSSED, refuse};
use crate::bridge::CaptureError;

/// Features that are always on.
const FEATURES: [&str; 4] =
    ["queue-stats", "transit-stats", "task-pool-stats", "tossed-packet-stats"];

/// Answers `true` for a feature that is on.
pub(super) async fn feature(Path(feature): Path<String>) -> Response {
    if FEATURES.contains(&feature.as_str()) { "true".into_response() } else { nowhere() }
}

/// Has no effect, as in JVB for features that are always on.
pub(super) async fn set_feature(Path((feature, _)): Path<(String, String)>) -> Response {
    match feature.as_str() {
        "queue-stats" | "transit-stats" | "task-pool-stats" => StatusCode::OK.into_response(),
        _ => nowhere(),
    }
}

/// Answers whether an endpoint's packets are captured.
pub(super) async fn endpoint_feature(
    State(shared): State<Shared>,
    Path((conference, endpoint, feature)): Path<(String, String, String)>,
) -> Response {
    let captured = shared.bridge.is_captured(&conference, &endpoint).await;
    match captured.filter(|_| feature == "pcap-dump") {
        Some(captured) => captured.to_string().into_response(),
        None => nowhere(),
    }
}

/// Starts or stops capturing an endpoint's packets.
pub(super) async fn set_endpoint_feature(
    State(shared): State<Shared>,
    Path((conference, endpoint, feature, enabled)): Path<(String, String, String, String)>,
) -> Response {
    if feature != "pcap-dump" {
        return nowhere();
    }
    let on = enabled.eq_ignore_ascii_case("true");
    match shared.bridge.capture(&conference, &endpoint, on).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(error) => {
            let status = match error {
                CaptureError::NotFound => StatusCode::NOT_FOUND,
                CaptureError::Forbidden => StatusCode::FORBIDDEN,
                CaptureError::Busy => StatusCode::SERVICE_UNAVAILABLE,
                CaptureError::Thread(_) | CaptureError::File { .. } => {
                    StatusCode::INTERNAL_SERVER_ERROR
                }
            };
            refuse(status, &error.to_string())
        }
    }
}

/// Returns the measurements of one component of the bridge.
pub(super) async fn stats(State(shared): State<Shared>, Path(part): Path<String>) -> Response {
    let stats = match part.as_str() {
        "queue-stats" => queues(&shared),
        "transit-stats" => {
            json!({ "e2e_packet_delay": { "rtp": delays(&shared.bridge.stats().delays) } })
        }
        "task-pool-stats" => tasks(),
        "xmpp-delay-stats" => shared.bridge.request_delays(),
        "conference-packet-stats" => shared.bridge.packets_by_size(),
        "tossed-packet-stats" => {
            let bucket = |bound: &f64| (format!("bucket_le_{bound:.1}"), Value::from(0.0));
            let mut none: Map<String, Value> = TOSSED.iter().map(bucket).collect();
            for name in ["bucket_le_+Inf", "count", "sum"] {
                none.insert(name.to_owned(), 0.0.into());
            }
            Value::Object(none)
        }
        _ => return nowhere(),
    };
    Json(stats).into_response()
}

fn nowhere() -> Response {
    refuse(StatusCode::NOT_FOUND, "Not Found")
}

fn queues(shared: &Shared) -> Value {
    let stats = shared.bridge.stats();
    let all = JVB_QUEUES.iter().filter(|queue| !queue.in_json.is_empty()).map(|queue| {
        let counts = json!({ "dropped_packets": (queue.dropped)(&stats), "exceptions": 0 });
        (queue.in_json.to_owned(), counts)
    });
    Value::Object(all.collect())
}

fn delays(delays: &DelayHistogram) -> Value {
    let count = delays.count();
    let average: Value = match count {
        0 => "NaN".into(),
        count => (delays.sum_us as f64 / 1000.0 / count as f64).into(),
    };
    let starts = std::iter::once(0).chain(BOUNDS_US);
    let end = |bound: u64| if bound == u64::MAX { "max".to_owned() } else { bound.to_string() };
    let buckets: Map<String, Value> = starts
        .zip(BOUNDS_US)
        .zip(delays.buckets)
        .map(|((from, to), count)| (format!("{from}_to_{}_us", end(to)), count.into()))
        .collect();
    json!({ "average_delay_ms": average, "total_count": count, "buckets": buckets })
}

/// The control plane's executor, under the name of JVB's executor.
fn tasks() -> Value {
    let metrics = Handle::current().metrics();
    json!({ "CPU_POOL": {
        "executor_class": "tokio",
        "pool_size": metrics.num_workers(),
        "active_task_count": metrics.num_alive_tasks(),
        "pending_task_count": metrics.global_queue_depth(),
    } })
}
