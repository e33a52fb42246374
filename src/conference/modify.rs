//! Handles requests: checks them in order, then applies them.
//!
//! A request is checked as a whole before anything changes, in the order in which Jitsi Videobridge
//! comes to each check, so that the same error wins and a refused request leaves nothing behind.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Instant,
};

use rialto_engine::{Control, EndpointSpec};
use rialto_media::{EndpointId, MediaType};

use super::{
    allocated::LinkReports,
    constraints::Due,
    demand::Shares,
    effects::{Effects, Ids},
    endpoint::{Endpoint, TransportState},
    slots::Slots,
    sources::out_of_ids,
    state::Conference,
};
use crate::{
    channel::ReceiverConstraints,
    colibri::{
        ByChannels, Colibri2Endpoint, ColibriError, ConferenceModify, ForceMute, IceUdp,
        MediaSource, MucRole, PlannedSource, SCTP_PORT, Sctp, SctpRole, Source, capability,
    },
};

/// Upper bound of the length of an endpoint's id, bytes.
const MAX_ID_LENGTH: usize = 256;

/// The outcome of a request. The caller takes the transport steps, in order, to complete the answer.
#[derive(Debug, Default)]
pub struct Answered {
    /// One for each endpoint of the request, in its order.
    pub endpoints: Vec<EndpointAnswer>,
    /// The bridge's own SSRCs, when something was created.
    pub sources: Option<Vec<MediaSource>>,
    /// The conference is to expire.
    pub expire: bool,
}

/// The outcome for one endpoint of a request.
#[derive(Debug, Default)]
pub struct EndpointAnswer {
    /// Its id.
    pub id: String,
    /// It was expired.
    pub expire: bool,
    /// The step for its transport.
    pub transport: Option<TransportStep>,
}

/// The actions on a transport, in this order: create, apply the peer's side, restart. The answer describes
/// the transport after a creation or a restart.
#[derive(Debug)]
pub struct TransportStep {
    /// Whose.
    pub endpoint: EndpointId,
    /// It is new.
    pub create: Option<CreateTransport>,
    /// What the peer signalled.
    pub remote: Option<IceUdp>,
    /// Restart it.
    pub restart: bool,
    /// `<sctp>` belongs into the answer.
    pub sctp: bool,
}

/// How a transport is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreateTransport {
    /// The bridge is the controlling side.
    pub controlling: bool,
    /// Signal private addresses.
    pub private_addresses: bool,
}

/// What one endpoint of a request will change.
enum Plan<'a> {
    Expire(&'a str),
    Ignore(&'a str),
    Change { request: &'a Colibri2Endpoint, sources: Option<Vec<PlannedSource>> },
}

impl Conference {
    /// Handles a request: all of it, or nothing and an error.
    pub fn modify(
        &mut self,
        request: &ConferenceModify,
        ids: &mut dyn Ids,
        now: Instant,
        effects: &mut Effects,
    ) -> Result<Answered, ColibriError> {
        check_shape(request)?;
        let ignore_unknown = ignores_unknown_endpoints(request);
        let plans = request
            .endpoints
            .iter()
            .map(|endpoint| self.check_endpoint(endpoint, ignore_unknown))
            .collect::<Result<Vec<_>, _>>()?;
        check_relays(request, self.rules.relays_wanted)?;
        let exports = match &request.connects {
            Some(delta) => Some(self.exports.after(delta)?),
            None => None,
        };

        let mut answered = Answered { expire: request.expire, ..Answered::default() };
        if let Some(exports) = exports {
            self.exports = exports;
        }
        for plan in plans {
            answered.endpoints.push(match plan {
                Plan::Expire(id) => {
                    self.expire_endpoint(id, effects);
                    EndpointAnswer { id: id.to_owned(), expire: true, transport: None }
                }
                Plan::Ignore(id) => {
                    EndpointAnswer { id: id.to_owned(), ..EndpointAnswer::default() }
                }
                Plan::Change { request, sources } => {
                    self.change_endpoint(request, sources, ids, now, effects)?
                }
            });
        }
        if request.create || request.endpoints.iter().any(|endpoint| endpoint.create) {
            answered.sources = Some(self.feedback_sources());
        }
        if !request.create && self.endpoints.is_empty() {
            answered.expire = true;
        }
        Ok(answered)
    }

    fn check_endpoint<'a>(
        &self,
        request: &'a Colibri2Endpoint,
        ignore_unknown: bool,
    ) -> Result<Plan<'a>, ColibriError> {
        check_id(&request.id)?;
        if request.expire {
            return Ok(Plan::Expire(&request.id));
        }
        let existing = self.endpoints.get(&request.id);
        if request.create {
            self.check_creation(request)?;
        } else if existing.is_none() {
            if ignore_unknown {
                return Ok(Plan::Ignore(&request.id));
            }
            return Err(ColibriError::unknown_endpoint(&request.id));
        }
        let visitor =
            existing.map_or(request.muc_role == Some(MucRole::Visitor), Endpoint::is_visitor);
        let sources = match &request.sources {
            Some(sources) if visitor && !sources.is_empty() => {
                return Err(ColibriError::bad_request(format!(
                    "Attempt to set sources for visitor endpoint {}",
                    request.id
                )));
            }
            Some(sources) => Some(self.check_sources(existing.map(|e| e.engine_id), sources)?),
            None => None,
        };
        Ok(Plan::Change { request, sources })
    }

    fn check_creation(&self, request: &Colibri2Endpoint) -> Result<(), ColibriError> {
        let id = &request.id;
        if self.endpoints.contains_key(id) {
            return Err(ColibriError::conflict(format!("Endpoint with ID {id} already exists")));
        }
        let Some(transport) = &request.transport else {
            return Err(ColibriError::bad_request(format!(
                "Attempt to create endpoint {id} with no <transport>"
            )));
        };
        if !request.has_capability(capability::SOURCE_NAMES) {
            return Err(ColibriError::bad_request("Source name support is mandatory."));
        }
        transport.sctp.map_or(Ok(()), |sctp| self.check_sctp(sctp))
    }

    fn check_sctp(&self, sctp: Sctp) -> Result<(), ColibriError> {
        if !self.rules.sctp {
            return Err(ColibriError::not_configured("SCTP support is not configured"));
        }
        if sctp.role.is_some_and(|role| role != SctpRole::Server) {
            return Err(ColibriError::not_configured("Unsupported SCTP role: client"));
        }
        if sctp.port.is_some_and(|port| port != SCTP_PORT) {
            return Err(ColibriError::bad_request("Specific SCTP port requested, not supported."));
        }
        Ok(())
    }

    /// Whether a request's `<sctp>` counts. At a creation it has been checked; in an update one that a
    /// creation would be refused for is passed over, as Jitsi Videobridge passes over all of them.
    fn takes_sctp(&self, request: &Colibri2Endpoint) -> bool {
        let sctp = request.transport.as_ref().and_then(|transport| transport.sctp);
        sctp.is_some_and(|sctp| self.check_sctp(sctp).is_ok())
    }

    fn change_endpoint(
        &mut self,
        request: &Colibri2Endpoint,
        sources: Option<Vec<PlannedSource>>,
        ids: &mut dyn Ids,
        now: Instant,
        effects: &mut Effects,
    ) -> Result<EndpointAnswer, ColibriError> {
        let id = &request.id;
        if request.create {
            self.create_endpoint(request, ids, now, effects)?;
        }
        if let Some(last_n) = request.initial_last_n
            && let Some(endpoint) = self.endpoints.get_mut(id)
        {
            endpoint.initial_last_n = Some(last_n);
            if !request.create {
                self.offer_all(id, effects);
            }
        }
        if let Some(said) = request.v1 {
            self.take_channels(id, said, effects);
        }
        self.add_media(id, &request.media, effects);
        if let Some(planned) = sources {
            self.set_sources(id, planned, ids, effects)?;
        }
        let sctp = self.takes_sctp(request);
        // Expired by an earlier part of the same request.
        let Some(changed) = self.endpoints.get_mut(id) else {
            return Ok(EndpointAnswer { id: id.clone(), ..EndpointAnswer::default() });
        };
        let endpoint = changed.engine_id;
        if let Some(ForceMute { audio, video }) = request.force_mute {
            changed.force_mute = ForceMute { audio, video };
            effects.control(Control::SetForceMute { endpoint, audio, video });
            self.order_changed();
        }
        Ok(EndpointAnswer {
            id: id.clone(),
            expire: false,
            transport: transport_step(endpoint, request, sctp),
        })
    }

    fn create_endpoint(
        &mut self,
        request: &Colibri2Endpoint,
        ids: &mut dyn Ids,
        now: Instant,
        effects: &mut Effects,
    ) -> Result<(), ColibriError> {
        let engine_id = ids.endpoint().ok_or_else(out_of_ids)?;
        let slots = self.slots_for(engine_id, request);
        let mid_demux = slots.is_some() && request.has_capability(capability::RTP_MID_DEMUX);
        let endpoint = Endpoint {
            id: request.id.clone(),
            shared_id: request.id.as_str().into(),
            engine_id,
            stats_id: request.stats_id.clone(),
            muc_role: request.muc_role,
            diarize: request.diarize == Some(true),
            slots,
            mid_demux,
            initial_last_n: Some(self.rules.initial_last_n),
            force_mute: ForceMute::default(),
            v1: ByChannels::default(),
            transport: TransportState::New,
            keyed: false,
            created: now,
            last_activity: None,
            up_until: None,
            inactive: false,
            sources: Vec::new(),
            subscriptions: HashMap::new(),
            mids: HashMap::new(),
            all_audio: false,
            all_videos: false,
            undecided_audio: false,
            undecided_videos: false,
            got_videos: BTreeSet::new(),
            shares: Shares::new(),
            shown: BTreeMap::new(),
            constraints: ReceiverConstraints::new(self.rules.limits),
            keyed_since: None,
            counts: false,
            demand: Vec::new(),
            forwarded: Vec::new(),
            forwarded_of: None,
            snapshot: None,
            allocation: None,
            asked: now,
            ceased: HashMap::new(),
            constraints_due: Due::No,
            sent_constraints: Arc::default(),
            link: LinkReports::default(),
            payload_types: BTreeMap::new(),
            extensions: BTreeMap::new(),
            extmap_allow_mixed: false,
            congestion_feedback: false,
            remb: false,
        };
        effects.control(Control::AddEndpoint(
            engine_id,
            EndpointSpec {
                conference: self.identity.number(),
                label: self.label(&request.id),
                audio_ssrc: self.identity.audio_ssrc,
                video_ssrc: self.identity.video_ssrc,
            },
        ));
        if !endpoint.is_visitor() {
            self.speech_order.push(endpoint.id.clone());
        }
        self.by_engine_id.insert(engine_id, endpoint.id.clone());
        self.endpoints.insert(endpoint.id.clone(), endpoint);
        self.size_changed(effects);
        Ok(())
    }

    /// Slots, for an endpoint that can be sent rewritten SSRCs.
    fn slots_for(&self, endpoint: EndpointId, request: &Colibri2Endpoint) -> Option<Box<Slots>> {
        let reserved = [self.identity.audio_ssrc, self.identity.video_ssrc];
        let mids = request.has_capability(capability::RTP_MID_DEMUX);
        let slots = || Slots::new(self.rules.ssrc_limits, endpoint, reserved, mids);
        request.has_capability(capability::SSRC_REWRITING).then(|| Box::new(slots()))
    }

    /// Applies what COLIBRI 1 signals beyond COLIBRI2.
    fn take_channels(&mut self, id: &str, said: ByChannels, effects: &mut Effects) {
        let Some(endpoint) = self.endpoints.get_mut(id) else { return };
        let before = std::mem::replace(&mut endpoint.v1, said);
        endpoint.shares.all_changed();
        if let Some(last_n) = said.last_n {
            endpoint.initial_last_n = Some(last_n);
            endpoint.constraints.last_n = None;
        }
        let sent = |said: ByChannels| (said.no_audio, said.no_video);
        if said.last_n.is_some() || sent(before) != sent(said) {
            self.offer_all(id, effects);
        }
    }

    /// The bridge's own SSRCs, as sources.
    fn feedback_sources(&self) -> Vec<MediaSource> {
        let source = |media, name: &str, ssrc| MediaSource {
            r#type: media,
            id: name.to_owned(),
            synthetic: false,
            sources: vec![Source { ssrc, name: Some(name.to_owned()), ..Source::default() }],
            ssrc_groups: Vec::new(),
        };
        vec![
            source(MediaType::Audio, "jvb-a0", self.identity.audio_ssrc),
            source(MediaType::Video, "jvb-v0", self.identity.video_ssrc),
        ]
    }
}

fn transport_step(
    endpoint: EndpointId,
    request: &Colibri2Endpoint,
    sctp: bool,
) -> Option<TransportStep> {
    let transport = request.transport.as_ref()?;
    Some(TransportStep {
        endpoint,
        create: request.create.then(|| CreateTransport {
            controlling: transport.ice_controlling,
            private_addresses: request.has_capability(capability::PRIVATE_ADDRESSES),
        }),
        remote: transport.ice_udp.clone(),
        restart: transport.ice_restart,
        sctp,
    })
}

/// Refuses combinations that are not supported, because an answer could not say which part failed.
fn check_shape(request: &ConferenceModify) -> Result<(), ColibriError> {
    if !request.endpoints.is_empty() && !request.relays.is_empty() {
        return Err(ColibriError::feature_not_implemented(
            "Using both 'relay' and 'endpoint' in a request",
        ));
    }
    if request.endpoints.len() > 1 && request.endpoints.iter().any(Colibri2Endpoint::is_substantial)
    {
        return Err(ColibriError::feature_not_implemented(
            "Creating or updating media, sources or transport for more than one endpoint in a request.",
        ));
    }
    if request.relays.len() > 1 {
        return Err(ColibriError::feature_not_implemented(
            "Updating more than one 'relay' in a request.",
        ));
    }
    Ok(())
}

/// Expiry and force-mute of endpoints that are gone are late, not wrong.
fn ignores_unknown_endpoints(request: &ConferenceModify) -> bool {
    !request.endpoints.iter().any(Colibri2Endpoint::is_substantial)
        && request.relays.iter().all(|relay| relay.expire)
}

/// There are no relays. The first line is JVB's, word for word, for the same cause.
fn check_relays(request: &ConferenceModify, wanted: bool) -> Result<(), ColibriError> {
    if request.relays.is_empty() {
        return Ok(());
    }
    Err(ColibriError::not_configured(if wanted {
        "Relays between bridges are not implemented yet: videobridge.relay.enabled has no effect."
    } else {
        "Octo is disabled in configuration."
    }))
}

/// An id goes into logs and addresses: it must be there, short and printable.
fn check_id(id: &str) -> Result<(), ColibriError> {
    if id.is_empty() || id.len() > MAX_ID_LENGTH || id.chars().any(char::is_control) {
        return Err(ColibriError::bad_request(
            "An endpoint's id must have 1 to 256 bytes and no control characters.",
        ));
    }
    Ok(())
}
