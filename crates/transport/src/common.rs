//! What the hubs of a process have in common: who an address is bound to, our certificate, the names
//! that tell a hub by a datagram. Each lock here is held for a few instructions and none of them under
//! another one.

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
    silence::Silence,
    stun::{self, Hint, TransactionId},
    ufrag::Ufrags,
};

/// What takes long to make and is the same for all peers.
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

/// Shared by all hubs.
pub(super) struct Common {
    pub(super) ufrags: Ufrags,
    pub(super) dtls: dtls::SharedConfig,
    pub(super) owners: Owners,
    /// Texts of data channels that nobody has read yet, in bytes.
    pub(super) unread: Arc<AtomicUsize>,
    certificates: Mutex<Certificates>,
    silence: Mutex<Silence>,
    /// Hides the number of the hub in a transaction.
    mask: u16,
    hubs: usize,
}

impl Common {
    /// For so many hubs. `seed` is the start of every random choice; `unix_time` the time since 1970
    /// at `now`.
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

    /// With an identity that was made before.
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
            owners: Owners::new(HashKey::new(rng.random(), 0)),
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

    /// How many hubs there are.
    pub(super) fn hubs(&self) -> usize {
        self.hubs
    }

    /// The hub of an endpoint.
    pub(super) fn hub_of(&self, endpoint: EndpointId) -> usize {
        endpoint.0 as usize % self.hubs
    }

    /// The hub that a datagram is for: by the ufrag, the transaction, or the endpoint that the address
    /// is bound to. What cannot be told is for the first one, which counts it.
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

    /// A transaction id of that hub's: 80 bits are random, more than anybody can guess.
    pub(super) fn transaction(&self, hub: usize, rng: &mut StdRng) -> TransactionId {
        let mut id: TransactionId = rng.random();
        let [high, low] = (hub as u16 ^ self.mask).to_be_bytes();
        (id[0], id[1]) = (high, low);
        id
    }

    fn hub_of_transaction(&self, [high, low, ..]: TransactionId) -> usize {
        usize::from(u16::from_be_bytes([high, low]) ^ self.mask) % self.hubs
    }

    /// Nobody's checks arrive: what is known of that.
    pub(super) fn silence(&self) -> MutexGuard<'_, Silence> {
        self.silence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest certificate, renewed when it is old. An error of the renewal leaves the old one,
    /// which is valid for days.
    pub(super) fn certificate(&self, now: Instant) -> Arc<Certificate> {
        let mut certificates = self.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        certificates.renew(now);
        Arc::clone(&certificates.newest)
    }
}

/// More hubs than this serve nobody.
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

/// Which endpoint an address is bound to. An address has one owner, whatever hub that is on: it is
/// free again only once the packet path was told that the owner no longer has it, so that commands
/// about it come in order. Peers choose their ports, so the hash is keyed.
pub(super) struct Owners(Mutex<KeyedMap<SocketAddr, EndpointId>>);

impl Owners {
    fn new(key: HashKey) -> Self {
        Self(Mutex::new(KeyedMap::with_hasher(key)))
    }

    /// Who has it.
    pub(super) fn of(&self, address: SocketAddr) -> Option<EndpointId> {
        self.lock().get(&address).copied()
    }

    /// Gives it to an endpoint, unless another one has it: then says who.
    pub(super) fn claim(
        &self,
        address: SocketAddr,
        endpoint: EndpointId,
    ) -> Result<(), EndpointId> {
        let owner = *self.lock().entry(address).or_insert(endpoint);
        if owner == endpoint { Ok(()) } else { Err(owner) }
    }

    /// Takes it from an endpoint, if that has it.
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
        /// What an endpoint's agent signals and asks leads back to the hub of the endpoint.
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
        let owners = Owners::new(HashKey::new(1, 0));
        let address = SocketAddr::from(([192, 0, 2, 2], 2));
        let [one, two] = [1, 2].map(EndpointId);
        assert_eq!((owners.claim(address, one), owners.claim(address, two)), (Ok(()), Err(one)));
        owners.release(address, two);
        assert_eq!(owners.of(address), Some(one), "only the owner gives it up");
        owners.release(address, one);
        assert_eq!(owners.claim(address, two), Ok(()));
    }
}
