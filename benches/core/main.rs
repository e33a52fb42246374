//! The cost of a shard's core per forwarded packet, beside the raw cipher alone. Frames of several
//! packets arrive protected; the same packets leave, protected anew for each receiver, in the
//! engine's send buffer. No sockets; virtual time, with its timers.
//!
//! The time per forwarded packet includes its share of the work done once for all receivers. Times
//! are CPU times of the thread, which other load on the machine disturbs less; the raw cipher is
//! measured right before each shape, so that remaining disturbance affects both alike.

mod call;
#[path = "../rig.rs"]
mod rig;

use std::{hint::black_box, time::Duration};

use call::{Call, OUT_HEADER, PACKET, PAYLOAD};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rialto_sys::thread_cpu_time;
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

/// Packets that the raw cipher seals between two clock readings: a frame to 20 receivers.
const RAW: u64 = 120;

fn core(c: &mut Criterion) {
    shape(c, "1 to 20", Call::webinar(1, 20));
    shape(c, "1 to 300", Call::webinar(1, 300));
    shape(c, "10 to 10", Call::meeting(10));
}

fn shape(c: &mut Criterion, name: &str, mut call: Call) {
    let mut group = c.benchmark_group(format!("core/{PACKET}/{name}"));
    let mut raw = Raw::new();
    group.throughput(Throughput::Elements(RAW));
    group.bench_function("raw cipher", |b| {
        b.iter_custom(|rounds| (0..rounds).map(|_| raw.round()).sum::<Duration>());
    });
    group.throughput(Throughput::Elements(call.forwarded()));
    group.bench_function("rialto", |b| {
        b.iter_custom(|rounds| (0..rounds).map(|_| call.round()).sum::<Duration>());
    });
    group.finish();
}

/// The cipher, and a packet that lies still.
struct Raw {
    key: LessSafeKey,
    header: [u8; OUT_HEADER],
    payload: [u8; PAYLOAD],
    index: u64,
}

impl Raw {
    fn new() -> Self {
        let key = UnboundKey::new(&AES_128_GCM, &[0x42; 16]).expect("16 bytes");
        Self {
            key: LessSafeKey::new(key),
            header: [0x17; OUT_HEADER],
            payload: [0x17; PAYLOAD],
            index: 0,
        }
    }

    fn round(&mut self) -> Duration {
        let start = thread_cpu_time();
        for _ in 0..RAW {
            self.index += 1;
            let mut nonce = [0; 12];
            nonce[4..].copy_from_slice(&self.index.to_be_bytes());
            let tag = self.key.seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(black_box(&self.header)),
                black_box(&mut self.payload),
            );
            let _ = black_box(tag.expect("short enough"));
        }
        thread_cpu_time().saturating_sub(start)
    }
}

criterion_group!(benches, core);
criterion_main!(benches);
