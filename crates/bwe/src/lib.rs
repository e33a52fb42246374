//! Bandwidth estimation, probing and pacing for a sender of real-time media.
//!
//! Each receiver has an [`Estimator`]. It numbers the packets that are sent, reads the receiver's
//! transport-wide feedback, estimates the bandwidth of the path ([`Estimator::target_bps`]), and
//! says when to send faster for a moment to find out whether there is more
//! ([`Estimator::take_probe`]). A [`Pacer`] decides when the next packet may leave. Nothing here
//! does I/O, reads a clock or allocates per packet: time is an argument, and the caller asks for
//! [`Estimator::next_timeout`].
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        unreachable_pub,
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::unwrap_used
    )
)]
#![cfg_attr(
    test,
    expect(clippy::float_cmp, reason = "tests compute what they compare with in the same way")
)]

mod aimd;
mod config;
mod delay;
mod estimator;
#[doc(hidden)]
pub mod fuzz;
mod history;
mod loss;
mod num;
mod pacer;
mod probe;
mod reports;
#[cfg(feature = "sim")]
pub mod sim;
mod throughput;

pub use config::Config;
pub use estimator::{Debug, Estimator, Trend};
pub use history::{FeedbackSummary, Report};
pub use pacer::Pacer;

/// Why a packet is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Audio: never paced, but counts towards the estimate.
    Audio,
    /// The first transmission of a video packet.
    Video,
    /// A packet that the receiver requested again.
    Retransmission,
    /// Padding, or a duplicate of a recent packet, sent only for a probe.
    Probe,
}

/// Identifies a probe. Numbers start again after 65,535.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterId(pub(crate) u16);

/// A short train of packets that is sent at a higher rate than the estimate, to find out whether
/// the path can carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// To be passed to [`Estimator::on_sent`] with every packet of the train, media or padding.
    pub cluster: ClusterId,
    /// The rate at which to send the train, bits per second.
    pub bps: u64,
    /// The least number of bytes in the train.
    pub min_bytes: u32,
    /// The least number of packets in the train.
    pub min_packets: u32,
}
