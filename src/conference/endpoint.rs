//! What a conference knows of a participant.

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

use super::{allocated::LinkStory, demand::Shares, slots::Slots, wishes::Telling};
use crate::{
    channel::{ReceiverConstraints, message::VideoType},
    colibri::{ByChannels, ForceMute, MucRole},
};

/// A participant.
#[derive(Debug)]
pub struct Endpoint {
    /// Its signalled id.
    pub id: String,
    /// The same, for what outlives it.
    pub(super) shared_id: Arc<str>,
    /// Its place in the engine.
    pub engine_id: EndpointId,
    /// The name for statistics.
    pub stats_id: Option<String>,
    /// Its role, as first signalled.
    pub muc_role: Option<MucRole>,
    /// Its audio carries several speakers.
    pub diarize: bool,
    /// It gets sources in slots, of whose SSRCs it hears over its channel, and not from the focus; `None`:
    /// it gets them under their own.
    pub slots: Option<Box<Slots>>,
    /// It demultiplexes by MID.
    pub mid_demux: bool,
    /// How many videos it gets until it asks for something itself.
    pub initial_last_n: Option<i32>,
    /// What of it is dropped.
    pub force_mute: ForceMute,
    /// What COLIBRI 1 said of it.
    pub v1: ByChannels,
    /// How its transport is doing.
    pub transport: TransportState,
    /// Its DTLS is done, and stays so through losses and restarts of ICE.
    pub keyed: bool,
    /// When it was created.
    pub created: Instant,
    /// When anything last came from it, as far as engine and transports tell.
    pub last_activity: Option<Instant>,
    /// Up to when its transport was seen to be up.
    pub up_until: Option<Instant>,
    /// Others were told that nothing comes from it.
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
    /// It may have to get other voices now in its slots.
    pub(super) undecided_audio: bool,
    /// It may have to get other videos now.
    pub(super) undecided_videos: bool,
    /// The videos among its subscriptions.
    pub(super) got_videos: BTreeSet<SourceId>,
    /// How it counts for the videos that it gets.
    pub(super) shares: Shares,
    /// What it said that its videos show, by name.
    pub(super) shown: BTreeMap<String, VideoType>,
    /// What it asked for over its channel.
    pub wishes: ReceiverConstraints,
    /// Since when it can receive: its DTLS was done then.
    pub(super) keyed_since: Option<Instant>,
    /// What it wants counts for what senders are told: it has said what that is, or had the time to.
    pub(super) counts: bool,
    /// How high its videos were last said to be wanted, by source, pixels.
    pub demand: Vec<(Arc<str>, i32)>,
    /// The videos that it was told it gets.
    pub forwarded: Vec<String>,
    /// The same as it was decided or measured, and of which [`Conference::sources_version`](super::Conference).
    pub(super) forwarded_of: Option<(u64, Vec<SourceId>)>,
    /// Its latest measurements.
    pub snapshot: Option<EndpointSnapshot>,
    /// What the engine last decided for it, once it decides.
    pub allocation: Option<Allocation>,
    /// When it last said what it wants, or came.
    pub(super) asked: Instant,
    /// What it gets no more, and since when.
    pub(super) ceased: HashMap<SourceId, Instant>,
    /// Whether the engine is to hear of what it wants.
    pub(super) telling: Telling,
    /// What it wants, as the engine was told.
    pub(super) sent_constraints: Arc<rialto_engine::AllocationConstraints>,
    /// What became of its stage and of what it was told of its link.
    pub(super) link: LinkStory,
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
    /// `camera` or `desktop`, if said.
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
