//! An endpoint on its home shard: its sending side and its receiving side.

use std::{net::SocketAddr, time::Instant};

use rialto_media::{Description, EndpointId, HashKey, SourceId};
use rialto_srtp::Keying;

use crate::{
    EndpointSpec, Tap,
    egress::{Receiver, receiver::allocation_state::AllocationState},
    ingress::Sender,
    slots::OutStreamSlot,
};

/// An endpoint on its home shard.
#[derive(Debug)]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// Its description from control.
    pub spec: EndpointSpec,
    /// The parameters that it negotiated.
    pub media: Description,
    /// Its SRTP keys; `None` until the DTLS handshake is done.
    pub keys: Option<Keying>,
    /// Its sending side.
    pub sender: Sender,
    /// Its receiving side.
    pub receiver: Receiver,
    /// Its subscriptions.
    pub subscriptions: SubscriptionList,
    /// Addresses that were bound to it; some may belong to another endpoint by now.
    pub addresses: Vec<SocketAddr>,
    /// When the last authenticated packet arrived from it.
    pub last_received: Option<Instant>,
    /// Whether it is in the list of senders that need feedback soon.
    pub urgent: bool,
    /// When the last snapshot measured it.
    pub measured_at: Instant,
    /// When the next receiver reports are due.
    pub next_report: Instant,
    /// The stream with which the next receiver report begins: the last report had no room for it
    /// and the following ones.
    pub report_from: usize,
    /// Sequence number of full intra requests (RFC 5104 section 4.3.1.1).
    pub fir_count: u8,
    /// Whether it sent a REMB without having negotiated it.
    pub spurious_remb: bool,
    /// Its last unanswered receiver reference time.
    pub reference: Option<Reference>,
    /// When a reference time was last answered.
    pub reference_answered: Option<Instant>,
    /// Where copies of its packets go, if anywhere.
    pub tap: Option<Tap>,
}

/// A receiver reference time (RFC 3611 section 4.4) that awaits its answer.
#[derive(Clone, Copy, Debug)]
pub struct Reference {
    /// The SSRC of the report.
    pub ssrc: u32,
    /// The middle 32 bits of its NTP time.
    pub time: u32,
    /// When it arrived.
    pub at: Instant,
}

impl Endpoint {
    /// Creates an endpoint without keys and address. `key` seeds the hash of maps whose keys are
    /// SSRCs that peers choose.
    pub fn new(
        id: EndpointId,
        spec: EndpointSpec,
        media: Description,
        key: HashKey,
        allocation: AllocationState,
        now: Instant,
    ) -> Self {
        let (mut sender, mut receiver) = (Sender::default(), Receiver::new(allocation));
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

/// The outgoing streams of an endpoint, by source.
#[derive(Clone, Debug, Default)]
pub struct SubscriptionList {
    /// Sorted by source id, which is the order of age: a new source goes to the end.
    sorted: Vec<(SourceId, OutStreamSlot)>,
}

impl SubscriptionList {
    /// Returns the stream of a source.
    pub fn get(&self, source: SourceId) -> Option<OutStreamSlot> {
        self.place(source).ok().and_then(|at| self.sorted.get(at)).map(|(_, stream)| *stream)
    }

    /// Sets the stream of a source.
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

    /// Removes and returns the stream of a source.
    pub fn remove(&mut self, source: SourceId) -> Option<OutStreamSlot> {
        self.place(source).ok().map(|at| self.sorted.remove(at).1)
    }

    /// Iterates over all, the oldest source first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (SourceId, OutStreamSlot)> + '_ {
        self.sorted.iter().copied()
    }

    /// Number of subscriptions.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    fn place(&self, source: SourceId) -> Result<usize, usize> {
        self.sorted.binary_search_by_key(&source, |(source, _)| *source)
    }
}
