#!/usr/bin/env bash
# The loop of every day: format, and clippy and unit tests of the packages that differ from a commit.
#
#   scripts/check.sh [COMMIT]
#
# COMMIT: what to compare with; HEAD, or the commit before it where nothing differs from HEAD. Packages that
# depend on those are checked by `make test`.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

base=${1:-HEAD}
changed() { git diff --name-only "$1" && git ls-files --others --exclude-standard; }
files=$(changed "$base")
[ -n "$files" ] || files=$(changed "$base~1")

packages=()
for package in $(printf '%s\n' "$files" | sed -nE \
    -e 's,^crates/([^/]+)/.*,rialto-\1,p' \
    -e 's,^(sys|load|benches)/.*,rialto-\1,p' \
    -e 's,^(src|tests)/.*,rialto,p' \
    -e 's,^Cargo\..*,rialto,p' | sort -u); do
    packages+=(-p "$package")
done

step "format"
need_component cargo-fmt rustfmt
cargo fmt --all --check
[ ${#packages[@]} -gt 0 ] || { echo "no package differs from $base"; exit 0; }

step "lint ${packages[*]}"
need_component cargo-clippy clippy
cargo clippy "${packages[@]}" --all-targets --locked -- -D warnings

step "unit tests ${packages[*]}"
cargo test --quiet "${packages[@]}" --lib --locked
