//! `/colibri/stats`: the statistics that the bridge publishes, as JSON.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value};

use super::Shared;

pub(super) async fn stats(State(shared): State<Shared>) -> Response {
    let all = shared.report.read().into_iter();
    let fields: Map<String, Value> =
        all.map(|(name, value)| (name.to_owned(), value.into())).collect();
    Json(fields).into_response()
}
