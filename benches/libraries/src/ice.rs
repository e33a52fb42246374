//! ICE agents: `is` 0.12 and rtc-ice 0.21.
//!
//! Pairs of agents with a host candidate each find each other and then keep consent fresh, in virtual
//! time. The controlled one learns the other's address by signalling, the controlling one only from
//! checks, as is the case of a bridge whose clients are behind NAT. Both send a consent check every 5 s.

mod agents;

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use agents::{Agent, Is, Rtc};
use rialto_sys::thread_cpu_time;

use crate::{Cell, Part, resident_kib};

/// The comparison.
pub const PART: Part = Part {
    name: "ice",
    columns: &[
        "connected agents",
        "to connect, µs CPU/agent",
        "to connect, packets/agent",
        "memory, KiB/agent",
        "idle, µs CPU/agent/s",
        "idle, packets/agent/s",
        "idle, wake-ups/agent/s",
    ],
    rows: &["is", "rtc-ice"],
    measure,
};

const PAIRS: usize = 1_000;
const AGENTS: f64 = 2.0 * PAIRS as f64;

/// Interval at which agents are driven.
const TICK: Duration = Duration::from_millis(10);

/// Time in which all connect.
const CONNECT: Duration = Duration::from_secs(10);

/// Time in which they are watched afterwards.
const IDLE: Duration = Duration::from_secs(120);

fn measure(row: &str) -> io::Result<Vec<Cell>> {
    let start = Instant::now();
    match row {
        "is" => run(start, |addrs| Is::pair(addrs, start)),
        "rtc-ice" => {
            let shared = Rtc::shared();
            run(start, |addrs| Rtc::pair(&shared, addrs, start))
        }
        _ => Err(io::Error::other("no such agent")),
    }
}

fn run<A: Agent>(
    start: Instant,
    make: impl Fn([SocketAddr; 2]) -> [A; 2],
) -> io::Result<Vec<Cell>> {
    let (memory, cpu) = (resident_kib()?, thread_cpu_time());
    let pairs = (0..PAIRS).map(addresses);
    let pairs = pairs.map(|addrs| Pair { addrs, agents: make(addrs) }).collect();
    let mut world = World { pairs, now: start, wakes: 0, packets: 0 };
    world.run_until(start + CONNECT);
    let connected = world.pairs.iter().flat_map(|pair| &pair.agents).filter(|a| a.is_connected());
    let connected = connected.count() as f64;
    let (packets, spent) = (world.packets, thread_cpu_time().saturating_sub(cpu));

    (world.wakes, world.packets) = (0, 0);
    let cpu = thread_cpu_time();
    world.run_until(start + CONNECT + IDLE);
    let idle = thread_cpu_time().saturating_sub(cpu);
    let agent_seconds = AGENTS * IDLE.as_secs_f64();
    Ok(vec![
        Cell(connected, 0),
        Cell::micros(spent, AGENTS, 0),
        Cell::share(packets, AGENTS),
        Cell((resident_kib()? - memory) / AGENTS, 1),
        Cell::micros(idle, agent_seconds, 2),
        Cell(world.packets as f64 / agent_seconds, 2),
        Cell::share(world.wakes, agent_seconds),
    ])
}

/// Of the controlling agent and of the controlled one.
fn addresses(index: usize) -> [SocketAddr; 2] {
    let (high, low) = ((index / 250) as u8, (index % 250) as u8 + 1);
    [0, 1].map(|side| SocketAddr::from(([10, side, high, low], 5_000)))
}

struct Pair<A> {
    addrs: [SocketAddr; 2],
    agents: [A; 2],
}

impl<A: Agent> Pair<A> {
    /// Wakes the agents that are due, and carries packets until there are none. Returns the number
    /// of wake-ups and of packets.
    fn tick(&mut self, now: Instant) -> (u64, u64) {
        let (mut wakes, mut packets) = (0, 0);
        for agent in &mut self.agents {
            if agent.poll_timeout().is_none_or(|due| due <= now) {
                agent.handle_timeout(now);
                wakes += 1;
            }
        }
        loop {
            let before = packets;
            for (from, to) in [(0, 1), (1, 0)] {
                while let Some(packet) = self.agents[from].poll_packet() {
                    self.agents[to].handle(now, self.addrs[from], self.addrs[to], &packet);
                    packets += 1;
                }
            }
            if packets == before {
                return (wakes, packets);
            }
        }
    }
}

struct World<A> {
    pairs: Vec<Pair<A>>,
    now: Instant,
    wakes: u64,
    packets: u64,
}

impl<A: Agent> World<A> {
    fn run_until(&mut self, end: Instant) {
        while self.now < end {
            self.now += TICK;
            for pair in &mut self.pairs {
                let (wakes, packets) = pair.tick(self.now);
                self.wakes += wakes;
                self.packets += packets;
            }
        }
    }
}
