//! Commands of control: endpoints, sources, routes and subscriptions of this shard.
#![expect(clippy::arithmetic_side_effects, reason = "times of this process")]

use std::{cmp::Reverse, net::SocketAddr, sync::Arc, time::Duration};

use rialto_media::{
    Drop, EndpointId, HashKey, MediaParams, MediaType, ShardId, SourceId, SourceSpec,
    SubscriptionParams,
    encodings::{EncodingMask, Heights},
};
use rialto_srtp::{Keying, RxContext, TxContext};

use super::{Bound, Core, Endpoint, Outbox, PeerItem, ShardCommand, feedback};
use crate::{
    dest::Dest,
    egress::{
        SourceFeed, SourceInfo,
        receiver::{
            allocation_state::AllocationState,
            link::{Feedback, Link},
            stream::Stream,
        },
        source::Subscriber,
    },
    ingress::{layers::EncodingLayers, rate::Rates},
    slots::{EndpointSlot, FeedSlot, OutStreamSlot},
};

impl Core {
    pub(super) fn apply(&mut self, command: ShardCommand, out: &mut impl Outbox) {
        match command {
            ShardCommand::Bind { remote, endpoint, home } => self.bind(remote, endpoint, home),
            ShardCommand::Unbind { remote, endpoint } => {
                if self.addresses.get(&remote).is_some_and(|bound| bound.endpoint == endpoint) {
                    self.addresses.remove(&remote);
                }
                if let Some(e) = self.endpoint_mut(endpoint) {
                    e.addresses.retain(|address| *address != remote);
                }
                self.stop_sending_to(endpoint, remote);
            }
            ShardCommand::AddEndpoint(id, spec) => {
                let media = self.descriptions.get(&Arc::default());
                let key = HashKey::new(self.config.seed, id.0.into());
                let share = AllocationState::new(&self.config.allocation, self.now);
                let e = Endpoint::new(id, spec, media, key, share, self.now);
                let slot = self.endpoints.insert(e);
                self.endpoint_slots.insert(id, slot);
                self.next_tick = self.next_tick.min(self.now + super::TICK);
            }
            ShardCommand::RemoveEndpoint(id) => self.remove_endpoint(id, out),
            ShardCommand::SetMedia(id, media) => self.set_media(id, &media),
            ShardCommand::SetSources(id, sources) => self.set_sources(id, sources),
            ShardCommand::SetForceMute { endpoint, audio, video } => {
                if let Some(e) = self.endpoint_mut(endpoint) {
                    e.sender.mute = (audio, video);
                }
            }
            ShardCommand::SetDominant(id, dominant) => {
                if let Some(e) = self.endpoint_mut(id) {
                    e.sender.dominant = dominant;
                }
            }
            ShardCommand::RequestKeyframeAhead { speaker, after } => {
                if let Some(slot) = self.endpoint_slots.get(&speaker) {
                    self.ahead.push(Reverse((self.now + after, *slot)));
                }
            }
            ShardCommand::Tap(id, tap) => {
                if let Some(e) = self.endpoint_mut(id) {
                    e.tap = tap;
                }
            }
            ShardCommand::Select { endpoint, remote, local } => {
                self.select(endpoint, local, remote);
            }
            ShardCommand::SetKeys(id, keys) => self.set_keys(id, &keys),
            ShardCommand::SetRtt(id, rtt) => self.set_rtt(id, rtt),
            ShardCommand::AddRoute { source, shard, included } => {
                self.add_route(source, shard, included);
            }
            ShardCommand::RemoveRoute { source, shard } => {
                if let Some(s) = self.home_source(source) {
                    s.routes.retain(|(to, _)| *to != shard);
                }
            }
            ShardCommand::Subscribe { receiver, source, terms } => {
                self.subscribe(receiver, &source, terms);
            }
            ShardCommand::Unsubscribe { receiver, source } => {
                self.unsubscribe(receiver, source, out);
            }
            ShardCommand::SetAllocation { receiver, wishes } => {
                if let Some(slot) = self.endpoint_slots.get(&receiver).copied() {
                    self.set_constraints(slot, wishes);
                }
            }
            ShardCommand::Transmit { local, remote, bytes } => {
                self.transmit(local, remote, &bytes, out);
            }
        }
    }

    fn bind(&mut self, remote: SocketAddr, endpoint: EndpointId, home: ShardId) {
        let slot = self.endpoint_slots.get(&endpoint).copied();
        self.addresses.insert(remote, Bound { endpoint, home, slot });
        if let Some(e) = slot.and_then(|slot| self.endpoints.get_mut(slot))
            && !e.addresses.contains(&remote)
        {
            e.addresses.push(remote);
        }
    }

    fn select(&mut self, endpoint: EndpointId, local: SocketAddr, remote: SocketAddr) {
        let (dest, now, bandwidth) = (self.dest(local, remote), self.now, self.config.bandwidth);
        if let Some(e) = self.endpoint_mut(endpoint) {
            let before = std::mem::replace(&mut e.receiver.dest, dest);
            // Another path has another bandwidth.
            if let Some(link) = e.receiver.link.as_mut()
                && before.is_some_and(|before| before.remote.ip() != remote.ip())
            {
                **link = Link::new(link.feedback, bandwidth, now);
            }
        }
        self.readiness_changed(endpoint);
    }

    fn transmit(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
        bytes: &[u8],
        out: &mut impl Outbox,
    ) {
        let written = self
            .dest(local, remote)
            .and_then(|dest| out.reserve(&dest, bytes.len()))
            .and_then(|room| room.get_mut(..bytes.len()))
            .map(|room| room.copy_from_slice(bytes));
        if written.is_some() {
            out.commit(bytes.len());
        } else {
            self.drops.count(Drop::SendQueueFull);
        }
    }

    /// Returns the socket that reaches `remote` from `local`, and the source address if it must be
    /// set.
    fn dest(&self, local: SocketAddr, remote: SocketAddr) -> Option<Dest> {
        let sockets = &self.config.sockets;
        let exact = sockets.iter().position(|s| s.ip() == local.ip());
        let wild = || {
            sockets.iter().position(|s| s.ip().is_unspecified() && s.is_ipv4() == remote.is_ipv4())
        };
        let socket = exact.or_else(wild)?;
        let named = exact.is_none() && !local.ip().is_unspecified();
        Some(Dest {
            remote,
            local_ip: named.then(|| local.ip()),
            socket: u8::try_from(socket).ok()?,
        })
    }

    /// Stops sending to an endpoint at an address that it lost (RFC 7675 section 5.1). Its streams
    /// pause, so that their sequence numbers do not run ahead.
    fn stop_sending_to(&mut self, id: EndpointId, remote: SocketAddr) {
        let Some(e) = self.endpoint_mut(id) else { return };
        if e.receiver.dest.is_some_and(|dest| dest.remote == remote) {
            e.receiver.dest = None;
            self.readiness_changed(id);
        }
    }

    pub(super) fn endpoint_mut(&mut self, id: EndpointId) -> Option<&mut Endpoint> {
        let slot = *self.endpoint_slots.get(&id)?;
        self.endpoints.get_mut(slot)
    }

    pub(super) fn home_source(&mut self, id: SourceId) -> Option<&mut crate::ingress::LocalSource> {
        let slot = *self.source_homes.get(&id)?;
        self.endpoints.get_mut(slot)?.sender.source_mut(id)
    }

    fn remove_endpoint(&mut self, id: EndpointId, out: &mut impl Outbox) {
        let Some(slot) = self.endpoint_slots.get(&id).copied() else { return };
        let wanted = self.endpoints.get(slot).map(|e| e.subscriptions.clone()).unwrap_or_default();
        for (source, _) in wanted.iter().rev() {
            self.unsubscribe(id, source, out);
        }
        self.forget_sources(slot);
        self.endpoint_slots.remove(&id);
        let Some(e) = self.endpoints.remove(slot) else { return };
        for address in e.addresses {
            if self.addresses.get(&address).is_some_and(|bound| bound.endpoint == id) {
                self.addresses.remove(&address);
            }
        }
    }

    /// Removes the sources of an endpoint from this shard.
    fn forget_sources(&mut self, slot: EndpointSlot) {
        let Some(e) = self.endpoints.get(slot) else { return };
        for source in e.sender.sources.values() {
            let id = source.spec.id;
            if self.source_homes.get(&id) == Some(&slot) {
                self.source_homes.remove(&id);
            }
        }
    }

    fn set_media(&mut self, id: EndpointId, media: &Arc<MediaParams>) {
        let Some(slot) = self.endpoint_slots.get(&id).copied() else { return };
        let Some(e) = self.endpoints.get_mut(slot) else { return };
        if e.media.media == *media {
            return;
        }
        e.media = self.descriptions.get(media);
        let feedback = Feedback::negotiated(&e.media.media, &e.media.tables);
        if feedback != e.receiver.link.as_ref().map(|link| link.feedback) {
            let (bandwidth, now) = (self.config.bandwidth, self.now);
            let link = |feedback| Box::new(Link::new(feedback, bandwidth, now));
            e.receiver.link = feedback.map(link);
        }
        for s in e.receiver.streams.values_mut() {
            let Some(feed) = self.feeds.get(s.feed) else { continue };
            s.payload_types = self.descriptions.map(&feed.media, &e.media);
            // The stored packets would now be written with other bytes, and must not be sealed
            // again under the same number.
            s.history.clear();
        }
    }

    fn set_sources(&mut self, id: EndpointId, sources: Vec<SourceSpec>) {
        let Some(slot) = self.endpoint_slots.get(&id).copied() else { return };
        self.forget_sources(slot);
        for source in &sources {
            self.source_homes.insert(source.id, slot);
        }
        if let Some(e) = self.endpoints.get_mut(slot) {
            e.sender.set_sources(sources);
            for source in e.sender.sources.values_mut() {
                source.feed = self.feed_slots.get(&source.spec.id).copied();
            }
        }
    }

    fn set_keys(&mut self, id: EndpointId, keys: &Keying) {
        let now_ms = self.now_ms();
        let contexts =
            (RxContext::new(keys.profile, &keys.receive), TxContext::new(keys.profile, &keys.send));
        let Some(slot) = self.endpoint_slots.get(&id).copied() else { return };
        let Some(e) = self.endpoints.get_mut(slot) else { return };
        if e.keys.as_ref() == Some(keys) {
            // Their numbering continues, so nothing may be forgotten.
            return;
        }
        let (Ok(rx), Ok(tx)) = contexts else {
            return tracing::error!(endpoint = %e.spec.label, "SRTP keys of a wrong length");
        };
        e.keys = Some(keys.clone());
        e.sender.set_keys(rx);
        e.receiver.set_keys(tx);
        e.receiver.queue.retransmissions.clear();
        for s in e.receiver.streams.values_mut() {
            if let Some(feed) = self.feeds.get_mut(s.feed) {
                s.on_new_keys(feed, now_ms);
            }
        }
        self.readiness_changed(id);
    }

    /// Handles a possible change of whether a receiver can be sent anything. Keyframes for it are
    /// requested only once it can receive them.
    fn readiness_changed(&mut self, id: EndpointId) {
        let now_ms = self.now_ms();
        let Some(slot) = self.endpoint_slots.get(&id).copied() else { return };
        let Some(e) = self.endpoints.get_mut(slot) else { return };
        let (ready, subscriptions) = (e.receiver.is_ready(), e.subscriptions.clone());
        for (_, stream) in subscriptions.iter() {
            let e = self.endpoints.get_mut(slot);
            if let Some(s) = e.and_then(|e| e.receiver.streams.get_mut(stream)) {
                if ready && !s.ready {
                    s.projection.restart_waiting(now_ms);
                }
                s.ready = ready;
            }
            self.retarget_stream(slot, stream);
        }
    }

    fn set_rtt(&mut self, id: EndpointId, rtt: Duration) {
        let now = self.now;
        if let Some(e) = self.endpoint_mut(id) {
            e.receiver.on_ice_round_trip(now, rtt);
        }
    }

    fn add_route(&mut self, source: SourceId, shard: ShardId, included: bool) {
        let Some(s) = self.home_source(source) else { return };
        s.included = included;
        if !s.routes.iter().any(|(to, _)| *to == shard) {
            let only = s.spec.encodings.len() == 1;
            s.routes.push((shard, EncodingMask::from(only)));
        }
        self.send_active(source, shard);
    }

    /// Tells a shard which encodings of a source are active.
    pub(super) fn send_active(&mut self, source: SourceId, shard: ShardId) {
        let Some(s) = self.home_source(source) else { return };
        let (active, heights, rates, layers) = (s.active, s.heights, s.rates, s.layers);
        let layered = (0u8..).zip(layers).filter(|(_, layers)| layers != EncodingLayers::NONE);
        for (encoding, layers) in layered {
            self.send_to_shard(shard, PeerItem::Layers { source, encoding, layers });
        }
        self.send_to_shard(shard, PeerItem::Active { source, active, heights, rates });
    }

    /// Sends a message to a shard, which may be this one.
    fn send_to_shard(&mut self, shard: ShardId, item: PeerItem) {
        if shard == self.config.shard {
            self.on_peer_item(shard, item, &mut []);
        } else {
            self.send_peer(shard, item, &[]);
        }
    }

    pub(super) fn send_peer(&mut self, shard: ShardId, item: PeerItem, bytes: &[u8]) {
        if !self.peers.push(shard, item, bytes) {
            self.drops.count(Drop::PeerQueueFull);
        }
    }

    fn subscribe(
        &mut self,
        receiver: EndpointId,
        info: &Arc<SourceInfo>,
        terms: SubscriptionParams,
    ) {
        let source = info.spec.id;
        let Some(slot) = self.endpoint_slots.get(&receiver).copied() else { return };
        if self.is_in_another_slot(slot, source, &terms) {
            self.end_stream(slot, source);
        }
        let first = !self.feed_slots.contains_key(&source);
        if first {
            let media = self.descriptions.get(&info.media);
            let feed = self.feeds.insert(SourceFeed::new(info.clone(), media));
            self.feed_slots.insert(source, feed);
            if let Some(local) = self.home_source(source) {
                local.feed = Some(feed);
            }
        }
        let Some(feed_slot) = self.feed_slots.get(&source).copied() else { return };
        let Some(e) = self.endpoints.get_mut(slot) else { return };
        let Some(feed) = self.feeds.get_mut(feed_slot) else { return };
        if !Arc::ptr_eq(&feed.info.media, &info.media) {
            feed.media = self.descriptions.get(&info.media);
        }
        // Another number of encodings affects other receivers, which are updated now.
        let all = feed.info.spec.encodings.len() != info.spec.encodings.len();
        feed.info = info.clone();
        let payload_types = self.descriptions.map(&feed.media, &e.media);
        let known = e.subscriptions.get(source);
        let stream = if let Some((stream, s)) =
            known.and_then(|slot| Some((slot, e.receiver.streams.get_mut(slot)?)))
        {
            if (s.terms.mid, &s.payload_types) != (terms.mid, &payload_types) {
                // As in `set_media`.
                s.history.clear();
            }
            s.terms = terms;
            s.payload_types = payload_types;
            stream
        } else {
            let added = e.receiver.add_stream(slot, feed_slot, feed, terms, payload_types);
            let Ok(stream) = added else {
                self.drops.count(Drop::SsrcRefused);
                if first {
                    self.drop_feed(source, feed_slot);
                }
                return;
            };
            e.subscriptions.set(source, stream);
            stream
        };
        if first && info.home == self.config.shard {
            self.send_active(source, info.home);
        }
        if all {
            self.retarget(source);
        } else {
            self.retarget_stream(slot, stream);
        }
        if info.spec.media == MediaType::Video {
            self.want_allocation(slot);
        }
        if first && info.home != self.config.shard {
            self.send_wanted(source, true);
        }
    }

    /// Returns whether a receiver gets a source under other SSRCs than the new terms say.
    fn is_in_another_slot(
        &self,
        slot: EndpointSlot,
        source: SourceId,
        terms: &SubscriptionParams,
    ) -> bool {
        let stream = self.endpoints.get(slot).and_then(|e| {
            let stream = e.subscriptions.get(source)?;
            e.receiver.streams.get(stream)
        });
        stream.is_some_and(|stream| stream.terms.slot != terms.slot)
    }

    pub(super) fn unsubscribe(
        &mut self,
        receiver: EndpointId,
        source: SourceId,
        out: &mut impl Outbox,
    ) {
        let Some(slot) = self.endpoint_slots.get(&receiver).copied() else { return };
        let Some(gone) = self.end_stream(slot, source) else { return };
        // The SSRC of a slot does not end: it waits for its next source.
        if gone.packets > 0
            && gone.terms.slot.is_none()
            && let Some(e) = self.endpoints.get_mut(slot)
        {
            feedback::send_bye(e, gone.ssrc, out, &mut self.totals);
        }
    }

    /// Ends a stream of a receiver and updates its source, which may end with it.
    fn end_stream(&mut self, slot: EndpointSlot, source: SourceId) -> Option<Stream> {
        let random = self.next_random();
        let (now, limit) = (self.now, self.config.keyframes.receiver);
        let e = self.endpoints.get_mut(slot)?;
        let stream = e.subscriptions.remove(source)?;
        let gone = e.receiver.remove_stream(stream, random)?;
        e.receiver.retained_requests.keep(source, gone.keyframes.clone(), now, &limit);
        if let Some(feed) = self.feeds.get_mut(gone.feed) {
            feed.unsubscribe(gone.subscriber, gone.wanted());
            if feed.subscribers.is_empty() {
                self.drop_feed(source, gone.feed);
            } else {
                self.send_wanted(source, false);
            }
        }
        if gone.is_video() {
            self.want_allocation(slot);
        }
        Some(gone)
    }

    /// Removes a source without receivers from this shard.
    fn drop_feed(&mut self, source: SourceId, slot: FeedSlot) {
        self.feeds.remove(slot);
        self.feed_slots.remove(&source);
    }

    /// Handles the sender's home's report of active encodings, their heights and bitrates.
    pub(super) fn set_active(
        &mut self,
        source: SourceId,
        active: EncodingMask,
        heights: Heights,
        rates: Rates,
    ) {
        let feed = self.feed_slots.get(&source).and_then(|f| self.feeds.get_mut(*f));
        let Some(feed) = feed else { return };
        feed.rates = rates;
        if (feed.active, feed.heights) != (active, heights) {
            (feed.active, feed.heights) = (active, heights);
            self.retarget(source);
            self.reallocate(source);
        }
    }

    /// Handles the sender's home's report of the layers of an encoding.
    pub(super) fn set_layers(&mut self, source: SourceId, encoding: u8, layers: EncodingLayers) {
        let feed = self.feed_slots.get(&source).and_then(|f| self.feeds.get_mut(*f));
        let place = feed.and_then(|feed| feed.layers.get_mut(usize::from(encoding)));
        let Some(place) = place else { return };
        let before = std::mem::replace(place, layers);
        if (before.targets, before.heights) != (layers.targets, layers.heights) {
            self.retarget(source);
            self.reallocate(source);
        }
    }

    /// Schedules an allocation for all receivers of a source.
    fn reallocate(&mut self, source: SourceId) {
        let feed = self.feed_slots.get(&source).and_then(|f| self.feeds.get(*f));
        let Some(feed) = feed.filter(|f| f.info.spec.media == MediaType::Video) else { return };
        let receivers: Vec<_> = feed.subscribers.values().map(|s| s.receiver).collect();
        for receiver in receivers {
            self.want_allocation(receiver);
        }
    }

    /// Chooses anew what each receiver of a source gets, and requests the keyframes that this
    /// needs.
    pub(super) fn retarget(&mut self, source: SourceId) {
        let (now, now_ms) = (self.now, self.now_ms());
        let feed = self.feed_slots.get(&source).and_then(|f| self.feeds.get_mut(*f));
        let Some(feed) = feed else { return };
        let mut waits = 0;
        let subscribers: Vec<_> = feed.subscribers.values().copied().collect();
        for Subscriber { receiver, stream } in subscribers {
            let e = self.endpoints.get_mut(receiver);
            if let Some(s) = e.and_then(|e| e.receiver.streams.get_mut(stream)) {
                waits |= s.retarget(feed, now, now_ms);
            }
        }
        self.want_keyframes(source, waits);
        self.send_wanted(source, false);
    }

    /// Chooses anew what one receiver of a source gets, when nothing changed for the others.
    pub(super) fn retarget_stream(&mut self, slot: EndpointSlot, stream: OutStreamSlot) {
        let (now, now_ms) = (self.now, self.now_ms());
        let e = self.endpoints.get_mut(slot);
        let Some(s) = e.and_then(|e| e.receiver.streams.get_mut(stream)) else { return };
        let Some(feed) = self.feeds.get_mut(s.feed) else { return };
        let (source, waits) = (s.source, s.retarget(feed, now, now_ms));
        self.want_keyframes(source, waits);
        self.send_wanted(source, false);
    }

    /// Tells the sender's home which encodings the receivers here need, if that changed, and notes
    /// whether a receiver waits for a keyframe.
    pub(super) fn send_wanted(&mut self, source: SourceId, always: bool) {
        let Some(slot) = self.feed_slots.get(&source).copied() else { return };
        let Some(feed) = self.feeds.get_mut(slot) else { return };
        if feed.is_waited_for() && !std::mem::replace(&mut feed.waits, true) {
            self.waiting_feeds.push(slot);
        }
        let wanted = feed.wanted();
        if wanted == feed.advertised_wanted && !always {
            return;
        }
        feed.advertised_wanted = wanted;
        let home = feed.info.home;
        if home == self.config.shard {
            self.set_wanted(source, home, wanted);
        } else {
            self.send_peer(home, PeerItem::Wanted { source, wanted }, &[]);
        }
    }

    /// Handles a shard's report of the encodings that its receivers need, for a source whose home
    /// is here.
    pub(super) fn set_wanted(&mut self, source: SourceId, shard: ShardId, wanted: EncodingMask) {
        let Some(s) = self.home_source(source) else { return };
        match s.routes.iter_mut().find(|(to, _)| *to == shard) {
            Some(route) => route.1 = wanted,
            None if wanted != 0 => s.routes.push((shard, wanted)),
            None => {}
        }
    }
}
