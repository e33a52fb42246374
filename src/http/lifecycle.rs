//! `/colibri/drain` and `/colibri/shutdown`.

use axum::{
    Json,
    body::Bytes,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{Shared, refuse};

pub(super) async fn drain(State(shared): State<Shared>) -> Response {
    Json(json!({"drain": shared.bridge.drain()})).into_response()
}

pub(super) async fn enable_drain(State(shared): State<Shared>) -> StatusCode {
    shared.bridge.set_drain(true);
    StatusCode::OK
}

pub(super) async fn disable_drain(State(shared): State<Shared>) -> StatusCode {
    shared.bridge.set_drain(false);
    StatusCode::OK
}

/// Shuts down: `{"graceful-shutdown": true}` waits for the endpoints to leave, `false` does not. The
/// strings "true" and "false" are accepted too, as in JVB. A missing value is an error, so that no client
/// ends calls by omission.
pub(super) async fn shutdown(State(shared): State<Shared>, body: Bytes) -> Response {
    let Ok(Value::Object(fields)) = serde_json::from_slice(&body) else {
        return refuse(StatusCode::BAD_REQUEST, "the body must be a JSON object");
    };
    let graceful = match fields.get("graceful-shutdown") {
        Some(Value::Bool(graceful)) => *graceful,
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => true,
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => false,
        _ => {
            return refuse(StatusCode::BAD_REQUEST, "graceful-shutdown: must be true or false");
        }
    };
    if graceful {
        shared.bridge.graceful_shutdown();
    } else {
        shared.bridge.shutdown();
    }
    StatusCode::OK.into_response()
}
