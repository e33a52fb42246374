#!/usr/bin/env bash
# Every bench in a bounded time (some five minutes after the build), and one table of what they came to.
#
#   scripts/bench.sh [quick]
#
# A ratio that does not hold is marked in the table, and is no failure of this script: the machine may
# be doing something else. `quick` is for trying the script out.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "${1:-}" = quick ]; then
    set -- --warm-up-time 0.1 --measurement-time 0.3 --sample-size 10
else
    set -- --warm-up-time 0.5 --measurement-time 2 --sample-size 50
fi

cargo bench -p rialto-benches --no-run --quiet --bench core --bench churn --bench srtp --bench rtp --bench layers --bench engine --bench summary
for bench in core churn srtp rtp; do
    echo "== $bench" >&2
    cargo bench -p rialto-benches --quiet --bench "$bench" -- --noplot "$@" | grep -v '^Benchmarking'
done
echo "== layers" >&2
cargo bench -p rialto-benches --quiet --bench layers || echo "a bound of layers does not hold" >&2
echo "== engine" >&2
cargo bench -p rialto-benches --quiet --bench engine
cargo bench -p rialto-benches --quiet --bench summary
