//! A JSON document as a tree that refuses duplicate keys, and a reader of objects that knows where it
//! is: every complaint names the field.

use std::{cell::Cell, fmt};

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

/// Why a document was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// It is not JSON, or a key occurs twice in an object.
    #[error("could not parse JSON: {0}")]
    Syntax(String),
    /// A field is not what it should be.
    #[error("{path}: {problem}")]
    Field {
        /// Where, such as `endpoints[0].transport.ice-controlling`.
        path: String,
        /// What.
        problem: String,
    },
    /// The key of everything is not there.
    #[error("meeting-id must be set")]
    NoMeetingId,
}

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A string.
    String(String),
    /// An array.
    Array(Vec<Node>),
    /// An object, in the order of the document; no key occurs twice.
    Object(Vec<(String, Node)>),
}

impl Node {
    /// Reads a whole document.
    pub(super) fn parse(document: &[u8]) -> Result<Self, JsonError> {
        serde_json::from_slice(document).map_err(|error| JsonError::Syntax(error.to_string()))
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "boolean",
            Self::Number(_) => "number",
            Self::String(_) => "string",
            Self::Array(_) => "array",
            Self::Object(_) => "object",
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Number::from_f64(value).map_or(Node::Null, Node::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Node::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut keys = std::collections::HashSet::new();
        let mut fields = Vec::new();
        while let Some((key, value)) = map.next_entry::<String, Node>()? {
            if !keys.insert(key.clone()) {
                return Err(A::Error::custom(format_args!("duplicate field `{key}`")));
            }
            fields.push((key, value));
        }
        Ok(Node::Object(fields))
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
    /// A complaint about the value here.
    pub(super) fn error(&self, problem: impl Into<String>) -> JsonError {
        let path = match self {
            Self::Root => "request".to_owned(),
            path => path.to_string(),
        };
        JsonError::Field { path, problem: problem.into() }
    }

    /// A complaint about the type of the value here.
    pub(super) fn expected(&self, what: &str, found: &Node) -> JsonError {
        self.error(format!("expected {what}, got {}", found.kind()))
    }
}

/// The fields of an object, each to be asked for by name; [`Fields::finish`] refuses those that
/// nobody asked for.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    path: &'a Path<'a>,
    entries: &'a [(String, Node)],
    /// Bit by bit, the fields that were asked for.
    seen: Cell<u64>,
}

impl<'a> Fields<'a> {
    /// The fields of `node`, which must be an object.
    pub(super) fn new(node: &'a Node, path: &'a Path<'a>) -> Result<Self, JsonError> {
        match node {
            Node::Object(entries) => Ok(Self { path, entries, seen: Cell::new(0) }),
            other => Err(path.expected("object", other)),
        }
    }

    /// The value of a field.
    pub(super) fn get(&self, name: &str) -> Option<&'a Node> {
        let index = self.entries.iter().position(|(key, _)| key == name)?;
        self.seen.set(self.seen.get() | 1u64.checked_shl(index as u32).unwrap_or(0));
        self.entries.get(index).map(|(_, value)| value)
    }

    /// Reads a field, if it is there.
    pub(super) fn read<T>(
        &self,
        name: &str,
        read: impl FnOnce(&'a Node, &Path<'_>) -> Result<T, JsonError>,
    ) -> Result<Option<T>, JsonError> {
        self.get(name).map(|node| read(node, &Path::Field(self.path, name))).transpose()
    }

    /// Reads a field that must be there.
    pub(super) fn required<T>(
        &self,
        name: &str,
        read: impl FnOnce(&'a Node, &Path<'_>) -> Result<T, JsonError>,
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
        mut item: impl FnMut(&'a Node, &Path<'_>) -> Result<T, JsonError>,
    ) -> Result<Option<Vec<T>>, JsonError> {
        self.read(name, |node, path| match node {
            Node::Array(items) => items
                .iter()
                .enumerate()
                .map(|(index, node)| item(node, &Path::Item(path, index)))
                .collect(),
            other => Err(path.expected("array", other)),
        })
    }

    /// Refuses fields that were not asked for. No object here has as many as 64 known fields, so
    /// what lies beyond the 64th cannot have been asked for.
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
    pub(super) fn entries(&self) -> &'a [(String, Node)] {
        self.entries
    }
}

/// Reads a string.
pub(super) fn string(node: &Node, path: &Path<'_>) -> Result<String, JsonError> {
    match node {
        Node::String(value) => Ok(value.clone()),
        other => Err(path.expected("string", other)),
    }
}

/// Reads a boolean.
pub(super) fn boolean(node: &Node, path: &Path<'_>) -> Result<bool, JsonError> {
    match node {
        Node::Bool(value) => Ok(*value),
        other => Err(path.expected("boolean", other)),
    }
}

/// Reads a whole number that `T` can hold.
pub(super) fn integer<T: TryFrom<i64>>(node: &Node, path: &Path<'_>) -> Result<T, JsonError> {
    match node {
        Node::Number(number) => number
            .as_i64()
            .and_then(|value| T::try_from(value).ok())
            .ok_or_else(|| path.error(format!("{number} is out of range"))),
        other => Err(path.expected("number", other)),
    }
}

/// Reads a whole number that may be written as a string, as attributes of XML are.
pub(super) fn attribute<T: TryFrom<i64>>(node: &Node, path: &Path<'_>) -> Result<T, JsonError> {
    match node {
        Node::String(text) => text
            .parse::<i64>()
            .ok()
            .and_then(|value| T::try_from(value).ok())
            .ok_or_else(|| path.error(format!("{text:?} is not a number in range"))),
        Node::Number(_) => integer(node, path),
        other => Err(path.expected("number or string", other)),
    }
}

/// Reads a string that may be written as a number.
pub(super) fn text(node: &Node, path: &Path<'_>) -> Result<String, JsonError> {
    match node {
        Node::Number(number) => Ok(number.to_string()),
        Node::String(_) => string(node, path),
        other => Err(path.expected("string", other)),
    }
}
