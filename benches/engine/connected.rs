//! Would a connected socket per receiver be cheaper? The kernel keeps its route, whereas it looks
//! up the route for each send on a shared socket; but sends on several sockets cannot share a
//! system call.

use std::{io, net::UdpSocket as StdSocket, time::Instant};

use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};
use rialto_engine::{dest::Dest, io::SocketOutbox};
use rialto_sys::{SocketOptions, UdpSocket, thread_cpu_time};

use crate::{
    PACKET, RUN, on_cpu_0,
    sinks::{Kind, Sinks},
};

/// Receivers of a large call.
const FAN_OUT: usize = 300;
/// Runs to different receivers that the engine sends in one system call.
const TOGETHER: usize = 20;
const LEN: usize = PACKET + 16;

/// CPU time per packet, ns, for runs of several lengths and three ways to send them.
pub(crate) fn report() -> io::Result<()> {
    println!("\none run of packets to each of {FAN_OUT} receivers, one core, without sealing");
    println!(
        "{:>24} {:>20} {:>20} {:>20}",
        "CPU ns/packet: run of", "shared, sendmmsg", "shared, one by one", "connected"
    );
    for run in [1, 2, 6, 16] {
        let [batched, single, connected] = [batched, single, connected]
            .map(|way: Way| on_cpu_0(Kind::Filter, FAN_OUT, |sinks| way(run, sinks)));
        let (batched, single, connected) = (batched?, single?, connected?);
        println!("{run:>24} {batched:>20.0} {single:>20.0} {connected:>20.0}");
    }
    Ok(())
}

type Way = fn(usize, &Sinks) -> io::Result<f64>;

/// Sends until the time is over. `round` sends to everybody and returns the number of packets.
fn measure(mut round: impl FnMut() -> io::Result<u64>) -> io::Result<f64> {
    let (start, cpu) = (Instant::now(), thread_cpu_time());
    let mut packets = 0;
    while start.elapsed() < RUN {
        packets += round()?;
    }
    let cpu = thread_cpu_time().saturating_sub(cpu);
    Ok(cpu.as_nanos() as f64 / packets as f64)
}

fn batched(run: usize, sinks: &Sinks) -> io::Result<f64> {
    let options =
        SocketOptions { reuse_port: true, receive_buffer: 0, send_buffer: 4 << 20, gro: false };
    let socket = UdpSocket::bind(([127, 0, 0, 1], 0).into(), &options)?;
    let mut outbox = SocketOutbox::new(vec![socket], true);
    measure(|| {
        for together in sinks.addrs.chunks(TOGETHER) {
            for &remote in together {
                let dest = Dest { remote, local_ip: None, socket: 0 };
                for _ in 0..run {
                    outbox.reserve(&dest, LEN).expect("room")[0] = 0x80;
                    outbox.commit(LEN);
                }
            }
            outbox.send();
        }
        Ok((run * sinks.addrs.len()) as u64)
    })
}

fn segmented() -> io::Result<StdSocket> {
    let socket = StdSocket::bind(("127.0.0.1", 0))?;
    setsockopt(&socket, UdpGsoSegment, &(LEN as i32))?;
    Ok(socket)
}

fn single(run: usize, sinks: &Sinks) -> io::Result<f64> {
    let (socket, packets) = (segmented()?, vec![0x80; run * LEN]);
    measure(|| {
        for remote in &sinks.addrs {
            socket.send_to(&packets, remote)?;
        }
        Ok((run * sinks.addrs.len()) as u64)
    })
}

fn connected(run: usize, sinks: &Sinks) -> io::Result<f64> {
    let connect = |remote| {
        let socket = segmented()?;
        socket.connect(remote)?;
        Ok(socket)
    };
    let sockets = sinks.addrs.iter().map(connect).collect::<io::Result<Vec<_>>>()?;
    let packets = vec![0x80; run * LEN];
    measure(|| {
        for socket in &sockets {
            socket.send(&packets)?;
        }
        Ok((run * sockets.len()) as u64)
    })
}
