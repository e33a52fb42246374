//! `/debug`: the state of the bridge, for people; `/stats`: what of it may be collected.

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

/// All conferences: names only, unless `?full=true`.
pub(super) async fn all(State(shared): State<Shared>, Query(query): Query<Full>) -> Response {
    Json(shared.bridge.debug(query.is(false)).await).into_response()
}

/// One conference, by the bridge's id for it; in full, unless `?full=false`.
pub(super) async fn conference(
    State(shared): State<Shared>,
    Path(conference): Path<String>,
    Query(query): Query<Full>,
) -> Response {
    let state = shared.bridge.debug_conference(&conference, None, query.is(true)).await;
    Json(state).into_response()
}

/// One endpoint, likewise.
pub(super) async fn endpoint(
    State(shared): State<Shared>,
    Path((conference, endpoint)): Path<(String, String)>,
    Query(query): Query<Full>,
) -> Response {
    let state = shared.bridge.debug_conference(&conference, Some(&endpoint), query.is(true)).await;
    Json(state).into_response()
}

/// Conferences whose focus said `rtcstats-enabled`, in full.
pub(super) async fn collected(State(shared): State<Shared>) -> Response {
    Json(shared.bridge.debug_collected().await).into_response()
}

/// Where `/debug` once was.
pub(super) async fn moved(uri: Uri) -> Response {
    let to = uri.path_and_query().map_or("", |target| target.as_str());
    let to = to.strip_prefix("/colibri").unwrap_or("/debug").to_owned();
    (StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, to)]).into_response()
}

/// Where statistics of the bridge's parts once were.
pub(super) async fn stats_moved(Path(what): Path<String>) -> Response {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let to = if what.chars().all(plain) { what } else { String::new() };
    let to = format!("/debug/stats/jvb/{to}");
    (StatusCode::FOUND, [(header::LOCATION, to)]).into_response()
}
