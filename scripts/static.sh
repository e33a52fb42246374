#!/usr/bin/env bash
# Builds a static binary, which runs on any Linux of its architecture, and prints where it is.
#
#   scripts/static.sh [x86_64|aarch64]
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

# headers DIRECTORY ARCHITECTURE: unpacks musl's headers, and leaves the system's package lists alone.
headers() {
    local lists=$1/lists
    mkdir -p "$lists/partial"
    local apt=(apt-get -q -o "APT::Architectures::=$(dpkg --print-architecture)" -o "APT::Architectures::=$2"
        -o "Dir::State::Lists=$lists" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=)
    "${apt[@]}" update
    (cd "$1" && "${apt[@]}" download "musl-dev:$2" && dpkg-deb --extract musl-dev_*"$2".deb .)
    rm -r "$lists"
}

architecture=${1:-$(uname -m)}
triple=$architecture-unknown-linux-musl
# add_target TRIPLE: fetches the standard library of a target where it is not installed.
add_target() {
    if ! command -v rustup >/dev/null; then
        echo "make static: the target $1 comes with rustup (https://rustup.rs), which is not installed" >&2
        return 1
    fi
    rustup target list --installed | grep -qx "$1" || rustup target add "$1" >&2 || {
        echo "make static: rustup cannot fetch the target $1: run 'rustup target add $1' where it reaches" \
            "static.rust-lang.org" >&2
        return 1
    }
}
add_target "$triple"
case $architecture in
    "$(uname -m)")
        need_packages musl-gcc musl-tools >&2
        ;;
    aarch64)
        # Debian has no musl compiler for another architecture: its GNU one compiles the C of the dependencies
        # with musl's headers, and links with the musl that comes with the Rust target. With glibc's headers
        # OpenSSL would ask for fopen64 and others, which musl does not have.
        need_packages aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu libc6-dev-arm64-cross >&2
        musl=$PWD/target/musl-arm64
        [ -d "$musl/usr/include" ] || headers "$musl" arm64 >&2
        export CC_aarch64_unknown_linux_musl=aarch64-linux-gnu-gcc
        export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER=aarch64-linux-gnu-gcc
        # Those of the kernel come last.
        CFLAGS_aarch64_unknown_linux_musl="-nostdinc -isystem $musl/usr/include/aarch64-linux-musl \
-isystem $(aarch64-linux-gnu-gcc -print-file-name=include) -idirafter /usr/aarch64-linux-gnu/include"
        export CFLAGS_aarch64_unknown_linux_musl
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
