//! The way of a received datagram: its kind, the endpoint that sent it and, for media, the
//! receivers to which it is forwarded.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "counters of 64 bits, and lengths of one datagram"
)]

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rialto_media::Drop;
use rialto_media::{
    EndpointId, MediaType, ShardId, SourceId, Tables, TransportDatagram, TransportEvent,
};
use rialto_rtp::{self as rtp, header::Kind};

use super::{Bound, ControlEvent, Core, CoreConfig, MAX_DATAGRAM, MAX_FLIGHT, PeerItem};
use crate::{
    ShardTotals,
    ingress::{Accepted, Context, Gate, PacketMeta, Parked},
    slots::{EndpointSlot, FeedSlot, SourceSlot, StreamSlot},
};

/// Most events for control that wait for the end of a batch.
const MAX_EVENTS: usize = 4_096;

/// Flights of more than [`MAX_DATAGRAM`] bytes that are accepted per second. Control queues
/// thousands of events, which must not all be that long.
const LARGE_FLIGHTS: u32 = 64;

/// Limits the rate of large flights.
#[derive(Debug)]
pub(super) struct LargeFlights {
    since: Instant,
    taken: u32,
}

impl LargeFlights {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, taken: 0 }
    }

    fn take(&mut self, now: Instant, length: usize) -> bool {
        if now.saturating_duration_since(self.since) >= Duration::from_secs(1) {
            *self = Self::new(now);
        }
        let takes = length <= MAX_FLIGHT && self.taken < LARGE_FLIGHTS;
        self.taken += u32::from(takes);
        takes
    }
}

/// Queues an event for control, or counts it as dropped.
pub(super) fn push(events: &mut Vec<ControlEvent>, totals: &mut ShardTotals, event: ControlEvent) {
    if events.len() < MAX_EVENTS {
        events.push(event);
    } else {
        totals.events_dropped += 1;
    }
}

/// The context in which an endpoint's packets are parsed.
fn context<'a>(
    config: &CoreConfig,
    (now, epoch): (Instant, Instant),
    tables: &'a Tables,
    rtt: Duration,
) -> Context<'a> {
    let since_epoch = now.saturating_duration_since(epoch);
    Context {
        now,
        since_epoch,
        tables,
        silence: config.audio.silence,
        believes_costs: config.allocation.use_announced,
        rtt,
    }
}

impl Core {
    pub(super) fn inbound(&mut self, local: SocketAddr, remote: SocketAddr, bytes: &mut [u8]) {
        let bound = self.addresses.get(&remote).copied();
        let kind = rtp::demux(bytes);
        if bytes.len() > MAX_DATAGRAM {
            let flight = kind == Kind::Dtls && bound.is_some();
            if !(flight && self.flights.take(self.now, bytes.len())) {
                return self.drops.count(Drop::TooLarge);
            }
        }
        match (kind, bound) {
            (Kind::Stun, _) => {
                let datagram = self.for_control(local, remote, bound.map(|b| b.endpoint), bytes);
                self.event(ControlEvent::Transport(TransportEvent::Stun(datagram)));
            }
            (Kind::Dtls, Some(bound)) => {
                let datagram = self.for_control(local, remote, Some(bound.endpoint), bytes);
                self.event(ControlEvent::Transport(TransportEvent::Dtls(datagram)));
            }
            (Kind::Rtp | Kind::Rtcp, Some(bound)) => {
                if bound.home == self.config.shard {
                    self.media(bound, bytes);
                } else {
                    self.totals.handed_over += 1;
                    let endpoint = bound.endpoint;
                    self.send_peer(bound.home, PeerItem::Datagram { endpoint, remote }, bytes);
                }
            }
            (Kind::Dtls | Kind::Rtp | Kind::Rtcp, None) => self.drops.count(Drop::UnboundAddress),
            _ => self.drops.count(Drop::UnknownKind),
        }
    }

    fn for_control(
        &self,
        local: SocketAddr,
        remote: SocketAddr,
        endpoint: Option<EndpointId>,
        bytes: &[u8],
    ) -> TransportDatagram {
        TransportDatagram {
            shard: self.config.shard,
            local,
            remote,
            endpoint,
            received: self.now,
            bytes: Bytes::copy_from_slice(bytes),
        }
    }

    pub(super) fn event(&mut self, event: ControlEvent) {
        push(&mut self.events, &mut self.totals, event);
    }

    pub(super) fn on_peer_item(&mut self, from: ShardId, item: PeerItem, bytes: &mut [u8]) {
        match item {
            PeerItem::Datagram { endpoint, remote } => {
                // The binding may have ended while the datagram was on its way from the other
                // shard.
                match self.addresses.get(&remote).copied() {
                    Some(bound) if bound.endpoint == endpoint => self.media(bound, bytes),
                    _ => self.drops.count(Drop::UnboundAddress),
                }
            }
            PeerItem::Media { source, encoding, meta } => {
                let slot = self.feed_slots.get(&source).copied();
                if slot.is_none() {
                    self.send_peer(from, PeerItem::Wanted { source, wanted: 0 }, &[]);
                }
                self.record_remote_speaker(slot, source, &meta);
                self.store(slot, encoding, meta, bytes);
            }
            PeerItem::SenderReport { source, encoding, ntp, timestamp } => {
                self.on_peer_report(source, encoding, (ntp, timestamp), bytes);
            }
            PeerItem::Active { source, active, heights, rates } => {
                self.set_active(source, active, heights, rates);
            }
            PeerItem::Layers { source, encoding, layers } => {
                self.set_layers(source, encoding, layers);
            }
            PeerItem::Wanted { source, wanted } => {
                self.set_wanted(source, from, wanted);
                self.send_active(source, from);
            }
            PeerItem::Keyframe { source, encoding } => self.want_keyframe(source, encoding),
        }
    }

    /// Handles SRTP or SRTCP of an endpoint whose home is this shard.
    fn media(&mut self, bound: Bound, bytes: &mut [u8]) {
        let Some(slot) = bound.slot.or_else(|| self.endpoint_slots.get(&bound.endpoint).copied())
        else {
            return self.drops.count(Drop::UnknownEndpoint);
        };
        if rtp::is_rtcp(bytes) {
            return self.on_rtcp(slot, bytes);
        }
        let Some(e) = self.endpoints.get_mut(slot) else {
            return self.drops.count(Drop::UnknownEndpoint);
        };
        let at = (self.now, self.epoch);
        let cx = context(&self.config, at, &e.media.tables, e.receiver.round_trip());
        let wire_len = bytes.len() as u64;
        let rules = self.config.audio.loudest;
        let conference = e.spec.conference;
        let speakers = rules.only.then(|| self.speakers.entry(conference).or_default());
        let gate = Gate { rules, speakers };
        let taken = e.sender.on_rtp(&cx, gate, bytes);
        let unparked = e.sender.take_unparked();
        match taken {
            Ok((len, accepted)) => {
                e.last_received = Some(self.now);
                self.totals.rtp_received += 1;
                self.totals.rtp_bytes_received += wire_len;
                let packet = bytes.get(..len).unwrap_or_default();
                if let Some(tap) = &e.tap {
                    tap.copy(false, packet);
                }
                if accepted.as_ref().is_none_or(|accepted| accepted.urgent) {
                    self.set_urgent(slot);
                }
                if let Some(accepted) = accepted {
                    self.route(slot, &accepted, packet);
                }
            }
            Err(reason) => self.drops.count(reason),
        }
        if let Some((stream, mut parked)) = unparked {
            self.unpark(slot, stream, &mut parked);
        }
    }

    /// Processes the packets of a stream that waited for a template structure: each is routed or
    /// dropped.
    #[cold]
    fn unpark(&mut self, slot: EndpointSlot, stream: StreamSlot, parked: &mut Parked) {
        self.drops.add(Drop::StructureMissing, parked.ended());
        let at = (self.now, self.epoch);
        for unparked in parked.packets() {
            let Some(e) = self.endpoints.get_mut(slot) else { return };
            let cx = context(&self.config, at, &e.media.tables, e.receiver.round_trip());
            match e.sender.on_unparked(&cx, stream, &unparked) {
                Ok(Some(accepted)) => self.route(slot, &accepted, unparked.packet),
                Ok(None) => {}
                Err(reason) => self.drops.count(reason),
            }
        }
        self.set_urgent(slot);
    }

    /// Registers speech of a source whose home is another shard, which already selected it as loud.
    fn record_remote_speaker(
        &mut self,
        slot: Option<FeedSlot>,
        source: SourceId,
        meta: &PacketMeta,
    ) {
        let rules = self.config.audio.loudest;
        if !rules.only || meta.audio.energy == 0 || meta.audio.included_only {
            return;
        }
        let feed = slot.and_then(|slot| self.feeds.get(slot));
        if let Some(feed) = feed.filter(|feed| feed.info.spec.media == MediaType::Audio) {
            let speakers = self.speakers.entry(feed.info.conference).or_default();
            speakers.record_remote(&rules, source, meta.audio.energy, self.now);
        }
    }

    /// Routes a packet to every shard with receivers that need its encoding.
    fn route(&mut self, slot: EndpointSlot, accepted: &Accepted, packet: &[u8]) {
        let Accepted { id, encoding, meta, .. } = *accepted;
        self.totals.keyframes_received += u64::from(meta.keyframe);
        if accepted.changed {
            self.send_active_to_all(slot, accepted.source);
        }
        if let Some(reason) = accepted.ends {
            return self.drops.count(reason);
        }
        let bit = 1u8 << encoding;
        let own = self.config.shard;
        let (mut here, mut taken) = (false, false);
        let Some(source) =
            self.endpoints.get(slot).and_then(|e| e.sender.sources.get(accepted.source))
        else {
            return;
        };
        let feed = source.feed;
        for (shard, wanted) in &source.routes {
            if wanted & bit == 0 {
                continue;
            }
            taken = true;
            if *shard == own {
                here = true;
                continue;
            }
            let item = PeerItem::Media { source: id, encoding, meta };
            if !self.peers.push(*shard, item, packet) {
                self.drops.count(Drop::PeerQueueFull);
            }
        }
        if !taken {
            self.drops.count(Drop::Unwanted);
        }
        if here {
            self.store(feed, encoding, meta, packet);
        }
    }

    /// Tells every shard with receivers which encodings of a source are active.
    pub(super) fn send_active_to_all(&mut self, slot: EndpointSlot, source: SourceSlot) {
        let Some(s) = self.endpoints.get(slot).and_then(|e| e.sender.sources.get(source)) else {
            return;
        };
        let id = s.spec.id;
        for i in 0..s.routes.len() {
            let shard = self
                .endpoints
                .get(slot)
                .and_then(|e| e.sender.sources.get(source))
                .and_then(|s| s.routes.get(i))
                .map(|r| r.0);
            if let Some(shard) = shard {
                self.send_active(id, shard);
            }
        }
    }

    /// Stores a packet in its ring on this shard. It leaves with the next flush that finds it due.
    fn store(&mut self, slot: Option<FeedSlot>, encoding: u8, meta: PacketMeta, packet: &[u8]) {
        let feed = slot.and_then(|slot| Some((slot, self.feeds.get_mut(slot)?)));
        let Some((slot, feed)) = feed else { return self.drops.count(Drop::Unwanted) };
        let mut most = self.config.video_hold;
        if feed.is_audio() {
            most = self.config.audio.hold;
            if !most.is_zero() {
                let talk = self.speech_pace.entry(feed.info.conference).or_default();
                talk.on_speech(self.now);
                most = talk.speech_hold(most);
            }
        }
        if feed.push(encoding, meta, packet, self.now, most) {
            self.dirty.push(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Drop;
    use rialto_media::MediaType;

    use crate::sim::{AUDIO_INTERVAL, Client, World, WorldConfig};

    const SECOND: Duration = Duration::from_secs(1);
    const SILENT: u8 = 127;

    /// Delivers the first packet of a source's next frame, without the mark of a complete frame.
    /// Returns how many packets leave at once.
    fn leave_at_once(media: MediaType) -> u64 {
        let mut world = World::new(WorldConfig::default());
        world.join();
        world.join();
        world.publish(0, media, 1);
        world.run(SECOND);
        world.clients[0].fall_silent();
        world.run(SECOND / 10);
        one_more_leaves_at_once(&mut world)
    }

    /// Delivers one more packet of the first client, which nothing follows. Returns how many
    /// packets leave at once; the others leave once they waited for as long as a packet may.
    fn one_more_leaves_at_once(world: &mut World) -> u64 {
        let (since, sent) = (world.elapsed(), world.cores[0].totals.rtp_sent);
        let client = &mut world.clients[0];
        let mut plain = client.tracks[0].make_frame(since, &mut 0).remove(0);
        plain.bytes[1] &= 0x7f;
        let (from, mut bytes) = (client.addr, client.seal(&plain));
        world.deliver(0, from, &mut bytes);
        let at_once = world.cores[0].totals.rtp_sent - sent;
        world.run(Duration::from_millis(3));
        let receivers = world.clients.len() as u64 - 1;
        assert_eq!(world.cores[0].totals.rtp_sent - sent, receivers);
        at_once
    }

    /// Lets `talkers` speak, in turns within each 20 ms, and then all but one fall silent.
    fn talk(talkers: usize, hold: Duration) -> u64 {
        let audio = crate::AudioConfig { hold, ..crate::AudioConfig::default() };
        let mut world = World::new(WorldConfig { audio, ..WorldConfig::default() });
        for _ in 0..talkers {
            world.join();
        }
        for talker in 0..talkers {
            world.publish(talker, MediaType::Audio, 1);
            world.run(AUDIO_INTERVAL / talkers as u32);
        }
        world.run(SECOND);
        world.clients.iter_mut().for_each(Client::fall_silent);
        world.run(SECOND / 10);
        one_more_leaves_at_once(&mut world)
    }

    #[test]
    fn audio_waits_for_company_only_where_many_talk() {
        let millisecond = Duration::from_millis(1);
        assert_eq!(talk(30, millisecond), 0, "it waits");
        assert_eq!(talk(30, Duration::ZERO), 29);
        assert_eq!(talk(4, millisecond), 3);
    }

    #[test]
    fn audio_never_waits_and_a_part_of_a_frame_does() {
        assert_eq!(leave_at_once(MediaType::Audio), 1);
        assert_eq!(leave_at_once(MediaType::Video), 0);
    }

    #[test]
    fn silence_ends_here_and_leaves_no_gap() {
        let mut world = World::new(WorldConfig::default());
        world.join();
        world.join();
        let audio = world.publish(0, MediaType::Audio, 1);
        world.run(SECOND);
        let loud = world.clients[0].tracks[0].level;
        for _ in 0..3 {
            world.clients[0].tracks[0].level = SILENT;
            world.run(SECOND);
            world.clients[0].tracks[0].level = loud;
            world.run(SECOND);
        }
        let totals = world.cores[0].totals;
        let ended = world.cores[0].drops.get(Drop::Silence);
        assert!((100..=150).contains(&ended), "all but three of each second: {ended}");
        let got = &world.clients[1].incoming[&audio].got;
        assert_eq!(got.len() as u64, totals.rtp_received, "what ends here is not opened");
        let sent = world.clients[0].tracks[0].made.len() as u64;
        assert!(sent - (got.len() as u64 + ended) <= 1, "one is on its way");
        let (first, last) = (*got.keys().next().unwrap(), *got.keys().last().unwrap());
        assert_eq!(last - first + 1, got.len() as u64, "no gap");
        world.clients[1].incoming[&audio].check();
    }
}
