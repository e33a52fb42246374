//! Fuzz entry for configuration files. Nothing is read from the file system.

use std::{io, path::Path};

use rialto_hocon::Source;

use super::{ConfigError, Loaded, legacy, load};

/// Any `jvb.conf` must give a configuration or an error of one line.
pub(crate) fn fuzz(bytes: &[u8]) {
    judge(load(Some(Path::new("fuzz.conf")), &[], &Bytes { file: "fuzz.conf", bytes }));
}

/// The same for the older file, beside an empty `jvb.conf`.
pub(crate) fn fuzz_legacy(bytes: &[u8]) {
    judge(load(Some(Path::new("fuzz.conf")), &[], &Bytes { file: legacy::FILE_NAME, bytes }));
}

fn judge(loaded: Result<Loaded, ConfigError>) {
    match loaded {
        Ok(loaded) => {
            assert!(loaded.effective.iter().all(|value| !value.value.contains('\n')));
            assert!(loaded.warnings.iter().all(|warning| !warning.to_string().contains('\n')));
        }
        Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
    }
}

/// Provides one file of these bytes, and an empty `fuzz.conf`.
struct Bytes<'a> {
    file: &'a str,
    bytes: &'a [u8],
}

impl Source for Bytes<'_> {
    fn read(&self, path: &Path) -> io::Result<String> {
        match path.to_str() {
            Some(path) if path == self.file => Ok(String::from_utf8_lossy(self.bytes).into_owned()),
            Some("fuzz.conf") => Ok(String::new()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn env(&self, name: &str) -> Option<String> {
        name.starts_with('E').then(|| "value".to_owned())
    }
}
