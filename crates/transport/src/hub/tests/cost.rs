//! The cost of many endpoints on one hub. `TRANSPORTS=1000 cargo test --release --lib
//! many_endpoints -- --nocapture` prints it.

use std::{fs, time::Duration, time::Instant};

use super::{world::*, *};

/// Half of the endpoints.
fn endpoints() -> u32 {
    std::env::var("TRANSPORTS").ok().and_then(|n| n.parse().ok()).unwrap_or(20)
}

fn resident_kib() -> i64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// CPU time of this thread.
fn cpu() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split_whitespace().next().unwrap().parse().unwrap())
}

/// Connects each endpoint with a client of its own, which stays until all are connected.
fn connect_all(mut bridge: Hub, ids: std::ops::Range<u32>, start: Instant) -> (Hub, Instant) {
    let mut clients = Vec::new();
    let mut bound = std::collections::BTreeMap::new();
    let mut end = start;
    for index in ids {
        let id = EndpointId(index);
        let local = format!("10.1.{}.{}:5000", index / 250, index % 250 + 1);
        let client = hub(&[&local], TransportConfig::default(), index as u8, start);
        // All connect within the same second.
        let mut world = World::with_hubs(u64::from(index), start, bridge, client);
        world.sides[BRIDGE].bound = bound;
        world.connect(id, Setup::Active);
        assert!(world.until_ready(id, 5));
        end = end.max(world.now);
        let [side, peer] = world.sides;
        bridge = side.hub;
        bound = side.bound;
        clients.push(peer.hub);
    }
    (bridge, end)
}

#[test]
fn many_endpoints_share_a_hub() {
    let count = endpoints();
    let start = Instant::now();
    let bridge = hub(&[SERVER], TransportConfig::default(), 1, start);
    let (empty, before) = (resident_kib(), cpu());
    let (bridge, _) = connect_all(bridge, 0..count, start);
    let spent = cpu().saturating_sub(before).as_secs_f64() * 1e3 / f64::from(count);
    let first = resident_kib();
    // The first clients left enough for the second ones, so the rest is the bridge's cost.
    let (mut bridge, mut now) = connect_all(bridge, count..2 * count, start);
    let per = |kib: i64| kib as f64 / f64::from(count);
    println!("bridge and client together: {spent:.2} ms CPU to connect");
    println!("bridge and client together: {:.1} KiB", per(first - empty));
    println!("bridge: {:.1} KiB for each connected endpoint", per(resident_kib() - first));

    // Ten seconds of checks without answers: more of them than in normal operation.
    let (before, end) = (cpu(), now + Duration::from_secs(10));
    let (mut wakes, mut sent) = (0, 0);
    while let Some(next) = bridge.poll_timeout().filter(|next| *next < end) {
        now = now.max(next);
        bridge.handle_timeout(now);
        wakes += 1;
        while let Some(output) = bridge.poll_output() {
            sent += i32::from(matches!(output, Output::Command(TransportCommand::Transmit { .. })));
        }
    }
    let spent = cpu().saturating_sub(before).as_secs_f64() * 1e6 / 10.0 / f64::from(2 * count);
    println!("own checks: {spent:.1} µs CPU per endpoint and second, {wakes} wakes, {sent} sent");
    assert!(sent >= 2 * count as i32, "each is asked whether it is still there: {sent}");
}
