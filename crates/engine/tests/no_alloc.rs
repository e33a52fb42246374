//! In the steady state a shard allocates nothing per packet: ten thousand packets go through
//! ingress, routing, hand-over and egress, with their feedback and retransmissions, under an
//! allocator that counts.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use rialto_engine::{
    BandwidthConfig, MediaEvent,
    core::{ControlEvent, Core, Outbox, PeerBatch},
    dest::Dest,
    sim::{BRIDGE, World, WorldConfig, codec::Mode},
};
use rialto_media::{MediaType, ShardId};
use rialto_rtp::Seq;

thread_local! {
    static CALLS: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Counts what the thread that asked for it allocates and gives back.
struct Counting;

fn count() {
    // The thread's storage may be gone already; nobody counts then.
    let _ = CALLS.try_with(|calls| calls.set(calls.get().map(|n| n + 1)));
}

// SAFETY: every call goes to the system's allocator with the caller's own arguments, and what it
// gives is passed on; counting touches a cell of this thread that is never allocated.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promised us.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count();
        // SAFETY: as the caller promised us.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as the caller promised us.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn counted(run: impl FnOnce()) -> u64 {
    CALLS.set(Some(0));
    run();
    CALLS.take().unwrap_or_default()
}

/// Takes datagrams and forgets them.
struct Nowhere {
    room: Vec<u8>,
    sent: u64,
}

impl Outbox for Nowhere {
    fn reserve(&mut self, _: &Dest, max_len: usize) -> Option<&mut [u8]> {
        self.room.get_mut(..max_len)
    }

    fn commit(&mut self, len: usize) {
        self.sent += u64::from(len > 0);
    }
}

/// A datagram in flight to a shard.
struct Incoming {
    at: Instant,
    shard: usize,
    from: SocketAddr,
    bytes: Vec<u8>,
}

const PACKETS: usize = 10_000;
/// Time between two frames: all packets arrive within the second between two snapshots for control,
/// which are not part of the packets' work, and do allocate.
const INTERVAL: Duration = Duration::from_micros(300);

/// How many packets ago a requested packet was sent: longer than a round trip, since a packet is
/// not retransmitted within one.
const OLD: u16 = 200;

/// After this many packets a lost packet arrives: it was requested by then, and not given up.
const AGAIN: usize = 500;

/// What two senders and their receivers send from `start` on. With losses the last receiver
/// requests a retransmission now and then.
fn traffic(world: &mut World, start: Instant, packets: usize, lossy: bool) -> Vec<Incoming> {
    let (mut all, mut lost) = (Vec::new(), VecDeque::<(usize, Incoming)>::new());
    let (mut at, mut made, mut transport) = (start, 0, [20_000u16; 2]);
    while made < packets {
        for (sender, transport) in transport.iter_mut().enumerate() {
            let since = world.elapsed() + (at - start);
            let from = world.clients[sender].addr;
            let mut tracks = std::mem::take(&mut world.clients[sender].tracks);
            for track in &mut tracks {
                for plain in track.make_frame(since, transport) {
                    made += 1;
                    let bytes = world.clients[sender].seal(&plain);
                    // Every third arrives on the wrong shard, and every fiftieth is lost and
                    // arrives when it was requested.
                    let shard = (sender + usize::from(made % 3 == 0)) % 2;
                    let incoming = Incoming { at, shard, from, bytes };
                    if made % 50 > 0 || !lossy {
                        all.push(incoming);
                    } else {
                        lost.push_back((made + AGAIN, incoming));
                    }
                    let is_due = lost.front().is_some_and(|(due, _)| *due <= made);
                    if is_due && let Some((_, again)) = lost.pop_front() {
                        all.push(Incoming { at, ..again });
                    }
                    if lossy && made % 40 == 0 && track.spec.media == MediaType::Video {
                        // Receivers' numbers begin with 1, and nothing was switched since.
                        let first = track.next_index() - track.made.len() as u64;
                        let seq = Seq((plain.index - first + 1) as u16).wrapping_sub(OLD);
                        all.push(nack(world, at, plain.ssrc, seq));
                    }
                }
            }
            world.clients[sender].tracks = tracks;
        }
        at += INTERVAL;
    }
    all.extend(lost.into_iter().map(|(_, again)| Incoming { at, ..again }));
    all
}

/// The last receiver misses a packet.
fn nack(world: &mut World, at: Instant, ssrc: u32, seq: Seq) -> Incoming {
    let client = world.clients.last_mut().unwrap();
    let bytes = client.rtcp(|w| {
        w.receiver_report(1, &[]).unwrap();
        w.nack(1, ssrc, [seq]).unwrap();
    });
    Incoming { at, shard: 1, from: client.addr, bytes: bytes.unwrap() }
}

/// Does what a shard's loop does around a batch: receive, flush, exchange, timers, events. Returns
/// how often control got an allocation: like snapshots, that is not part of the packets' work.
fn run(
    cores: &mut [Core],
    spares: &mut [PeerBatch],
    out: &mut Nowhere,
    all: &mut [Incoming],
) -> u64 {
    let mut told = 0;
    for Incoming { at, shard, from, bytes } in all {
        for core in cores.iter_mut() {
            while core.next_timeout() <= *at {
                core.on_timeout(core.next_timeout(), out);
            }
        }
        cores[*shard].on_datagram(*at, BRIDGE, *from, bytes);
        // Twice: a batch may cause feedback for the other shard.
        for _ in 0..2 {
            for shard in 0..cores.len() {
                cores[shard].flush(*at, out);
                for to in 0..cores.len() {
                    if cores[shard].take_peer(ShardId(to as u16), &mut spares[shard]) {
                        cores[to].on_peer(*at, &mut spares[shard]);
                    }
                }
                let events = cores[shard].events();
                told += events
                    .filter(|e| matches!(e, ControlEvent::Media(MediaEvent::Allocated(_))))
                    .count();
            }
        }
    }
    told as u64
}

/// Lets time pass until every shard has made its snapshot of this second.
fn after_snapshots(cores: &mut [Core], out: &mut Nowhere) -> Instant {
    let until_snapshot = |core: &mut Core| loop {
        let at = core.next_timeout();
        core.on_timeout(at, out);
        if core.events().any(|event| matches!(event, ControlEvent::Media(MediaEvent::Snapshot(_))))
        {
            return at;
        }
    };
    cores.iter_mut().map(until_snapshot).max().unwrap()
}

/// Eight people on two shards.
fn eight() -> World {
    let mut bandwidth = BandwidthConfig::default();
    // Nobody sends feedback here.
    (bandwidth.initial_bps, bandwidth.max_bps) = (10_000_000_000, 10_000_000_000);
    let mut world = World::new(WorldConfig { shards: 2, bandwidth, ..WorldConfig::default() });
    for _ in 0..8 {
        world.join();
    }
    world
}

#[test]
fn ten_thousand_packets_allocate_nothing() {
    let mut world = eight();
    // What left is remembered by either name.
    (4..8).for_each(|receiver| world.negotiate_congestion_feedback(receiver));
    for sender in 0..2 {
        world.publish(sender, MediaType::Audio, 1);
        world.publish(sender, MediaType::Video, 1);
    }
    let [received, sent, handed_over, rtcp, resent] = steady(&mut world, true, 0);
    assert!(received as usize > PACKETS * 9 / 10, "{received}");
    assert!(sent >= received * 6, "{sent}");
    assert!(handed_over > 1_000 && rtcp > 50 && resent > 50, "{handed_over} {rtcp} {resent}");
}

/// Layers are selected, with descriptors that are read and rewritten.
#[test]
fn ten_thousand_packets_with_layers_allocate_nothing() {
    for mode in [Mode::AV1_L3T3, Mode::VP9_L3T3_KEY, Mode::VP9_L3T3_FLEXIBLE, Mode::VP8_T3] {
        let mut world = eight();
        for sender in 0..2 {
            let source = world.publish_layers(sender, mode);
            for receiver in 4..8 {
                world.bound(receiver, source, Some(180));
            }
        }
        let [received, sent, handed_over, ..] = steady(&mut world, false, 16);
        println!("{}: {received} in, {sent} out", mode.name);
        assert!(received as usize >= PACKETS && handed_over > 1_000, "{received} {handed_over}");
        // Half of seven receivers get a part.
        assert!(sent > received && sent < received * 5, "{}: {sent} of {received}", mode.name);
    }
}

/// Runs a world for two seconds, and then packets until everything that is allocated once exists.
/// Returns counts of what follows: received, sent, handed over, RTCP, retransmitted. Rings and
/// batches may grow `growth` times: the packets of three encodings fill three rings, each later
/// than those of one do.
fn steady(world: &mut World, lossy: bool, growth: u64) -> [u64; 5] {
    world.run(Duration::from_secs(2));

    let mut spares: Vec<_> = (0..2).map(|shard| PeerBatch::new(ShardId(shard))).collect();
    let mut out = Nowhere { room: vec![0; 2_048], sent: 0 };
    let start = world.now + Duration::from_millis(5);
    let mut warm_up = traffic(world, start, 2 * PACKETS, lossy);
    run(&mut world.cores, &mut spares, &mut out, &mut warm_up);
    let begin = after_snapshots(&mut world.cores, &mut out);
    let mut measured = traffic(world, begin, PACKETS, lossy);
    let cores = &mut world.cores;

    let totals = |cores: &[Core]| {
        let sum = |of: fn(&Core) -> u64| cores.iter().map(of).sum::<u64>();
        [
            sum(|c| c.totals.rtp_received),
            sum(|c| c.totals.rtp_sent),
            sum(|c| c.totals.handed_over),
            sum(|c| c.totals.rtcp_sent),
            sum(|c| c.totals.retransmissions_sent),
        ]
    };
    let before = totals(cores);
    let mut told = 0;
    let calls = counted(|| told = run(cores, &mut spares, &mut out, &mut measured));
    let after = totals(cores);
    let passed: [u64; 5] = std::array::from_fn(|n| after[n] - before[n]);
    let [received, sent, handed_over, rtcp, resent] = passed;
    println!("{received} in, {sent} out, {handed_over} handed over, {rtcp} RTCP, {resent} again");
    // A box and a list, allocated and freed.
    let allowed = 4 * told..=4 * told + growth;
    assert!(allowed.contains(&calls), "{calls} calls of the allocator, {told} tellings");
    assert!(told < 50, "{told}");
    passed
}
