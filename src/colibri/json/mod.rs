//! The JSON form of allocation requests and answers, with the field names of Jitsi Videobridge.
//!
//! Reading is strict: malformed JSON, unknown fields, duplicate keys and wrong types are errors that
//! name the field. Only a candidate that cannot be read is left out: the others may do.

mod read;
mod tree;
mod write;

use serde_json::Value;

pub use tree::JsonError;

use super::{ConferenceModified, ConferenceModify};

/// Reads a request. `meeting_id`, from the request's path, takes precedence over the document's.
pub fn read_conference_modify(
    document: &[u8],
    meeting_id: Option<&str>,
) -> Result<ConferenceModify, JsonError> {
    read::conference_modify(&tree::parse(document)?, meeting_id)
}

/// Reads an answer, as a focus or a load generator does.
pub fn read_conference_modified(document: &[u8]) -> Result<ConferenceModified, JsonError> {
    read::conference_modified(&tree::parse(document)?)
}

/// Writes a request.
pub fn write_conference_modify(request: &ConferenceModify) -> Value {
    write::conference_modify(request)
}

/// Writes an answer.
pub fn write_conference_modified(answer: &ConferenceModified) -> Value {
    write::conference_modified(answer)
}

#[cfg(test)]
mod tests;
