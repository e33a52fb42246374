//! Why a receiver gets no more of a source, and since when.

use std::time::Instant;

use super::{Decision, LayerId, Reason};

/// What a receiver wants of a source, what it is sent, and the one reason that it is not more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Explanation {
    /// The layer that it would get of a link that carries everything.
    pub wanted: Option<LayerId>,
    /// The layer that it is sent.
    pub sent: Option<LayerId>,
    /// Why that is no more.
    pub reason: Reason,
    /// Since when that is the reason.
    pub since: Instant,
}

impl Explanation {
    /// Of a source of which nothing has been decided yet.
    pub const fn new(now: Instant) -> Self {
        Self { wanted: None, sent: None, reason: Reason::NotSent, since: now }
    }

    /// Takes a decision. `sent`: the layer that is forwarded by now. While that is less than was decided
    /// and the sender sends it, a keyframe is what is lacking. Returns whether there is anything to tell.
    pub fn update(&mut self, decision: &Decision, sent: Option<LayerId>, now: Instant) -> bool {
        let waits = decision.arrives && sent < decision.target && decision.reason != Reason::Muted;
        let reason = if waits { Reason::WaitingForKeyframe } else { decision.reason };
        let since = if reason == self.reason { self.since } else { now };
        let next = Self { wanted: decision.ideal, sent, reason, since };
        std::mem::replace(self, next) != next
    }
}
