//! A script of hostile datagrams against shards on which two endpoints talk to each other.
//!
//! The first byte chooses shards and protection. Each following step is one byte that says what is
//! done and from where, then what it needs. What is thrown comes from strangers, from the validated
//! addresses of the two, and from a third endpoint with keys, whose packets are authentic and wrong.

mod peer;
mod script;

use std::{net::SocketAddr, time::Duration};

use rialto_media::{Drop, MediaType, Terms};
use rialto_rtp::{Kind, demux};
use rialto_srtp::Profile;

use self::script::Script;
pub use self::peer::peer;
use crate::{
    Control,
    sim::{World, WorldConfig},
};

/// A fuzz target: it panics when an invariant is broken.
pub type Target = fn(&[u8]);

/// Name and function of each fuzz target of this crate.
pub const TARGETS: &[(&str, Target)] = &[("datagram", datagram), ("peer", peer)];

/// Until both have a first keyframe.
const HEAD: Duration = Duration::from_millis(300);
/// What was sent so late may still be on its way.
const TAIL: Duration = Duration::from_millis(200);
const MALLORY: usize = 2;
const MAX_STEPS: usize = 256;

/// One of the datagrams that were sent lately.
fn recent(script: &mut Script<'_>, world: &World) -> (SocketAddr, Vec<u8>) {
    let at = script.byte().map_or(0, usize::from) % world.recent.len().max(1);
    world.recent.get(at).cloned().unwrap_or_else(|| (world.clients[0].addr, Vec::new()))
}

/// Two endpoints talk while the script runs: whatever it throws is counted, and nothing of their
/// media is lost.
pub fn datagram(data: &[u8]) {
    let mut script = Script(data);
    let how = script.byte().unwrap_or_default();
    let mut world = call(how);
    world.run(HEAD);
    for _ in 0..MAX_STEPS {
        let Some(step) = script.byte() else { break };
        let Some((from, mut bytes)) = make(&mut world, &mut script, step) else { continue };
        let shard = usize::from(step >> 7) % world.cores.len();
        let (before, dtls) = (counted(&world), demux(&bytes) == Kind::Dtls);
        world.deliver(shard, from, &mut bytes);
        assert!(counted(&world) > before, "neither counted nor passed on (DTLS: {dtls})");
    }
    let end = world.elapsed();
    world.run(TAIL);
    let nonces = world.cores.iter().map(|core| core.drops.get(Drop::SsrcRefused)).sum::<u64>();
    assert_eq!(nonces, 0, "no SSRC is in dispute");
    judge(&world, end);
}

/// Two who talk and get all that the third sends; what they make of that is not looked at.
fn call(how: u8) -> World {
    let profile = Profile::ALL[usize::from(how >> 1) % Profile::ALL.len()];
    let shards = 1 + u16::from(how & 1);
    let mut world = World::new(WorldConfig { shards, profile, ..WorldConfig::default() });
    for _ in 0..3 {
        world.join();
    }
    for media in [MediaType::Audio, MediaType::Video] {
        let source = world.publish_to_nobody(MALLORY, media, 2);
        for receiver in [0, 1] {
            let receiver = world.clients[receiver].id;
            world.control(Control::Subscribe { receiver, source, terms: Terms::default() });
        }
    }
    for sender in [0, 1] {
        world.publish(sender, MediaType::Audio, 1);
        world.publish(sender, MediaType::Video, 1);
    }
    world
}

/// The datagram of a step, and the address it comes from; `None` when only time passes.
fn make(world: &mut World, script: &mut Script<'_>, step: u8) -> Option<(SocketAddr, Vec<u8>)> {
    let stranger = SocketAddr::from(([10, 9, 9, 9], 9));
    let from = match step >> 3 & 3 {
        0 => stranger,
        n => world.clients[usize::from(n) - 1].addr,
    };
    match step & 7 {
        0 => {
            let time = Duration::from_millis(script.byte()?.into());
            world.run(time / 8);
            None
        }
        1 => Some((from, script.bytes().to_vec())),
        2 => {
            let (from, mut bytes) = recent(script, world);
            let (at, mask) = (script.byte()?, script.byte()?);
            let at = usize::from(at) % bytes.len().max(1);
            *bytes.get_mut(at)? ^= mask;
            Some((from, bytes))
        }
        3 => Some((from, recent(script, world).1)),
        4 => {
            let (from, mut bytes) = recent(script, world);
            bytes.truncate(script.byte()?.into());
            Some((from, bytes))
        }
        5 | 6 => {
            let mut plain = script.bytes().to_vec();
            let index = plain.get(2..4).map_or(0, |s| u64::from(s[0]) << 8 | u64::from(s[1]));
            set_word(&mut plain, 8, some_ssrc(world, script.byte()?));
            let mallory = &world.clients[MALLORY];
            Some((mallory.addr, mallory.seal_anything(&plain, index)?))
        }
        _ => {
            let mut plain = script.bytes().to_vec();
            let at = script.byte()?;
            set_word(&mut plain, usize::from(at & 0x1f) * 4, some_ssrc(world, at >> 5));
            let mallory = &mut world.clients[MALLORY];
            Some((mallory.addr, mallory.seal_any_rtcp(&plain)?))
        }
    }
}

/// An SSRC that means something to the bridge.
fn some_ssrc(world: &World, at: u8) -> u32 {
    let tracks = [MALLORY, 0, 1].into_iter().flat_map(|c| &world.clients[c].tracks);
    let encodings = tracks.flat_map(|t| &t.spec.encodings);
    let ssrcs: Vec<u32> = encodings.flat_map(|e| [Some(e.ssrc), e.rtx]).flatten().collect();
    ssrcs.get(usize::from(at) % ssrcs.len().max(1)).copied().unwrap_or(u32::from(at))
}

fn set_word(bytes: &mut [u8], at: usize, word: u32) {
    if let Some(place) = bytes.get_mut(at..at + 4) {
        place.copy_from_slice(&word.to_be_bytes());
    }
}

/// All that may happen to a datagram leaves a trace here.
fn counted(world: &World) -> u64 {
    let of_core = |core: &crate::core::Core| {
        let t = &core.totals;
        let dropped: u64 = core.drops.all().map(|(_, n)| n).sum();
        dropped + t.rtp_received + t.rtcp_received + t.handed_over + t.events_dropped
    };
    world.cores.iter().map(of_core).sum::<u64>() + world.events.len() as u64
}

/// Each of the two got all that the other sent.
fn judge(world: &World, end: Duration) {
    for (receiver, sender) in [(0, 1), (1, 0)] {
        for track in &world.clients[sender].tracks {
            let incoming = &world.clients[receiver].incoming[&track.spec.id];
            incoming.check();
            let mut sent = track.made.iter().filter(|(_, at)| (HEAD..=end).contains(*at));
            let got = |body| incoming.got.values().any(|(b, _)| b == body);
            let missing = sent.find(|(body, _)| !got(*body));
            assert!(missing.is_none(), "{receiver} misses of {}: {missing:?}", track.spec.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn media_flows_whatever_comes(data in prop::collection::vec(any::<u8>(), 0..1_500)) {
            super::datagram(&data);
        }
    }
}
