//! Sends clients the map from slots to sources over the channel. A focus does not signal others' sources to a
//! client with the capability `ssrc-rewriting`: the client adds a track for each slot that the bridge
//! announces, and assigns the track to another participant when the bridge announces another source in the
//! slot.

use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

use rialto_media::{EndpointId, MediaType, SourceId};

use super::{
    effects::Effects,
    endpoint::{Endpoint, EndpointSource},
    slots::Slot,
    state::Conference,
};
use crate::channel::{MappedSource, ToClient};

/// Sources in one message, which stays far below the greatest size of a message.
const CHUNK: usize = 50;

/// Each source with the id of its sender.
type Known<'a> = HashMap<SourceId, (&'a str, &'a EndpointSource)>;

impl Conference {
    /// Sends receivers the sources that have come into their slots.
    pub fn send_slots(&self, effects: &mut Effects) {
        let mut news: BTreeMap<(EndpointId, MediaType), Vec<usize>> = BTreeMap::new();
        for (receiver, media, slot) in std::mem::take(&mut effects.remapped) {
            let slots = news.entry((receiver, media)).or_default();
            if !slots.contains(&slot) {
                slots.push(slot);
            }
        }
        if news.is_empty() {
            return;
        }
        let known = self.known_sources();
        for ((receiver, media), slots) in news {
            if let Some(receiver) = self.by_engine_id(receiver) {
                receiver.send_slots(&known, media, &slots, effects);
            }
        }
    }

    /// Sends a receiver with a new channel the sources in all of its slots.
    pub(super) fn send_all_slots(&self, receiver: &Endpoint, effects: &mut Effects) {
        let Some(slots) = &receiver.slots else { return };
        let known = self.known_sources();
        for media in [MediaType::Audio, MediaType::Video] {
            let filled: Vec<_> = slots.bank(media).filled().collect();
            receiver.send_slots(&known, media, &filled, effects);
        }
    }

    /// Queues again the maps that clients may have ignored.
    pub(super) fn repeat_slots(&mut self, now: Instant, effects: &mut Effects) {
        for receiver in self.endpoints.values_mut() {
            let Some(slots) = &mut receiver.slots else { continue };
            let due = slots.repeats(now).into_iter();
            effects.remapped.extend(due.map(|(media, at)| (receiver.engine_id, media, at)));
        }
    }

    fn known_sources(&self) -> Known<'_> {
        let sources = self.endpoints.values().flat_map(|owner| {
            owner.sources.iter().map(|source| (source.spec.id, (owner.id.as_str(), source)))
        });
        sources.collect()
    }
}

impl Endpoint {
    fn send_slots(
        &self,
        known: &Known<'_>,
        media: MediaType,
        slots: &[usize],
        effects: &mut Effects,
    ) {
        let Some(bank) = self.slots.as_ref().map(|slots| slots.bank(media)) else { return };
        let slots = slots.iter().filter_map(|at| bank.slot(*at));
        let mapped: Vec<_> = slots.filter_map(|slot| mapped_source(slot, known)).collect();
        for sources in mapped.chunks(CHUNK) {
            let message = ToClient::SourcesMap { video: media == MediaType::Video, sources };
            effects.message(self.engine_id, message.text());
        }
    }
}

/// `None`: the slot is empty.
fn mapped_source<'a>(slot: &'a Slot, known: &Known<'a>) -> Option<MappedSource<'a>> {
    let (owner, source) = known.get(&slot.source?)?;
    Some(MappedSource {
        source: &source.spec.name,
        owner,
        ssrc: slot.ssrcs.ssrc,
        rtx: slot.ssrcs.rtx,
        video_type: source.video_type.as_deref(),
        mid: slot.mid.as_ref().and_then(|mid| std::str::from_utf8(mid.as_bytes()).ok()),
    })
}
