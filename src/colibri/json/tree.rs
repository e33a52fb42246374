//! A reader of JSON objects that keeps its path: every error names the field.

use std::{cell::Cell, fmt};

use serde_json::{Map, Value};

use crate::strict_json;

/// Why a document was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// It is not JSON, or a key occurs twice in an object.
    #[error("could not parse JSON: {0}")]
    Syntax(String),
    /// A field has an invalid value.
    #[error("{path}: {problem}")]
    Field {
        /// Where, such as `endpoints[0].transport.ice-controlling`.
        path: String,
        /// What.
        problem: String,
    },
    /// The meeting id is missing.
    #[error("meeting-id must be set")]
    NoMeetingId,
}

/// Reads a whole document.
pub(super) fn parse(document: &[u8]) -> Result<Value, JsonError> {
    strict_json::parse(document).map_err(|error| JsonError::Syntax(error.to_string()))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Where a value is in the document.
#[derive(Clone, Copy, Debug)]
pub(super) enum Path<'a> {
    /// The document.
    Root,
    /// A field of the value at the first path.
    Field(&'a Path<'a>, &'a str),
    /// An item of the value at the first path.
    Item(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(Self::Root, name) => f.write_str(name),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Item(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

impl Path<'_> {
    /// An error about this value.
    pub(super) fn error(&self, problem: impl Into<String>) -> JsonError {
        let path = match self {
            Self::Root => "request".to_owned(),
            path => path.to_string(),
        };
        JsonError::Field { path, problem: problem.into() }
    }

    /// An error about the type of this value.
    pub(super) fn expected(&self, what: &str, found: &Value) -> JsonError {
        self.error(format!("expected {what}, got {}", kind(found)))
    }
}

/// The fields of an object, each to be asked for by name; [`Fields::finish`] refuses those that
/// nobody asked for.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    path: &'a Path<'a>,
    entries: &'a Map<String, Value>,
    /// Bit by bit, the fields that were asked for.
    seen: Cell<u64>,
}

impl<'a> Fields<'a> {
    /// The fields of `node`, which must be an object.
    pub(super) fn new(node: &'a Value, path: &'a Path<'a>) -> Result<Self, JsonError> {
        match node {
            Value::Object(entries) => Ok(Self { path, entries, seen: Cell::new(0) }),
            other => Err(path.expected("object", other)),
        }
    }

    /// The value of a field.
    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        let (index, (_, value)) =
            self.entries.iter().enumerate().find(|(_, (key, _))| *key == name)?;
        self.seen.set(self.seen.get() | 1u64.checked_shl(index as u32).unwrap_or(0));
        Some(value)
    }

    /// Reads a field, if it is there.
    pub(super) fn read<T>(
        &self,
        name: &str,
        read: impl FnOnce(&'a Value, &Path<'_>) -> Result<T, JsonError>,
    ) -> Result<Option<T>, JsonError> {
        self.get(name).map(|node| read(node, &Path::Field(self.path, name))).transpose()
    }

    /// Reads a field that must be there.
    pub(super) fn required<T>(
        &self,
        name: &str,
        read: impl FnOnce(&'a Value, &Path<'_>) -> Result<T, JsonError>,
    ) -> Result<T, JsonError> {
        self.read(name, read)?.ok_or_else(|| Path::Field(self.path, name).error("is missing"))
    }

    /// Reads a boolean that is false when it is not there.
    pub(super) fn flag(&self, name: &str) -> Result<bool, JsonError> {
        Ok(self.read(name, boolean)?.unwrap_or(false))
    }

    /// Reads an array, if it is there.
    pub(super) fn list<T>(
        &self,
        name: &str,
        mut item: impl FnMut(&'a Value, &Path<'_>) -> Result<T, JsonError>,
    ) -> Result<Option<Vec<T>>, JsonError> {
        self.read(name, |node, path| match node {
            Value::Array(items) => items
                .iter()
                .enumerate()
                .map(|(index, node)| item(node, &Path::Item(path, index)))
                .collect(),
            other => Err(path.expected("array", other)),
        })
    }

    /// Refuses fields that were not read. No object here has as many as 64 known fields, so one beyond the
    /// 64th cannot have been read.
    pub(super) fn finish(&self) -> Result<(), JsonError> {
        let seen = |index: usize| {
            u32::try_from(index).ok().and_then(|i| self.seen.get().checked_shr(i)).unwrap_or(0) & 1
        };
        match self.entries.iter().enumerate().find(|(index, _)| seen(*index) == 0) {
            Some((_, (name, _))) => Err(Path::Field(self.path, name).error("unknown field")),
            None => Ok(()),
        }
    }

    /// All fields in the order of the document, for objects whose names are data.
    pub(super) fn entries(&self) -> &'a Map<String, Value> {
        self.entries
    }
}

/// Reads a string.
pub(super) fn string(node: &Value, path: &Path<'_>) -> Result<String, JsonError> {
    match node {
        Value::String(value) => Ok(value.clone()),
        other => Err(path.expected("string", other)),
    }
}

/// Reads a boolean.
pub(super) fn boolean(node: &Value, path: &Path<'_>) -> Result<bool, JsonError> {
    match node {
        Value::Bool(value) => Ok(*value),
        other => Err(path.expected("boolean", other)),
    }
}

/// Reads a whole number that `T` can hold.
pub(super) fn integer<T: TryFrom<i64>>(node: &Value, path: &Path<'_>) -> Result<T, JsonError> {
    match node {
        Value::Number(number) => number
            .as_i64()
            .and_then(|value| T::try_from(value).ok())
            .ok_or_else(|| path.error(format!("{number} is out of range"))),
        other => Err(path.expected("number", other)),
    }
}

/// Reads a whole number that may be written as a string, as attributes of XML are.
pub(super) fn attribute<T: TryFrom<i64>>(node: &Value, path: &Path<'_>) -> Result<T, JsonError> {
    match node {
        Value::String(text) => text
            .parse::<i64>()
            .ok()
            .and_then(|value| T::try_from(value).ok())
            .ok_or_else(|| path.error(format!("{text:?} is not a number in range"))),
        Value::Number(_) => integer(node, path),
        other => Err(path.expected("number or string", other)),
    }
}

/// Reads a string that may be written as a number.
pub(super) fn text(node: &Value, path: &Path<'_>) -> Result<String, JsonError> {
    match node {
        Value::Number(number) => Ok(number.to_string()),
        Value::String(_) => string(node, path),
        other => Err(path.expected("string", other)),
    }
}
