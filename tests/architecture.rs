//! The documents name what is there: all of them files, `docs/architecture.md` types and functions,
//! `docs/budgets.md` a test for each row.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files of the product.
fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left: Vec<PathBuf> =
        ["src", "crates", "sys", "load", "tests", "examples"].map(|dir| root().join(dir)).into();
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// Every name that an item, a variant, a module or a crate has.
fn names() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for path in sources() {
        names.insert(path.file_stem().unwrap().to_str().unwrap().to_owned());
        names.extend(path.iter().map(|part| part.to_str().unwrap().to_owned()));
        for line in fs::read_to_string(&path).unwrap().lines() {
            names.extend(declared(line));
        }
    }
    names
}

/// The name that a line declares, if it does.
fn declared(line: &str) -> Option<String> {
    const KEYWORDS: [&str; 8] = ["fn", "struct", "enum", "trait", "mod", "type", "const", "static"];
    let word = |text: &str| {
        let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
        (end > 0).then(|| text[..end].to_owned())
    };
    let mut words = line.split_whitespace();
    while let Some(next) = words.next() {
        if KEYWORDS.contains(&next) {
            return word(words.next()?);
        }
    }
    // A variant or a field stands at the beginning of its line.
    word(line.trim_start().trim_start_matches("pub "))
}

/// What is written as code in a text, without fenced blocks.
fn spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2).filter(|span| !span.contains('\n'))
}

#[test]
fn all_that_is_named_is_there() {
    let text = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let names = names();
    let mut missing = BTreeSet::new();
    let mut seen = 0;
    for span in spans(&text) {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_:/.-".contains(c);
        if !span.chars().all(plain) {
            continue;
        }
        let is_path = ["src/", "crates/", "sys/", "load/", "tests/", "docs/"];
        if is_path.iter().any(|start| span.starts_with(start)) {
            seen += 1;
            if !root().join(span).exists() {
                missing.insert(span);
            }
        } else if span.contains("::") {
            seen += 1;
            if !span.split("::").all(|name| names.contains(name)) {
                missing.insert(span);
            }
        }
    }
    assert!(seen > 40, "the document names little: {seen}");
    assert!(missing.is_empty(), "not in the code: {missing:?}");
}

/// All documents for people who read, run or change this.
fn documents() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        ["README.md", "CONTRIBUTING.md"].map(|name| root().join(name)).into();
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    found.extend(docs.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    found
}

/// The Rust files that a text names, without addresses.
fn rust_files(text: &str) -> impl Iterator<Item = &str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_:/.-".contains(c);
    text.split(move |c| !plain(c))
        .map(|word| word.trim_end_matches(['.', ':']))
        .filter(|word| !word.contains("://"))
        .filter(|word| Path::new(word).extension().is_some_and(|extension| extension == "rs"))
}

#[test]
fn every_file_that_a_document_names_is_there() {
    let sources = sources();
    let (mut seen, mut missing) = (0, BTreeSet::new());
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for file in rust_files(&text) {
            seen += 1;
            // The path may begin at any directory.
            if !sources.iter().any(|path| path.ends_with(file)) {
                missing.insert((document.file_name().unwrap().to_owned(), file.to_owned()));
            }
        }
    }
    assert!(seen > 80, "the documents name few files: {seen}");
    assert!(missing.is_empty(), "not in the tree: {missing:?}");
}

/// The names of all tests, of which some are in macros.
fn tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for path in sources() {
        let text = fs::read_to_string(&path).unwrap();
        let mut marked = false;
        for line in text.lines().map(str::trim) {
            let function = line.trim_start_matches("pub(crate) ").trim_start_matches("async ");
            if let Some(rest) = function.strip_prefix("fn ").filter(|_| marked) {
                names.extend(rest.split(['(', '<']).next().map(str::to_owned));
            }
            // Attributes and comments may stand between.
            let is_test = line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            marked = is_test || marked && (line.starts_with('#') || line.starts_with("//"));
        }
    }
    names
}

#[test]
fn every_budget_names_a_test() {
    let (text, tests) = (fs::read_to_string(root().join("docs/budgets.md")).unwrap(), tests());
    let rows = text.lines().filter(|line| line.starts_with('|') && !line.starts_with("|---"));
    let (mut seen, mut wrong) = (0, Vec::new());
    for row in rows {
        let cell = row.trim_end_matches('|').rsplit('|').next().unwrap();
        if cell.trim() == "test" {
            continue;
        }
        seen += 1;
        // Files are named beside their tests.
        let mut named = spans(cell).filter(|span| !span.contains('.')).peekable();
        let exists = |name: &str| match name.strip_suffix('…') {
            Some(start) => tests.iter().any(|test| test.starts_with(start)),
            None => tests.contains(name),
        };
        if named.peek().is_none() || !named.all(exists) {
            wrong.push(row);
        }
    }
    assert!(seen > 40, "the document has few rows: {seen}");
    assert!(wrong.is_empty(), "without a test, or with one that is not there: {wrong:#?}");
}

/// Whoever answers implements `Answers`: a focus can use the same connections.
#[test]
fn xmpp_knows_no_bridge() {
    let room = root().join("src/xmpp");
    let is_test = |path: &PathBuf| path.iter().any(|part| part == "tests" || part == "tests.rs");
    let files = sources().into_iter().filter(|path| path.starts_with(&room) && !is_test(path));
    let mut seen = 0;
    for path in files {
        seen += 1;
        let text = fs::read_to_string(&path).unwrap();
        for other in ["bridge", "conference", "colibri", "channel", "faces", "http", "focus"] {
            let imports = [format!("crate::{other}"), format!("\n    {other}::")];
            let found = imports.iter().find(|import| text.contains(import.as_str()));
            assert_eq!(found, None, "{}", path.display());
        }
    }
    assert!(seen > 20, "the room has few files: {seen}");
}

#[test]
fn a_name_that_is_not_there_is_found() {
    let names = names();
    assert!(names.contains("on_datagram") && names.contains("Planner") && names.contains("engine"));
    assert!(!names.contains("no_such_function"));
    let text = "`core/forward.rs`, see c.rs. https://rustup.rs, d.rst";
    assert_eq!(rust_files(text).collect::<Vec<_>>(), ["core/forward.rs", "c.rs"]);
}
