#!/usr/bin/env bash
# Everything that CI runs, in the order of how soon it fails. Installs what it needs.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

# Once through: what makes the next build faster only fills the disk.
if [ -n "${CI:-}" ]; then
    export CARGO_INCREMENTAL=0
fi
in_ci=${CI:-}
# Chromium and Prosody are installed below: without them, tests fail rather than be skipped.
export CI=true

step "format"
need_component cargo-fmt rustfmt
cargo fmt --all --check

step "tools that OpenSSL is built with"
need_packages cc gcc
need_packages make make
need_packages perl perl

step "browser, XMPP server, network namespaces"
need_packages chromium chromium
need_packages chromedriver chromium-driver
need_packages prosody prosody
need_packages ip iproute2

step "lint"
need_component cargo-clippy clippy
cargo clippy --workspace --all-targets --locked -- -D warnings

step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

step "licenses, bans, sources"
need_cargo_tool cargo-deny 0.20.2
cargo deny --log-level error check licenses bans sources

step "tests"
# Property tests take the same cases each time: a change must not fail by another's bad luck. `make fuzz`
# and a run without the seed look for new ones; what they find is kept in proptest-regressions.
export PROPTEST_RNG_SEED=${PROPTEST_RNG_SEED:-20261124}
# The corpora of the fuzz targets are replayed here as well (tests/fuzz_corpus.rs).
cargo test --workspace --locked

step "fuzz targets, a second each"
if ! cargo +nightly --version >/dev/null 2>&1 && command -v rustup >/dev/null; then
    rustup toolchain install nightly --profile minimal
fi
if cargo +nightly --version >/dev/null 2>&1; then
    scripts/fuzz.sh 1
elif [ -n "$in_ci" ]; then
    echo "no nightly toolchain, and no rustup to install it with" >&2
    exit 1
else
    echo "SKIPPED: no nightly toolchain, and no rustup to install it with"
fi

step "all of it holds"
