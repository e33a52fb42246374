//! `/debug`: the state of the bridge, for operators; `/stats`: the part of it that collectors may read.

use axum::{
    Json,
    extract::{Path, Query, State},
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;

use super::Shared;

#[derive(Deserialize)]
pub(super) struct Full {
    full: Option<String>,
}

impl Full {
    fn is(&self, or: bool) -> bool {
        self.full.as_deref().map_or(or, |full| full == "true")
    }
}

/// Lists all conferences: names only, unless `?full=true`.
pub(super) async fn all(State(shared): State<Shared>, Query(query): Query<Full>) -> Response {
    Json(shared.bridge.debug(query.is(false)).await).into_response()
}

/// Returns one conference by the bridge's id: in full, unless `?full=false`.
pub(super) async fn conference(
    State(shared): State<Shared>,
    Path(conference): Path<String>,
    Query(query): Query<Full>,
) -> Response {
    let state = shared.bridge.debug_conference(&conference, None, query.is(true)).await;
    Json(state).into_response()
}

/// Returns one endpoint: in full, unless `?full=false`.
pub(super) async fn endpoint(
    State(shared): State<Shared>,
    Path((conference, endpoint)): Path<(String, String)>,
    Query(query): Query<Full>,
) -> Response {
    let state = shared.bridge.debug_conference(&conference, Some(&endpoint), query.is(true)).await;
    Json(state).into_response()
}

/// Returns, in full, the conferences whose focus set `rtcstats-enabled`.
pub(super) async fn collected(State(shared): State<Shared>) -> Response {
    Json(shared.bridge.debug_collected().await).into_response()
}

/// Redirects an old path of `/debug`.
pub(super) async fn moved(uri: Uri) -> Response {
    let to = uri.path_and_query().map_or("", |target| target.as_str());
    let to = to.strip_prefix("/colibri").unwrap_or("/debug").to_owned();
    (StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, to)]).into_response()
}

/// Redirects the old paths of component statistics.
pub(super) async fn stats_moved(Path(what): Path<String>) -> Response {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let to = if what.chars().all(plain) { what } else { String::new() };
    let to = format!("/debug/stats/jvb/{to}");
    (StatusCode::FOUND, [(header::LOCATION, to)]).into_response()
}
