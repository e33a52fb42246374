//! Configuration of audio: how much silence is forwarded, which speakers are, and who gets
//! redundancy.

use std::time::Duration;

pub use crate::ingress::silence::SilenceLimit;

/// Configuration of audio forwarding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AudioConfig {
    /// `rialto.engine.audio-hold`: how long a packet may wait for packets of other speakers, when
    /// enough of them speak that some are likely to arrive in that time. 0: packets never wait.
    pub hold: Duration,
    /// `jmt.audio.level`.
    pub silence: SilenceLimit,
    /// `jmt.audio.red`.
    pub redundancy: Redundancy,
    /// `videobridge.loudest`.
    pub loudest: Loudest,
}

/// What happens to redundant audio (RFC 2198) for receivers that negotiated it. Receivers that did
/// not always get the primary block as plain audio.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RedPolicy {
    /// `NOOP`: redundancy is forwarded as it arrives.
    #[default]
    AsSent,
    /// `STRIP`: redundancy is removed for all receivers.
    Strip,
    /// `PROTECT_ALL`: redundancy is forwarded, and added to plain audio for receivers with packet
    /// loss.
    Protect,
}

/// See [`AudioConfig::redundancy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redundancy {
    /// `policy`, by default as sent.
    pub policy: RedPolicy,
    /// `distance`: how many earlier packets each packet repeats, 1 or 2. Default 2.
    pub distance: u8,
    /// `vad-only`: repeat only packets that the sender marked as voice. Default true.
    pub voice_only: bool,
}

impl Default for Redundancy {
    fn default() -> Self {
        Self { policy: RedPolicy::AsSent, distance: 2, voice_only: true }
    }
}

/// Loudest-speaker selection: whose audio is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loudest {
    /// `route-loudest-only`: forward only the loudest speakers. Default false.
    pub only: bool,
    /// `num-loudest`: how many speakers per conference. Default 3.
    pub speakers: u8,
    /// `always-route-dominant`: also forward the dominant speaker, even if others are louder.
    /// Default true.
    pub dominant: bool,
    /// `energy-expire-time`: a speaker who was silent for this long loses its place. Default 150
    /// ms.
    pub expires: Duration,
    /// `energy-alpha-pct`: weight of a new packet in the running average, percent. Default 50.
    pub alpha: u8,
}

impl Default for Loudest {
    fn default() -> Self {
        Self {
            only: false,
            speakers: 3,
            dominant: true,
            expires: Duration::from_millis(150),
            alpha: 50,
        }
    }
}
