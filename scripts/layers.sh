#!/usr/bin/env bash
# Real browsers that send the layers of each codec, and one that asks for another height every three seconds:
# a minute for each mode, printed as a table beside the committed one (tests/layers/table.txt).
#
#   scripts/layers.sh [MODE...]
#
# MODE: names as they stand in the table, such as VP9-L3T3_KEY; all of them without. -DD: with the dependency
# descriptor.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

need_packages chromium chromium
need_packages chromedriver chromium-driver
target=${CARGO_TARGET_DIR:-target}
cargo build --release --locked --package rialto --bin rialto
RIALTO_BIN=$(realpath "$target/release/rialto") MODE="$*" CI=true \
    cargo test --locked --package rialto --test layers -- --ignored --nocapture --exact table
