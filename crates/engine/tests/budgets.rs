//! What one peer can make the bridge send, to itself and to others: a test for each row of
//! docs/budgets.md that concerns the engine. Each tries to exceed the budget.

use std::{sync::Arc, time::Duration};

use rialto_engine::{
    Allocation, AllocationConstraints, Control, MediaEvent, SourceConstraint, VideoKind,
    core::{ControlEvent, Core},
    sim::{World, WorldConfig},
};
use rialto_media::{Drop, EndpointId, Extension, MediaType, SourceId};
use rialto_rtp::{
    ExtSeq, RtpHeader, Seq,
    rtcp::{Arrival, ReportBlock, RtcpWriter, ntp},
};

const SECOND: Duration = Duration::from_secs(1);
/// The wall clock of every client at the start of a world.
const WALL_CLOCK: Duration = Duration::from_secs(1_700_000_000);

/// One client sends a source to others, and has done so for two seconds.
fn a_call(shards: u16, receivers: usize, media: MediaType) -> (World, SourceId) {
    let mut world = World::new(WorldConfig { shards, ..WorldConfig::default() });
    for _ in 0..=receivers {
        world.join();
    }
    let source = world.publish(0, media, 1);
    world.run(2 * SECOND);
    (world, source)
}

/// Delivers bytes of a client at once.
fn deliver(world: &mut World, client: usize, mut bytes: Vec<u8>) {
    let from = world.clients[client].addr;
    let shard = world.shard_of(from);
    world.deliver(shard, from, &mut bytes);
}

/// Delivers a compound packet of a client at once.
fn report(world: &mut World, client: usize, write: impl FnOnce(&mut RtcpWriter<'_>)) {
    let bytes = world.clients[client].rtcp(write).unwrap();
    deliver(world, client, bytes);
}

/// Sum over the shards.
fn sum(world: &World, of: impl Fn(&Core) -> u64) -> u64 {
    world.cores.iter().map(of).sum()
}

/// The SSRC that receivers see of a source.
fn ssrc(world: &World, source: SourceId) -> u32 {
    let mut tracks = world.clients.iter().flat_map(|c| &c.tracks);
    tracks.find(|t| t.spec.id == source).unwrap().spec.encodings[0].ssrc
}

/// The number that a receiver got last.
fn newest(world: &World, receiver: usize, source: SourceId) -> u16 {
    *world.clients[receiver].incoming[&source].got.keys().next_back().unwrap() as u16
}

#[test]
fn who_claims_a_link_without_bounds_is_probed_for_what_it_wants_and_no_more() {
    let (mut world, _) = a_call(1, 1, MediaType::Video);
    let bytes = |world: &World| sum(world, |core| core.totals.rtp_bytes_sent);
    let before = bytes(&world);
    world.run(10 * SECOND);
    let media = bytes(&world) - before;
    let before = bytes(&world);
    for _ in 0..1_000 {
        // Everything has arrived, at once, and REMB says the same.
        report(&mut world, 1, |w| {
            w.receiver_report(1, &[]).unwrap();
            w.remb(1, u64::MAX, &[]).unwrap();
        });
        world.run(SECOND / 100);
    }
    let most = media + media / 4;
    let sent = bytes(&world) - before;
    assert!(sent <= most, "{sent} of {media}");
}

#[test]
fn sender_reports_leave_once_a_second_however_many_come() {
    const RECEIVERS: usize = 20;
    for shards in [1, 4] {
        let (mut world, audio) = a_call(shards, RECEIVERS, MediaType::Audio);
        let ssrc = ssrc(&world, audio);
        let heard = |world: &World| -> Vec<usize> {
            world.clients[1..].iter().map(|c| c.incoming[&audio].reports.len()).collect()
        };
        let (before, sent) = (heard(&world), sum(&world, |c| c.totals.rtcp_sent));
        for n in 0..5 * 400u64 {
            report(&mut world, 0, |w| {
                for m in 0..40 {
                    w.sender_report(ssrc, n << 32 | m, n as u32, 1, 1, &[]).unwrap();
                }
            });
            world.run(SECOND / 400);
        }
        for (before, after) in before.iter().zip(heard(&world)) {
            assert!((4..=6).contains(&(after - before)), "{shards} shards: {before} {after}");
        }
        let sent = sum(&world, |c| c.totals.rtcp_sent) - sent;
        // In addition the sender gets receiver reports twice a second.
        assert!(sent <= 6 * RECEIVERS as u64 + 5 * 20, "{shards} shards: {sent}");
        assert!(sum(&world, |c| c.drops.get(Drop::RepeatedReport)) > 70_000);
    }
}

#[test]
fn sender_reports_say_what_the_sender_said_at_the_time_at_which_they_leave() {
    for shards in [1, 2] {
        let (mut world, audio) = a_call(shards, 3, MediaType::Audio);
        world.run(4 * SECOND);
        let track = &world.clients[0].tracks[0];
        for client in &world.clients[1..] {
            let reports = &client.incoming[&audio].reports;
            assert!(reports.len() >= 4, "{}", reports.len());
            for (time, timestamp) in reports {
                let since = ntp::to_unix(*time).checked_sub(WALL_CLOCK).unwrap();
                let off = track.timestamp(since).wrapping_sub(*timestamp) as i32;
                assert!(off.abs() <= 2, "{off} at {since:?}");
            }
            let apart = reports.windows(2).map(|two| ntp::to_unix(two[1].0 - two[0].0));
            assert!(apart.clone().all(|apart| apart >= ntp::to_unix(0) + SECOND * 9 / 10));
        }
    }
}

#[test]
fn who_no_longer_reports_is_reported_for_a_while_and_then_no_more() {
    let (mut world, audio) = a_call(1, 1, MediaType::Audio);
    world.clients[0].fall_silent();
    world.clients[0].tracks.clear();
    let heard = |world: &World| world.clients[1].incoming[&audio].reports.len();
    let before = heard(&world);
    world.run(60 * SECOND);
    assert!(heard(&world) - before <= 7);
    let before = heard(&world);
    world.run(60 * SECOND);
    assert_eq!(heard(&world), before);
}

#[test]
fn retransmissions_are_a_quarter_of_the_media_beside_a_burst_and_a_floor() {
    let (mut world, video) = a_call(1, 1, MediaType::Video);
    let ssrc = ssrc(&world, video);
    let bytes = |world: &World| sum(world, |c| c.totals.rtp_bytes_sent);
    let before = bytes(&world);
    world.run(5 * SECOND);
    let media = bytes(&world) - before;

    let (before, again) = (bytes(&world), sum(&world, |c| c.totals.retransmissions_sent));
    for _ in 0..500 {
        let newest = newest(&world, 1, video);
        report(&mut world, 1, |w| {
            w.nack(1, ssrc, (0..500).rev().map(|n| Seq(newest.wrapping_sub(n)))).unwrap();
        });
        world.run(SECOND / 100);
    }
    let again = sum(&world, |c| c.totals.retransmissions_sent) - again;
    let sent = bytes(&world) - before;
    let most = media * 21 / 20 + media / 4 + (128 << 10) + 12 * 5_000 + 1_500;
    assert!(again > 300, "{again}: the flood asked for what was there");
    assert!(sent <= most, "{sent} of {most}");
    assert!(sum(&world, |c| c.drops.get(Drop::RetransmissionBudget)) > 10_000);
}

#[test]
fn one_packet_is_sent_again_a_bounded_number_of_times() {
    let (mut world, video) = a_call(1, 1, MediaType::Video);
    let (ssrc, seq) = (ssrc(&world, video), newest(&world, 1, video));
    let before = sum(&world, |c| c.totals.retransmissions_sent);
    for _ in 0..100 {
        report(&mut world, 1, |w| w.nack(1, ssrc, [Seq(seq)]).unwrap());
        world.run(SECOND / 50);
    }
    let again = sum(&world, |c| c.totals.retransmissions_sent) - before;
    assert!((2..=8).contains(&again), "{again}");
}

#[test]
fn a_compound_packet_asks_for_512_numbers_at_most() {
    let (mut world, video) = a_call(1, 1, MediaType::Video);
    let (ssrc, newest) = (ssrc(&world, video), newest(&world, 1, video));
    let before = sum(&world, |c| c.totals.retransmissions_missed);
    report(&mut world, 1, |w| {
        for part in 0..2 {
            let numbers = (0..400).map(|n| Seq(newest.wrapping_add(10_000 + part * 400 + n)));
            w.nack(1, ssrc, numbers).unwrap();
        }
    });
    assert_eq!(sum(&world, |c| c.totals.retransmissions_missed) - before, 512);
}

#[test]
fn a_receiver_makes_a_sender_code_three_keyframes_in_ten_seconds() {
    let (mut world, video) = a_call(1, 1, MediaType::Video);
    let ssrc = ssrc(&world, video);
    world.run(10 * SECOND);
    let before = world.clients[0].heard.keyframe_requests;
    for n in 0..990u32 {
        report(&mut world, 1, |w| {
            let _ = w.receiver_report(1, &[]);
            for _ in 0..20 {
                w.pli(1, ssrc).unwrap();
                w.fir(1, &[(ssrc, n as u8), (ssrc, n as u8 ^ 0x80)]).unwrap();
            }
        });
        world.run(SECOND / 100);
    }
    let asked = world.clients[0].heard.keyframe_requests - before;
    assert!((1..=3).contains(&asked), "{asked}");
}

#[test]
fn a_receiver_that_switches_to_and_fro_makes_a_sender_code_a_keyframe_a_second() {
    for unsubscribes in [false, true] {
        let mut world = World::new(WorldConfig::default());
        world.join();
        world.join();
        let video = world.publish(0, MediaType::Video, 3);
        world.run(20 * SECOND);
        let spec = world.clients[0].tracks[0].spec.clone();
        let before = world.clients[0].heard.keyframe_requests;
        for n in 0..200 {
            let max_height = (n % 2 == 0).then_some(180);
            if unsubscribes {
                let receiver = world.clients[1].id;
                world.control(Control::Unsubscribe { receiver, source: video });
                world.subscribe(1, &spec);
            }
            world.bound(1, video, max_height);
            world.run(SECOND / 20);
        }
        let asked = world.clients[0].heard.keyframe_requests - before;
        // Five at once, and one in each of ten seconds; a request may be repeated.
        assert!((5..=20).contains(&asked), "unsubscribes: {unsubscribes}, {asked}");
        // A receiver that settles gets what it wants.
        world.bound(1, video, None);
        world.run(6 * SECOND);
        let got = |world: &World| world.clients[1].incoming[&video].got.len();
        let (settled, requests) = (got(&world), world.clients[0].heard.keyframe_requests);
        world.run(5 * SECOND);
        assert!(got(&world) > settled + 100);
        assert_eq!(world.clients[0].heard.keyframe_requests, requests, "and asks no more");
    }
}

#[test]
fn many_receivers_together_make_a_sender_code_five_keyframes_a_second() {
    const RECEIVERS: usize = 30;
    let (mut world, video) = a_call(1, RECEIVERS, MediaType::Video);
    let ssrc = ssrc(&world, video);
    world.run(10 * SECOND);
    let before = world.clients[0].heard.keyframe_requests;
    for n in 0..300 {
        report(&mut world, 1 + n % RECEIVERS, |w| w.pli(1, ssrc).unwrap());
        world.run(SECOND / 300);
    }
    world.run(SECOND / 5);
    let asked = world.clients[0].heard.keyframe_requests - before;
    // One at once, then one each 200 ms.
    assert!((2..=7).contains(&asked), "{asked}");
}

#[test]
fn a_sender_with_leaping_numbers_is_told_of_them_a_hundred_times_a_second_at_most() {
    let (mut world, _) = a_call(1, 1, MediaType::Video);
    let before = sum(&world, |c| c.totals.rtcp_sent);
    let mut transport = 0u16;
    for _ in 0..1_000 {
        let since = world.elapsed();
        // Gaps in the stream, and in the transport-wide numbers.
        let skipped = world.clients[0].tracks[0].make_frame(since, &mut transport);
        transport = transport.wrapping_add(500);
        let frames = (0..50).map(|_| world.clients[0].tracks[0].make_frame(since, &mut transport));
        let last = frames.last().into_iter().flatten().chain(skipped).next().unwrap();
        let bytes = world.clients[0].seal(&last);
        deliver(&mut world, 0, bytes);
        world.run(SECOND / 1_000);
    }
    let sent = sum(&world, |c| c.totals.rtcp_sent) - before;
    assert!((20..=115).contains(&sent), "{sent}");
}

#[test]
fn what_says_nothing_to_us_makes_nothing_leave() {
    let (mut world, video) = a_call(1, 2, MediaType::Video);
    let ssrc = ssrc(&world, video);
    let out = |world: &World| {
        let t = world.cores[0].totals;
        (t.rtcp_sent, t.rtp_sent, t.keyframe_requests_sent)
    };
    let passed = |world: &mut World, flood: bool| {
        let before = out(world);
        for n in 0..500u32 {
            if flood {
                flood_without_meaning(world, ssrc, n);
            }
            world.run(Duration::from_millis(6));
        }
        let after = out(world);
        [after.0 - before.0, after.1 - before.1, after.2 - before.2]
    };
    let (quiet, flooded) = (passed(&mut world, false), passed(&mut world, true));
    for (quiet, flooded) in quiet.into_iter().zip(flooded) {
        assert!(flooded <= quiet + 4, "{quiet} {flooded}");
    }
}

fn flood_without_meaning(world: &mut World, ssrc: u32, n: u32) {
    report(world, 1, |w| {
        w.receiver_report(1, &[ReportBlock { ssrc, ..ReportBlock::default() }; 4]).unwrap();
        w.remb(1, u64::from(n) << 20, &[ssrc]).unwrap();
        let arrivals = [Arrival { seq: ExtSeq(n.into()), at: 0 }];
        w.transport_cc(1, ssrc, n as u8, ExtSeq(n.into()), &arrivals).unwrap();
        w.sdes_cname(ssrc, "somebody else").unwrap();
        w.bye(&[ssrc]).unwrap();
        // About streams that it does not receive.
        w.pli(1, ssrc + 1).unwrap();
        w.nack(1, ssrc + 1, [Seq(n as u16)]).unwrap();
        w.sender_report(ssrc, 1, 1, 1, 1, &[]).unwrap();
    });
    let xr = [0x80, 207, 0, 1, 0, 0, 0, 1, 0x80, 204, 0, 2, 0, 0, 0, 1, b'n', b'o', b'n', b'e'];
    let bytes = world.clients[1].seal_any_rtcp(&xr).unwrap();
    deliver(world, 1, bytes);
}

#[test]
fn a_packet_that_comes_again_is_forwarded_once() {
    let (mut world, video) = a_call(1, 2, MediaType::Video);
    let ssrc = ssrc(&world, video);
    world.clients[0].fall_silent();
    world.run(SECOND / 10);
    let sent = world.cores[0].totals.rtp_sent;
    let track = &mut world.clients[0].tracks[0];
    let seq = Seq(track.next_index() as u16 - 1);
    let same: Vec<_> = (0..200).map(|_| track.resend(ssrc, seq).unwrap()).collect();
    let plain = track.sent(ssrc, seq).unwrap().clone();
    for again in same.iter().chain(std::iter::repeat_n(&plain, 200)) {
        let bytes = world.clients[0].seal(again);
        deliver(&mut world, 0, bytes);
    }
    assert_eq!(world.cores[0].totals.rtp_sent, sent);
    assert_eq!(world.cores[0].drops.get(Drop::Duplicate), 200);
}

#[test]
fn levels_are_told_ten_times_a_second_however_many_packets_come() {
    let (mut world, _) = a_call(1, 1, MediaType::Audio);
    world.events.clear();
    for n in 0..2_000u32 {
        // Alternately louder and softer.
        world.clients[0].tracks[0].level = (n % 2 * 60) as u8;
        let (since, mut transport) = (world.elapsed(), n as u16);
        let packets = world.clients[0].tracks[0].make_frame(since, &mut transport);
        for packet in packets {
            let bytes = world.clients[0].seal(&packet);
            deliver(&mut world, 0, bytes);
        }
        world.run(SECOND / 1_000);
    }
    let level =
        |event: &&ControlEvent| matches!(event, ControlEvent::Media(MediaEvent::AudioLevel { .. }));
    let told = world.events.iter().filter(level).count();
    assert!((19..=21).contains(&told), "{told}");
}

/// How often control got a receiver's allocation, and the last one.
fn told_allocations(world: &World, receiver: EndpointId) -> (usize, Option<&Allocation>) {
    let all = world.events.iter().filter_map(|event| match event {
        ControlEvent::Media(MediaEvent::Allocated(a)) if a.receiver == receiver => Some(&**a),
        _ => None,
    });
    (all.clone().count(), all.last())
}

#[test]
fn control_is_told_of_an_allocation_ten_times_a_second_however_estimates_change() {
    let (mut world, _) = a_call(1, 1, MediaType::Video);
    let receiver = world.clients[1].id;
    let mut media = world.clients[1].numbering.media();
    media.remb = true;
    media.extensions.retain(|(_, kind)| *kind != Extension::TransportCc);
    media.payload_types.iter_mut().for_each(|pt| pt.transport_cc = false);
    world.clients[1].gives_feedback = false;
    world.control(Control::SetMedia(receiver, Arc::new(media)));
    world.run(SECOND);
    world.events.clear();
    for n in 0..2_000u64 {
        let bps = if n % 2 == 0 { 200_000 } else { 900_000 };
        report(&mut world, 1, |w| {
            w.receiver_report(1, &[]).unwrap();
            w.remb(1, bps, &[]).unwrap();
        });
        world.run(SECOND / 1_000);
    }
    let (told, _) = told_allocations(&world, receiver);
    assert!((10..=22).contains(&told), "{told}");
    world.events.clear();
    report(&mut world, 1, |w| {
        w.receiver_report(1, &[]).unwrap();
        w.remb(1, 50_000, &[]).unwrap();
    });
    world.run(SECOND / 5);
    let (_, last) = told_allocations(&world, receiver);
    assert!(last.unwrap().estimate_bps.unwrap() < 100_000, "the last one is told");
}

#[test]
fn control_is_told_of_an_allocation_ten_times_a_second_however_wishes_change() {
    let (mut world, video) = a_call(1, 1, MediaType::Video);
    let receiver = world.clients[1].id;
    let wish = |world: &mut World, max_height| {
        let (kind, on_stage, selected, muted) = (VideoKind::Camera, false, false, false);
        let wish = SourceConstraint { source: video, kind, max_height, on_stage, selected, muted };
        let wishes = AllocationConstraints { sources: vec![wish], assumed_bandwidth_bps: None };
        world.control(Control::SetAllocation { receiver, wishes: Arc::new(wishes) });
        world.run(SECOND / 1_000);
    };
    world.events.clear();
    for n in 0..2_000 {
        wish(&mut world, (n % 2 == 0).then_some(0));
    }
    let (told, _) = told_allocations(&world, receiver);
    assert!((10..=22).contains(&told), "{told}");
    for max_height in [None, Some(0)] {
        wish(&mut world, max_height);
        world.run(SECOND / 5);
        let (_, last) = told_allocations(&world, receiver);
        let wanted = last.unwrap().sources[0].wanted;
        assert_eq!(wanted.is_some(), max_height.is_none(), "the last one is told");
    }
}

#[test]
fn strangers_are_not_answered_and_reach_control_by_stun_alone() {
    let (mut world, _) = a_call(1, 1, MediaType::Audio);
    world.events.clear();
    let before = world.cores[0].totals;
    let stranger = "10.9.9.9:9".parse().unwrap();
    let unbound = world.cores[0].drops.get(Drop::UnboundAddress);
    for first in [0u8, 22, 0x80, 0x80] {
        for n in 0..100u8 {
            let mut bytes = vec![n; 300];
            (bytes[0], bytes[1]) = (first, 200);
            world.deliver(0, stranger, &mut bytes);
        }
    }
    let after = world.cores[0].totals;
    assert_eq!((after.rtp_sent, after.rtcp_sent), (before.rtp_sent, before.rtcp_sent));
    assert_eq!(world.cores[0].drops.get(Drop::UnboundAddress) - unbound, 300);
    let told = world.events.iter().filter(|event| matches!(event, ControlEvent::Transport(_)));
    assert_eq!(told.count(), 100);
}

#[test]
fn one_name_for_all_sources_of_a_participant_its_own_where_it_gives_one() {
    for shards in [1, 3] {
        let mut world = World::new(WorldConfig { shards, ..WorldConfig::default() });
        for _ in 0..4 {
            world.join();
        }
        for sender in 0..2 {
            world.publish(sender, MediaType::Audio, 1);
            world.publish(sender, MediaType::Video, 1);
        }
        let specs = |world: &World, sender: usize| -> Vec<(SourceId, u32)> {
            let tracks = &world.clients[sender].tracks;
            tracks.iter().map(|t| (t.spec.id, t.spec.encodings[0].ssrc)).collect()
        };
        let names = |world: &World, sender: usize| -> Vec<Option<String>> {
            let ids = specs(world, sender);
            let of = |id: SourceId| {
                let others = world.clients.iter().enumerate().filter(|(at, _)| *at != sender);
                others.map(move |(_, c)| c.incoming[&id].cname.clone())
            };
            ids.into_iter().flat_map(|(id, _)| of(id).collect::<Vec<_>>()).collect()
        };
        // The first announces its name before anything else leaves, the other one a name that is
        // too long.
        let (own, too_long) = ("a1B2c3D4e5F6g7H8", "x".repeat(65));
        for (sender, name) in [(0, own), (1, too_long.as_str())] {
            for (_, ssrc) in specs(&world, sender) {
                report(&mut world, sender, |w| {
                    w.receiver_report(1, &[]).unwrap();
                    w.sdes_cname(ssrc, name).unwrap();
                });
            }
        }
        world.run(3 * SECOND);
        assert_eq!(names(&world, 0), vec![Some(own.to_owned()); 6], "{shards} shards");
        assert_eq!(names(&world, 1), vec![Some("1".to_owned()); 6], "the end of its label");

        // The first name stays.
        let ssrc = specs(&world, 0)[0].1;
        report(&mut world, 0, |w| w.sdes_cname(ssrc, "another").unwrap());
        world.run(2 * SECOND);
        assert_eq!(names(&world, 0), vec![Some(own.to_owned()); 6], "{shards} shards");
    }
}

#[test]
fn contributing_sources_pass() {
    let (mut world, _) = a_call(2, 2, MediaType::Audio);
    world.clients[0].fall_silent();
    world.run(SECOND / 10);
    for client in &mut world.clients {
        client.tape = Some(Vec::new());
    }
    let since = world.elapsed();
    let mut plain = world.clients[0].tracks[0].make_frame(since, &mut 0).remove(0);
    let sources = [7u32, 0xffff_fffe, 9];
    let list: Vec<u8> = sources.iter().flat_map(|s| s.to_be_bytes()).collect();
    plain.bytes[0] |= 3;
    drop(plain.bytes.splice(12..12, list));
    plain.header_len += 12;
    let payload = plain.bytes[plain.header_len..].to_vec();
    let bytes = world.clients[0].seal(&plain);
    deliver(&mut world, 0, bytes);
    world.run(SECOND / 10);
    for client in &world.clients[1..] {
        let [packet] = &client.tape.as_ref().unwrap()[..] else { panic!("one packet") };
        let header = RtpHeader::parse(packet).unwrap();
        let got: Vec<_> = (0..header.csrc_count).filter_map(|n| header.csrc(packet, n)).collect();
        assert_eq!(got, sources);
        assert!(header.extension.is_some(), "the MID is there as well");
        assert_eq!(packet[header.payload_range(packet).unwrap()], payload);
    }
}

#[test]
fn a_broken_rtcp_packet_costs_nothing_beside_it() {
    let (mut world, video) = a_call(1, 1, MediaType::Video);
    let ssrc = ssrc(&world, video);
    world.run(10 * SECOND);
    let before = world.clients[0].heard.keyframe_requests;
    let mut buf = [0; 64];
    let mut writer = RtcpWriter::new(&mut buf);
    writer.pli(1, ssrc).unwrap();
    let len = writer.len();
    // A sender report that is too short for its blocks, then the request.
    let mut bytes = vec![0x82, 200, 0, 1, 0, 0, 0, 1];
    bytes.extend(&buf[..len]);
    let malformed = world.cores[0].drops.get(Drop::MalformedRtcp);
    let bytes = world.clients[1].seal_any_rtcp(&bytes).unwrap();
    deliver(&mut world, 1, bytes);
    world.run(SECOND / 5);
    assert_eq!(world.clients[0].heard.keyframe_requests, before + 1);
    assert_eq!(world.cores[0].drops.get(Drop::MalformedRtcp), malformed + 1);
}
