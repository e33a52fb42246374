//! A genuine peer in a script: it answers checks, is signalled, and uses DTLS in either role.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use bytes::Bytes;
use hmac::{Hmac, Mac};
use rand::{SeedableRng, rngs::StdRng};
use sha1::Sha1;

use crate::{
    Fingerprint, Hash, Setup, TransportConfig,
    certificate::Certificate,
    dtls::{Dtls, DtlsEvent, SharedConfig, shared_config},
    stun,
};

/// Most datagrams that it has not handled yet.
const MAX_WAITING: usize = 256;
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// The peer's side of it.
#[derive(Default)]
pub(super) struct Genuine {
    dtls: Option<Dtls>,
    came: Vec<(SocketAddr, Bytes)>,
}

fn shared() -> Option<&'static (SharedConfig, Arc<Certificate>)> {
    static SHARED: OnceLock<Option<(SharedConfig, Arc<Certificate>)>> = OnceLock::new();
    let make = || {
        let mut rng = StdRng::from_seed([9; 32]);
        let unix_time = Duration::from_secs(1_800_000_000);
        let certificate = Certificate::generate(unix_time, Hash::Sha256, &mut rng).ok()?;
        Some((shared_config(&TransportConfig::default()).ok()?, certificate))
    };
    SHARED.get_or_init(make).as_ref()
}

impl Genuine {
    /// Handles a datagram of ours.
    pub(super) fn receive(&mut self, at: SocketAddr, bytes: Bytes) {
        if self.came.len() < MAX_WAITING {
            self.came.push((at, bytes));
        }
    }

    /// Its answers to checks that arrived, and the addresses they came from.
    pub(super) fn answers(&mut self, seen: SocketAddr, pwd: &str) -> Vec<(SocketAddr, Vec<u8>)> {
        let (checks, rest): (Vec<_>, _) =
            std::mem::take(&mut self.came).into_iter().partition(|(_, b)| stun::is_request(b));
        self.came = rest;
        checks.iter().filter_map(|(at, check)| Some((*at, success(check, seen, pwd)?))).collect()
    }

    /// Its signalled fingerprint, in that role.
    pub(super) fn fingerprint(&mut self, now: Instant, client: bool) -> Option<Fingerprint> {
        let (config, certificate) = shared()?;
        self.dtls = Dtls::new(config, certificate, client, now).ok();
        let setup = Some(if client { Setup::Active } else { Setup::Passive });
        Some(Fingerprint { setup, ..certificate.fingerprint.clone() })
    }

    /// Handles what arrived, and returns what it sends.
    pub(super) fn exchange(&mut self, now: Instant) -> Vec<Bytes> {
        let (records, rest): (Vec<_>, _) = std::mem::take(&mut self.came)
            .into_iter()
            .partition(|(_, bytes)| bytes.first().is_some_and(|first| (20..64).contains(first)));
        self.came = rest;
        let Some(dtls) = &mut self.dtls else { return Vec::new() };
        for (_, record) in records {
            let _ = dtls.handle(now, &record);
        }
        let _ = dtls.handle_timeout(now);
        let mut events = Vec::new();
        dtls.poll(&mut events);
        let packets = events.into_iter().filter_map(|event| match event {
            DtlsEvent::Packet(packet) => Some(packet),
            _ => None,
        });
        packets.collect()
    }
}

/// The success response to a Binding request that came from `seen`.
fn success(check: &[u8], seen: SocketAddr, pwd: &str) -> Option<Vec<u8>> {
    let IpAddr::V4(ip) = seen.ip() else { return None };
    let xored = |bytes: &[u8]| bytes.iter().zip(COOKIE).map(|(b, c)| b ^ c).collect::<Vec<_>>();
    let mut message = vec![1, 1, 0, 36];
    message.extend(COOKIE);
    message.extend(stun::transaction_of(check)?);
    message.extend([0, 0x20, 0, 8, 0, 1]);
    message.extend(xored(&seen.port().to_be_bytes()));
    message.extend(xored(&ip.octets()));
    let mut hmac = Hmac::<Sha1>::new_from_slice(pwd.as_bytes()).ok()?;
    hmac.update(&message);
    message.extend([0, 8, 0, 20]);
    message.extend(hmac.finalize().into_bytes());
    Some(message)
}
