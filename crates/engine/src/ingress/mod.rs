//! Receiving from senders: SRTP, NACKs, TWCC feedback, keyframe requests, audio levels.

mod accepted;
mod audio;
mod frames;
mod gap;
mod inspect;
pub mod keyframe;
pub mod layers;
mod level;
mod meta;
pub mod nack;
mod numbers;
mod parked;
pub mod rate;
mod retired;
mod seen;
mod sender;
pub mod silence;
mod speakers;
mod stats;
mod stream;
pub mod twcc;

pub use accepted::Accepted;
pub use audio::{AudioMeta, Gate, Red};
pub use level::LoudestLevel;
pub use meta::{KeptExtension, MAX_KEPT_EXTENSIONS, PacketMeta};
pub use parked::{Parked, Unparked};
pub use seen::SeenWindow;
pub use sender::{Context, LocalSource, MAX_CNAME, Sender, cname_text};
pub use speakers::Speakers;
pub use stats::{Report, StreamStats};
pub use stream::{Stream, drop_reason};
