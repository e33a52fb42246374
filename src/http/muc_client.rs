//! `/colibri/muc-client`: adds and removes XMPP clients while the bridge runs.

use axum::{
    Json,
    body::Bytes,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::Value;

use super::{Shared, refuse};
use crate::config::XmppClient;

/// Returns the ids of all clients.
pub(super) async fn list(State(shared): State<Shared>) -> Response {
    Json(shared.clients.map(|clients| clients.list()).unwrap_or_default()).into_response()
}

/// Connects a client: an object with `id`, and the keys of `videobridge.apis.xmpp-client.configs.*`.
pub(super) async fn add(State(shared): State<Shared>, body: Bytes) -> Response {
    let Some(clients) = shared.clients else {
        return refuse(StatusCode::BAD_REQUEST, "This bridge has no XMPP clients");
    };
    match read(&body).and_then(|(id, fields)| XmppClient::from_fields(&id, fields)) {
        Ok(client) => {
            tracing::info!(client = client.id, "XMPP client added over HTTP");
            clients.add(client);
            StatusCode::OK.into_response()
        }
        Err(why) => refuse(StatusCode::BAD_REQUEST, &why),
    }
}

/// Disconnects a client: an object with `id`. An unknown id is not an error, as in JVB.
pub(super) async fn remove(State(shared): State<Shared>, body: Bytes) -> Response {
    match read(&body) {
        Ok((id, _)) => {
            let removed = shared.clients.is_some_and(|clients| clients.remove(&id));
            tracing::info!(client = id, removed, "XMPP client removed over HTTP");
            StatusCode::OK.into_response()
        }
        Err(why) => refuse(StatusCode::BAD_REQUEST, &why),
    }
}

/// Reads the id and the other fields.
pub(super) fn read(body: &[u8]) -> Result<(String, Vec<(String, String)>), String> {
    let value: Value = serde_json::from_slice(body).map_err(|error| format!("no JSON: {error}"))?;
    let Value::Object(fields) = value else { return Err("needs an object".to_owned()) };
    let mut id = None;
    let mut others = Vec::new();
    for (name, value) in fields {
        let text = match value {
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            _ => return Err(format!("{}: needs a text", name.escape_debug())),
        };
        if name == "id" {
            id = Some(text);
        } else {
            others.push((name, text));
        }
    }
    let plain = |id: &String| !id.is_empty() && id.len() <= 256 && !id.contains(char::is_control);
    id.filter(plain).map(|id| (id, others)).ok_or_else(|| "needs an id".to_owned())
}
