//! DTLS for one endpoint: starts the handshake, compares the certificate with the signalled
//! fingerprints, and releases the keys.

use std::time::Instant;

use bytes::Bytes;
use rialto_srtp::Keying;
use serde_json::json;

use super::{
    super::{
        certificate::Certificate,
        dtls::{Dtls, DtlsError, DtlsEvent, SharedConfig},
        fingerprint::Fingerprint,
        sctp,
        types::{FailReason, TransportCounters},
    },
    data::Data,
};

/// Most fingerprints that a peer may signal.
const MAX_FINGERPRINTS: usize = 8;
/// Most handshake packets that wait for a validated path: a flight or two.
const MAX_WAITING: usize = 16;
/// Most packets that wait once there is data: SCTP retransmits those that do not fit.
const MAX_DATA_WAITING: usize = 128;

/// The result of an event.
pub(super) enum DtlsOutcome {
    /// Nothing to report.
    Nothing,
    /// Keys of a peer whose certificate matched.
    Ready(Keying),
    /// The peer closed the association.
    Closed,
    /// A handshake failed, which anybody could have caused: another one may begin.
    Again(String),
    /// The transport has failed for good.
    Failed(FailReason),
}

/// The association, and what is known of the peer.
#[derive(Default)]
pub(super) struct Media {
    dtls: Option<Dtls>,
    fingerprints: Vec<Fingerprint>,
    /// The peer's certificate, until it is verified.
    certificate: Option<Vec<u8>>,
    verified: bool,
    keys: Option<Keying>,
    connected: bool,
    ready: bool,
    closed: bool,
    ready_by: Option<Instant>,
    /// Why a handshake failed.
    why: Option<String>,
    packets: Vec<Bytes>,
    data: Data,
}

impl Media {
    /// Starts the time limit of the handshake: there is a path, and keys must be ready by
    /// `ready_by`.
    pub(super) fn begin(&mut self, ready_by: Instant) {
        self.ready_by = Some(ready_by);
    }

    /// Adds a signalled fingerprint.
    pub(super) fn add_fingerprint(&mut self, fingerprint: Fingerprint) {
        let known = self
            .fingerprints
            .iter()
            .any(|f| f.hash == fingerprint.hash && f.bytes == fingerprint.bytes);
        if !known && self.fingerprints.len() < MAX_FINGERPRINTS {
            self.fingerprints.push(fingerprint);
        }
    }

    /// Opens the association as the client, if there is none.
    pub(super) fn start_client(
        &mut self,
        now: Instant,
        certificate: &Certificate,
        config: &SharedConfig,
    ) -> DtlsOutcome {
        if self.dtls.is_some() || self.closed {
            return DtlsOutcome::Nothing;
        }
        match Dtls::new(config, certificate, true, now) {
            Ok(dtls) => {
                self.dtls = Some(dtls);
                self.poll()
            }
            Err(error) => self.give_up(&error),
        }
    }

    /// Handles a datagram of the peer. Opens an association if there is none, in the role `client`:
    /// until the peer's role is signalled, whoever sends first is the client.
    pub(super) fn on_datagram(
        &mut self,
        now: Instant,
        datagram: &[u8],
        client: bool,
        certificate: &Certificate,
        config: &SharedConfig,
    ) -> DtlsOutcome {
        if self.closed {
            return DtlsOutcome::Nothing;
        }
        if self.dtls.is_none() {
            match Dtls::new(config, certificate, client, now) {
                Ok(dtls) => self.dtls = Some(dtls),
                Err(error) => return self.give_up(&error),
            }
        }
        let result = self.dtls.as_mut().map_or(Ok(()), |dtls| dtls.handle(now, datagram));
        self.concluded(result)
    }

    /// Handles the result of a call of DTLS.
    fn concluded(&mut self, result: Result<(), DtlsError>) -> DtlsOutcome {
        // An error may still have left an alert to send.
        let verdict = self.poll();
        match (result, verdict) {
            (Err(error), DtlsOutcome::Nothing) if self.dtls.as_ref().is_some_and(Dtls::is_done) => {
                self.give_up(&error)
            }
            (Err(error), DtlsOutcome::Nothing) => {
                let why = error.to_string();
                self.why = Some(why.clone());
                DtlsOutcome::Again(why)
            }
            (_, verdict) => verdict,
        }
    }

    /// Number of plaintext alerts that were ignored since the last call.
    pub(super) fn take_ignored_alerts(&mut self) -> u64 {
        self.dtls.as_mut().map_or(0, Dtls::take_ignored_alerts)
    }

    /// Why the handshake failed, or what the peer may object to.
    pub(super) fn why(&self) -> Option<&str> {
        self.why.as_deref().or_else(|| self.dtls.as_ref()?.hint())
    }

    /// Handles the time passing.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> DtlsOutcome {
        if !self.ready && self.ready_by.is_some_and(|by| now >= by) {
            let failed = self.why.is_some();
            let timeout = FailReason::DtlsTimeout;
            return DtlsOutcome::Failed(if failed { FailReason::DtlsHandshake } else { timeout });
        }
        let Some(dtls) = &mut self.dtls else { return DtlsOutcome::Nothing };
        if dtls.poll_timeout().is_none_or(|at| now < at) {
            return DtlsOutcome::Nothing;
        }
        let result = dtls.handle_timeout(now);
        self.concluded(result)
    }

    /// When [`Self::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let by = self.ready_by.filter(|_| !self.ready);
        let dtls = self.dtls.as_ref().and_then(Dtls::poll_timeout);
        by.into_iter().chain(dtls).chain(self.data.poll_timeout()).min()
    }

    /// Allows the peer to set up SCTP.
    pub(super) fn offer_sctp(&mut self) {
        self.data.offer();
    }

    /// Sets up SCTP and opens a channel, as a client does.
    #[cfg(test)]
    pub(super) fn connect_sctp(&mut self, now: Instant, counters: &mut TransportCounters) {
        self.data.connect(now, counters);
    }

    /// Sends a text over the data channel; see [`sctp::SendError`].
    pub(super) fn send_text(
        &mut self,
        now: Instant,
        text: &str,
        counters: &mut TransportCounters,
    ) -> Result<(), sctp::SendError> {
        self.data.send(now, text, counters)
    }

    /// Drives the data channel, and returns its events.
    pub(super) fn exchange(
        &mut self,
        now: Instant,
        counters: &mut TransportCounters,
    ) -> Vec<sctp::SctpEvent> {
        if self.dtls.is_none() || !self.ready {
            return self.data.idle(self.closed, counters);
        }
        let (mut news, packets) = self.data.run(now, counters);
        for packet in packets {
            let result = self.dtls.as_mut().map_or(Ok(()), |dtls| dtls.send(&packet));
            let verdict = match result {
                Ok(()) => self.poll(),
                Err(error) => self.give_up(&error),
            };
            // Losing DTLS costs no media; the data channel goes with it.
            if !matches!(verdict, DtlsOutcome::Nothing) || self.dtls.is_none() {
                news.extend(self.data.idle(true, counters));
                break;
            }
        }
        news
    }

    /// Compares the certificate with the fingerprints, once both are there. No key is released
    /// before that.
    pub(super) fn verify(&mut self) -> DtlsOutcome {
        if let Some(certificate) = &self.certificate {
            if self.fingerprints.is_empty() {
                return DtlsOutcome::Nothing;
            }
            if !self.fingerprints.iter().any(|f| f.matches(certificate)) {
                return DtlsOutcome::Failed(FailReason::FingerprintMismatch);
            }
            self.certificate = None;
            self.verified = true;
        }
        if !(self.verified && self.connected) || self.ready {
            return DtlsOutcome::Nothing;
        }
        match self.keys.take() {
            Some(keys) => {
                self.ready = true;
                DtlsOutcome::Ready(keys)
            }
            None => DtlsOutcome::Failed(FailReason::NoSrtpProfile),
        }
    }

    /// Packets to be sent, once there is a path.
    pub(super) fn take_packets(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.packets)
    }

    /// Sends `close_notify`.
    pub(super) fn close(&mut self) {
        if let Some(dtls) = self.dtls.as_mut().filter(|_| self.connected) {
            dtls.close();
            self.poll();
        }
        self.dtls = None;
        self.closed = true;
    }

    /// Returns whether the keys are in use.
    pub(super) fn is_ready(&self) -> bool {
        self.ready
    }

    /// Returns whether the association is over.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// The protocol version, once known.
    pub(super) fn version(&self) -> Option<&'static str> {
        self.dtls.as_ref()?.version()
    }

    /// State for `/debug`.
    pub(super) fn debug(&self) -> serde_json::Value {
        json!({
            "role": self.dtls.as_ref().map(|d| if d.is_client() { "client" } else { "server" }),
            "version": self.version(),
            "certificate_verified": self.verified,
            "ready": self.ready,
            "closed": self.closed,
            "sctp": self.data.debug(),
        })
    }

    fn poll(&mut self) -> DtlsOutcome {
        let Some(dtls) = &mut self.dtls else { return DtlsOutcome::Nothing };
        let mut events = Vec::new();
        dtls.poll(&mut events);
        let room = if self.ready { MAX_DATA_WAITING } else { MAX_WAITING };
        for event in events {
            match event {
                DtlsEvent::Packet(packet) if self.packets.len() < room => self.packets.push(packet),
                DtlsEvent::Data(data) => self.data.receive(data),
                DtlsEvent::Certificate(der) if !self.verified => self.certificate = Some(der),
                DtlsEvent::Keys(keys) if !self.ready => self.keys = Some(keys),
                // The library retransmits packets beyond the limit.
                DtlsEvent::Packet(_) | DtlsEvent::Certificate(_) | DtlsEvent::Keys(_) => {}
                DtlsEvent::Connected => self.connected = true,
                DtlsEvent::Closed => {
                    self.closed = true;
                    self.dtls = None;
                    return DtlsOutcome::Closed;
                }
            }
        }
        DtlsOutcome::Nothing
    }

    /// Handles the loss of the association. After the handshake that costs no media: the keys are
    /// in use.
    fn give_up(&mut self, error: &DtlsError) -> DtlsOutcome {
        tracing::debug!(%error, "DTLS ended");
        self.dtls = None;
        self.closed = true;
        if self.ready {
            return DtlsOutcome::Nothing;
        }
        DtlsOutcome::Failed(match error {
            DtlsError::Timeout => FailReason::DtlsTimeout,
            _ => FailReason::DtlsHandshake,
        })
    }
}
