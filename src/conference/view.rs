//! What one receiver gets, for debug output and the status page.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use rialto_engine::{Reason, SourceAllocation, SubscriptionSnapshot};
use rialto_media::{MediaType, SourceId};

use super::{
    allocated::Explained,
    endpoint::{EndpointSource, TransportState},
    state::Conference,
};

/// The bridge's decisions and measurements for one receiver.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EndpointView {
    /// ICE and DTLS are up.
    pub connected: bool,
    /// Its RTP to us, bit/s.
    pub receive_bps: u64,
    /// Our RTP to it, bit/s.
    pub send_bps: u64,
    /// Fraction of its packets lost on the way to us, 0..=1.
    pub receive_loss: f32,
    /// Fraction of our packets that it reported lost, 0..=1.
    pub send_loss: f32,
    /// Round trip.
    pub rtt: Option<Duration>,
    /// What its link is estimated to carry, bit/s, if that is known.
    pub estimate_bps: Option<u64>,
    /// Every source that it gets.
    pub sources: Vec<ReceivedSource>,
}

/// One source as one receiver gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedSource {
    /// The source's name.
    pub name: String,
    /// Id of the endpoint that sends it.
    pub owner: String,
    /// Audio or video.
    pub media: MediaType,
    /// The encoding that is forwarded, 0 the lowest.
    pub current: Option<u8>,
    /// The encoding that was decided.
    pub target: Option<u8>,
    /// No higher encoding is for it while a lower one arrives, pixels.
    pub max_height: Option<u16>,
    /// Frame height of the current encoding, if the codec signals it.
    pub height: Option<u16>,
    /// Frame height that it would get over a link that carries everything, pixels, if that is known.
    pub wanted_height: Option<u16>,
    /// Why it gets no more, and since when, once that is decided.
    pub reason: Option<(Reason, Instant)>,
    /// How many encodings the source has.
    pub encodings: u8,
    /// Forwarded, bit/s.
    pub bps: u64,
    /// Packets forwarded in all.
    pub packets: u64,
    /// Of these, again on request.
    pub retransmissions: u64,
}

/// Why a receiver gets no more of one video.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VideoReason {
    /// The source's name.
    pub source: String,
    /// The one reason.
    pub reason: Reason,
    /// Since when that is the reason.
    pub since: Instant,
}

impl Conference {
    /// Why a receiver gets no more of each video of the others, those included of which it is sent nothing;
    /// `None` when there is no such endpoint.
    pub fn video_reasons(&self, id: &str) -> Option<Vec<VideoReason>> {
        let explained = self.explain(self.endpoints.get(id)?, &self.ranking());
        let reason = |(source, why): (&EndpointSource, Explained)| VideoReason {
            source: source.spec.name.to_string(),
            reason: why.reason,
            since: why.since,
        };
        Some(explained.into_iter().map(reason).collect())
    }

    /// The state of a receiver and of what it gets; `None` when there is no such endpoint.
    pub fn view(&self, id: &str) -> Option<EndpointView> {
        let endpoint = self.endpoints.get(id)?;
        let measured = endpoint.snapshot.as_ref();
        let subscriptions: HashMap<SourceId, &SubscriptionSnapshot> = measured
            .map(|m| m.subscriptions.iter().map(|s| (s.source, s)).collect())
            .unwrap_or_default();
        let mut view = EndpointView {
            connected: endpoint.transport == TransportState::Ready && !endpoint.inactive,
            ..EndpointView::default()
        };
        if let Some(measured) = measured {
            view.receive_bps = measured.receive_bps;
            view.send_bps = measured.send_bps;
            view.receive_loss = measured.receive_loss;
            view.send_loss = measured.send_loss;
            view.rtt = measured.rtt;
        }
        view.estimate_bps = endpoint.allocation.as_ref().and_then(|all| all.estimate_bps);
        let decided = endpoint.allocation.iter().flat_map(|all| &all.sources);
        let decided: HashMap<SourceId, &SourceAllocation> =
            decided.map(|decided| (decided.source, decided)).collect();
        for sender in self.endpoints.values() {
            for source in &sender.sources {
                let Some(terms) = endpoint.subscriptions.get(&source.spec.id) else { continue };
                let got = subscriptions.get(&source.spec.id);
                let why = decided.get(&source.spec.id);
                let current = got.and_then(|got| got.current);
                let height = sender
                    .snapshot
                    .as_ref()
                    .and_then(|m| m.sources.iter().find(|s| s.source == source.spec.id))
                    .and_then(|s| *s.encoding_height.get(usize::from(current?))?);
                view.sources.push(ReceivedSource {
                    name: source.spec.name.to_string(),
                    owner: sender.id.clone(),
                    media: source.spec.media,
                    current,
                    target: got.and_then(|got| got.target),
                    max_height: terms.max_height,
                    height,
                    wanted_height: why.and_then(|why| why.wanted_height),
                    reason: why.map(|why| (why.reason, why.since)),
                    encodings: source.spec.encodings.len() as u8,
                    bps: got.map_or(0, |got| got.bps),
                    packets: got.map_or(0, |got| got.packets),
                    retransmissions: got.map_or(0, |got| got.retransmissions),
                });
            }
        }
        Some(view)
    }
}
