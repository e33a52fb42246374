//! From a file, the environment and the command line to a [`Config`].

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rialto_hocon::{Document, HoconError, Kind, Origin, Source, Value};

use super::{
    Config, contradictions,
    known::{self, NoEffect},
    legacy,
    reader::{Effective, Invalid, Override, Reader, wants},
    schema, xmpp,
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

/// What an operator should know of a file. None of it stops a start.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Warning {
    /// A key that nobody knows.
    #[error("{origin}: unknown key {key}{}", hint(nearest.as_deref()))]
    Unknown {
        /// The dotted key.
        key: String,
        /// Where it was written.
        origin: Origin,
        /// The known key that looks most like it.
        nearest: Option<String>,
    },
    /// A key of JVB's that Rialto does not implement yet.
    #[error("{origin}: {key} has no effect yet: {why}")]
    NotYet {
        /// The dotted key.
        key: String,
        /// Where it was written.
        origin: Origin,
        /// What there is instead.
        why: &'static str,
    },
    /// A key of JVB's that has no meaning here.
    #[error("{origin}: {key} has no effect: {why}")]
    NoMeaning {
        /// The dotted key.
        key: String,
        /// Where it was written.
        origin: Origin,
        /// Why not.
        why: &'static str,
    },
    /// A key that has no effect on a current JVB either.
    #[error("{origin}: {key} is obsolete and has no effect: {why}")]
    Obsolete {
        /// The dotted key.
        key: String,
        /// Where it was written.
        origin: Origin,
        /// What there is instead.
        why: &'static str,
        /// It asks for what is so in any case.
        harmless: bool,
    },
    /// An old name.
    #[error("{origin}: {key} is deprecated: write {instead}")]
    Deprecated {
        /// The dotted key.
        key: String,
        /// Where it was written.
        origin: Origin,
        /// The name to write.
        instead: &'static str,
    },
    /// Keys that together do not what somebody who wrote them wants.
    #[error("{}{what}", at(origin))]
    Contradiction {
        /// Where one of them was written.
        origin: Origin,
        /// Which, and what follows.
        what: String,
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
    /// An include of a file that is not there, which is allowed.
    #[error("{origin}: the included file {} does not exist", file.display())]
    MissingInclude {
        /// The file.
        file: PathBuf,
        /// Where it was included.
        origin: Origin,
    },
    /// An include from a Java class path.
    #[error("{origin}: classpath({name}) is not included: there is no Java class path")]
    ClassPath {
        /// The name.
        name: String,
        /// Where it was included.
        origin: Origin,
    },
}

impl Warning {
    /// Whether it is worth a line only to somebody who looks at the file: packages and containers
    /// include files that need not be there, and write keys that nobody reads.
    pub fn is_note(&self) -> bool {
        matches!(self, Self::MissingInclude { .. } | Self::Obsolete { harmless: true, .. })
    }

    /// File and line, to list warnings in the order of the file.
    fn position(&self) -> (Arc<str>, u32) {
        let (Self::Unknown { origin, .. }
        | Self::NotYet { origin, .. }
        | Self::NoMeaning { origin, .. }
        | Self::Obsolete { origin, .. }
        | Self::Deprecated { origin, .. }
        | Self::Contradiction { origin, .. }
        | Self::Incomplete { origin, .. }
        | Self::MissingInclude { origin, .. }
        | Self::ClassPath { origin, .. }) = self;
        match origin {
            Origin::File { file, line } | Origin::Environment { file, line, .. } => {
                (file.clone(), *line)
            }
            Origin::Default | Origin::Variable(_) | Origin::CommandLine(_) => ("".into(), 0),
        }
    }
}

/// Nothing where nobody wrote anything.
fn at(origin: &Origin) -> String {
    if *origin == Origin::Default { String::new() } else { format!("{origin}: ") }
}

fn hint(nearest: Option<&str>) -> String {
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
    let mut document = Document::load(REFERENCE, file, source)?;
    let mut old = Vec::new();
    if let Some(path) = file.map(|file| file.with_file_name(legacy::FILE_NAME)) {
        match source.read(&path) {
            Ok(text) => old = legacy::merge(&mut document, &path, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(ConfigError::Legacy { path, error }),
        }
    }
    let mut loaded = read(&document, overrides, source)?;
    loaded.warnings.extend(old);
    Ok(loaded)
}

/// What every key is when nobody says anything.
const REFERENCE: &str = include_str!("reference.conf");

/// The defaults by themselves.
pub(super) fn reference() -> Result<Document, HoconError> {
    struct Nothing;
    impl Source for Nothing {
        fn read(&self, _: &Path) -> io::Result<String> {
            Err(io::ErrorKind::NotFound.into())
        }

        fn env(&self, _: &str) -> Option<String> {
            None
        }
    }
    Document::load(REFERENCE, None, &Nothing)
}

fn read(
    document: &Document,
    overrides: &[Override],
    source: &dyn Source,
) -> Result<Loaded, ConfigError> {
    let mut config = Config::default();
    let mut reader = Reader::new(document, overrides, source);
    schema::read(&mut reader, &mut config);
    let reference = reference()?;
    let not_sections = not_sections(document, &reference, &reader);
    reader.invalid.extend(not_sections);
    let mut warnings = warnings(document, &reference, &reader);
    if !reader.invalid.is_empty() {
        return Err(ConfigError::Invalid(reader.invalid));
    }
    let mut effective = reader.effective;
    effective.sort_by(|one, other| one.key.cmp(&other.key));
    warnings.extend(contradictions::find(&config, &effective));
    warnings.sort_by_key(Warning::position);
    Ok(Loaded { config, effective, warnings })
}

/// Values in places of sections, of which nothing would be read but defaults.
fn not_sections(document: &Document, reference: &Document, reader: &Reader<'_>) -> Vec<Invalid> {
    let defaults = reference.leaves();
    let known = || {
        let known = reader.known().iter().copied().chain(known::no_effect_keys());
        known.map(|key| -> &str { key }).chain(defaults.iter().map(|(key, _)| key.as_str()))
    };
    let mistaken = document.leaves().into_iter().filter(|(key, value)| {
        let written = value.kind != Kind::Null && value.origin != Origin::Default;
        written && !reader.is_known(key) && known().any(|known| known::is_inside(known, key))
    });
    let invalid = |(key, value): (String, &Value)| Invalid {
        key,
        origin: value.origin.clone(),
        what: wants("an object", &value.kind),
    };
    mistaken.map(invalid).collect()
}

fn warnings(document: &Document, reference: &Document, reader: &Reader<'_>) -> Vec<Warning> {
    let missing = document.missing_includes.iter().cloned();
    let missing = missing.map(|(file, origin)| Warning::MissingInclude { file, origin });
    let class_paths = document.class_paths.iter().cloned();
    let class_paths = class_paths.map(|(name, origin)| Warning::ClassPath { name, origin });
    let mut warnings: Vec<Warning> = missing.chain(class_paths).collect();
    warnings.extend(reader.warnings.iter().cloned());
    let defaults = reference.leaves();
    for (key, value) in document.leaves() {
        if value.kind == Kind::Null || value.origin == Origin::Default {
            continue;
        }
        let origin = value.origin.clone();
        if let Some(instead) = known::renamed(&key) {
            let (key, origin) = (key.clone(), origin.clone());
            warnings.push(Warning::Deprecated { key, origin, instead });
        }
        let default = defaults.iter().find(|(known, _)| *known == key).map(|(_, value)| value);
        let (no_effect, differs) = if reader.is_known(&key) {
            (known::no_effect_exact(&key), reader.differs_from_default(&key))
        } else {
            let same = default.is_some_and(|value_| known::alike(&value_.kind, &value.kind));
            (known::no_effect(&key), !same)
        };
        let differs = differs && !known::asks_for_actual_behaviour(&key, &value.kind);
        // Keys named in a file may hold anything that quotes allow.
        let shown = key.escape_debug().to_string();
        match no_effect {
            // What it asks for is so.
            Some(NoEffect::NotImplemented(_) | NoEffect::NotApplicable(_)) if !differs => {}
            Some(NoEffect::NotImplemented(why)) => {
                warnings.push(Warning::NotYet { key: shown, origin, why })
            }
            Some(NoEffect::NotApplicable(why)) => {
                warnings.push(Warning::NoMeaning { key: shown, origin, why })
            }
            Some(NoEffect::Obsolete(why)) => {
                let harmless = !differs;
                warnings.push(Warning::Obsolete { key: shown, origin, why, harmless });
            }
            None if reader.is_known(&key) => {}
            None => {
                let known = reader.known().iter().copied().chain(known::no_effect_values());
                let known = known.map(|key| -> &str { key });
                let known = known.chain(defaults.iter().map(|(key, _)| key.as_str()));
                let nearest =
                    xmpp::nearest(&key).or_else(|| known::nearest(&key, known).map(str::to_owned));
                warnings.push(Warning::Unknown { key: shown, origin, nearest });
            }
        }
    }
    warnings
}
