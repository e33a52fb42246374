//! DTLS: dimpl 0.9 (1.2 and 1.3), `dtls` 0.17, rtc-dtls 0.21 and OpenSSL 3 (1.2 only), each with itself.
//!
//! ECDSA P-256 certificates on both sides, the client's required; key exchange over P-256; SRTP keys
//! for AEAD-AES-256-GCM (dimpl's own choice) exported by both, and compared. dimpl's server asks for no cookie, as ours; the
//! other two cannot leave it out. `dtls` has tasks of its own: its client and its server are two
//! threads with a tokio runtime each, so that its CPU time includes what the runtime takes.

mod ends;
mod ossl;
mod tasks;

use std::{
    io,
    time::{Duration, Instant},
};

use ends::{Dimpl, DimplShared, End, Rtc, RtcShared, Version};
use ossl::{OpenSsl, OpenSslShared};
use rialto_sys::thread_cpu_time;

use crate::{Cell, Part, resident_kib};

/// The comparison.
pub const PART: Part = Part {
    name: "dtls",
    columns: &[
        "flights until both have keys",
        "datagrams",
        "bytes",
        "server, µs CPU/handshake",
        "client, µs CPU/handshake",
        "memory of both ends, KiB/session",
    ],
    rows: &["dimpl 1.2", "dimpl 1.3", "dtls 1.2", "rtc-dtls 1.2", "OpenSSL 1.2"],
    measure,
};

/// Sessions that stay open.
const SESSIONS: usize = 500;

/// Sessions before them, for what a library sets up once.
const WARM_UP: usize = 20;

const CLIENT: usize = 0;
const SERVER: usize = 1;

/// The exporter's label (RFC 5764 section 4.2).
const LABEL: &str = "EXTRACTOR-dtls_srtp";

/// Two keys and two salts of AEAD-AES-256-GCM, bytes (RFC 7714 section 12).
const MATERIAL: usize = 2 * (32 + 12);

fn measure(row: &str) -> io::Result<Vec<Cell>> {
    let now = Instant::now();
    let dimpl = |version| {
        let shared = DimplShared::new(version);
        in_turns(|side| Dimpl::new(&shared, side, now))
    };
    let cost = match row {
        "dimpl 1.2" => dimpl(Version::V12)?,
        "dimpl 1.3" => dimpl(Version::V13)?,
        "dtls 1.2" => tasks::run()?,
        "rtc-dtls 1.2" => {
            let shared = RtcShared::new();
            in_turns(|side| Rtc::new(&shared, side, now))?
        }
        "OpenSSL 1.2" => {
            let shared = OpenSslShared::new();
            in_turns(|side| OpenSsl::new(&shared, side))?
        }
        _ => return Err(io::Error::other("no such library")),
    };
    let sessions = SESSIONS as f64;
    Ok(vec![
        Cell(cost.wire.flights as f64, 0),
        Cell(cost.wire.datagrams as f64, 0),
        Cell(cost.wire.bytes as f64, 0),
        Cell::micros(cost.cpu[SERVER], sessions, 0),
        Cell::micros(cost.cpu[CLIENT], sessions, 0),
        Cell(cost.memory / sessions, 1),
    ])
}

/// The result of a measurement.
struct Cost {
    /// One handshake.
    wire: Wire,
    /// Client and server, all sessions.
    cpu: [Duration; 2],
    /// All sessions, KiB.
    memory: f64,
}

/// What one handshake sends until both have keys.
#[derive(Clone, Copy, Default)]
struct Wire {
    flights: usize,
    datagrams: usize,
    bytes: usize,
    last: Option<usize>,
}

impl Wire {
    fn count(&mut self, side: usize, datagram: &[u8]) {
        self.flights += usize::from(self.last.replace(side) != Some(side));
        self.datagrams += 1;
        self.bytes += datagram.len();
    }
}

/// One handshake after another, both ends in this thread.
fn in_turns<E: End>(make: impl Fn(usize) -> E) -> io::Result<Cost> {
    let mut open: Vec<_> = (0..WARM_UP).map(|_| Session::connected(&make)).collect();
    let memory = resident_kib()?;
    open.extend((0..SESSIONS).map(|_| Session::connected(&make)));
    let memory = resident_kib()? - memory;
    let measured = &open[WARM_UP..];
    let cpu = [CLIENT, SERVER].map(|side| measured.iter().map(|session| session.cpu[side]).sum());
    Ok(Cost { wire: measured[0].wire, cpu, memory })
}

/// Two ends and what they took.
struct Session<E> {
    ends: [E; 2],
    cpu: [Duration; 2],
    wire: Wire,
}

impl<E: End> Session<E> {
    fn connected(make: impl Fn(usize) -> E) -> Self {
        let mut cpu = [Duration::ZERO; 2];
        let ends = [CLIENT, SERVER].map(|side| timed(&mut cpu[side], || make(side)));
        let mut session = Self { ends, cpu, wire: Wire::default() };
        let mut side = CLIENT;
        // Including what is sent after the keys: the rest of it would be sent sooner or later.
        while session.speak(side) || session.speak(1 - side) {
            side = 1 - side;
        }
        let [client, server] = session.ends.each_ref().map(End::keys);
        assert!(client.is_some_and(|keys| keys.len() == MATERIAL), "the client has keys");
        assert_eq!(client, server);
        session
    }

    /// Carries datagrams from one end to the other. Returns false if there were none.
    fn speak(&mut self, side: usize) -> bool {
        let end = &mut self.ends[side];
        let flight = timed(&mut self.cpu[side], || end.poll());
        if self.ends.iter().any(|end| end.keys().is_none()) {
            for datagram in &flight {
                self.wire.count(side, datagram);
            }
        }
        let end = &mut self.ends[1 - side];
        timed(&mut self.cpu[1 - side], || flight.iter().for_each(|datagram| end.handle(datagram)));
        !flight.is_empty()
    }
}

/// Adds the CPU time of `work` to `clock`.
fn timed<T>(clock: &mut Duration, work: impl FnOnce() -> T) -> T {
    let start = thread_cpu_time();
    let result = work();
    *clock += thread_cpu_time().saturating_sub(start);
    result
}
