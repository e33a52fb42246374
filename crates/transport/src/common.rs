//! State that the hubs of a process share: the owner of each address, the certificate, and the
//! names by which a datagram finds its hub. Each lock here is held for a few instructions and never
//! under another one.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicUsize},
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use rialto_media::{EndpointId, HashKey, KeyedMap, TransportEvent};

use super::{
    certificate::{Certificate, RENEW_AFTER},
    config::TransportConfig,
    dtls,
    fingerprint::Hash,
    hub::HubError,
    silence::CheckMonitor,
    stun::{self, Hint, TransactionId},
    ufrag::Ufrags,
};

/// Certificate and settings that take long to make and are the same for all peers.
#[derive(Clone)]
pub(super) struct Identity {
    certificate: Arc<Certificate>,
    dtls: dtls::SharedConfig,
}

impl Identity {
    pub(super) fn generate(
        config: &TransportConfig,
        unix_time: Duration,
        rng: &mut StdRng,
    ) -> Result<Self, HubError> {
        let certificate = Certificate::generate(unix_time, config.local_hash, rng)?;
        let dtls = dtls::shared_config(config).map_err(HubError::Dtls)?;
        Ok(Self { certificate, dtls })
    }
}

/// State shared by all hubs.
pub(super) struct Common {
    pub(super) ufrags: Ufrags,
    pub(super) dtls: dtls::SharedConfig,
    pub(super) owners: AddressOwners,
    /// Bytes of received data channel texts that were not read yet.
    pub(super) unread: Arc<AtomicUsize>,
    certificates: Mutex<Certificates>,
    silence: Mutex<CheckMonitor>,
    /// Hides the hub's number in a transaction id.
    mask: u16,
    hubs: usize,
}

impl Common {
    /// Creates the state for this many hubs. `seed` seeds every random choice; `unix_time` is the
    /// time since 1970 at `now`.
    pub(super) fn new(
        config: &TransportConfig,
        hubs: usize,
        seed: [u8; 32],
        now: Instant,
        unix_time: Duration,
    ) -> Result<Arc<Self>, HubError> {
        let mut rng = StdRng::from_seed(seed);
        let identity = Identity::generate(config, unix_time, &mut rng)?;
        Ok(Self::with_identity(config, hubs, rng, (now, unix_time), identity))
    }

    /// Creates it with an existing identity.
    pub(super) fn with_identity(
        config: &TransportConfig,
        hubs: usize,
        mut rng: StdRng,
        (now, unix_time): (Instant, Duration),
        Identity { certificate, dtls }: Identity,
    ) -> Arc<Self> {
        let ufrags = Ufrags::new(&config.ufrag_prefix, &mut rng);
        let mask = rng.random();
        Arc::new(Self {
            ufrags,
            dtls,
            owners: AddressOwners::new(HashKey::new(rng.random(), 0)),
            unread: Arc::default(),
            certificates: Mutex::new(Certificates {
                newest: certificate,
                made: now,
                unix_time,
                hash: config.local_hash,
                rng,
            }),
            silence: Mutex::default(),
            mask,
            hubs: hubs.clamp(1, MAX_HUBS),
        })
    }

    /// Number of hubs.
    pub(super) fn hubs(&self) -> usize {
        self.hubs
    }

    /// The hub of an endpoint.
    pub(super) fn hub_of(&self, endpoint: EndpointId) -> usize {
        endpoint.0 as usize % self.hubs
    }

    /// The hub for a datagram: by its ufrag, its transaction id, or the endpoint that the address
    /// is bound to. If none of these is known, the first hub gets it and counts it.
    pub(super) fn route(&self, event: &TransportEvent) -> usize {
        let endpoint = match event {
            TransportEvent::Dtls(datagram) => datagram.endpoint,
            TransportEvent::Stun(datagram) => match stun::hint(&datagram.bytes) {
                Some(Hint::Request(ufrag)) => self.ufrags.owner(ufrag),
                Some(Hint::Response(transaction)) => return self.hub_of_transaction(transaction),
                None => None,
            },
        };
        endpoint.map_or(0, |endpoint| self.hub_of(endpoint))
    }

    /// A transaction id for a request of a hub. 80 of its bits are random, more than anybody can
    /// guess.
    pub(super) fn transaction(&self, hub: usize, rng: &mut StdRng) -> TransactionId {
        let mut id: TransactionId = rng.random();
        let [high, low] = (hub as u16 ^ self.mask).to_be_bytes();
        (id[0], id[1]) = (high, low);
        id
    }

    fn hub_of_transaction(&self, [high, low, ..]: TransactionId) -> usize {
        usize::from(u16::from_be_bytes([high, low]) ^ self.mask) % self.hubs
    }

    /// The detector of missing connectivity checks.
    pub(super) fn silence(&self) -> MutexGuard<'_, CheckMonitor> {
        self.silence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the newest certificate, renewing it when it is old. If that fails the old one stays,
    /// which is valid for days.
    pub(super) fn certificate(&self, now: Instant) -> Arc<Certificate> {
        let mut certificates = self.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        certificates.renew(now);
        Arc::clone(&certificates.newest)
    }
}

/// More hubs than this are of no use.
const MAX_HUBS: usize = 256;

struct Certificates {
    newest: Arc<Certificate>,
    made: Instant,
    /// The time since 1970 at `made`.
    unix_time: Duration,
    hash: Hash,
    rng: StdRng,
}

impl Certificates {
    fn renew(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.made);
        if age < RENEW_AFTER {
            return;
        }
        self.unix_time += age;
        self.made = now;
        match Certificate::generate(self.unix_time, self.hash, &mut self.rng) {
            Ok(certificate) => self.newest = certificate,
            Err(error) => tracing::error!(%error, "keeping the old DTLS certificate"),
        }
    }
}

/// The endpoint that each address is bound to. An address has one owner in all hubs. It is free
/// again only once the packet path was told that the owner no longer has it, so that commands about
/// it arrive in order. Peers choose their ports, so the hash is keyed.
pub(super) struct AddressOwners(Mutex<KeyedMap<SocketAddr, EndpointId>>);

impl AddressOwners {
    fn new(key: HashKey) -> Self {
        Self(Mutex::new(KeyedMap::with_hasher(key)))
    }

    /// The owner of an address.
    pub(super) fn of(&self, address: SocketAddr) -> Option<EndpointId> {
        self.lock().get(&address).copied()
    }

    /// Gives the address to an endpoint, or returns the other endpoint that has it.
    pub(super) fn claim(
        &self,
        address: SocketAddr,
        endpoint: EndpointId,
    ) -> Result<(), EndpointId> {
        let owner = *self.lock().entry(address).or_insert(endpoint);
        if owner == endpoint { Ok(()) } else { Err(owner) }
    }

    /// Takes the address from an endpoint, if that has it.
    pub(super) fn release(&self, address: SocketAddr, endpoint: EndpointId) {
        let mut owners = self.lock();
        if owners.get(&address) == Some(&endpoint) {
            owners.remove(&address);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, KeyedMap<SocketAddr, EndpointId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn common(hubs: usize) -> Arc<Common> {
        let config = TransportConfig::default();
        Common::new(&config, hubs, [7; 32], Instant::now(), Duration::from_secs(1_800_000_000))
            .unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        /// The ufrags and transaction ids of an endpoint's agent lead back to the endpoint's hub.
        #[test]
        fn names_and_transactions_lead_home(hubs in 1usize..20, endpoint: u32, seed: u64) {
            let common = common(hubs);
            let endpoint = EndpointId(endpoint);
            let mut rng = StdRng::seed_from_u64(seed);
            let (ufrag, _) = common.ufrags.credentials(endpoint, 0, &mut rng);
            let home = common.hub_of(endpoint);
            let transaction = common.transaction(home, &mut rng);
            let to = |class| stun::Writer::new(class, transaction).username(&ufrag, "peer");
            let event = |bytes| TransportEvent::Stun(rialto_media::TransportDatagram {
                shard: rialto_media::ShardId(0),
                local: SocketAddr::from(([192, 0, 2, 1], 1)),
                remote: SocketAddr::from(([192, 0, 2, 2], 2)),
                endpoint: None,
                received: Instant::now(),
                bytes,
            });
            let request = to(stun::Class::Request).finish(b"x");
            prop_assert_eq!(common.route(&event(request)), home);
            let response = to(stun::Class::Error).finish(b"x");
            prop_assert_eq!(common.route(&event(response)), home);
            prop_assert_eq!(common.route(&event(bytes::Bytes::new())), 0);
        }

        #[test]
        fn any_bytes_are_routed(bytes: Vec<u8>) {
            let _ = stun::hint(&bytes);
        }
    }

    #[test]
    fn an_address_has_one_owner() {
        let owners = AddressOwners::new(HashKey::new(1, 0));
        let address = SocketAddr::from(([192, 0, 2, 2], 2));
        let [one, two] = [1, 2].map(EndpointId);
        assert_eq!((owners.claim(address, one), owners.claim(address, two)), (Ok(()), Err(one)));
        owners.release(address, two);
        assert_eq!(owners.of(address), Some(one), "only the owner gives it up");
        owners.release(address, one);
        assert_eq!(owners.claim(address, two), Ok(()));
    }
}
