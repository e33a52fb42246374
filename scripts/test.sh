#!/usr/bin/env bash
# Everything that CI runs. Installs what it needs.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

# Once through: what makes the next build faster only fills the disk.
if [ -n "${CI:-}" ]; then
    export CARGO_INCREMENTAL=0
    # A panic says its line all the same; without tables for backtraces all is compiled and linked sooner.
    export CARGO_PROFILE_DEV_DEBUG=none
fi
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

# What reads the sources only. Most tests wait for clocks and browsers, and leave time for it.
inspect() {
    step "lint"
    need_component cargo-clippy clippy
    cargo clippy --workspace --all-targets --locked -- -D warnings

    step "fuzz targets"
    # That they build. The profile is the workspace's, so that what they depend on was checked just now;
    # `make fuzz` builds them anew, instrumented by a nightly toolchain.
    need_packages c++ g++
    cargo check --manifest-path fuzz/Cargo.toml --target-dir "${CARGO_TARGET_DIR:-target}" --locked

    step "documentation"
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

    step "licenses, bans, sources"
    need_cargo_tool cargo-deny 0.20.2
    cargo deny --log-level error check licenses bans sources
}

step "build of the tests"
cargo test --workspace --locked --no-run

# Beside the tests, with what they leave of the machine. Cargo locks its directory while it builds: who comes
# first has the other wait, so that the tests, which have nothing left to build, get a start.
inspected=${CARGO_TARGET_DIR:-target}/inspected.log
(
    set -e
    renice -n 19 "$BASHPID" >/dev/null
    sleep 20
    inspect
) >"$inspected" 2>&1 &
inspection=$!

step "tests"
# Property tests take the same cases each time: a change must not fail by another's bad luck. `make fuzz`
# and a run without the seed look for new ones; what they find is kept in proptest-regressions.
export PROPTEST_RNG_SEED=${PROPTEST_RNG_SEED:-20261124}
# The fuzz targets run here as well, on their corpora and what is one change away (tests/fuzz_corpus.rs).
tested=0
cargo test --workspace --locked || tested=$?

wait "$inspection" && inspection=0 || inspection=$?
cat "$inspected"
[ "$tested" = 0 ] && [ "$inspection" = 0 ] || { echo "tests: exit $tested, inspection: exit $inspection" >&2; exit 1; }

step "all of it holds"
