//! From a request to its answer.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use rialto_media::{LogLimit, Rate};
use tokio::sync::{mpsc, oneshot};

use super::{Inner, RestartAnswer, ShutdownState, is_bare_jid, lock, now, registry::Handle};
use crate::{
    colibri::{
        Colibri2Endpoint, ColibriError, Condition, ConferenceModified, ConferenceModify, SCTP_PORT,
        Sctp, SctpRole, Transport,
    },
    conference::{Answered, Conference, Effects, Endpoint, Rules, TransportStep},
    telemetry::{self, Parent, RequestSpans, step},
};

/// Who may ask may ask for nonsense, as fast as it can: of refusals no more is logged.
static REFUSALS: LogLimit = LogLimit::new(Rate::per_second(20, 20));

/// Upper bound of the length of a meeting id, bytes.
const MAX_MEETING_ID_LENGTH: usize = 256;

/// An endpoint without a bridge channel after so long is counted, as in JVB.
const CHANNEL_DELAY: Duration = Duration::from_secs(30);

type Answer = Result<ConferenceModified, ColibriError>;

/// A request in its conference's queue.
#[derive(Debug)]
pub(super) struct Job {
    request: ConferenceModify,
    spans: RequestSpans,
    reply: oneshot::Sender<Answer>,
}

impl Inner {
    /// Queues a request; the future waits for the answer.
    pub(super) fn submit(
        self: &Arc<Self>,
        request: ConferenceModify,
    ) -> impl Future<Output = Answer> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        let asked = Instant::now();
        let spans = spans_of(&request);
        let span = spans.request().clone();
        let refused = self.enqueue(request, spans, reply).err();
        let bridge = Arc::downgrade(self);
        async move {
            if let Some(error) = refused {
                telemetry::refused(&span, &error);
                return Err(error);
            }
            let lost =
                || ColibriError::new(Condition::InternalServerError, "The bridge has stopped");
            let answer = answer.await.unwrap_or_else(|_| Err(lost()));
            if let Some(bridge) = bridge.upgrade() {
                lock(&bridge.delays).answered(asked.elapsed());
            }
            if let Err(error) = &answer {
                telemetry::refused(&span, error);
            }
            answer
        }
    }

    fn enqueue(
        self: &Arc<Self>,
        request: ConferenceModify,
        spans: RequestSpans,
        reply: oneshot::Sender<Answer>,
    ) -> Result<(), ColibriError> {
        let handle = self.find_or_create(&request).inspect_err(|error| {
            if let Some(suppressed) = REFUSALS.allow(Instant::now()) {
                tracing::warn!(meeting = %request.meeting_id, %error, suppressed, "request refused");
            }
        })?;
        let queue = lock(&handle.queue);
        let Some(queue) = queue.as_ref() else {
            return Err(ColibriError::conference_not_found(&handle.meeting_id));
        };
        queue.try_send(Job { request, spans, reply }).map_err(|_| {
            self.totals.request_refused();
            if let Some(suppressed) = REFUSALS.allow(Instant::now()) {
                let (conference, meeting) = (&handle.id, &handle.meeting_id);
                tracing::warn!(%conference, %meeting, suppressed, "queue is full");
            }
            ColibriError::new(Condition::ResourceConstraint, "Too many requests are waiting")
        })
    }

    fn find_or_create(
        self: &Arc<Self>,
        request: &ConferenceModify,
    ) -> Result<Arc<Handle>, ColibriError> {
        let meeting_id = &request.meeting_id;
        if meeting_id.is_empty()
            || meeting_id.len() > MAX_MEETING_ID_LENGTH
            || meeting_id.chars().any(char::is_control)
        {
            return Err(ColibriError::bad_request(
                "meeting-id must be set, with at most 256 bytes and no control characters",
            ));
        }
        let mut registry = lock(&self.registry);
        match registry.by_meeting(meeting_id) {
            Some(_) if request.create => {
                return Err(ColibriError::conference_already_exists(meeting_id));
            }
            Some(handle) => return Ok(handle),
            None if !request.create => return Err(ColibriError::conference_not_found(meeting_id)),
            None => {}
        }
        if lock(&self.shutdown).state != ShutdownState::Running {
            return Err(ColibriError::graceful_shutdown());
        }
        if request.name.as_deref().is_some_and(|name| !is_bare_jid(name)) {
            return Err(ColibriError::bad_request("Invalid conference name (not a JID)"));
        }
        if registry.len() >= self.config.max_conferences {
            self.totals.request_refused();
            let text = "The bridge has as many conferences as it may have";
            return Err(ColibriError::new(Condition::ResourceConstraint, text));
        }
        let (queue, jobs) = mpsc::channel(self.config.max_queued_requests.max(1));
        let handle = registry.create(request, self.rules(), queue, now());
        self.totals.conference_created();
        tracing::info!(conference = %handle.id, meeting = %meeting_id, name = request.name, "conference created");
        tokio::spawn(answer_all(Arc::downgrade(self), Arc::downgrade(&handle), jobs));
        Ok(handle)
    }

    fn rules(&self) -> Rules {
        Rules {
            sctp: self.config.sctp,
            relays_wanted: self.config.relays_wanted,
            initial_last_n: self.config.initial_last_n,
            limits: self.config.limits,
            last_n_by_size: self.config.last_n_by_size.clone(),
            last_n_by_load: self.last_n_by_load(),
            connection_stats: self.config.connection_stats,
            ssrc_limits: self.config.ssrc_limits,
            stats_filter_threshold: self.config.stats_filter_threshold,
            recent_speakers: self.config.recent_speakers,
            silence_after: self.config.silence_after,
            expiration_timeout: self.config.expiration_timeout,
            connect_timeout: self.config.connect_timeout,
            empty_timeout: self.config.empty_conference_timeout,
            first_transfer_timeout: self.config.first_transfer_timeout,
            max_inactivity: self.config.max_inactivity,
        }
    }

    /// Answers one request, and expires the conference if that was asked, nobody is left, or it was to be
    /// created by this request: a focus that is refused may ask for the same meeting again.
    fn answer(&self, handle: &Arc<Handle>, request: &ConferenceModify) -> Answer {
        let answer = self.try_answer(handle, request);
        if answer.is_err() && request.create {
            let is_empty = |c: &Conference| c.endpoints().len() == 0;
            if lock(&handle.state).as_ref().is_some_and(is_empty) {
                self.expire(handle, "its creation was refused");
            }
        }
        answer
    }

    fn try_answer(&self, handle: &Arc<Handle>, request: &ConferenceModify) -> Answer {
        let mut state = lock(&handle.state);
        let Some(conference) = state.as_mut() else {
            return Err(ColibriError::conference_not_found(&handle.meeting_id));
        };
        self.check_room(request)?;
        let mut effects = Effects::default();
        let answered = step!("allocate")
            .in_scope(|| conference.modify(request, &mut *lock(&self.ids), now(), &mut effects));
        conference.tell_wishes(&mut effects);
        conference.tell_slots(&mut effects);
        // The engine knows an endpoint before its transport can bind an address to it.
        self.apply(handle, effects);
        let answered = answered?;
        let expire = answered.expire;
        let answer = self.complete(handle, conference, request, answered);
        drop(state);
        if expire {
            let why = if request.expire { "the focus said so" } else { "nobody is left" };
            self.expire(handle, why);
        }
        Ok(answer)
    }

    /// Whether there is room for the endpoints that a request creates.
    fn check_room(&self, request: &ConferenceModify) -> Result<(), ColibriError> {
        let new = request.endpoints.iter().filter(|endpoint| endpoint.create).count();
        if new > 0 && self.routes.len().saturating_add(new) > self.config.max_endpoints {
            self.totals.request_refused();
            let text = "The bridge has as many endpoints as it may have";
            return Err(ColibriError::new(Condition::ResourceConstraint, text));
        }
        Ok(())
    }

    /// Takes the transport steps, and describes what is to be described.
    fn complete(
        &self,
        handle: &Arc<Handle>,
        conference: &Conference,
        request: &ConferenceModify,
        answered: Answered,
    ) -> ConferenceModified {
        let mut endpoints = Vec::with_capacity(answered.endpoints.len());
        for endpoint in answered.endpoints {
            let transport = endpoint.transport.and_then(|step| {
                if step.create.is_some() {
                    let visitor =
                        conference.endpoint(&endpoint.id).is_some_and(Endpoint::is_visitor);
                    self.totals.endpoint_created(visitor);
                    self.routes.insert(step.endpoint, handle.clone());
                    self.channels.add(step.endpoint);
                    if self.config.capture.from_start
                        && let Err(error) =
                            self.start_capture(&handle.id, &endpoint.id, step.endpoint)
                    {
                        tracing::warn!(conference = %handle.id, endpoint = %endpoint.id, %error, "not captured");
                    }
                    lock(&self.channels_due).push_back((now() + CHANNEL_DELAY, step.endpoint));
                }
                let mut transport = self.take_step(&step, conference.label(&endpoint.id));
                if let Some(ice) = transport.as_mut().and_then(|t| t.ice_udp.as_mut()) {
                    ice.web_sockets = self.web_sockets(handle, &endpoint.id, step.endpoint);
                }
                transport
            });
            endpoints.push(Colibri2Endpoint {
                id: endpoint.id,
                expire: endpoint.expire,
                transport,
                ..Colibri2Endpoint::default()
            });
        }
        log_answer(handle, request);
        ConferenceModified { endpoints, relays: Vec::new(), sources: answered.sources }
    }

    fn take_step(&self, step: &TransportStep, label: Arc<str>) -> Option<Transport> {
        let _span = step!("transport", create = step.create.is_some()).entered();
        let id = step.endpoint;
        if let Some(create) = step.create {
            self.transports.create(id, create, label);
        }
        if step.sctp {
            self.transports.offer_sctp(id);
        }
        if let Some(remote) = &step.remote {
            self.transports.set_remote(id, remote);
        }
        let restarted = step.restart.then(|| self.transports.restart_ice(id));
        let described = match restarted {
            Some(RestartAnswer::Started(ice) | RestartAnswer::NotEstablished(ice)) => Some(ice),
            _ if step.create.is_some() => self.transports.describe(id),
            _ => None,
        };
        described.map(|ice| Transport {
            ice_udp: Some(ice),
            sctp: step.sctp.then_some(Sctp { role: Some(SctpRole::Server), port: Some(SCTP_PORT) }),
            ..Transport::default()
        })
    }
}

/// The spans of a request, which may say itself what trace it is of.
fn spans_of(request: &ConferenceModify) -> RequestSpans {
    let parent = || {
        let given = request.traceparent.as_ref()?;
        Parent::from_parts(&given.trace_id, &given.parent_id, &given.trace_flags)
    };
    RequestSpans::new(parent, &request.meeting_id, request.endpoints.len())
}

/// Answers a conference's requests, one after the other, until it has expired and its queue is
/// empty.
async fn answer_all(bridge: Weak<Inner>, handle: Weak<Handle>, mut jobs: mpsc::Receiver<Job>) {
    while let Some(Job { request, spans, reply }) = jobs.recv().await {
        let answer = match (bridge.upgrade(), handle.upgrade()) {
            (Some(bridge), Some(handle)) => {
                let begun = Instant::now();
                let answered = catch_unwind(AssertUnwindSafe(|| {
                    let _handled = spans.handle();
                    bridge.answer(&handle, &request)
                }));
                lock(&bridge.delays).handled(begun.elapsed());
                let answer = answered.unwrap_or_else(|_| {
                    Err(ColibriError::new(
                        Condition::InternalServerError,
                        "The request could not be handled",
                    ))
                });
                if let Err(error) = &answer
                    && let Some(suppressed) = REFUSALS.allow(Instant::now())
                {
                    tracing::warn!(
                        conference = %handle.id,
                        meeting = %handle.meeting_id,
                        %error,
                        suppressed,
                        "request refused"
                    );
                }
                answer
            }
            _ => Err(ColibriError::conference_not_found(&request.meeting_id)),
        };
        // Who asked may have gone.
        let _ = reply.send(answer);
    }
}

/// One line for each endpoint of a request, or one for the request.
fn log_answer(handle: &Handle, request: &ConferenceModify) {
    let (conference, meeting) = (&handle.id, &handle.meeting_id);
    for endpoint in &request.endpoints {
        if is_trickle(endpoint) {
            tracing::debug!(%conference, %meeting, endpoint = %endpoint.id, "transport updated");
            continue;
        }
        tracing::info!(
            %conference,
            %meeting,
            endpoint = %endpoint.id,
            create = endpoint.create,
            expire = endpoint.expire,
            transport = endpoint.transport.is_some(),
            media = endpoint.media.len(),
            sources = ?endpoint.sources.as_ref().map(Vec::len),
            force_mute = ?endpoint.force_mute.map(|mute| (mute.audio, mute.video)),
            "request answered"
        );
    }
    let exports = request.connects.iter().flatten().filter(|connect| connect.create).count();
    if exports > 0 {
        tracing::warn!(%conference, %meeting, exports, "media export was asked for, which is not there yet");
    }
    if request.endpoints.is_empty() {
        tracing::info!(%conference, %meeting, expire = request.expire, "request answered");
    }
}

/// A request that only brings candidates or credentials: a client sends one for each candidate.
fn is_trickle(endpoint: &Colibri2Endpoint) -> bool {
    endpoint.transport.is_some()
        && !(endpoint.create || endpoint.expire)
        && endpoint.media.is_empty()
        && endpoint.sources.is_none()
        && endpoint.force_mute.is_none()
}
