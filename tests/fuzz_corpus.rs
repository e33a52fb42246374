//! Runs the fuzz targets on a stable toolchain: on their committed corpora, and on what is made of those
//! by the changes that a fuzzer makes, always the same ones.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

/// Changed inputs for each target.
const CHANGED: usize = 200;
/// As `scripts/fuzz.sh` has it.
const MAX_LEN: usize = 4096;

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

/// The files of a target's corpus with what they hold.
fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = fuzz_dir().join("corpus").join(name);
    let mut files: Vec<_> =
        fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", dir.display());
    files.into_iter().map(|file| (file.clone(), fs::read(&file).unwrap())).collect()
}

#[test]
fn every_corpus_replays() {
    for (name, target) in targets() {
        for (file, input) in corpus(name) {
            println!("{}", file.display());
            target(&input);
        }
    }
}

/// One input with a few changes: bits, bytes, pieces of it and of another one.
fn changed(input: &[u8], other: &[u8], rng: &mut StdRng) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..rng.random_range(1..=4) {
        let at = rng.random_range(0..=bytes.len());
        let end = bytes.len().min(at + rng.random_range(0..32));
        match rng.random_range(0..6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
            1 if at < bytes.len() => {
                bytes[at] = [0, 1, 0x7f, 0x80, 0xff, rng.random()][rng.random_range(0..6)];
            }
            2 => drop(bytes.drain(at..end)),
            3 => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            4 => {
                let from = rng.random_range(0..=other.len());
                bytes.splice(at.., other[from..].iter().copied());
            }
            _ => bytes.insert(at, rng.random()),
        }
    }
    bytes.truncate(MAX_LEN);
    bytes
}

#[test]
fn what_is_near_the_corpora_breaks_nothing() {
    for (name, target) in targets() {
        let (corpus, mut rng) = (corpus(name), StdRng::seed_from_u64(20_261_124));
        for _ in 0..CHANGED {
            let [input, other] = [0, 1].map(|_| &corpus[rng.random_range(0..corpus.len())].1);
            let input = changed(input, other, &mut rng);
            // Shown when the target panics: the input that did it.
            println!("{name} {}", input.escape_ascii());
            target(&input);
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
