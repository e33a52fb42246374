//! A conference of COLIBRI 1: its channels, and how a request changes them. No I/O.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use rialto_media::MediaType;

use super::plan::media_sources;
use crate::{
    bridge::is_bare_jid,
    colibri::{
        ByChannels, Colibri2Endpoint, ColibriError, Condition, ConferenceModified,
        ConferenceModify, ForceMute, IceUdp, Media, MediaSource, Sctp, Source, SsrcGroup,
        capability,
        v1::{
            Answer, AnsweredChannel, AnsweredContent, Bundle, Channel, Conference, Content,
            Direction, Kind, Named,
        },
    },
};

/// Upper bound of an endpoint's channels and associations. A focus makes three.
const MAX_CHANNELS: usize = 32;
/// The default of a channel's `expire`, seconds.
const DEFAULT_EXPIRE: u32 = 60;

/// A conference.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// The bridge's id of it.
    pub id: String,
    /// Its meeting id at the bridge.
    pub meeting: String,
    name: Option<String>,
    /// Whether SCTP associations are supported.
    sctp: bool,
    /// Whether it exists at the bridge.
    exists: bool,
    members: BTreeMap<String, Member>,
    channels: BTreeMap<(Kind, String), Owned>,
    /// The endpoints before the current request.
    before: BTreeMap<(Kind, String), Owned>,
    /// The bridge's own SSRCs.
    own: HashMap<MediaType, u32>,
}

/// An endpoint.
#[derive(Debug)]
struct Member {
    stats_id: Option<String>,
    display_name: Option<String>,
    initiator: bool,
    last_n: i32,
    /// Whether it exists at the bridge.
    allocated: bool,
}

/// A channel, or an association.
#[derive(Clone, Debug)]
struct Owned {
    endpoint: String,
    association: bool,
    expire: Option<u32>,
    direction: Direction,
    sources: Vec<Source>,
    groups: Vec<SsrcGroup>,
}

/// The outcome of a request.
pub(super) struct Outcome {
    /// The requests to the bridge, in order: COLIBRI2 takes one endpoint in each.
    pub asks: Vec<ConferenceModify>,
    /// The answer once the bridge has accepted the requests, or the error, which undoes nothing.
    pub answer: Result<Draft, ColibriError>,
}

/// An answer without the bridge's part.
pub(super) struct Draft {
    contents: Vec<(String, Vec<(Kind, String)>)>,
    bundles: Vec<String>,
}

impl Draft {
    /// The endpoints whose transports belong into the answer, if they are there.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = &str> {
        self.bundles.iter().map(String::as_str)
    }
}

/// The requests to the bridge, by endpoint.
#[derive(Default)]
struct Edits(BTreeMap<String, Colibri2Endpoint>);

impl Edits {
    fn of(&mut self, id: &str) -> &mut Colibri2Endpoint {
        self.0.entry(id.to_owned()).or_insert_with(|| Colibri2Endpoint::new(id))
    }
}

impl Room {
    /// An empty conference. `sctp`: whether SCTP associations are supported.
    pub(super) fn new(id: String, name: Option<String>, sctp: bool) -> Self {
        Self { meeting: meeting(&id), id, name, sctp, ..Self::default() }
    }

    /// Nobody is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Updates from the bridge's state: endpoints expire there by themselves.
    pub(super) fn sync(&mut self, alive: Option<&BTreeSet<String>>) {
        self.exists = alive.is_some();
        let gone = |id: &String| alive.is_none_or(|alive| !alive.contains(id));
        // Whoever asked for it may not have waited for the answer.
        for (id, member) in &mut self.members {
            member.allocated |= !gone(id);
        }
        self.members.retain(|id, member| !member.allocated || !gone(id));
        self.channels.retain(|_, channel| self.members.contains_key(&channel.endpoint));
    }

    /// Applies a request. `new_id` makes random numbers.
    pub(super) fn apply(
        &mut self,
        request: &Conference,
        new_id: &mut dyn FnMut() -> u64,
    ) -> Outcome {
        let mut edits = Edits::default();
        self.before.clone_from(&self.channels);
        self.admit(request);
        let mut contents = Vec::new();
        let mut failed = None;
        for content in &request.contents {
            match self.content(content, &mut edits, new_id) {
                Ok(ids) => contents.push((content.name.clone(), ids)),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        if failed.is_none() {
            self.transports(&request.bundles, &mut edits);
            self.names(&request.endpoints, &mut edits);
        }
        for id in self.members.iter().filter(|(_, m)| !m.allocated).map(|(id, _)| id.clone()) {
            edits.of(&id);
        }
        let asks = self.asks(edits);
        let bundles = named_bundles(request);
        Outcome { asks, answer: failed.map_or(Ok(Draft { contents, bundles }), Err) }
    }

    /// Endpoints that are named and not there are made, before anything is checked.
    fn admit(&mut self, request: &Conference) {
        let mut admit = |id: &str, initiator: bool| {
            self.members.entry(id.to_owned()).or_insert_with(|| Member {
                stats_id: None,
                display_name: None,
                initiator,
                last_n: -1,
                allocated: false,
            });
        };
        for channel in
            request.contents.iter().flat_map(|c| c.channels.iter().chain(&c.associations))
        {
            if let Some(endpoint) = channel.endpoint.as_deref().filter(|_| !channel.ends()) {
                admit(endpoint, channel.initiator);
            }
        }
        request.bundles.iter().for_each(|bundle| admit(&bundle.id, false));
        request.endpoints.iter().for_each(|endpoint| admit(&endpoint.id, false));
    }

    /// Gives the ids of the channels that were made or changed.
    fn content(
        &mut self,
        content: &Content,
        edits: &mut Edits,
        new_id: &mut dyn FnMut() -> u64,
    ) -> Result<Vec<(Kind, String)>, ColibriError> {
        let mut ids = Vec::new();
        let channels = content.channels.iter().map(|channel| (channel, false));
        let associations = content.associations.iter().map(|channel| (channel, true));
        for (channel, association) in channels.chain(associations) {
            if channel.octo {
                let text = "Octo not supported.";
                return Err(ColibriError::new(Condition::FeatureNotImplemented, text));
            }
            let id = match &channel.id {
                Some(id) => self.known(content.kind, id, channel, association)?,
                None => Some(self.make(content.kind, channel, association, edits, new_id)?),
            };
            let Some(id) = id else { continue };
            let key = (content.kind, id);
            if channel.ends() {
                self.end(&key, edits);
                continue;
            }
            self.change(&key, channel, edits);
            if channel.has_transport && !association {
                return Err(ColibriError::bad_request(
                    "Received a COLIBRI request with 'transport' inside 'channel'. \
                     This legacy mode is no longer supported",
                ));
            }
            ids.push(key);
        }
        Ok(ids)
    }

    /// The id of a channel that is there. `None`: it is to end, and is gone already.
    fn known(
        &self,
        kind: Kind,
        id: &str,
        channel: &Channel,
        association: bool,
    ) -> Result<Option<String>, ColibriError> {
        let found = self.channels.get(&(kind, id.to_owned()));
        if found.is_some_and(|found| found.association == association) {
            return Ok(Some(id.to_owned()));
        }
        if channel.ends() {
            return Ok(None);
        }
        let quoted: String = id.chars().take(64).collect();
        Err(if association {
            ColibriError::bad_request(format!("No SCTP connection found for ID: {quoted}"))
        } else {
            let text = format!("Error finding channel {quoted}");
            ColibriError::new(Condition::InternalServerError, text)
        })
    }

    fn make(
        &mut self,
        kind: Kind,
        channel: &Channel,
        association: bool,
        edits: &mut Edits,
        new_id: &mut dyn FnMut() -> u64,
    ) -> Result<String, ColibriError> {
        if channel.ends() {
            let what = if association { "SCTP connection" } else { "Channel" };
            return Err(ColibriError::bad_request(format!("{what} expire request for empty ID")));
        }
        let Some(endpoint) = &channel.endpoint else {
            let text = "Channel creation requested without endpoint ID";
            return Err(ColibriError::bad_request(text));
        };
        if !association && channel.bundle.as_ref() != Some(endpoint) {
            let text = "Endpoint ID does not match channel bundle ID";
            return Err(ColibriError::bad_request(text));
        }
        if association && !self.sctp {
            return Err(ColibriError::not_configured("SCTP support is not configured"));
        }
        if self.channels.values().filter(|c| c.endpoint == *endpoint).count() >= MAX_CHANNELS {
            let text = "Too many channels of one endpoint";
            return Err(ColibriError::new(Condition::ResourceConstraint, text));
        }
        let mut id = format!("{:x}", new_id());
        while self.channels.contains_key(&(kind, id.clone())) {
            id = format!("{:x}", new_id());
        }
        let owned = Owned {
            endpoint: endpoint.clone(),
            association,
            expire: None,
            direction: Direction::default(),
            sources: Vec::new(),
            groups: Vec::new(),
        };
        self.channels.insert((kind, id.clone()), owned);
        if association {
            let transport = edits.of(endpoint).transport.get_or_insert_default();
            transport.sctp = Some(Sctp::default());
        }
        Ok(id)
    }

    /// An endpoint goes with the last of its channels.
    fn end(&mut self, key: &(Kind, String), edits: &mut Edits) {
        let Some(gone) = self.channels.remove(key) else { return };
        if self.channels.values().any(|other| other.endpoint == gone.endpoint) {
            if !gone.sources.is_empty() {
                edits.of(&gone.endpoint).sources = Some(self.sources_of(&gone.endpoint));
            }
            if gone.direction != Direction::default() {
                edits.of(&gone.endpoint).force_mute = Some(self.mute_of(&gone.endpoint));
            }
            self.describe_channels(&gone.endpoint, None, edits);
            return;
        }
        let allocated = self.members.remove(&gone.endpoint).is_some_and(|m| m.allocated);
        edits.0.remove(&gone.endpoint);
        if allocated {
            edits.of(&gone.endpoint).expire = true;
        }
    }

    fn change(&mut self, key: &(Kind, String), asked: &Channel, edits: &mut Edits) {
        let Some(channel) = self.channels.get_mut(key) else { return };
        let endpoint = channel.endpoint.clone();
        channel.expire = asked.expire;
        let Some(media) = key.0.media().filter(|_| !channel.association) else {
            return self.describe_channels(&endpoint, None, edits);
        };
        let new_direction = channel.direction != asked.direction;
        channel.direction = asked.direction;
        let new_sources = asked.sources.is_some() || asked.groups.is_some();
        if let Some(sources) = &asked.sources {
            channel.sources.clone_from(sources);
        }
        if let Some(groups) = &asked.groups {
            channel.groups.clone_from(groups);
        }
        let edit = edits.of(&endpoint);
        if !asked.payload_types.is_empty() || !asked.extensions.is_empty() {
            edit.media.push(Media {
                r#type: media,
                payload_types: asked.payload_types.clone(),
                rtp_hdrexts: asked.extensions.clone(),
                extmap_allow_mixed: false,
            });
        }
        if let Some((last_n, member)) = asked.last_n.zip(self.members.get_mut(&endpoint)) {
            member.last_n = last_n;
        }
        if new_sources {
            edits.of(&endpoint).sources = Some(self.sources_of(&endpoint));
        }
        if new_direction {
            edits.of(&endpoint).force_mute = Some(self.mute_of(&endpoint));
        }
        self.describe_channels(&endpoint, asked.last_n, edits);
    }

    /// The combined parameters of an endpoint's channels. `last_n`: the value of one of them in this request.
    fn describe_channels(&self, endpoint: &str, last_n: Option<i32>, edits: &mut Edits) {
        let none = |kind: Kind, passes: fn(Direction) -> bool| self.all(endpoint, kind, passes);
        let own = self.channels.values().filter(|channel| channel.endpoint == endpoint);
        let expires = own.clone().any(|channel| channel.expire.is_some());
        let longest = own.map(|channel| channel.expire.unwrap_or(DEFAULT_EXPIRE)).max();
        let said = edits.of(endpoint).v1.get_or_insert_default();
        *said = ByChannels {
            no_audio: none(Kind::Audio, |direction| !direction.sends()),
            no_video: none(Kind::Video, |direction| !direction.sends()),
            last_n: last_n.or(said.last_n),
            idle_timeout: longest
                .filter(|_| expires)
                .map(|seconds| Duration::from_secs(seconds.into())),
        };
    }

    /// Whether an endpoint has channels in a content, and all of them satisfy the predicate.
    fn all(&self, endpoint: &str, kind: Kind, such: fn(Direction) -> bool) -> bool {
        let mut own = self
            .channels
            .iter()
            .filter(|((at, _), channel)| *at == kind && channel.endpoint == endpoint)
            .peekable();
        own.peek().is_some() && own.all(|(_, channel)| such(channel.direction))
    }

    /// All sources of an endpoint, of all its channels.
    fn sources_of(&self, endpoint: &str) -> Vec<MediaSource> {
        let mut sources = Vec::new();
        for ((kind, _), channel) in self.channels.iter().filter(|(_, c)| c.endpoint == endpoint) {
            if let Some(media) = kind.media() {
                sources.extend(media_sources(endpoint, media, &channel.sources, &channel.groups));
            }
        }
        sources
    }

    /// Audio that does not pass is muted, and so is video.
    fn mute_of(&self, endpoint: &str) -> ForceMute {
        let muted = |kind| self.all(endpoint, kind, |direction| !direction.receives());
        ForceMute { audio: muted(Kind::Audio), video: muted(Kind::Video) }
    }

    fn transports(&self, bundles: &[Bundle], edits: &mut Edits) {
        for Bundle { id, transport } in bundles {
            let Some(mut ice) = transport.clone().filter(|_| self.members.contains_key(id)) else {
                continue;
            };
            // An empty one means that the focus knows none yet.
            ice.fingerprints.retain(|one| one.hash.is_some() && !one.fingerprint.is_empty());
            let says_something =
                ice.ufrag.is_some() || !ice.fingerprints.is_empty() || !ice.candidates.is_empty();
            if says_something {
                edits.of(id).transport.get_or_insert_default().ice_udp = Some(ice);
            }
        }
    }

    fn names(&mut self, endpoints: &[Named], edits: &mut Edits) {
        for Named { id, stats_id, display_name } in endpoints {
            if let Some(member) = self.members.get_mut(id) {
                member.stats_id.clone_from(stats_id);
                member.display_name.clone_from(display_name);
                if !member.allocated {
                    edits.of(id).stats_id.clone_from(stats_id);
                }
            }
        }
    }

    /// The requests to the bridge. Expiries come last: a conference that is empty in between would end.
    fn asks(&self, edits: Edits) -> Vec<ConferenceModify> {
        let mut endpoints: Vec<Colibri2Endpoint> = edits.0.into_values().collect();
        endpoints.sort_by_key(|edit| edit.expire);
        let mut create = !self.exists;
        let ask = |mut edit: Colibri2Endpoint| {
            if let Some(member) = self.members.get(&edit.id).filter(|member| !member.allocated) {
                edit.create = true;
                edit.capabilities = [capability::SOURCE_NAMES, capability::PRIVATE_ADDRESSES]
                    .map(str::to_owned)
                    .into();
                edit.transport.get_or_insert_default().ice_controlling = member.initiator;
            }
            ConferenceModify {
                meeting_id: self.meeting.clone(),
                // For a long time focuses sent a name of one part, which the bridge does not take for a room.
                name: self.name.clone().filter(|name| is_bare_jid(name)),
                create: std::mem::take(&mut create),
                endpoints: vec![edit],
                ..ConferenceModify::default()
            }
        };
        endpoints.into_iter().map(ask).collect()
    }

    /// Notes that the bridge has accepted the requests.
    pub(super) fn done(&mut self, asked: &str, answer: &ConferenceModified) {
        self.exists = true;
        if let Some(member) = self.members.get_mut(asked) {
            member.allocated = true;
        }
        for source in answer.sources.iter().flatten() {
            if let Some(first) = source.sources.first() {
                self.own.insert(source.r#type, first.ssrc);
            }
        }
    }

    /// Restores the channels of endpoints whose requests the bridge refused, and removes endpoints that it
    /// does not have. Accepted requests for others stay applied.
    pub(super) fn refused(&mut self, endpoints: &BTreeSet<String>) {
        self.members.retain(|_, member| member.allocated);
        let theirs = |channel: &Owned| endpoints.contains(&channel.endpoint);
        self.channels.retain(|_, channel| !theirs(channel));
        let before = std::mem::take(&mut self.before);
        self.channels.extend(before.into_iter().filter(|(_, channel)| theirs(channel)));
        self.channels.retain(|_, channel| self.members.contains_key(&channel.endpoint));
    }

    /// The answer. `describe` gives our side of an endpoint's transport.
    pub(super) fn answer(
        &self,
        draft: &Draft,
        graceful_shutdown: bool,
        describe: impl Fn(&str) -> Option<IceUdp>,
    ) -> Answer {
        let contents = draft.contents.iter().map(|(name, ids)| AnsweredContent {
            name: name.clone(),
            channels: ids.iter().filter_map(|key| self.describe(key)).collect(),
        });
        let here = draft.bundles.iter().filter(|id| self.members.contains_key(*id));
        let endpoints = self.members.iter().map(|(id, member)| Named {
            id: id.clone(),
            stats_id: member.stats_id.clone(),
            display_name: member.display_name.clone(),
        });
        Answer {
            id: self.id.clone(),
            name: self.name.clone(),
            contents: contents.collect(),
            bundles: here.map(|id| Bundle { id: id.clone(), transport: describe(id) }).collect(),
            endpoints: endpoints.collect(),
            graceful_shutdown,
        }
    }

    fn describe(&self, key: &(Kind, String)) -> Option<AnsweredChannel> {
        let channel = self.channels.get(key)?;
        let own_ssrc = key.0.media().and_then(|media| self.own.get(&media)).copied();
        Some(AnsweredChannel {
            id: key.1.clone(),
            endpoint: channel.endpoint.clone(),
            association: channel.association,
            direction: channel.direction,
            last_n: self.members.get(&channel.endpoint).map_or(-1, |member| member.last_n),
            own_ssrc,
            ssrcs: channel.sources.iter().map(|source| source.ssrc).collect(),
            groups: channel.groups.clone(),
        })
    }
}

/// The meeting id of a conference at the bridge.
pub(super) fn meeting(id: &str) -> String {
    format!("colibri1-{id}")
}

/// The endpoints whose transport the answer has, each once: a channel that is only named by its id
/// names none.
fn named_bundles(request: &Conference) -> Vec<String> {
    let channels = request.contents.iter().flat_map(|c| c.channels.iter().chain(&c.associations));
    let named = channels.filter_map(|channel| channel.bundle.clone());
    let mut seen = BTreeSet::new();
    named
        .chain(request.bundles.iter().map(|bundle| bundle.id.clone()))
        .filter(|id| seen.insert(id.clone()))
        .collect()
}
