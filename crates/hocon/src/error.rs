//! Errors in a configuration file.

use std::{io, sync::Arc};

/// Why a document could not be read. Each displays as one line that begins with the place.
#[derive(Debug, thiserror::Error)]
pub enum HoconError {
    /// The file itself, or one that it includes, cannot be read.
    #[error("cannot read {file}: {source}")]
    Unreadable {
        /// The file.
        file: String,
        /// The system's reason.
        source: io::Error,
    },
    /// `include required(...)` of a file that does not exist.
    #[error("{file}:{line}: the included file {name} does not exist")]
    MissingInclude {
        /// The including file.
        file: Arc<str>,
        /// Line, from 1.
        line: u32,
        /// The file that does not exist.
        name: String,
    },
    /// Text that is not HOCON.
    #[error("{file}:{line}: {what}")]
    Syntax {
        /// The file.
        file: Arc<str>,
        /// Line, from 1.
        line: u32,
        /// What is wrong, and how to fix it where that is known.
        what: String,
    },
    /// `${name}` that refers to nothing.
    #[error(
        "{file}:{line}: ${{{name}}} is neither a key of the configuration nor an environment variable"
    )]
    Unresolved {
        /// The file.
        file: Arc<str>,
        /// Line, from 1.
        line: u32,
        /// The name.
        name: String,
    },
    /// Values of kinds that cannot be joined, or a reference to itself.
    #[error("{file}:{line}: {what}")]
    Resolve {
        /// The file.
        file: Arc<str>,
        /// Line, from 1.
        line: u32,
        /// What is wrong.
        what: String,
    },
    /// Nesting, size or number of files beyond what any configuration needs.
    #[error("{file}:{line}: {what}")]
    Limit {
        /// The file.
        file: Arc<str>,
        /// Line, from 1.
        line: u32,
        /// Which limit.
        what: &'static str,
    },
}
