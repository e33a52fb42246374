#!/usr/bin/env bash
# Runs the root file system of the container image as an engine would: as its user, with its own processes and
# network, the root read-only and tmpfs where the bridge writes. Needs root.
#
#   scripts/image/test.sh [BINARY]
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/lib.sh

[ "$(id -u)" = 0 ] || { echo "make image-test: this needs root" >&2; exit 1; }
need_packages ip iproute2
root=$(scripts/image/root.sh ${1:+"$1"})
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Within the namespaces: what the engine does, then the container, its health check and its stop.
inside='
set -eu
root=$1 work=$2
ip link set lo up
mount --bind "$root" "$root"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs -o mode=1777 tmpfs "$root/run/jvb"
mount -t proc proc "$root/proc"
mount -o remount,ro,bind "$root"
in_it() { chroot --userspec=1000:1000 "$root" /bin/rialto "$@"; }

echo "== without a password: one line and 78"
status=0
in_it container 2>"$work/refused" || status=$?
cat "$work/refused"
[ "$status" = 78 ]

echo "== healthy within 30 s, by the health check of the image"
export JVB_DISABLE_XMPP=1 COLIBRI_REST_ENABLED=1 JVB_DISABLE_STUN=1
in_it container 2>"$work/log" &
for _ in $(seq 60); do
    if in_it health 2>"$work/health"; then healthy=yes; break; fi
    sleep 0.5
done
cat "$work/log"
[ "${healthy:-no}" = yes ] || { cat "$work/health"; exit 1; }

echo "== it is not root, and has nothing else to run"
bridge=$(pgrep -x rialto)
[ "$(stat -c %u "/proc/$bridge")" = 1000 ]
[ "$(find "$root" -xdev -type f -perm /111)" = "$root/bin/rialto" ]

echo "== SIGTERM ends it"
kill "$bridge"
status=0
wait || true
! pgrep -x rialto
'
unshare --mount --net --pid --fork --mount-proc bash -c "$inside" inside "$PWD/$root" "$work"
echo "== all of it holds; $(du -sh "$root" | cut -f1)"
