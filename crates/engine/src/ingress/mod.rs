//! Per sender: receive state, NACK, TWCC feedback, keyframe requests, audio level.

mod audio;
mod frames;
mod inspect;
pub mod keyframe;
pub mod layers;
mod level;
mod meta;
pub mod nack;
mod numbers;
pub mod rate;
mod remembered;
mod seen;
mod sender;
pub mod silence;
mod stats;
mod stream;
pub mod twcc;
mod voices;

pub use audio::{AudioMeta, Gate, Red};
pub use level::LoudestLevel;
pub use meta::{KeptExtension, MAX_KEPT_EXTENSIONS, PacketMeta};
pub use seen::SeenWindow;
pub use sender::{Accepted, Context, LocalSource, MAX_CNAME, Sender, cname_text};
pub use stats::{Report, StreamStats};
pub use stream::{Stream, drop_reason};
pub use voices::Voices;
