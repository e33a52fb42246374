//! What happens to packets between a sender and a receiver, in a simulated world without
//! impairments: what is rewritten, what is kept, what is requested, and what is refused.

use std::{sync::Arc, time::Duration};

use rialto_engine::{
    Control,
    core::Collected,
    sim::{Body, Client, Numbering, World, WorldConfig},
};
use rialto_media::{Codec, Drop, Extension, MediaType, SourceId, SourceSpec, SubscriptionParams};
use rialto_rtp::{ExtWriter, RtpHeader, Seq, header, rtx};

const SECOND: Duration = Duration::from_secs(1);
/// Long enough for a packet to arrive, and for its answer.
const MOMENT: Duration = Duration::from_millis(50);

/// One client sends audio and video to another, on two shards; and the sources.
fn pair() -> (World, SourceId, SourceId) {
    let mut world = World::new(WorldConfig { shards: 2, ..WorldConfig::default() });
    world.join();
    world.join();
    let audio = world.publish(0, MediaType::Audio, 1);
    let video = world.publish(0, MediaType::Video, 1);
    (world, audio, video)
}

/// The same, but the test makes the sender's packets, and the receiver stores them.
fn silent_pair() -> (World, SourceSpec) {
    let (mut world, _, video) = pair();
    world.run(SECOND / 2);
    let spec = spec(&world, video);
    world.clients[0].fall_silent();
    world.run(MOMENT);
    world.clients[1].tape = Some(Vec::new());
    (world, spec)
}

fn spec(world: &World, source: SourceId) -> SourceSpec {
    let mut tracks = world.clients.iter().flat_map(|c| &c.tracks);
    tracks.find(|t| t.spec.id == source).unwrap().spec.clone()
}

fn tape(world: &mut World) -> Vec<Vec<u8>> {
    world.clients[1].tape.replace(Vec::new()).unwrap()
}

fn dropped(world: &World, reason: Drop) -> u64 {
    world.cores.iter().map(|core| core.drops.get(reason)).sum()
}

/// A packet with `elements` in its header extension, of either form.
fn packet(
    (pt, ssrc, seq): (u8, u32, u16),
    elements: &[(u8, &[u8])],
    payload: &[u8],
    padding: u8,
) -> Vec<u8> {
    let mut bytes = vec![0; 300];
    header::write_header(&mut bytes, true, pt, Seq(seq), 90_000, ssrc).unwrap();
    let mut len = 12;
    if !elements.is_empty() {
        header::set_extension_bit(&mut bytes, true);
        let mut writer = ExtWriter::new(&mut bytes[12..], true);
        for (id, data) in elements {
            writer.push(*id, data).unwrap();
        }
        len += writer.finish();
    }
    bytes.truncate(len);
    bytes.extend_from_slice(payload);
    if padding > 0 {
        bytes[0] |= 0x20;
        bytes.resize(bytes.len() + usize::from(padding), 0);
        *bytes.last_mut().unwrap() = padding;
    }
    bytes
}

/// Sends such a packet, and returns what the receiver got for it.
fn sent(world: &mut World, plain: &[u8], seq: u16) -> Vec<Vec<u8>> {
    let from = world.clients[0].addr;
    let mut sealed = world.clients[0].seal_anything(plain, seq.into()).unwrap();
    let shard = world.shard_of(from);
    world.deliver(shard, from, &mut sealed);
    world.run(MOMENT);
    tape(world)
}

fn next_seq(world: &World, spec: &SourceSpec) -> u16 {
    let track = world.clients[0].tracks.iter().find(|t| t.spec.id == spec.id).unwrap();
    track.next_index() as u16
}

/// A VP8 descriptor without ids, then what only its ends can read.
const SECRET: [u8; 40] = [0x5a; 40];

#[test]
fn a_payload_that_only_its_ends_can_read_passes_untouched() {
    let (mut world, spec) = silent_pair();
    let (n, ssrc) = (world.clients[0].numbering, spec.encodings[0].ssrc);
    let seq = next_seq(&world, &spec);
    let payload = [&[0x10, 1], &SECRET[..]].concat();
    let got = sent(&mut world, &packet((n.vp8(), ssrc, seq), &[], &payload, 0), seq);
    let [got] = &got[..] else { panic!("{got:?}") };
    let header = RtpHeader::parse(got).unwrap();
    assert_eq!(header.payload_type, world.clients[1].numbering.vp8());
    assert_eq!(&got[header.payload_range(got).unwrap()], payload);
}

#[test]
fn padding_stays_padding() {
    let (mut world, spec) = silent_pair();
    let (n, ssrc) = (world.clients[0].numbering, spec.encodings[0].ssrc);
    let seq = next_seq(&world, &spec);
    let payload = [&[0x10, 1], &SECRET[..]].concat();
    let got = sent(&mut world, &packet((n.vp8(), ssrc, seq), &[], &payload, 9), seq);
    let [got] = &got[..] else { panic!("{got:?}") };
    let header = RtpHeader::parse(got).unwrap();
    assert_eq!(&got[header.payload_range(got).unwrap()], payload, "without its padding");
}

#[test]
fn header_extensions_get_the_receivers_numbers_in_either_form() {
    let (mut world, spec) = silent_pair();
    let (from, to) = (world.clients[0].numbering, world.clients[1].numbering);
    let ssrc = spec.encodings[0].ssrc;
    let first = next_seq(&world, &spec);
    let time = [7, 8, 9];
    let long = [0u8; 20];
    // An unknown element of more than 16 bytes makes the sender's form the two-byte one.
    let known = (from.extension(Extension::AbsSendTime), &time[..]);
    for (at, elements) in [&[known][..], &[known, (14, &long)][..]].into_iter().enumerate() {
        let seq = first.wrapping_add(at as u16);
        let plain = packet((from.vp8(), ssrc, seq), elements, &[0x10, 1, 2, 3], 0);
        let got = sent(&mut world, &plain, seq);
        let [got] = &got[..] else { panic!("{at}: {got:?}") };
        let header = RtpHeader::parse(got).unwrap();
        let has = |kind| header.extensions(got).find(|e| e.id == to.extension(kind));
        assert!(has(Extension::Mid).is_some_and(|e| e.data == b"m2"), "{at}: stamped");
        assert!(header.extensions(got).all(|e| e.id != 14 && e.data != long), "{at}: unknown");
    }
}

#[test]
fn what_was_not_signalled_is_counted_and_dropped() {
    let (mut world, spec) = silent_pair();
    let (n, ssrc) = (world.clients[0].numbering, spec.encodings[0].ssrc);
    let seq = next_seq(&world, &spec);
    let unknown_ssrc = packet((n.vp8(), 0xdead_beef, seq), &[], &[0x10, 1, 2], 0);
    assert!(sent(&mut world, &unknown_ssrc, seq).is_empty());
    assert_eq!(dropped(&world, Drop::UnknownSsrc), 1);
    let unknown_type = packet((45, ssrc, seq), &[], &[0x10, 1, 2], 0);
    assert!(sent(&mut world, &unknown_type, seq).is_empty());
    let audio_type = packet((n.opus(), ssrc, seq), &[], &[0x10, 1, 2], 0);
    assert!(sent(&mut world, &audio_type, seq).is_empty());
    assert_eq!(dropped(&world, Drop::UnknownPayloadType), 2);
}

#[test]
fn a_source_under_an_ssrc_in_use_is_refused_and_leaves_nothing_behind() {
    let (mut world, _, video) = pair();
    let third = world.join();
    let other = world.publish_to_nobody(third, MediaType::Video, 1);
    let clash = SourceSpec { encodings: spec(&world, video).encodings, ..spec(&world, other) };
    let (sender, receiver) = (world.clients[third].id, world.clients[1].id);
    world.control(Control::SetSources(sender, vec![clash]));
    world.control(Control::Subscribe {
        receiver,
        source: other,
        terms: SubscriptionParams::default(),
    });
    assert_eq!(dropped(&world, Drop::SsrcRefused), 1);
    assert!(world.cores.iter().all(|core| !core.receives(other)));
    world.run(SECOND);
    assert!(world.clients[1].incoming[&video].got.len() > 20, "the first one's goes on");
}

#[test]
fn a_replayed_packet_is_counted_and_not_forwarded_again() {
    let (mut world, spec) = silent_pair();
    let (n, ssrc) = (world.clients[0].numbering, spec.encodings[0].ssrc);
    let seq = next_seq(&world, &spec);
    let plain = packet((n.vp8(), ssrc, seq), &[], &[0x10, 1, 2], 0);
    assert_eq!(sent(&mut world, &plain, seq).len(), 1);
    assert!(sent(&mut world, &plain, seq).is_empty());
    assert_eq!(dropped(&world, Drop::Replayed), 1);
}

#[test]
fn mute_by_signalling_comes_before_decryption_and_ends() {
    let (mut world, audio, video) = pair();
    world.run(SECOND);
    let endpoint = world.clients[0].id;
    world.control(Control::SetForceMute { endpoint, audio: true, video: false });
    world.run(MOMENT);
    let count = |world: &World, source| world.clients[1].incoming[&source].got.len();
    let before = (count(&world, audio), count(&world, video));
    // Not authentic, and still counted as muted: nobody looked inside.
    let ssrc = spec(&world, audio).encodings[0].ssrc;
    let mut forged = packet((world.clients[0].numbering.opus(), ssrc, 1), &[], &[0; 40], 0);
    let muted = dropped(&world, Drop::ForceMuted);
    let from = world.clients[0].addr;
    world.deliver(world.shard_of(from), from, &mut forged);
    assert_eq!(dropped(&world, Drop::ForceMuted), muted + 1);
    assert_eq!(dropped(&world, Drop::Unauthenticated), 0);
    world.run(SECOND);
    assert_eq!(count(&world, audio), before.0);
    assert!(count(&world, video) > before.1 + 25);
    world.control(Control::SetForceMute { endpoint, audio: false, video: false });
    world.run(SECOND);
    assert!(count(&world, audio) > before.0 + 45);
}

/// The receiver requests a packet several times within a round trip and once later.
fn asked_again(world: &mut World, spec: &SourceSpec) -> Vec<Vec<u8>> {
    world.clients[1].tape = Some(Vec::new());
    let highest = world.clients[1].incoming[&spec.id].got.keys().max().copied().unwrap();
    let seq = Seq((highest - 10) as u16);
    for wait in [2, 2, 500, 2] {
        let asks = world.clients[1].rtcp(|w| {
            w.receiver_report(1, &[]).unwrap();
            w.nack(1, spec.encodings[0].ssrc, [seq]).unwrap();
        });
        world.send(1, &asks.unwrap());
        world.run(Duration::from_millis(wait));
    }
    world.run(MOMENT);
    let again = |bytes: &Vec<u8>| {
        let header = RtpHeader::parse(bytes).unwrap();
        let is_rtx = Some(header.ssrc) == spec.encodings[0].rtx;
        let osn = bytes.get(header.len..header.len + rtx::OSN_LEN);
        if is_rtx { osn == Some(&seq.0.to_be_bytes()[..]) } else { header.sequence == seq }
    };
    tape(world).into_iter().filter(again).collect()
}

#[test]
fn what_a_receiver_misses_comes_as_rtx_and_once_a_round_trip() {
    let (mut world, _, video) = pair();
    world.run(SECOND);
    let spec = spec(&world, video);
    let again = asked_again(&mut world, &spec);
    let headers: Vec<_> = again.iter().map(|p| RtpHeader::parse(p).unwrap()).collect();
    assert_eq!(again.len(), 2, "one for each round trip in which it was asked for");
    assert!(headers.iter().all(|h| Some(h.ssrc) == spec.encodings[0].rtx));
    assert!(headers.iter().all(|h| h.payload_type == world.clients[1].numbering.rtx()));
    assert_ne!(headers[0].sequence, headers[1].sequence, "each has a number of its own");
    assert!(dropped(&world, Drop::RepeatedNack) >= 2);
}

#[test]
fn a_receiver_without_rtx_gets_the_same_packet_again_and_once_a_round_trip() {
    let (mut world, _, video) = pair();
    let endpoint = world.clients[1].id;
    let mut media = world.clients[1].numbering.media();
    media.payload_types.retain(|pt| !matches!(pt.codec, Codec::Rtx { .. }));
    world.control(Control::SetMedia(endpoint, Arc::new(media)));
    world.run(SECOND);
    let spec = spec(&world, video);
    // The world itself sees to it that what is sealed twice is the same to the byte; a receiver takes
    // it for a replay when it has it already.
    let refused = world.clients[1].heard.refused;
    let again = asked_again(&mut world, &spec);
    assert!(again.is_empty());
    assert_eq!(world.clients[1].heard.refused - refused, 2);
    assert!(dropped(&world, Drop::RepeatedNack) >= 2);
}

#[test]
fn a_gap_is_asked_for_and_closed() {
    let (mut world, _, video) = pair();
    world.run(SECOND);
    // The next frames are lost on the way to the bridge.
    world.lose_next(0, 3);
    world.run(SECOND);
    assert!(world.clients[0].heard.nacks > 0);
    let track = world.clients[0].tracks.iter().find(|t| t.spec.id == video).unwrap();
    let incoming = &world.clients[1].incoming[&video];
    let end = world.elapsed().saturating_sub(SECOND / 4);
    let got = |body: &Body| incoming.got.values().any(|(b, _)| b == body);
    let missing: Vec<_> = track.made.iter().filter(|(body, at)| **at < end && !got(body)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn a_gap_is_asked_for_soon() {
    let (mut world, ..) = pair();
    world.run(SECOND);
    world.lose_next(0, 4);
    let before = world.clients[0].heard.nacks;
    // The frame after the lost ones, the way there, what small reordering is forgiven, and the way back.
    let enough = Duration::from_millis(3 * 33 + 10 + 20 + 10);
    world.run(enough);
    assert!(world.clients[0].heard.nacks > before);
}

#[test]
fn a_shard_on_which_nothing_happens_hardly_wakes() {
    let (mut world, ..) = pair();
    world.run(SECOND);
    world.clients.iter_mut().for_each(Client::fall_silent);
    world.run(SECOND);
    for core in &mut world.cores {
        let (mut wakes, end) = (0, world.now + SECOND);
        while core.next_timeout() < end {
            let at = core.next_timeout();
            core.on_timeout(at, &mut Collected::default());
            wakes += 1;
        }
        assert!(wakes <= 21, "{wakes} times in a second");
    }
}

#[test]
fn keyframe_requests_are_translated_and_limited() {
    let (mut world, _, video) = pair();
    let third = world.join();
    let spec = spec(&world, video);
    world.subscribe(third, &spec);
    world.run(3 * SECOND);
    let asked = |world: &World| {
        let track = world.clients[0].tracks.iter().find(|t| t.spec.id == video);
        track.unwrap().keyframes_asked
    };
    let ask = |world: &mut World, client: usize| {
        let request = world.clients[client].ask_for_keyframe(video).unwrap();
        world.send(client, &request);
    };
    let before = asked(&world);
    // Both at once count as one request.
    ask(&mut world, 1);
    ask(&mut world, third);
    world.run(SECOND);
    assert_eq!(asked(&world), before + 1);
    // One may ask twice more in these ten seconds, the other as well; the sender gets a request
    // each 200 ms.
    for _ in 0..80 {
        ask(&mut world, 1);
        world.run(SECOND / 10);
    }
    assert_eq!(asked(&world), before + 3);
    ask(&mut world, third);
    ask(&mut world, third);
    world.run(SECOND);
    assert_eq!(asked(&world), before + 4);
    world.run(3 * SECOND);
    ask(&mut world, 1);
    world.run(SECOND);
    assert_eq!(asked(&world), before + 5, "after ten seconds it may ask again");
}

#[test]
fn who_gets_the_first_keyframe_of_a_video_needs_no_other() {
    for shards in [1, 2] {
        let mut world = World::new(WorldConfig { shards, ..WorldConfig::default() });
        for _ in 0..4 {
            world.join();
        }
        let video = world.publish(0, MediaType::Video, 1);
        world.run(2 * SECOND);
        for client in &world.clients[1..] {
            let first = client.incoming[&video].got.values().next().unwrap().0;
            assert!(first.key && first.frame == 1, "{first:?}");
        }
        assert_eq!(world.clients[0].tracks[0].keyframes_asked, 0, "{shards} shards");
    }
}

#[test]
fn who_sends_more_than_a_report_has_room_for_is_told_of_all() {
    let mut world = World::new(WorldConfig::default());
    for _ in 0..2 {
        world.join();
    }
    for _ in 0..15 {
        world.publish(0, MediaType::Video, 3);
    }
    world.run(3 * SECOND);
    let ssrcs = world.clients[0].tracks.iter().flat_map(|track| &track.spec.encodings);
    let untold = ssrcs.filter(|e| !world.clients[0].reported.contains(&e.ssrc)).count();
    assert_eq!(untold, 0);
}

#[test]
fn a_keyframe_that_was_to_come_with_a_switch_is_asked_for_when_that_is_called_off() {
    let mut world = World::new(WorldConfig::default());
    world.join();
    world.join();
    let video = world.publish(0, MediaType::Video, 3);
    world.run(3 * SECOND);
    let asked = |world: &World| world.clients[0].tracks.last().unwrap().keyframes_asked;
    let before = asked(&world);
    world.bound(1, video, Some(180));
    let request = world.clients[1].ask_for_keyframe(video).unwrap();
    world.send(1, &request);
    world.run(Duration::from_millis(15));
    world.bound(1, video, None);
    world.run(SECOND);
    assert_eq!(asked(&world), before + 2, "one of each encoding");
}

#[test]
fn a_new_receiver_and_a_source_that_returns_ask_for_a_keyframe() {
    let (mut world, _, video) = pair();
    world.run(SECOND);
    let asked = |world: &World| world.clients[0].tracks.last().unwrap().keyframes_asked;
    let (before, spec) = (asked(&world), spec(&world, video));
    let third = world.join();
    world.subscribe(third, &spec);
    world.run(SECOND);
    assert!(asked(&world) > before);
    let first = world.clients[third].incoming[&video].got.values().next().unwrap().0;
    assert!(first.key && first.part == 0, "starts with a keyframe: {first:?}");
}

#[test]
fn senders_are_told_how_their_media_arrives() {
    let (mut world, ..) = pair();
    world.run(5 * SECOND);
    let heard = world.clients[0].heard;
    assert!(heard.transport_feedback >= 50, "{heard:?}");
    assert!(heard.report_blocks >= 2, "{heard:?}");
}

#[test]
fn sender_reports_keep_audio_and_video_in_sync() {
    let (mut world, audio, video) = pair();
    world.run(5 * SECOND);
    // What a report maps a moment of the wall clock to is what media of that moment carries.
    for (source, rate) in [(audio, 48_000.0), (video, 90_000.0)] {
        let track = world.clients[0].tracks.iter().find(|t| t.spec.id == source).unwrap();
        let incoming = &world.clients[1].incoming[&source];
        assert!(incoming.reports.len() >= 4, "{}", incoming.reports.len());
        for (ntp, timestamp) in &incoming.reports {
            let wall = *ntp as f64 / (1u64 << 32) as f64 - (1_700_000_000.0 + 2_208_988_800.0);
            for (body, at) in incoming.got.values() {
                let since_report = track.made[body].as_secs_f64() - wall;
                let expected = since_report * rate;
                let found = f64::from(at.wrapping_sub(*timestamp) as i32);
                assert!((expected - found).abs() < rate / 500.0, "{expected} and {found}");
            }
        }
    }
}

#[test]
fn the_highest_encoding_that_arrives_is_forwarded() {
    let mut world = World::new(WorldConfig { shards: 2, ..WorldConfig::default() });
    world.join();
    world.join();
    let video = world.publish(0, MediaType::Video, 3);
    world.run(2 * SECOND);
    let latest = |world: &World| {
        let got = &world.clients[1].incoming[&video].got;
        got.values().next_back().unwrap().0.encoding
    };
    assert_eq!(latest(&world), 2);
    world.clients[0].tracks[0].silence(2, true);
    world.run(4 * SECOND);
    assert_eq!(latest(&world), 1, "the sender stopped its highest");
    world.clients[0].tracks[0].silence(2, false);
    world.run(4 * SECOND);
    assert_eq!(latest(&world), 2, "and started it again");
    world.clients[1].incoming[&video].check();
}

#[test]
fn no_number_is_negotiated_twice() {
    // The other tests compare numbers of two ends; they would prove nothing if these were the same.
    let (a, b) = (Numbering(1), Numbering(2));
    assert_ne!((a.opus(), a.vp8(), a.rtx()), (b.opus(), b.vp8(), b.rtx()));
    assert_ne!(a.extension(Extension::Mid), b.extension(Extension::Mid));
}
