//! Who answers the requests that come over a connection. This room knows no bridge.

use std::pin::Pin;

use minidom::Element;

use super::stanza::Stanza;
use crate::config::SourcePattern;

/// A request: an IQ of type `get` or `set`.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// It.
    pub stanza: &'a Stanza,
    /// Who may ask for conferences and health over this connection; everybody if there is none.
    pub authorized: Option<&'a SourcePattern>,
    /// As many requests wait for their answers as may: what has to wait is refused.
    pub busy: bool,
}

/// An answer that is yet to come.
pub type Later = Pin<Box<dyn Future<Output = Element> + Send>>;

/// What is answered.
pub enum Answer {
    /// This.
    Now(Element),
    /// This, when it is there.
    Later(Later),
    /// Nothing: nobody could match an answer to the request.
    Nothing,
}

/// Answers requests.
pub trait Answers: Send + Sync {
    /// The answer to one.
    fn answer(&self, asked: Asked<'_>) -> Answer;
}
