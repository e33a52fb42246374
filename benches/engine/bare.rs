//! The bare loop: only seals packets in place and sends them.

use std::{io, net::SocketAddr, time::Instant};

use rialto_engine::{dest::Dest, io::SocketOutbox};
use rialto_sys::{SocketOptions, UdpSocket, thread_cpu_time};
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::{
    PACKET, RECEIVERS, RUN,
    sinks::{Kind, Sinks},
};

/// Sends runs of `run` packets to each receiver in turn, sealed with a key per receiver. Without
/// `gso` the packets are separate messages in the same calls. Returns the CPU time per packet, ns.
pub(crate) fn bare(run: usize, gso: bool, sinks: &Sinks) -> io::Result<f64> {
    let addr = SocketAddr::from(([127, 0, 0, 1], 0));
    let options =
        SocketOptions { reuse_port: true, receive_buffer: 0, send_buffer: 4 << 20, gro: false };
    let mut outbox = SocketOutbox::new(vec![UdpSocket::bind(addr, &options)?], gso);
    let keys: Vec<_> = (0..RECEIVERS as u8).map(key).collect();
    let (start, cpu) = (Instant::now(), thread_cpu_time());
    let mut sequence = 0u64;
    while start.elapsed() < RUN {
        for _ in 0..8 {
            for (key, &remote) in keys.iter().zip(&sinks.addrs) {
                let dest = Dest { remote, local_ip: None, socket: 0 };
                for packet in 0..run as u64 {
                    let room = outbox.reserve(&dest, PACKET + 16).expect("room");
                    seal(key, sequence + packet, room);
                    outbox.commit(PACKET + 16);
                }
            }
            outbox.send();
            sequence += run as u64;
        }
    }
    let cpu = thread_cpu_time().saturating_sub(cpu);
    Ok(cpu.as_nanos() as f64 / outbox.counters().datagrams as f64)
}

fn key(n: u8) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &[n; 16]).expect("16 bytes"))
}

/// Protects what lies in `room` as an RTP packet without extensions.
fn seal(key: &LessSafeKey, sequence: u64, room: &mut [u8]) {
    let (packet, tag) = room.split_at_mut(PACKET);
    let (header, payload) = packet.split_at_mut(12);
    header[..2].copy_from_slice(&[0x80, 96]);
    header[2..4].copy_from_slice(&(sequence as u16).to_be_bytes());
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&sequence.to_be_bytes());
    let nonce = Nonce::assume_unique_for_key(nonce);
    let sealed = key.seal_in_place_separate_tag(nonce, Aad::from(&*header), payload);
    tag.copy_from_slice(sealed.expect("short enough").as_ref());
}

/// Runs one case on CPU 0.
pub(crate) fn on_cpu_0(run: usize, gso: bool, kind: Kind) -> io::Result<f64> {
    crate::on_cpu_0(kind, RECEIVERS, |sinks| bare(run, gso, sinks))
}

/// The table of the bare loop.
pub(crate) fn report() -> io::Result<()> {
    println!("\nbare loop: seal {PACKET} B (GCM), send 1 to {RECEIVERS}, one core");
    println!("{:>24} {:>12} {:>12}", "packets in a GSO run", "packets/s", "CPU ns/packet");
    for (run, gso) in
        [(4, false), (1, true), (2, true), (4, true), (6, true), (8, true), (16, true), (32, true)]
    {
        let cpu_ns = on_cpu_0(run, gso, Kind::Filter)?;
        let label = if gso { run.to_string() } else { "no GSO".into() };
        println!("{label:>24} {:>12.0} {cpu_ns:>12.0}", 1e9 / cpu_ns);
    }
    Ok(())
}

/// Compares the bare loop with different sinks.
pub(crate) fn compare_sinks() -> io::Result<()> {
    println!("\nbare loop by kind of sink: packets/s");
    for kind in [Kind::Filter, Kind::Full, Kind::DrainGro, Kind::Drain] {
        for (run, gso) in [(4, false), (4, true), (16, true)] {
            let cpu_ns = on_cpu_0(run, gso, kind)?;
            println!("{kind:?} {run} {gso} {:>12.0} {cpu_ns:>12.0}", 1e9 / cpu_ns);
        }
    }
    Ok(())
}
