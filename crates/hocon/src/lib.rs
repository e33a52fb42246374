//! HOCON, the language of `jvb.conf`: parsed with the file and line of every value.
//!
//! It accepts what Lightbend's own library accepts, except `include url(...)`, which is refused,
//! `include classpath(...)`, which is recorded and otherwise treated as a missing file, and lists
//! from the environment (`${X[]}`). Values are kept as text: the reader of a key decides whether
//! `10` is a port or a duration, as Lightbend's accessors do. Nothing here does I/O; files and
//! environment come through [`Source`]. No input makes it panic, recurse without bound, or use
//! memory without bound.
#![forbid(unsafe_code)]

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
    net::{IpAddr, ToSocketAddrs as _},
    path::{Path, PathBuf},
    sync::Arc,
};

pub use error::HoconError;

/// Where the text of files and of environment variables comes from.
pub trait Source {
    /// The content of a file.
    ///
    /// # Errors
    /// The file system's error; after [`io::ErrorKind::NotFound`] an optional include is skipped.
    fn read(&self, path: &Path) -> io::Result<String>;

    /// An environment variable, if it is set.
    fn env(&self, name: &str) -> Option<String>;

    /// The first address of a host name.
    ///
    /// # Errors
    /// The resolver's error; without a resolver, an error for names other than `localhost`.
    fn resolve(&self, name: &str) -> io::Result<IpAddr> {
        let found = (name == "localhost").then_some(IpAddr::from([127, 0, 0, 1]));
        found.ok_or_else(|| io::Error::other("no resolver"))
    }
}

/// The process's own files and environment.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Source for System {
    fn read(&self, path: &Path) -> io::Result<String> {
        use io::Read as _;
        let mut text = String::new();
        // One byte more than allowed, so that the caller sees that the file is too long.
        let most = limits::FILE_BYTES as u64 + 1;
        std::fs::File::open(path)?.take(most).read_to_string(&mut text)?;
        Ok(text)
    }

    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn resolve(&self, name: &str) -> io::Result<IpAddr> {
        let first = (name, 0).to_socket_addrs()?.next().map(|addr| addr.ip());
        first.ok_or_else(|| io::Error::other("it has no address"))
    }
}

/// Where a value was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// The built-in default.
    Default,
    /// A file.
    File {
        /// Its path, as it was given or included.
        file: Arc<str>,
        /// Line, from 1.
        line: u32,
    },
    /// A substitution from an environment variable.
    Environment {
        /// The variable.
        name: String,
        /// The file with the substitution.
        file: Arc<str>,
        /// Its line, from 1.
        line: u32,
    },
    /// A variable of the environment, which is read by its own name.
    Variable(&'static str),
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
            Self::Variable(name) => write!(f, "environment {name}"),
            Self::CommandLine(flag) => f.write_str(flag),
        }
    }
}

/// A resolved value, and where it was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Value {
    /// The value.
    pub kind: Kind,
    /// Where it was written; for a substitution, where the substitution was written.
    pub origin: Origin,
}

/// What a value is. Numbers, booleans, durations and sizes are text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `null`: as if the key were not set.
    Null,
    /// A scalar.
    Text(String),
    /// A list.
    Array(Vec<Value>),
    /// An object, by key.
    Object(Object),
}

/// Fields of an object.
pub type Object = BTreeMap<String, Value>;

impl Kind {
    /// Its name in messages.
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
    /// Includes of files that do not exist, and where they were written. This is allowed (use
    /// `include required(...)` otherwise), and reported by `check-config`.
    pub missing_includes: Vec<(PathBuf, Origin)>,
    /// Includes from a Java class path, which cannot be read, and where they were written.
    pub class_paths: Vec<(String, Origin)>,
}

impl Document {
    /// Reads and resolves the file at `path`, if given, on top of `reference`, the text of a file
    /// that is part of the program. Values of `reference` have [`Origin::Default`].
    ///
    /// # Errors
    /// A file that cannot be read, a syntax error, a substitution that refers to nothing, or a
    /// document beyond the limits of this module.
    pub fn load(
        reference: &str,
        path: Option<&Path>,
        source: &dyn Source,
    ) -> Result<Self, HoconError> {
        let mut files = files::Files::new(source);
        let mut tree = files.parse_reference(reference)?;
        if let Some(path) = path {
            tree.merge(files.parse_root(path)?);
        }
        let root = resolver::resolve(&tree, source)?;
        Ok(Self { root, missing_includes: files.missing, class_paths: files.class_paths })
    }

    /// The value at a dotted key. Key parts that contain dots cannot be reached this way.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let mut parts = key.split('.');
        let mut value = self.root.get(parts.next()?)?;
        for part in parts {
            let Kind::Object(fields) = &value.kind else { return None };
            value = fields.get(part)?;
        }
        Some(value)
    }

    /// Sets the value at `path`, replacing what is there.
    pub fn set(&mut self, path: &[&str], value: Value) {
        insert(&mut self.root, path, value);
    }

    /// Every value that is not an object, by its dotted key.
    pub fn leaves(&self) -> Vec<(String, &Value)> {
        let mut leaves = Vec::new();
        collect(&self.root, "", &mut leaves);
        leaves
    }
}

fn insert(fields: &mut Object, path: &[&str], value: Value) {
    let Some((first, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        fields.insert((*first).to_owned(), value);
        return;
    }
    let empty = || Value { kind: Kind::Object(Object::new()), origin: value.origin.clone() };
    let inner = fields.entry((*first).to_owned()).or_insert_with(empty);
    if !matches!(inner.kind, Kind::Object(_)) {
        *inner = empty();
    }
    if let Kind::Object(fields) = &mut inner.kind {
        insert(fields, rest, value);
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

/// Limits. The operator writes the configuration, but a generated file may be broken in any way,
/// and the result must be one line on stderr.
pub(crate) mod limits {
    /// Bytes of one file.
    pub(crate) const FILE_BYTES: usize = 1 << 20;
    /// Files in total.
    pub(crate) const FILES: usize = 64;
    /// Nesting of objects and lists; each part of a dotted key counts.
    pub(crate) const DEPTH: usize = 64;
    /// Nesting of substitutions.
    pub(crate) const SUBSTITUTION_DEPTH: usize = 64;
    /// Values, and bytes of text, that resolving may produce.
    pub(crate) const RESOLVED: usize = 1 << 20;
}
