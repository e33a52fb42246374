//! What is set up of audio: how much silence is forwarded, whose voices are, and who is sent them twice.

use std::time::Duration;

pub use crate::ingress::silence::SilenceLimit;

/// How audio is forwarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AudioConfig {
    /// `rialto.engine.audio-hold`: how long a packet may wait for those of other talkers, where so many talk
    /// that some are likely to come by then. 0: not at all.
    pub hold: Duration,
    /// `jmt.audio.level`.
    pub silence: SilenceLimit,
    /// `jmt.audio.red`.
    pub redundancy: Redundancy,
    /// `videobridge.loudest`.
    pub loudest: Loudest,
}

/// What is done about redundant audio (RFC 2198) for receivers that negotiated it. Who did not is sent
/// the primary block as plain audio in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RedPolicy {
    /// `NOOP`: it is forwarded as it comes.
    #[default]
    AsSent,
    /// `STRIP`: nobody is sent any.
    Strip,
    /// `PROTECT_ALL`: what comes is forwarded, and plain audio is made redundant for those who lose some
    /// of it.
    Protect,
}

/// See [`AudioConfig::redundancy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redundancy {
    /// `policy`: as sent.
    pub policy: RedPolicy,
    /// `distance`: so many packets before one go with it again, 1 or 2. 2.
    pub distance: u8,
    /// `vad-only`: only those in which the sender hears a voice. True.
    pub voice_only: bool,
}

impl Default for Redundancy {
    fn default() -> Self {
        Self { policy: RedPolicy::AsSent, distance: 2, voice_only: true }
    }
}

/// Whose audio is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loudest {
    /// `route-loudest-only`: only the loudest are heard. False.
    pub only: bool,
    /// `num-loudest`: so many of a conference. 3.
    pub speakers: u8,
    /// `always-route-dominant`: and the dominant speaker, whoever is louder. True.
    pub dominant: bool,
    /// `energy-expire-time`: who has said nothing for so long is not among them. 150 ms.
    pub expires: Duration,
    /// `energy-alpha-pct`: how much a packet counts against those before it, percent. 50.
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
