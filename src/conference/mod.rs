//! One conference: who is in it, what they send, who gets what, who speaks. Plain state and
//! decisions; what is to be done comes out as [`Effects`]. No I/O, no clock.

mod activity;
mod ahead;
mod allocate;
mod allocated;
mod channel;
mod debug;
mod demand;
mod effects;
mod endpoint;
mod exports;
pub(crate) mod fuzz;
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
mod wishes;
mod work;

pub use ahead::Ahead;
pub(crate) use channel::SMALL;
pub use effects::{ConferenceEvent, Effects, Ids, SequentialIds};
pub use endpoint::{Endpoint, EndpointSource, TransportState};
pub use modify::{Answered, CreateTransport, EndpointAnswer, TransportStep};
pub use slots::SsrcLimits;
pub use speaker::{Changed, SpeakerChange, Speakers};
pub use state::{Conference, Identity, Rules};
pub use status::{ConferenceStatus, EndpointStatus, VideoStatus};
pub use tally::Tally;
pub use view::{EndpointView, ReceivedSource, VideoReason};

#[cfg(test)]
mod tests;
