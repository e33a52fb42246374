//! The interface that answers requests of a connection. This module does not depend on the bridge.

use std::pin::Pin;

use minidom::Element;

use super::stanza::Stanza;
use crate::config::SourcePattern;

/// A request: an IQ of type `get` or `set`.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The stanza.
    pub stanza: &'a Stanza,
    /// Who may ask for conferences and health over this connection; everybody if there is none.
    pub authorized: Option<&'a SourcePattern>,
    /// The greatest number of requests wait already: one that would have to wait is refused.
    pub busy: bool,
}

/// The future of an answer.
pub type Later = Pin<Box<dyn Future<Output = Element> + Send>>;

/// How a request is answered.
pub enum Answer {
    /// With this stanza.
    Now(Element),
    /// With the result of this future.
    Later(Later),
    /// Not at all: the sender could not match an answer to the request.
    Nothing,
}

/// Answers requests.
pub trait Answers: Send + Sync {
    /// Answers a request.
    fn answer(&self, asked: Asked<'_>) -> Answer;
}
