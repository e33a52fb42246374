//! A keyframe of who begins to speak, asked for before anybody asks: clients that show the speaker on their
//! stage will want a larger picture of it, which can only begin with one.

use std::time::Duration;

use rialto_engine::Control;
use rialto_media::EndpointId;

use super::{Conference, Effects};

/// The keyframe should come after the last client's wish, and not before it.
const MARGIN: Duration = Duration::from_millis(10);
/// No round trip makes it later than this.
const LONGEST: Duration = Duration::from_secs(1);

/// Keyframes that were asked for ahead, and that would have been but for want of a stage.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ahead {
    /// Asked for.
    pub asked: u64,
    /// Not asked for: nobody had anything on their stage.
    pub suppressed: u64,
}

impl Conference {
    /// Somebody became the dominant speaker. As in JVB, the request is held back so that the keyframe comes
    /// when the client that is furthest away has asked: by the longest round trip of the others less that
    /// of the speaker.
    pub(super) fn ask_ahead(&mut self, speaker: EndpointId, effects: &mut Effects) {
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
                staged |= !endpoint.wishes.on_stage.is_empty();
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
