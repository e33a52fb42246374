//! `/colibri/stats`: what a bridge publishes about itself, as JSON.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value};

use super::{Shared, VERSION};
use crate::stats::{Surroundings, published, threads};

pub(super) async fn stats(State(shared): State<Shared>) -> Response {
    let around = Surroundings {
        now: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        version: VERSION.to_owned(),
        release: shared.release.as_deref().map(str::to_owned),
        threads: threads(),
        ..Surroundings::default()
    };
    let fields: Map<String, Value> = published(&shared.bridge.stats(), &around)
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    Json(fields).into_response()
}
