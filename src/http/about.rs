//! `/about`: the bridge's health and version.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{Shared, VERSION, refuse};
use crate::bridge::HealthError;

/// Answers 200 without a body when the bridge is healthy, 500 with the reason when it cannot recover
/// without a restart, and 503 with the reason when it may recover.
pub(super) async fn health(State(shared): State<Shared>) -> Response {
    answer(shared.report.health())
}

fn answer(health: Result<(), HealthError>) -> Response {
    match health {
        Ok(()) => StatusCode::OK.into_response(),
        Err(error) if error.hard => refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.message),
        Err(error) => refuse(StatusCode::SERVICE_UNAVAILABLE, &error.message),
    }
}

/// Returns `Rialto` rather than JVB's name: neither Jicofo nor the clients read it, and it tells an
/// operator which bridge answers.
pub(super) async fn version() -> Response {
    let os = match std::env::consts::OS {
        "linux" => "Linux",
        "macos" => "Mac OS X",
        other => other,
    };
    Json(json!({"name": "Rialto", "version": VERSION, "os": os})).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_that_may_pass_is_503_and_one_that_will_not_is_500() {
        let failed = |hard| answer(Err(HealthError { hard, message: "why".to_owned() })).status();
        assert_eq!(answer(Ok(())).status(), 200);
        assert_eq!(failed(false), 503);
        assert_eq!(failed(true), 500);
    }
}
