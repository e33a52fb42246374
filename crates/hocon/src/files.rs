//! The files that make up one document, and their limits.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    HoconError, Origin, Source, limits, parser,
    tree::{BUILT_IN, Fields, Place, one_line},
};

/// The files read so far.
pub(crate) struct Files<'s> {
    source: &'s dyn Source,
    count: usize,
    /// Files that are being read, outermost first. Including one of them again would never end.
    open: Vec<PathBuf>,
    /// As [`Document::missing_includes`](super::Document::missing_includes).
    pub missing: Vec<(PathBuf, Origin)>,
    /// As [`Document::class_paths`](super::Document::class_paths).
    pub class_paths: Vec<(String, Origin)>,
}

impl<'s> Files<'s> {
    pub(crate) fn new(source: &'s dyn Source) -> Self {
        Self { source, count: 0, open: Vec::new(), missing: Vec::new(), class_paths: Vec::new() }
    }

    /// Parses a text that is part of the program.
    pub(crate) fn parse_reference(&mut self, text: &str) -> Result<Fields, HoconError> {
        parser::parse(
            self,
            Path::new(BUILT_IN),
            text,
            &[],
            Place { file: BUILT_IN.into(), line: 1 },
        )
    }

    /// Parses the file that the operator named.
    pub(crate) fn parse_root(&mut self, path: &Path) -> Result<Fields, HoconError> {
        let text = self.source.read(path).map_err(|source| unreadable(path, source))?;
        self.parse(path, &text, &[])
    }

    fn parse(&mut self, path: &Path, text: &str, base: &[String]) -> Result<Fields, HoconError> {
        let file: Arc<str> = path.display().to_string().into();
        let start = Place { file: file.clone(), line: 1 };
        self.count += 1;
        if text.len() > limits::FILE_BYTES {
            return Err(start.limit("the file is larger than 1 MiB"));
        }
        if self.count > limits::FILES {
            return Err(start.limit("more than 64 files are included"));
        }
        if self.open.iter().any(|open| open == path) {
            return Err(start.syntax("the file includes itself"));
        }
        self.open.push(path.to_owned());
        let fields = parser::parse(self, path, text, base, start);
        self.open.pop();
        fields
    }

    /// The included file's fields; empty if it is optional and does not exist.
    pub(crate) fn include(
        &mut self,
        include: &Include,
        base: &[String],
    ) -> Result<Fields, HoconError> {
        if include.class_path {
            let name = one_line(&include.path.display().to_string());
            self.class_paths.push((name, include.at.origin()));
            return Ok(Fields::default());
        }
        let names = [
            include.path.clone(),
            with_suffix(&include.path, ".conf"),
            with_suffix(&include.path, ".json"),
        ];
        for path in &names {
            match self.source.read(path) {
                Ok(text) => return self.parse(path, &text, base),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(unreadable(path, error)),
            }
        }
        let at = &include.at;
        if include.required {
            let name = one_line(&include.path.display().to_string());
            return Err(HoconError::MissingInclude { file: at.file.clone(), line: at.line, name });
        }
        self.missing.push((include.path.clone(), at.origin()));
        Ok(Fields::default())
    }
}

/// An include as written.
pub(crate) struct Include {
    pub path: PathBuf,
    pub required: bool,
    pub class_path: bool,
    pub at: Place,
}

fn unreadable(path: &Path, source: io::Error) -> HoconError {
    HoconError::Unreadable { file: path.display().to_string(), source }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
