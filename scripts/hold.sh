#!/usr/bin/env bash
# Measures what it saves when packets wait for company (rialto.engine.video-hold, audio-hold), by turns in one
# run: CPU time of the bridge for a forwarded packet, and latency.
#
#   scripts/hold.sh [ROUNDS]
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
cargo build --release --quiet --locked --package rialto --bin rialto --package rialto-load --bin rialto-load
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# figure PART NAME: a figure of the report.
figure() {
    grep -A20 "\"$1\"" "$dir/report.json" | grep -m1 -o "\"$2\": *[0-9.]*" | grep -o '[0-9.]*$'
}

# measure NAME VIDEO-HOLD AUDIO-HOLD OPTIONS...: one line.
measure() {
    local name=$1 video=$2 audio=$3 bridge
    shift 3
    cat >"$dir/jvb.conf" <<CONF
videobridge {
  apis.rest.enabled = true
  http-servers.private { host = "127.0.0.1", port = 8991 }
  ice.udp.port = 10055
}
ice4j.harvest.addresses.allow = ["127.0.0.1"]
rialto { shards = 1, engine { video-hold = $video, audio-hold = $audio } }
CONF
    "$target/release/rialto" run --config "$dir/jvb.conf" >"$dir/log" 2>&1 &
    bridge=$!
    "$target/release/rialto-load" --bridge http://127.0.0.1:8991 --bridge-pid "$bridge" --quiet \
        --duration 5s --json "$dir/report.json" "$@" >"$dir/out" || cat "$dir/log" "$dir/out" >&2
    kill "$bridge"
    wait "$bridge" || true
    printf '%-26s video-hold %-15s audio-hold %-15s %5.2f us a packet, latency p50 %5.0f p99 %5.0f us\n' \
        "$name" "$video" "$audio" "$(figure bridge_process cpu_us_per_packet)" "$(figure latency_us p50)" \
        "$(figure latency_us p99)"
}

for _ in $(seq "${1:-3}"); do
    for hold in 0 "3 milliseconds"; do
        measure "1 to 20, 6.6 Mbit/s paced" "$hold" 0 --senders 1 --receivers 20 --video 6600k --audio --pace 2.5
    done
    for hold in 0 "1 millisecond" "2 milliseconds"; do
        measure "30 talk" 0 "$hold" --senders 30 --receivers 0 --audio
    done
done
