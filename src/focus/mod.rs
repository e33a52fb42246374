//! The focus of `rialto dev`: rooms, offers and answers, the signalling WebSocket and its page.

pub mod sdp;
