//! A DTLS association (RFC 6347, RFC 9147) that yields SRTP keys (RFC 5764), over one of two
//! libraries ([`library::Library`]).
//!
//! Until the handshake is done, nothing that arrives is authenticated: anyone who knows the
//! client's address can send in its name. So plaintext alerts are dropped ([`records::screen`]), a
//! server answers each ClientHello with a new random in parallel to those it answers already, the
//! first handshake to complete wins, and one that fails makes room for the next.

pub(super) mod fuzz;
pub(super) mod hello;
mod library;
mod of_dimpl;
mod of_openssl;
mod records;
pub(super) mod whole;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use openssl::{error::ErrorStack, ssl::SslContext};
use rialto_media::{Rate, TokenBucket};

pub(crate) use self::library::{DtlsError, DtlsEvent};
use self::{
    hello::{Abilities, Answer, PartialHello},
    library::Library,
    of_dimpl::{Dimpl, Versions},
    of_openssl::OpenSsl,
    records::{MAX_MESSAGE, hello_pieces, screen, split},
};
use super::{certificate::Certificate, config::TransportConfig};

/// Time until the first retransmission. RFC 9147 section 5.8.2 allows less than a second where the
/// round trip is known to be short; ICE checks have just measured it, and it rarely is more than
/// this.
const FIRST_RTO: Duration = Duration::from_millis(400);
/// Larger datagrams are passed on record by record.
const LARGE: usize = 1_500;
/// Most handshakes in parallel.
const MAX_ATTEMPTS: usize = 4;
/// Handshakes that may begin at once; after that one per [`REFILL`].
const BURST: u32 = 4;
const REFILL: Duration = Duration::from_millis(250);
const HANDSHAKES: Rate = Rate::each(REFILL, BURST);
/// Time until a client that failed sends another ClientHello.
const RETRY: Duration = Duration::from_secs(1);
/// The alert of a server that supports none of our versions (RFC 8446 section 6).
const PROTOCOL_VERSION: u8 = 70;

/// Settings of `dimpl` that all associations share.
pub(crate) type SharedConfig = Arc<dimpl::Config>;

/// Creates the libraries' settings.
pub(crate) fn shared_config(config: &TransportConfig) -> Result<SharedConfig, dimpl::Error> {
    of_dimpl::settings(config)
}

/// Creates OpenSSL's context for a certificate and its key (DER).
pub(crate) fn context(certificate: &[u8], key: &[u8]) -> Result<SslContext, ErrorStack> {
    of_openssl::context(certificate, key)
}

/// A DTLS client or server. A server chooses library and version by the ClientHello ([`hello`]). A
/// client uses DTLS 1.2, with which it can accept any certificate; 1.3 with a server that accepts
/// nothing else.
pub(crate) struct Dtls {
    config: SharedConfig,
    pair: dimpl::DtlsCertificate,
    context: SslContext,
    client: bool,
    /// For a server: pieces of a ClientHello that was not answered yet.
    held: PartialHello,
    attempts: Vec<Attempt>,
    /// Whether a handshake has completed; then there is only that attempt.
    done: bool,
    begun: TokenBucket,
    /// When a client that failed sends another ClientHello.
    retry: Option<Instant>,
    /// Remaining events of failed attempts.
    rest: Vec<DtlsEvent>,
    ignored_alerts: u64,
    hint: Option<String>,
}

/// A handshake in progress, or the completed one.
struct Attempt {
    library: Box<dyn Library>,
    /// The client's random, if we are the server.
    random: Vec<u8>,
    /// Whether this is our client with DTLS 1.3.
    newest: bool,
    events: Vec<DtlsEvent>,
}

impl Dtls {
    /// Creates the association. A client sends its ClientHello with the first [`Self::poll`].
    pub(crate) fn new(
        config: &SharedConfig,
        certificate: &Certificate,
        client: bool,
        now: Instant,
    ) -> Result<Self, DtlsError> {
        let mut this = Self {
            config: Arc::clone(config),
            pair: certificate.pair.clone(),
            context: certificate.context.clone(),
            client,
            held: PartialHello::default(),
            attempts: Vec::new(),
            done: false,
            begun: TokenBucket::default(),
            retry: None,
            rest: Vec::new(),
            ignored_alerts: 0,
            hint: None,
        };
        if client {
            this.begin(now, Answer::OpenSsl)?;
        }
        Ok(this)
    }

    /// Returns whether we are the client.
    pub(crate) fn is_client(&self) -> bool {
        self.client
    }

    /// Returns whether the handshake is done. Before that, an error ends an attempt and not the
    /// association.
    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    /// `1.2` or `1.3`, once known.
    pub(crate) fn version(&self) -> Option<&'static str> {
        self.attempts.first()?.library.version()
    }

    /// Number of plaintext alerts that were ignored since the last call.
    pub(crate) fn take_ignored_alerts(&mut self) -> u64 {
        std::mem::take(&mut self.ignored_alerts)
    }

    /// What the peer may object to or lack, according to unauthenticated messages.
    pub(crate) fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Handles a datagram. Malformed records are ignored.
    pub(crate) fn handle(&mut self, now: Instant, datagram: &[u8]) -> Result<(), DtlsError> {
        if datagram.len() <= LARGE {
            return self.take(now, datagram);
        }
        // A whole flight in one datagram has more records, or bytes, than the libraries accept at a
        // time.
        split(datagram).try_for_each(|record| self.take(now, record))
    }

    fn take(&mut self, now: Instant, datagram: &[u8]) -> Result<(), DtlsError> {
        let screened = screen(datagram);
        if let Some(length) = screened.too_long {
            self.hint = Some(format!(
                "the peer sent a handshake message of {length} bytes, more than {MAX_MESSAGE}"
            ));
        }
        if let Some(alert) = screened.alert {
            self.ignored_alerts += 1;
            if !self.done {
                self.on_alert(now, alert)?;
            }
        }
        if screened.bytes.is_empty() {
            return Ok(());
        }
        if self.done || self.client {
            return self.deliver(now, &screened.bytes);
        }
        match self.addressee(&screened.bytes) {
            Addressee::All => self.deliver(now, &screened.bytes),
            Addressee::Attempt(at) => self.deliver_to(now, &screened.bytes, at..=at),
            Addressee::Nobody => {
                let ours = Abilities::of(&self.config);
                match self.held.take(&screened.bytes, &ours) {
                    Some(answer) if self.begun.take(&HANDSHAKES, 1, now) => self.begin(now, answer),
                    Some(_) => {
                        self.held = PartialHello::default();
                        Ok(())
                    }
                    None => Ok(()),
                }
            }
        }
    }

    /// Handles the time passing.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsError> {
        let mut failed = None;
        for at in (0..self.attempts.len()).rev() {
            let Some(attempt) = self.attempts.get_mut(at) else { continue };
            if attempt.library.poll_timeout().is_some_and(|due| now >= due)
                && let Err(error) = attempt.call(|library| library.handle_timeout(now))
            {
                self.attempts.remove(at);
                failed = Some(error);
            }
        }
        if self.retry.is_some_and(|at| now >= at) {
            self.retry = None;
            self.begin(now, Answer::OpenSsl)?;
        }
        self.settle(now, failed)
    }

    /// Sends application data as one record. Call [`Self::poll`] after each.
    pub(crate) fn send(&mut self, data: &[u8]) -> Result<(), DtlsError> {
        match self.attempts.first_mut().filter(|_| self.done) {
            Some(attempt) => attempt.call(|library| library.send(data)),
            None => Ok(()),
        }
    }

    /// Sends `close_notify` if there is a connection to close.
    pub(crate) fn close(&mut self) {
        if let Some(attempt) = self.attempts.first_mut().filter(|_| self.done) {
            // If it cannot be closed properly, the caller drops it anyway.
            let _ = attempt.call(|library| library.close());
        }
    }

    /// Appends new events to `events`.
    pub(crate) fn poll(&mut self, events: &mut Vec<DtlsEvent>) {
        events.append(&mut self.rest);
        for attempt in &mut self.attempts {
            events.append(&mut attempt.events);
        }
    }

    /// When [`Self::handle_timeout`] is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let attempts = self.attempts.iter().filter_map(|attempt| attempt.library.poll_timeout());
        attempts.chain(self.retry).min()
    }

    /// Returns which attempts of a server a datagram is for.
    fn addressee(&self, datagram: &[u8]) -> Addressee {
        let mut pieces = hello_pieces(datagram).peekable();
        if pieces.peek().is_none() {
            return Addressee::All;
        }
        match pieces.find_map(|piece| piece.random()) {
            Some(random) => {
                let known = self.attempts.iter().position(|attempt| attempt.random == random);
                known.map_or(Addressee::Nobody, Addressee::Attempt)
            }
            // The end of a ClientHello, known or unknown.
            None if self.held.random().is_none() && !self.attempts.is_empty() => Addressee::All,
            None => Addressee::Nobody,
        }
    }

    /// Handles an alert that anybody could have sent. The running attempts go on; a server without
    /// DTLS 1.2 gets another ClientHello in parallel.
    fn on_alert(&mut self, now: Instant, alert: u8) -> Result<(), DtlsError> {
        self.hint = Some(format!("the peer sent an alert, {alert}"));
        let asked = self.attempts.iter().any(|attempt| attempt.newest);
        if self.client && alert == PROTOCOL_VERSION && !asked {
            return self.begin(now, Answer::Dimpl(Versions::Newest));
        }
        Ok(())
    }

    /// Begins a handshake: as the client, or as the server for the held pieces of a ClientHello.
    fn begin(&mut self, now: Instant, answer: Answer) -> Result<(), DtlsError> {
        let held = std::mem::take(&mut self.held);
        let (config, pair, client) = (&self.config, &self.pair, self.client);
        let library = guarded(|| {
            Ok(match answer {
                Answer::Dimpl(versions) => {
                    Box::new(Dimpl::new(config, pair, client, versions, now)?) as Box<dyn Library>
                }
                Answer::OpenSsl => Box::new(OpenSsl::new(&self.context, client, now)?),
            })
        })?;
        let random = held.random().unwrap_or_default().to_vec();
        let newest = answer == Answer::Dimpl(Versions::Newest);
        // The oldest are most likely to complete.
        self.attempts.truncate(MAX_ATTEMPTS - 1);
        self.attempts.push(Attempt { library, random, newest, events: Vec::new() });
        let last = self.attempts.len() - 1;
        if client {
            if let Some(attempt) = self.attempts.last_mut() {
                attempt.call(|_| Ok(()))?;
            }
            return Ok(());
        }
        held.datagrams().iter().try_for_each(|datagram| {
            if self.attempts.len() > last {
                self.deliver_to(now, datagram, last..=last)
            } else {
                Ok(())
            }
        })
    }

    fn deliver(&mut self, now: Instant, datagram: &[u8]) -> Result<(), DtlsError> {
        match self.attempts.len().checked_sub(1) {
            Some(last) => self.deliver_to(now, datagram, 0..=last),
            None => Ok(()),
        }
    }

    /// Passes a datagram to some attempts.
    fn deliver_to(
        &mut self,
        now: Instant,
        datagram: &[u8],
        to: std::ops::RangeInclusive<usize>,
    ) -> Result<(), DtlsError> {
        let mut failed = None;
        for at in to.rev() {
            let Some(attempt) = self.attempts.get_mut(at) else { continue };
            if let Err(error) = attempt.call(|library| library.handle(now, datagram)) {
                let attempt = self.attempts.remove(at);
                // The error may have left an alert to send. It would end the other attempts too.
                if self.attempts.is_empty() {
                    self.rest = attempt.events;
                }
                failed = Some(error);
            }
        }
        self.settle(now, failed)
    }

    /// After the attempts were called: keeps only the one that has completed, if any.
    fn settle(&mut self, now: Instant, failed: Option<DtlsError>) -> Result<(), DtlsError> {
        let through = |attempt: &Attempt| {
            attempt.events.iter().any(|event| matches!(event, DtlsEvent::Connected))
        };
        if !self.done
            && let Some(at) = self.attempts.iter().position(through)
        {
            self.attempts.swap(0, at);
            self.attempts.truncate(1);
            self.held = PartialHello::default();
            self.rest.clear();
            (self.done, self.retry) = (true, None);
        }
        match failed {
            Some(error) if self.attempts.is_empty() => {
                if self.client && !self.done {
                    self.retry.get_or_insert(now + RETRY);
                }
                Err(error)
            }
            _ => Ok(()),
        }
    }
}

/// The attempts that get a datagram.
enum Addressee {
    All,
    Attempt(usize),
    Nobody,
}

impl Attempt {
    /// Calls the library, then collects its events.
    fn call(
        &mut self,
        call: impl FnOnce(&mut dyn Library) -> Result<(), DtlsError>,
    ) -> Result<(), DtlsError> {
        let Self { library, events, .. } = self;
        guarded(|| {
            let result = call(library.as_mut());
            result.and(library.poll(events))
        })
    }
}

/// Calls a library so that a panic in it ends one handshake and not the loop.
fn guarded<T>(call: impl FnOnce() -> Result<T, DtlsError>) -> Result<T, DtlsError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or(Err(DtlsError::Library))
}

#[cfg(test)]
mod tests;
