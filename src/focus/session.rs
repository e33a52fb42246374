//! One page's session: the last offer and answer, and the state sent to the bridge. The focus always offers
//! and the page always answers; at most one offer is pending, and later changes wait for the next.

use std::sync::Arc;

use rialto_media::Mid;

use super::{
    answer,
    message::{
        BridgeView, Encoding, Forwarded, FromPage, MAX_ENCODINGS, Sending, Short, Slot, ToPage,
    },
    offer::Offers,
    room::{Membership, Room},
    sdp::{self, Description, Kind},
};
use crate::{
    bridge::Bridge,
    colibri::{
        Colibri2Endpoint, ColibriError, ConferenceModified, ConferenceModify, IceUdp, Media,
        MediaSource, Reason, Sctp, Transport, capability,
    },
};

/// Seconds that a page may take to answer.
const MAX_ANSWER_TICKS: u32 = 30;

/// Why a session ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    /// The bridge refused what the session needs.
    #[error("the bridge refused: {0}")]
    Bridge(#[from] ColibriError),
    /// The bridge answered without a transport.
    #[error("the bridge gave no transport")]
    NoTransport,
    /// The page sent an invalid message.
    #[error("not a message: {0}")]
    Message(#[from] serde_json::Error),
    /// The page's description cannot be parsed.
    #[error("cannot read the answer: {0}")]
    Answer(#[from] sdp::Error),
    /// The page did not answer an offer in time.
    #[error("the page does not answer")]
    NoAnswer,
    /// More encodings than [`MAX_ENCODINGS`].
    #[error("too many encodings")]
    TooManyEncodings,
}

/// One page's session.
#[derive(Debug)]
pub(super) struct Session {
    bridge: Bridge,
    membership: Membership,
    offers: Offers,
    /// The version of the pending offer, and how many ticks it has been pending.
    pending: Option<(u64, u32)>,
    /// A new offer is due.
    due: bool,
    /// ICE restarts so far, as the bridge counts them.
    generation: Option<u32>,
    sending: Sending,
    answer: Option<Description>,
    encodings: Vec<Encoding>,
    sent: SentState,
}

/// What the bridge was last sent about the page.
#[derive(Debug, Default)]
struct SentState {
    transport: Option<IceUdp>,
    media: Vec<Media>,
    sources: Vec<MediaSource>,
}

impl Session {
    /// Creates the endpoint, and the conference if it is the first.
    pub(super) async fn open(bridge: Bridge, membership: Membership) -> Result<Self, SessionError> {
        let modified = create_endpoint(&bridge, &membership).await?;
        let ice = ice_of(&modified, &membership.id).ok_or(SessionError::NoTransport)?;
        // 63 bits: browsers parse the number as signed.
        let session = rand::random::<u64>() >> 1;
        let mut offers = Offers::new(session, answer::bridge_transport(ice));
        if bridge.has_sctp() {
            offers.offer_data();
        }
        offers.set_sources(&membership.room.sources_for(&membership.id));
        Ok(Self {
            bridge,
            membership,
            offers,
            pending: None,
            due: true,
            generation: None,
            sending: Sending::default(),
            answer: None,
            encodings: Vec::new(),
            sent: SentState::default(),
        })
    }

    /// The room.
    pub(super) fn room(&self) -> &Arc<Room> {
        &self.membership.room
    }

    /// The endpoint's id.
    pub(super) fn id(&self) -> &str {
        &self.membership.id
    }

    /// Returns the first messages to the page.
    pub(super) async fn greet(&mut self) -> Vec<ToPage> {
        let mut out =
            vec![ToPage::Welcome { id: self.id().to_owned(), room: self.room().name.clone() }];
        out.extend(self.on_room_change().await);
        out
    }

    /// Handles a change of the room.
    pub(super) async fn on_room_change(&mut self) -> Vec<ToPage> {
        let sources = self.room().sources_for(self.id());
        self.due |= self.offers.set_sources(&sources);
        let mut out = vec![ToPage::Peers { peers: self.room().peers() }];
        out.extend(self.offer().await);
        out
    }

    /// Handles a message from the page.
    pub(super) async fn on_text(&mut self, text: &str) -> Result<Vec<ToPage>, SessionError> {
        match serde_json::from_str(text)? {
            FromPage::Answer { version, sdp, encodings } => {
                self.on_answer(version, &sdp, encodings).await
            }
            FromPage::Encodings { encodings } => {
                self.set_encodings(encodings)?;
                self.update_bridge().await?;
                Ok(Vec::new())
            }
            FromPage::Name { name } => {
                self.membership.rename(&name);
                Ok(Vec::new())
            }
            FromPage::Candidate { candidate } => self.on_candidate(&candidate).await,
            FromPage::Sending(sending) => {
                self.sending = sending;
                self.update_bridge().await?;
                Ok(Vec::new())
            }
            FromPage::Restart => self.on_restart().await,
        }
    }

    /// Returns the bridge's measurements and decisions for this page.
    async fn bridge_view(&self) -> Option<ToPage> {
        let view = self.bridge.endpoint_view(&self.room().meeting_id, self.id()).await?;
        let reasons = self.bridge.video_reasons(&self.room().meeting_id, self.id()).await?;
        let short = reasons.into_iter().filter(|why| why.reason != rialto_engine::Reason::Nothing);
        Some(ToPage::Bridge(BridgeView {
            rtt_ms: view.rtt.map(|rtt| rtt.as_secs_f64() * 1000.0),
            receive_bps: view.receive_bps,
            send_bps: view.send_bps,
            receive_loss: view.receive_loss,
            send_loss: view.send_loss,
            connected: view.connected,
            forwarded: view
                .sources
                .into_iter()
                .map(|source| Forwarded {
                    source: source.name,
                    current: source.current,
                    target: source.target,
                    encodings: source.encodings,
                    height: source.height,
                    bps: source.bps,
                    packets: source.packets,
                    retransmissions: source.retransmissions,
                })
                .collect(),
            short: short
                .map(|why| Short {
                    source: why.source,
                    reason: why.reason.as_str(),
                    seconds: why.since.elapsed().as_secs(),
                })
                .collect(),
        }))
    }

    /// Called about once a second. Returns an error when the page has not answered for too long.
    pub(super) async fn on_tick(&mut self) -> Result<Option<ToPage>, SessionError> {
        if let Some((_, ticks)) = &mut self.pending {
            *ticks += 1;
            if *ticks > MAX_ANSWER_TICKS {
                return Err(SessionError::NoAnswer);
            }
        }
        Ok(self.bridge_view().await)
    }

    /// Expires the endpoint and leaves the room.
    pub(super) async fn close(self) {
        let mut endpoint = Colibri2Endpoint::new(self.id());
        endpoint.expire = true;
        if let Err(error) = self.modify(endpoint).await {
            tracing::debug!(endpoint = %self.id(), %error, "the bridge did not expire an endpoint");
        }
    }

    /// Returns an offer, if one is due and none is pending. The bridge stamps the MIDs from then on: the
    /// browser drops packets that arrive before the page has applied the offer.
    async fn offer(&mut self) -> Option<ToPage> {
        if !self.due || self.pending.is_some() {
            return None;
        }
        self.due = false;
        let sdp = self.offers.next().to_string();
        let version = self.offers.version();
        self.pending = Some((version, 0));
        let slots: Vec<Slot> = self
            .offers
            .mids()
            .map(|(mid, source)| Slot {
                mid: mid.to_owned(),
                source: source.name.clone(),
                endpoint: source.endpoint.clone(),
                kind: match source.kind {
                    Kind::Audio => "audio",
                    _ if source.desktop => "desktop",
                    _ => "camera",
                },
            })
            .collect();
        let mids = slots
            .iter()
            .filter_map(|slot| Some((slot.source.clone(), Mid::new(&slot.mid)?)))
            .collect();
        self.bridge.assign_mids(&self.room().meeting_id, self.id(), mids).await;
        Some(ToPage::Offer { version, sdp, slots })
    }

    async fn on_answer(
        &mut self,
        version: u64,
        sdp: &str,
        encodings: Vec<Encoding>,
    ) -> Result<Vec<ToPage>, SessionError> {
        if self.pending.is_none_or(|(pending, _)| pending != version) {
            return Ok(Vec::new());
        }
        self.set_encodings(encodings)?;
        self.answer = Some(Description::parse(sdp)?);
        self.pending = None;
        self.update_bridge().await?;
        Ok(self.offer().await.into_iter().collect())
    }

    fn set_encodings(&mut self, encodings: Vec<Encoding>) -> Result<(), SessionError> {
        if encodings.len() > MAX_ENCODINGS {
            return Err(SessionError::TooManyEncodings);
        }
        self.encodings = encodings;
        Ok(())
    }

    async fn on_candidate(&mut self, candidate: &str) -> Result<Vec<ToPage>, SessionError> {
        let Ok(candidate) = candidate.parse::<sdp::Candidate>() else { return Ok(Vec::new()) };
        if candidate.protocol != "udp" {
            return Ok(Vec::new());
        }
        // Before the answer the bridge has no credentials for checks; afterwards it also discovers the
        // page's addresses by itself, so that a candidate that is lost here does no harm.
        let Some(sent) = &self.sent.transport else { return Ok(Vec::new()) };
        let ice_udp = IceUdp {
            ufrag: sent.ufrag.clone(),
            pwd: sent.pwd.clone(),
            ice_generation: sent.ice_generation,
            candidates: vec![answer::candidate(&candidate)],
            rtcp_mux: true,
            ..IceUdp::default()
        };
        let mut endpoint = Colibri2Endpoint::new(self.id());
        endpoint.transport = Some(Transport { ice_udp: Some(ice_udp), ..Transport::default() });
        self.modify(endpoint).await?;
        Ok(Vec::new())
    }

    async fn on_restart(&mut self) -> Result<Vec<ToPage>, SessionError> {
        let mut endpoint = Colibri2Endpoint::new(self.id());
        endpoint.transport = Some(Transport { ice_restart: true, ..Transport::default() });
        let modified = self.modify(endpoint).await?;
        let Some(ice) = ice_of(&modified, self.id()).filter(|ice| ice.ice_generation.is_some())
        else {
            let message = "the bridge does not restart ICE now".to_owned();
            return Ok(vec![ToPage::Failed { message }]);
        };
        self.generation = ice.ice_generation;
        self.offers.set_transport(answer::bridge_transport(ice));
        self.due = true;
        Ok(self.offer().await.into_iter().collect())
    }

    /// Sends the bridge what has changed, then updates the room.
    async fn update_bridge(&mut self) -> Result<(), SessionError> {
        let Some(described) = &self.answer else { return Ok(()) };
        let mut endpoint = Colibri2Endpoint::new(self.id());
        let known = self.sent.transport.as_ref();
        let transport = answer::transport(described)
            .filter(|new| known.is_none_or(|known| known.ufrag != new.ufrag))
            .map(|new| IceUdp { ice_generation: self.generation, ..new });
        endpoint.transport = transport
            .clone()
            .map(|ice_udp| Transport { ice_udp: Some(ice_udp), ..Transport::default() });
        let media = answer::media(described);
        if media != self.sent.media {
            endpoint.media.clone_from(&media);
        }
        let own = answer::own_sources(self.id(), described, &self.encodings, self.sending);
        let sources: Vec<MediaSource> = own.iter().map(|own| own.signalled.clone()).collect();
        if sources != self.sent.sources {
            endpoint.sources = Some(sources.clone());
        }
        if endpoint.is_substantial() {
            self.modify(endpoint).await?;
            self.sent.transport = transport.or(self.sent.transport.take());
            self.sent.media = media;
            self.sent.sources = sources;
        }
        self.membership.publish(self.sending, own.into_iter().map(|own| own.remote).collect());
        Ok(())
    }

    async fn modify(&self, endpoint: Colibri2Endpoint) -> Result<ConferenceModified, ColibriError> {
        self.bridge
            .modify(ConferenceModify {
                meeting_id: self.room().meeting_id.clone(),
                endpoints: vec![endpoint],
                ..ConferenceModify::default()
            })
            .await
    }
}

async fn create_endpoint(
    bridge: &Bridge,
    membership: &Membership,
) -> Result<ConferenceModified, ColibriError> {
    let room = &membership.room;
    let request = |create: bool| ConferenceModify {
        meeting_id: room.meeting_id.clone(),
        name: create.then(|| format!("{}@rooms.rialto.invalid", room.name)),
        create,
        endpoints: vec![Colibri2Endpoint {
            create: true,
            capabilities: vec![capability::SOURCE_NAMES.to_owned()],
            transport: Some(Transport {
                ice_controlling: true,
                sctp: bridge.has_sctp().then(Sctp::default),
                ..Transport::default()
            }),
            ..Colibri2Endpoint::new(membership.id.as_str())
        }],
        ..ConferenceModify::default()
    };
    let mut created = room.conference.lock().await;
    if *created {
        match bridge.modify(request(false)).await {
            // The last endpoint has just left, and the conference ended with it.
            Err(error) if error.reason == Some(Reason::ConferenceNotFound) => {}
            other => return other,
        }
    }
    let modified = bridge.modify(request(true)).await?;
    *created = true;
    Ok(modified)
}

/// Returns the bridge's side of the transport in an answer.
fn ice_of<'a>(modified: &'a ConferenceModified, id: &str) -> Option<&'a IceUdp> {
    let endpoint = modified.endpoints.iter().find(|endpoint| endpoint.id == id)?;
    endpoint.transport.as_ref()?.ice_udp.as_ref()
}

#[cfg(test)]
mod tests;
