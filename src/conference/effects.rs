//! The actions that a conference asks its caller to take, and the source of its ids.

use std::sync::Arc;

use rialto_engine::Control;
use rialto_media::{EndpointId, MediaType, SourceId};

/// The actions that follow a change. Messages go first, so that a client knows the source in a slot before
/// its media can leave.
#[derive(Debug, Default)]
pub struct Effects {
    /// For the engine.
    pub controls: Vec<Control>,
    /// Endpoints that are gone; their transports end before the engine forgets them.
    pub removed: Vec<EndpointId>,
    /// For endpoints, over their channels.
    pub messages: Vec<(EndpointId, Arc<str>)>,
    /// For watchers of the conference.
    pub events: Vec<ConferenceEvent>,
    /// Slots whose receivers need a new source map.
    pub(super) remapped: Vec<(EndpointId, MediaType, usize)>,
}

impl Effects {
    pub(super) fn control(&mut self, control: Control) {
        self.controls.push(control);
    }

    pub(super) fn message(&mut self, to: EndpointId, text: Arc<str>) {
        self.messages.push((to, text));
    }

    pub(super) fn event(&mut self, event: ConferenceEvent) {
        self.events.push(event);
    }
}

/// Events for watchers of a conference. Endpoints and sources go by their signalled names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConferenceEvent {
    /// Somebody else speaks now.
    DominantSpeaker {
        /// Who.
        endpoint: String,
        /// Who spoke before, latest first.
        previous: Vec<String>,
    },
    /// The endpoint is connected: for the first time, or again.
    EndpointConnected {
        /// Who.
        endpoint: String,
    },
    /// Nothing comes from the endpoint. It may come back.
    EndpointDisconnected {
        /// Who.
        endpoint: String,
    },
    /// The endpoint has expired: the focus removed it, or nothing came from it for too long.
    EndpointExpired {
        /// Who.
        endpoint: String,
    },
    /// What is forwarded to a receiver changed.
    Decision {
        /// The receiver.
        endpoint: String,
        /// The source.
        source: String,
        /// The encoding that is forwarded, 0 the lowest.
        current: Option<u8>,
        /// The encoding that was decided.
        target: Option<u8>,
    },
    /// A source on a receiver's stage has been below its requested height for ten seconds. Sent once each
    /// time.
    ShortStage {
        /// The receiver.
        endpoint: String,
        /// The source.
        source: String,
        /// What it would get over a link that carries everything, pixels.
        wanted_height: Option<u16>,
        /// What it is to get, pixels.
        height: Option<u16>,
        /// Why no more.
        reason: &'static str,
        /// What the link is estimated to carry, bit/s.
        estimate_bps: Option<u64>,
    },
    /// The conference is gone; nothing follows.
    ConferenceExpired,
}

/// The source of ids for the engine, which are never used twice.
pub trait Ids {
    /// A new endpoint's; `None` when there are no more.
    fn endpoint(&mut self) -> Option<EndpointId>;
    /// A new source's; `None` when there are no more.
    fn source(&mut self) -> Option<SourceId>;
}

/// [`Ids`] that count up from one.
#[derive(Debug, Default)]
pub struct SequentialIds {
    endpoints: u32,
    sources: u32,
}

impl Ids for SequentialIds {
    fn endpoint(&mut self) -> Option<EndpointId> {
        self.endpoints = self.endpoints.checked_add(1)?;
        Some(EndpointId(self.endpoints))
    }

    fn source(&mut self) -> Option<SourceId> {
        self.sources = self.sources.checked_add(1)?;
        Some(SourceId(self.sources))
    }
}
