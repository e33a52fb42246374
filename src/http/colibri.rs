//! `/colibri/v2/conferences`: COLIBRI2 in JSON. Every refusal is 400 with a text, except that a
//! conference that does not exist is 404 without one.

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::{Shared, refuse};
use crate::colibri::{
    ColibriError, Reason,
    json::{self, JsonError},
};

/// `POST /colibri/v2/conferences`.
pub(super) async fn create(State(shared): State<Shared>, body: Bytes) -> Response {
    handle(&shared, &body, None).await.unwrap_or_else(|refused| match refused {
        Refused::Json(error) => unreadable("create", &error),
        Refused::Colibri(error) => {
            bad_request(&format!("Failed to create conference: {}", error.text))
        }
    })
}

/// `PATCH /colibri/v2/conferences/{meeting_id}`.
pub(super) async fn modify(
    State(shared): State<Shared>,
    Path(meeting_id): Path<String>,
    body: Bytes,
) -> Response {
    handle(&shared, &body, Some(&meeting_id)).await.unwrap_or_else(|refused| match refused {
        Refused::Json(error) => unreadable("patch", &error),
        Refused::Colibri(error) if error.reason == Some(Reason::ConferenceNotFound) => {
            refuse(StatusCode::NOT_FOUND, "")
        }
        Refused::Colibri(error) => {
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

enum Refused {
    Json(JsonError),
    Colibri(ColibriError),
}

async fn handle(
    shared: &Shared,
    body: &[u8],
    meeting_id: Option<&str>,
) -> Result<Response, Refused> {
    let request = json::read_conference_modify(body, meeting_id).map_err(Refused::Json)?;
    let answer = shared.bridge.modify(request).await.map_err(Refused::Colibri)?;
    Ok(Json(json::write_conference_modified(&answer)).into_response())
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
