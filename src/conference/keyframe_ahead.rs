//! Requests a keyframe from a new dominant speaker before any receiver does: clients that put the speaker on
//! their stage will request a higher layer, which can only start at a keyframe.

use std::time::Duration;

use rialto_engine::Control;
use rialto_media::EndpointId;

use super::{Conference, Effects};

/// Added to the delay, so that the keyframe comes after the last client's new constraints and not before
/// them.
const MARGIN: Duration = Duration::from_millis(10);
/// Upper bound of the delay, whatever the round trips are.
const LONGEST: Duration = Duration::from_secs(1);

/// How many keyframes were requested from new speakers before a receiver asked, and how many were not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct KeyframesAhead {
    /// Requested.
    pub asked: u64,
    /// Not requested: no receiver had a source on its stage.
    pub suppressed: u64,
}

impl Conference {
    /// Requests a keyframe from the new dominant speaker. As in JVB, the request is delayed by the longest
    /// round trip of the others minus that of the speaker, so that the keyframe comes when the most distant
    /// client has asked for it.
    pub(super) fn request_keyframe_ahead(&mut self, speaker: EndpointId, effects: &mut Effects) {
        if self.endpoints.len() <= 2 {
            return;
        }
        let (mut longest, mut own, mut staged) = (Duration::ZERO, Duration::ZERO, false);
        for endpoint in self.endpoints.values() {
            let rtt = endpoint.snapshot.as_ref().and_then(|measured| measured.rtt);
            if endpoint.engine_id == speaker {
                own = rtt.unwrap_or_default();
            } else {
                longest = longest.max(rtt.unwrap_or_default());
                staged |= !endpoint.constraints.on_stage.is_empty();
            }
        }
        if staged {
            self.ahead.asked += 1;
            let after = (longest.saturating_sub(own) + MARGIN).min(LONGEST);
            effects.control(Control::RequestKeyframeAhead { speaker, after });
        } else {
            self.ahead.suppressed += 1;
        }
    }
}
