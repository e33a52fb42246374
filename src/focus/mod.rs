//! (room: focus)
