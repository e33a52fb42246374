//! COLIBRI2, the allocation protocol between a focus and a bridge: requests and answers as types,
//! and their XML and JSON forms. No I/O.
//!
//! The types can represent everything that the XML form (`jitsi:colibri2`) has, so both forms are parsed into
//! and written from the same values.

mod convert;
mod error;
pub mod json;
mod media;
mod request;
mod transport;
pub mod v1;
pub mod xml;

pub use convert::{
    MAX_SOURCES, MAX_SSRCS, PlannedSource, SourceError, extension, payload_type, plan_sources,
};
pub use error::{ColibriError, Condition, Reason};
pub use media::{Media, MediaSource, Parameter, PayloadType, RtcpFb, RtpHdrExt, Source, SsrcGroup};
pub use request::{
    ByChannels, Colibri2Endpoint, Colibri2Relay, ConferenceModified, ConferenceModify, Connect,
    ForceMute, HttpHeader, MucRole, Ping, TraceParent, capability,
};
pub use transport::{
    Candidate, Fingerprint, ICE_UDP_NAMESPACE, IceUdp, SCTP_PORT, Sctp, SctpRole, Transport,
    WebSocket,
};
