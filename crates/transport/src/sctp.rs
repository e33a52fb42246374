//! SCTP over DTLS (RFC 8261) with the single data channel of a bridge (RFC 8831), over the crate
//! `sctp-proto`: the client sets up the association and opens the channel, and we accept.
//!
//! A message of more than [`MAX_MESSAGE`] bytes closes its channel, and the peer may open another
//! one. A message of more than [`MAX_ASSEMBLED`] bytes aborts the association with a cause, as does
//! everything else after which the library does not continue; then the peer may begin another
//! association.
//!
//! Everything that a peer can make grow is bounded: one association, [`MAX_STREAMS`] streams,
//! messages of [`MAX_ASSEMBLED`] bytes, [`MAX_HELD`] bytes of memory behind fragments that wait for
//! reassembly, and [`MAX_BUFFERED`] bytes that the peer has not accepted. Time is an argument; the
//! library chooses its tags and sequence numbers at random by itself, which does not affect
//! behaviour.

mod abort;
mod dcep;
pub(crate) mod fuzz;
mod held;

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, LazyLock},
    time::Instant,
};

use bytes::Bytes;
use sctp_proto::{
    Association, AssociationHandle, DatagramEvent, Endpoint, EndpointConfig,
    Event as AssociationEvent, Payload, PayloadProtocolIdentifier as Ppid, ReliabilityType,
    ServerConfig, StreamEvent, TransportConfig,
};
use serde_json::json;

pub(crate) use self::dcep::{Open, Reliability};
use self::{
    abort::{Peer, Reason},
    held::HeldDatagrams,
};
use super::types::TransportCounters;

/// Longest text, in bytes, in either direction: what peers assume by RFC 8841 section 6.1.
pub(crate) const MAX_MESSAGE: usize = 65_536;
/// Most bytes of texts that wait for the peer. More are refused.
pub(crate) const MAX_BUFFERED: usize = 512 * 1024;
/// Longest message that is reassembled, to be refused by closing only its channel: beyond this the
/// library ends the association at the first fragment that does not fit.
const MAX_ASSEMBLED: usize = 512 * 1024;
/// Payload that waits for reassembly or for its turn: one message more, since the crate accepts the
/// last fragment of one only while there is room.
const RECEIVE_BUFFER: u32 = (MAX_ASSEMBLED + MAX_MESSAGE) as u32;
/// Memory behind that: small fragments in large datagrams cost more than they carry.
const MAX_HELD: usize = 1024 * 1024;
/// Most streams, refused ones included.
const MAX_STREAMS: usize = 16;
/// Largest packet, in bytes: what an IPv6 path must carry (1280), less IP, UDP, TURN and DTLS.
const MTU: u32 = 1188;
/// Events and packets taken in one go: far more than there can be, so that a bug cannot make it
/// spin.
const MAX_STEPS: usize = 4096;
/// The library needs a source address for a packet; there is only one peer.
const PEER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 5000));

/// What an association wants or reports.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SctpEvent {
    /// Send this to the peer, as DTLS application data.
    Packet(Bytes),
    /// The channel is open.
    Opened,
    /// A text arrived on the channel.
    Text(String),
    /// The channel was closed, for this reason.
    Closed(&'static str),
}

/// Why a text was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// There is no open channel.
    #[error("there is no open data channel")]
    NotOpen,
    /// The text is longer than 65 536 bytes.
    #[error("the text is too long")]
    TooLong,
    /// The peer does not accept what was sent before.
    #[error("too much waits for the peer")]
    Full,
}

/// The association of one endpoint, if the peer has set one up.
pub(crate) struct Sctp {
    endpoint: Endpoint,
    association: Option<(AssociationHandle, Association)>,
    /// The peer's end of this association; its tag distinguishes a new beginning from a repetition.
    peer: Option<Peer>,
    connected: bool,
    channel: Option<u16>,
    held: HeldDatagrams,
    events: Vec<SctpEvent>,
}

impl Default for Sctp {
    fn default() -> Self {
        let endpoint = Endpoint::new(Arc::clone(&ENDPOINT), Some(Arc::clone(&SERVER)));
        Self {
            endpoint,
            association: None,
            peer: None,
            connected: false,
            channel: None,
            held: HeldDatagrams::default(),
            events: Vec::new(),
        }
    }
}

impl Sctp {
    /// Handles a packet of the peer. A malformed packet is ignored or ends the association.
    pub(crate) fn handle(&mut self, now: Instant, packet: &[u8], counters: &mut TransportCounters) {
        let packet = Bytes::copy_from_slice(packet);
        self.guarded(counters, |this, counters| {
            if this.begins_anew(&packet) {
                counters.sctp_lost += 1;
                this.reset("the peer began another association");
            }
            if this.association.is_none()
                && let Some(abort) = abort::to_stranger(&packet)
            {
                this.events.push(SctpEvent::Packet(abort));
                return;
            }
            let goodbye = abort::is_goodbye(&packet);
            this.held.add(&packet);
            this.take(now, packet);
            this.advance(now, goodbye, counters);
        });
    }

    /// Handles the time passing.
    pub(crate) fn handle_timeout(&mut self, now: Instant, counters: &mut TransportCounters) {
        if self.poll_timeout().is_some_and(|at| at <= now) {
            self.guarded(counters, |this, counters| {
                if let Some((_, association)) = &mut this.association {
                    association.handle_timeout(now);
                }
                this.step(now, counters);
            });
        }
    }

    /// When [`Self::handle_timeout`] is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.association.as_ref()?.1.poll_timeout()
    }

    /// Takes the new events.
    pub(crate) fn take_events(&mut self) -> Vec<SctpEvent> {
        std::mem::take(&mut self.events)
    }

    /// Sends a text on the open channel.
    pub(crate) fn send(
        &mut self,
        now: Instant,
        text: &str,
        counters: &mut TransportCounters,
    ) -> Result<(), SendError> {
        let id = self.channel.ok_or(SendError::NotOpen)?;
        if text.len() > MAX_MESSAGE {
            return Err(SendError::TooLong);
        }
        let sent = self.guarded(counters, |this, counters| {
            let (_, association) = this.association.as_mut().ok_or(SendError::NotOpen)?;
            let mut stream = association.stream(id).map_err(|_| SendError::NotOpen)?;
            let waiting = stream.buffered_amount().map_err(|_| SendError::NotOpen)?;
            if waiting + text.len() > MAX_BUFFERED {
                return Err(SendError::Full);
            }
            // An SCTP message cannot be empty (RFC 8831 section 6.6).
            let written = match text.as_bytes() {
                [] => stream.write_with_ppi(&[0], Ppid::StringEmpty),
                bytes => stream.write_with_ppi(bytes, Ppid::String),
            };
            written.map_err(|_| SendError::NotOpen)?;
            counters.channel_texts_sent += 1;
            this.step(now, counters);
            Ok(())
        });
        sent.unwrap_or(Err(SendError::NotOpen))
    }

    /// Returns whether the channel is open.
    pub(crate) fn is_open(&self) -> bool {
        self.channel.is_some()
    }

    /// State for `/debug`.
    pub(crate) fn debug(&self) -> serde_json::Value {
        json!({
            "connected": self.connected,
            "channel": self.channel,
            "held_bytes": self.held.bytes(),
        })
    }

    /// Returns whether the peer has lost the association and sets up another one (RFC 9260 section
    /// 5.2.2). DTLS authenticates it, so the old one needs no proof of its end; the library does
    /// not support such a beginning.
    fn begins_anew(&self, packet: &[u8]) -> bool {
        let tag = Peer::of_init(packet).map(|peer| peer.tag);
        self.association.is_some() && tag.is_some() && tag != self.peer.map(|peer| peer.tag)
    }

    fn take(&mut self, now: Instant, packet: Bytes) {
        let peer = Peer::of_init(&packet);
        match self.endpoint.handle(now, PEER, None, None, packet) {
            Some((handle, DatagramEvent::NewAssociation(association))) => {
                self.endpoint.reject_new_associations();
                self.peer = peer;
                self.association = Some((handle, association));
            }
            Some((_, DatagramEvent::AssociationEvent(event))) => {
                if let Some((_, association)) = &mut self.association {
                    association.handle_event(event);
                }
            }
            None => {}
        }
    }

    /// After each call: takes the library's events and packets.
    fn step(&mut self, now: Instant, counters: &mut TransportCounters) {
        self.advance(now, false, counters);
    }

    /// `goodbye`: the peer's packet ends the association.
    fn advance(&mut self, now: Instant, goodbye: bool, counters: &mut TransportCounters) {
        let mut lost = false;
        for _ in 0..MAX_STEPS {
            let Some((_, association)) = &mut self.association else { return };
            match association.poll() {
                Some(AssociationEvent::Connected) => {
                    self.connected = true;
                    counters.sctp_connected += 1;
                }
                Some(
                    AssociationEvent::AssociationLost { .. }
                    | AssociationEvent::HandshakeFailed { .. },
                ) => lost = true,
                Some(AssociationEvent::Stream(event)) => self.on_stream(&event, counters),
                Some(_) => {}
                None => break,
            }
        }
        self.collect_packets(now);
        self.held.release();
        let Some((_, association)) = &self.association else { return };
        let greedy = self.held.bytes() > MAX_HELD || association.stream_ids().len() > MAX_STREAMS;
        // Before the handshake it is closed too.
        if lost || greedy || (self.connected && association.is_closed()) {
            counters.sctp_lost += 1;
            if goodbye || association.is_closing() {
                self.reset("the peer ended the association");
            } else {
                self.abort(if greedy { Reason::Greedy } else { Reason::Unacceptable });
            }
        }
    }

    fn collect_packets(&mut self, now: Instant) {
        let Some((handle, association)) = &mut self.association else { return };
        for _ in 0..MAX_STEPS {
            let Some(transmit) = association.poll_transmit(now) else { break };
            if let Payload::RawEncode(packets) = transmit.payload {
                self.events.extend(packets.into_iter().map(SctpEvent::Packet));
            }
        }
        while let Some(event) = association.poll_endpoint_event() {
            self.endpoint.handle_event(*handle, event);
        }
    }

    fn on_stream(&mut self, event: &StreamEvent, counters: &mut TransportCounters) {
        let Some((_, association)) = &mut self.association else { return };
        match *event {
            StreamEvent::Opened { .. } => while association.accept_stream().is_some() {},
            StreamEvent::Readable { id } => self.read(id, counters),
            // The peer closed it (RFC 8831 section 6.7); the answer is to close our side too.
            StreamEvent::Finished { id } | StreamEvent::Stopped { id, .. } => {
                if let Ok(mut stream) = association.stream(id) {
                    let _ = stream.close();
                }
                self.closed(id, "the peer closed it");
            }
            _ => {}
        }
    }

    /// Reads all complete messages.
    fn read(&mut self, id: u16, counters: &mut TransportCounters) {
        for _ in 0..MAX_STEPS {
            let Some((_, association)) = &mut self.association else { return };
            let Ok(mut stream) = association.stream(id) else { return };
            let Ok(Some(message)) = stream.read_sctp() else { return };
            if message.len() > MAX_MESSAGE {
                counters.channel_too_long += 1;
                // RFC 8831 section 6.7: the peer sees that its stream is reset.
                let _ = stream.close();
                self.closed(id, "a message of the peer has more than 65536 bytes");
                continue;
            }
            let mut bytes = vec![0; message.len().min(MAX_MESSAGE)];
            if message.read(&mut bytes).is_err() {
                counters.channel_malformed += 1;
                continue;
            }
            match message.ppi {
                Ppid::Dcep => self.on_dcep(id, &bytes, counters),
                Ppid::String | Ppid::StringEmpty if self.channel == Some(id) => {
                    let bytes = if message.ppi == Ppid::StringEmpty { Vec::new() } else { bytes };
                    match String::from_utf8(bytes) {
                        Ok(text) => self.events.push(SctpEvent::Text(text)),
                        Err(_) => counters.channel_malformed += 1,
                    }
                }
                Ppid::Binary | Ppid::BinaryEmpty if self.channel == Some(id) => {
                    counters.channel_binary += 1;
                }
                _ => counters.channel_malformed += 1,
            }
        }
    }

    fn on_dcep(&mut self, id: u16, message: &[u8], counters: &mut TransportCounters) {
        let Some((_, association)) = &mut self.association else { return };
        let Ok(mut stream) = association.stream(id) else { return };
        let open = match Open::parse(message) {
            Ok(open) if self.channel.is_none() => open,
            // An acknowledgement of a channel that we never opened, or a second OPEN for the same
            // one.
            _ if self.channel == Some(id) => {
                counters.channel_malformed += 1;
                return;
            }
            other => {
                match other {
                    Ok(_) => counters.channels_refused += 1,
                    Err(_) => counters.channel_malformed += 1,
                }
                let _ = stream.close();
                return;
            }
        };
        // Before the reliability is set: the acknowledgement itself is reliable and ordered.
        if stream.write_with_ppi(&dcep::ACK, Ppid::Dcep).is_err() {
            counters.channel_malformed += 1;
            return;
        }
        let (kind, parameter) = match open.reliability {
            Reliability::Reliable => (ReliabilityType::Reliable, 0),
            Reliability::Retransmissions(count) => (ReliabilityType::Rexmit, count),
            Reliability::Lifetime(milliseconds) => (ReliabilityType::Timed, milliseconds),
        };
        let _ = stream.set_reliability_params(open.unordered, kind, parameter);
        self.channel = Some(id);
        counters.channels_opened += 1;
        self.events.push(SctpEvent::Opened);
    }

    fn closed(&mut self, id: u16, why: &'static str) {
        if self.channel.take_if(|channel| *channel == id).is_some() {
            self.events.push(SctpEvent::Closed(why));
        }
    }

    /// Ends the association and tells the peer.
    fn abort(&mut self, reason: Reason) {
        if let Some(peer) = self.peer {
            self.events.push(SctpEvent::Packet(peer.abort(reason)));
        }
        self.reset(reason.text());
    }

    /// Drops the association; the peer may begin another one.
    fn reset(&mut self, why: &'static str) {
        let open = self.channel.is_some();
        let events = std::mem::take(&mut self.events);
        *self = Self { events, ..Self::default() };
        if open {
            self.events.push(SctpEvent::Closed(why));
        }
    }

    /// Calls the library so that a panic in it ends one association and not the loop.
    fn guarded<T>(
        &mut self,
        counters: &mut TransportCounters,
        call: impl FnOnce(&mut Self, &mut TransportCounters) -> T,
    ) -> Option<T> {
        let result = catch_unwind(AssertUnwindSafe(|| call(self, counters)));
        if result.is_err() {
            counters.sctp_panics += 1;
            counters.sctp_lost += 1;
            self.abort(Reason::Defect);
        }
        result.ok()
    }
}

/// Type of an INIT chunk (RFC 9260 section 3.2).
const INIT: u8 = 1;

static ENDPOINT: LazyLock<Arc<EndpointConfig>> = LazyLock::new(|| {
    let mut config = EndpointConfig::new();
    // Less the common header and the header of a DATA chunk.
    config.max_payload_size(MTU - 12 - 16);
    Arc::new(config)
});

/// As in JVB: retransmissions do not end an association (ICE consent does), and are at most 3 s
/// apart, so that a channel recovers soon after a path does.
static SERVER: LazyLock<Arc<ServerConfig>> = LazyLock::new(|| {
    let transport = TransportConfig::default()
        .with_max_receive_buffer_size(RECEIVE_BUFFER)
        .with_max_receive_message_size(MAX_ASSEMBLED as u32)
        .with_max_send_message_size(MAX_MESSAGE as u32)
        .with_max_data_retransmits(None)
        .with_rto_initial_ms(500)
        .with_rto_min_ms(400)
        .with_rto_max_ms(3000);
    let mut config = ServerConfig::new();
    config.transport = Arc::new(transport);
    Arc::new(config)
});

#[cfg(test)]
mod tests;
