//! A receiver with fewer slots than there are sources: the source in a slot changes, and the
//! receiver sees one stream in each.

use std::{ops::Range, time::Duration};

use rialto_engine::{
    BandwidthConfig,
    sim::{Weather, World, WorldConfig, slot_id},
};
use rialto_media::{MediaType, SourceSpec};

const SENDERS: usize = 4;
/// The receiver with slots.
const FEW: usize = SENDERS;
/// Slots of video, then those of audio.
const VIDEO: Range<u32> = 0..2;
const AUDIO: Range<u32> = 2..4;
/// Shortest time for which a source stays in its slot.
const STAY: Duration = Duration::from_millis(1_500);
/// Time until a source that enters a slot is seen.
const BEGIN: Duration = Duration::from_millis(500);

/// Four senders, one receiver that gets some of them in slots, and one that gets all of them, so
/// that everything is being forwarded whatever is in the slots.
struct Call {
    world: World,
    video: Vec<SourceSpec>,
    audio: Vec<SourceSpec>,
    /// Which source is in each slot.
    slots: [usize; 4],
}

impl Call {
    fn new(config: WorldConfig) -> Self {
        let mut world = World::new(config);
        for _ in 0..SENDERS + 2 {
            world.join();
        }
        let (mut video, mut audio) = (Vec::new(), Vec::new());
        for sender in 0..SENDERS {
            world.publish_to_nobody(sender, MediaType::Video, 1 + sender % 3);
            world.publish_to_nobody(sender, MediaType::Audio, 1);
            let tracks = &world.clients[sender].tracks;
            video.push(tracks[0].spec.clone());
            audio.push(tracks[1].spec.clone());
        }
        for spec in video.iter().chain(&audio) {
            world.subscribe(SENDERS + 1, spec);
        }
        let mut call = Self { world, video, audio, slots: [0, 1, 0, 1] };
        call.world.run(Duration::from_secs(1));
        for slot in VIDEO.start..AUDIO.end {
            call.enter(slot, call.slots[slot as usize]);
        }
        call.world.run(STAY);
        call
    }

    fn spec(&self, slot: u32, source: usize) -> &SourceSpec {
        if VIDEO.contains(&slot) { &self.video[source] } else { &self.audio[source] }
    }

    fn enter(&mut self, slot: u32, source: usize) {
        let spec = self.spec(slot, source).clone();
        self.world.fill_slot(FEW, slot, &spec);
        self.slots[slot as usize] = source;
    }

    /// Puts another source into a slot.
    fn replace(&mut self, slot: u32, source: usize) {
        let old = self.spec(slot, self.slots[slot as usize]).id;
        self.world.unsubscribe(FEW, old);
        self.enter(slot, source);
    }

    /// How many frames, or audio packets, of a source arrived in a slot, of those sent since a
    /// time.
    fn frames_since(&self, slot: u32, source: usize, since: Duration) -> usize {
        let spec = self.spec(slot, source);
        let track = self.world.clients[source].tracks.iter().find(|t| t.spec.id == spec.id);
        let made = &track.unwrap().made;
        let got = self.world.clients[FEW].incoming[&slot_id(slot)].got.values();
        let mut frames: Vec<_> = got
            .filter(|(body, _)| body.source == spec.id.0 && made[body] >= since)
            .map(|(body, _)| body.frame)
            .collect();
        frames.sort_unstable();
        frames.dedup();
        frames.len()
    }
}

fn wide() -> BandwidthConfig {
    BandwidthConfig { initial_bps: 50_000_000, max_bps: 50_000_000, ..BandwidthConfig::default() }
}

/// All numbers continue through each change, a video begins at a keyframe, nothing arrives under
/// any other SSRC, and nothing is reported to have ended.
#[test]
fn a_slot_is_one_stream_whoever_is_in_it() {
    // A video whose keyframe was lost waits for another one.
    let runs = [(1, Weather::FINE, 1, 25), (2, Weather::FOUL, 3, 12), (3, Weather::FOUL, 1, 12)];
    for (seed, weather, shards, least) in runs {
        println!("seed {seed}, {shards} shards");
        let (scatter, bandwidth) = (shards > 1, wide());
        let config =
            WorldConfig { shards, seed, weather, scatter, bandwidth, ..WorldConfig::default() };
        let mut call = Call::new(config);
        for round in 0..10usize {
            let slot = (round % 4) as u32;
            let kin = if VIDEO.contains(&slot) { VIDEO } else { AUDIO };
            let taken = |source| kin.clone().any(|slot| call.slots[slot as usize] == source);
            let source =
                (round..round + SENDERS).map(|n| n % SENDERS).find(|n| !taken(*n)).unwrap();
            let since = call.world.elapsed();
            call.replace(slot, source);
            call.world.run(STAY);
            let frames = call.frames_since(slot, source, since + BEGIN);
            assert!(frames >= least, "round {round}: {frames} frames of {source} in slot {slot}");
        }
        let client = &call.world.clients[FEW];
        for slot in VIDEO.start..AUDIO.end {
            let incoming = &client.incoming[&slot_id(slot)];
            incoming.check();
            assert!(!incoming.ended, "a slot outlives who was in it");
            assert!(!incoming.reports.is_empty());
        }
        // Duplicates are refused as well.
        let refused = client.heard.refused > 0 && weather.duplicates == 0.0;
        assert!(client.incoming.len() == 4 && !refused, "no other SSRCs");
    }
}

/// Requests under a slot's SSRC go to the source that is in the slot.
#[test]
fn feedback_reaches_the_source_that_is_in_the_slot() {
    let mut call = Call::new(WorldConfig { bandwidth: wide(), ..WorldConfig::default() });
    for (before, after) in [(0, 2), (2, 3), (3, 0)] {
        call.replace(0, after);
        call.world.run(Duration::from_secs(11));
        let asked = |call: &Call, sender: usize| call.world.clients[sender].heard.keyframe_requests;
        let (old, new) = (asked(&call, before), asked(&call, after));
        let request = call.world.clients[FEW].ask_for_keyframe(slot_id(0)).unwrap();
        call.world.send(FEW, &request);
        call.world.run(Duration::from_millis(200));
        assert_eq!(asked(&call, before), old);
        assert_eq!(asked(&call, after), new + 1, "{after} is in the slot");
    }
}

/// Lost packets of any source in a slot are retransmitted under the RTX SSRC of the slot.
#[test]
fn losses_are_made_good_in_slots() {
    let weather = Weather::FOUL;
    let mut call = Call::new(WorldConfig { weather, bandwidth: wide(), ..WorldConfig::default() });
    let mut stays = Vec::new();
    for source in [2, 3, 0, 2] {
        let since = call.world.elapsed();
        call.replace(1, source);
        call.world.run(2 * STAY);
        stays.push((source, since + BEGIN..call.world.elapsed().saturating_sub(STAY)));
    }
    let world = &call.world;
    let got = &world.clients[FEW].incoming[&slot_id(1)].got;
    let mut again = 0;
    for (source, stay) in stays {
        let track = &world.clients[source].tracks[0];
        for (_, body) in world.lost_down.iter().filter(|(to, _)| *to == FEW) {
            if track.made.get(body).is_some_and(|at| stay.contains(at)) {
                assert!(got.values().any(|(came, _)| came == body), "{body:?} did not come again");
                again += 1;
            }
        }
    }
    assert!(again > 10, "the network was kind: {again}");
}
