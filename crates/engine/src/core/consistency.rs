//! The redundant state of a core stays consistent, whatever commands arrive in whatever order.

use std::{sync::Arc, time::Instant};

use proptest::prelude::*;
use rialto_media::{
    EncodingSpec, EndpointId, MediaParams, MediaType, ShardId, SlotSsrcs, SourceId, SourceSpec,
    SubscriptionParams,
};

use super::{Collected, ControlEvent, Core, ShardCommand};
use crate::{EndpointSpec, MediaEvent, egress::SourceInfo, sim};

const ENDPOINTS: u32 = 6;

fn core() -> Core {
    let mut world = sim::World::new(sim::WorldConfig::default());
    world.cores.remove(0)
}

fn spec(id: u32) -> EndpointSpec {
    EndpointSpec {
        label: Arc::from("test"),
        conference: 0,
        audio_ssrc: 2 * id,
        video_ssrc: 2 * id + 1,
    }
}

fn source(id: u32, encodings: u32) -> SourceSpec {
    let ssrc = |at| 0x1000 + id * 16 + at;
    SourceSpec {
        id: SourceId(id),
        name: Arc::from("test-v0"),
        media: MediaType::Video,
        encodings: (0..encodings).map(|at| EncodingSpec { ssrc: ssrc(at), rtx: None }).collect(),
    }
}

fn subscribe(receiver: u32, source_id: u32, encodings: u32) -> ShardCommand {
    subscribe_in(receiver, source_id, encodings, None)
}

/// A slot shares its SSRCs with no other, but may be given to two sources.
fn subscribe_in(receiver: u32, source_id: u32, encodings: u32, slot: Option<u32>) -> ShardCommand {
    let slot = slot.map(|slot| SlotSsrcs { ssrc: 0x900 + slot, rtx: Some(0xa00 + slot) });
    let spec = source(source_id, encodings);
    let (home, media, cname) = (ShardId(0), Arc::default(), Arc::from("test"));
    let info = SourceInfo { spec, home, media, cname, conference: 0 };
    let terms = SubscriptionParams { slot, ..SubscriptionParams::default() };
    ShardCommand::Subscribe { receiver: EndpointId(receiver), source: Arc::new(info), terms }
}

fn command() -> impl Strategy<Value = ShardCommand> {
    let id = || 0..ENDPOINTS;
    let remote = |port: u16| ([127, 0, 0, 1], port).into();
    prop_oneof![
        6 => (id(), id(), 1u32..4).prop_map(|(receiver, source, n)| subscribe(receiver, source, n)),
        3 => (id(), id(), 1u32..4, prop::option::of(0u32..3))
            .prop_map(|(receiver, source, n, slot)| subscribe_in(receiver, source, n, slot)),
        4 => (id(), id()).prop_map(|(receiver, source)| ShardCommand::Unsubscribe {
            receiver: EndpointId(receiver),
            source: SourceId(source),
        }),
        2 => (id(), 1u16..9).prop_map(move |(id, port)| ShardCommand::Bind {
            remote: remote(port),
            endpoint: EndpointId(id),
            home: ShardId(0),
        }),
        1 => (id(), 1u16..9).prop_map(move |(id, port)| ShardCommand::Unbind {
            remote: remote(port),
            endpoint: EndpointId(id),
        }),
        2 => (id(), 1u32..4).prop_map(|(id, n)| {
            ShardCommand::SetSources(EndpointId(id), vec![source(id, n)])
        }),
        1 => id().prop_map(|id| ShardCommand::SetSources(EndpointId(id), Vec::new())),
        1 => (id(), any::<bool>()).prop_map(|(id, remb)| {
            ShardCommand::SetMedia(EndpointId(id), Arc::new(MediaParams { remb, ..MediaParams::default() }))
        }),
        1 => id().prop_map(|id| ShardCommand::RemoveEndpoint(EndpointId(id))),
        2 => id().prop_map(|id| ShardCommand::AddEndpoint(EndpointId(id), spec(id))),
    ]
}

proptest! {
    #[test]
    fn commands_in_any_order_leave_no_loose_ends(
        commands in prop::collection::vec(command(), 0..120),
    ) {
        let (mut core, mut out) = (core(), Collected::default());
        let now = Instant::now();
        let mut present = [false; ENDPOINTS as usize];
        for id in 0..ENDPOINTS {
            core.on_command(now, ShardCommand::AddEndpoint(EndpointId(id), spec(id)), &mut out);
            present[id as usize] = true;
        }
        for command in commands {
            // An endpoint is added once in its life.
            match &command {
                ShardCommand::AddEndpoint(id, _) if present[id.0 as usize] => continue,
                ShardCommand::AddEndpoint(id, _) => present[id.0 as usize] = true,
                ShardCommand::RemoveEndpoint(id) => present[id.0 as usize] = false,
                _ => {}
            }
            core.on_command(now, command, &mut out);
            core.assert_consistent();
        }
    }
}

/// A core in which everybody receives everybody, without media.
fn all_to_all(people: u32) -> (Core, Instant) {
    let (mut core, mut out, now) = (core(), Collected::default(), Instant::now());
    for id in 0..people {
        core.on_command(now, ShardCommand::AddEndpoint(EndpointId(id), spec(id)), &mut out);
    }
    for id in 0..people {
        for receiver in (0..people).filter(|receiver| *receiver != id) {
            core.on_command(now, subscribe(receiver, id, 1), &mut out);
        }
    }
    (core, now)
}

#[test]
fn a_large_snapshot_is_made_in_pieces_and_told_whole() {
    const PEOPLE: u32 = 100;
    let (mut core, now) = all_to_all(PEOPLE);
    let (mut out, mut pieces, mut snapshots) = (Collected::default(), 0, Vec::new());
    while core.next_timeout() < now + std::time::Duration::from_millis(2_900) {
        core.on_timeout(core.next_timeout(), &mut out);
        pieces += u32::from(core.survey.is_some());
        snapshots.extend(core.events().filter_map(|event| match event {
            ControlEvent::Media(MediaEvent::Snapshot(snapshot)) => Some(snapshot),
            _ => None,
        }));
    }
    assert_eq!(snapshots.len(), 3);
    assert_eq!(pieces, 3 * 2, "each has taken three ticks");
    for snapshot in snapshots {
        let ids: Vec<_> = snapshot.endpoints.iter().map(|e| e.endpoint.0).collect();
        assert_eq!(ids, (0..PEOPLE).collect::<Vec<_>>());
        for e in &snapshot.endpoints {
            assert_eq!(e.subscriptions.len(), PEOPLE as usize - 1);
        }
    }
}

#[test]
fn who_got_the_same_offer_shares_one_map() {
    let (core, _) = all_to_all(4);
    let maps: Vec<_> = core
        .endpoints
        .values()
        .flat_map(|e| e.receiver.streams.values())
        .map(|s| &s.payload_types)
        .collect();
    assert_eq!(maps.len(), 12);
    assert!(maps.iter().all(|map| Arc::ptr_eq(map, maps[0])));
}

const SENDERS: usize = 12;
const SLOTS: u32 = 3;

/// A receiver keeps no more state than its slots need, and the packet counts of each slot continue,
/// whichever sources occupied them.
#[test]
fn what_a_receiver_holds_is_bounded_by_its_slots() {
    let mut world = sim::World::new(sim::WorldConfig::default());
    for _ in 0..=SENDERS {
        world.join();
    }
    for sender in 0..SENDERS {
        world.publish_to_nobody(sender, MediaType::Video, 2);
    }
    let specs: Vec<_> = (0..SENDERS).map(|s| world.clients[s].tracks[0].spec.clone()).collect();
    let (id, mut sent) = (world.clients[SENDERS].id, [(0, 0); SLOTS as usize]);
    for round in 0..40usize {
        let slot = round % SLOTS as usize;
        if let Some(before) = round.checked_sub(SLOTS as usize) {
            world.unsubscribe(SENDERS, specs[before % SENDERS].id);
        }
        let after = &specs[round % SENDERS];
        world.fill_slot(SENDERS, slot as u32, after);
        world.run(std::time::Duration::from_millis(400));
        world.cores[0].assert_consistent();
        let receiver = &world.cores[0].endpoint_mut(id).unwrap().receiver;
        assert!(receiver.streams.len() + receiver.vacated.count() <= SLOTS as usize);
        let stream = receiver.streams.values().find(|s| s.source == after.id).unwrap();
        assert!(stream.sent() > sent[slot], "{round}");
        assert!(round < 3 || u64::from(stream.packets) < u64::from(stream.sent().0));
        sent[slot] = stream.sent();
    }
    for spec in &specs {
        world.unsubscribe(SENDERS, spec.id);
    }
    let receiver = &world.cores[0].endpoint_mut(id).unwrap().receiver;
    assert_eq!((receiver.streams.len(), receiver.vacated.count()), (0, SLOTS as usize));
}
