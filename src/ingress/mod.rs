//! (room: ingress)
