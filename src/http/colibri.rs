//! `/colibri/v2/conferences`: COLIBRI2 in JSON. A refused request gets 400 with a text; one for a
//! conference that does not exist gets 404 with an empty body.

use axum::{
    Json,
    body::Bytes,
    extract::{FromRequest as _, MatchedPath, Path, Request, State},
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse, Response},
};
use tracing::Instrument as _;

use super::{Shared, refuse};
use crate::{
    colibri::{
        ColibriError, Reason,
        json::{self, JsonError},
    },
    telemetry::{self, Parent, step},
};

/// Opens a tracing span for a request that carries `traceparent`.
pub(super) async fn traced(path: MatchedPath, request: Request, next: Next) -> Response {
    let parent = telemetry::is_on().then(|| Parent::from_headers(request.headers())).flatten();
    let Some(parent) = parent else { return next.run(request).await };
    let span = telemetry::http_request(parent, request.method().as_str(), path.as_str());
    let response = next.run(request).instrument(span.clone()).await;
    span.record("http.response.status_code", response.status().as_u16());
    response
}

/// `POST /colibri/v2/conferences`.
pub(super) async fn create(State(shared): State<Shared>, request: Request) -> Response {
    handle(&shared, request, None).await.unwrap_or_else(|refused| match refused {
        RequestError::Body(response) => response,
        RequestError::Json(error) => unreadable("create", &error),
        RequestError::Colibri(error) => {
            bad_request(&format!("Failed to create conference: {}", error.text))
        }
    })
}

/// `PATCH /colibri/v2/conferences/{meeting_id}`.
pub(super) async fn modify(
    State(shared): State<Shared>,
    Path(meeting_id): Path<String>,
    request: Request,
) -> Response {
    handle(&shared, request, Some(&meeting_id)).await.unwrap_or_else(|refused| match refused {
        RequestError::Body(response) => response,
        RequestError::Json(error) => unreadable("patch", &error),
        RequestError::Colibri(error) if error.reason == Some(Reason::ConferenceNotFound) => {
            refuse(StatusCode::NOT_FOUND, "")
        }
        RequestError::Colibri(error) => {
            bad_request(&format!("Failed to patch conference: {}", error.text))
        }
    })
}

/// `GET /colibri/v2/conferences/{meeting_id}/dominant-speaker-identification`.
pub(super) async fn speakers(
    State(shared): State<Shared>,
    Path(meeting_id): Path<String>,
) -> Response {
    match shared.bridge.speech_activity(&meeting_id).await {
        Some(activity) => Json(activity).into_response(),
        None => refuse(StatusCode::NOT_FOUND, ""),
    }
}

enum RequestError {
    Body(Response),
    Json(JsonError),
    Colibri(ColibriError),
}

async fn handle(
    shared: &Shared,
    request: Request,
    meeting_id: Option<&str>,
) -> Result<Response, RequestError> {
    let read = async {
        let body = Bytes::from_request(request, &()).await;
        let body = body.map_err(|error| RequestError::Body(error.into_response()))?;
        json::read_conference_modify(&body, meeting_id).map_err(RequestError::Json)
    };
    let request = read.instrument(step!("read")).await?;
    let answer = shared.bridge.modify(request).await.map_err(RequestError::Colibri)?;
    let write = || Json(json::write_conference_modified(&answer)).into_response();
    Ok(step!("answer").in_scope(write))
}

fn unreadable(what: &str, error: &JsonError) -> Response {
    bad_request(&match error {
        JsonError::Syntax(_) => format!("Failed to {what} conference, {error}"),
        _ => format!("Failed to parse ConferenceModify JSON:{error}"),
    })
}

fn bad_request(text: &str) -> Response {
    refuse(StatusCode::BAD_REQUEST, text)
}
