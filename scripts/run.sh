#!/usr/bin/env bash
# Builds the bridge and starts it with a focus of its own: what `make run` does.
#
#   scripts/run.sh [port]
set -euo pipefail
cd "$(dirname "$0")/.."
port=${1:-8080}

target=${CARGO_TARGET_DIR:-target}

lacks() { ! command -v "$1" >/dev/null 2>&1; }
if lacks cargo; then
    echo "make run: a Rust toolchain is needed: https://rustup.rs" >&2
    exit 1
fi
if lacks cc && lacks gcc && lacks clang; then
    echo "make run: a C compiler is needed, for the cryptography: apt-get install build-essential" >&2
    exit 1
fi
if lacks perl && [ -z "${OPENSSL_NO_VENDOR:-}" ]; then
    echo "make run: Perl is needed to build OpenSSL, or OPENSSL_NO_VENDOR=1 to take the system's" >&2
    exit 1
fi
if [ ! -x "$target/release/rialto" ]; then
    echo "Building $target/release/rialto and the 300 crates that it is made of. This once, it takes" >&2
    echo "3 to 15 minutes, by the machine; after a change of the sources, a minute or two." >&2
fi
cargo build --release --locked --bin rialto
exec "$target/release/rialto" dev --port "$port"
