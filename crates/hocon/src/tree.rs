//! A parsed file before substitutions are resolved. Every key keeps all values that it was given,
//! in order, because a later one may refer to an earlier one.

use std::{collections::BTreeMap, sync::Arc};

use super::{HoconError, Origin};

/// The name of the file that is part of the program. No file in a file system can have it.
pub(crate) const BUILT_IN: &str = "\0";

/// A place in a file.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub file: Arc<str>,
    pub line: u32,
}

impl Place {
    pub(crate) fn origin(&self) -> Origin {
        if *self.file == *BUILT_IN {
            return Origin::Default;
        }
        Origin::File { file: self.file.clone(), line: self.line }
    }

    pub(crate) fn syntax(&self, what: impl Into<String>) -> HoconError {
        HoconError::Syntax {
            file: self.file.clone(),
            line: self.line,
            what: one_line(&what.into()),
        }
    }

    pub(crate) fn resolve(&self, what: impl Into<String>) -> HoconError {
        HoconError::Resolve {
            file: self.file.clone(),
            line: self.line,
            what: one_line(&what.into()),
        }
    }

    pub(crate) fn limit(&self, what: &'static str) -> HoconError {
        HoconError::Limit { file: self.file.clone(), line: self.line, what }
    }
}

/// Names come from the file, and a quoted one may contain anything.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Fields, each with its values in the order in which they were written.
#[derive(Debug, Default)]
pub(crate) struct Fields(pub BTreeMap<String, Vec<Node>>);

/// A value as written.
#[derive(Debug)]
pub(crate) struct Node {
    pub piece: Piece,
    pub at: Place,
}

/// What was written.
#[derive(Debug)]
pub(crate) enum Piece {
    /// `null`, unquoted.
    Null,
    /// Any scalar.
    Text(String),
    /// White space between the parts of a concatenation.
    Space(String),
    /// A list.
    Array(Vec<Node>),
    /// An object.
    Object(Fields),
    /// `${path}` or `${?path}`.
    Substitution {
        path: Vec<String>,
        optional: bool,
        /// The path at which the file was included, which is searched first.
        base: Arc<[String]>,
    },
    /// Parts written side by side.
    Concat(Vec<Node>),
    /// `key += value`.
    Append(Box<Node>),
}

impl Fields {
    /// Adds a value under `path`, which is not empty. Consecutive objects merge here, so that a
    /// key's values end up in one list however they were written.
    pub(crate) fn insert(&mut self, path: &[String], node: Node) {
        let Some((first, rest)) = path.split_first() else { return };
        if rest.is_empty() {
            self.push(first.clone(), node);
            return;
        }
        let at = node.at.clone();
        let mut inner = Fields::default();
        inner.insert(rest, node);
        self.push(first.clone(), Node { piece: Piece::Object(inner), at });
    }

    /// Appends all values of `other`, in order.
    pub(crate) fn merge(&mut self, other: Fields) {
        for (key, values) in other.0 {
            for node in values {
                self.push(key.clone(), node);
            }
        }
    }

    fn push(&mut self, key: String, node: Node) {
        match node.piece {
            // `${base} { x = 1 }` is `${base}` and then `{ x = 1 }`: as separate values, each can
            // refer to what is before it.
            Piece::Concat(parts) if is_object(&parts) => {
                for part in parts {
                    if !matches!(part.piece, Piece::Space(_)) {
                        self.push_one(key.clone(), part);
                    }
                }
            }
            piece => self.push_one(key, Node { piece, at: node.at }),
        }
    }

    fn push_one(&mut self, key: String, node: Node) {
        let values = self.0.entry(key).or_default();
        match (values.last_mut(), node) {
            (
                Some(Node { piece: Piece::Object(last), at }),
                Node { piece: Piece::Object(new), at: new_at },
            ) => {
                *at = new_at;
                last.merge(new);
            }
            (_, node) => {
                // Nothing can refer to what a plain value replaces.
                if matches!(node.piece, Piece::Null | Piece::Text(_)) {
                    values.clear();
                }
                values.push(node);
            }
        }
    }
}

/// Returns whether parts written side by side can only become an object.
fn is_object(parts: &[Node]) -> bool {
    parts.iter().any(|part| matches!(part.piece, Piece::Object(_)))
        && parts.iter().all(|part| {
            matches!(part.piece, Piece::Object(_) | Piece::Substitution { .. } | Piece::Space(_))
        })
}
