//! Sends each receiver's constraints on its videos to the engine, in order of priority: sources on stage,
//! selected sources, then the others by who spoke last. Sources that show nothing come last.

use std::{collections::HashMap, sync::Arc};

use rialto_engine::{
    AllocationConstraints, Control, MAX_CONSTRAINED_SOURCES, SourceConstraint, VideoKind,
};
use rialto_media::{MediaType, SourceId};

use super::{channel::SMALL, effects::Effects, endpoint::Endpoint, state::Conference, work};
use crate::channel::message::VideoType;

/// When to send a receiver's constraints to the engine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) enum Due {
    /// The engine has them already.
    #[default]
    No,
    /// In a large conference with the next tick, because one change affects all receivers; else at once.
    NextTick,
    /// At once: the receiver changed them itself.
    Now,
}

/// The properties of a video that are the same for all receivers.
struct Video {
    /// How many videos precede it.
    rank: usize,
    name: Arc<str>,
    kind: VideoKind,
    shows: bool,
    muted: bool,
}

impl Conference {
    /// Marks the constraints of all receivers as due, after a change of the videos' order, of what they show,
    /// or of muting.
    pub(super) fn order_changed(&mut self) {
        for endpoint in self.endpoints.values_mut() {
            endpoint.constraints_due = endpoint.constraints_due.max(Due::NextTick);
        }
    }

    /// Sends the engine the constraints that have changed since it last got them.
    pub fn send_constraints(&mut self, effects: &mut Effects) {
        let least = if self.endpoints.len() <= SMALL { Due::NextTick } else { Due::Now };
        self.send_due_constraints(least, effects);
    }

    /// The same for constraints that a large conference left to its tick.
    pub(super) fn send_all_constraints(&mut self, effects: &mut Effects) {
        self.send_due_constraints(Due::NextTick, effects);
    }

    fn send_due_constraints(&mut self, least: Due, effects: &mut Effects) {
        if self.endpoints.values().all(|endpoint| endpoint.constraints_due < least) {
            return;
        }
        let videos = self.videos();
        for endpoint in self.endpoints.values_mut().filter(|e| e.constraints_due >= least) {
            endpoint.constraints_due = Due::No;
            let constraints = endpoint.allocation_constraints(&videos);
            if *endpoint.sent_constraints != constraints {
                let constraints = Arc::new(constraints);
                endpoint.sent_constraints = constraints.clone();
                let receiver = endpoint.engine_id;
                effects.control(Control::SetAllocation { receiver, wishes: constraints });
            }
        }
    }

    fn videos(&self) -> HashMap<SourceId, Video> {
        let mut videos = HashMap::new();
        for sender in self.speech_order.iter().filter_map(|id| self.endpoints.get(id)) {
            for source in sender.sources.iter().filter(|s| s.spec.media == MediaType::Video) {
                let shows = source.shows();
                let video = Video {
                    rank: videos.len(),
                    name: source.spec.name.clone(),
                    kind: source.kind(),
                    shows,
                    muted: !shows || sender.force_mute.video,
                };
                videos.insert(source.spec.id, video);
            }
        }
        videos
    }
}

impl super::EndpointSource {
    /// Whether the video shows something, as far as its sender has signalled.
    pub(super) fn shows(&self) -> bool {
        let nothing = [VideoType::Disabled, VideoType::None].map(VideoType::as_str);
        !self.video_type.as_deref().is_some_and(|shown| nothing.contains(&shown))
    }

    fn kind(&self) -> VideoKind {
        let screen = [VideoType::Desktop, VideoType::DesktopHighFps].map(VideoType::as_str);
        match self.video_type.as_deref() {
            Some(shown) if screen.contains(&shown) => VideoKind::Desktop,
            _ => VideoKind::Camera,
        }
    }
}

impl Endpoint {
    /// The constraints on the videos that this receiver gets.
    fn allocation_constraints(&self, videos: &HashMap<SourceId, Video>) -> AllocationConstraints {
        let (on_stage, selected) =
            (positions(&self.constraints.on_stage), positions(&self.constraints.selected));
        work::count(self.got_videos.len());
        let mut wanted: Vec<_> = self
            .got_videos
            .iter()
            .filter_map(|id| {
                let (terms, video) = (self.subscriptions.get(id)?, videos.get(id)?);
                let stage = on_stage.get(&*video.name).copied();
                let selected = selected.get(&*video.name).copied();
                let named = |place: Option<usize>| place.unwrap_or(usize::MAX);
                let order = (!video.shows, named(stage), named(selected), video.rank);
                let constraint = SourceConstraint {
                    source: *id,
                    kind: video.kind,
                    max_height: terms.max_height,
                    on_stage: stage.is_some(),
                    selected: selected.is_some(),
                    muted: video.muted,
                };
                Some((order, constraint))
            })
            .collect();
        wanted.sort_unstable_by_key(|(order, _)| *order);
        AllocationConstraints {
            sources: wanted
                .into_iter()
                .take(MAX_CONSTRAINED_SOURCES)
                .map(|(_, constraint)| constraint)
                .collect(),
            assumed_bandwidth_bps: self.constraints.assumed_bandwidth_bps,
        }
    }
}

/// The position of each name; of a repeated name, the first one.
fn positions(named: &[String]) -> HashMap<&str, usize> {
    named.iter().enumerate().rev().map(|(place, name)| (name.as_str(), place)).collect()
}
