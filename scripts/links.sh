#!/usr/bin/env bash
# Measures calls of real browsers over emulated links, a minute each, and prints the table beside the
# committed one (tests/links/table.txt). Needs root, for a network namespace.
#
#   scripts/links.sh [SCENARIO...]
#
# SCENARIO: names from tests/links/scenario.rs, joins, first-frames, or first-frames-prosody; all of them
# without.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

need_packages ip iproute2
need_packages chromium chromium
need_packages chromedriver chromium-driver
need_packages prosody prosody
target=${CARGO_TARGET_DIR:-target}
cargo build --release --locked --package rialto --bin rialto
RIALTO_BIN=$(realpath "$target/release/rialto") SCENARIO="$*" CI=true \
    cargo test --locked --package rialto --test links -- --ignored --nocapture --exact table
