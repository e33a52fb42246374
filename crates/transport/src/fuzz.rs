//! Entry points for fuzzing: peers' bytes into the STUN reader, and a script of datagrams, genuine
//! ones included, into a hub.

mod genuine;

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use bytes::Bytes;
use hmac::{Hmac, Mac};
use rand::{SeedableRng, rngs::StdRng};
use rialto_media::{EndpointId, ShardId, TransportDatagram, TransportEvent};
use sha1::Sha1;
use tokio::sync::mpsc::UnboundedReceiver;

pub use super::{
    dtls::fuzz::script as dtls,
    sctp::fuzz::{dcep, script as sctp},
};

use self::genuine::Genuine;
use super::{
    CommandSink, TransportCommand, TransportConfig, TransportOptions, TransportUpdate, Transports,
    common::{Common, Identity},
    dtls::hello,
    hub::{Hub, Output},
    stun::Message,
    types::RemoteTransport,
};

/// A fuzz target: it panics when an invariant is broken.
pub type Target = fn(&[u8]);

/// Name and function of each fuzz target of this crate.
pub const TARGETS: &[(&str, Target)] = &[
    ("dcep", dcep),
    ("harvest", crate::harvest::fuzz),
    ("dtls", dtls),
    ("sctp", sctp),
    ("stun", stun),
    ("transport", script),
];

const ENDPOINT: EndpointId = EndpointId(1);
const PEER: &str = "fuzz";
/// The time since 1970 of all scripts.
const UNIX_TIME: Duration = Duration::from_secs(1_800_000_000);

/// Made once for all scripts: making it takes longer than most of them.
fn identity() -> Option<Identity> {
    static IDENTITY: OnceLock<Option<Identity>> = OnceLock::new();
    let make = || {
        let mut rng = StdRng::from_seed([1; 32]);
        Identity::generate(&TransportConfig::default(), UNIX_TIME, &mut rng).ok()
    };
    IDENTITY.get_or_init(make).clone()
}

/// Transports with one hub, whose certificate is made once, as [`Transports::new`] makes them.
pub fn transports(
    sink: Arc<dyn CommandSink>,
) -> Option<(Transports, UnboundedReceiver<TransportUpdate>)> {
    let config = TransportConfig { hubs: Some(1), ..TransportConfig::default() };
    let seed = [7; 32];
    let (rng, times) = (StdRng::from_seed(seed), (Instant::now(), UNIX_TIME));
    let common = Common::with_identity(&config, 1, rng, times, identity()?);
    Transports::with_common(config, sink, seed, common).ok()
}

/// A message that parses has its transaction id, and our reader and the agent's agree on the
/// username.
pub fn stun(data: &[u8]) {
    let Ok(message) = Message::parse(data) else { return };
    assert_eq!(data.get(8..20), Some(&message.transaction[..]));
    let _ = (message.ufrags(), message.is_authentic(b"password"));
    let _ = is::stun::StunMessage::parse(data);
}

/// Each byte of the script chooses the next step, the following one the length of its data.
/// Whatever arrives, the endpoint's addresses stay bounded and nobody else is affected.
pub fn script(data: &[u8]) {
    hello::fuzz(data);
    let Some(mut world) = World::new() else { return };
    let mut rest = data;
    while let [kind, length, tail @ ..] = rest {
        let (chunk, tail) = tail.split_at(tail.len().min(usize::from(*length)));
        world.play(*kind, chunk);
        rest = tail;
    }
    assert!(world.bound.len() <= 8, "{} addresses", world.bound.len());
}

struct World {
    hub: Hub,
    now: Instant,
    ufrag: String,
    pwd: String,
    local: SocketAddr,
    bound: Vec<SocketAddr>,
    genuine: Genuine,
}

impl World {
    fn new() -> Option<Self> {
        let now = Instant::now();
        let local = SocketAddr::from(([192, 0, 2, 1], 10_000));
        let config = TransportConfig::default();
        let (rng, times) = (StdRng::from_seed([1; 32]), (now, UNIX_TIME));
        let mut hub = Hub::with_identity(config, vec![local], rng, times, identity()?);
        let label = Arc::from("fuzz");
        let options = TransportOptions { controlling: true, label, private_addresses: false };
        let ours = hub.create(now, ENDPOINT, options);
        let (ufrag, pwd) = (Some(PEER.to_owned()), Some(PEER.repeat(6)));
        let remote = RemoteTransport { ufrag, pwd, ..RemoteTransport::default() };
        hub.set_remote(now, ENDPOINT, remote);
        let (ufrag, pwd) = (ours.ufrag, ours.pwd);
        Some(Self { hub, now, ufrag, pwd, local, bound: Vec::new(), genuine: Genuine::default() })
    }

    fn play(&mut self, kind: u8, chunk: &[u8]) {
        let port = 1000 + u16::from(kind >> 3);
        let remote = SocketAddr::from(([203, 0, 113, 1], port));
        match kind & 7 {
            0 => self.stun(remote, chunk),
            1..=3 => {
                let request = self.request(chunk);
                self.stun(remote, &request);
            }
            4 => self.dtls(remote, chunk),
            5 => self.dtls(remote, &client_hello(chunk)),
            6 => self.genuine(remote, chunk),
            _ => {
                self.now += Duration::from_millis(100 * chunk.len() as u64);
                self.hub.handle_timeout(self.now);
            }
        }
        while let Some(output) = self.hub.poll_output() {
            match output {
                Output::Command(TransportCommand::Bind { remote, .. }) => self.bound.push(remote),
                Output::Command(TransportCommand::Unbind { remote, .. }) => {
                    self.bound.retain(|addr| *addr != remote);
                }
                Output::Command(TransportCommand::Transmit { remote, bytes, .. }) => {
                    self.genuine.receive(remote, bytes);
                }
                _ => {}
            }
        }
    }

    /// What only a genuine peer, or its signalling, can do.
    fn genuine(&mut self, remote: SocketAddr, chunk: &[u8]) {
        let what = chunk.first().map_or(0, |what| what % 5);
        match what {
            0 => {
                let _ = self.hub.restart_ice(self.now, ENDPOINT);
            }
            1 => {
                for (from, answer) in self.genuine.answers(self.local, &PEER.repeat(6)) {
                    self.stun(from, &answer);
                }
            }
            2 => {
                let client = chunk.get(1).is_none_or(|role| role & 1 == 0);
                let fingerprints = self.genuine.fingerprint(self.now, client);
                let fingerprints = fingerprints.into_iter().collect();
                let remote = RemoteTransport { fingerprints, ..RemoteTransport::default() };
                self.hub.set_remote(self.now, ENDPOINT, remote);
            }
            3 => {
                for packet in self.genuine.exchange(self.now) {
                    self.dtls(remote, &packet);
                }
            }
            _ => self.hub.offer_sctp(ENDPOINT),
        }
    }

    fn dtls(&mut self, remote: SocketAddr, bytes: &[u8]) {
        let endpoint = self.bound.contains(&remote).then_some(ENDPOINT);
        let datagram = self.datagram(remote, endpoint, bytes);
        self.hub.on_event(self.now, &TransportEvent::Dtls(datagram));
    }

    fn stun(&mut self, remote: SocketAddr, bytes: &[u8]) {
        let datagram = self.datagram(remote, None, bytes);
        self.hub.on_event(self.now, &TransportEvent::Stun(datagram));
    }

    fn datagram(
        &self,
        remote: SocketAddr,
        endpoint: Option<EndpointId>,
        bytes: &[u8],
    ) -> TransportDatagram {
        let bytes = Bytes::copy_from_slice(bytes);
        let (shard, local, received) = (ShardId(0), self.local, self.now);
        TransportDatagram { shard, local, remote, endpoint, received, bytes }
    }

    /// A Binding request with our USERNAME, then these attributes, then MESSAGE-INTEGRITY.
    fn request(&self, attributes: &[u8]) -> Vec<u8> {
        let mut name = format!("{}:{PEER}", self.ufrag).into_bytes();
        let name_length = name.len() as u16;
        name.resize(name.len().next_multiple_of(4), 0);
        let attributes = &attributes[..attributes.len() & !3];
        let length = (4 + name.len() + attributes.len() + 24) as u16;
        let mut message = vec![0, 1];
        message.extend(length.to_be_bytes());
        message.extend([0x21, 0x12, 0xa4, 0x42]);
        message.extend([7; 12]);
        message.extend([0, 6]);
        message.extend(name_length.to_be_bytes());
        message.extend(name);
        message.extend(attributes);
        if let Ok(mut hmac) = Hmac::<Sha1>::new_from_slice(self.pwd.as_bytes()) {
            hmac.update(&message);
            message.extend([0, 8, 0, 20]);
            message.extend(hmac.finalize().into_bytes());
        }
        message
    }
}

/// A record with a piece of a ClientHello: two bytes say how long that is and where the piece
/// belongs, in units of eight bytes; the others are the piece.
fn client_hello(chunk: &[u8]) -> Vec<u8> {
    let (place, piece) = chunk.split_at(chunk.len().min(2));
    let at = |n: usize| place.get(n).map_or(0, |units| u16::from(*units) * 8).to_be_bytes();
    let here = piece.len() as u16;
    let mut record = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0];
    record.extend((here + 12).to_be_bytes());
    record.extend([1, 0]);
    record.extend(at(0));
    record.extend([0, 0, 0]);
    record.extend(at(1));
    record.push(0);
    record.extend(here.to_be_bytes());
    record.extend(piece);
    record
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_genuine_request_binds() {
        let mut world = World::new().unwrap();
        world.play(1, &[0, 0x24, 0, 4, 0x6e, 0, 0, 1]);
        assert_eq!(world.bound.len(), 1);
        assert_eq!(world.hub.counters().stun_requests, 1);
        assert_eq!(world.hub.checks().iter().map(|(_, count)| count).sum::<u64>(), 1);
    }

    #[test]
    fn a_piece_of_a_client_hello_is_held() {
        let mut world = World::new().unwrap();
        world.play(1, &[0, 0x24, 0, 4, 0x6e, 0, 0, 1]);
        world.play(5, &[20, 0, 0xfe, 0xfd, 1, 2, 3]);
        assert_eq!(world.hub.counters().dtls_dropped, 0);
        assert_eq!(world.hub.debug(world.now, ENDPOINT).unwrap()["dtls"]["role"], "server");
    }

    #[test]
    fn a_genuine_peer_gets_through_in_either_role() {
        for role in [0, 1] {
            let mut world = World::new().unwrap();
            world.play(1, &[0, 0x24, 0, 4, 0x6e, 0, 0, 1]);
            world.play(6, &[2, role]);
            for _ in 0..20 {
                world.play(7, &[0]);
                world.play(6, &[1]);
                world.play(6, &[3]);
            }
            let debug = world.hub.debug(world.now, ENDPOINT).unwrap();
            assert_eq!(world.hub.counters().dtls_succeeded, 1, "role {role}: {debug}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_script_is_survived(data in prop::collection::vec(any::<u8>(), 0..600)) {
            stun(&data);
            script(&data);
        }
    }
}
