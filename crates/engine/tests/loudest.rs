//! Only the loudest speakers of a conference are forwarded, if so configured, and audio that nobody
//! hears is dropped before it is decrypted.

use std::time::Duration;

use rialto_engine::{
    AudioConfig, Control, Loudest,
    sim::{Weather, World, WorldConfig},
};
use rialto_media::{Drop, MediaType, SourceId};

const SECOND: Duration = Duration::from_secs(1);
/// Levels of RFC 6464: voice, noise, and nothing.
const VOICE: u8 = 0x80 | 0x14;
const NOISE: u8 = 60;
const SILENT: u8 = 127;

/// A conference in which everybody sends audio, all of it noise.
fn conference(size: usize, loudest: Loudest, config: WorldConfig) -> (World, Vec<SourceId>) {
    let audio = AudioConfig { loudest, ..AudioConfig::default() };
    let mut world = World::new(WorldConfig { audio, ..config });
    (0..size).for_each(|at| assert_eq!(world.join(), at));
    let sources = (0..size).map(|at| world.publish(at, MediaType::Audio, 1)).collect();
    set_levels(&mut world, 0..size, NOISE);
    (world, sources)
}

fn rules(speakers: u8) -> Loudest {
    Loudest { only: true, speakers, ..Loudest::default() }
}

fn set_levels(world: &mut World, clients: std::ops::Range<usize>, level: u8) {
    for client in clients {
        world.clients[client].tracks[0].level = level;
    }
}

fn sum(world: &World, of: impl Fn(&rialto_engine::core::Core) -> u64) -> u64 {
    world.cores.iter().map(of).sum()
}

/// Packets of a source that a client has received.
fn got(world: &World, client: usize, source: SourceId) -> usize {
    world.clients[client].incoming.get(&source).map_or(0, |incoming| incoming.got.len())
}

/// Packets of each source that a client receives while time passes.
fn hears(world: &mut World, client: usize, sources: &[SourceId], time: Duration) -> Vec<usize> {
    let before: Vec<_> = sources.iter().map(|s| got(world, client, *s)).collect();
    world.run(time);
    sources.iter().zip(before).map(|(s, before)| got(world, client, *s) - before).collect()
}

/// Everything that a client has of a source is in order, without a gap.
fn assert_continuous(world: &World, client: usize, source: SourceId) {
    let incoming = &world.clients[client].incoming[&source];
    incoming.check();
    let numbers = &incoming.got;
    if let (Some(first), Some(last)) = (numbers.keys().next(), numbers.keys().last()) {
        assert_eq!(last - first + 1, numbers.len() as u64, "{client} misses some of {source:?}");
    }
}

/// A hundred senders, of whom three speak. Returns the cost of a second: packets decrypted, and
/// packets sent.
fn a_hundred(shards: u16, others: u8) -> (u64, u64) {
    const SIZE: usize = 100;
    let config = WorldConfig { shards, ..WorldConfig::default() };
    let (mut world, sources) = conference(SIZE, rules(3), config);
    set_levels(&mut world, 0..3, VOICE);
    set_levels(&mut world, 3..SIZE, others);
    world.run(SECOND / 2);
    let counted =
        |world: &World| (sum(world, |c| c.totals.rtp_received), sum(world, |c| c.totals.rtp_sent));
    let before = counted(&world);
    let heard = hears(&mut world, 50, &sources, SECOND);
    let after = counted(&world);
    assert!(heard[..3].iter().all(|packets| (49..=51).contains(packets)), "{heard:?}");
    assert!(heard[3..].iter().all(|packets| *packets == 0), "{heard:?}");
    for source in &sources[..3] {
        assert_continuous(&world, 50, *source);
    }
    let (opened, sent) = (after.0 - before.0, after.1 - before.1);
    println!("{shards} shards, the others at -{others} dBov: {opened} opened, {sent} sent");
    (opened, sent)
}

#[test]
fn a_conference_of_a_hundred_costs_what_three_who_speak_cost() {
    // Three streams of 50 packets a second, two of them to each speaker.
    let due = 50 * (97 * 3 + 3 * 2);
    let (opened, sent) = a_hundred(3, NOISE);
    assert!(sent.abs_diff(due) <= 3 * 99, "{sent} of {due}");
    // One in five of the others' is decrypted for its level.
    assert!((150..=150 + 97 * 11).contains(&opened), "{opened}");
    let (opened, sent) = a_hundred(1, SILENT);
    assert!(sent.abs_diff(due) <= 3 * 99, "{sent} of {due}");
    assert!(opened <= 153, "silence is not opened: {opened}");
}

#[test]
fn without_the_rule_everybody_is_heard() {
    let (mut world, sources) = conference(6, Loudest::default(), WorldConfig::default());
    world.run(SECOND);
    let heard = hears(&mut world, 5, &sources, SECOND);
    assert!(heard[..5].iter().all(|packets| *packets >= 49), "{heard:?}");
}

#[test]
fn who_begins_to_speak_is_heard_at_once_and_nothing_is_missing() {
    for shards in [1, 2] {
        let config = WorldConfig { shards, ..WorldConfig::default() };
        let (mut world, sources) = conference(6, rules(2), config);
        set_levels(&mut world, 0..2, VOICE);
        world.run(SECOND);
        for turn in 0..8 {
            let speakers = [turn % 5, (turn + 2) % 5];
            set_levels(&mut world, 0..6, NOISE);
            for speaker in speakers {
                world.clients[speaker].tracks[0].level = VOICE;
            }
            let heard = hears(&mut world, 5, &sources, SECOND);
            // 10 ms of packets were in flight; another shard does not know at once who has stopped.
            let least = if shards == 1 { 48 } else { 44 };
            for speaker in speakers {
                assert!(heard[speaker] >= least, "{shards} {turn}: {heard:?}");
            }
            assert!(heard.iter().sum::<usize>() <= 100 + 4 * 9, "{turn}: {heard:?}");
        }
        for (receiver, source) in (0..6).flat_map(|r| sources.iter().map(move |s| (r, *s))) {
            if world.clients[receiver].incoming.contains_key(&source) {
                assert_continuous(&world, receiver, source);
            }
        }
        assert!(sum(&world, |c| c.drops.get(Drop::NotLoudest)) > 1_000);
    }
}

#[test]
fn the_dominant_speaker_is_heard_whoever_is_louder() {
    for dominant in [true, false] {
        let loudest = Loudest { dominant, ..rules(1) };
        let (mut world, sources) = conference(3, loudest, WorldConfig::default());
        world.clients[0].tracks[0].level = VOICE;
        let quiet = world.clients[1].id;
        world.control(Control::SetDominant(quiet, true));
        world.run(SECOND);
        let heard = hears(&mut world, 2, &sources, SECOND);
        assert_eq!((heard[0] >= 49, heard[1] >= 49), (true, dominant), "{heard:?}");
        world.control(Control::SetDominant(quiet, false));
        world.run(SECOND);
        assert_eq!(hears(&mut world, 2, &sources, SECOND)[1], 0);
    }
}

#[test]
fn who_is_asked_for_by_name_is_heard_by_who_asks_and_nobody_else() {
    for shards in [1, 2] {
        let config = WorldConfig { shards, ..WorldConfig::default() };
        let (mut world, sources) = conference(5, rules(1), config);
        world.clients[0].tracks[0].level = VOICE;
        world.include(2, sources[1]);
        world.run(SECOND);
        assert!(hears(&mut world, 2, &sources, SECOND)[1] >= 49);
        assert_eq!(hears(&mut world, 3, &sources, SECOND)[1], 0);
        // Now it is the loudest: everybody gets it, without a gap.
        set_levels(&mut world, 0..1, NOISE);
        set_levels(&mut world, 1..2, VOICE);
        world.run(SECOND);
        assert!(hears(&mut world, 3, &sources, SECOND)[1] >= 49);
        for receiver in [2, 3] {
            assert_continuous(&world, receiver, sources[1]);
        }
        // And nobody asks for it any more.
        set_levels(&mut world, 0..1, VOICE);
        set_levels(&mut world, 1..2, NOISE);
        let receiver = world.clients[2].id;
        world.control(Control::Unsubscribe { receiver, source: sources[1] });
        world.run(SECOND);
        let opened = sum(&world, |c| c.drops.get(Drop::NotLoudest));
        assert_eq!(hears(&mut world, 3, &sources, SECOND)[1], 0);
        assert!(sum(&world, |c| c.drops.get(Drop::NotLoudest)) >= opened + 4 * 49);
    }
}

#[test]
fn whom_nobody_receives_is_not_opened() {
    let mut world = World::new(WorldConfig::default());
    world.join();
    world.join();
    let source = world.publish_to_nobody(0, MediaType::Audio, 1);
    world.run(10 * SECOND);
    let opened = world.cores[0].totals.rtp_received;
    assert!((90..=110).contains(&opened), "ten a second, for the level: {opened}");
    let spec = world.clients[0].tracks[0].spec.clone();
    world.subscribe(1, &spec);
    world.run(SECOND);
    assert!(got(&world, 1, source) >= 48);
    assert_continuous(&world, 1, source);
}

#[test]
fn a_counter_that_rolls_over_unheard_stays_known() {
    let (mut world, sources) = conference(2, rules(0), WorldConfig::default());
    world.clients[1].fall_silent();
    let sender = world.clients[0].id;
    for level in [NOISE, SILENT] {
        set_levels(&mut world, 0..1, level);
        // The sequence numbers of 23 minutes wrap.
        world.run(1_400 * SECOND);
        world.control(Control::SetDominant(sender, true));
        set_levels(&mut world, 0..1, VOICE);
        assert!(hears(&mut world, 1, &sources, SECOND)[0] >= 48, "{level}");
        assert_continuous(&world, 1, sources[0]);
        world.control(Control::SetDominant(sender, false));
    }
    assert_eq!(world.cores[0].drops.get(Drop::Unauthenticated), 0);
    assert_eq!(world.cores[0].drops.get(Drop::Replayed), 0);
}

#[test]
fn who_is_dropped_unopened_is_not_told_of_losses() {
    let (mut world, _) = conference(3, rules(1), WorldConfig::default());
    world.clients[0].tracks[0].level = VOICE;
    for level in [NOISE, SILENT] {
        world.clients[1].tracks[0].level = level;
        world.run(5 * SECOND);
    }
    set_levels(&mut world, 1..2, VOICE);
    world.run(5 * SECOND);
    for client in &world.clients[..2] {
        assert!(client.heard.report_blocks > 5 && client.heard.transport_feedback > 100);
        assert_eq!((client.heard.told_lost, client.heard.told_missing), (0, 0));
        assert_eq!(client.heard.nacks, 0);
    }
}

#[test]
fn what_is_forged_has_at_most_itself_dropped() {
    let (mut world, sources) = conference(4, rules(1), WorldConfig::default());
    world.clients[0].tracks[0].level = VOICE;
    world.run(SECOND);
    let before: Vec<_> = sources.iter().map(|s| got(&world, 3, *s)).collect();
    for step in 0..200u32 {
        for (client, level) in [(0, SILENT), (0, 90), (1, 0), (2, 5)] {
            // Like a stranger who knows everything but the key.
            let seq = world.clients[client].tracks[0].next_index() as u16;
            let forged = forge(&world, client, level, seq.wrapping_add((step % 3) as u16));
            let from = world.clients[client].addr;
            let mut bytes = forged;
            world.deliver(0, from, &mut bytes);
        }
        world.run(Duration::from_millis(10));
    }
    let heard: Vec<_> =
        sources.iter().zip(before).map(|(s, before)| got(&world, 3, *s) - before).collect();
    assert!((99..=101).contains(&heard[0]), "{heard:?}");
    assert_eq!(heard[1..], [0, 0, 0]);
    assert_continuous(&world, 3, sources[0]);
    assert!(world.cores[0].drops.get(Drop::Unauthenticated) > 100);
}

/// A packet of audio as a client might send it, with a wrong authentication tag.
fn forge(world: &World, client: usize, level: u8, seq: u16) -> Vec<u8> {
    use rialto_media::Extension;
    use rialto_rtp::{ExtWriter, Seq, header};

    let c = &world.clients[client];
    let ssrc = c.tracks[0].spec.encodings[0].ssrc;
    let mut bytes = vec![0; 200];
    header::write_header(&mut bytes, false, c.numbering.opus(), Seq(seq), 1, ssrc).unwrap();
    header::set_extension_bit(&mut bytes, true);
    let mut writer = ExtWriter::new(&mut bytes[12..], false);
    writer.push(c.numbering.extension(Extension::AudioLevel), &[level]).unwrap();
    let len = 12 + writer.finish();
    bytes.truncate(len + 80);
    bytes
}

#[test]
fn on_a_bad_network_it_is_sound_too() {
    for seed in 1..4 {
        let config =
            WorldConfig { shards: 2, seed, weather: Weather::FOUL, ..WorldConfig::default() };
        let (mut world, _) = conference(6, rules(2), config);
        for turn in 0..20 {
            set_levels(&mut world, 0..6, if turn % 2 == 0 { NOISE } else { SILENT });
            set_levels(&mut world, turn % 5..turn % 5 + 2, VOICE);
            world.run(SECOND);
        }
        for client in &world.clients {
            client.incoming.values().for_each(rialto_engine::sim::Incoming::check);
            assert!(client.incoming.values().map(|i| i.got.len()).sum::<usize>() > 1_000);
        }
    }
}
