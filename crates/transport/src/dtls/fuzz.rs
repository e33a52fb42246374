//! A fuzz target that gets through a handshake, in either role: a script of what a genuine peer and
//! the network do, and of what others send in the peer's name.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use bytes::Bytes;
use rand::{SeedableRng, rngs::StdRng};

use super::{
    Dtls, DtlsEvent, MAX_ATTEMPTS, SharedConfig,
    library::Library,
    of_dimpl::{Dimpl, Versions},
    of_openssl::OpenSsl,
    shared_config,
};
use crate::{Hash, certificate::Certificate, config::TransportConfig};

/// Exchanges after the script, half a second apart: enough for the longest wait between two
/// flights.
const ROUNDS: usize = 40;
/// Longer scripts may have left too little time for a handshake.
const IN_TIME: Duration = Duration::from_secs(5);

/// The first byte chooses the roles and the peer's library. Then each byte chooses the next step
/// and the following one the length of its data. Attempts stay bounded whatever arrives, and as
/// long as only alerts and losses occurred, the handshake still ends with equal keys.
pub fn script(data: &[u8]) {
    let Some((&setup, mut rest)) = data.split_first() else { return };
    let Some(mut world) = World::new(setup) else { return };
    while let [kind, length, tail @ ..] = rest {
        let (chunk, tail) = tail.split_at(tail.len().min(usize::from(*length)));
        world.play(*kind, chunk);
        assert!(world.ours.attempts.len() <= MAX_ATTEMPTS);
        rest = tail;
    }
    world.finish();
}

/// Both ends and the network between.
struct World {
    ours: Dtls,
    peer: Box<dyn Library>,
    now: Instant,
    start: Instant,
    /// Nothing arrived that a genuine peer and a bad network would not have sent.
    honest: bool,
    keys: [Option<Vec<u8>>; 2],
}

fn shared() -> Option<&'static (SharedConfig, [Arc<Certificate>; 2])> {
    static SHARED: OnceLock<Option<(SharedConfig, [Arc<Certificate>; 2])>> = OnceLock::new();
    let make = || {
        let mut rng = StdRng::from_seed([7; 32]);
        let mut make = || {
            Certificate::generate(Duration::from_secs(1_800_000_000), Hash::Sha256, &mut rng).ok()
        };
        Some((shared_config(&TransportConfig::default()).ok()?, [make()?, make()?]))
    };
    SHARED.get_or_init(make).as_ref()
}

impl World {
    fn new(setup: u8) -> Option<Self> {
        let (config, [certificate, theirs]) = shared()?;
        let now = Instant::now();
        let client = setup & 1 == 1;
        let dimpl = |versions| {
            let made = Dimpl::new(config, &theirs.pair, !client, versions, now).ok()?;
            Some(Box::new(made) as Box<dyn Library>)
        };
        let peer: Box<dyn Library> = match (setup >> 1) & 3 {
            0 => dimpl(Versions::Newest)?,
            1 => dimpl(Versions::Only12)?,
            _ => Box::new(OpenSsl::new(&theirs.context, !client, now).ok()?),
        };
        let ours = Dtls::new(config, certificate, client, now).ok()?;
        Some(Self { ours, peer, now, start: now, honest: true, keys: [None, None] })
    }

    fn play(&mut self, kind: u8, chunk: &[u8]) {
        let at = |n: usize| chunk.get(n).copied().unwrap_or_default();
        match kind & 7 {
            0 => self.exchange(|_, datagram| vec![datagram]),
            // Lost, or twice.
            1 => self.exchange(|n, datagram| match at(n % 8) & 3 {
                0 => Vec::new(),
                1 => vec![datagram.clone(), datagram],
                _ => vec![datagram],
            }),
            2 => {
                self.honest = false;
                let (which, value) = (usize::from(at(0)), at(3));
                let place = (usize::from(at(1)) << 8) | usize::from(at(2));
                self.exchange(|n, datagram| {
                    let mut bytes = datagram.to_vec();
                    let length = bytes.len().max(1);
                    if n == which & 3
                        && let Some(byte) = bytes.get_mut(place % length)
                    {
                        *byte ^= value;
                    }
                    vec![bytes.into()]
                });
            }
            3 => self.others_send(chunk),
            4 => self.hand_over(&record(21, 0, &[2, at(0)])),
            5 => self.others_send(&record(
                22,
                0,
                &message(at(0), at(1), chunk.get(2..).unwrap_or_default()),
            )),
            6 => self.others_send(&record(at(0), at(1) & 1, chunk.get(2..).unwrap_or_default())),
            _ => self.pass(Duration::from_millis(100 * chunk.len() as u64)),
        }
    }

    fn others_send(&mut self, datagram: &[u8]) {
        self.honest = false;
        self.hand_over(datagram);
    }

    fn hand_over(&mut self, datagram: &[u8]) {
        let _ = self.ours.handle(self.now, datagram);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        let _ = self.ours.handle_timeout(self.now);
        let _ = self.peer.handle_timeout(self.now);
    }

    /// Lets both send what they have; the peer's datagrams go through `path`.
    fn exchange(&mut self, path: impl Fn(usize, Bytes) -> Vec<Bytes>) {
        let mut events = Vec::new();
        let _ = self.peer.poll(&mut events);
        for (n, datagram) in take(events, &mut self.keys[1]).into_iter().enumerate() {
            for datagram in path(n, datagram) {
                self.hand_over(&datagram);
            }
        }
        let mut events = Vec::new();
        self.ours.poll(&mut events);
        for datagram in take(events, &mut self.keys[0]) {
            let _ = self.peer.handle(self.now, &datagram);
        }
    }

    fn finish(mut self) {
        let late = self.now > self.start + IN_TIME;
        for _ in 0..ROUNDS {
            self.exchange(|_, datagram| vec![datagram]);
            if self.keys.iter().all(Option::is_some) {
                break;
            }
            self.pass(Duration::from_millis(500));
        }
        if let [Some(ours), Some(theirs)] = &self.keys {
            assert!(!self.honest || ours == theirs, "the keys differ");
        } else {
            assert!(!self.honest || late, "the handshake did not end: {:?}", self.ours.hint());
        }
    }
}

/// Returns the datagrams to send, and stores the keys: those that the client seals with, then the
/// server's.
fn take(events: Vec<DtlsEvent>, keys: &mut Option<Vec<u8>>) -> Vec<Bytes> {
    let mut datagrams = Vec::new();
    for event in events {
        match event {
            DtlsEvent::Packet(datagram) => datagrams.push(datagram),
            DtlsEvent::Keys(found) => {
                let mut both = [found.send, found.receive];
                both.sort();
                *keys = Some(both.concat());
            }
            _ => {}
        }
    }
    datagrams
}

fn record(kind: u8, epoch: u8, content: &[u8]) -> Vec<u8> {
    let head = [kind, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 1, 200];
    [&head[..], &(content.len() as u16).to_be_bytes(), content].concat()
}

/// A whole handshake message of that type and number.
fn message(kind: u8, sequence: u8, content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u32).to_be_bytes();
    let length = length.get(1..).unwrap_or_default();
    [&[kind][..], length, &[0, sequence & 7, 0, 0, 0], length, content].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_role_and_library_gets_through() {
        for setup in 0..8 {
            script(&[setup]);
            script(&[setup, 1, 3, 0, 1, 2, 7, 5, 1, 1, 1, 1, 1, 4, 1, 40, 0, 0, 4, 1, 80]);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_script_is_survived(
            setup in 0u8..8,
            steps in prop::collection::vec(
                (0u8..8, prop::collection::vec(any::<u8>(), 0..60)), 0..12),
        ) {
            let mut data = vec![setup];
            for (kind, chunk) in steps {
                data.extend([kind, chunk.len() as u8]);
                data.extend(chunk);
            }
            script(&data);
        }

        #[test]
        fn a_bad_network_and_spoofed_alerts_end_nothing(
            setup in 0u8..8,
            steps in prop::collection::vec(
                (prop::sample::select(vec![0u8, 1, 4, 7]),
                 prop::collection::vec(any::<u8>(), 0..5)), 0..12),
        ) {
            let mut data = vec![setup];
            for (kind, chunk) in steps {
                data.extend([kind, chunk.len() as u8]);
                data.extend(chunk);
            }
            script(&data);
        }
    }
}
