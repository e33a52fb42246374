//! The state of one participant.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Instant,
};

use rialto_engine::{Allocation, EndpointSnapshot};
use rialto_media::{
    Codec, EndpointId, Extension, MediaParams, MediaType, Mid, PayloadType, SourceId, SourceSpec,
    SubscriptionParams,
};

use super::{allocated::LinkReports, constraints::Due, demand::Shares, slots::Slots};
use crate::{
    channel::{ReceiverConstraints, message::VideoType},
    colibri::{ByChannels, ForceMute, MucRole},
};

/// A participant.
#[derive(Debug)]
pub struct Endpoint {
    /// Its signalled id.
    pub id: String,
    /// The same, shared with what outlives the endpoint.
    pub(super) shared_id: Arc<str>,
    /// Its id in the engine.
    pub engine_id: EndpointId,
    /// The name for statistics.
    pub stats_id: Option<String>,
    /// Its role, as first signalled.
    pub muc_role: Option<MucRole>,
    /// Its audio carries several speakers.
    pub diarize: bool,
    /// Its slots, if its SSRCs are rewritten: the bridge announces their SSRCs over the channel, not the
    /// focus. `None`: it gets sources under their own SSRCs.
    pub slots: Option<Box<Slots>>,
    /// It demultiplexes by MID.
    pub mid_demux: bool,
    /// How many videos it gets until it asks for something itself.
    pub initial_last_n: Option<i32>,
    /// Which of its media are dropped.
    pub force_mute: ForceMute,
    /// What COLIBRI 1 signalled beyond COLIBRI2.
    pub v1: ByChannels,
    /// How its transport is doing.
    pub transport: TransportState,
    /// Its DTLS is done, and stays so through losses and restarts of ICE.
    pub keyed: bool,
    /// When it was created.
    pub created: Instant,
    /// When the engine or the transports last received something from it.
    pub last_activity: Option<Instant>,
    /// Up to when its transport was seen to be up.
    pub up_until: Option<Instant>,
    /// The others were notified that it is inactive.
    pub inactive: bool,
    /// What it sends.
    pub sources: Vec<EndpointSource>,
    /// What it gets, and how.
    pub subscriptions: HashMap<SourceId, SubscriptionParams>,
    /// MIDs that it gave to sources, by name.
    pub mids: HashMap<String, Mid>,
    /// Its slots hold as much audio as they may.
    pub(super) all_audio: bool,
    /// Its slots hold as many videos as it may get.
    pub(super) all_videos: bool,
    /// Its audio sources have to be chosen anew.
    pub(super) undecided_audio: bool,
    /// Its videos have to be chosen anew.
    pub(super) undecided_videos: bool,
    /// The videos among its subscriptions.
    pub(super) got_videos: BTreeSet<SourceId>,
    /// How it counts for the videos that it gets.
    pub(super) shares: Shares,
    /// The types that it signalled for its videos, by name.
    pub(super) shown: BTreeMap<String, VideoType>,
    /// Its receiver constraints.
    pub constraints: ReceiverConstraints,
    /// Since when it can receive: its DTLS was done then.
    pub(super) keyed_since: Option<Instant>,
    /// Its constraints count for sender constraints: it has sent them, or had the time to.
    pub(super) counts: bool,
    /// The sender constraints that it was last sent, by source, pixels.
    pub demand: Vec<(Arc<str>, i32)>,
    /// The forwarded sources that it was last sent.
    pub forwarded: Vec<String>,
    /// The same as it was decided or measured, and of which [`Conference::sources_version`](super::Conference).
    pub(super) forwarded_of: Option<(u64, Vec<SourceId>)>,
    /// Its latest measurements.
    pub snapshot: Option<EndpointSnapshot>,
    /// What the engine last decided for it, once it decides.
    pub allocation: Option<Allocation>,
    /// When it last sent constraints, or joined.
    pub(super) asked: Instant,
    /// Subscriptions that have ended, and when.
    pub(super) ceased: HashMap<SourceId, Instant>,
    /// When to send its constraints to the engine.
    pub(super) constraints_due: Due,
    /// The constraints that the engine was last sent.
    pub(super) sent_constraints: Arc<rialto_engine::AllocationConstraints>,
    /// What was logged about its stage, and the last estimate that it was sent.
    pub(super) link: LinkReports,
    pub(super) payload_types: BTreeMap<u8, PayloadType>,
    pub(super) extensions: BTreeMap<u8, Extension>,
    pub(super) extmap_allow_mixed: bool,
    pub(super) congestion_feedback: bool,
    pub(super) remb: bool,
}

/// A source of a participant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointSource {
    /// As the engine knows it.
    pub spec: SourceSpec,
    /// `camera` or `desktop`, if signalled.
    pub video_type: Option<String>,
}

/// How a transport is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TransportState {
    /// Nothing yet.
    #[default]
    New,
    /// ICE has a pair.
    Connected,
    /// DTLS is done.
    Ready,
    /// Consent was lost.
    Disconnected,
    /// It will never work.
    Failed,
    /// The peer closed it.
    Closed,
}

impl TransportState {
    /// As debug output has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "NEW",
            Self::Connected => "CONNECTED",
            Self::Ready => "READY",
            Self::Disconnected => "DISCONNECTED",
            Self::Failed => "FAILED",
            Self::Closed => "CLOSED",
        }
    }
}

impl Endpoint {
    /// A visitor receives only.
    pub fn is_visitor(&self) -> bool {
        self.muc_role == Some(MucRole::Visitor)
    }

    /// It negotiated a format of this type, so that media of this type can be sent to it.
    pub fn accepts(&self, media: MediaType) -> bool {
        self.payload_types
            .values()
            .any(|pt| pt.media == media && !matches!(pt.codec, Codec::Rtx { .. }))
    }

    /// What it negotiated, for the engine.
    pub fn media_params(&self) -> Arc<MediaParams> {
        Arc::new(MediaParams {
            payload_types: self.payload_types.values().cloned().collect(),
            extensions: self.extensions.iter().map(|(id, kind)| (*id, *kind)).collect(),
            extmap_allow_mixed: self.extmap_allow_mixed,
            congestion_feedback: self.congestion_feedback,
            remb: self.remb,
        })
    }

    /// RTP of this type came from it in the last interval.
    pub fn is_sending(&self, media: MediaType) -> bool {
        let Some(snapshot) = &self.snapshot else { return false };
        snapshot.sources.iter().any(|measured| {
            measured.encoding_bps.iter().any(|bps| *bps > 0)
                && self
                    .sources
                    .iter()
                    .any(|own| own.spec.id == measured.source && own.spec.media == media)
        })
    }

    /// Its source of this place.
    pub fn source(&self, id: SourceId) -> Option<&EndpointSource> {
        self.sources.iter().find(|source| source.spec.id == id)
    }
}
