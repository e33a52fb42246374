//! The whole engine over loopback: one sender, [`RECEIVERS`] receivers, one shard.
//!
//! The sender's packets are paced in frames, or follow each other as fast as the engine forwards
//! them. One receiver is real, and measures latency and the lengths of GSO runs; the others are
//! sinks.

use std::{
    fs, io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use rialto_engine::{BandwidthConfig, Control, EndpointSpec, Engine, EngineConfig, start};
use rialto_media::{
    Codec, EncodingSpec, EndpointId, Extension, MediaParams, MediaType, PayloadType, ShardId,
    SourceId, SourceSpec, SubscriptionParams,
};
use rialto_srtp::{Keying, Profile, RxContext, RxStream, TxContext};
use rialto_sys::{
    Message, PollFd, RecvBatch, SendBatch, SocketOptions, UdpSocket, poll, set_affinity,
};
use serde_json::json;

use crate::{
    PACKET, RECEIVERS, RUN, bare,
    latency::Latencies,
    sinks::{Kind, Sinks},
};

const PROFILE: Profile = Profile::AeadAes128Gcm;
const SENDER: EndpointId = EndpointId(0);
const SOURCE: SourceId = SourceId(1);
const SSRC: u32 = 0x5eed_0001;
const PT: u8 = 100;

/// Packets of a video frame: 1.5 Mbit/s at 30 frames per second.
const FRAME: usize = 6;

/// Packets between sender and real receiver when the engine is to be kept busy.
const WINDOW: u64 = 96;

/// RTP header with the two extensions that a browser puts on video: fixed part, header of one-byte
/// extensions, abs-send-time, transport-wide number, padding.
const HEADER: usize = 12 + 4 + 4 + 3 + 1;

/// The result of a run.
struct Outcome {
    /// Packets received per second.
    rate_in: f64,
    /// CPU time of the shard per forwarded packet, ns.
    cpu_ns: f64,
    /// Fraction of the wall clock time for which the shard was busy.
    busy: f64,
    /// Fraction of packets that did not reach the real receiver.
    lost: f64,
    latencies: Latencies,
    /// Number of GSO runs by their number of packets.
    runs: [u64; 65],
}

impl Outcome {
    fn mean_run(&self) -> f64 {
        let (mut packets, mut runs) = (0, 0);
        for (len, &count) in self.runs.iter().enumerate() {
            packets += len as u64 * count;
            runs += count;
        }
        packets as f64 / runs.max(1) as f64
    }
}

/// The table of the whole engine, and the ratio to the bare loop.
pub(crate) fn report() -> io::Result<()> {
    println!("\nwhole engine: frames of {FRAME} x {PACKET} B (GCM), 1 to {RECEIVERS}, one core");
    println!(
        "{:>10} {:>10} {:>10} {:>6} {:>7} {:>9} {:>9} {:>9} {:>8} {:>7}",
        "in, p/s", "out, p/s", "CPU ns/p", "busy", "lost", "p50", "p99", "max", "run", "ratio"
    );
    let mut rows = Vec::new();
    for rate in [Some(170), Some(1_000), Some(5_000), Some(10_000), Some(15_000), None] {
        let mut outcome = run(rate)?;
        let mean = outcome.mean_run();
        let bare_ns = bare::on_cpu_0(mean.round().max(1.0) as usize, true, Kind::Filter)?;
        let [p50, p99, max] = [0.5, 0.99, 1.0].map(|q| outcome.latencies.quantile(q));
        println!(
            "{:>10.0} {:>10.0} {:>10.0} {:>5.0}% {:>6.2}% {p50:>9.1?} {p99:>9.1?} {max:>9.1?} {mean:>8.1} {:>7.2}",
            outcome.rate_in,
            outcome.rate_in * RECEIVERS as f64,
            outcome.cpu_ns,
            outcome.busy * 100.0,
            outcome.lost * 100.0,
            bare_ns / outcome.cpu_ns,
        );
        rows.push(json!({
            "shape": format!("1 to {RECEIVERS}"),
            "full_load": rate.is_none(),
            "rate_in": outcome.rate_in,
            "cpu_ns": outcome.cpu_ns,
            "bare_ns": bare_ns,
            "mean_run": mean,
            "p50_us": p50.as_secs_f64() * 1e6,
            "p99_us": p99.as_secs_f64() * 1e6,
        }));
        if rate.is_none() {
            print_summary(&outcome, bare_ns);
        }
    }
    write_for_summary(&rows.into())
}

/// Writes the table where `summary` finds it: `<target>/bench/engine.json`.
fn write_for_summary(rows: &serde_json::Value) -> io::Result<()> {
    let executable = std::env::current_exe()?;
    let Some(target) = executable.ancestors().nth(3) else { return Ok(()) };
    let dir = target.join("bench");
    fs::create_dir_all(&dir)?;
    fs::write(dir.join("engine.json"), rows.to_string())
}

fn print_summary(outcome: &Outcome, bare_ns: f64) {
    println!("GSO runs under full load (packets: share of packets)");
    let total: u64 = outcome.runs.iter().enumerate().map(|(len, n)| len as u64 * n).sum();
    for (len, &count) in outcome.runs.iter().enumerate().filter(|(_, n)| **n > 0) {
        let share = len as f64 * count as f64 / total.max(1) as f64;
        if share >= 0.01 {
            println!("{len:>10}: {:>5.1}%", share * 100.0);
        }
    }
    println!(
        "under full load: engine {:.0} packets/s per core, bare loop with runs of {:.0}: {:.0}; \
         ratio {:.2} (at least 0.50 is wanted)",
        1e9 / outcome.cpu_ns,
        outcome.mean_run(),
        1e9 / bare_ns,
        bare_ns / outcome.cpu_ns,
    );
}

/// Runs the engine on CPU 0 and the sender on CPU 1. `rate`: incoming packets per second; `None`:
/// as many as it handles.
fn run(rate: Option<u32>) -> io::Result<Outcome> {
    let sinks = Sinks::new(Kind::Filter, RECEIVERS - 1)?;
    let starting = std::thread::spawn(|| {
        // The engine's threads inherit this.
        set_affinity(0)?;
        let config = EngineConfig {
            bind: vec![loopback()],
            shards: 1,
            socket_buffer: 4 << 20,
            // The receivers send no feedback, so they are sent what the initial estimate allows.
            bandwidth: BandwidthConfig {
                initial_bps: LINK_BPS,
                max_bps: LINK_BPS,
                ..BandwidthConfig::default()
            },
            ..EngineConfig::default()
        };
        start(&config).map_err(io::Error::other)
    });
    let running = starting.join().expect("starting does not panic")?;
    std::thread::scope(|scope| {
        let measured = scope.spawn(|| {
            set_affinity(1)?;
            let mut traffic = Traffic::new(&running.engine, &sinks)?;
            traffic.warm_up()?;
            traffic.run(rate)
        });
        measured.join().expect("the generator does not panic")
    })
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// The sender and the real receiver.
struct Traffic {
    engine: SocketAddr,
    sender: UdpSocket,
    seal: TxContext,
    batch: SendBatch,
    buffer: Vec<u8>,
    sequence: u64,
    receiver: UdpSocket,
    open: RxContext,
    stream: Option<RxStream>,
    slots: RecvBatch,
    received: u64,
    epoch: Instant,
    latencies: Latencies,
    runs: [u64; 65],
}

impl Traffic {
    fn new(engine: &Engine, sinks: &Sinks) -> io::Result<Self> {
        let options = SocketOptions {
            reuse_port: false,
            receive_buffer: 4 << 20,
            send_buffer: 4 << 20,
            gro: true,
        };
        let sender = UdpSocket::bind(loopback(), &options)?;
        let receiver = UdpSocket::bind(loopback(), &options)?;
        let local = engine.local_addrs()[0];
        add_endpoint(engine, SENDER, sender.local_addr(), local);
        engine.send(Control::SetSources(
            SENDER,
            vec![SourceSpec {
                id: SOURCE,
                name: Arc::from("bench-v0"),
                media: MediaType::Video,
                encodings: vec![EncodingSpec { ssrc: SSRC, rtx: None }],
            }],
        ));
        let remotes = std::iter::once(receiver.local_addr()).chain(sinks.addrs.iter().copied());
        for (remote, id) in remotes.zip(1..) {
            add_endpoint(engine, EndpointId(id), remote, local);
            engine.send(Control::Subscribe {
                receiver: EndpointId(id),
                source: SOURCE,
                terms: SubscriptionParams::default(),
            });
        }
        Ok(Self {
            engine: local,
            sender,
            seal: TxContext::new(PROFILE, &keying(SENDER).receive).map_err(io::Error::other)?,
            batch: SendBatch::new(false),
            buffer: vec![0; FRAME * (PACKET + 16)],
            sequence: 0,
            receiver,
            open: RxContext::new(PROFILE, &keying(EndpointId(1)).send).map_err(io::Error::other)?,
            stream: None,
            // One slot, so that each call brings one GSO run.
            slots: RecvBatch::new(1, 65_536),
            received: 0,
            epoch: Instant::now(),
            latencies: Latencies::default(),
            runs: [0; 65],
        })
    }

    /// Sends keyframes until one gets through.
    fn warm_up(&mut self) -> io::Result<()> {
        for _ in 0..1_000 {
            self.send_frame(true)?;
            poll(&mut [PollFd::new(&self.receiver)], Some(Duration::from_millis(10)))?;
            self.receive()?;
            if self.received > 100 {
                return Ok(());
            }
        }
        Err(io::Error::other("the engine forwards nothing"))
    }

    fn run(&mut self, rate: Option<u32>) -> io::Result<Outcome> {
        (self.received, self.runs) = (0, [0; 65]);
        self.latencies = Latencies::default();
        let shard = shard_thread()?;
        let first = self.sequence;
        let (start, cpu) = (Instant::now(), cpu_time(shard)?);
        let mut next = start;
        let mut stalled = 0;
        while start.elapsed() < RUN {
            self.receive()?;
            let due = if let Some(rate) = rate {
                let due = Instant::now() >= next;
                if due {
                    next += Duration::from_secs(FRAME as u64) / rate;
                }
                due
            } else {
                // Losses must not stop the sender for good.
                stalled += 1;
                self.sequence - first < self.received + WINDOW || stalled > 100_000
            };
            if due {
                stalled = 0;
                self.send_frame(false)?;
            }
        }
        let (wall, cpu) = (start.elapsed(), cpu_time(shard)?.saturating_sub(cpu));
        poll(&mut [PollFd::new(&self.receiver)], Some(Duration::from_millis(5)))?;
        self.receive()?;
        let sent = (self.sequence - first) as f64;
        let forwarded = self.received as f64 * RECEIVERS as f64;
        Ok(Outcome {
            rate_in: sent / wall.as_secs_f64(),
            cpu_ns: cpu.as_nanos() as f64 / forwarded.max(1.0),
            busy: cpu.as_secs_f64() / wall.as_secs_f64(),
            lost: 1.0 - self.received as f64 / sent,
            latencies: std::mem::take(&mut self.latencies),
            runs: self.runs,
        })
    }

    /// Sends the packets of one frame, each as a datagram of its own.
    fn send_frame(&mut self, keyframe: bool) -> io::Result<()> {
        let mut messages = [Message {
            remote: self.engine,
            local_ip: None,
            start: 0,
            len: PACKET + 16,
            segment_size: 0,
        }; FRAME];
        let timestamp = (self.epoch.elapsed().as_micros() * 9 / 100) as u32;
        for (at, message) in messages.iter_mut().enumerate() {
            message.start = at * (PACKET + 16);
            let packet = &mut self.buffer[message.start..][..PACKET + 16];
            write_packet(packet, self.sequence, timestamp, (at == 0, at == FRAME - 1), keyframe);
            Latencies::stamp(&mut packet[..PACKET], self.epoch.elapsed());
            // From the roll-over counter's start at zero.
            self.seal
                .seal_rtp(packet, HEADER, PACKET, self.sequence, SSRC)
                .map_err(io::Error::other)?;
            self.sequence += 1;
        }
        self.batch.send(&self.sender, &self.buffer, &messages);
        Ok(())
    }

    /// Receives what arrived at the real receiver, and discards the engine's feedback to the
    /// sender.
    fn receive(&mut self) -> io::Result<()> {
        while self.slots.recv(&self.receiver)? > 0 {
            let now = self.epoch.elapsed();
            let mut run = 0;
            for datagram in self.slots.datagrams() {
                // RTCP (RFC 5761 section 4).
                if (192..224).contains(&datagram.bytes[1]) {
                    continue;
                }
                let header = header_len(datagram.bytes);
                let opened = self
                    .open
                    .open_rtp(&mut self.stream, datagram.bytes, header)
                    .map_err(io::Error::other)?;
                self.latencies.add_since(&datagram.bytes[..opened.len], now);
                run += 1;
            }
            self.received += run as u64;
            if run > 0 {
                self.runs[run.min(64)] += 1;
            }
        }
        self.slots.recv(&self.sender)?;
        Ok(())
    }
}

/// A VP8 packet with the extensions of a browser.
fn write_packet(
    packet: &mut [u8],
    sequence: u64,
    timestamp: u32,
    (first, last): (bool, bool),
    keyframe: bool,
) {
    packet[0] = 0x90;
    packet[1] = PT | if last { 0x80 } else { 0 };
    packet[2..4].copy_from_slice(&(sequence as u16).to_be_bytes());
    packet[4..8].copy_from_slice(&timestamp.to_be_bytes());
    packet[8..12].copy_from_slice(&SSRC.to_be_bytes());
    packet[12..16].copy_from_slice(&[0xbe, 0xde, 0, 2]);
    packet[16] = 0x32;
    packet[17..20].copy_from_slice(&timestamp.to_be_bytes()[1..]);
    packet[20] = 0x51;
    packet[21..23].copy_from_slice(&(sequence as u16).to_be_bytes());
    packet[23] = 0;
    // RFC 7741: descriptor (start of a partition), then, in a keyframe, tag, start code and size.
    let inverse_keyframe = u8::from(!keyframe);
    packet[24..35].copy_from_slice(&[
        if first { 0x10 } else { 0 },
        inverse_keyframe,
        0,
        0,
        0x9d,
        0x01,
        0x2a,
        0,
        5,
        0xd0,
        2,
    ]);
}

/// Length of an RTP header with extensions.
/// More than any receiver is sent.
const LINK_BPS: u64 = 10_000_000_000;

fn header_len(packet: &[u8]) -> usize {
    if packet[0] & 0x10 == 0 {
        return 12;
    }
    16 + 4 * usize::from(u16::from_be_bytes([packet[14], packet[15]]))
}

fn add_endpoint(engine: &Engine, id: EndpointId, remote: SocketAddr, local: SocketAddr) {
    let label = Arc::from(format!("bench/{}", id.0));
    engine.send(Control::AddEndpoint(
        id,
        EndpointSpec {
            label,
            conference: 0,
            audio_ssrc: 0xa000_0000 + id.0,
            video_ssrc: 0xb000_0000 + id.0,
        },
    ));
    let media = MediaParams {
        payload_types: vec![PayloadType {
            pt: PT,
            codec: Codec::Vp8,
            media: MediaType::Video,
            clock_rate: 90_000,
            profile: String::new(),
            nack: true,
            pli: true,
            fir: true,
            transport_cc: true,
        }],
        extensions: vec![(3, Extension::AbsSendTime), (5, Extension::TransportCc)],
        extmap_allow_mixed: true,
        congestion_feedback: false,
        remb: false,
    };
    engine.send(Control::SetMedia(id, Arc::new(media)));
    engine.send(Control::Bind { endpoint: id, remote, local, shard: ShardId(0) });
    engine.send(Control::Select { endpoint: id, remote, local });
    engine.send(Control::SetKeys(id, keying(id)));
}

fn keying(id: EndpointId) -> Keying {
    let master = |salt: u8| vec![id.0 as u8 ^ salt; PROFILE.key_len() + PROFILE.salt_len()];
    Keying { profile: PROFILE, receive: master(0x55), send: master(0xaa) }
}

/// The task directory of the only shard.
fn shard_thread() -> io::Result<u32> {
    for task in fs::read_dir("/proc/self/task")? {
        let task = task?;
        if fs::read_to_string(task.path().join("comm"))?.trim() == "shard-0"
            && let Some(id) = task.file_name().to_str().and_then(|id| id.parse().ok())
        {
            return Ok(id);
        }
    }
    Err(io::Error::other("no thread is called shard-0"))
}

/// CPU time of a thread.
fn cpu_time(thread: u32) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat"))?;
    let nanos = stat.split(' ').next().and_then(|nanos| nanos.parse().ok());
    nanos.map(Duration::from_nanos).ok_or_else(|| io::Error::other("no schedstat"))
}
