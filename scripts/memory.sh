#!/usr/bin/env bash
# What the bridge's resident memory comes to, by real clients on loopback: for an idle endpoint that is
# connected, and for each further receiver of a source. Fails when a limit does not hold.
#
#   scripts/memory.sh
#
# The load generator and the bridge are built first. Every run is against a bridge of its own.
set -euo pipefail
cd "$(dirname "$0")/.."

# Limits, KiB.
ENDPOINT=150
RECEIVER=20
# Endpoints, or receivers, of the runs that are compared.
FEW=50
MANY=350

cargo build --release --quiet --workspace
bin=${CARGO_TARGET_DIR:-target}/release
work=$(mktemp -d)
bridge=
trap 'if [ -n "$bridge" ]; then kill "$bridge"; fi; rm -r "$work"' EXIT

# resident WHEN OPTION...: the bridge's resident memory, KiB, at its start and then WHEN ("connected" or
# "load") during a run of the generator.
resident() {
    local when=$1 url=
    shift
    "$bin/rialto" dev --bind 127.0.0.1 --port 0 --udp-port 0 --shards 1 >"$work/url" 2>"$work/log" &
    bridge=$!
    for _ in $(seq 100); do
        url=$(head -n 1 "$work/url")
        [ -z "$url" ] || break
        sleep 0.1
    done
    "$bin/rialto-load" --bridge "$url" --bridge-pid "$bridge" --duration 5s --join-rate 100/s \
        --quiet --json "$work/report" "$@" >/dev/null
    kill "$bridge"
    wait "$bridge" || true
    bridge=
    for at in idle "$when"; do
        sed -n "s/.*\"resident_${at}_kib\": *\([0-9]*\).*/\1/p" "$work/report"
    done
}

# line NAME KIB LIMIT: prints a figure and whether it is within its limit.
line() {
    awk -v name="$1" -v kib="$2" -v limit="$3" 'BEGIN {
        printf "%-36s %6.1f KiB   (at most %d: %s)\n", name, kib, limit, kib <= limit ? "held" : "NOT HELD"
        exit kib > limit
    }'
}

calculate() { awk "BEGIN { print $1 }"; }

{ read -r _; read -r idle_few; } < <(resident connected --senders 0 --receivers "$FEW")
{ read -r empty; read -r idle_many; } < <(resident connected --senders 0 --receivers "$MANY")
{ read -r _; read -r few; } < <(resident load --senders 1 --receivers "$FEW" --video 1500k)
{ read -r _; read -r many; } < <(resident load --senders 1 --receivers "$MANY" --video 1500k)

status=0
line "idle endpoint, connected" "$(calculate "($idle_many - $empty) / $MANY")" "$ENDPOINT" || status=1
# What is more for a receiver than for an endpoint that gets nothing.
more=$(calculate "(($many - $few) - ($idle_many - $idle_few)) / ($MANY - $FEW)")
line "further receiver of a video source" "$more" "$RECEIVER" || status=1
exit $status
