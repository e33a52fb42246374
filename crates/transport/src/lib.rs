//! Transports: for each endpoint an ICE agent (RFC 8445), a DTLS association (RFC 5764) and, if
//! signalled, an SCTP association with a data channel (RFC 8831).
//!
//! Everything but [`Transports`] is sans-IO: the inputs of [`hub::Hub`] are datagrams and the time,
//! its outputs are commands for the engine. A hub and a loop per core serve all endpoints; an
//! endpoint has no task, timer or socket of its own.
//!
//! ```text
//!  engine ──TransportEvent──▶ Transports::run ─┬▶ Hub ─▶ Session (one endpoint)
//!     ▲                                        ├▶ Hub      ├─ ice::Agent   (crate `is`)
//!     │                                        └▶ Hub      ├─ dtls::Dtls   (crates `dimpl`, `openssl`)
//!     └────────────────TransportCommand───────────┘        └─ sctp::Sctp   (crate `sctp-proto`)
//! ```
//!
//! Everything that a peer can make grow is bounded: addresses and candidate pairs of an endpoint,
//! requests in flight, candidates, fingerprints, packets that wait for a path, streams and messages
//! of SCTP.
#![forbid(unsafe_code)]

mod candidates;
mod certificate;
mod command;
mod common;
mod config;
mod crc;
mod dtls;
mod fingerprint;
pub mod fuzz;
mod handle;
pub mod harvest;
pub mod hub;
mod ice;
mod redact;
pub(crate) mod sctp;
mod session;
mod silence;
pub mod stun;
mod types;
mod ufrag;

pub use candidates::{Interface, advertised, local_addresses};
pub use certificate::CertificateError;
pub use command::{CommandSink, TransportCommand};
pub use config::{StaticMapping, TransportConfig};
pub use fingerprint::{Fingerprint, FingerprintError, Hash, Setup};
pub use handle::Transports;
pub use hub::HubError;
pub use redact::{Redacted, redact, redact_ip, set_redaction};
pub use sctp::SendError;
pub use silence::Unreachable;
pub use types::*;
