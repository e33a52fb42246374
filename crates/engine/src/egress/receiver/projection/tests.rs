//! What a receiver gets of encodings, and of the layers of one.

use rialto_rtp::codec::{FrameLayers, RunningNumbers, Targets};

use super::*;
use crate::egress::receiver::numbers::FIRST;

fn packet(index: u64, timestamp: u32, arrival_ms: u32, keyframe: bool) -> PacketMeta {
    PacketMeta {
        index,
        timestamp,
        arrival_ms,
        keyframe,
        keyframes_known: true,
        payload_len: 100,
        numbers: RunningNumbers {
            dense: true,
            picture_id_at: 2,
            picture_id_bits: 15,
            tl0_at: 4,
            tl0: index as u8,
            picture_id: index as u16,
        },
        frame_number: Some((index as u16).wrapping_mul(3)),
        ..PacketMeta::default()
    }
}

#[test]
fn starts_at_a_keyframe_with_numbers_of_its_own() {
    let mut p = Projection::new(90_000, FIRST);
    assert!(p.set_target(Some(LayerId::encoding(0)), 0));
    assert_eq!(p.accept(0, &packet(0x1_fff5, 7, 1, false)), None);
    let out = p.accept(0, &packet(0x1_fff6, 8, 2, true)).unwrap();
    assert_eq!((out.index, out.timestamp), (1, 8), "whatever the sender's, it begins low");
    assert_eq!(p.accept(0, &packet(0x1_fff5, 7, 3, false)), None, "from before the keyframe");
    assert_eq!(p.accept(0, &packet(0x1_fff8, 9, 3, false)).unwrap().index, 3, "a loss is a gap");
    assert_eq!(p.accept(0, &packet(0x1_fff7, 9, 3, false)).unwrap().index, 2, "late fills it");
    assert_eq!(p.next_index(), 4);
}

#[test]
fn a_switch_continues_every_running_number() {
    let mut p = Projection::new(90_000, FIRST);
    p.set_target(Some(LayerId::encoding(0)), 0);
    p.accept(0, &packet(100, 1_000, 10, true)).unwrap();
    assert!(p.set_target(Some(LayerId::encoding(2)), 20));
    assert_eq!(p.accept(2, &packet(5_000, 77_000, 20, false)), None);
    assert_eq!(p.accept(0, &packet(101, 4_000, 43, false)).unwrap().index, 2);
    let out = p.accept(2, &packet(5_001, 80_000, 53, true)).unwrap();
    assert_eq!(out.index, 3);
    assert_eq!(out.timestamp, 4_000 + 900, "10 ms at 90 kHz");
    assert_eq!(5_001u16.wrapping_add(out.shift.picture_id), 102);
    assert_eq!((5_001u64 as u8).wrapping_add(out.shift.tl0), 102);
    assert_eq!(15_003u16.wrapping_add(out.shift.frame_number), 3 * 101 + 1);
    assert_eq!(p.accept(0, &packet(102, 7_000, 54, false)), None, "the old one has ended");
    assert!(!p.waits());
}

/// A projection whose first forwarded packet was 100.
fn forwarding() -> Projection {
    let mut p = Projection::new(90_000, FIRST);
    p.set_target(Some(LayerId::encoding(0)), 0);
    assert_eq!(p.accept(0, &packet(100, 9_000, 100, true)).unwrap().index, 1);
    p.on_sent(1);
    p
}

#[test]
fn what_leaps_goes_on_at_a_keyframe_without_a_gap() {
    for index in [100 + 102, 60_000, 1 << 20, 5_000_000_000, u64::MAX / 2] {
        let mut p = forwarding();
        assert_eq!(p.accept(0, &packet(index, 18_000, 200, false)), None, "{index}");
        assert!(p.waits());
        let out = p.accept(0, &packet(index + 1, 18_090, 201, true)).unwrap();
        assert_eq!((out.index, out.timestamp), (2, 18_090), "{index}");
    }
    let mut p = forwarding();
    assert_eq!(p.accept(0, &packet(201, 18_000, 200, false)).unwrap().index, 102, "a loss");
}

#[test]
fn numbers_that_begin_anew_are_not_late() {
    let mut p = Projection::new(90_000, FIRST);
    p.set_target(Some(LayerId::encoding(0)), 0);
    p.accept(0, &packet(1 << 20, 9_000, 100, true)).unwrap();
    assert_eq!(p.accept(0, &packet(7, 18_000, 200, true)).unwrap().index, 2);
    assert_eq!(p.accept(0, &packet(8, 18_000, 200, false)).unwrap().index, 3);
}

#[test]
fn what_ended_at_the_bridge_before_makes_it_wait_for_a_keyframe() {
    let mut p = forwarding();
    let resumes =
        |index, keyframe| PacketMeta { resumes: true, ..packet(index, 18_000, 200, keyframe) };
    assert_eq!(p.accept(0, &resumes(101, false)), None);
    assert_eq!(p.accept(0, &packet(102, 18_000, 200, false)), None);
    assert_eq!(p.accept(0, &packet(103, 18_000, 200, true)).unwrap().index, 2);
    assert_eq!(p.accept(0, &resumes(104, true)).unwrap().index, 3, "it is one itself");
}

#[test]
fn a_codec_that_is_lacking_leaves_no_gap() {
    let other = |index| PacketMeta { keyframes_known: false, ..packet(index, 0, 100, false) };
    let mut p = forwarding();
    assert_eq!(p.accept(0, &packet(101, 9_000, 100, false)).unwrap().index, 2);
    // 102 is late, and so is 105; 103, 104 and 106 are of the other codec.
    p.skip(0, &other(103));
    p.skip(0, &other(104));
    p.skip(0, &other(106));
    assert_eq!(p.accept(0, &packet(107, 9_000, 100, false)).unwrap().index, 5);
    assert_eq!(p.accept(0, &packet(105, 9_000, 100, false)).unwrap().index, 4);
    assert_eq!(p.accept(0, &packet(102, 9_000, 100, false)).unwrap().index, 3, "its own");
    p.skip(0, &other(100));
    assert_eq!(p.accept(0, &packet(108, 9_000, 100, false)).unwrap().index, 6, "it was late");
    for index in 109..200_000 {
        p.skip(0, &other(index));
    }
    assert_eq!(p.accept(0, &packet(200_000, 9_000, 100, false)).unwrap().index, 7);
    // Other packets refer to one of a video codec.
    p.skip(0, &packet(200_001, 9_000, 100, false));
    assert_eq!(p.accept(0, &packet(200_002, 9_000, 100, false)), None);
    assert_eq!(p.accept(0, &packet(200_003, 9_000, 100, true)).unwrap().index, 8);
}

#[test]
fn numbers_of_what_could_not_leave_are_given_again() {
    let mut p = forwarding();
    for index in 101..=150 {
        p.accept(0, &packet(index, 9_000, 100, false)).unwrap();
    }
    p.reclaim(100);
    assert_eq!(p.next_index(), 52, "a gap like that of a lossy link");
    for index in 151..=250 {
        p.accept(0, &packet(index, 9_000, 100, false)).unwrap();
    }
    p.reclaim(100);
    assert_eq!(p.accept(0, &packet(251, 9_000, 100, false)), None);
    assert_eq!(p.accept(0, &packet(252, 9_000, 100, true)).unwrap().index, 2);
}

#[test]
fn new_keys_of_the_receiver_begin_with_the_first_number() {
    let mut p = forwarding();
    for index in 101..70_000 {
        p.accept(0, &packet(index, 9_000, 100, false)).unwrap();
    }
    p.restart(FIRST, 100);
    assert_eq!(p.accept(0, &packet(70_000, 9_000, 100, false)), None);
    assert_eq!(p.accept(0, &packet(70_001, 9_000, 100, true)).unwrap().index, FIRST);
}

#[test]
fn a_switch_to_what_came_earlier_does_not_turn_time_back() {
    let mut p = Projection::new(90_000, FIRST);
    p.set_target(Some(LayerId::encoding(0)), 0);
    p.accept(0, &packet(100, 1_000, 10, true)).unwrap();
    p.accept(0, &packet(101, 4_000, 43, false)).unwrap();
    p.set_target(Some(LayerId::encoding(1)), 43);
    let out = p.accept(1, &packet(7, 80_000, 42, true)).unwrap();
    assert_eq!((out.index, out.timestamp), (3, 4_001));
}

#[test]
fn an_index_is_never_used_again_after_a_return() {
    let mut p = Projection::new(90_000, FIRST);
    p.set_target(Some(LayerId::encoding(0)), 0);
    p.accept(0, &packet(500, 0, 0, true)).unwrap();
    let next = p.next_index();
    let mut again = Projection::new(90_000, next);
    again.set_target(Some(LayerId::encoding(0)), 0);
    assert!(again.accept(0, &packet(400, 0, 0, true)).unwrap().index >= next);
}

#[test]
fn starts_without_a_keyframe_when_none_can_be_seen() {
    let mut p = Projection::new(90_000, FIRST);
    p.set_target(Some(LayerId::encoding(0)), 1);
    assert_eq!(p.accept(0, &packet(1, 0, 2_000, false)), None);
    assert!(p.accept(0, &packet(2, 0, 3_100, false)).is_some());
    let after_a_leap = p.accept(0, &packet(70_000, 0, 3_200, false)).unwrap();
    assert_eq!(after_a_leap.index, 2, "and goes on without one");
}

/// A packet of one layer of a frame with three spatial layers.
fn layered(index: u64, picture: u32, (spatial, temporal): (u8, u8), end: bool) -> PacketMeta {
    let present = Targets::from(spatial, temporal);
    let switch = if temporal == 0 { Targets::of_spatial(spatial, 0) } else { Targets::NONE };
    let layers =
        FrameLayers { spatial, temporal, present, needs: present, switch, ..FrameLayers::DELTA };
    let plain = packet(index, 9_000 + 3_000 * picture, 100, false);
    let numbers = RunningNumbers { picture_id: picture as u16, ..plain.numbers };
    PacketMeta { layers, top: 2, end, marker: end && spatial == 2, numbers, ..plain }
}

/// The keyframe of a picture with three spatial layers of one packet each.
fn key(index: u64, picture: u32, spatial: u8) -> PacketMeta {
    let delta = layered(index, picture, (spatial, 0), true);
    let whole = if spatial == 0 { FrameLayers::WHOLE } else { delta.layers };
    PacketMeta { keyframe: spatial == 0, layers: whole, ..delta }
}

/// A receiver of some layers that was forwarded the first three packets, a keyframe.
fn receiver_of(spatial: u8, temporal: u8) -> Projection {
    let mut p = Projection::new(90_000, FIRST);
    p.set_target(Some(LayerId { encoding: 0, spatial, temporal }), 0);
    for layer in 0..3 {
        let _ = p.accept(0, &key(100 + u64::from(layer), 0, layer));
    }
    p
}

#[test]
fn layers_that_are_left_out_leave_no_gap_and_the_last_one_has_the_marker() {
    let mut p = receiver_of(1, 3);
    assert_eq!(p.next_index(), FIRST + 2);
    let sent: Vec<_> = (0..9u64)
        .filter_map(|n| {
            let (picture, spatial) = (1 + n as u32 / 3, (n % 3) as u8);
            p.accept(0, &layered(103 + n, picture, (spatial, 0), true))
        })
        .map(|out| (out.index - FIRST, out.marker))
        .collect();
    assert_eq!(sent, [(2, false), (3, true), (4, false), (5, true), (6, false), (7, true)]);
}

#[test]
fn pictures_that_are_left_out_are_none_to_the_receiver_and_late_ones_have_their_place() {
    let mut p = receiver_of(0, 0);
    let out = |p: &mut Projection, index: u64, picture: u32, temporal: u8| {
        let meta = layered(index, picture, (0, temporal), true);
        let out = p.accept(0, &meta)?;
        Some((
            out.index - FIRST,
            meta.numbers.picture_id.wrapping_add(out.shift.picture_id),
            out.filler,
        ))
    };
    assert_eq!(out(&mut p, 103, 1, 1), None);
    assert_eq!(out(&mut p, 104, 2, 0), Some((1, 1, false)));
    assert_eq!(out(&mut p, 105, 3, 1), None);
    // 106 and 107 are late: pictures 4, of the base, and 5.
    assert_eq!(out(&mut p, 108, 6, 0), Some((4, 4, false)));
    assert_eq!(out(&mut p, 106, 4, 0), Some((2, 2, false)), "as if it had come in time");
    assert_eq!(out(&mut p, 107, 5, 1), Some((3, 3, true)), "only its number is needed");
    assert_eq!(out(&mut p, 109, 7, 0), Some((5, 5, false)));
}

#[test]
fn fewer_layers_come_at_once_and_more_at_a_switching_point_or_a_keyframe() {
    let mut p = receiver_of(2, 3);
    assert!(!p.set_target(Some(LayerId { encoding: 0, spatial: 0, temporal: 0 }), 1));
    let takes = |p: &mut Projection, index: u64, picture: u32, layers: (u8, u8)| {
        p.accept(0, &layered(index, picture, layers, true)).is_some()
    };
    assert!(takes(&mut p, 103, 1, (0, 0)));
    assert!(!takes(&mut p, 104, 1, (1, 0)) && !takes(&mut p, 105, 1, (2, 0)));
    assert!(!takes(&mut p, 106, 2, (0, 1)), "nor the upper temporal layer");
    assert!(!p.set_target(Some(LayerId { encoding: 0, spatial: 0, temporal: 3 }), 2));
    assert!(!takes(&mut p, 107, 3, (0, 1)), "it may refer to what was left out");
    assert!(takes(&mut p, 108, 4, (0, 0)) && takes(&mut p, 109, 5, (0, 1)));
    assert!(p.set_target(Some(LayerId { encoding: 0, spatial: 2, temporal: 3 }), 3), "a keyframe");
    assert!(takes(&mut p, 110, 6, (0, 0)) && !takes(&mut p, 111, 6, (1, 0)));
    for layer in 0..3 {
        assert!(p.accept(0, &key(112 + u64::from(layer), 7, layer)).is_some());
    }
    assert!(!p.waits());
}

#[test]
fn another_source_goes_on_where_the_one_before_ended() {
    let before = forwarding();
    let mut p = before.of_next_source(90_000, before.next_index());
    p.set_target(Some(LayerId::encoding(0)), 140);
    assert_eq!(p.accept(0, &packet(7_001, 500, 140, false)), None, "no keyframe");
    let out = p.accept(0, &packet(7_002, 600, 150, true)).unwrap();
    assert_eq!((out.index, out.timestamp), (2, 9_000 + 50 * 90), "50 ms at 90 kHz");
    assert_eq!(7_002u16.wrapping_add(out.shift.picture_id), 101);
    assert_eq!((7_002u64 as u8).wrapping_add(out.shift.tl0), 101);
    assert_eq!(21_006u16.wrapping_add(out.shift.frame_number), 3 * 100 + 1);
    let unused = Projection::new(90_000, FIRST).of_next_source(48_000, FIRST);
    assert_eq!((unused.last, unused.clock_rate()), (None, 48_000), "nothing to go on from");
}

#[test]
fn the_marker_is_on_a_lower_layer_where_the_encoder_left_out_the_one_that_is_forwarded() {
    let mark = |p: &mut Projection, meta: &PacketMeta, next: Option<&PacketMeta>| {
        let mut out = p.accept(0, meta).unwrap();
        p.mark(&mut out, meta, next);
        out.marker
    };
    let mut p = receiver_of(1, 3);
    let lowest = layered(103, 1, (0, 0), true);
    assert!(p.may_end_picture(0, &lowest), "it has to wait for the next packet");
    assert!(!p.may_end_picture(0, &layered(103, 1, (0, 0), false)), "the frame goes on");
    assert!(!p.may_end_picture(0, &layered(103, 1, (1, 0), true)), "nothing else is forwarded");
    assert!(!p.may_end_picture(1, &lowest), "another encoding");
    assert!(!mark(&mut p, &lowest, Some(&layered(104, 1, (1, 0), true))));
    assert!(mark(&mut p, &layered(104, 1, (1, 0), true), None));
    assert!(mark(&mut p, &layered(105, 2, (0, 0), true), Some(&layered(106, 2, (2, 0), true))));
    let apart = layered(109, 3, (2, 0), true);
    assert!(!mark(&mut p, &layered(107, 3, (0, 0), true), Some(&apart)), "108 may be the one");
    assert!(mark(&mut p, &layered(110, 4, (0, 0), true), Some(&layered(111, 5, (0, 0), true))));

    let p = receiver_of(2, 3);
    assert!(!p.may_end_picture(0, &lowest), "the sender marks the highest that there is");
}

#[test]
fn a_temporal_layer_whose_switching_point_nobody_tells_comes_with_a_keyframe() {
    let mut p = receiver_of(0, 0);
    assert_eq!(p.accept(0, &layered(103, 1, (0, 1), true)), None);
    assert!(!p.set_target(Some(LayerId { encoding: 0, spatial: 0, temporal: 3 }), 0));
    let silent = |n: u32| {
        let meta = layered(104 + u64::from(n), 2 + n, (0, (n % 2) as u8), true);
        let layers = FrameLayers { switch: Targets::NONE, ..meta.layers };
        PacketMeta { layers, ..meta }
    };
    let upper = (0..70).filter(|n| p.accept(0, &silent(*n)).is_some() && n % 2 == 1).count();
    assert!(upper == 0 && p.waits(), "{upper}");
    assert!(p.accept(0, &key(174, 72, 0)).is_some());
    assert!(!p.waits() && p.accept(0, &silent(71)).is_some());
}

#[test]
fn who_came_before_the_structure_does_not_know_how_many_layers_there_are() {
    let mut p = Projection::new(90_000, FIRST);
    p.set_target(Some(LayerId { encoding: 0, spatial: 3, temporal: 3 }), 0);
    assert!(p.accept(0, &key(100, 0, 0)).is_some());
    // The highest layer, on which nothing depends, arrived before that.
    let highest = key(102, 0, 2);
    let present = Targets::of_spatial(2, 0);
    let layers = FrameLayers { present, needs: Targets::ALL, ..highest.layers };
    let out = p.accept(0, &PacketMeta { top: 3, layers, ..highest });
    assert!(out.is_some_and(|out| !out.filler));
}

/// Differences of timestamps wrap after 6.6 h.
#[test]
fn hours_after_a_change_a_late_frame_is_still_forwarded() {
    let mut p = receiver_of(2, 3);
    p.set_target(Some(LayerId { encoding: 0, spatial: 0, temporal: 3 }), 1);
    let at = |index: u64, picture: u32| layered(index, picture, (0, 0), true);
    assert!(p.accept(0, &at(103, 1)).is_some());
    let mut index = 103;
    // Pictures of 3,000 ticks in 1, 7 and 13 hours.
    for upto in [108_000, 756_000, 1_404_000] {
        let mut picture = (index - 102) as u32;
        while picture < upto {
            (index, picture) = (index + 1, picture + 1);
            assert!(p.accept(0, &at(index, picture)).is_some());
        }
        assert!(p.accept(0, &at(index + 2, picture + 2)).is_some());
        let late = p.accept(0, &at(index + 1, picture + 1)).unwrap();
        assert!(!late.filler, "after {upto} pictures");
        index += 2;
    }
}

#[test]
fn what_was_lost_for_good_takes_with_it_what_refers_to_it() {
    let mut p = receiver_of(2, 3);
    let lost = |meta: PacketMeta, lost| PacketMeta { lost, ..meta };
    // Of an upper temporal layer: the base continues, and makes the others decodable again.
    let base = layered(104, 2, (0, 1), true);
    assert_eq!(p.accept(0, &lost(base, Targets::from(0, 1))), None);
    assert!(!p.waits(), "the next picture of the base mends it");
    for layer in 0..3 {
        let meta = layered(105 + u64::from(layer), 3, (layer, 0), true);
        assert!(p.accept(0, &meta).is_some(), "{layer}");
    }
    assert!(p.accept(0, &layered(108, 4, (0, 1), true)).is_some());
    // Of the highest spatial layer: those below continue, with the marker.
    let lower = lost(layered(111, 5, (0, 0), true), Targets::from(2, 0));
    assert!(p.accept(0, &lower).is_some_and(|out| !out.marker));
    assert!(p.accept(0, &layered(112, 5, (1, 0), true)).is_some_and(|out| out.marker));
    assert_eq!(p.accept(0, &layered(113, 5, (2, 0), true)), None);
    assert!(p.waits(), "only a keyframe brings the highest again");
    // Of the base: nothing can be decoded until a keyframe.
    let nothing = lost(layered(115, 6, (0, 0), true), Targets::ALL);
    assert_eq!(p.accept(0, &nothing), None);
    assert_eq!(p.accept(0, &layered(116, 7, (0, 0), true)), None);
    for layer in 0..3 {
        let meta = key(120 + u64::from(layer), 8, layer);
        assert!(p.accept(0, &meta).is_some_and(|out| out.marker == (layer == 2)), "{layer}");
    }
    assert!(!p.waits());
    assert!(p.accept(0, &layered(123, 9, (0, 1), true)).is_some());
}

#[test]
fn pictures_that_were_lost_and_would_have_been_left_out_are_none_to_the_receiver() {
    let mut p = receiver_of(0, 0);
    let mut out = |index: u64, picture: u32, temporal: u8, tl0: u8| {
        let meta = layered(index, picture, (0, temporal), true);
        let meta = PacketMeta { numbers: RunningNumbers { tl0, ..meta.numbers }, ..meta };
        let out = p.accept(0, &meta)?;
        Some((
            out.index - FIRST,
            meta.numbers.picture_id.wrapping_add(out.shift.picture_id),
            out.filler,
        ))
    };
    assert_eq!(out(103, 1, 0, 100), Some((1, 1, false)));
    // Pictures 2 to 4 are lost, and none of them was a base picture.
    assert_eq!(out(107, 5, 0, 101), Some((5, 2, false)));
    assert!(out(105, 3, 1, 100).is_some_and(|(index, _, filler)| index == 3 && filler), "late");
    // Picture 6, a base picture, is lost.
    assert_eq!(out(109, 7, 0, 103), Some((7, 4, false)));
    assert_eq!(out(108, 6, 0, 102), Some((6, 3, false)), "and comes late");
}

#[test]
fn what_is_late_has_no_marker_where_more_layers_were_forwarded() {
    let mut p = receiver_of(2, 3);
    // 103, the lowest layer of the picture, is late.
    assert!(p.accept(0, &layered(104, 1, (1, 0), true)).is_some());
    assert!(p.accept(0, &layered(105, 1, (2, 0), true)).is_some_and(|out| out.marker));
    p.set_target(Some(LayerId { encoding: 0, spatial: 0, temporal: 3 }), 1);
    assert!(p.accept(0, &layered(106, 2, (0, 0), true)).is_some_and(|out| out.marker));
    let late = p.accept(0, &layered(103, 1, (0, 0), true)).unwrap();
    assert!(!late.marker && late.index == FIRST + 3);
}

#[test]
fn a_late_keyframe_from_before_a_change_is_forwarded_all_the_same() {
    let mut p = receiver_of(2, 3);
    p.set_target(Some(LayerId { encoding: 0, spatial: 0, temporal: 3 }), 1);
    // 103 is a keyframe of one layer, perhaps of another codec, and 104 refers to something before
    // it.
    assert!(p.accept(0, &layered(105, 2, (0, 0), true)).is_some());
    assert!(p.accept(0, &layered(104, 1, (0, 0), true)).is_some_and(|out| out.filler));
    assert!(p.accept(0, &key(103, 1, 0)).is_some_and(|out| !out.filler));
}
