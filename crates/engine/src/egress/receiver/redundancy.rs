//! Chooses the form in which a receiver gets an audio packet: as it arrived, without redundancy
//! that it cannot read (RFC 2198), or with added redundancy if it loses packets.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "offsets in one datagram, and places in a ring of 64 packets"
)]

use std::time::{Duration, Instant};

use rialto_media::{Drop, PtMap};
use rialto_rtp::codec::red::{self, Block};

use crate::{
    RedPolicy, Redundancy,
    core::MAX_DATAGRAM,
    egress::ring::{PacketRing, RingIndex},
    ingress::{PacketMeta, Red},
};

/// Reported loss, of 256, from which on redundancy is added.
const LOSES: u8 = 3;
/// From feedback: redundancy is added when at least this many packets of one window are lost, and
/// at least this fraction.
const PATH_LOSES: u32 = 2;
const PATH_LOSES_OF: u32 = 100;
/// The window of feedback.
const PATH_WINDOW: Duration = Duration::from_secs(1);
/// How long redundancy is added after that: reports come every few seconds.
const PROTECTED_FOR: Duration = Duration::from_secs(10);
/// How many places back an earlier packet is searched: packets may have arrived in another order.
const LOOK_BACK: u64 = 8;
/// Longest Opus payload that only signals silence (DTX), with which nothing is lost.
const DTX_LEN: u16 = 2;
/// Longest redundant payload that is written.
const MAX_LEN: usize = 1_100;

/// Tracks whether a receiver loses audio.
#[derive(Clone, Copy, Debug, Default)]
pub struct Losses {
    until: Option<Instant>,
    /// The current window of feedback: its end, and the packets lost and arrived in it.
    path: Option<(Instant, u32, u32)>,
}

impl Losses {
    /// Handles the loss that the receiver reports for its audio, of 256.
    pub fn on_report(&mut self, now: Instant, fraction: u8) {
        if fraction >= LOSES {
            self.until = now.checked_add(PROTECTED_FOR);
        }
    }

    /// Handles feedback about packets of all kinds, lost and arrived while no queue was full
    /// (redundancy would only add to such loss). Feedback comes every 100 ms, whereas browsers
    /// report their audio every five seconds.
    pub fn on_path(&mut self, now: Instant, lost: u32, arrived: u32) {
        let counted = self.path.filter(|(until, ..)| now < *until);
        let begun = || (now.checked_add(PATH_WINDOW).unwrap_or(now), 0, 0);
        let (until, before, came) = counted.unwrap_or_else(begun);
        let (lost, arrived) = (before.saturating_add(lost), came.saturating_add(arrived));
        self.path = Some((until, lost, arrived));
        if lost >= PATH_LOSES && lost.saturating_mul(PATH_LOSES_OF) >= lost.saturating_add(arrived)
        {
            self.until = now.checked_add(PROTECTED_FOR);
        }
    }

    /// Nothing is made redundant any more.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// Whether audio is made redundant.
    pub fn happen(self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

/// The form of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Form {
    /// Byte for byte.
    #[default]
    AsSent,
    /// Only the primary block of redundant audio.
    Primary,
    /// Redundant audio with the payload types of the receiver.
    Renumbered,
    /// The primary block of redundant audio, with earlier packets before it. `back` gives how many
    /// places each is before it in the ring, the oldest first.
    Protected {
        /// 0: none.
        back: [u8; 2],
    },
}

/// The chosen form of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Chosen {
    pub(super) form: Form,
    /// The receiver's payload type for it.
    pub(super) payload_type: u8,
    /// The length of its payload.
    pub(super) payload_len: usize,
}

/// Inputs of the choice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice<'a> {
    pub(super) map: &'a PtMap,
    pub(super) rules: Redundancy,
    pub(super) losses: Losses,
    pub(super) now: Instant,
}

impl Choice<'_> {
    /// Chooses the form of the packet at `place` of a ring. The error says why the receiver cannot
    /// have it.
    #[inline]
    pub(super) fn form(
        &self,
        ring: &PacketRing,
        place: RingIndex,
        meta: &PacketMeta,
    ) -> Result<Chosen, Drop> {
        let own = self.map.media(meta.payload_type);
        let payload_len = usize::from(meta.payload_len);
        let (start, payload_type) = match meta.audio.red {
            Red::No => {
                let payload_type = own.ok_or(Drop::CodecNotNegotiated)?;
                let plain = Chosen { form: Form::AsSent, payload_type, payload_len };
                return Ok(self.protected(ring, place, meta).unwrap_or(plain));
            }
            red if let Some(payload_type) = own
                && self.rules.policy != RedPolicy::Strip =>
            {
                let read = matches!(red, Red::Primary { .. });
                let form =
                    if read && self.map.renumbers() { Form::Renumbered } else { Form::AsSent };
                return Ok(Chosen { form, payload_type, payload_len });
            }
            Red::Malformed => return Err(Drop::MalformedRed),
            Red::Primary { start, payload_type } => (start, payload_type),
        };
        let payload_type = self.map.media(payload_type).ok_or(Drop::CodecNotNegotiated)?;
        let payload_len = payload_len.saturating_sub(start.into());
        Ok(Chosen { form: Form::Primary, payload_type, payload_len })
    }

    /// The packet with redundancy, if the receiver loses packets and can read it.
    fn protected(&self, ring: &PacketRing, place: RingIndex, meta: &PacketMeta) -> Option<Chosen> {
        if self.rules.policy != RedPolicy::Protect || !self.losses.happen(self.now) {
            return None;
        }
        let payload_type = self.map.red(meta.payload_type)?;
        if meta.payload_len <= DTX_LEN || meta.resumes {
            return None;
        }
        let before = |distance| before(ring, place, meta, distance);
        let worth = |found: &(u8, &PacketMeta)| !self.rules.voice_only || found.1.audio.voice;
        let second = before(1)?;
        // A single earlier packet is never the one before the last: a receiver that is a bridge may
        // rely on that.
        let first = if self.rules.distance > 1 { before(2).filter(worth) } else { None };
        if first.is_none() && !worth(&second) {
            return None;
        }
        let blocks = first.into_iter().chain([second]);
        let len = blocks.fold(1 + usize::from(meta.payload_len), |len, (_, block)| {
            len + 4 + usize::from(block.payload_len)
        });
        let back = [first.map_or(0, |(back, _)| back), second.0];
        let form = Form::Protected { back };
        (len <= MAX_LEN).then_some(Chosen { form, payload_type, payload_len: len })
    }
}

/// Returns the packet that was sent `distance` packets before, and how far back it is in the ring,
/// if a block can hold it.
fn before<'a>(
    ring: &'a PacketRing,
    place: RingIndex,
    meta: &PacketMeta,
    distance: u64,
) -> Option<(u8, &'a PacketMeta)> {
    let index = meta.index.checked_sub(distance)?;
    let places = (1..=LOOK_BACK).filter_map(|back| {
        let (found, _) = ring.get(place.checked_sub(back)?)?;
        Some((u8::try_from(back).ok()?, found))
    });
    let (back, found) = places.into_iter().find(|(_, found)| found.index == index)?;
    let offset = meta.timestamp.wrapping_sub(found.timestamp);
    let holds = found.payload_type == meta.payload_type
        && (1..=red::MAX_OFFSET).contains(&offset)
        && usize::from(found.payload_len) <= red::MAX_LEN
        && found.payload_len > DTX_LEN;
    holds.then_some((back, found))
}

/// A packet in another form than it arrived in.
#[derive(Debug)]
pub(super) struct Remade {
    pub(super) meta: PacketMeta,
    pub(super) bytes: [u8; MAX_DATAGRAM],
}

impl Remade {
    /// Writes it from the packet at `place` of a ring. `None` if the packet is no longer there, or
    /// the result is too large.
    pub(super) fn new(
        form: Form,
        map: &PtMap,
        ring: &PacketRing,
        place: RingIndex,
    ) -> Option<Self> {
        let (meta, packet) = ring.get(place)?;
        let mut made = Self { meta: *meta, bytes: [0; MAX_DATAGRAM] };
        made.bytes.get_mut(..packet.len())?.copy_from_slice(packet);
        let start = usize::from(meta.payload_start);
        let payload = made.bytes.get_mut(start..start + usize::from(meta.payload_len))?;
        match (form, meta.audio.red) {
            (Form::Primary, Red::Primary { start, .. }) => {
                made.meta.payload_start = meta.payload_start.checked_add(start)?;
                made.meta.payload_len = meta.payload_len.checked_sub(start)?;
            }
            (Form::Renumbered, _) => {
                let _ = red::renumber(payload, |pt| map.media(pt));
            }
            (Form::Protected { back }, _) => {
                let payload_type = map.media(meta.payload_type)?;
                let block = |back: u8| {
                    let (m, packet) = ring.get(place.checked_sub(back.into())?)?;
                    let start = usize::from(m.payload_start);
                    let data = packet.get(start..start + usize::from(m.payload_len))?;
                    let offset = meta.timestamp.wrapping_sub(m.timestamp);
                    Some(Block { payload_type, offset, data })
                };
                let own = block(0)?;
                let [first, second] = back;
                let blocks = [block(first)?, block(second)?, own];
                let from = usize::from(first == 0);
                let len = red::write(made.bytes.get_mut(start..)?, blocks.get(from..)?)?;
                made.meta.payload_len = u16::try_from(len).ok()?;
            }
            _ => {}
        }
        Some(made)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use rialto_media::{Codec, MediaParams, MediaType, PayloadType};

    use super::*;
    use crate::egress::ring::RingSize;

    const OPUS: u8 = 111;
    const RED: u8 = 63;
    const RULES: Redundancy =
        Redundancy { policy: RedPolicy::Protect, distance: 2, voice_only: true };
    static NOW: LazyLock<Instant> = LazyLock::new(Instant::now);

    fn params(types: &[(u8, Codec)]) -> MediaParams {
        let payload_types = types.iter().map(|(pt, codec)| PayloadType {
            pt: *pt,
            codec: *codec,
            media: MediaType::Audio,
            clock_rate: 48_000,
            profile: String::new(),
            nack: false,
            pli: false,
            fir: false,
            transport_cc: false,
        });
        MediaParams { payload_types: payload_types.collect(), ..MediaParams::default() }
    }

    fn map(to: &[(u8, Codec)]) -> PtMap {
        PtMap::new(&params(&[(OPUS, Codec::Opus), (RED, Codec::Red)]), &params(to))
    }

    fn losing() -> Losses {
        let mut losses = Losses::default();
        losses.on_report(*NOW, LOSES);
        losses
    }

    /// A ring with packets of these indices, voice flags and payloads.
    fn ring(packets: &[(u64, bool, &[u8])]) -> PacketRing {
        let mut ring = PacketRing::new(RingSize::AUDIO);
        for (index, voice, payload) in packets {
            let mut meta = PacketMeta {
                index: *index,
                timestamp: (*index as u32).wrapping_mul(960),
                payload_len: payload.len() as u16,
                payload_type: OPUS,
                ..PacketMeta::default()
            };
            meta.audio.voice = *voice;
            ring.push(meta, payload).unwrap();
        }
        ring
    }

    fn choose(map: &PtMap, rules: Redundancy, ring: &PacketRing, losses: Losses) -> Chosen {
        let place = ring.head() - 1;
        let choice = Choice { map, rules, losses, now: *NOW };
        choice.form(ring, place, ring.get(place).unwrap().0).unwrap()
    }

    /// What the newest packet of a ring becomes: the blocks' offsets and contents.
    fn blocks(rules: Redundancy, ring: &PacketRing) -> Option<Vec<(u32, Vec<u8>)>> {
        let map = map(&[(OPUS, Codec::Opus), (RED, Codec::Red)]);
        let chosen = choose(&map, rules, ring, losing());
        if chosen.form == Form::AsSent {
            assert_eq!(chosen.payload_type, OPUS);
            return None;
        }
        assert_eq!(chosen.payload_type, RED);
        let made = Remade::new(chosen.form, &map, ring, ring.head() - 1).unwrap();
        assert_eq!(usize::from(made.meta.payload_len), chosen.payload_len);
        let all = red::blocks(&made.bytes[..chosen.payload_len]);
        Some(all.map(|b| (b.offset, b.data.to_vec())).collect())
    }

    fn block(offset: u32, data: &[u8]) -> (u32, Vec<u8>) {
        (offset, data.to_vec())
    }

    #[test]
    fn who_loses_packets_gets_those_before_again() {
        let ring = ring(&[(7, true, b"one"), (8, true, b"two"), (9, true, b"three")]);
        let all = [block(1_920, b"one"), block(960, b"two"), block(0, b"three")];
        assert_eq!(blocks(RULES, &ring).unwrap(), all);
        let one = Redundancy { distance: 1, ..RULES };
        assert_eq!(blocks(one, &ring).unwrap(), all[1..]);
        for policy in [RedPolicy::AsSent, RedPolicy::Strip] {
            assert_eq!(blocks(Redundancy { policy, ..RULES }, &ring), None);
        }
        let map = map(&[(OPUS, Codec::Opus), (RED, Codec::Red)]);
        assert_eq!(choose(&map, RULES, &ring, Losses::default()).form, Form::AsSent, "no loss");
    }

    #[test]
    fn losses_count_for_a_while() {
        let mut losses = Losses::default();
        losses.on_report(*NOW, LOSES - 1);
        assert!(!losses.happen(*NOW));
        losses.on_report(*NOW, LOSES);
        assert!(losses.happen(*NOW + PROTECTED_FOR / 2) && !losses.happen(*NOW + PROTECTED_FOR));
    }

    #[test]
    fn only_voice_goes_again_where_that_is_asked_for() {
        let with = |first, second| {
            let ring = ring(&[(7, first, b"one"), (8, second, b"two"), (9, false, b"three")]);
            (blocks(RULES, &ring), blocks(Redundancy { voice_only: false, ..RULES }, &ring))
        };
        let (one, two, three) = (block(1_920, b"one"), block(960, b"two"), block(0, b"three"));
        let all = vec![one, two.clone(), three.clone()];
        assert_eq!(with(true, false).0, Some(all.clone()), "the last comes with the one before");
        assert_eq!(with(false, true).0, Some(vec![two, three]));
        assert_eq!(with(false, false), (None, Some(all)));
    }

    #[test]
    fn what_no_block_can_hold_or_needs_stays_plain() {
        let long = [0; red::MAX_LEN + 1];
        let cases: [&[(u64, bool, &[u8])]; 6] = [
            &[(9, true, b"three")],
            &[(7, true, b"one"), (9, true, b"three")],
            &[(8, true, &long), (9, true, b"three")],
            &[(8, true, b"tt"), (9, true, b"three")],
            &[(8, true, b"two"), (9, true, b"dt")],
            &[(8, true, &long[..1_000]), (9, true, &long[..200])],
        ];
        for (at, case) in cases.iter().enumerate() {
            assert_eq!(blocks(RULES, &ring(case)), None, "{at}");
        }
        let reordered = ring(&[(8, true, b"two"), (7, true, b"one"), (9, true, b"three")]);
        assert_eq!(blocks(RULES, &reordered).unwrap().len(), 3, "they came in another order");
    }

    /// A ring with one packet of redundant audio.
    fn redundant(payload: &[u8], red: Red) -> PacketRing {
        let mut meta = PacketMeta {
            payload_len: payload.len() as u16,
            payload_type: RED,
            ..PacketMeta::default()
        };
        meta.audio.red = red;
        let mut ring = PacketRing::new(RingSize::AUDIO);
        ring.push(meta, payload).unwrap();
        ring
    }

    #[test]
    fn redundancy_is_taken_off_for_who_cannot_read_it() {
        let mut payload = [0; 32];
        let all = [
            Block { payload_type: OPUS, offset: 960, data: b"before" },
            Block { payload_type: OPUS, offset: 0, data: b"now" },
        ];
        let len = red::write(&mut payload, &all).unwrap();
        let start = red::primary(&payload[..len], |_| true).unwrap().start as u16;
        let ring = redundant(&payload[..len], Red::Primary { start, payload_type: OPUS });
        let strip = |to: &[(u8, Codec)], rules| {
            let map = map(to);
            let chosen = choose(&map, rules, &ring, losing());
            let made = Remade::new(chosen.form, &map, &ring, 0).unwrap();
            let from = usize::from(made.meta.payload_start);
            let bytes = &made.bytes[from..from + chosen.payload_len];
            (chosen.form, chosen.payload_type, bytes.to_vec())
        };
        let only_opus: &[_] = &[(96, Codec::Opus)];
        assert_eq!(strip(only_opus, RULES), (Form::Primary, 96, b"now".to_vec()));
        let same: &[_] = &[(OPUS, Codec::Opus), (RED, Codec::Red)];
        assert_eq!(strip(same, RULES), (Form::AsSent, RED, payload[..len].to_vec()));
        let stripped = Redundancy { policy: RedPolicy::Strip, ..RULES };
        assert_eq!(strip(same, stripped), (Form::Primary, OPUS, b"now".to_vec()));
        let (form, pt, bytes) = strip(&[(96, Codec::Opus), (97, Codec::Red)], RULES);
        assert_eq!((form, pt), (Form::Renumbered, 97));
        let names: Vec<_> = red::blocks(&bytes).map(|b| (b.payload_type, b.data)).collect();
        assert_eq!(names, [(96, &b"before"[..]), (96, b"now")]);
    }

    #[test]
    fn what_cannot_be_read_goes_only_to_who_may_know_better() {
        let ring = redundant(&[0xff, 0, 0], Red::Malformed);
        let form = |to: &[(u8, Codec)]| {
            let map = map(to);
            let choice = Choice { map: &map, rules: RULES, losses: losing(), now: *NOW };
            choice.form(&ring, 0, ring.get(0).unwrap().0).map(|c| (c.form, c.payload_type))
        };
        assert_eq!(form(&[(OPUS, Codec::Opus)]), Err(Drop::MalformedRed));
        assert_eq!(form(&[(96, Codec::Opus), (97, Codec::Red)]), Ok((Form::AsSent, 97)));
    }
}
