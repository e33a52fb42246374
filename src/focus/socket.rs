//! The signalling WebSocket: one task for each page.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    body::Bytes,
    extract::{
        Extension, Query, State, WebSocketUpgrade,
        ws::{Message, WebSocket},
    },
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use rialto_media::{Rate, TokenBucket};
use serde::Deserialize;
use tokio::{
    sync::broadcast::error::RecvError,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{Focus, message::ToPage, room::Membership, sdp, session::Session};
use crate::{bridge::ConferenceEvent, http::SlotHold};

/// Maximum bytes of a message from a page: a description with some margin.
const MAX_MESSAGE: usize = sdp::MAX_BYTES + 64 * 1024;
/// Bytes per read. The library keeps a buffer of this size for each page.
const READ_BUFFER: usize = 4 << 10;
/// Rate limit of a page's messages: 20 a second, in bursts of 200.
const MESSAGES: Rate = Rate::per_second(20, 200);
/// How often the bridge's view is sent and the page is pinged.
const TICK: Duration = Duration::from_secs(1);
/// A page from which nothing arrives for this long is disconnected.
const SILENCE: Duration = Duration::from_secs(30);
/// A page that does not accept a message for this long is disconnected.
const SEND_LIMIT: Duration = Duration::from_secs(10);

/// The query of the page's connection request.
#[derive(Debug, Deserialize)]
pub(super) struct Hello {
    room: String,
    #[serde(default)]
    name: String,
}

/// `GET /_rialto/ws?room=..&name=..`.
pub(super) async fn upgrade(
    State(focus): State<Arc<Focus>>,
    Query(hello): Query<Hello>,
    headers: HeaderMap,
    slot: Option<Extension<SlotHold>>,
    upgrade: WebSocketUpgrade,
) -> Response {
    if !same_origin(&headers) {
        return (StatusCode::FORBIDDEN, "pages of other origins cannot join\n").into_response();
    }
    upgrade
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE)
        .read_buffer_size(READ_BUFFER)
        .on_upgrade(move |socket| async move {
            serve(focus, hello, socket).await;
            drop(slot);
        })
}

/// Returns whether the page is from this server: a page of another site must not join in its visitor's
/// name. Clients other than browsers send no `Origin`.
fn same_origin(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let Some(host) = headers.get(header::HOST) else { return false };
    let (Ok(origin), Ok(host)) = (origin.to_str(), host.to_str()) else { return false };
    origin.split_once("://").is_some_and(|(_, origin)| origin.eq_ignore_ascii_case(host))
}

async fn serve(focus: Arc<Focus>, hello: Hello, mut socket: WebSocket) {
    let membership = match focus.rooms.join(&hello.room, &hello.name) {
        Ok(membership) => membership,
        Err(error) => {
            let closed = ToPage::Closed { message: error.to_string(), retry: false };
            send(&mut socket, &closed).await;
            return;
        }
    };
    if let Some(closed) = call(&focus, membership, &mut socket).await {
        send(&mut socket, &closed).await;
    }
    let _ = timeout(SEND_LIMIT, socket.send(Message::Close(None))).await;
}

/// Runs the session. Returns the last message to the page, if it can still receive one.
async fn call(focus: &Focus, membership: Membership, socket: &mut WebSocket) -> Option<ToPage> {
    let room = membership.room.clone();
    let id = membership.id.clone();
    let mut session = match Session::open(focus.bridge.clone(), membership).await {
        Ok(session) => session,
        Err(error) => {
            tracing::warn!(room = %room.name, endpoint = %id, %error, "a page cannot join");
            return Some(ToPage::Closed { message: error.to_string(), retry: false });
        }
    };
    tracing::info!(room = %room.name, conference = %room.meeting_id, endpoint = %id, "joined");
    let last = converse(focus, &mut session, socket).await;
    session.close().await;
    tracing::info!(room = %room.name, conference = %room.meeting_id, endpoint = %id, "left");
    last
}

async fn converse(focus: &Focus, session: &mut Session, socket: &mut WebSocket) -> Option<ToPage> {
    let mut events = focus.bridge.watch(&session.room().meeting_id)?;
    let mut changed = session.room().watch();
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut budget = TokenBucket::default();
    let mut heard = Instant::now();
    let mut out = session.greet().await;
    loop {
        for message in out.drain(..) {
            if !send(socket, &message).await {
                return None;
            }
        }
        tokio::select! {
            received = socket.recv() => {
                let now = Instant::now();
                heard = now;
                let text = match received {
                    Some(Ok(Message::Text(text))) => text,
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                    Some(Ok(_)) => continue,
                };
                if !budget.take(&MESSAGES, 1, now) {
                    return Some(closed("too many messages", false));
                }
                match session.on_text(&text).await {
                    Ok(messages) => out = messages,
                    Err(error) => return Some(closed(&error.to_string(), true)),
                }
            }
            alive = changed.changed() => {
                alive.ok()?;
                out = session.on_room_change().await;
            }
            event = events.recv() => match on_event(session, event) {
                Ok(message) => out.extend(message),
                Err(last) => return Some(last),
            },
            _ = tick.tick() => {
                if heard.elapsed() > SILENCE {
                    return None;
                }
                let ping = timeout(SEND_LIMIT, socket.send(Message::Ping(Bytes::new()))).await;
                if !matches!(ping, Ok(Ok(()))) {
                    return None;
                }
                match session.on_tick().await {
                    Ok(message) => out.extend(message),
                    Err(error) => return Some(closed(&error.to_string(), true)),
                }
            }
        }
    }
}

/// Maps an event to a message to the page; an error is the last message, once the endpoint is out of the
/// conference.
fn on_event(
    session: &Session,
    event: Result<ConferenceEvent, RecvError>,
) -> Result<Option<ToPage>, ToPage> {
    match event {
        Ok(ConferenceEvent::DominantSpeaker { endpoint, .. }) => {
            Ok(Some(ToPage::Speaker { id: Some(endpoint) }))
        }
        Ok(ConferenceEvent::EndpointExpired { endpoint }) if endpoint == session.id() => {
            Err(closed("nothing came from this page for too long", true))
        }
        Ok(ConferenceEvent::ConferenceExpired) | Err(RecvError::Closed) => {
            Err(closed("the conference has ended", true))
        }
        Ok(_) | Err(RecvError::Lagged(_)) => Ok(None),
    }
}

fn closed(message: &str, retry: bool) -> ToPage {
    ToPage::Closed { message: message.to_owned(), retry }
}

/// Sends a message. Returns false when the page is gone.
async fn send(socket: &mut WebSocket, message: &ToPage) -> bool {
    let Ok(text) = serde_json::to_string(message) else { return false };
    matches!(timeout(SEND_LIMIT, socket.send(Message::Text(text.into()))).await, Ok(Ok(())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_cannot_flood() {
        let start = Instant::now();
        let mut budget = TokenBucket::default();
        let mut take = |at| budget.take(&MESSAGES, 1, at);
        assert!((0..200).all(|_| take(start)));
        assert!(!take(start));
        let later = start + Duration::from_secs(1);
        assert!((0..20).all(|_| take(later)));
        assert!(!take(later));
    }

    #[test]
    fn only_pages_of_the_same_origin_join() {
        let headers = |origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, "127.0.0.1:8080".parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            headers
        };
        assert!(same_origin(&headers(None)));
        assert!(same_origin(&headers(Some("http://127.0.0.1:8080"))));
        assert!(same_origin(&headers(Some("https://127.0.0.1:8080"))));
        assert!(!same_origin(&headers(Some("http://127.0.0.1:8081"))));
        assert!(!same_origin(&headers(Some("https://example.org"))));
        assert!(!same_origin(&headers(Some("null"))));
    }
}
