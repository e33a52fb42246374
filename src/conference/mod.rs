//! (room: conference)
