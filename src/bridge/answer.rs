//! How a conference's task answers a request.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use super::{
    Inner, RestartAnswer,
    modify::{Answer, Job, REFUSALS},
    now,
    registry::Handle,
    task::Task,
};
use crate::{
    colibri::{
        Colibri2Endpoint, ColibriError, Condition, ConferenceModified, ConferenceModify, SCTP_PORT,
        Sctp, SctpRole, Transport,
    },
    conference::{Answered, Endpoint, TransportStep},
    telemetry::step,
};

impl Task {
    /// Answers a request.
    pub(super) fn answer(&mut self, bridge: &Arc<Inner>, job: Job) {
        let Job { request, spans, reply } = job;
        let begun = Instant::now();
        let answered = catch_unwind(AssertUnwindSafe(|| {
            let _handled = spans.handle();
            self.answer_of(bridge, &request)
        }));
        bridge.delays.handled(begun.elapsed());
        let answer = answered.unwrap_or_else(|_| {
            let text = "The request could not be handled";
            Err(ColibriError::new(Condition::InternalServerError, text))
        });
        if let Err(error) = &answer
            && let Some(suppressed) = REFUSALS.allow(Instant::now())
        {
            tracing::warn!(
                conference = %self.handle.id,
                meeting = %self.handle.meeting_id,
                %error,
                suppressed,
                "request refused"
            );
        }
        // Statistics must be up to date before the caller has the answer.
        self.publish_soon(bridge);
        // The caller may have gone.
        let _ = reply.send(answer);
    }

    /// The answer to a request. The conference ends if the request expires it, if it has no endpoints left,
    /// or if this request was to create it: a focus that is refused may ask for the same meeting again.
    fn answer_of(&mut self, bridge: &Arc<Inner>, request: &ConferenceModify) -> Answer {
        let answer = self.try_answer(bridge, request);
        if answer.is_err() && request.create && self.conference.endpoints().len() == 0 {
            self.expire(bridge, "its creation was refused");
        }
        answer
    }

    fn try_answer(&mut self, bridge: &Arc<Inner>, request: &ConferenceModify) -> Answer {
        bridge.check_room(request)?;
        let mut ids = &bridge.ids;
        let answered = self.change(bridge, |conference, effects| {
            step!("allocate").in_scope(|| conference.modify(request, &mut ids, now(), effects))
        });
        // The engine knows an endpoint before its transport can bind an address to it.
        let answered = answered?;
        let expire = answered.expire;
        let answer = self.complete(bridge, request, answered);
        if expire {
            let why = if request.expire { "the focus expired it" } else { "nobody is left" };
            self.expire(bridge, why);
        }
        Ok(answer)
    }

    /// Takes the transport steps, and describes the transports that belong into the answer.
    fn complete(
        &mut self,
        bridge: &Arc<Inner>,
        request: &ConferenceModify,
        answered: Answered,
    ) -> ConferenceModified {
        let mut endpoints = Vec::with_capacity(answered.endpoints.len());
        for endpoint in answered.endpoints {
            let transport =
                endpoint.transport.and_then(|step| self.take_step(bridge, &endpoint.id, &step));
            endpoints.push(Colibri2Endpoint {
                id: endpoint.id,
                expire: endpoint.expire,
                transport,
                ..Colibri2Endpoint::default()
            });
        }
        log_answer(&self.handle, request);
        ConferenceModified { endpoints, relays: Vec::new(), sources: answered.sources }
    }

    fn take_step(
        &mut self,
        bridge: &Arc<Inner>,
        id: &str,
        step: &TransportStep,
    ) -> Option<Transport> {
        if step.create.is_some() {
            self.begin_endpoint(bridge, id, step);
        }
        let mut transport = bridge.take_step(step, self.conference.label(id));
        if let Some(ice) = transport.as_mut().and_then(|t| t.ice_udp.as_mut()) {
            ice.web_sockets = bridge.web_sockets(&self.handle, id, step.endpoint);
        }
        transport
    }

    fn begin_endpoint(&mut self, bridge: &Arc<Inner>, id: &str, step: &TransportStep) {
        let visitor = self.conference.endpoint(id).is_some_and(Endpoint::is_visitor);
        bridge.totals.endpoint_created(visitor);
        bridge.registry.add_route(step.endpoint, self.handle.clone());
        bridge.channels.add(step.endpoint);
        if bridge.config.capture.from_start
            && let Err(error) = self.start_capture(bridge, id, step.endpoint)
        {
            tracing::warn!(conference = %self.handle.id, endpoint = %id, %error, "not captured");
        }
        self.expect_channel(step.endpoint);
    }
}

impl Inner {
    /// Whether there is room for the endpoints that a request creates.
    fn check_room(&self, request: &ConferenceModify) -> Result<(), ColibriError> {
        let new = request.endpoints.iter().filter(|endpoint| endpoint.create).count();
        if new > 0 && self.registry.endpoints().saturating_add(new) > self.config.max_endpoints {
            self.totals.request_refused();
            let text = "The bridge has as many endpoints as it may have";
            return Err(ColibriError::new(Condition::ResourceConstraint, text));
        }
        Ok(())
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
        tracing::warn!(%conference, %meeting, exports, "media export requested, which is not supported yet");
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
