//! Sources with layers in a world: sending them, and checking what the bridge sends and what
//! receivers see.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use rialto_media::{Codec, Extension, MediaType, SourceId};
use rialto_rtp::{self as rtp, RtpHeader, rtx};
use rialto_srtp::RxStream;

use super::{
    Client, Incoming, Link, Numbering, Weather, World,
    codec::{Decoder, Encoder, Mode, Network, Packet},
};

/// What the bridge sends, read as it leaves.
#[derive(Debug, Default)]
pub(super) struct Wires {
    streams: HashMap<(usize, u32), Option<RxStream>>,
    decoders: HashMap<(usize, SourceId), Decoder>,
}

impl World {
    /// Changes the networks to and from the bridge.
    pub fn set_weather(&mut self, up: Weather, down: Weather) {
        self.orderly = up.is_orderly() && !self.config.scatter;
        self.up = Link::new(up, self.config.seed);
        self.down = Link::new(down, !self.config.seed);
    }

    /// A client begins to send a source with layers; everybody else receives it.
    pub fn publish_layers(&mut self, client: usize, mode: Mode) -> SourceId {
        let media = MediaType::Video;
        let id = self.publish_to_nobody(client, media, mode.encodings.into());
        let seed = self.config.seed;
        let track = self.clients[client].tracks.last_mut().expect("it has just been published");
        track.coder = Some(Encoder::new(mode, id.0, seed));
        let spec = track.spec.clone();
        for receiver in 0..self.clients.len() {
            if receiver != client && !self.gone[receiver] {
                self.subscribe(receiver, &spec);
            }
        }
        id
    }

    /// The encoder of a source with layers.
    ///
    /// # Panics
    /// If nobody sends it.
    pub fn coder(&mut self, source: SourceId) -> &mut Encoder {
        let tracks = self.clients.iter_mut().flat_map(|c| &mut c.tracks);
        let track = tracks.into_iter().find(|t| t.spec.id == source);
        track.and_then(|t| t.coder.as_mut()).expect("a source with layers")
    }

    pub(super) fn expect_layers(&mut self, receiver: usize, source: SourceId) {
        let tracks = || self.clients.iter().flat_map(|c| &c.tracks);
        if !tracks().any(|t| t.spec.id == source && t.coder.is_some()) {
            return;
        }
        if let Some(incoming) = self.clients[receiver].incoming.get_mut(&source) {
            incoming.screen.get_or_insert_default();
        }
    }

    /// What the bridge sent to a client of a source with layers.
    pub fn wire(&self, client: usize, source: SourceId) -> Option<&Decoder> {
        self.wire.decoders.get(&(client, source))
    }

    /// What the network did to a source with layers on its way to the bridge.
    pub fn network(&self, source: SourceId) -> Network<'_> {
        let tracks = self.clients.iter().flat_map(|c| &c.tracks);
        let coder = tracks.filter(|t| t.spec.id == source).find_map(|t| t.coder.as_ref());
        let sent = coder.map(|coder| &coder.sent);
        Network { lost: &self.lost_up, orderly: self.orderly, sent, ..Network::FINE }
    }

    /// Reads a datagram that leaves the bridge.
    pub(super) fn watch(&mut self, client: usize, datagram: &[u8]) {
        if rtp::is_rtcp(datagram) {
            return;
        }
        let c = &self.clients[client];
        let Ok(header) = RtpHeader::parse(datagram) else { return };
        let Some((source, is_rtx)) = c.by_ssrc.get(&header.ssrc).copied() else { return };
        let Some(incoming) = c.incoming.get(&source).filter(|i| i.screen.is_some()) else { return };
        let stream = self.wire.streams.entry((client, header.ssrc)).or_default();
        let mut bytes = datagram.to_vec();
        let opened = c.rx.open_rtp(stream, &mut bytes, header.len).expect("the client's key");
        bytes.truncate(opened.len);
        let ssrc = incoming.spec.encodings.first().map(|encoding| encoding.ssrc);
        let at =
            if is_rtx { ssrc.and_then(|s| restore(c.numbering, s, &mut bytes)) } else { Some(0) };
        let Some(bytes) = at.and_then(|at| bytes.get(at..)) else { return };
        let header = RtpHeader::parse(bytes).expect("a restored header");
        if let Some(packet) = read(c.numbering, &header, bytes) {
            let wire = self.wire.decoders.entry((client, source)).or_default();
            wire.take(self.now - self.start, &packet);
        }
    }
}

/// Restores the packet in a retransmission. Returns where it begins, or `None` if it is empty.
fn restore(numbering: Numbering, ssrc: u32, bytes: &mut [u8]) -> Option<usize> {
    let header = RtpHeader::parse(bytes).ok()?;
    let pt = numbering.payload_type(numbering.codec(header.payload_type)?);
    rtx::restore(bytes, &header, pt, ssrc)
}

/// A packet for a decoder.
fn read<'a>(numbering: Numbering, header: &RtpHeader, bytes: &'a [u8]) -> Option<Packet<'a>> {
    let payload = bytes.get(header.payload_range(bytes).expect("sound padding"))?;
    let codec = numbering.codec(header.payload_type).unwrap_or(Codec::Opus);
    let id = numbering.extension(Extension::DependencyDescriptor);
    let descriptor = header.extensions(bytes).find(|e| e.id == id).map(|e| e.data);
    let RtpHeader { sequence: seq, timestamp, marker, .. } = *header;
    Some(Packet { seq, timestamp, marker, codec, payload, descriptor })
}

impl Incoming {
    /// Handles a packet of a source with layers.
    pub(super) fn show(
        &mut self,
        now: Instant,
        since_start: Duration,
        numbering: Numbering,
        header: &RtpHeader,
        bytes: &[u8],
    ) -> Option<()> {
        let mid = numbering.extension(Extension::Mid);
        let found = header.extensions(bytes).find(|e| e.id == mid).map(|e| e.data);
        assert_eq!(found, Some(self.mid.as_bytes()), "MID");
        let packet = read(numbering, header, bytes)?;
        let truth = super::codec::Truth::read(packet.payload);
        self.screen.as_mut()?.take(since_start, &packet);
        self.take(now, header.sequence, header.timestamp, truth?.body, None);
        Some(())
    }
}

impl Client {
    /// Keyframe requests for frozen sources.
    pub(super) fn keyframe_requests(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let since = now - self.start;
        let stuck = self.incoming.iter_mut().filter_map(|(source, incoming)| {
            incoming.screen.as_mut()?.asks_for_keyframe(since).then_some(*source)
        });
        let stuck: Vec<SourceId> = stuck.collect();
        stuck.into_iter().filter_map(|source| self.ask_for_keyframe(source)).collect()
    }
}
