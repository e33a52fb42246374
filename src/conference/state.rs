//! The conference itself.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use rialto_engine::Control;
use rialto_media::{EndpointId, SourceId};
use rustc_hash::FxHashMap;

use super::{
    allocate::Caps,
    demand::Demand,
    effects::{ConferenceEvent, Effects},
    endpoint::{Endpoint, EndpointSource},
    exports::Exports,
    slots::SsrcLimits,
    speaker::Speakers,
    voices::Voices,
};
use crate::channel::Limits;

/// The identity of a conference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The bridge's id for it, 16 hexadecimal digits.
    pub id: String,
    /// The focus's id for it.
    pub meeting_id: String,
    /// The room's bare JID.
    pub name: Option<String>,
    /// It may appear in rtcstats output.
    pub rtcstats_enabled: bool,
    /// The bridge's own SSRC for RTCP about audio.
    pub audio_ssrc: u32,
    /// The bridge's own SSRC for RTCP about video.
    pub video_ssrc: u32,
}

impl Identity {
    /// The id as a number.
    pub fn number(&self) -> u64 {
        u64::from_str_radix(&self.id, 16).unwrap_or_default()
    }
}

/// The rules of all conferences.
#[derive(Clone, Debug)]
pub struct Rules {
    /// There is SCTP.
    pub sctp: bool,
    /// The configuration asks for relays between bridges, of which there are none yet.
    pub relays_wanted: bool,
    /// Bounds of what receivers get of videos.
    pub limits: Limits,
    /// How many SSRCs a client gets whose SSRCs are rewritten.
    pub ssrc_limits: SsrcLimits,
    /// In a conference of more endpoints than this, clients' statistics go only to those who see or hear
    /// them.
    pub stats_filter_threshold: usize,
    /// How many videos each receiver gets in a conference of this many endpoints or more
    /// (`videobridge.load-management.conference-last-n-limits`).
    pub last_n_by_size: Arc<BTreeMap<usize, usize>>,
    /// The bound of videos for each receiver at the present load.
    pub last_n_by_load: Option<usize>,
    /// How often clients get the estimate of their link; `None`: never.
    pub connection_stats: Option<Duration>,
    /// Last-N of an endpoint for which neither it nor the focus set one; negative is all.
    pub initial_last_n: i32,
    /// How many former speakers are remembered.
    pub recent_speakers: usize,
    /// Clients are notified when the dominant speaker has been silent for this long.
    pub silence_after: Option<Duration>,
    /// An endpoint from which nothing has come for this long expires.
    pub expiration_timeout: Duration,
    /// An endpoint that never connected expires after this long.
    pub connect_timeout: Duration,
    /// How long a conference may be empty after its creation.
    pub empty_timeout: Duration,
    /// An endpoint that never connected counts as disconnected after this long.
    pub first_transfer_timeout: Duration,
    /// An endpoint from which nothing has come for this long counts as disconnected.
    pub max_inactivity: Duration,
}

/// One conference.
#[derive(Debug)]
pub struct Conference {
    pub(super) identity: Identity,
    pub(super) rules: Rules,
    pub(super) created: Instant,
    /// By signalled id; ordered, so that runs repeat.
    pub(super) endpoints: BTreeMap<String, Endpoint>,
    pub(super) by_engine_id: HashMap<EndpointId, String>,
    /// Who signalled an SSRC. Bounded by the bound of each endpoint.
    pub(super) ssrc_owners: HashMap<u32, EndpointId>,
    pub(super) speakers: Speakers<EndpointId>,
    /// Endpoints by how recently they spoke, then by when they came.
    pub(super) speech_order: Vec<String>,
    /// When audio sources were active, for receivers that cannot get all of them.
    pub(super) voices: Voices,
    /// An endpoint opened a channel, or it was reported that none did.
    pub(super) channels_settled: bool,
    /// Upper bounds of everybody's videos.
    pub(super) caps: Caps,
    /// The latest time that a caller passed.
    pub(super) latest: Instant,
    /// Whose a source is.
    pub(super) source_owners: FxHashMap<SourceId, EndpointId>,
    /// The heights that receivers request of each video.
    pub(super) demand: Demand,
    /// Counts changes of the sources of endpoints.
    pub(super) sources_version: u64,
    /// The dominant speaker that the engine was last sent.
    pub(super) told_dominant: Option<EndpointId>,
    /// Keyframes requested ahead.
    pub(super) ahead: super::keyframe_ahead::KeyframesAhead,
    /// Media exports that the focus asked for.
    pub(super) exports: Exports,
}

impl Conference {
    /// An empty conference.
    pub fn new(identity: Identity, rules: Rules, now: Instant) -> Self {
        Self {
            identity,
            created: now,
            endpoints: BTreeMap::new(),
            by_engine_id: HashMap::new(),
            ssrc_owners: HashMap::new(),
            speakers: Speakers::new(now)
                .remembering(rules.recent_speakers)
                .noticing_silence(rules.silence_after),
            speech_order: Vec::new(),
            voices: Voices::default(),
            channels_settled: false,
            caps: Caps { size: None, load: rules.last_n_by_load },
            latest: now,
            source_owners: FxHashMap::default(),
            demand: Demand::default(),
            sources_version: 0,
            told_dominant: None,
            ahead: super::keyframe_ahead::KeyframesAhead::default(),
            exports: Exports::default(),
            rules,
        }
    }

    /// Who it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// When it was created.
    pub fn created(&self) -> Instant {
        self.created
    }

    /// An endpoint by its signalled id.
    pub fn endpoint(&self, id: &str) -> Option<&Endpoint> {
        self.endpoints.get(id)
    }

    /// An endpoint by its place in the engine.
    pub fn by_engine_id(&self, id: EndpointId) -> Option<&Endpoint> {
        self.endpoints.get(self.by_engine_id.get(&id)?)
    }

    /// A source, and whose it is.
    pub(super) fn source(&self, id: SourceId) -> Option<(&Endpoint, &EndpointSource)> {
        let owner = self.by_engine_id(*self.source_owners.get(&id)?)?;
        Some((owner, owner.source(id)?))
    }

    /// All endpoints, by signalled id.
    pub fn endpoints(&self) -> impl ExactSizeIterator<Item = &Endpoint> {
        self.endpoints.values()
    }

    /// For logs: `<conference id>/<endpoint id>`.
    pub fn label(&self, endpoint: &str) -> std::sync::Arc<str> {
        format!("{}/{endpoint}", self.identity.id).into()
    }

    /// Nobody is in it, and it has had its time to fill.
    pub fn should_expire(&self, now: Instant) -> bool {
        self.endpoints.is_empty()
            && now.saturating_duration_since(self.created) > self.rules.empty_timeout
    }

    /// Removes an endpoint with all that it sends and gets. `false` when there is none.
    pub fn expire_endpoint(&mut self, id: &str, effects: &mut Effects) -> bool {
        let Some(gone) = self.endpoints.remove(id) else { return false };
        self.by_engine_id.remove(&gone.engine_id);
        self.speech_order.retain(|other| other != id);
        self.forget_demand_of(&gone);
        for source in &gone.sources {
            self.forget_ssrcs(&source.spec);
            self.forget_source(&source.spec, false);
        }
        effects.removed.push(gone.engine_id);
        effects.control(Control::RemoveEndpoint(gone.engine_id));
        self.size_changed(effects);
        if !gone.sources.is_empty() {
            self.allocate_limited(effects);
        }
        effects.event(ConferenceEvent::EndpointExpired { endpoint: gone.id });
        if let Some(change) = self.speakers.remove(gone.engine_id) {
            self.announce_speaker(&change, effects);
        }
        true
    }

    /// Removes everybody.
    pub fn expire(&mut self, effects: &mut Effects) {
        // Keeps the removal of one endpoint from subscribing the others to more videos.
        for endpoint in self.endpoints.values_mut() {
            endpoint.constraints.last_n = Some(-1);
            (endpoint.all_audio, endpoint.all_videos) = (false, false);
        }
        self.rules.last_n_by_size = Arc::default();
        self.caps.size = None;
        for id in self.endpoints.keys().cloned().collect::<Vec<_>>() {
            self.expire_endpoint(&id, effects);
        }
        effects.event(ConferenceEvent::ConferenceExpired);
    }
}
