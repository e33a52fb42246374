//! Bridge channels over WebSockets, on the public server:
//! `/colibri-ws/{server-id}/{conference}/{endpoint}?pwd=…`.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::{
        Path, Query, State, WebSocketUpgrade,
        rejection::QueryRejection,
        ws::{CloseFrame, Message, WebSocket, rejection::WebSocketUpgradeRejection},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};

use super::refuse;
use crate::{
    bridge::{Bridge, Channel},
    channel::{Outgoing, SocketEnd, message::MAX_BYTES},
    config::WebSockets,
};

/// A client that does not take a message for so long is gone.
const SEND_LIMIT: Duration = Duration::from_secs(10);

/// How long the other side may take to answer a close frame (RFC 6455 section 7.1.1).
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// Past this a message is not even received; up to it there is a close frame that says why.
const FRAME_BYTES: usize = 2 * MAX_BYTES;

/// Why a socket is closed, beside what a channel says (RFC 6455 section 7.4.1).
const IDLE: (u16, &str) = (1001, "idle timeout");
const TOO_LONG: (u16, &str) = (1009, "message too long");

struct Shared {
    bridge: Bridge,
    config: WebSockets,
}

/// Where endpoints open their channels.
pub fn web_sockets(bridge: Bridge, config: &WebSockets) -> Router {
    Router::new()
        .route("/colibri-ws/{server}/{conference}/{endpoint}", get(connect))
        .with_state(Arc::new(Shared { bridge, config: config.clone() }))
}

#[derive(Deserialize)]
struct Login {
    #[serde(default)]
    pwd: String,
}

/// 404 for another server's address. What is wrong with the rest is not told: 403.
async fn connect(
    State(shared): State<Arc<Shared>>,
    Path((server, conference, endpoint)): Path<(String, String, String)>,
    login: Result<Query<Login>, QueryRejection>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    if server != shared.config.server_id {
        return refuse(StatusCode::NOT_FOUND, "Not Found");
    }
    let password = login.map_or_else(|_| String::new(), |Query(login)| login.pwd);
    let Some(permit) = shared.bridge.open_web_socket(&conference, &endpoint, &password) else {
        return refuse(StatusCode::FORBIDDEN, "authentication failed");
    };
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => return rejection.into_response(),
    };
    upgrade.max_message_size(FRAME_BYTES).max_frame_size(FRAME_BYTES).on_upgrade(
        move |socket| async move {
            // A client that never completes the handshake must not replace another channel.
            if let Some(channel) = permit.open() {
                serve(&channel, socket, &shared.config).await;
            }
        },
    )
}

/// Until either side ends it.
async fn serve(channel: &Channel, mut socket: WebSocket, config: &WebSockets) {
    let end = converse(channel, &mut socket, config).await;
    if let End::Theirs(how) = end {
        channel.ended(how);
    }
    if let End::Ours((code, reason)) = end {
        if (code, reason) == IDLE {
            channel.ended(SocketEnd::Silent);
        }
        let frame = CloseFrame { code, reason: reason.into() };
        if !send(&mut socket, Message::Close(Some(frame))).await {
            return;
        }
    }
    // What still comes is not for us, up to the other side's close frame; ours is an answer to that.
    let end = async { while let Some(Ok(_)) = socket.recv().await {} };
    let _ = timeout(CLOSE_LIMIT, end).await;
}

/// Who ended the conversation.
enum End {
    /// We did, with this code and reason.
    Ours((u16, &'static str)),
    /// The client did, or is gone.
    Theirs(SocketEnd),
}

async fn converse(channel: &Channel, socket: &mut WebSocket, config: &WebSockets) -> End {
    let period = config.ping_interval.max(Duration::from_millis(100));
    let mut pings = interval_at(Instant::now() + period, period);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    loop {
        tokio::select! {
            received = socket.recv() => {
                heard = Instant::now();
                let Some(received) = received else { return End::Theirs(SocketEnd::Failed) };
                match received {
                    Ok(Message::Text(text)) if text.len() > MAX_BYTES => return End::Ours(TOO_LONG),
                    Ok(Message::Text(text)) => channel.received(&text),
                    Ok(Message::Binary(bytes)) => channel.received_binary(bytes.len()),
                    Ok(Message::Ping(_) | Message::Pong(_)) => {}
                    Ok(Message::Close(frame)) => {
                        return End::Theirs(SocketEnd::Closed(frame.map(|frame| frame.code)));
                    }
                    Err(_) => return End::Theirs(SocketEnd::Failed),
                }
            }
            next = channel.next() => match next {
                Outgoing::Text(text) => {
                    if !send(socket, Message::Text((&*text).into())).await {
                        return End::Theirs(SocketEnd::Silent);
                    }
                }
                Outgoing::Close(why) => return End::Ours((why.code(), why.reason())),
            },
            _ = pings.tick(), if config.pings => {
                if !send(socket, Message::Ping(Bytes::new())).await {
                    return End::Theirs(SocketEnd::Silent);
                }
            }
            () = sleep_until(heard + config.idle_timeout) => return End::Ours(IDLE),
        }
    }
}

/// False when the client is gone.
async fn send(socket: &mut WebSocket, message: Message) -> bool {
    matches!(timeout(SEND_LIMIT, socket.send(message)).await, Ok(Ok(())))
}
