//! DTLS 1.3, and 1.2 for clients that have both, over the crate `dimpl`.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use dimpl::{Error, Output, SrtpProfile, UnexpectedMessageError};
use rialto_srtp::Profile;

use super::library::{DtlsError, DtlsEvent, Library, keying};
use crate::config::TransportConfig;

/// Most retransmissions of a flight. The time limit of the whole handshake ends them earlier.
const RETRIES: usize = 10;
/// Most outputs taken in one go: far more than a handshake has, so that a bug cannot make it spin.
const MAX_OUTPUTS: usize = 256;
/// Larger than any record that the library writes for our datagram size.
const RECORD: usize = 2048;
/// Records that may wait for earlier ones. A certificate of 16 KB arrives in 30 of 600 bytes.
const MAX_WAITING: usize = 50;
/// Largest possible datagram.
const MAX_DATAGRAM: usize = 65_536;

/// The library's settings. The server sends no cookie: ICE has verified the return path already.
pub(super) fn settings(config: &TransportConfig) -> Result<Arc<dimpl::Config>, Error> {
    dimpl::Config::builder()
        .handshake_timeout(config.dtls_timeout)
        .flight_start_rto(super::FIRST_RTO)
        .flight_retries(RETRIES)
        .max_queue_rx(MAX_WAITING)
        .use_server_cookie(false)
        .require_client_certificate(true)
        .build()
        .map(Arc::new)
}

/// Which versions to use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Versions {
    /// The newest that both support.
    Newest,
    /// DTLS 1.2, although the client supports 1.3.
    Only12,
}

/// An association of the library.
pub(super) struct Dimpl {
    inner: dimpl::Dtls,
    client: bool,
    next: Option<Instant>,
    done: bool,
    /// Size of the buffer for the library's output. The library panics if the peer's certificate
    /// does not fit, and no certificate is longer than everything received during the handshake.
    room: usize,
}

impl Dimpl {
    /// Creates a server, or a client that sends its ClientHello with the first [`Library::poll`].
    pub(super) fn new(
        config: &Arc<dimpl::Config>,
        pair: &dimpl::DtlsCertificate,
        client: bool,
        versions: Versions,
        now: Instant,
    ) -> Result<Self, DtlsError> {
        let (config, pair) = (Arc::clone(config), pair.clone());
        let mut inner = match versions {
            Versions::Newest => dimpl::Dtls::new_auto(config, pair, now),
            Versions::Only12 => dimpl::Dtls::new_12(config, pair, now),
        };
        inner.set_active(client);
        inner.handle_timeout(now)?;
        Ok(Self { inner, client, next: Some(now), done: false, room: 0 })
    }

    fn event(&mut self, output: &Output<'_>) -> Result<Option<DtlsEvent>, DtlsError> {
        Ok(Some(match output {
            Output::Packet(packet) => DtlsEvent::Packet(Bytes::copy_from_slice(packet)),
            Output::Connected => {
                self.done = true;
                DtlsEvent::Connected
            }
            Output::PeerCert(der) => DtlsEvent::Certificate(der.to_vec()),
            Output::KeyingMaterial(material, profile) => {
                let keys = profile_of(*profile).and_then(|p| keying(material, p, self.client));
                DtlsEvent::Keys(keys.ok_or(DtlsError::Library)?)
            }
            Output::CloseNotify => DtlsEvent::Closed,
            Output::BufferTooSmall { .. } => return Err(DtlsError::Library),
            Output::ApplicationData(data) => DtlsEvent::Data(Bytes::copy_from_slice(data)),
            _ => return Ok(None),
        }))
    }
}

impl Library for Dimpl {
    fn handle(&mut self, now: Instant, datagram: &[u8]) -> Result<(), DtlsError> {
        let before = if self.done { 0 } else { self.room };
        self.room = before.saturating_add(datagram.len()).min(MAX_WAITING * MAX_DATAGRAM);
        self.handle_timeout(now)?;
        match self.inner.handle_packet(datagram) {
            // Garbage before the first answer to our ClientHello; the client keeps waiting.
            Err(Error::UnexpectedMessage(
                UnexpectedMessageError::UnrecognizedAutoServerResponse,
            )) => Ok(()),
            other => Ok(other?),
        }
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsError> {
        match self.inner.handle_timeout(now) {
            Err(Error::Timeout(_)) => Err(DtlsError::Timeout),
            other => Ok(other?),
        }
    }

    fn send(&mut self, data: &[u8]) -> Result<(), DtlsError> {
        Ok(self.inner.send_application_data(data).map(drop)?)
    }

    fn close(&mut self) -> Result<(), DtlsError> {
        Ok(self.inner.close()?)
    }

    fn poll(&mut self, events: &mut Vec<DtlsEvent>) -> Result<(), DtlsError> {
        // Zeroed memory that is never touched costs nothing.
        let mut scratch = vec![0; RECORD.max(self.room)];
        for _ in 0..MAX_OUTPUTS {
            let output = self.inner.poll_output(&mut scratch);
            if let Output::Timeout(at) = output {
                self.next = Some(at);
                return Ok(());
            }
            events.extend(self.event(&output)?);
        }
        Err(DtlsError::Library)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }

    fn version(&self) -> Option<&'static str> {
        match self.inner.protocol_version()? {
            dimpl::ProtocolVersion::DTLS1_2 => Some("1.2"),
            dimpl::ProtocolVersion::DTLS1_3 => Some("1.3"),
            _ => None,
        }
    }
}

fn profile_of(profile: SrtpProfile) -> Option<Profile> {
    Some(match profile {
        SrtpProfile::AEAD_AES_128_GCM => Profile::AeadAes128Gcm,
        SrtpProfile::AEAD_AES_256_GCM => Profile::AeadAes256Gcm,
        SrtpProfile::AES128_CM_SHA1_80 => Profile::Aes128CmSha1_80,
        _ => return None,
    })
}
