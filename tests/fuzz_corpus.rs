//! Replays the committed fuzz corpora through the fuzz targets, on a stable toolchain.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The targets of all crates.
fn targets() -> impl Iterator<Item = &'static (&'static str, fn(&[u8]))> {
    let crates = [
        rialto_bwe::fuzz::TARGETS,
        rialto_rtp::fuzz::TARGETS,
        rialto_srtp::fuzz::TARGETS,
        rialto_engine::fuzz::TARGETS,
        rialto_transport::fuzz::TARGETS,
        rialto::fuzzing::TARGETS,
    ];
    crates.into_iter().flatten()
}

fn fuzz_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn names(dir: &Path) -> BTreeSet<String> {
    fs::read_dir(dir)
        .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect()
}

#[test]
fn every_corpus_replays() {
    for (name, target) in targets() {
        let dir = fuzz_dir().join("corpus").join(name);
        let mut files: Vec<_> =
            fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(!files.is_empty(), "{} is empty", dir.display());
        for file in files {
            println!("{}", file.display());
            target(&fs::read(&file).unwrap());
        }
    }
}

#[test]
fn every_target_is_a_fuzz_target_with_a_corpus() {
    let listed: BTreeSet<_> = targets().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(listed, names(&fuzz_dir().join("fuzz_targets")));
    assert_eq!(listed, names(&fuzz_dir().join("corpus")));
    let manifest = fs::read_to_string(fuzz_dir().join("Cargo.toml")).unwrap();
    for name in listed {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is no binary");
    }
}
