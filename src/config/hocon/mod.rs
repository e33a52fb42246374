//! HOCON, the language of `jvb.conf`: parsed with the file and line of every value.
//!
//! The subset is what Lightbend's own library accepts, without `include url(...)` and
//! `include classpath(...)` (there is neither here), and without lists from the environment
//! (`${X[]}`). Values are kept as text: the reader of a key decides whether `10` is a port or a
//! duration, as Lightbend's accessors do. Nothing here does I/O; files and environment come through
//! [`Source`]. No input makes it panic, recurse without bound, or take memory without bound.

mod error;
mod files;
mod lexer;
mod parser;
mod resolver;
mod tree;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

pub use error::HoconError;

/// Where the text of files and of environment variables comes from.
pub trait Source {
    /// The content of a file.
    ///
    /// # Errors
    /// What the file system says; [`io::ErrorKind::NotFound`] makes an optional include disappear.
    fn read(&self, path: &Path) -> io::Result<String>;

    /// An environment variable, if it is set.
    fn env(&self, name: &str) -> Option<String>;
}

/// The process's own files and environment.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Source for System {
    fn read(&self, path: &Path) -> io::Result<String> {
        std::fs::read_to_string(path)
    }

    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

/// Where a value was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// A file.
    File {
        /// Its path, as it was given or included.
        file: Arc<str>,
        /// Line, from 1.
        line: u32,
    },
    /// A substitution that the environment answered.
    Environment {
        /// The variable.
        name: String,
        /// The file with the substitution.
        file: Arc<str>,
        /// Its line, from 1.
        line: u32,
    },
    /// The command line, by this flag or command.
    CommandLine(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { file, line } => write!(f, "{file}:{line}"),
            Self::Environment { name, file, line } => {
                write!(f, "environment {name}, {file}:{line}")
            }
            Self::CommandLine(flag) => f.write_str(flag),
        }
    }
}

/// A resolved value and where it was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Value {
    /// What it is.
    pub kind: Kind,
    /// Where it was written; for a substitution, where the substitution was written.
    pub origin: Origin,
}

/// What a value is. Numbers, booleans, durations and sizes are text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `null`: as if the key were not there.
    Null,
    /// Anything scalar.
    Text(String),
    /// A list.
    Array(Vec<Value>),
    /// An object, by key.
    Object(Object),
}

/// Fields of an object.
pub type Object = BTreeMap<String, Value>;

impl Kind {
    /// What to call it in a message.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Text(_) => "a single value",
            Self::Array(_) => "a list",
            Self::Object(_) => "an object",
        }
    }
}

/// A file with everything that it includes, resolved.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Document {
    /// The fields of the root.
    pub root: Object,
    /// Includes that named a file that is not there, and where they were written. That is allowed
    /// (`include required(...)` is the other way), and worth a line in `check-config`.
    pub missing_includes: Vec<(PathBuf, Origin)>,
}

impl Document {
    /// Reads and resolves the file at `path`.
    ///
    /// # Errors
    /// A file that cannot be read, a syntax error, a substitution that nothing answers, or a
    /// document beyond the limits of this module.
    pub fn load(path: &Path, source: &dyn Source) -> Result<Self, HoconError> {
        let mut files = files::Files::new(source);
        let tree = files.parse_root(path)?;
        let root = resolver::resolve(&tree, source)?;
        Ok(Self { root, missing_includes: files.into_missing() })
    }

    /// The value at a dotted key. Quoted key parts with dots in them cannot be asked for this way.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let mut parts = key.split('.');
        let mut value = self.root.get(parts.next()?)?;
        for part in parts {
            let Kind::Object(fields) = &value.kind else { return None };
            value = fields.get(part)?;
        }
        Some(value)
    }

    /// Every value that is not an object, by its dotted key.
    pub fn leaves(&self) -> Vec<(String, &Value)> {
        let mut leaves = Vec::new();
        collect(&self.root, "", &mut leaves);
        leaves
    }
}

fn collect<'a>(fields: &'a Object, prefix: &str, leaves: &mut Vec<(String, &'a Value)>) {
    for (name, value) in fields {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match &value.kind {
            Kind::Object(inner) => collect(inner, &key, leaves),
            _ => leaves.push((key, value)),
        }
    }
}

/// Upper bounds. A configuration file is written by the operator, but a generated one may be broken
/// in any way, and the answer must be one line on stderr.
pub(super) mod limits {
    /// Bytes of one file.
    pub const FILE_BYTES: usize = 1 << 20;
    /// Files in all.
    pub const FILES: usize = 64;
    /// Objects and lists within each other, dotted keys counted by part.
    pub const DEPTH: usize = 64;
    /// Substitutions within each other.
    pub const SUBSTITUTION_DEPTH: usize = 64;
    /// Values and bytes of text that resolving may produce.
    pub const RESOLVED: usize = 1 << 20;
}
