//! From a request to a conference's mailbox, and from there to its answer.

use std::{sync::Arc, time::Instant};

use rialto_media::{LogLimit, Rate};
use tokio::sync::oneshot;

use super::{
    Inner, ShutdownState, is_bare_jid,
    mailbox::{Mailbox, Refused},
    now,
    registry::{Found, Handle, handle_of},
    task::Task,
};
use crate::{
    colibri::{ColibriError, Condition, ConferenceModified, ConferenceModify},
    conference::{Conference, Rules},
    telemetry::{self, Parent, RequestSpans},
};

/// Rate of log lines about refusals: a focus may send invalid requests as fast as it can.
pub(super) static REFUSALS: LogLimit = LogLimit::new(Rate::per_second(20, 20));

/// Upper bound of the length of a meeting id, bytes.
const MAX_MEETING_ID_LENGTH: usize = 256;

pub(super) type Answer = Result<ConferenceModified, ColibriError>;

/// A request in its conference's mailbox.
#[derive(Debug)]
pub(super) struct Job {
    pub request: ConferenceModify,
    pub spans: RequestSpans,
    pub reply: oneshot::Sender<Answer>,
}

impl Job {
    /// Its conference ended before its turn came.
    pub(super) fn refuse_as_gone(self) {
        let gone = ColibriError::conference_not_found(&self.request.meeting_id);
        // The caller may have gone.
        let _ = self.reply.send(Err(gone));
    }
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
        let refused = self.enqueue(Job { request, spans, reply }).err();
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
                bridge.delays.answered(asked.elapsed());
            }
            if let Err(error) = &answer {
                telemetry::refused(&span, error);
            }
            answer
        }
    }

    fn enqueue(self: &Arc<Self>, job: Job) -> Result<(), ColibriError> {
        let handle = self.find_or_create(&job.request).inspect_err(|error| {
            if let Some(suppressed) = REFUSALS.allow(Instant::now()) {
                tracing::warn!(meeting = %job.request.meeting_id, %error, suppressed, "request refused");
            }
        })?;
        let most = self.config.max_queued_requests.max(1);
        handle.mailbox.request(job, most).map_err(|refused| match refused {
            Refused::Ended => ColibriError::conference_not_found(&handle.meeting_id),
            Refused::Full => {
                self.totals.request_refused();
                if let Some(suppressed) = REFUSALS.allow(Instant::now()) {
                    let (conference, meeting) = (&handle.id, &handle.meeting_id);
                    tracing::warn!(%conference, %meeting, suppressed, "queue is full");
                }
                ColibriError::new(Condition::ResourceConstraint, "Too many requests are waiting")
            }
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
        match self.registry.find_or_create(meeting_id, || self.create(request))? {
            Found::Existing(_) if request.create => {
                Err(ColibriError::conference_already_exists(meeting_id))
            }
            Found::Existing(handle) | Found::Created(handle) => Ok(handle),
        }
    }

    /// Makes the conference that a request asks for, and starts its task.
    fn create(self: &Arc<Self>, request: &ConferenceModify) -> Result<Arc<Handle>, ColibriError> {
        if !request.create {
            return Err(ColibriError::conference_not_found(&request.meeting_id));
        }
        if self.shutdown.borrow().state != ShutdownState::Running {
            return Err(ColibriError::graceful_shutdown());
        }
        if request.name.as_deref().is_some_and(|name| !is_bare_jid(name)) {
            return Err(ColibriError::bad_request("Invalid conference name (not a JID)"));
        }
        if self.registry.len() >= self.config.max_conferences {
            self.totals.request_refused();
            let text = "The bridge has as many conferences as it may have";
            return Err(ColibriError::new(Condition::ResourceConstraint, text));
        }
        let (mailbox, mail) = Mailbox::new();
        let identity = self.registry.identity(request);
        let handle = handle_of(&identity, mailbox);
        let conference = Conference::new(identity, self.rules(), now());
        self.totals.conference_created();
        tracing::info!(
            conference = %handle.id,
            meeting = %handle.meeting_id,
            name = request.name,
            "conference created"
        );
        let task = Task::new(handle.clone(), conference, self);
        let tick = self.config.activity_check_interval;
        tokio::spawn(task.run(Arc::downgrade(self), mail, tick));
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
}

/// The spans of a request, which may carry the trace that it belongs to.
fn spans_of(request: &ConferenceModify) -> RequestSpans {
    let parent = || {
        let given = request.traceparent.as_ref()?;
        Parent::from_parts(&given.trace_id, &given.parent_id, &given.trace_flags)
    };
    RequestSpans::new(parent, &request.meeting_id, request.endpoints.len())
}
