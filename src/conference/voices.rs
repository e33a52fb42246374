//! Chooses the audio sources in the slots of receivers that cannot get all of them: an active source takes
//! the slot of the one that has been silent for longest.

use std::time::{Duration, Instant};

use rialto_media::{EndpointId, MediaType, SourceId};
use rialto_rtp::ext::SILENCE;
use rustc_hash::{FxHashMap, FxHashSet};

use super::{effects::Effects, endpoint::Endpoint, slots::Entrant, state::Conference};

/// An audio source keeps its slot for this long after it was last active, unless the dominant speaker needs
/// the slot. Otherwise more noisy participants than there are slots would take slots from each other all the
/// time.
const KEEPS: Duration = Duration::from_secs(1);

/// An active source that found no slot tries again after this long: a try looks at each slot of each
/// receiver.
const LOOKS_AGAIN: Duration = Duration::from_millis(200);

/// When audio sources were last active.
#[derive(Debug, Default)]
pub(super) struct Voices {
    heard: FxHashMap<SourceId, Instant>,
    /// Sources that all receivers that want them get, as long as nothing changes.
    everywhere: FxHashSet<SourceId>,
    /// When sources that found no slot try again.
    again: FxHashMap<SourceId, Instant>,
}

impl Voices {
    /// Notes that a receiver may lack an audio source that it wants.
    pub(super) fn missing_anew(&mut self) {
        self.everywhere.clear();
    }

    /// Forgets a source that has ended.
    pub(super) fn forget(&mut self, source: SourceId) {
        self.heard.remove(&source);
        self.again.remove(&source);
        self.missing_anew();
    }
}

impl Conference {
    /// Takes the audio level of a source (RFC 6464), and gives the source slots where it has none.
    pub fn level_received(
        &mut self,
        endpoint: EndpointId,
        source: SourceId,
        level: u8,
        effects: &mut Effects,
    ) {
        let now = self.latest;
        if level >= SILENCE {
            return;
        }
        let Some(sender) = self.by_engine_id.get(&endpoint).and_then(|id| self.endpoints.get(id))
        else {
            return;
        };
        let Some(spec) = sender.source(source).map(|source| &source.spec) else { return };
        if spec.media != MediaType::Audio {
            return;
        }
        self.voices.heard.insert(source, now);
        let dominant = self.speakers.dominant() == Some(endpoint);
        let waits = !dominant && self.voices.again.get(&source).is_some_and(|at| now < *at);
        if waits || self.voices.everywhere.contains(&source) {
            return;
        }
        let (name, owner_id) = (spec.name.clone(), sender.shared_id.clone());
        let entrant = Entrant { id: source, owner: endpoint, owner_id: &owner_id, name: &name };
        let mut all = true;
        for receiver in self.endpoints.values_mut().filter(|other| other.engine_id != endpoint) {
            let gets = receiver.subscriptions.contains_key(&source);
            if gets || receiver.slots.is_none() || !receiver.wants(MediaType::Audio, &name) {
                continue;
            }
            match receiver.quietest(&self.voices.heard, now, dominant) {
                Some(quietest) => {
                    self.voices.everywhere.remove(&quietest);
                    receiver.unsubscribe(quietest, now, effects);
                    receiver.subscribe(MediaType::Audio, entrant, now, effects);
                }
                None => all = false,
            }
        }
        if all {
            self.voices.everywhere.insert(source);
        } else if let Some(at) = now.checked_add(LOOKS_AGAIN) {
            self.voices.again.insert(source, at);
        }
    }
}

impl Endpoint {
    /// The source in its slots that was active longest ago, if another may take that slot.
    fn quietest(
        &self,
        heard: &FxHashMap<SourceId, Instant>,
        now: Instant,
        dominant: bool,
    ) -> Option<SourceId> {
        let voices = self.slots.as_ref()?.bank(MediaType::Audio).sources();
        let last = |source: SourceId| heard.get(&source).copied();
        let quietest = voices.min_by_key(|source| (last(*source), *source))?;
        let quiet = last(quietest).is_none_or(|at| now.saturating_duration_since(at) >= KEEPS);
        (quiet || dominant).then_some(quietest)
    }
}
