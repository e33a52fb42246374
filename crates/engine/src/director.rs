//! Turns control's requests into commands for shards.
//!
//! Control names endpoints and sources. The shard on which an endpoint lives is known only once its
//! first address was validated. The director keeps all requests, and sends each shard its commands
//! as soon as the home shards are known. It holds no media state and runs under one mutex, off the
//! packet path.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use rialto_media::{EndpointId, MediaParams, ShardId, SourceId, SourceSpec, SubscriptionParams};
use rialto_srtp::Keying;

use super::{
    api::{AllocationConstraints, EndpointSpec},
    core::ShardCommand,
    egress::SourceInfo,
    handle::Control,
    ingress::cname_text,
    tap::Tap,
};

/// Where commands for shards go. Keeps their order.
pub trait CommandSink {
    /// Sends one command to one shard.
    fn send(&mut self, shard: ShardId, command: ShardCommand);
}

#[derive(Debug)]
struct Endpoint {
    spec: EndpointSpec,
    home: Option<ShardId>,
    media: Arc<MediaParams>,
    sources: Vec<SourceSpec>,
    mute: (bool, bool),
    dominant: bool,
    tap: Option<Tap>,
    keys: Option<Keying>,
    rtt: Option<Duration>,
    selected: Option<(SocketAddr, SocketAddr)>,
    bound: Vec<SocketAddr>,
    wants: BTreeMap<SourceId, SubscriptionParams>,
    wishes: Option<Arc<AllocationConstraints>>,
}

#[derive(Debug, Default)]
struct Source {
    /// `Some` while the source is signalled.
    sender: Option<EndpointId>,
    receivers: BTreeSet<EndpointId>,
    /// Number of receivers that asked for it by name.
    included: u32,
    /// Number of receivers on each shard, as far as their homes are known.
    on_shard: BTreeMap<ShardId, u32>,
}

impl Source {
    /// Counts a new receiver on a shard.
    fn arrive(&mut self, shard: ShardId) {
        let count = self.on_shard.entry(shard).or_default();
        *count = count.saturating_add(1);
    }

    /// Updates `included` when the terms of a subscription change.
    fn count_included(
        &mut self,
        before: Option<SubscriptionParams>,
        after: Option<SubscriptionParams>,
    ) {
        let count = |terms: Option<SubscriptionParams>| {
            u32::from(terms.is_some_and(|terms| terms.included))
        };
        self.included = self.included.saturating_add(count(after)).saturating_sub(count(before));
    }

    /// Counts a receiver less on a shard. Returns whether it was the last one there.
    fn leave(&mut self, shard: ShardId) -> bool {
        let Some(count) = self.on_shard.get_mut(&shard) else { return true };
        *count = count.saturating_sub(1);
        let none = *count == 0;
        if none {
            self.on_shard.remove(&shard);
        }
        none
    }
}

/// Turns control's requests into commands for shards. Its maps are ordered, so that the commands
/// depend only on the requests.
#[derive(Debug)]
pub struct Director {
    shards: u16,
    endpoints: BTreeMap<EndpointId, Endpoint>,
    sources: BTreeMap<SourceId, Source>,
}

impl Director {
    /// A director of `shards` shards.
    pub fn new(shards: u16) -> Self {
        Self { shards, endpoints: BTreeMap::new(), sources: BTreeMap::new() }
    }

    /// Handles one request of control and sends the resulting commands.
    pub fn control(&mut self, control: Control, out: &mut impl CommandSink) {
        match control {
            Control::AddEndpoint(id, spec) => self.add_endpoint(id, spec),
            Control::RemoveEndpoint(id) => self.remove_endpoint(id, out),
            Control::SetMedia(id, media) => self.set_media(id, media, out),
            Control::SetSources(id, sources) => self.set_sources(id, &sources, out),
            Control::SetForceMute { endpoint, audio, video } => {
                let Some(e) = self.endpoints.get_mut(&endpoint) else { return };
                e.mute = (audio, video);
                if let Some(home) = e.home {
                    out.send(home, ShardCommand::SetForceMute { endpoint, audio, video });
                }
            }
            Control::SetDominant(id, dominant) => {
                let Some(e) = self.endpoints.get_mut(&id) else { return };
                e.dominant = dominant;
                if let Some(home) = e.home {
                    out.send(home, ShardCommand::SetDominant(id, dominant));
                }
            }
            Control::RequestKeyframeAhead { speaker, after } => {
                if let Some(home) = self.endpoints.get(&speaker).and_then(|e| e.home) {
                    out.send(home, ShardCommand::RequestKeyframeAhead { speaker, after });
                }
            }
            Control::Tap(id, tap) => {
                let Some(e) = self.endpoints.get_mut(&id) else { return };
                e.tap.clone_from(&tap);
                if let Some(home) = e.home {
                    out.send(home, ShardCommand::Tap(id, tap));
                }
            }
            Control::Subscribe { receiver, source, terms } => {
                self.subscribe(receiver, source, terms, out);
            }
            Control::Unsubscribe { receiver, source } => self.unsubscribe(receiver, source, out),
            Control::SetAllocation { receiver, wishes } => {
                let Some(e) = self.endpoints.get_mut(&receiver) else { return };
                if let Some(home) = e.home {
                    let wishes = wishes.clone();
                    out.send(home, ShardCommand::SetAllocation { receiver, wishes });
                }
                e.wishes = Some(wishes);
            }
            Control::Bind { endpoint, remote, shard, local } => {
                self.bind(endpoint, remote, local, shard, out);
            }
            Control::Unbind { endpoint, remote } => self.unbind(endpoint, remote, out),
            Control::Select { endpoint, remote, local } => {
                let Some(e) = self.endpoints.get_mut(&endpoint) else { return };
                e.selected = Some((remote, local));
                if let Some(home) = e.home {
                    out.send(home, ShardCommand::Select { endpoint, remote, local });
                }
            }
            Control::SetKeys(id, keys) => {
                let Some(e) = self.endpoints.get_mut(&id) else { return };
                if let Some(home) = e.home {
                    out.send(home, ShardCommand::SetKeys(id, keys.clone()));
                }
                e.keys = Some(keys);
            }
            Control::SetRtt(id, rtt) => {
                let Some(e) = self.endpoints.get_mut(&id) else { return };
                e.rtt = Some(rtt);
                if let Some(home) = e.home {
                    out.send(home, ShardCommand::SetRtt(id, rtt));
                }
            }
            Control::Transmit { shard, local, remote, bytes } => {
                let shard = ShardId(shard.0.min(self.shards.saturating_sub(1)));
                out.send(shard, ShardCommand::Transmit { local, remote, bytes });
            }
        }
    }

    fn add_endpoint(&mut self, id: EndpointId, spec: EndpointSpec) {
        self.endpoints.entry(id).or_insert_with(|| Endpoint {
            spec,
            home: None,
            media: Arc::default(),
            sources: Vec::new(),
            mute: (false, false),
            dominant: false,
            tap: None,
            keys: None,
            rtt: None,
            selected: None,
            bound: Vec::new(),
            wants: BTreeMap::new(),
            wishes: None,
        });
    }

    fn remove_endpoint(&mut self, id: EndpointId, out: &mut impl CommandSink) {
        self.set_sources(id, &[], out);
        let wanted: Vec<_> =
            self.endpoints.get(&id).map(|e| e.wants.keys().copied().collect()).unwrap_or_default();
        for source in wanted {
            self.unsubscribe(id, source, out);
        }
        let Some(e) = self.endpoints.remove(&id) else { return };
        for remote in e.bound {
            self.to_all(&ShardCommand::Unbind { remote, endpoint: id }, out);
        }
        if let Some(home) = e.home {
            out.send(home, ShardCommand::RemoveEndpoint(id));
        }
    }

    fn set_media(&mut self, id: EndpointId, media: Arc<MediaParams>, out: &mut impl CommandSink) {
        let Some(e) = self.endpoints.get_mut(&id) else { return };
        e.media = media.clone();
        if let Some(home) = e.home {
            out.send(home, ShardCommand::SetMedia(id, media));
        }
        let sources: Vec<_> = e.sources.iter().map(|s| s.id).collect();
        for source in sources {
            self.announce(source, out);
        }
    }

    fn set_sources(&mut self, id: EndpointId, new: &[SourceSpec], out: &mut impl CommandSink) {
        let Some(e) = self.endpoints.get_mut(&id) else { return };
        let old = std::mem::replace(&mut e.sources, new.to_vec());
        let home = e.home;
        for gone in old.iter().filter(|o| !new.iter().any(|n| n == *o)) {
            self.end_source(gone.id, home, out);
        }
        if let Some(home) = home {
            out.send(home, ShardCommand::SetSources(id, new.to_vec()));
        }
        for source in new.iter().filter(|n| !old.iter().any(|o| o == *n)) {
            self.sources.entry(source.id).or_default().sender = Some(id);
            self.announce(source.id, out);
        }
    }

    /// The source is no longer signalled. Its receivers stay recorded, in case it returns.
    fn end_source(&mut self, id: SourceId, home: Option<ShardId>, out: &mut impl CommandSink) {
        let Some(source) = self.sources.get_mut(&id) else { return };
        source.sender = None;
        let receivers = source.receivers.clone();
        if receivers.is_empty() {
            self.sources.remove(&id);
        }
        for receiver in receivers {
            if let Some(shard) = self.endpoints.get(&receiver).and_then(|e| e.home) {
                out.send(shard, ShardCommand::Unsubscribe { receiver, source: id });
                if let Some(home) = home {
                    out.send(home, ShardCommand::RemoveRoute { source: id, shard });
                }
            }
        }
    }

    fn subscribe(
        &mut self,
        receiver: EndpointId,
        source: SourceId,
        terms: SubscriptionParams,
        out: &mut impl CommandSink,
    ) {
        let Some(e) = self.endpoints.get_mut(&receiver) else { return };
        if e.wants.get(&source) == Some(&terms) {
            return;
        }
        let before = e.wants.insert(source, terms);
        let entry = self.sources.entry(source).or_default();
        entry.count_included(before, Some(terms));
        if entry.receivers.insert(receiver)
            && let Some(home) = e.home
        {
            entry.arrive(home);
        }
        self.send_subscription(receiver, source, out);
    }

    fn unsubscribe(&mut self, receiver: EndpointId, source: SourceId, out: &mut impl CommandSink) {
        let Some(e) = self.endpoints.get_mut(&receiver) else { return };
        let Some(terms) = e.wants.remove(&source) else { return };
        let Some(entry) = self.sources.get_mut(&source) else { return };
        entry.receivers.remove(&receiver);
        entry.count_included(Some(terms), None);
        let ended = terms.included && entry.included == 0;
        let other = entry.receivers.first().copied().filter(|_| ended);
        let sender = entry.sender;
        let last = e.home.is_some_and(|shard| entry.leave(shard));
        if entry.receivers.is_empty() && sender.is_none() {
            self.sources.remove(&source);
        }
        let Some(shard) = e.home else { return };
        out.send(shard, ShardCommand::Unsubscribe { receiver, source });
        if last && let Some(home) = sender.and_then(|s| self.endpoints.get(&s)).and_then(|e| e.home)
        {
            out.send(home, ShardCommand::RemoveRoute { source, shard });
        }
        // Tell the sender's home that no receiver asks for it by name any more.
        if let Some(other) = other {
            self.send_subscription(other, source, out);
        }
    }

    fn bind(
        &mut self,
        id: EndpointId,
        remote: SocketAddr,
        local: SocketAddr,
        shard: ShardId,
        out: &mut impl CommandSink,
    ) {
        let Some(e) = self.endpoints.get_mut(&id) else { return };
        if !e.bound.contains(&remote) {
            e.bound.push(remote);
        }
        let first = e.home.is_none();
        let home = *e.home.get_or_insert(shard);
        if first {
            self.move_in(id, home, (remote, local), out);
        }
        self.to_all(&ShardCommand::Bind { remote, endpoint: id, home }, out);
    }

    /// The endpoint's home has become known: sends it everything that was requested until now.
    fn move_in(
        &mut self,
        id: EndpointId,
        home: ShardId,
        first: (SocketAddr, SocketAddr),
        out: &mut impl CommandSink,
    ) {
        let Some(e) = self.endpoints.get_mut(&id) else { return };
        let (remote, local) = *e.selected.get_or_insert(first);
        out.send(home, ShardCommand::AddEndpoint(id, e.spec.clone()));
        out.send(home, ShardCommand::SetMedia(id, e.media.clone()));
        out.send(home, ShardCommand::SetSources(id, e.sources.clone()));
        let (audio, video) = e.mute;
        out.send(home, ShardCommand::SetForceMute { endpoint: id, audio, video });
        if e.dominant {
            out.send(home, ShardCommand::SetDominant(id, true));
        }
        out.send(home, ShardCommand::Select { endpoint: id, remote, local });
        if let Some(tap) = e.tap.clone() {
            out.send(home, ShardCommand::Tap(id, Some(tap)));
        }
        if let Some(rtt) = e.rtt {
            out.send(home, ShardCommand::SetRtt(id, rtt));
        }
        if let Some(keys) = e.keys.clone() {
            out.send(home, ShardCommand::SetKeys(id, keys));
        }
        if let Some(wishes) = e.wishes.clone() {
            out.send(home, ShardCommand::SetAllocation { receiver: id, wishes });
        }
        let sent: Vec<_> = e.sources.iter().map(|s| s.id).collect();
        let wanted: Vec<_> = e.wants.keys().copied().collect();
        for source in &wanted {
            if let Some(source) = self.sources.get_mut(source) {
                source.arrive(home);
            }
        }
        for source in sent {
            self.announce(source, out);
        }
        for source in wanted {
            self.send_subscription(id, source, out);
        }
    }

    fn unbind(&mut self, id: EndpointId, remote: SocketAddr, out: &mut impl CommandSink) {
        let Some(e) = self.endpoints.get_mut(&id) else { return };
        e.bound.retain(|a| *a != remote);
        self.to_all(&ShardCommand::Unbind { remote, endpoint: id }, out);
    }

    /// Sends each receiver of a source its description.
    fn announce(&mut self, source: SourceId, out: &mut impl CommandSink) {
        let receivers = self.sources.get(&source).map(|s| s.receivers.clone()).unwrap_or_default();
        for receiver in receivers {
            self.send_subscription(receiver, source, out);
        }
    }

    /// Sends the subscription to the receiver's home, and the route to the sender's home, once both
    /// are known.
    fn send_subscription(
        &self,
        receiver: EndpointId,
        source: SourceId,
        out: &mut impl CommandSink,
    ) {
        let Some(to) = self.endpoints.get(&receiver) else { return };
        let Some(shard) = to.home else { return };
        let Some(terms) = to.wants.get(&source).copied() else { return };
        let sender = self.sources.get(&source).and_then(|s| s.sender);
        let Some(from) = sender.and_then(|s| self.endpoints.get(&s)) else { return };
        let Some(home) = from.home else { return };
        let Some(spec) = from.sources.iter().find(|s| s.id == source) else { return };
        let cname = cname(sender.unwrap_or(receiver), &from.spec.label);
        let conference = from.spec.conference;
        let info =
            SourceInfo { spec: spec.clone(), home, media: from.media.clone(), cname, conference };
        out.send(shard, ShardCommand::Subscribe { receiver, source: Arc::new(info), terms });
        let included = self.sources.get(&source).is_some_and(|s| s.included > 0);
        out.send(home, ShardCommand::AddRoute { source, shard, included });
    }

    fn to_all(&self, command: &ShardCommand, out: &mut impl CommandSink) {
        for shard in 0..self.shards {
            out.send(ShardId(shard), command.clone());
        }
    }
}
/// The endpoint's CNAME until it announces its own: its id, which is the last part of its label, or
/// our number for it when the id is not a valid CNAME.
fn cname(id: EndpointId, label: &str) -> Arc<str> {
    let own = label.rsplit('/').next().unwrap_or_default();
    match cname_text(own.as_bytes()) {
        Some(own) => own.into(),
        None => format!("endpoint-{}", id.0).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Sent(Vec<(ShardId, ShardCommand)>);

    impl CommandSink for Sent {
        fn send(&mut self, shard: ShardId, command: ShardCommand) {
            self.0.push((shard, command));
        }
    }

    const SENDER: EndpointId = EndpointId(0);
    const SOURCE: SourceId = SourceId(7);

    fn add(director: &mut Director, id: EndpointId, sent: &mut Sent) {
        let spec =
            EndpointSpec { label: Arc::from("test"), conference: 0, audio_ssrc: 1, video_ssrc: 2 };
        director.control(Control::AddEndpoint(id, spec), sent);
    }

    fn bind(director: &mut Director, endpoint: EndpointId, shard: ShardId, sent: &mut Sent) {
        let port = 1_000 + endpoint.0 as u16;
        let remote = ([127, 0, 0, 1], port).into();
        let local = ([127, 0, 0, 1], 10_000).into();
        director.control(Control::Bind { endpoint, remote, shard, local }, sent);
    }

    fn routes_removed(sent: &Sent) -> usize {
        let removed =
            |(_, c): &&(ShardId, ShardCommand)| matches!(c, ShardCommand::RemoveRoute { .. });
        sent.0.iter().filter(removed).count()
    }

    #[test]
    fn wishes_reach_the_receivers_home_now_or_when_it_is_known() {
        let (mut director, mut sent) = (Director::new(2), Sent::default());
        add(&mut director, SENDER, &mut sent);
        let wishes = |bps| {
            Arc::new(AllocationConstraints {
                assumed_bandwidth_bps: Some(bps),
                ..AllocationConstraints::default()
            })
        };
        let want = |director: &mut Director, bps, sent: &mut Sent| {
            let control = Control::SetAllocation { receiver: SENDER, wishes: wishes(bps) };
            director.control(control, sent);
        };
        let told = |sent: &Sent| -> Vec<(u16, Option<u64>)> {
            let wishes = |(shard, command): &(ShardId, ShardCommand)| match command {
                ShardCommand::SetAllocation { wishes, .. } => {
                    Some((shard.0, wishes.assumed_bandwidth_bps))
                }
                _ => None,
            };
            sent.0.iter().filter_map(wishes).collect()
        };
        want(&mut director, 1, &mut sent);
        want(&mut director, 2, &mut sent);
        assert_eq!(told(&sent), [], "nobody to tell");
        bind(&mut director, SENDER, ShardId(1), &mut sent);
        assert_eq!(told(&sent), [(1, Some(2))]);
        want(&mut director, 3, &mut sent);
        assert_eq!(told(&sent), [(1, Some(2)), (1, Some(3))]);
    }

    #[test]
    fn a_route_ends_with_its_last_receiver() {
        let (mut director, mut sent) = (Director::new(2), Sent::default());
        let spec = SourceSpec {
            id: SOURCE,
            name: Arc::from("test-v0"),
            media: rialto_media::MediaType::Video,
            encodings: vec![rialto_media::EncodingSpec { ssrc: 1, rtx: None }],
        };
        for id in 0..4 {
            add(&mut director, EndpointId(id), &mut sent);
        }
        bind(&mut director, SENDER, ShardId(0), &mut sent);
        director.control(Control::SetSources(SENDER, vec![spec]), &mut sent);
        let terms = SubscriptionParams::default();
        // One receiver asks for the source before it has a home, one only after.
        bind(&mut director, EndpointId(1), ShardId(1), &mut sent);
        for receiver in (1..4).map(EndpointId) {
            director.control(Control::Subscribe { receiver, source: SOURCE, terms }, &mut sent);
        }
        bind(&mut director, EndpointId(2), ShardId(1), &mut sent);
        for (gone, removed) in [(3, 0), (1, 0), (2, 1)] {
            let (receiver, source) = (EndpointId(gone), SOURCE);
            director.control(Control::Unsubscribe { receiver, source }, &mut sent);
            assert_eq!(routes_removed(&sent), removed, "{gone}");
        }
    }
}
