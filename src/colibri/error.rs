//! The errors of allocation requests, on which a focus acts.

use std::fmt;

/// Stanza error conditions (RFC 6120 section 8.3.3) that a bridge answers with.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Condition {
    /// The request makes no sense.
    BadRequest,
    /// Something of that name exists.
    Conflict,
    /// This bridge does not do that.
    FeatureNotImplemented,
    /// Our fault.
    InternalServerError,
    /// Nothing of that name exists.
    ItemNotFound,
    /// It is not for you.
    NotAuthorized,
    /// The request is larger than anything that makes sense.
    PolicyViolation,
    /// The bridge is full of requests; try again later or elsewhere.
    ResourceConstraint,
    /// Not now.
    ServiceUnavailable,
}

impl Condition {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::BadRequest,
        Self::Conflict,
        Self::FeatureNotImplemented,
        Self::InternalServerError,
        Self::ItemNotFound,
        Self::NotAuthorized,
        Self::PolicyViolation,
        Self::ResourceConstraint,
        Self::ServiceUnavailable,
    ];

    /// The name of the XML element.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad-request",
            Self::Conflict => "conflict",
            Self::FeatureNotImplemented => "feature-not-implemented",
            Self::InternalServerError => "internal-server-error",
            Self::ItemNotFound => "item-not-found",
            Self::NotAuthorized => "not-authorized",
            Self::PolicyViolation => "policy-violation",
            Self::ResourceConstraint => "resource-constraint",
            Self::ServiceUnavailable => "service-unavailable",
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `<error xmlns='jitsi:colibri2' reason=…>`: the reason beside the condition, by which a focus decides.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reason {
    /// The conference to change does not exist.
    ConferenceNotFound,
    /// The conference to create exists.
    ConferenceAlreadyExists,
    /// The combination in this request is not supported.
    FeatureNotImplemented,
    /// The bridge takes no new conferences.
    GracefulShutdown,
    /// The endpoint to change does not exist.
    UnknownEndpoint,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::ConferenceNotFound,
        Self::ConferenceAlreadyExists,
        Self::FeatureNotImplemented,
        Self::GracefulShutdown,
        Self::UnknownEndpoint,
    ];

    /// The value of the attribute.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConferenceNotFound => "conference_not_found",
            Self::ConferenceAlreadyExists => "conference_already_exists",
            Self::FeatureNotImplemented => "feature_not_implemented",
            Self::GracefulShutdown => "graceful_shutdown",
            Self::UnknownEndpoint => "unknown_endpoint",
        }
    }
}

/// A refused request.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{condition}: {text}")]
pub struct ColibriError {
    /// The stanza error condition.
    pub condition: Condition,
    /// The COLIBRI2 reason, where there is one.
    pub reason: Option<Reason>,
    /// The endpoint it is about ([`Reason::UnknownEndpoint`]).
    pub endpoint: Option<String>,
    /// For people.
    pub text: String,
}

impl ColibriError {
    /// An error without a COLIBRI2 reason.
    pub fn new(condition: Condition, text: impl Into<String>) -> Self {
        Self { condition, reason: None, endpoint: None, text: text.into() }
    }

    /// `bad-request`.
    pub fn bad_request(text: impl Into<String>) -> Self {
        Self::new(Condition::BadRequest, text)
    }

    /// `conflict`.
    pub fn conflict(text: impl Into<String>) -> Self {
        Self::new(Condition::Conflict, text)
    }

    /// `feature-not-implemented` without a reason: a feature that is switched off.
    pub fn not_configured(text: impl Into<String>) -> Self {
        Self::new(Condition::FeatureNotImplemented, text)
    }

    /// `feature-not-implemented` with its reason: a request of a shape that is not supported.
    pub fn feature_not_implemented(text: impl Into<String>) -> Self {
        Self {
            reason: Some(Reason::FeatureNotImplemented),
            ..Self::new(Condition::FeatureNotImplemented, text)
        }
    }

    /// The conference does not exist.
    pub fn conference_not_found(meeting_id: &str) -> Self {
        Self {
            reason: Some(Reason::ConferenceNotFound),
            ..Self::new(
                Condition::ItemNotFound,
                format!("Conference not found for ID: {meeting_id}"),
            )
        }
    }

    /// The conference exists.
    pub fn conference_already_exists(meeting_id: &str) -> Self {
        Self {
            reason: Some(Reason::ConferenceAlreadyExists),
            ..Self::new(
                Condition::Conflict,
                format!("Conference already exists for ID: {meeting_id}"),
            )
        }
    }

    /// No new conferences.
    pub fn graceful_shutdown() -> Self {
        Self {
            reason: Some(Reason::GracefulShutdown),
            ..Self::new(Condition::ServiceUnavailable, "In graceful shutdown")
        }
    }

    /// The endpoint does not exist.
    pub fn unknown_endpoint(endpoint: &str) -> Self {
        Self {
            reason: Some(Reason::UnknownEndpoint),
            endpoint: Some(endpoint.to_owned()),
            ..Self::new(Condition::ItemNotFound, format!("Endpoint not found for ID: {endpoint}"))
        }
    }
}
