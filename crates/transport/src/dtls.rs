//! One DTLS association (RFC 6347, RFC 9147) that gives SRTP keys (RFC 5764), over the crate `dimpl`.

pub(super) mod hello;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use dimpl::{Error, Output, SrtpProfile, UnexpectedMessageError};
use rialto_srtp::{Keying, Profile};

use self::hello::{Abilities, Held, Version};
use super::{certificate::Certificate, config::TransportConfig};

/// First retransmission. RFC 9147 section 5.8.2 allows less than a second where the round trip is
/// known to be short; checks have just measured it, and it rarely is more than this.
const FIRST_RTO: Duration = Duration::from_millis(400);
/// Retransmissions of a flight; the limit for the whole handshake ends them earlier.
const RETRIES: usize = 10;
/// Larger than any record the library writes for our datagram size.
const SCRATCH: usize = 2048;
/// Outputs taken in one go: far more than a handshake has, so that a mistake cannot spin.
const MAX_OUTPUTS: usize = 256;

/// Settings that all associations share.
pub type SharedConfig = Arc<dimpl::Config>;

/// The library's settings. The server asks for no cookie: ICE has proved the return path already.
pub fn shared_config(config: &TransportConfig) -> Result<SharedConfig, Error> {
    dimpl::Config::builder()
        .handshake_timeout(config.dtls_timeout)
        .flight_start_rto(FIRST_RTO)
        .flight_retries(RETRIES)
        .use_server_cookie(false)
        .require_client_certificate(true)
        .build()
        .map(Arc::new)
}

/// What an association wants or tells.
pub enum Event {
    /// Send this to the peer.
    Packet(Bytes),
    /// The peer's certificate (DER), to be checked before any key is used.
    Certificate(Vec<u8>),
    /// The keys.
    Keys(Keying),
    /// The handshake is done.
    Connected,
    /// Application data of the peer, whose certificate may not have been checked yet.
    Data(Bytes),
    /// The peer closed it.
    Closed,
}

/// Why an association ended.
#[derive(Debug, thiserror::Error)]
pub enum DtlsError {
    /// The handshake took too long.
    #[error("timed out")]
    Timeout,
    /// The library gave up.
    #[error("{0}")]
    Protocol(#[from] Error),
    /// The library has a defect that this input shows; nothing else is touched by it.
    #[error("the DTLS library failed")]
    Library,
}

/// A DTLS client or server. A client has 1.3, or 1.2 with a server that has no more. A server has the
/// version under which SRTP gets the better cipher ([`hello`]).
pub struct Dtls {
    state: State,
    client: bool,
    next: Option<Instant>,
}

enum State {
    /// A server that has not seen the whole ClientHello.
    Listening(Listening),
    /// The library has it.
    Running(Box<dimpl::Dtls>),
}

struct Listening {
    config: SharedConfig,
    pair: dimpl::DtlsCertificate,
    held: Held,
}

impl Dtls {
    /// A client sends its ClientHello with the first [`Self::poll`].
    pub fn new(
        config: &SharedConfig,
        certificate: &Certificate,
        client: bool,
        now: Instant,
    ) -> Result<Self, DtlsError> {
        let (config, pair) = (Arc::clone(config), certificate.pair.clone());
        if !client {
            let listening = Listening { config, pair, held: Held::default() };
            return Ok(Self { state: State::Listening(listening), client, next: None });
        }
        guarded(|| {
            let mut inner = Box::new(dimpl::Dtls::new_auto(config, pair, now));
            inner.set_active(true);
            inner.handle_timeout(now)?;
            Ok(Self { state: State::Running(inner), client, next: Some(now) })
        })
    }

    /// Whether we are the client.
    pub fn is_client(&self) -> bool {
        self.client
    }

    /// `1.2` or `1.3`, once it is known.
    pub fn version(&self) -> Option<&'static str> {
        let State::Running(inner) = &self.state else { return None };
        match inner.protocol_version()? {
            dimpl::ProtocolVersion::DTLS1_2 => Some("1.2"),
            dimpl::ProtocolVersion::DTLS1_3 => Some("1.3"),
            _ => None,
        }
    }

    /// Takes a datagram. Malformed records are ignored by the library; an error is final.
    pub fn handle(&mut self, now: Instant, datagram: &[u8]) -> Result<(), DtlsError> {
        let state = &mut self.state;
        guarded(|| match state {
            State::Listening(listening) => {
                let Some(version) = listening.take(datagram) else { return Ok(()) };
                let held = std::mem::take(&mut listening.held);
                let mut inner = Box::new(listening.answer(version, now));
                let result = inner.handle_timeout(now).map_err(DtlsError::from);
                let result = held.datagrams().iter().fold(result, |result, datagram| {
                    result.and_then(|()| feed(&mut inner, datagram))
                });
                *state = State::Running(inner);
                result
            }
            State::Running(inner) => {
                inner.handle_timeout(now)?;
                feed(inner, datagram)
            }
        })
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsError> {
        let State::Running(inner) = &mut self.state else { return Ok(()) };
        guarded(|| Ok(inner.handle_timeout(now)?))
    }

    /// Sends application data: one record. To be followed by [`Self::poll`] each time.
    pub fn send(&mut self, data: &[u8]) -> Result<(), DtlsError> {
        let State::Running(inner) = &mut self.state else { return Ok(()) };
        guarded(|| Ok(inner.send_application_data(data).map(drop)?))
    }

    /// Says goodbye (`close_notify`), where there is a connection to close.
    pub fn close(&mut self) {
        let State::Running(inner) = &mut self.state else { return };
        // What cannot be closed properly is dropped by the caller anyway.
        let _ = guarded(|| Ok(inner.close()?));
    }

    /// Adds to `events` what has come about.
    pub fn poll(&mut self, events: &mut Vec<Event>) -> Result<(), DtlsError> {
        let State::Running(inner) = &mut self.state else { return Ok(()) };
        let client = self.client;
        self.next = guarded(|| {
            let mut scratch = [0; SCRATCH];
            for _ in 0..MAX_OUTPUTS {
                events.push(match inner.poll_output(&mut scratch) {
                    Output::Packet(packet) => Event::Packet(Bytes::copy_from_slice(packet)),
                    Output::Timeout(at) => return Ok(Some(at)),
                    Output::Connected => Event::Connected,
                    Output::PeerCert(der) => Event::Certificate(der.to_vec()),
                    Output::KeyingMaterial(material, profile) => {
                        match keying(&material, profile, client) {
                            Some(keys) => Event::Keys(keys),
                            None => return Err(DtlsError::Library),
                        }
                    }
                    Output::CloseNotify => Event::Closed,
                    Output::BufferTooSmall { .. } => return Err(DtlsError::Library),
                    Output::ApplicationData(data) => Event::Data(Bytes::copy_from_slice(data)),
                    _ => continue,
                });
            }
            Err(DtlsError::Library)
        })?;
        Ok(())
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }
}

impl Listening {
    /// The version to answer with, once it is known.
    fn take(&mut self, datagram: &[u8]) -> Option<Version> {
        self.held.take(datagram, &Abilities::of(&self.config))
    }

    fn answer(&self, version: Version, now: Instant) -> dimpl::Dtls {
        let (config, pair) = (Arc::clone(&self.config), self.pair.clone());
        match version {
            Version::Newest => dimpl::Dtls::new_auto(config, pair, now),
            Version::Only12 => dimpl::Dtls::new_12(config, pair, now),
        }
    }
}

fn feed(inner: &mut dimpl::Dtls, datagram: &[u8]) -> Result<(), DtlsError> {
    match inner.handle_packet(datagram) {
        // Rubbish before the first answer to our ClientHello; the client goes on waiting.
        Err(Error::UnexpectedMessage(UnexpectedMessageError::UnrecognizedAutoServerResponse)) => {
            Ok(())
        }
        other => Ok(other?),
    }
}

/// The exporter's output is the client's key, the server's key, the client's salt, the server's salt
/// (RFC 5764 section 4.2).
fn keying(material: &[u8], profile: SrtpProfile, client: bool) -> Option<Keying> {
    let (profile, key, salt) = match profile {
        SrtpProfile::AEAD_AES_128_GCM => (Profile::AeadAes128Gcm, 16, 12),
        SrtpProfile::AEAD_AES_256_GCM => (Profile::AeadAes256Gcm, 32, 12),
        SrtpProfile::AES128_CM_SHA1_80 => (Profile::Aes128CmSha1_80, 16, 14),
        _ => return None,
    };
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

/// Runs the library so that a panic in it ends one association and not the loop.
fn guarded<T>(call: impl FnOnce() -> Result<T, DtlsError>) -> Result<T, DtlsError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Err(DtlsError::Protocol(Error::Timeout(_)))) => Err(DtlsError::Timeout),
        Ok(result) => result,
        Err(_) => Err(DtlsError::Library),
    }
}

#[cfg(test)]
mod tests;
