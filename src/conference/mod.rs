//! One conference: its endpoints, their sources, the sources that each receiver gets, and the dominant
//! speaker. Plain state and decisions without I/O or a clock; each change returns the actions for its caller
//! as [`Effects`].

mod activity;
mod allocate;
mod allocated;
mod channel;
mod constraints;
mod debug;
mod demand;
mod effects;
mod endpoint;
mod exports;
pub(crate) mod fuzz;
mod keyframe_ahead;
mod media;
mod modify;
mod slots;
mod sources;
mod speaker;
mod ssrcs;
mod state;
mod status;
mod tally;
mod view;
mod voices;
mod work;

pub(crate) use channel::SMALL;
pub use effects::{ConferenceEvent, Effects, Ids, SequentialIds};
pub use endpoint::{Endpoint, EndpointSource, TransportState};
pub use keyframe_ahead::KeyframesAhead;
pub use modify::{Answered, CreateTransport, EndpointAnswer, TransportStep};
pub use slots::SsrcLimits;
pub use speaker::{Changed, SpeakerChange, Speakers};
pub use state::{Conference, Identity, Rules};
pub use status::{ConferenceStatus, EndpointStatus, VideoStatus};
pub use tally::Tally;
pub use view::{EndpointView, ReceivedSource, VideoReason};

#[cfg(test)]
mod tests;
