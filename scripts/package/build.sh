#!/usr/bin/env bash
# Builds the Debian package, and prints where it is.
#
#   scripts/package/build.sh [BINARY]
#
# BINARY: a release build to package instead of one that is made now.
#
#   REVISION=2              of the package; 1 unless it is set
#   JVB_VERSION=2.3-209-1   provide this version of jitsi-videobridge2, for a package that depends on exactly
#                           that one, as jitsi-meet does
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/lib.sh

need_packages dpkg-shlibdeps dpkg-dev >&2
need_cargo_tool cargo-deb 3.8.0
target=$PWD/${CARGO_TARGET_DIR:-target}
case "${CARGO_TARGET_DIR:-}" in /*) target=$CARGO_TARGET_DIR ;; esac
if [ -n "${1:-}" ]; then
    mkdir -p "$target/release"
    [ "$1" -ef "$target/release/rialto" ] || cp "$1" "$target/release/rialto"
else
    cargo build --release --locked --bin rialto
fi
rialto=$target/release/rialto

# What is made of the binary.
out=target/package
rm -rf "$out"
mkdir -p "$out"
"$rialto" man "$out/man"
"$rialto" completions bash >"$out/rialto.bash"
"$rialto" completions zsh >"$out/_rialto"
"$rialto" completions fish >"$out/rialto.fish"
version=$(cargo metadata --no-deps --offline --format-version 1 |
    grep -o '"name":"rialto","version":"[^"]*"' | cut -d'"' -f8)
maintainer=$(sed -n 's/^maintainer = "\(.*\)"$/\1/p' Cargo.toml)
date=$(git log -1 --format=%cD 2>/dev/null || date -R)
cat >"$out/changelog" <<END
rialto ($version-${REVISION:-1}) unstable; urgency=medium

  * CHANGELOG.md beside this file says what each version brought.

 -- $maintainer  $date
END

package=$(cargo deb --no-build --no-strip --locked --deb-revision "${REVISION:-1}" --output "$out/" | tail -n 1)
if [ -n "${JVB_VERSION:-}" ]; then
    dpkg-deb --raw-extract "$package" "$out/root"
    sed -i "s/^Provides: jitsi-videobridge2\$/Provides: jitsi-videobridge2 (= $JVB_VERSION)/" "$out/root/DEBIAN/control"
    grep -q "^Provides: .*$JVB_VERSION" "$out/root/DEBIAN/control"
    dpkg-deb --root-owner-group --build "$out/root" "$package" >/dev/null
fi
realpath "$package"
