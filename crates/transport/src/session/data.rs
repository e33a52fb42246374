//! Application data over DTLS: SCTP with the data channel, if signalled.

use std::time::Instant;

use bytes::Bytes;

use super::super::{
    sctp::{Sctp, SctpEvent, SendError},
    types::TransportCounters,
};

/// Most packets taken from DTLS at a time; SCTP retransmits those that do not fit.
const MAX_RECEIVED: usize = 64;

/// Data of one endpoint.
#[derive(Default)]
pub(super) struct Data {
    offered: bool,
    sctp: Option<Box<Sctp>>,
    received: Vec<Bytes>,
    dropped: u64,
}

impl Data {
    /// Allows the peer to set up an association.
    pub(super) fn offer(&mut self) {
        self.offered = true;
    }

    /// Handles a packet of the peer.
    pub(super) fn receive(&mut self, packet: Bytes) {
        if self.offered && self.received.len() < MAX_RECEIVED {
            self.received.push(packet);
        } else {
            self.dropped += 1;
        }
    }

    /// When [`Self::run`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.sctp.as_ref()?.poll_timeout()
    }

    /// See [`Sctp::send`].
    pub(super) fn send(
        &mut self,
        now: Instant,
        text: &str,
        counters: &mut TransportCounters,
    ) -> Result<(), SendError> {
        let sctp = self.sctp.as_mut().ok_or(SendError::NotOpen)?;
        sctp.send(now, text, counters)
    }

    /// Does what is due: returns the channel's events, and passes packets to DTLS.
    pub(super) fn run(
        &mut self,
        now: Instant,
        counters: &mut TransportCounters,
    ) -> (Vec<SctpEvent>, Vec<Bytes>) {
        counters.application_data_dropped += std::mem::take(&mut self.dropped);
        let received = std::mem::take(&mut self.received);
        if !received.is_empty() {
            let sctp = self.sctp.get_or_insert_default();
            for packet in received {
                sctp.handle(now, &packet, counters);
            }
        }
        let Some(sctp) = &mut self.sctp else { return Default::default() };
        sctp.handle_timeout(now, counters);
        let (mut news, mut packets) = (Vec::new(), Vec::new());
        for event in sctp.take_events() {
            match event {
                SctpEvent::Packet(packet) => packets.push(packet),
                event => news.push(event),
            }
        }
        (news, packets)
    }

    /// While there is no DTLS to carry it: drops what arrived, and the association too if DTLS is
    /// closed for good.
    pub(super) fn idle(
        &mut self,
        closed: bool,
        counters: &mut TransportCounters,
    ) -> Vec<SctpEvent> {
        let dropped = std::mem::take(&mut self.dropped) + self.received.len() as u64;
        counters.application_data_dropped += dropped;
        self.received.clear();
        let open = closed && self.sctp.take().is_some_and(|sctp| sctp.is_open());
        if open { vec![SctpEvent::Closed("DTLS is over")] } else { Vec::new() }
    }

    /// As a client: the first call sets up SCTP, the second opens the channel.
    #[cfg(test)]
    pub(super) fn connect(&mut self, now: Instant, counters: &mut TransportCounters) {
        self.offered = true;
        match &mut self.sctp {
            None => self.sctp = Some(Box::new(Sctp::client(now, counters))),
            Some(client) => client.open(now, counters),
        }
    }

    /// State for `/debug`.
    pub(super) fn debug(&self) -> Option<serde_json::Value> {
        self.sctp.as_ref().map(|sctp| sctp.debug())
    }
}
