//! What `rialto --version` says of the build: commit, target, profile and compiler.
//!
//! `RIALTO_COMMIT` names the commit; without it, a release build in a checkout asks Git. A debug build names
//! none, or each commit would compile the crate and its tests anew.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// A change here is a change of the binary, which is compiled anew in any case.
const SOURCES: [&str; 6] = ["src", "crates", "sys", "build.rs", "Cargo.toml", "Cargo.lock"];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=RIALTO_COMMIT");
    let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
    let (target, profile) = (variable("TARGET"), variable("PROFILE"));
    let is_release = profile.as_deref() == Some("release");
    let commit =
        variable("RIALTO_COMMIT").or_else(|| if is_release { of_checkout() } else { None });
    let compiler = variable("RUSTC").and_then(|rustc| said_by(&rustc, &["--version"]));
    // "rustc 1.95.0 (hash date)"
    let compiler = compiler.map(|said| said.split(' ').take(2).collect::<Vec<_>>().join(" "));
    let build =
        [Some(commit.unwrap_or_else(|| "unknown commit".to_owned())), target, profile, compiler];
    let build = build.into_iter().flatten().collect::<Vec<_>>().join(", ");
    println!("cargo:rustc-env=RIALTO_BUILD={build}");
}

/// The commit that is checked out here and its date. Nothing in an unpacked archive, also when that lies
/// within the checkout of something else.
fn of_checkout() -> Option<String> {
    let top = PathBuf::from(said_by("git", &["rev-parse", "--show-toplevel"])?);
    let here = env::var("CARGO_MANIFEST_DIR").ok()?;
    if top.canonicalize().ok()? != Path::new(&here).canonicalize().ok()? {
        return None;
    }
    // The second changes with each commit and each checkout.
    for file in ["HEAD", "logs/HEAD"] {
        let path = said_by("git", &["rev-parse", "--git-path", file])?;
        if Path::new(&path).exists() {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    for path in SOURCES {
        println!("cargo:rerun-if-changed={path}");
    }
    let commit = said_by("git", &["log", "-1", "--abbrev=12", "--format=%h %cs"])?;
    let status = ["status", "--porcelain", "--untracked-files=no", "--"];
    let changed = said_by("git", &[&status[..], &SOURCES].concat())?;
    Some(if changed.is_empty() { commit } else { format!("{commit} with changes") })
}

/// The output of a program that succeeds.
fn said_by(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    let text = output.status.success().then_some(output.stdout)?;
    Some(String::from_utf8(text).ok()?.trim().to_owned())
}
