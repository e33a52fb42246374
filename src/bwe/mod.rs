//! (room: bwe)
