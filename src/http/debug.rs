//! `/debug`: the state of the bridge, for people.

use axum::{
    Json,
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
};
use serde::Deserialize;

use super::Shared;

#[derive(Deserialize)]
pub(super) struct Full {
    full: Option<String>,
}

/// All conferences: names only, unless `?full=true`.
pub(super) async fn all(State(shared): State<Shared>, Query(query): Query<Full>) -> Response {
    Json(shared.bridge.debug(query.full.as_deref() == Some("true"))).into_response()
}

/// One conference, by the bridge's id for it, in full.
pub(super) async fn conference(
    State(shared): State<Shared>,
    Path(conference): Path<String>,
) -> Response {
    Json(shared.bridge.debug_conference(&conference)).into_response()
}

/// One endpoint, in full.
pub(super) async fn endpoint(
    State(shared): State<Shared>,
    Path((conference, endpoint)): Path<(String, String)>,
) -> Response {
    Json(shared.bridge.debug_endpoint(&conference, &endpoint)).into_response()
}
