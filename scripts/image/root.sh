#!/usr/bin/env bash
# Makes the root file system of the container image, which holds one program, and prints where it is.
#
#   scripts/image/root.sh [BINARY [DIRECTORY]]
#
# BINARY: a static one to take instead of one that is built now. DIRECTORY: target/image unless it is given.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/lib.sh

binary=${1:-}
[ -n "$binary" ] || binary=$(scripts/static.sh)
root=${2:-target/image}
if readelf --program-headers "$binary" | grep -q INTERP; then
    echo "$binary is not static, and the image has no libraries" >&2
    exit 1
fi
certificates=/etc/ssl/certs/ca-certificates.crt
[ -e "$certificates" ] || need_packages update-ca-certificates ca-certificates >&2

rm -rf "$root"
mkdir -p "$root"/{bin,config,etc/ssl/certs,proc,run/jvb,sys,dev,tmp}
chmod 1777 "$root/tmp" "$root/run/jvb"
install -m 755 "$binary" "$root/bin/rialto"
install -m 644 "$certificates" "$root/etc/ssl/certs/ca-certificates.crt"
echo "jvb:x:1000:1000:Media bridge:/:/sbin/nologin" >"$root/etc/passwd"
echo "jitsi:x:1000:" >"$root/etc/group"
echo "$root"
