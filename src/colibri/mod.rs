//! (room: colibri)
