//! Encoders connected to decoders, and proofs that each violation is detected.

use std::{collections::BTreeSet, time::Duration};

use rialto_media::Codec;
use rialto_rtp::Seq;

use crate::{Coded, Decoder, Encoder, Mode, Network, Packet, Problem, Rate, Rule, Truth};

const INTERVAL: Duration = Duration::from_millis(33);

/// A packet for the decoder.
#[derive(Clone, Debug)]
struct Wire {
    at: Duration,
    seq: u16,
    timestamp: u32,
    coded: Coded,
}

/// Pictures of one encoding, with keyframe requests, and layers that are dropped and restored.
fn film(mode: Mode, pictures: u32, encoding: u8) -> (Encoder, Vec<Wire>) {
    let mut encoder = Encoder::new(mode, 7, 3);
    encoder.packet_len = 30;
    let (mut out, mut seq) = (Vec::new(), 65_000u16);
    for picture in 0..pictures {
        let at = INTERVAL * picture;
        let timestamp = 0xffff_0000u32.wrapping_add(picture * 2_970);
        match picture % 400 {
            123 => encoder.want_keyframe(encoding.into()),
            200 if mode.spatial > 1 => encoder.set_layers(mode.spatial - 1, mode.temporal),
            250 if mode.spatial > 1 => encoder.set_layers(mode.spatial, mode.temporal),
            300 if mode.temporal > 1 && encoder.drops > 0.0 => {
                encoder.set_layers(mode.spatial, mode.temporal - 1);
            }
            350 if mode.temporal > 1 => encoder.set_layers(mode.spatial, mode.temporal),
            _ => {}
        }
        for coded in encoder.picture(at, timestamp) {
            if coded.encoding == encoding {
                out.push(Wire { at, seq, timestamp, coded });
                seq = seq.wrapping_add(1);
            }
        }
    }
    (encoder, out)
}

fn play(film: &[Wire]) -> Decoder {
    let mut decoder = Decoder::default();
    for wire in film {
        take(&mut decoder, wire);
    }
    decoder
}

fn take(decoder: &mut Decoder, Wire { at, seq, timestamp, coded }: &Wire) {
    let packet = Packet {
        seq: Seq(*seq),
        timestamp: *timestamp,
        marker: coded.marker,
        codec: coded.codec,
        payload: &coded.payload,
        descriptor: coded.descriptor.as_deref(),
    };
    decoder.take(*at, &packet);
}

fn rules(film: &[Wire]) -> BTreeSet<Rule> {
    problems(film).iter().map(|problem| problem.rule).collect()
}

fn problems(film: &[Wire]) -> Vec<Problem> {
    play(film).judge(&Network::FINE)
}

fn truth(wire: &Wire) -> Truth {
    Truth::read(&wire.coded.payload).expect("whole")
}

/// Removes packets and closes the gaps.
fn without(film: &[Wire], gone: impl Fn(&Truth) -> bool) -> Vec<Wire> {
    let kept = film.iter().filter(|wire| !gone(&truth(wire))).cloned();
    let numbered = |(n, wire)| Wire { seq: 65_000u16.wrapping_add(n as u16), ..wire };
    kept.enumerate().map(numbered).collect()
}

#[test]
fn each_mode_is_decoded_whole() {
    for mode in Mode::named() {
        let encoding = mode.encodings - 1;
        let (encoder, film) = film(mode, 1_200, encoding);
        let decoder = play(&film);
        let problems = decoder.judge(&Network::FINE);
        assert!(problems.is_empty(), "{}: {}", mode.name, problems[0]);
        let made = encoder.sent.frames.keys().filter(|(e, _)| *e == encoding).count();
        assert_eq!(decoder.shown().len(), made, "{}", mode.name);
        assert!(film.len() > 1_200 && made > 1_100, "{}: {made}", mode.name);
        let whole = Duration::from_secs(1)..INTERVAL * 1_200;
        assert!(decoder.longest_freeze(&whole) <= 4 * INTERVAL, "{}", mode.name);
        let heights = decoder.heights(&whole);
        assert!(heights.contains_key(&720), "{}: {heights:?}", mode.name);
        assert_eq!(heights.len(), usize::from(mode.spatial).min(2), "{}", mode.name);
    }
}

#[test]
fn lower_layers_stand_alone() {
    for mode in Mode::ALL.iter().filter(|m| m.encodings == 1 || m.temporal > 1) {
        let (_, film) = film(*mode, 600, 0);
        if mode.temporal > 1 {
            let slower = without(&film, |t| t.temporal > 0);
            let found = play(&slower).judge(&Network::FINE);
            // Only VP8's picture ids show what is gone.
            let other = found.iter().find(|p| p.rule != Rule::PictureId);
            assert_eq!(other, None, "{}", mode.name);
            let tells = mode.name.starts_with("VP8") && !mode.descriptor;
            assert_eq!(!found.is_empty(), tells, "{}", mode.name);
        }
        if mode.spatial > 1 {
            let smaller = without(&film, |t| t.spatial > 0);
            let found = play(&smaller).judge(&Network::FINE);
            let other = found.iter().find(|p| p.rule != Rule::Marker);
            assert_eq!(other, None, "{}", mode.name);
            assert!(!found.is_empty(), "{}: the markers went with the upper layers", mode.name);
        }
    }
}

/// Forwards some layers of each picture, as a bridge should: markers at the end of what it
/// forwards, no gap in VP8's picture ids.
fn forward(film: &[Wire], layers: impl Fn(&Truth) -> (u8, u8)) -> Vec<Wire> {
    let mut kept = without(film, |t| t.spatial > layers(t).0 || t.temporal > layers(t).1);
    let (mut id, mut last) = (0x7f00u16, None);
    for at in 0..kept.len() {
        let next = kept.get(at + 1).map(|next| next.timestamp);
        kept[at].coded.marker = next != Some(kept[at].timestamp);
        let truth = truth(&kept[at]);
        id = (id + u16::from(last.replace(truth.body.frame) != last)) & 0x7fff;
        let payload = &mut kept[at].coded.payload;
        if truth.codec == Codec::Vp8 && payload[0] & 0x80 != 0 {
            payload[2..4].copy_from_slice(&(0x8000 | id).to_be_bytes());
        }
    }
    kept
}

#[test]
fn a_bridge_that_forwards_some_layers_well_has_no_problems() {
    for mode in Mode::ALL {
        let (_, film) = film(mode, 500, 0);
        for (spatial, temporal) in [(0, 0), (0, 2), (1, 1), (2, 0)] {
            let kept = forward(&film, |_| (spatial, temporal));
            let found = problems(&kept);
            assert!(found.is_empty(), "{} S{spatial}T{temporal}: {}", mode.name, found[0]);
            assert_eq!(play(&kept).shown().len(), frames(&kept), "{}", mode.name);
        }
        // All layers, from the requested keyframe on.
        let key = film.iter().map(truth).find(|t| t.body.key && t.picture > 100);
        let key = key.expect("a second keyframe").picture;
        let up = forward(&film, |t| if t.picture < key { (0, 0) } else { (2, 2) });
        let found = problems(&up);
        assert!(found.is_empty(), "{} from {key} on: {}", mode.name, found[0]);
        assert!(frames(&up) > 250, "{}", mode.name);
    }
}

fn frames(film: &[Wire]) -> usize {
    film.iter().map(|w| w.coded.body.frame).collect::<BTreeSet<_>>().len()
}

#[test]
fn a_frame_that_others_need_is_missed() {
    for mode in Mode::ALL {
        let (_, film) = film(mode, 200, 0);
        let base = |t: &Truth| t.temporal == 0 && t.spatial == 0 && !t.body.key;
        let base = film.iter().map(truth).filter(base).nth(9);
        let gone = base.expect("a base frame").body.frame;
        let cut = without(&film, |t| t.body.frame == gone);
        assert!(rules(&cut).contains(&Rule::Reference), "{}", mode.name);
        let decoder = play(&cut);
        let whole = play(&film).shown().len();
        assert!(decoder.shown().len() + 40 < whole, "{}", mode.name);
        // Loss in the network is an excuse for that and nothing else.
        let lost = film.iter().map(|w| w.coded.body).filter(|b| b.frame == gone).collect();
        let (encoder, _) = self::film(mode, 200, 0);
        let network =
            Network { lost: &lost, orderly: false, sent: Some(&encoder.sent), ..Network::FINE };
        let found = decoder.judge(&network);
        assert!(found.is_empty(), "{}: {}", mode.name, found[0]);
        let nothing = BTreeSet::new();
        let found = decoder.judge(&Network { lost: &nothing, ..network });
        assert!(found.iter().any(|p| p.rule == Rule::Reference), "{}", mode.name);
    }
}

#[test]
fn a_layer_that_begins_in_the_middle_is_found() {
    for mode in
        [Mode::VP9_L3T3, Mode::VP9_L3T3_KEY, Mode::AV1_L3T3, Mode::AV1_S3T3, Mode::AV1_L1T3_STICKY]
    {
        let (_, film) = film(mode, 120, 0);
        let late = without(&film, |t| {
            t.picture < 62 && if mode.spatial > 1 { t.spatial > 0 } else { t.temporal > 0 }
        });
        assert!(rules(&late).contains(&Rule::Reference), "{}", mode.name);
    }
    // Where each base frame is a switching point there is nothing to find.
    let (_, film) = film(Mode::AV1_L1T3, 120, 0);
    assert_eq!(rules(&without(&film, |t| t.picture < 64 && t.temporal > 0)), BTreeSet::new());
}

#[test]
fn a_gap_that_is_left_open_is_found() {
    let (_, film) = film(Mode::AV1_L3T3, 100, 0);
    let open: Vec<Wire> = film.iter().filter(|w| truth(w).temporal < 2).cloned().collect();
    assert!(rules(&open).contains(&Rule::Gap));
    let mut torn = film.clone();
    let at = torn.iter().position(|w| w.coded.body.part == 1).expect("a frame of two packets");
    torn.remove(at);
    let found = rules(&torn);
    assert!(found.contains(&Rule::Gap) && found.contains(&Rule::Torn), "{found:?}");
    let lost = [film[at].coded.body].into();
    let network = Network { lost: &lost, orderly: false, ..Network::FINE };
    assert_eq!(play(&torn).judge(&network), []);
}

#[test]
fn markers_are_where_pictures_end() {
    let (_, film) = film(Mode::VP9_L3T3, 60, 0);
    let mut early = film.clone();
    let at = early.iter().position(|w| truth(w).spatial == 1).expect("an upper layer");
    early[at].coded.marker = true;
    assert_eq!(rules(&early), [Rule::Marker].into());
    let mut none = film.clone();
    let at = none.iter().position(|w| w.coded.marker).expect("a marker");
    none[at].coded.marker = false;
    assert_eq!(rules(&none), [Rule::Marker].into());
}

/// Changes one field from a packet on, or in it alone.
fn shift(mode: Mode, rule: Rule, at: usize, forever: bool) -> BTreeSet<Rule> {
    let (_, mut film) = film(mode, 90, 0);
    for (n, wire) in film.iter_mut().enumerate().skip(at) {
        if n > at && !forever {
            break;
        }
        let payload = &mut wire.coded.payload;
        match rule {
            Rule::Timestamp => wire.timestamp = wire.timestamp.wrapping_add(1),
            Rule::PictureId => payload[usize::from(mode.codec == Codec::Vp8) + 2] ^= 1,
            Rule::Tl0 => payload[4] = payload[4].wrapping_add(1),
            _ => {
                let bytes = wire.coded.descriptor.as_mut().expect("a descriptor");
                bytes[2] ^= 1;
            }
        }
    }
    rules(&film)
}

#[test]
fn numbers_that_do_not_go_on_are_found() {
    for (mode, rule) in [
        (Mode::VP8_T3, Rule::Timestamp),
        (Mode::VP8_T3, Rule::PictureId),
        (Mode::VP8_T3, Rule::Tl0),
        (Mode::VP9_L3T3, Rule::PictureId),
        (Mode::VP9_L3T3, Rule::Tl0),
        (Mode::AV1_L3T3, Rule::FrameNumber),
        (Mode::VP8_DD, Rule::FrameNumber),
    ] {
        for forever in [false, true] {
            let found = shift(mode, rule, 50, forever);
            assert!(found.contains(&rule), "{} {rule:?}: {found:?}", mode.name);
        }
    }
}

#[test]
fn a_number_used_twice_is_found() {
    let (_, mut film) = film(Mode::H264_T2, 60, 0);
    film[40].seq = film[39].seq;
    assert!(rules(&film).contains(&Rule::Reused));
}

#[test]
fn what_nobody_sent_is_found() {
    let (_, mut film) = film(Mode::AV1_ENCRYPTED, 60, 0);
    film[40].coded.payload[30] ^= 1;
    assert!(rules(&film).contains(&Rule::Payload));
    let (_, mut film) = self::film(Mode::AV1_L3T3, 60, 0);
    film[40].coded.codec = Codec::Vp9;
    assert!(rules(&film).contains(&Rule::Payload));
}

#[test]
fn a_descriptor_that_lies_is_found() {
    let (_, mut film) = film(Mode::AV1_L3T3, 60, 0);
    let bytes = film[40].coded.descriptor.as_mut().expect("a descriptor");
    bytes[0] ^= 1;
    assert!(rules(&film).contains(&Rule::Descriptor));
    // Without the structure nothing is described.
    let (_, film) = self::film(Mode::AV1_L3T3, 60, 0);
    let headless = without(&film, |t| t.picture == 0);
    assert!(rules(&headless).contains(&Rule::Descriptor));
}

#[test]
fn a_switch_to_another_encoding_needs_a_keyframe() {
    for mode in [Mode::VP8_T3, Mode::H264_T1, Mode::AV1_SIMULCAST] {
        let (_, low) = film(mode, 100, 0);
        let (_, high) = film(mode, 100, 1);
        let spliced: Vec<Wire> = low[..50].iter().chain(&high[60..]).cloned().collect();
        let numbered = |(n, wire)| Wire { seq: n as u16, ..wire };
        let spliced: Vec<Wire> = spliced.into_iter().enumerate().map(numbered).collect();
        assert!(rules(&spliced).contains(&Rule::Reference), "{}", mode.name);
    }
}

#[test]
fn what_came_is_compared_with_what_was_sent() {
    let (_, film) = film(Mode::VP9_L3T3, 200, 0);
    let wire = play(&film);
    let mut came: Vec<Wire> = film.iter().skip(540).step_by(3).cloned().collect();
    assert_eq!(play(&came).compare(&wire), []);
    came[7].coded.marker ^= true;
    assert_eq!(play(&came).compare(&wire).len(), 1);
}

#[test]
fn a_new_mode_begins_with_a_keyframe() {
    let mut encoder = Encoder::new(Mode::VP9_L3T3, 7, 3);
    let mut film = Vec::new();
    let modes = [Mode::VP9_L3T3_KEY, Mode::AV1_L3T3, Mode::AV1_L3T3_KEY, Mode::VP9_L1T3_FLEXIBLE];
    for picture in 0..500u32 {
        if let Some(mode) = modes.get(picture as usize / 100).filter(|_| picture % 100 == 50) {
            encoder.set_mode(*mode);
        }
        let (at, timestamp) = (INTERVAL * picture, picture * 2_970);
        for coded in encoder.picture(at, timestamp) {
            film.push(Wire { at, seq: film.len() as u16, timestamp, coded });
        }
    }
    let found = problems(&film);
    assert!(found.is_empty(), "{}", found[0]);
    assert_eq!(play(&film).shown().len(), encoder.sent.frames.len());
}

#[test]
fn a_decoder_asks_for_what_it_cannot_do_without() {
    let (_, film) = film(Mode::AV1_L3T3, 40, 0);
    let base = film.iter().map(truth).find(|t| t.temporal == 0 && t.picture > 10);
    let gone = base.expect("a base frame").picture;
    let mut decoder = play(&without(&film, |t| t.picture == gone));
    let now = INTERVAL * 39;
    assert!(decoder.asks_for_keyframe(now));
    assert!(!decoder.asks_for_keyframe(now + INTERVAL), "not so soon again");
    let mut decoder = play(&film);
    assert!(!decoder.asks_for_keyframe(now));
}

/// A judge that settles each second, and one that sees everything at the end, agree.
#[test]
fn what_is_settled_is_judged_as_it_would_be_later() {
    for mode in Mode::ALL {
        let (_, film) = film(mode, 300, 0);
        let cut = without(&film, |t| t.picture == 150 && t.temporal == 0);
        for film in [film, cut] {
            let whole = play(&film);
            let (mut decoder, mut found, mut shown) = (Decoder::default(), Vec::new(), 0);
            for wire in &film {
                take(&mut decoder, wire);
                if wire.seq.is_multiple_of(50) {
                    let until = wire.at.saturating_sub(INTERVAL * 30);
                    found.extend(decoder.settle(until, &Network::FINE));
                    shown += decoder.take_shown().len();
                    assert!(decoder.packets() < 800, "{}", decoder.packets());
                }
            }
            found.extend(decoder.settle(Duration::MAX, &Network::FINE));
            shown += decoder.take_shown().len();
            assert_eq!(found, whole.judge(&Network::FINE), "{}", mode.name);
            assert_eq!(shown, whole.shown().len(), "{}", mode.name);
            assert_eq!(decoder.packets(), 0);
        }
    }
}

/// If packets get lost, a gap is an excuse for what cannot be decoded until the next keyframe, and
/// for nothing else.
#[test]
fn a_lossy_way_is_an_excuse_for_what_it_took() {
    for mode in Mode::ALL {
        let (_, film) = film(mode, 300, 0);
        let holey: Vec<Wire> =
            film.iter().enumerate().filter(|(n, _)| n % 41 != 40).map(|(_, w)| w.clone()).collect();
        let found = play(&holey).judge(&Network::LOSSY);
        assert!(found.is_empty(), "{}: {}", mode.name, found[0]);
        // Renumbered, nothing shows that anything is missing.
        let closed: Vec<Wire> = (0..).zip(holey).map(|(seq, w)| Wire { seq, ..w }).collect();
        assert!(!play(&closed).judge(&Network::LOSSY).is_empty(), "{}", mode.name);
    }
}

#[test]
fn an_encoder_with_a_bitrate_keeps_it() {
    for mode in Mode::named() {
        let mut encoder = Encoder::new(mode, 7, 3);
        encoder.rate = Some(Rate { bps: 1_500_000, fps: 30.0, payload: 1_100 });
        (encoder.tail_len, encoder.drops) = (24, 0.0);
        let (mut decoder, mut bytes, mut seq) = (Decoder::default(), 0, 0);
        for picture in 0..600u32 {
            let at = INTERVAL * picture;
            for mut coded in encoder.picture(at, picture * 3_000) {
                assert!(coded.payload.len() <= 1_120, "{}: {}", mode.name, coded.payload.len());
                if coded.encoding + 1 == mode.encodings {
                    bytes += coded.payload.len();
                    let len = coded.payload.len() - 24;
                    assert_eq!(coded.payload.split_off(len), [0; 24]);
                    take(&mut decoder, &Wire { at, seq, timestamp: picture * 3_000, coded });
                    seq = seq.wrapping_add(1);
                }
            }
        }
        let bps = bytes * 8 * 30 / 600;
        assert!((1_350_000..1_650_000).contains(&bps), "{}: {bps}", mode.name);
        let found = decoder.judge(&Network::FINE);
        assert!(found.is_empty(), "{}: {}", mode.name, found[0]);
    }
}

#[test]
fn modes_are_found_by_their_names() {
    assert_eq!(Mode::find("vp9/l3t3_key"), Some(Mode::VP9_L3T3_KEY));
    assert_eq!(Mode::find("H264 3xL1T3 dd"), Some(Mode::H264_DD));
    assert_eq!(Mode::find("AV1/3xL1T3"), Some(Mode::AV1_SIMULCAST));
    assert_eq!(Mode::find("VP8 L3T3"), None);
    for mode in Mode::named() {
        assert_eq!(Mode::find(mode.name), Some(mode), "{}", mode.name);
    }
}

/// What waits for a full link is dropped up to a keyframe, even in the middle of a frame.
#[test]
fn a_frame_may_be_cut_where_a_keyframe_follows_and_links_are_full() {
    let full = Network { full: true, ..Network::FINE };
    for mode in Mode::ALL {
        let (_, film) = film(mode, 200, 0);
        let key = film.iter().position(|w| truth(w).body.key && truth(w).picture > 100);
        let key = key.expect("a second keyframe");
        let renumbered = |gone: usize| -> Vec<Wire> {
            let kept = film.iter().enumerate().filter(|(at, _)| *at != gone);
            (0..).zip(kept).map(|(seq, (_, w))| Wire { seq, ..w.clone() }).collect()
        };
        let cut = renumbered(key - 1);
        assert!(rules(&cut).iter().any(|rule| matches!(rule, Rule::Torn | Rule::Marker)));
        let found = play(&cut).judge(&full);
        assert!(found.is_empty(), "{}: {}", mode.name, found[0]);
        let middle = film.iter().position(|w| w.coded.body.part == 1 && w.coded.body.parts > 2);
        let found = play(&renumbered(middle.expect("a frame of three packets"))).judge(&full);
        assert!(!found.is_empty(), "{}", mode.name);
    }
}
