//! The status of a conference for the status page and `rialto top`: what each receiver is sent, and why it is
//! not more. Its size is bounded, whatever the size of the conference: receivers that lack something come
//! first.

use std::{cmp::Reverse, collections::HashMap};

use rialto_engine::Reason;
use rialto_media::MediaType;
use serde::{Deserialize, Serialize};

use super::{
    allocate::Ranking, allocated::Explained, endpoint::Endpoint, state::Conference,
    view::ReceivedSource,
};

/// Endpoints that are described. The others are counted.
pub(crate) const MAX_ENDPOINTS: usize = 60;
/// Videos that are described of a receiver. The others are counted.
pub(crate) const MAX_VIDEOS: usize = 24;

/// The endpoints of a conference.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ConferenceStatus {
    /// Id of the endpoint that speaks.
    pub dominant: Option<String>,
    /// In order of their ids. If there are more than are described, those that lack most are described.
    pub endpoints: Vec<EndpointStatus>,
    /// How many endpoints are not described.
    pub more: usize,
}

/// An endpoint as a sender and as a receiver.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EndpointStatus {
    /// Its id.
    pub id: String,
    /// Its name for statistics.
    pub stats_id: Option<String>,
    /// State of its transport, as in `/debug`.
    pub transport: String,
    /// Nothing has come from it for a while.
    pub inactive: bool,
    /// It receives only.
    pub visitor: bool,
    /// Round trip, ms.
    pub rtt_ms: Option<f64>,
    /// RTP from it, bit/s.
    pub receive_bps: u64,
    /// Fraction of its packets that were lost on their way to us, 0..=1.
    pub receive_loss: f32,
    /// RTP to it, bit/s.
    pub send_bps: u64,
    /// Fraction of our packets that it reported lost, 0..=1.
    pub send_loss: f32,
    /// What its link is estimated to carry, bit/s.
    pub estimate_bps: Option<u64>,
    /// What the layers that were decided for it take, bit/s.
    pub target_bps: Option<u64>,
    /// What everything that it wants would take, bit/s.
    pub ideal_bps: Option<u64>,
    /// Voices that it is sent, bit/s.
    pub audio_bps: u64,
    /// Why it gets no more: the most serious reason of its videos. `None` when it could get no video.
    pub reason: Option<String>,
    /// The same in words.
    pub why: String,
    /// The videos that it could get, in order of their names. If there are more than are described, those
    /// that lack most are described.
    pub videos: Vec<VideoStatus>,
    /// How many videos are not described.
    pub more_videos: usize,
}

/// A video as one receiver gets it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VideoStatus {
    /// The source's name.
    pub name: String,
    /// Layer that is sent: `encoding/spatial/temporal`.
    pub sent: Option<String>,
    /// Its frame height, pixels, if the codec signals it.
    pub height: Option<u16>,
    /// Frame height that a link without limit would give it, pixels, if that is known.
    pub wanted_height: Option<u16>,
    /// Sent, bit/s.
    pub bps: u64,
    /// Why it gets no more of it, as in `/debug`.
    pub reason: String,
    /// The same in words.
    pub why: String,
    /// For how long that has been the reason, ms.
    pub since_ms: u64,
}

/// The text of a reason on the status page.
pub(crate) fn in_words(reason: Reason) -> &'static str {
    match reason {
        Reason::Nothing => "gets all there is",
        Reason::Link => "its link carries no more",
        Reason::LastN => "others are among its last-N",
        Reason::Constraint => "asked for no more",
        Reason::NotSent => "the sender sends no more",
        Reason::Muted => "muted",
        Reason::WaitingForKeyframe => "waits for a keyframe",
        Reason::SuspendedByLoad => "the bridge is overloaded",
        Reason::NotWanted => "asked for none of it",
    }
}

/// The order of reasons by how serious they are: the most serious has the greatest number.
const fn severity(reason: Reason) -> u8 {
    match reason {
        Reason::SuspendedByLoad => 8,
        Reason::Link => 7,
        Reason::WaitingForKeyframe => 6,
        Reason::LastN => 5,
        Reason::NotSent => 4,
        Reason::Constraint => 3,
        Reason::Muted => 2,
        Reason::NotWanted => 1,
        Reason::Nothing => 0,
    }
}

impl Conference {
    /// What the status page shows of it.
    pub fn status(&self) -> ConferenceStatus {
        let ranking = self.ranking();
        let mut shown: Vec<&Endpoint> = self.endpoints.values().collect();
        let more = shown.len().saturating_sub(MAX_ENDPOINTS);
        if more > 0 {
            shown.sort_by_cached_key(|endpoint| Reverse(endpoint.shortages()));
            shown.truncate(MAX_ENDPOINTS);
            shown.sort_by(|a, b| a.id.cmp(&b.id));
        }
        let dominant = self.speakers.dominant().and_then(|id| self.by_engine_id.get(&id)).cloned();
        let endpoints = shown.into_iter().map(|endpoint| self.endpoint_status(endpoint, &ranking));
        ConferenceStatus { dominant, endpoints: endpoints.collect(), more }
    }

    fn endpoint_status(&self, endpoint: &Endpoint, ranking: &Ranking) -> EndpointStatus {
        let view = self.view(&endpoint.id).unwrap_or_default();
        let allocation = endpoint.allocation.as_ref();
        let audio = view.sources.iter().filter(|source| source.media == MediaType::Audio);
        let audio_bps = audio.fold(0, |sum: u64, source| sum.saturating_add(source.bps));
        let mut explained = self.explain(endpoint, ranking);
        let worst = explained.iter().map(|(_, why)| why.reason).max_by_key(|why| severity(*why));
        let more_videos = explained.len().saturating_sub(MAX_VIDEOS);
        if more_videos > 0 {
            explained.sort_by_key(|(_, why)| Reverse(severity(why.reason)));
            explained.truncate(MAX_VIDEOS);
        }
        let got: HashMap<&str, &ReceivedSource> =
            view.sources.iter().map(|source| (source.name.as_str(), source)).collect();
        let mut videos: Vec<VideoStatus> = explained
            .iter()
            .map(|(source, why)| {
                let name = &*source.spec.name;
                self.video_status(name, why, got.get(name).copied())
            })
            .collect();
        videos.sort_by(|a, b| a.name.cmp(&b.name));
        EndpointStatus {
            id: endpoint.id.clone(),
            stats_id: endpoint.stats_id.clone(),
            transport: endpoint.transport.as_str().to_owned(),
            inactive: endpoint.inactive,
            visitor: endpoint.is_visitor(),
            rtt_ms: view.rtt.map(|rtt| rtt.as_secs_f64() * 1000.0),
            receive_bps: view.receive_bps,
            receive_loss: view.receive_loss,
            send_bps: view.send_bps,
            send_loss: view.send_loss,
            estimate_bps: view.estimate_bps,
            target_bps: allocation.map(|all| all.target_bps),
            ideal_bps: allocation.map(|all| all.ideal_bps),
            audio_bps,
            reason: worst.map(|reason| reason.as_str().to_owned()),
            why: worst.map_or("there is no video for it yet", in_words).to_owned(),
            videos,
            more_videos,
        }
    }

    fn video_status(
        &self,
        name: &str,
        why: &Explained,
        got: Option<&ReceivedSource>,
    ) -> VideoStatus {
        VideoStatus {
            name: name.to_owned(),
            sent: why.sent.map(|layer| layer.to_string()),
            height: got.and_then(|got| got.height),
            wanted_height: why.wanted.1,
            bps: got.map_or(0, |got| got.bps),
            reason: why.reason.as_str().to_owned(),
            why: in_words(why.reason).to_owned(),
            since_ms: self.latest.saturating_duration_since(why.since).as_millis() as u64,
        }
    }

    /// Videos that receivers get less of for a reason that is neither the receiver's nor the sender's choice.
    pub fn shortages(&self) -> usize {
        self.endpoints.values().fold(0, |sum: usize, e| sum.saturating_add(e.shortages()))
    }
}

impl Endpoint {
    /// Videos that it gets less of for a reason that is neither its own nor the sender's choice.
    fn shortages(&self) -> usize {
        let decided = self.allocation.iter().flat_map(|all| &all.sources);
        decided.filter(|source| source.reason.is_shortage()).count()
    }
}
