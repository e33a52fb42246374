//! Loads a [`Config`] from a file, the environment and the command line.

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

/// A configuration with the origin of each value.
#[derive(Clone, PartialEq, Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// Every key that is read, with its value and origin, in the order of the keys.
    pub effective: Vec<Effective>,
    /// Warnings; none of them stops a start.
    pub warnings: Vec<Warning>,
}

/// A finding in a configuration file that the operator should know. It does not stop a start.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Warning {
    /// An unknown key.
    #[error("{origin}: unknown key {key}{}", hint(nearest.as_deref()))]
    Unknown {
        /// The dotted key.
        key: String,
        /// Its position.
        origin: Origin,
        /// The most similar known key.
        nearest: Option<String>,
    },
    /// A key of JVB's that Rialto does not implement yet.
    #[error("{origin}: {key} has no effect yet: {why}")]
    NotYet {
        /// The dotted key.
        key: String,
        /// Its position.
        origin: Origin,
        /// The replacement.
        why: &'static str,
    },
    /// A key of JVB's that has no meaning here.
    #[error("{origin}: {key} has no effect: {why}")]
    NoMeaning {
        /// The dotted key.
        key: String,
        /// Its position.
        origin: Origin,
        /// The reason.
        why: &'static str,
    },
    /// A key that has no effect on a current JVB either.
    #[error("{origin}: {key} is obsolete and has no effect: {why}")]
    Obsolete {
        /// The dotted key.
        key: String,
        /// Its position.
        origin: Origin,
        /// The replacement.
        why: &'static str,
        /// The value asks for what Rialto does in any case.
        harmless: bool,
    },
    /// A deprecated name.
    #[error("{origin}: {key} is deprecated: write {instead}")]
    Deprecated {
        /// The dotted key.
        key: String,
        /// Its position.
        origin: Origin,
        /// The new name.
        instead: &'static str,
    },
    /// Keys that contradict each other.
    #[error("{}{what}", at(origin))]
    Contradiction {
        /// The position of one of them.
        origin: Origin,
        /// The keys, and the consequence.
        what: String,
    },
    /// An incomplete XMPP client, which is skipped.
    #[error("{origin}: {key} lacks {missing} and is skipped")]
    Incomplete {
        /// The dotted name of its section.
        key: String,
        /// Its position.
        origin: Origin,
        /// The missing keys.
        missing: String,
    },
    /// An optional include of a file that does not exist.
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
    /// Returns whether only a reader of the file needs the warning: packages and containers include files
    /// that may not exist, and write keys that nothing reads.
    pub fn is_note(&self) -> bool {
        matches!(self, Self::MissingInclude { .. } | Self::Obsolete { harmless: true, .. })
    }

    /// Returns file and line, to sort warnings in the order of the file.
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

/// The origin as text; empty for defaults.
fn at(origin: &Origin) -> String {
    if *origin == Origin::Default { String::new() } else { format!("{origin}: ") }
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or(String::new(), |nearest| format!(" (did you mean {nearest}?)"))
}

/// Why a configuration could not be loaded.
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
    /// Keys with invalid values; at least one.
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

/// Loads `file`, if there is one; `overrides` take precedence.
///
/// # Errors
/// A file that cannot be read or parsed, or invalid values. Keys without effect are [`Warning`]s.
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

/// The default of every key.
const REFERENCE: &str = include_str!("reference.conf");

/// Parses the defaults.
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

/// Finds values where a section is expected: only defaults would be read there.
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
        // A quoted key may contain any character.
        let shown = key.escape_debug().to_string();
        match no_effect {
            // The value asks for what Rialto does in any case.
            Some(NoEffect::NotImplemented(_) | NoEffect::NotApplicable(_)) if !differs => {}
            Some(NoEffect::NotImplemented(why)) => {
                warnings.push(Warning::NotYet { key: shown, origin, why });
            }
            Some(NoEffect::NotApplicable(why)) => {
                warnings.push(Warning::NoMeaning { key: shown, origin, why });
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
