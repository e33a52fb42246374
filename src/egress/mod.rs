//! (room: egress)
