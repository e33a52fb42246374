//! The focus of `rialto dev`: rooms, offers and answers, the signalling WebSocket and its page. It sends
//! the bridge the requests that Jicofo would send: to create conferences and endpoints, to set their
//! transports, formats and sources, to restart ICE, and to expire them.

mod answer;
mod formats;
mod message;
mod offer;
mod page;
mod room;
pub mod sdp;
mod session;
mod socket;

use std::sync::Arc;

use axum::{Router, routing::get};

pub use room::{RoomLimits, is_room_name};

use crate::bridge::Bridge;

/// State shared by the handlers.
#[derive(Debug)]
struct Focus {
    bridge: Bridge,
    rooms: Arc<room::Rooms>,
}

/// Returns the routes: the page at `/` and `/<room>`, its files and its WebSocket under `/_rialto/`.
pub fn router(bridge: Bridge, limits: RoomLimits) -> Router {
    let focus = Arc::new(Focus { bridge, rooms: room::Rooms::new(limits) });
    Router::new().route("/_rialto/ws", get(socket::upgrade)).with_state(focus).merge(page::router())
}
