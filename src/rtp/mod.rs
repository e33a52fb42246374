//! (room: rtp)
