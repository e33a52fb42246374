#!/usr/bin/env bash
# Builds a static binary, which runs on any Linux of its architecture, and prints where it is.
#
#   scripts/static.sh [x86_64|aarch64]
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

architecture=${1:-$(uname -m)}
triple=$architecture-unknown-linux-musl
rustup target list --installed | grep -qx "$triple" || rustup target add "$triple" >&2
case $architecture in
    "$(uname -m)")
        need_packages musl-gcc musl-tools >&2
        ;;
    aarch64)
        # Debian has no musl compiler for another architecture. Its GNU one compiles the C of the dependencies,
        # and links with the musl that comes with the Rust target.
        need_packages aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu libc6-dev-arm64-cross >&2
        export CC_aarch64_unknown_linux_musl=aarch64-linux-gnu-gcc
        export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER=aarch64-linux-gnu-gcc
        # glibc's headers turn some calls into checked ones, which musl does not have.
        export CFLAGS_aarch64_unknown_linux_musl="-U_FORTIFY_SOURCE -fno-stack-protector"
        ;;
    *)
        echo "no static binary is made for $architecture on $(uname -m)" >&2
        exit 1
        ;;
esac
cargo build --release --locked --target "$triple" --bin rialto >&2
binary=${CARGO_TARGET_DIR:-target}/$triple/release/rialto
# It needs no other file at run time.
if readelf --program-headers "$binary" | grep -q INTERP; then
    echo "$binary is not static" >&2
    exit 1
fi
echo "$binary"
