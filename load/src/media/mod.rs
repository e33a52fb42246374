//! The media that clients send and recognise: frame sizes, payloads, RTP headers, stamps.

pub mod frames;
pub mod packet;
pub mod stamp;
pub mod vp8;
