//! Records why a receiver does not get a higher layer of a source, and since when.

use std::time::Instant;

use super::{Decision, LayerId, Reason};

/// What a receiver could get of a source, what it gets, and the reason for the difference.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Explanation {
    /// The layer that unlimited bandwidth would allow.
    pub wanted: Option<LayerId>,
    /// The layer that is being forwarded.
    pub sent: Option<LayerId>,
    /// Why it is not a higher one.
    pub reason: Reason,
    /// When that reason began.
    pub since: Instant,
}

impl Explanation {
    /// Before the first decision.
    pub const fn new(now: Instant) -> Self {
        Self { wanted: None, sent: None, reason: Reason::NotSent, since: now }
    }

    /// Applies a decision. `sent` is the layer that is being forwarded now. While that is lower
    /// than the decided layer, which the sender sends, the reason is a missing keyframe. Returns
    /// whether anything changed that is worth reporting.
    pub fn update(&mut self, decision: &Decision, sent: Option<LayerId>, now: Instant) -> bool {
        let waits = decision.arrives && sent < decision.target && decision.reason != Reason::Muted;
        let reason = if waits { Reason::WaitingForKeyframe } else { decision.reason };
        let since = if reason == self.reason { self.since } else { now };
        let next = Self { wanted: decision.ideal, sent, reason, since };
        std::mem::replace(self, next) != next
    }
}
