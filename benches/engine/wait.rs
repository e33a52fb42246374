//! How should a shard wait: `ppoll` in a thread of its own, or a tokio current-thread runtime? Runs
//! the same forwarding without encryption under both, and measures how precisely each waits for a
//! quarter of a millisecond, which is how long the engine holds video packets for the rest of a
//! frame.

use std::{
    io,
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use rialto_engine::{dest::Dest, io::SocketOutbox};
use rialto_sys::{
    PollFd, RecvBatch, SocketOptions, UdpSocket, poll, set_affinity, set_timer_slack,
    thread_cpu_time,
};
use tokio::io::Interest;

use crate::{
    PACKET, RECEIVERS, RUN,
    latency::Latencies,
    sinks::{Kind, Sinks},
};

/// The wait that is measured.
const HOLD: Duration = Duration::from_micros(250);

/// Longest wait of a loop.
const IDLE: Duration = Duration::from_millis(10);

/// The result of a forwarding loop.
struct Outcome {
    cpu_ns: f64,
    latencies: Latencies,
}

/// The forwarding that both loops do.
struct Forwarder {
    outbox: SocketOutbox,
    slots: RecvBatch,
    remotes: Vec<SocketAddr>,
    epoch: Instant,
    latencies: Latencies,
    cpu: Duration,
}

impl Forwarder {
    fn new(socket: UdpSocket, remotes: Vec<SocketAddr>, epoch: Instant) -> Self {
        Self {
            outbox: SocketOutbox::new(vec![socket], true),
            slots: RecvBatch::new(32, 2_048),
            remotes,
            epoch,
            latencies: Latencies::default(),
            cpu: thread_cpu_time(),
        }
    }

    /// Forwards what waits. Returns false if there may be more.
    fn tick(&mut self) -> io::Result<bool> {
        let sockets = self.outbox.sockets().clone();
        self.slots.recv(&sockets[0])?;
        for &remote in &self.remotes {
            for datagram in self.slots.datagrams() {
                let dest = Dest { remote, local_ip: None, socket: 0 };
                let room = self.outbox.reserve(&dest, datagram.bytes.len()).expect("room");
                room.copy_from_slice(datagram.bytes);
                self.outbox.commit(datagram.bytes.len());
            }
        }
        self.outbox.send();
        let now = self.epoch.elapsed();
        for datagram in self.slots.datagrams() {
            self.latencies.add_since(datagram.bytes, now);
        }
        Ok(!self.slots.is_full())
    }

    fn outcome(self) -> Outcome {
        let cpu = thread_cpu_time().saturating_sub(self.cpu);
        let packets = self.outbox.counters().datagrams.max(1) as f64;
        Outcome { cpu_ns: cpu.as_nanos() as f64 / packets, latencies: self.latencies }
    }
}

fn with_ppoll(mut forwarder: Forwarder, stop: &AtomicBool) -> io::Result<Outcome> {
    set_timer_slack(Duration::from_nanos(1))?;
    let sockets = forwarder.outbox.sockets().clone();
    let mut fds = [PollFd::new(&sockets[0])];
    while !stop.load(Ordering::Relaxed) {
        poll(&mut fds, Some(IDLE))?;
        if fds[0].is_ready() {
            while !forwarder.tick()? {}
        }
    }
    Ok(forwarder.outcome())
}

fn with_tokio(mut forwarder: Forwarder, stop: &AtomicBool) -> io::Result<Outcome> {
    set_timer_slack(Duration::from_nanos(1))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let sockets = forwarder.outbox.sockets().clone();
    runtime.block_on(async {
        let socket = std::os::fd::AsFd::as_fd(&sockets[0]).try_clone_to_owned()?;
        let socket = tokio::net::UdpSocket::from_std(socket.into())?;
        while !stop.load(Ordering::Relaxed) {
            let Ok(ready) = tokio::time::timeout(IDLE, socket.readable()).await else { continue };
            ready?;
            while !forwarder.tick()? {}
            // The socket is empty: this clears tokio's readiness.
            let empty = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
            let _ = socket.try_io(Interest::READABLE, empty);
        }
        Ok(forwarder.outcome())
    })
}

/// Paces single packets at `rate` a second from CPU 1 to a loop on CPU 0.
fn run(
    rate: u32,
    forward: fn(Forwarder, &AtomicBool) -> io::Result<Outcome>,
) -> io::Result<Outcome> {
    let sinks = Sinks::new(Kind::Filter, RECEIVERS)?;
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let options =
        SocketOptions { reuse_port: false, receive_buffer: 4 << 20, send_buffer: 0, gro: false };
    let socket = UdpSocket::bind(loopback, &options)?;
    let addr = socket.local_addr();
    let epoch = Instant::now();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let measured = scope.spawn(|| {
            set_affinity(0)?;
            forward(Forwarder::new(socket, sinks.addrs.clone(), epoch), &stop)
        });
        scope.spawn(|| {
            set_affinity(1)?;
            let client = std::net::UdpSocket::bind(loopback)?;
            let mut packet = [0; PACKET];
            let interval = Duration::from_secs(1) / rate;
            let mut next = epoch.elapsed();
            while next < RUN {
                while epoch.elapsed() < next {
                    std::hint::spin_loop();
                }
                Latencies::stamp(&mut packet, epoch.elapsed());
                client.send_to(&packet, addr)?;
                next += interval;
            }
            stop.store(true, Ordering::Relaxed);
            Ok::<_, io::Error>(())
        });
        measured.join().expect("the loop does not panic")
    })
}

/// How late waits of [`HOLD`] end.
fn holds() -> io::Result<[(&'static str, Latencies); 2]> {
    const WAITS: usize = 1_000;
    set_timer_slack(Duration::from_nanos(1))?;
    let mut ppoll = Latencies::default();
    for _ in 0..WAITS {
        let start = Instant::now();
        poll(&mut [], Some(HOLD))?;
        ppoll.add(start.elapsed());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tokio = runtime.block_on(async {
        let mut waits = Latencies::default();
        for _ in 0..WAITS {
            let start = Instant::now();
            tokio::time::sleep(HOLD).await;
            waits.add(start.elapsed());
        }
        waits
    });
    Ok([("ppoll", ppoll), ("tokio", tokio)])
}

/// The table of both.
pub(crate) fn report() -> io::Result<()> {
    println!("\nwaiting: ppoll or tokio; single packets in, 1 to {RECEIVERS}, not encrypted");
    println!(
        "{:>8} {:>12} {:>14} {:>10} {:>10}",
        "", "packets/s in", "CPU ns/packet", "p50", "p99"
    );
    for rate in [1_000, 5_000, 15_000] {
        for (name, forward) in
            [("ppoll", with_ppoll as fn(_, &_) -> _), ("tokio", with_tokio as fn(_, &_) -> _)]
        {
            let Outcome { cpu_ns, mut latencies } = run(rate, forward)?;
            let [p50, p99] = [0.5, 0.99].map(|q| latencies.quantile(q));
            println!("{name:>8} {rate:>12} {cpu_ns:>14.0} {p50:>10.1?} {p99:>10.1?}");
        }
    }
    println!("a wait of {HOLD:?} takes");
    for (name, mut waits) in holds()? {
        let [p50, p99] = [0.5, 0.99].map(|q| waits.quantile(q));
        println!("{name:>8} {p50:>38.1?} {p99:>10.1?}");
    }
    Ok(())
}
