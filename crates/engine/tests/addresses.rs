//! The owner of an address, when it moves from one endpoint to another, and while a datagram is
//! between two shards.

use std::time::Duration;

use rialto_engine::{
    Control,
    sim::{World, WorldConfig},
};
use rialto_media::{Drop, MediaType, SourceSpec};
use rialto_rtp::{RtpHeader, Seq, header, is_rtcp};

const MOMENT: Duration = Duration::from_millis(50);

/// The old owner of an address.
const OLD: usize = 0;
/// The sender, whose home is another shard than the old owner's.
const SENDER: usize = 1;
const RECEIVER: usize = 2;

/// Three endpoints on two shards; the test makes the second one's packets.
fn three() -> (World, SourceSpec) {
    let mut world = World::new(WorldConfig { shards: 2, ..WorldConfig::default() });
    for _ in 0..3 {
        world.join();
    }
    let video = world.publish(SENDER, MediaType::Video, 1);
    world.run(Duration::from_millis(500));
    let track = world.clients[SENDER].tracks.iter().find(|t| t.spec.id == video).unwrap();
    let spec = track.spec.clone();
    world.clients[SENDER].fall_silent();
    world.run(MOMENT);
    (world, spec)
}

/// Delivers the sender's next packet to that shard; then `after` happens at once.
fn lands(
    world: &mut World,
    spec: &SourceSpec,
    number: u16,
    shard: usize,
    after: impl FnOnce(&mut World),
) -> usize {
    let client = &mut world.clients[SENDER];
    let track = client.tracks.iter().find(|t| t.spec.id == spec.id).unwrap();
    let seq = (track.next_index() as u16).wrapping_add(number);
    let mut plain = vec![0; 12];
    let pt = client.numbering.vp8();
    header::write_header(&mut plain, true, pt, Seq(seq), 90_000, spec.encodings[0].ssrc).unwrap();
    plain.extend([0x10, 1, 2, 3]);
    let mut sealed = client.seal_anything(&plain, seq.into()).unwrap();
    let from = client.addr;
    for client in [OLD, RECEIVER] {
        world.clients[client].tape = Some(Vec::new());
    }
    world.deliver(shard, from, &mut sealed);
    after(world);
    world.run(MOMENT);
    // Control packets and retransmissions that leave meanwhile do not count.
    let ssrc = spec.encodings[0].ssrc;
    let tape = world.clients[RECEIVER].tape.as_mut().unwrap();
    let new = |bytes: &Vec<u8>| {
        !is_rtcp(bytes) && RtpHeader::parse(bytes).is_ok_and(|header| header.ssrc == ssrc)
    };
    std::mem::take(tape).iter().filter(|bytes| new(bytes)).count()
}

fn unbound(world: &World) -> u64 {
    world.cores.iter().map(|core| core.drops.get(Drop::UnboundAddress)).sum()
}

/// An endpoint that no longer has an address takes nothing from its new owner.
#[test]
fn an_address_is_unbound_only_from_its_owner() {
    let (mut world, spec) = three();
    let address = world.clients[OLD].addr;
    let old = world.clients[OLD].id;
    world.bind(SENDER, address);
    let shard = world.shard_of(address);
    assert_eq!(lands(&mut world, &spec, 0, shard, |_| {}), 1);
    world.control(Control::Unbind { endpoint: old, remote: address });
    assert_eq!(lands(&mut world, &spec, 1, shard, |_| {}), 1, "after a late unbinding");
    world.leave(OLD);
    assert_eq!(lands(&mut world, &spec, 2, shard, |_| {}), 1, "after the end of the old owner");
    assert_eq!(unbound(&world), 0);
    let endpoint = world.clients[SENDER].id;
    world.control(Control::Unbind { endpoint, remote: address });
    assert_eq!(lands(&mut world, &spec, 3, shard, |_| {}), 0);
    // The sender's reports from there end as well.
    assert!(unbound(&world) >= 1);
}

/// A datagram that is handed over is checked again where it arrives.
#[test]
fn what_is_handed_over_is_dropped_when_its_address_was_unbound_meanwhile() {
    let (mut world, spec) = three();
    let (endpoint, remote) = (world.clients[SENDER].id, world.clients[SENDER].addr);
    let elsewhere = 1 - world.shard_of(remote);
    assert_eq!(lands(&mut world, &spec, 0, elsewhere, |_| {}), 1);
    let unbind = |world: &mut World| world.control(Control::Unbind { endpoint, remote });
    assert_eq!(lands(&mut world, &spec, 1, elsewhere, unbind), 0);
    assert_eq!(unbound(&world), 1);
    world.bind(SENDER, remote);
    assert_eq!(lands(&mut world, &spec, 2, elsewhere, |_| {}), 1);
    // Another endpoint has it when the datagram arrives.
    let other = world.clients[OLD].id;
    let local = "192.0.2.1:10000".parse().unwrap();
    let shard = rialto_media::ShardId(0);
    let moves = |world: &mut World| {
        world.control(Control::Unbind { endpoint, remote });
        world.control(Control::Bind { endpoint: other, remote, local, shard });
    };
    assert_eq!(lands(&mut world, &spec, 3, elsewhere, moves), 0);
    assert_eq!(unbound(&world), 2);
}

/// A peer's DTLS flight with a long certificate may be one datagram; media may not.
#[test]
fn large_datagrams_are_taken_of_dtls_only() {
    let (mut world, _) = three();
    let from = world.clients[SENDER].addr;
    let shard = world.shard_of(from);
    let mut large = |first: u8, length: usize| {
        let mut bytes = vec![first; length];
        let before = world.cores[shard].drops.get(Drop::TooLarge);
        world.deliver(shard, from, &mut bytes);
        world.cores[shard].drops.get(Drop::TooLarge) == before
    };
    assert!(large(22, 2_300));
    assert!(large(22, 20 << 10));
    assert!(!large(22, (20 << 10) + 1));
    assert!(!large(0x80, 2_300));
    assert!(!large(0, 2_300));
    let taken = (0..200).filter(|_| large(22, 2_300)).count();
    assert!(taken < 64, "{taken} at once");
}
