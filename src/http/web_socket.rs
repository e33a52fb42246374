//! Bridge channels over WebSockets, on the public server:
//! `/colibri-ws/{server-id}/{conference}/{endpoint}?pwd=…`.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    body::Body,
    extract::{
        Path, Query, State, WebSocketUpgrade, rejection::QueryRejection,
        ws::rejection::WebSocketUpgradeRejection,
    },
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use sha1::{Digest as _, Sha1};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};

use super::{
    connection_slots::SlotHold,
    frames::{self, Event, Fault},
    refuse,
    socket::{ReadError, Socket},
};
use crate::{
    bridge::{Bridge, Channel},
    channel::{Outgoing, SocketEnd, message::MAX_BYTES},
    config::WebSockets,
};

/// How long the client may take to answer a close frame (RFC 6455 section 7.1.1).
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// Code and reason for an idle client (RFC 6455 section 7.4.1); channels have close reasons of their own.
const IDLE: (u16, &str) = (1001, "idle timeout");

struct Shared {
    bridge: Bridge,
    config: WebSockets,
}

/// Returns the route at which endpoints open their channels.
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

/// The parts of a connection that an upgrade needs: the upgrade itself, and the connection's slot.
type Upgradable = (Option<Extension<OnUpgrade>>, Option<Extension<SlotHold>>);

/// Opens a channel. Answers 404 for another server's id, and 403 for everything else that does not match,
/// without saying what.
async fn connect(
    State(shared): State<Arc<Shared>>,
    Path((server, conference, endpoint)): Path<(String, String, String)>,
    login: Result<Query<Login>, QueryRejection>,
    headers: HeaderMap,
    (on_upgrade, slot): Upgradable,
    checked: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    if server != shared.config.server_id {
        return refuse(StatusCode::NOT_FOUND, "Not Found");
    }
    let password = login.map_or_else(|_| String::new(), |Query(login)| login.pwd);
    let Some(permit) = shared.bridge.open_web_socket(&conference, &endpoint, &password).await
    else {
        return refuse(StatusCode::FORBIDDEN, "authentication failed");
    };
    if let Err(rejection) = checked {
        return rejection.into_response();
    }
    let (Some(Extension(on_upgrade)), Some(key)) =
        (on_upgrade, headers.get(header::SEC_WEBSOCKET_KEY))
    else {
        return refuse(StatusCode::UPGRADE_REQUIRED, "The connection cannot be upgraded");
    };
    tokio::spawn(async move {
        let Ok(upgraded) = on_upgrade.await else { return };
        // Opened after the handshake: a client that never completes it must not replace another channel.
        if let Some(channel) = permit.open().await {
            let socket = Socket::new(TokioIo::new(upgraded), MAX_BYTES);
            serve(&channel, socket, &shared.config).await;
        }
        drop(slot);
    });
    switching(key)
}

/// The server's half of the handshake (RFC 6455 section 4.2.2).
fn switching(key: &HeaderValue) -> Response {
    let mut digest = Sha1::new();
    digest.update(key.as_bytes());
    digest.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accept = BASE64_STANDARD.encode(digest.finalize());
    let headers = [
        (header::CONNECTION, "upgrade"),
        (header::UPGRADE, "websocket"),
        (header::SEC_WEBSOCKET_ACCEPT, accept.as_str()),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, headers, Body::empty()).into_response()
}

/// A connection that became a WebSocket.
type Upgraded = Socket<TokioIo<hyper::upgrade::Upgraded>>;

/// Serves a channel until either side closes it.
async fn serve(channel: &Channel, mut socket: Upgraded, config: &WebSockets) {
    let end = relay_messages(channel, &mut socket, config).await;
    let answer = match end {
        CloseCause::Client(how) => {
            channel.ended(how);
            let SocketEnd::Closed(code) = how else { return };
            frames::close_frame(code, "")
        }
        CloseCause::Server((code, reason)) => {
            if (code, reason) == IDLE {
                channel.ended(SocketEnd::Silent);
            }
            frames::close_frame(Some(code), reason)
        }
    };
    if socket.send(&answer).await.is_err() {
        return;
    }
    // Discard everything up to the client's close frame, if that has not arrived yet.
    if matches!(end, CloseCause::Server(_)) {
        let _ = timeout(CLOSE_LIMIT, socket.skip_to_close()).await;
    }
}

/// Which side closed the channel.
#[derive(Clone, Copy)]
enum CloseCause {
    /// The bridge, with this code and reason.
    Server((u16, &'static str)),
    /// The client, or its connection failed.
    Client(SocketEnd),
}

async fn relay_messages(
    channel: &Channel,
    socket: &mut Upgraded,
    config: &WebSockets,
) -> CloseCause {
    let period = config.ping_interval.max(Duration::from_millis(100));
    let mut pings = interval_at(Instant::now() + period, period);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let silent_at = socket.last_read() + config.idle_timeout;
        tokio::select! {
            received = socket.next() => match received {
                Ok(Event::Text(text)) => channel.received(&text),
                Ok(Event::Binary(length)) => channel.received_binary(length),
                Ok(Event::Ping(payload)) => {
                    if socket.send(&frames::pong(&payload)).await.is_err() {
                        return CloseCause::Client(SocketEnd::Silent);
                    }
                }
                Ok(Event::Pong | Event::Part) => {}
                Ok(Event::Close(code)) => return CloseCause::Client(SocketEnd::Closed(code)),
                Err(ReadError::Protocol(fault)) => return protocol_fault(channel, fault),
                Err(ReadError::Disconnected) => return CloseCause::Client(SocketEnd::Failed),
            },
            next = channel.next() => match next {
                Outgoing::Text(text) => {
                    if socket.send(&frames::text(&text)).await.is_err() {
                        return CloseCause::Client(SocketEnd::Silent);
                    }
                }
                Outgoing::Close(why) => return CloseCause::Server((why.code(), why.reason())),
            },
            _ = pings.tick(), if config.pings => {
                if socket.send(&frames::ping()).await.is_err() {
                    return CloseCause::Client(SocketEnd::Silent);
                }
            }
            () = sleep_until(silent_at) => return CloseCause::Server(IDLE),
        }
    }
}

/// Closes a channel after a client's protocol error, with the reason. A message that is too long does not
/// count as a failure.
fn protocol_fault(channel: &Channel, fault: Fault) -> CloseCause {
    if fault != Fault::TooLong {
        channel.ended(SocketEnd::Failed);
    }
    CloseCause::Server((fault.code(), fault.reason()))
}
