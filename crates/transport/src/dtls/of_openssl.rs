//! DTLS 1.2 over OpenSSL, for peers that dimpl cannot serve: RSA certificates, no extended master
//! secret, only `SRTP_AES128_CM_HMAC_SHA1_32`.
//!
//! OpenSSL retransmits by its own clock, from one second on, and only when it is called. This
//! adapter does not wait for that, and retransmits the last flight by the caller's clock. A peer
//! that has a record already treats the second copy as a replay. So a server's last flight needs
//! more: it is sent again to a client that repeats its last one. Another client's ClientHello must
//! not trigger it: that client would take our records' numbers for used, and miss its own.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    time::{Duration, Instant},
};

use bytes::Bytes;
use openssl::{
    error::ErrorStack,
    pkey::PKey,
    ssl::{
        ErrorCode, Ssl, SslContext, SslMethod, SslMode, SslOptions, SslSessionCacheMode, SslStream,
        SslVerifyMode, SslVersion,
    },
    x509::X509,
};
use rialto_srtp::Profile;

use super::{
    library::{DtlsError, DtlsEvent, Library, keying},
    records::has_key_exchange,
};

/// Size of handshake datagrams: what IPv6 lets through everywhere, less IP and UDP headers.
const MTU: u32 = 1200;
/// Longest wait between two retransmissions.
const MAX_RTO: Duration = Duration::from_secs(6);
/// How often the flight that ends the handshake is sent again, and how soon.
const MAX_REPEATED: u32 = 10;
const REPEAT_AFTER: Duration = Duration::from_millis(100);
/// Most records read in one go: a datagram has no more.
const MAX_RECORDS: usize = 256;
/// Larger than any plaintext record (RFC 6347 section 4.1).
const RECORD: usize = 16 * 1024;
/// The exporter's label (RFC 5764 section 4.2).
const LABEL: &str = "EXTRACTOR-dtls_srtp";

/// Forward secrecy always; CBC last, for peers that have nothing else.
const SUITES: &str = "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES:!PSK:!aNULL:@SECLEVEL=1";
/// Groups of the key exchange.
const GROUPS: &str = "X25519:P-256:P-384:P-521";
/// Signature algorithms of the certificates and the handshake.
const SIGNATURES: &str = "ecdsa_secp256r1_sha256:ecdsa_secp384r1_sha384:ecdsa_secp521r1_sha512:\
    ed25519:rsa_pss_rsae_sha256:rsa_pss_rsae_sha384:rsa_pss_rsae_sha512:\
    rsa_pkcs1_sha256:rsa_pkcs1_sha384:rsa_pkcs1_sha512";
/// In the order of our preference, which decides if we are the server.
const PROFILES: &str = "SRTP_AEAD_AES_128_GCM:SRTP_AEAD_AES_256_GCM:\
    SRTP_AES128_CM_SHA1_80:SRTP_AES128_CM_SHA1_32";

/// Settings that all associations with one certificate share.
pub(super) fn context(certificate: &[u8], key: &[u8]) -> Result<SslContext, ErrorStack> {
    let mut context = SslContext::builder(SslMethod::dtls())?;
    context.set_min_proto_version(Some(SslVersion::DTLS1_2))?;
    let (certificate, key) = (X509::from_der(certificate)?, PKey::private_key_from_der(key)?);
    context.set_certificate(&certificate)?;
    context.set_private_key(&key)?;
    context.set_cipher_list(SUITES)?;
    context.set_groups_list(GROUPS)?;
    context.set_sigalgs_list(SIGNATURES)?;
    context.set_tlsext_use_srtp(PROFILES)?;
    // Any certificate is accepted here: its fingerprint is compared with the signalled one
    // afterwards.
    let required = SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT;
    context.set_verify_callback(required, |_, _| true);
    // A resumed session would have no certificate.
    context.set_session_cache_mode(SslSessionCacheMode::OFF);
    context.set_options(
        SslOptions::NO_QUERY_MTU
            | SslOptions::NO_RENEGOTIATION
            | SslOptions::NO_TICKET
            | SslOptions::CIPHER_SERVER_PREFERENCE,
    );
    context.set_mode(SslMode::RELEASE_BUFFERS);
    Ok(context.build())
}

/// An association of the library.
pub(super) struct OpenSsl {
    stream: SslStream<Wire>,
    client: bool,
    done: bool,
    events: VecDeque<DtlsEvent>,
    flight: Flight,
}

/// Datagrams that are retransmitted until the peer continues.
struct Flight {
    datagrams: Vec<Bytes>,
    at: Option<Instant>,
    rto: Duration,
    /// When it was sent last, and how often after the handshake.
    sent: Instant,
    repeated: u32,
}

/// The datagrams of both directions.
#[derive(Debug, Default)]
struct Wire {
    received: Option<Bytes>,
    sent: Vec<Bytes>,
}

impl Read for Wire {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let datagram = self.received.take().ok_or(io::ErrorKind::WouldBlock)?;
        let length = datagram.len().min(buf.len());
        for (to, from) in buf.iter_mut().zip(&datagram) {
            *to = *from;
        }
        Ok(length)
    }
}

impl Write for Wire {
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        self.sent.push(Bytes::copy_from_slice(datagram));
        Ok(datagram.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl OpenSsl {
    /// Creates a server, or a client that sends its ClientHello with the first [`Library::poll`].
    pub(super) fn new(context: &SslContext, client: bool, now: Instant) -> Result<Self, DtlsError> {
        let mut ssl = Ssl::new(context)?;
        ssl.set_mtu(MTU)?;
        if client {
            ssl.set_connect_state();
        } else {
            ssl.set_accept_state();
        }
        let stream = SslStream::new(ssl, Wire::default())?;
        let rto = super::FIRST_RTO;
        let flight = Flight { datagrams: Vec::new(), at: None, rto, sent: now, repeated: 0 };
        let events = VecDeque::new();
        let mut this = Self { stream, client, done: false, events, flight };
        if client {
            this.advance(now)?;
        }
        Ok(this)
    }

    /// Processes everything that has arrived.
    fn advance(&mut self, now: Instant) -> Result<(), DtlsError> {
        if self.done {
            return self.read();
        }
        let result = self.stream.do_handshake();
        self.collect(Some(now));
        match result {
            Ok(()) => {
                self.finish()?;
                self.read()
            }
            Err(error) if waits(error.code()) => Ok(()),
            Err(error) => Err(DtlsError::Other(why(&error))),
        }
    }

    /// Takes what the library sent. During the handshake that is a new flight.
    fn collect(&mut self, now: Option<Instant>) {
        let sent = std::mem::take(&mut self.stream.get_mut().sent);
        if let (Some(now), false) = (now, sent.is_empty()) {
            self.flight.rto = super::FIRST_RTO;
            self.flight.at = Some(now + self.flight.rto);
            self.flight.sent = now;
            self.flight.datagrams.clone_from(&sent);
        }
        self.events.extend(sent.into_iter().map(DtlsEvent::Packet));
    }

    fn finish(&mut self) -> Result<(), DtlsError> {
        self.done = true;
        self.flight.at = None;
        if self.client {
            self.flight.datagrams.clear();
        }
        let ssl = self.stream.ssl();
        let certificate = ssl.peer_certificate().ok_or(DtlsError::Library)?;
        self.events.push_back(DtlsEvent::Certificate(certificate.to_der()?));
        let profile = ssl.selected_srtp_profile().map(|profile| profile.id().as_raw());
        let profile = profile.and_then(|id| Profile::from_id(u16::try_from(id).ok()?));
        if let Some(profile) = profile {
            let mut material = vec![0; 2 * (profile.key_len() + profile.salt_len())];
            ssl.export_keying_material(&mut material, LABEL, None)?;
            let keys = keying(&material, profile, self.client).ok_or(DtlsError::Library)?;
            self.events.push_back(DtlsEvent::Keys(keys));
        }
        self.events.push_back(DtlsEvent::Connected);
        Ok(())
    }

    fn read(&mut self) -> Result<(), DtlsError> {
        let mut buffer = [0; RECORD];
        let mut result = Ok(());
        for _ in 0..MAX_RECORDS {
            match self.stream.ssl_read(&mut buffer) {
                Ok(length) => {
                    let data = buffer.get(..length).unwrap_or_default();
                    self.events.push_back(DtlsEvent::Data(Bytes::copy_from_slice(data)));
                }
                Err(error) if error.code() == ErrorCode::ZERO_RETURN => {
                    self.events.push_back(DtlsEvent::Closed);
                    break;
                }
                Err(error) if waits(error.code()) => break,
                Err(error) => {
                    result = Err(DtlsError::Other(why(&error)));
                    break;
                }
            }
        }
        self.collect(None);
        result
    }
}

impl Library for OpenSsl {
    fn handle(&mut self, now: Instant, datagram: &[u8]) -> Result<(), DtlsError> {
        let due = now >= self.flight.sent + REPEAT_AFTER && self.flight.repeated < MAX_REPEATED;
        if self.done && !self.client && due && has_key_exchange(datagram) {
            self.flight.sent = now;
            self.flight.repeated += 1;
            self.events.extend(self.flight.datagrams.iter().cloned().map(DtlsEvent::Packet));
        }
        self.stream.get_mut().received = Some(Bytes::copy_from_slice(datagram));
        self.advance(now)
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsError> {
        if self.flight.at.is_none_or(|at| now < at) {
            return Ok(());
        }
        let (rto, before) = ((2 * self.flight.rto).min(MAX_RTO), self.events.len());
        // The library may retransmit by its own clock at the same time; it then numbers the records
        // anew.
        self.advance(now)?;
        if self.events.len() == before {
            self.events.extend(self.flight.datagrams.iter().cloned().map(DtlsEvent::Packet));
        }
        if self.flight.at.is_some() {
            self.flight.rto = rto;
            self.flight.at = Some(now + rto);
        }
        Ok(())
    }

    fn send(&mut self, data: &[u8]) -> Result<(), DtlsError> {
        if !self.done {
            return Ok(());
        }
        let result = self.stream.ssl_write(data);
        self.collect(None);
        result.map(drop).map_err(|error| DtlsError::Other(why(&error)))
    }

    fn close(&mut self) -> Result<(), DtlsError> {
        let result = self.stream.shutdown();
        self.collect(None);
        result.map(drop).map_err(|error| DtlsError::Other(why(&error)))
    }

    fn poll(&mut self, events: &mut Vec<DtlsEvent>) -> Result<(), DtlsError> {
        events.extend(self.events.drain(..));
        Ok(())
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.flight.at
    }

    fn version(&self) -> Option<&'static str> {
        self.done.then_some("1.2")
    }
}

impl From<ErrorStack> for DtlsError {
    fn from(error: ErrorStack) -> Self {
        Self::Other(reason(&error).unwrap_or_else(|| "the DTLS library failed".to_owned()))
    }
}

fn waits(code: ErrorCode) -> bool {
    code == ErrorCode::WANT_READ || code == ErrorCode::WANT_WRITE
}

/// Describes an error: in terms of the peer where something can be done about it.
fn why(error: &openssl::ssl::Error) -> String {
    let found = error.ssl_error().and_then(reason);
    match found.as_deref() {
        Some("no shared cipher") => {
            "the peer offers no cipher suite for an ECDSA certificate with forward secrecy"
                .to_owned()
        }
        Some("unsupported protocol" | "version too low" | "wrong version number") => {
            "the peer has neither DTLS 1.2 nor 1.3".to_owned()
        }
        Some("peer did not return a certificate") => "the peer sent no certificate".to_owned(),
        Some("no shared groups" | "no suitable groups") => {
            "the peer offers no group of ours for the key exchange".to_owned()
        }
        Some("no shared signature algorithms" | "no suitable signature algorithm") => {
            "the peer offers no signature algorithm of ours".to_owned()
        }
        Some("ee key too small") => "the key of the peer's certificate is too short".to_owned(),
        Some(other) => other.to_owned(),
        None => "the DTLS library failed".to_owned(),
    }
}

fn reason(stack: &ErrorStack) -> Option<String> {
    stack.errors().first().and_then(openssl::error::Error::reason).map(ToOwned::to_owned)
}
