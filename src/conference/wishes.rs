//! What receivers want of the videos that they get, told to the engine in the order of priority: what is
//! on stage, what is selected, then the others by who spoke last; what shows nothing comes last.

use std::{collections::HashMap, sync::Arc};

use rialto_engine::{
    AllocationConstraints, Control, MAX_CONSTRAINED_SOURCES, SourceConstraint, VideoKind,
};
use rialto_media::{MediaType, SourceId};

use super::{channel::SMALL, effects::Effects, endpoint::Endpoint, state::Conference, work};
use crate::channel::message::VideoType;

/// Whether the engine is to hear of a receiver's wishes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) enum Telling {
    /// It knows them.
    #[default]
    Done,
    /// With the next tick in a large conference, where everybody's change at once.
    Soon,
    /// The receiver said so itself.
    Now,
}

/// Of a video, what is the same for all receivers.
struct Video {
    /// How many come before it.
    rank: usize,
    name: Arc<str>,
    kind: VideoKind,
    shows: bool,
    muted: bool,
}

impl Conference {
    /// The order of videos, what they show, or who is muted has changed.
    pub(super) fn order_changed(&mut self) {
        for endpoint in self.endpoints.values_mut() {
            endpoint.telling = endpoint.telling.max(Telling::Soon);
        }
    }

    /// Tells the engine of wishes that have changed since it was told.
    pub fn tell_wishes(&mut self, effects: &mut Effects) {
        let least = if self.endpoints.len() <= SMALL { Telling::Soon } else { Telling::Now };
        self.tell_wishes_from(least, effects);
    }

    /// In a large conference, the rest of them.
    pub(super) fn tell_all_wishes(&mut self, effects: &mut Effects) {
        self.tell_wishes_from(Telling::Soon, effects);
    }

    fn tell_wishes_from(&mut self, least: Telling, effects: &mut Effects) {
        if self.endpoints.values().all(|endpoint| endpoint.telling < least) {
            return;
        }
        let videos = self.videos();
        for endpoint in self.endpoints.values_mut().filter(|e| e.telling >= least) {
            endpoint.telling = Telling::Done;
            let wishes = endpoint.allocation_constraints(&videos);
            if *endpoint.sent_constraints != wishes {
                let wishes = Arc::new(wishes);
                endpoint.sent_constraints = wishes.clone();
                let receiver = endpoint.engine_id;
                effects.control(Control::SetAllocation { receiver, wishes });
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
    /// Its sender has not said that it shows nothing.
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
    /// Of the videos that it gets.
    fn allocation_constraints(&self, videos: &HashMap<SourceId, Video>) -> AllocationConstraints {
        let (on_stage, selected) = (places(&self.wishes.on_stage), places(&self.wishes.selected));
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
                let wish = SourceConstraint {
                    source: *id,
                    kind: video.kind,
                    max_height: terms.max_height,
                    on_stage: stage.is_some(),
                    selected: selected.is_some(),
                    muted: video.muted,
                };
                Some((order, wish))
            })
            .collect();
        wanted.sort_unstable_by_key(|(order, _)| *order);
        AllocationConstraints {
            sources: wanted
                .into_iter()
                .take(MAX_CONSTRAINED_SOURCES)
                .map(|(_, wish)| wish)
                .collect(),
            assumed_bandwidth_bps: self.wishes.assumed_bandwidth_bps,
        }
    }
}

/// Where each of some names is; of one that is there twice the first place counts.
fn places(named: &[String]) -> HashMap<&str, usize> {
    named.iter().enumerate().rev().map(|(place, name)| (name.as_str(), place)).collect()
}
