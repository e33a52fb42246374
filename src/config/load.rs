//! From a file, the environment and the command line to a [`Config`].

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Config,
    hocon::{Document, HoconError, Kind, Origin, Source},
    known::{self, Unread},
    legacy,
    reader::{Effective, Invalid, Override, Reader},
    schema,
};

/// A configuration with the story of each value.
#[derive(Clone, PartialEq, Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// Every key that is read, with its value and origin, in the order of the keys.
    pub effective: Vec<Effective>,
    /// What the operator should know; none of it stops a start.
    pub warnings: Vec<Warning>,
}

/// Something in a file that has no effect.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Warning {
    /// A key that nobody knows.
    #[error("{origin}: unknown key {key}{}", hint(*nearest))]
    Unknown {
        /// The dotted key.
        key: String,
        /// Where it was written.
        origin: Origin,
        /// The known key that looks most like it.
        nearest: Option<&'static str>,
    },
    /// A key of JVB's that Rialto does not implement yet.
    #[error("{origin}: {key} is not implemented yet and has no effect")]
    NotYet {
        /// The dotted key.
        key: String,
        /// Where it was written.
        origin: Origin,
    },
    /// A key that has no effect on a current JVB either.
    #[error("{origin}: {key} is obsolete and has no effect")]
    Obsolete {
        /// The dotted key.
        key: String,
        /// Where it was written.
        origin: Origin,
    },
    /// An XMPP client without which the bridge starts.
    #[error("{origin}: {key} lacks {missing} and is skipped")]
    Incomplete {
        /// The dotted name of the section.
        key: String,
        /// Where it was written.
        origin: Origin,
        /// The keys.
        missing: String,
    },
    /// An include of a file that is not there.
    #[error("{origin}: the included file {} does not exist", file.display())]
    MissingInclude {
        /// The file.
        file: PathBuf,
        /// Where it was included.
        origin: Origin,
    },
}

impl Warning {
    /// File and line, to list warnings in the order of the file.
    fn place(&self) -> (Arc<str>, u32) {
        let (Self::Unknown { origin, .. }
        | Self::NotYet { origin, .. }
        | Self::Obsolete { origin, .. }
        | Self::Incomplete { origin, .. }
        | Self::MissingInclude { origin, .. }) = self;
        match origin {
            Origin::File { file, line } | Origin::Environment { file, line, .. } => {
                (file.clone(), *line)
            }
            Origin::Default | Origin::CommandLine(_) => ("".into(), 0),
        }
    }
}

fn hint(nearest: Option<&'static str>) -> String {
    nearest.map_or(String::new(), |nearest| format!(" (did you mean {nearest}?)"))
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file, or one that it includes, cannot be read or parsed.
    #[error(transparent)]
    Hocon(#[from] HoconError),
    /// The older file beside it cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Legacy {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
    /// Keys whose values cannot be what they need; at least one.
    #[error("{}", summary(.0))]
    Invalid(Vec<Invalid>),
}

fn summary(invalid: &[Invalid]) -> String {
    let first = invalid.first().map_or(String::new(), ToString::to_string);
    match invalid.len() {
        0 | 1 => first,
        more => format!("{first} (and {} more: see rialto check-config)", more - 1),
    }
}

/// Reads `file`, if there is one, under `overrides`.
///
/// # Errors
/// A file that cannot be read or parsed, or values that cannot be what their keys need. What has no
/// effect is a [`Warning`].
pub fn load(
    file: Option<&Path>,
    overrides: &[Override],
    source: &dyn Source,
) -> Result<Loaded, ConfigError> {
    let mut document = match file {
        Some(file) => Document::load(file, source)?,
        None => Document::default(),
    };
    let mut old = Vec::new();
    if let Some(path) = file.map(|file| file.with_file_name(legacy::FILE_NAME)) {
        match source.read(&path) {
            Ok(text) => old = legacy::merge(&mut document, &path, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(ConfigError::Legacy { path, error }),
        }
    }
    let mut loaded = read(&document, overrides)?;
    loaded.warnings.extend(old);
    Ok(loaded)
}

fn read(document: &Document, overrides: &[Override]) -> Result<Loaded, ConfigError> {
    let mut config = Config::default();
    let mut reader = Reader::new(document, overrides);
    schema::read(&mut reader, &mut config);
    let warnings = warnings(document, &reader);
    if !reader.invalid.is_empty() {
        return Err(ConfigError::Invalid(reader.invalid));
    }
    let mut effective = reader.effective;
    effective.sort_by(|one, other| one.key.cmp(&other.key));
    Ok(Loaded { config, effective, warnings })
}

fn warnings(document: &Document, reader: &Reader<'_>) -> Vec<Warning> {
    let mut warnings: Vec<Warning> = document
        .missing_includes
        .iter()
        .map(|(file, origin)| Warning::MissingInclude {
            file: file.clone(),
            origin: origin.clone(),
        })
        .collect();
    warnings.extend(reader.warnings.iter().cloned());
    for (key, value) in document.leaves() {
        if value.kind == Kind::Null {
            continue;
        }
        let origin = value.origin.clone();
        if reader.is_known(&key) {
            if known::is_inert(&key) && reader.differs_from_default(&key) {
                warnings.push(Warning::NotYet { key, origin });
            }
            continue;
        }
        // Keys named in a file may hold anything that quotes allow.
        let shown = key.escape_debug().to_string();
        warnings.push(match known::classify(&key) {
            Unread::NotYet => Warning::NotYet { key: shown, origin },
            Unread::Obsolete => Warning::Obsolete { key: shown, origin },
            Unread::Unknown => {
                let nearest = known::nearest(&key, reader.known());
                Warning::Unknown { key: shown, origin, nearest }
            }
        });
    }
    warnings.sort_by_key(Warning::place);
    warnings
}

/// Any bytes as a configuration file: for fuzzing. Nothing is read from the file system.
pub fn load_bytes(bytes: &[u8]) -> Result<Loaded, ConfigError> {
    struct Bytes<'a>(&'a [u8]);
    impl Source for Bytes<'_> {
        fn read(&self, path: &Path) -> std::io::Result<String> {
            if path == Path::new("fuzz.conf") {
                return Ok(String::from_utf8_lossy(self.0).into_owned());
            }
            Err(std::io::ErrorKind::NotFound.into())
        }

        fn env(&self, name: &str) -> Option<String> {
            name.starts_with('E').then(|| "value".to_owned())
        }
    }
    load(Some(Path::new("fuzz.conf")), &[], &Bytes(bytes))
}
