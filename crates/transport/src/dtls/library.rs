//! The common interface of the two DTLS libraries.

use std::time::Instant;

use bytes::Bytes;
use rialto_srtp::{Keying, Profile};

/// What an association wants or reports.
#[derive(Debug)]
pub(crate) enum DtlsEvent {
    /// Send this to the peer.
    Packet(Bytes),
    /// The peer's certificate (DER). To be checked before any key is used.
    Certificate(Vec<u8>),
    /// The SRTP keys.
    Keys(Keying),
    /// The handshake is done.
    Connected,
    /// Application data from the peer, whose certificate may not have been checked yet.
    Data(Bytes),
    /// The peer closed it.
    Closed,
}

/// Why an association ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DtlsError {
    /// The handshake took too long.
    #[error("timed out")]
    Timeout,
    /// dimpl reported an error.
    #[error("{0}")]
    Protocol(#[from] dimpl::Error),
    /// OpenSSL reported an error, with its text.
    #[error("{0}")]
    Other(String),
    /// The library panicked; nothing else is affected.
    #[error("the DTLS library failed")]
    Library,
}

/// A handshake, and the association after it. Sans-IO: call [`Self::poll`] after each call.
pub(super) trait Library: Send + Sync {
    /// Handles a datagram. Malformed records are ignored; an error is final.
    fn handle(&mut self, now: Instant, datagram: &[u8]) -> Result<(), DtlsError>;

    /// Handles the time passing.
    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsError>;

    /// Sends application data as one record.
    fn send(&mut self, data: &[u8]) -> Result<(), DtlsError>;

    /// Sends `close_notify`.
    fn close(&mut self) -> Result<(), DtlsError>;

    /// Appends new events to `events`.
    fn poll(&mut self, events: &mut Vec<DtlsEvent>) -> Result<(), DtlsError>;

    /// When [`Self::handle_timeout`] is due.
    fn poll_timeout(&self) -> Option<Instant>;

    /// `1.2` or `1.3`, once known.
    fn version(&self) -> Option<&'static str>;
}

/// The exporter's output is the client's key, the server's key, the client's salt, the server's salt
/// (RFC 5764 section 4.2).
pub(super) fn keying(material: &[u8], profile: Profile, client: bool) -> Option<Keying> {
    let (key, salt) = (profile.key_len(), profile.salt_len());
    if material.len() != 2 * (key + salt) {
        return None;
    }
    let (keys, salts) = material.split_at_checked(2 * key)?;
    let (client_key, server_key) = keys.split_at_checked(key)?;
    let (client_salt, server_salt) = salts.split_at_checked(salt)?;
    let of_client = [client_key, client_salt].concat();
    let of_server = [server_key, server_salt].concat();
    let (send, receive) = if client { (of_client, of_server) } else { (of_server, of_client) };
    Some(Keying { profile, receive, send })
}
