//! An endpoint on its home shard: its sending and its receiving side.

use std::{sync::Arc, time::Instant};

use rialto_media::Tables;
use rialto_media::{EndpointId, MediaParams, SourceId};

use crate::{EndpointSpec, Tap, egress::Receiver, ingress::Sender};

/// See the module's description.
#[derive(Debug)]
pub struct Endpoint {
    /// Who it is.
    pub id: EndpointId,
    /// What control said of it.
    pub spec: EndpointSpec,
    /// What it negotiated, as signalled.
    pub media: Arc<MediaParams>,
    /// What it negotiated, compiled.
    pub tables: Arc<Tables>,
    /// What it sends.
    pub sender: Sender,
    /// What it gets.
    pub receiver: Receiver,
    /// The sources it gets, for its end.
    pub subscriptions: Vec<SourceId>,
    /// When anything authenticated last came from it.
    pub last_received: Option<Instant>,
    /// When receiver reports are next due.
    pub next_report: Instant,
    /// Counter of full intra requests (RFC 5104 section 4.3.1.1).
    pub fir_count: u8,
    /// It sent a bitrate estimate (REMB) without having negotiated that.
    pub spurious_remb: bool,
    /// Where copies of its packets go, if anybody wants them.
    pub tap: Option<Tap>,
}

impl Endpoint {
    /// An endpoint without keys, address and media.
    pub fn new(id: EndpointId, spec: EndpointSpec, now: Instant) -> Self {
        Self {
            id,
            spec,
            media: Arc::default(),
            tables: Arc::default(),
            sender: Sender::default(),
            receiver: Receiver::default(),
            subscriptions: Vec::new(),
            last_received: None,
            next_report: now,
            fir_count: 0,
            spurious_remb: false,
            tap: None,
        }
    }
}
