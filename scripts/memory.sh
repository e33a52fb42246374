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
# Endpoints of the idle run, and receivers of the two runs that are compared.
IDLE=600
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

# per NAME COUNT BEFORE AFTER LESS LIMIT: prints what each of COUNT adds, less what is known of it
# otherwise, and whether that is within its limit.
per() {
    awk -v name="$1" -v count="$2" -v before="$3" -v after="$4" -v less="$5" -v limit="$6" 'BEGIN {
        kib = (after - before) / count - less
        printf "%-36s %6.1f KiB   (at most %d: %s)\n", name, kib, limit, kib <= limit ? "held" : "NOT HELD"
        exit kib > limit
    }'
}

{ read -r empty; read -r idle; } < <(resident connected --senders 0 --receivers "$IDLE")
{ read -r _; read -r few; } < <(resident load --senders 1 --receivers "$FEW" --video 1500k)
{ read -r _; read -r many; } < <(resident load --senders 1 --receivers "$MANY" --video 1500k)

status=0
per "idle endpoint, connected" "$IDLE" "$empty" "$idle" 0 "$ENDPOINT" || status=1
each=$(awk -v a="$empty" -v b="$idle" -v n="$IDLE" 'BEGIN { print (b - a) / n }')
per "further receiver of a video source" $((MANY - FEW)) "$few" "$many" "$each" "$RECEIVER" || status=1
exit $status
