//! The slots of a receiver whose SSRCs are rewritten. It gets at most as many sources at a time as it has
//! slots, each under the SSRCs (and the MID) of the slot that the source is in. So its session description is
//! the same in a call of 500 as in one of 25, and what the bridge keeps for it is bounded by the slots.
//!
//! A source that the receiver gets no more stays in its slot until another one needs it: should it come back,
//! the client needs no message. Empty slots are taken first, then unused ones, then the one whose source was
//! dropped longest ago.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use rialto_media::{EndpointId, MediaType, Mid, SlotSsrcs, SourceId, SplitMix64};
use serde_json::{Value, json};

/// A client makes a track of a new SSRC, which takes it some round trips and a renegotiation. Until then it
/// ignores changes of the source in the slot, so changes of a younger slot are sent again.
const YOUNG: Duration = Duration::from_secs(5);

/// How many SSRCs a client gets beside those of retransmissions (`videobridge.ssrc-limit`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SsrcLimits {
    /// Of audio.
    pub audio: usize,
    /// Of video.
    pub video: usize,
}

impl Default for SsrcLimits {
    fn default() -> Self {
        Self { audio: 50, video: 50 }
    }
}

/// A source that comes into a slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entrant<'a> {
    pub(super) id: SourceId,
    pub(super) owner: EndpointId,
    /// The owner's signalled id, which it has again when it returns.
    pub(super) owner_id: &'a Arc<str>,
    pub(super) name: &'a Arc<str>,
}

/// Where a source is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    /// The slot.
    pub(super) at: usize,
    /// The client does not know yet that the source is there.
    pub(super) news: bool,
}

/// The slots of one receiver.
#[derive(Debug)]
pub struct Slots {
    audio: Bank,
    video: Bank,
    random: Random,
    mids: bool,
}

/// The slots of one type of media.
#[derive(Debug)]
pub(super) struct Bank {
    limit: usize,
    slots: Vec<Slot>,
    places: HashMap<SourceId, usize>,
    held: usize,
    remaps: u64,
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) ssrcs: SlotSsrcs,
    /// For clients that demultiplex by MID.
    pub(super) mid: Option<Mid>,
    /// The source in it; `None`: the last one has ended.
    pub(super) source: Option<SourceId>,
    /// The source that the client knows in it; `None`: the slot was never announced.
    known_as: Option<Announced>,
    /// The source that the client knows in it has ended.
    ended: bool,
    /// The receiver gets the source.
    held: bool,
    /// When the receiver last got it.
    released: Instant,
    /// When the slot was first announced to the client; `None`: not yet.
    introduced: Option<Instant>,
    /// When to announce its source again.
    repeat: Option<Instant>,
}

/// The source that a client knows in a slot.
#[derive(Clone, Debug)]
struct Announced {
    owner: EndpointId,
    owner_id: Arc<str>,
    name: Arc<str>,
}

impl Announced {
    fn new(source: &Entrant<'_>) -> Self {
        let (owner_id, name) = (source.owner_id.clone(), source.name.clone());
        Self { owner: source.owner, owner_id, name }
    }

    /// The client would take the source for the same as before.
    fn looks_like(&self, source: &Entrant<'_>) -> bool {
        (&self.owner_id, &self.name) == (source.owner_id, source.name)
    }
}

/// SSRCs, the same in every run of the same conference.
#[derive(Debug)]
struct Random {
    numbers: SplitMix64,
    /// The bridge's own.
    reserved: [u32; 2],
}

impl Random {
    /// The next unused number.
    fn ssrc(&mut self, taken: &dyn Fn(u32) -> bool) -> u32 {
        loop {
            let ssrc = (self.numbers.draw() >> 32) as u32;
            if ssrc != 0 && !self.reserved.contains(&ssrc) && !taken(ssrc) {
                return ssrc;
            }
        }
    }
}

impl Slots {
    /// Slots that were never used. `reserved`: the bridge's own SSRCs. `mids`: each slot has a MID.
    pub(super) fn new(
        limits: SsrcLimits,
        receiver: EndpointId,
        reserved: [u32; 2],
        mids: bool,
    ) -> Self {
        let [high, low] = reserved.map(u64::from);
        let state = (high << 32 | low) ^ u64::from(receiver.0).wrapping_mul(0xd6e8_feb8_6659_fd93);
        let random = Random { numbers: SplitMix64(state), reserved };
        Self { audio: Bank::new(limits.audio), video: Bank::new(limits.video), random, mids }
    }

    pub(super) fn bank(&self, media: MediaType) -> &Bank {
        match media {
            MediaType::Audio => &self.audio,
            MediaType::Video => &self.video,
        }
    }

    fn bank_mut(&mut self, media: MediaType) -> &mut Bank {
        match media {
            MediaType::Audio => &mut self.audio,
            MediaType::Video => &mut self.video,
        }
    }

    /// The receiver gets a source: finds a slot for it. `own`: whether an SSRC is one that the receiver
    /// sends under. `None`: all slots are taken.
    pub(super) fn hold(
        &mut self,
        media: MediaType,
        source: Entrant<'_>,
        now: Instant,
        own: &dyn Fn(u32) -> bool,
    ) -> Option<Place> {
        let bank = self.bank_mut(media);
        let at = match bank.place_for(&source) {
            Some(at) => at,
            None if bank.slots.len() < bank.limit => self.add(media, now, own),
            None => self.bank(media).oldest()?,
        };
        self.bank_mut(media).enter(at, &source, now)
    }

    /// A slot that was never used.
    fn add(&mut self, media: MediaType, now: Instant, own: &dyn Fn(u32) -> bool) -> usize {
        let Self { audio, video, random, mids } = self;
        let of_slot = |ssrc: u32| {
            let mut slots = audio.slots.iter().chain(&video.slots);
            slots.any(|slot| slot.ssrcs.ssrc == ssrc || slot.ssrcs.rtx == Some(ssrc))
        };
        let ssrc = random.ssrc(&|ssrc| own(ssrc) || of_slot(ssrc));
        let rtx = (media == MediaType::Video)
            .then(|| random.ssrc(&|rtx| rtx == ssrc || own(rtx) || of_slot(rtx)));
        let kind = if media == MediaType::Audio { 'a' } else { 'v' };
        let bank = if media == MediaType::Audio { audio } else { video };
        let at = bank.slots.len();
        bank.slots.push(Slot {
            ssrcs: SlotSsrcs { ssrc, rtx },
            mid: if *mids { Mid::new(&format!("{kind}{at}")) } else { None },
            source: None,
            known_as: None,
            ended: false,
            held: false,
            released: now,
            introduced: None,
            repeat: None,
        });
        at
    }

    /// The receiver gets a source no more.
    pub(super) fn release(&mut self, source: SourceId, now: Instant) {
        self.audio.release(source, now);
        self.video.release(source, now);
    }

    /// A source has ended. `renewed`: another follows, as which the client knows this one.
    pub(super) fn forget(&mut self, source: SourceId, renewed: bool, now: Instant) {
        for bank in [&mut self.audio, &mut self.video] {
            bank.release(source, now);
            let slot = bank.places.remove(&source).and_then(|at| bank.slots.get_mut(at));
            if let Some(slot) = slot {
                (slot.source, slot.ended) = (None, !renewed);
            }
        }
    }

    /// Notes that the client has a new channel, over which all slots are announced.
    pub(super) fn introduce_all(&mut self, now: Instant) {
        for slot in self.audio.slots.iter_mut().chain(&mut self.video.slots) {
            (slot.introduced, slot.repeat) = (Some(now), None);
        }
    }

    /// Slots whose announcement the client may have ignored.
    pub(super) fn repeats(&mut self, now: Instant) -> Vec<(MediaType, usize)> {
        let mut due = Vec::new();
        for (media, bank) in
            [(MediaType::Audio, &mut self.audio), (MediaType::Video, &mut self.video)]
        {
            for (at, slot) in bank.slots.iter_mut().enumerate() {
                if slot.repeat.is_some_and(|when| when <= now) {
                    slot.repeat = None;
                    due.push((media, at));
                }
            }
        }
        due
    }

    /// For people.
    pub(super) fn debug(&self) -> Value {
        let bank = |bank: &Bank| {
            json!({
                "max": bank.limit,
                "sent": bank.slots.len(),
                "held": bank.held,
                "remappings": bank.remaps,
            })
        };
        json!({ "audio": bank(&self.audio), "video": bank(&self.video) })
    }
}

impl Bank {
    fn new(limit: usize) -> Self {
        Self { limit, slots: Vec::new(), places: HashMap::new(), held: 0, remaps: 0 }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// All slots hold something.
    pub(super) fn is_full(&self) -> bool {
        self.held >= self.limit
    }

    /// How many slots hold something.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// The receiver gets this source.
    pub(super) fn holds(&self, source: SourceId) -> bool {
        self.of(source).is_some_and(|slot| slot.held)
    }

    /// The slot that a source is in.
    pub(super) fn of(&self, source: SourceId) -> Option<&Slot> {
        self.slots.get(*self.places.get(&source)?)
    }

    pub(super) fn slot(&self, at: usize) -> Option<&Slot> {
        self.slots.get(at)
    }

    /// Slots with something in them, be it that the receiver gets it or not.
    pub(super) fn filled(&self) -> impl Iterator<Item = usize> + '_ {
        let all = self.slots.iter().enumerate();
        all.filter(|(_, slot)| slot.source.is_some()).map(|(at, _)| at)
    }

    /// The sources that the receiver gets.
    pub(super) fn sources(&self) -> impl Iterator<Item = SourceId> + '_ {
        self.slots.iter().filter(|slot| slot.held).filter_map(|slot| slot.source)
    }

    /// Where a source still is, the place that the client knows as its, or any that nothing is in.
    fn place_for(&self, source: &Entrant<'_>) -> Option<usize> {
        if let Some(at) = self.places.get(&source.id) {
            return Some(*at);
        }
        let free = self.slots.iter().enumerate().filter(|(_, slot)| slot.source.is_none());
        // Else the client would take two slots for the same source's.
        let foreign =
            |slot: &Slot| slot.known_as.as_ref().is_none_or(|known| !known.looks_like(source));
        free.min_by_key(|(_, slot)| (foreign(slot), slot.released)).map(|(at, _)| at)
    }

    /// The slot whose source was dropped longest ago; `None`: all are taken.
    fn oldest(&self) -> Option<usize> {
        let idle = self.slots.iter().enumerate().filter(|(_, slot)| !slot.held);
        idle.min_by_key(|(_, slot)| slot.released).map(|(at, _)| at)
    }

    fn enter(&mut self, at: usize, source: &Entrant<'_>, now: Instant) -> Option<Place> {
        let slot = self.slots.get_mut(at)?;
        if let Some(before) = slot.source.replace(source.id)
            && before != source.id
        {
            self.places.remove(&before);
        }
        self.places.insert(source.id, at);
        self.held = self.held.saturating_add(usize::from(!slot.held));
        slot.held = true;
        let known = slot.known_as.as_ref().filter(|_| !slot.ended);
        let news =
            known.is_none_or(|known| known.owner != source.owner || !known.looks_like(source));
        slot.ended = false;
        if news {
            slot.known_as = Some(Announced::new(source));
            if let Some(at) = slot.introduced {
                self.remaps = self.remaps.saturating_add(1);
                slot.repeat = at.checked_add(YOUNG).filter(|settled| *settled > now);
            }
            slot.introduced.get_or_insert(now);
        }
        Some(Place { at, news })
    }

    fn release(&mut self, source: SourceId, now: Instant) {
        let slot = self.places.get(&source).and_then(|at| self.slots.get_mut(*at));
        if let Some(slot) = slot.filter(|slot| slot.held) {
            (slot.held, slot.released) = (false, now);
            self.held = self.held.saturating_sub(1);
        }
    }
}
