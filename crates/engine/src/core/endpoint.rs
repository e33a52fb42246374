//! An endpoint on its home shard: its sending and its receiving side.

use std::{net::SocketAddr, time::Instant};

use rialto_media::{Description, EndpointId, HashKey, SourceId};
use rialto_srtp::Keying;

use crate::{
    EndpointSpec, Tap,
    egress::{Receiver, receiver::allotment::Allotment},
    ingress::Sender,
    slots::OutStreamSlot,
};

/// See the module's description.
#[derive(Debug)]
pub struct Endpoint {
    /// Who it is.
    pub id: EndpointId,
    /// What control said of it.
    pub spec: EndpointSpec,
    /// What it negotiated.
    pub media: Description,
    /// Its SRTP keys; none before the handshake is over.
    pub keys: Option<Keying>,
    /// What it sends.
    pub sender: Sender,
    /// What it gets.
    pub receiver: Receiver,
    /// The sources it gets.
    pub subscriptions: SubscriptionList,
    /// Addresses that were bound to it; some may be another's by now.
    pub addresses: Vec<SocketAddr>,
    /// When anything authenticated last came from it.
    pub last_received: Option<Instant>,
    /// It is in the list of those that must be asked for something soon.
    pub urgent: bool,
    /// When a snapshot last measured it.
    pub measured_at: Instant,
    /// When receiver reports are next due.
    pub next_report: Instant,
    /// The place among its streams at which the next receiver report begins: the last one had no room for
    /// those from there on.
    pub report_from: usize,
    /// Counter of full intra requests (RFC 5104 section 4.3.1.1).
    pub fir_count: u8,
    /// It sent a bitrate estimate (REMB) without having negotiated that.
    pub spurious_remb: bool,
    /// It wants to know its round trip, and how it asked.
    pub reference: Option<Reference>,
    /// When it was answered last.
    pub reference_answered: Option<Instant>,
    /// Where copies of its packets go, if anybody wants them.
    pub tap: Option<Tap>,
}

/// A receiver reference time (RFC 3611 section 4.4) that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub struct Reference {
    /// Who asked.
    pub ssrc: u32,
    /// The middle 32 bits of the time that it told.
    pub time: u32,
    /// When that came.
    pub at: Instant,
}

impl Endpoint {
    /// An endpoint without keys and address. `key` hashes the SSRCs that peers choose.
    pub fn new(
        id: EndpointId,
        spec: EndpointSpec,
        media: Description,
        key: HashKey,
        allotment: Allotment,
        now: Instant,
    ) -> Self {
        let (mut sender, mut receiver) = (Sender::default(), Receiver::new(allotment));
        sender.set_hash_key(key);
        receiver.set_hash_key(key);
        Self {
            id,
            spec,
            media,
            keys: None,
            sender,
            receiver,
            subscriptions: SubscriptionList::default(),
            addresses: Vec::new(),
            last_received: None,
            urgent: false,
            measured_at: now,
            next_report: now,
            report_from: 0,
            fir_count: 0,
            spurious_remb: false,
            reference: None,
            reference_answered: None,
            tap: None,
        }
    }
}

/// What an endpoint gets, by source: its streams.
#[derive(Clone, Debug, Default)]
pub struct SubscriptionList {
    /// In the order of the sources' ids, which is that of their age: a new one goes to the end.
    sorted: Vec<(SourceId, OutStreamSlot)>,
}

impl SubscriptionList {
    /// The stream of a source.
    pub fn get(&self, source: SourceId) -> Option<OutStreamSlot> {
        self.place(source).ok().and_then(|at| self.sorted.get(at)).map(|(_, stream)| *stream)
    }

    /// Remembers the stream of a source.
    pub fn set(&mut self, source: SourceId, stream: OutStreamSlot) {
        match self.place(source) {
            Ok(at) => {
                if let Some(known) = self.sorted.get_mut(at) {
                    known.1 = stream;
                }
            }
            Err(at) => self.sorted.insert(at, (source, stream)),
        }
    }

    /// Forgets the stream of a source.
    pub fn remove(&mut self, source: SourceId) -> Option<OutStreamSlot> {
        self.place(source).ok().map(|at| self.sorted.remove(at).1)
    }

    /// All, the oldest source first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (SourceId, OutStreamSlot)> + '_ {
        self.sorted.iter().copied()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    fn place(&self, source: SourceId) -> Result<usize, usize> {
        self.sorted.binary_search_by_key(&source, |(source, _)| *source)
    }
}
