#!/usr/bin/env bash
# fuzz.sh [SECONDS [TARGET...]]: runs each fuzz target, or those named, for SECONDS (60).
# Inputs that reach new code stay in fuzz/found, which git does not keep; what breaks a target lies in
# fuzz/artifacts. `cargo fuzz cmin` makes a corpus of what was found.
# Assertions and checks of overflow are on. What is fuzzed has no unsafe code, so that sanitizers would look
# at libraries only: SANITIZER=address builds with that one.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

seconds=${1:-60}
sanitizer=${SANITIZER:-none}
[ $# -gt 0 ] && shift
if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "fuzzing needs a nightly toolchain: rustup toolchain install nightly" >&2
    exit 1
fi
need_packages c++ g++
need_cargo_tool cargo-fuzz 0.13.2

# Without a name all are built and run, else only those.
targets=("$@")
if [ $# -eq 0 ]; then
    mapfile -t targets < <(cargo +nightly fuzz list)
    cargo +nightly fuzz build --sanitizer "$sanitizer"
fi
failed=()
for target in "${targets[@]}"; do
    mkdir -p "fuzz/found/$target"
    log=fuzz/found/$target.log
    printf '%-16s' "$target"
    if cargo +nightly fuzz run --sanitizer "$sanitizer" "$target" "fuzz/found/$target" "fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
        >"$log" 2>&1; then
        awk '/number_of_executed_units/ { runs = $2 } / cov: / { for (i = 1; i < NF; i++) if ($i == "cov:") cov = $(i + 1) }
             END { printf "%10d runs, %5d edges\n", runs, cov }' "$log"
    else
        echo "BROKEN, see $log"
        tail -n 30 "$log"
        failed+=("$target")
    fi
done
[ ${#failed[@]} -eq 0 ] || { echo "broken: ${failed[*]}" >&2; exit 1; }
