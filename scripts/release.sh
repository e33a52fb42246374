#!/usr/bin/env bash
# Makes a release: the commit that closes the changelog's section and sets the version, packages, static
# binaries, an SBOM and checksums in target/dist, and at last the tag. Nothing is pushed.
#
#   scripts/release.sh VERSION
#
# After a failure, the same command goes on from the commit.
#
#   REPOSITORY=URL                    public address of the repository, if Cargo.toml still has a placeholder
#   MAINTAINER='NAME <ADDRESS>'       of the Debian package, likewise
#   BINARY=FILE STATIC=FILE           take these instead of building them, to try the script
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

die() { echo "make release: $*" >&2; exit 1; }

version=${1:-}
[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.]+)?$ ]] || die "VERSION=1.2.3 must say the version"
[ -z "$(git status --porcelain)" ] || die "there are changes that are not committed"
! git rev-parse --quiet --verify "refs/tags/v$version" >/dev/null || die "there is a tag v$version"

# value KEY: the first value of that key in Cargo.toml.
value() { sed -n "s/^$1 = \"\(.*\)\"\$/\1/p" Cargo.toml | head -n 1; }
# set_value KEY VALUE: changes it.
set_value() { sed -i "0,/^$1 = /s|^$1 = .*|$1 = \"$2\"|" Cargo.toml; }

repository=${REPOSITORY:-$(value repository)}
maintainer=${MAINTAINER:-$(value maintainer)}
[[ $repository =~ ^https://[^[:space:]\"\|\&]+$ ]] || die "REPOSITORY=$repository is not an https address"
[[ $maintainer =~ ^[^\"\|\&\<]+\ \<[^@[:space:]]+@[^[:space:]]+\>$ ]] || die "MAINTAINER=$maintainer is not: NAME <ADDRESS>"
# Domains that nobody can have (RFC 2606) stand for addresses that are not known yet.
placeholder='([/@.]|^)example\.(org|com|net)([/>]|$)|\.example([/>]|$)'
[[ ! $repository =~ $placeholder ]] || die "'repository' in Cargo.toml is a placeholder ($repository):" \
    "set REPOSITORY=https://..., the public address of the repository"
[[ ! $maintainer =~ $placeholder ]] || die "'maintainer' in Cargo.toml is a placeholder ($maintainer):" \
    "set MAINTAINER='NAME <ADDRESS>'"

# section NAME: what the changelog says below a heading that begins so.
section() { awk -v name="## $1" '/^## / { inside = index($0, name) == 1; next } inside' CHANGELOG.md; }

subject="Release $version"
if [ "$(git log -1 --format=%s)" != "$subject" ]; then
    step "commit"
    section Unreleased | grep -q '[^[:space:]]' || die "the changelog has nothing under Unreleased"
    sed -i "s/^## Unreleased\$/## Unreleased\n\n## $version - $(date -u +%F)/" CHANGELOG.md
    # The first ones are the workspace's.
    set_value version "$version"
    set_value repository "$repository"
    set_value maintainer "$maintainer"
    # Workspaces of their own name the crates' version in their locks.
    for manifest in Cargo.toml fuzz/Cargo.toml benches/libraries/Cargo.toml; do
        cargo update --quiet --workspace --manifest-path "$manifest"
    done
    git commit --quiet --all --message "$subject"
fi
[ -n "$(section "$version ")" ] || die "the changelog has no section $version"

out=$PWD/target/dist
rm -rf "$out"
mkdir -p "$out"
section "$version " >"$out/CHANGES.md"

step "source"
git archive --prefix "rialto-$version/" --output "$out/rialto-$version.tar.gz" HEAD

step "package"
# An unpacked archive could not tell.
RIALTO_COMMIT=$(git log -1 --abbrev=12 --format='%h %cs')
export RIALTO_COMMIT
cp "$(scripts/package/build.sh ${BINARY:+"$BINARY"} | tail -n 1)" "$out/"

step "static binaries"
for architecture in x86_64 aarch64; do
    if [ -n "${STATIC:-}" ]; then
        [ "$architecture" = "$(uname -m)" ] || continue
        binary=$STATIC
    else
        binary=$(scripts/static.sh "$architecture")
    fi
    name=rialto-$version-$architecture-linux
    mkdir -p "$out/$name"
    cp "$binary" README.md LICENSE CHANGELOG.md docs/operating.md "$out/$name/"
    cp -r config "$out/$name/"
    tar -C "$out" --owner=0 --group=0 --remove-files -czf "$out/$name.tar.gz" "$name"
done

step "SBOM"
need_cargo_tool cargo-cyclonedx 0.5.9
# One for each member of the workspace, beside its manifest; the bridge's is of interest.
cargo cyclonedx --quiet --format json --no-build-deps --target all
mv rialto.cdx.json "$out/rialto-$version.cdx.json"
find . -name '*.cdx.json' -not -path './target/*' -delete

step "checksums"
(cd "$out" && sha256sum -- *.tar.gz *.deb *.cdx.json >SHA256SUMS && cat SHA256SUMS)

[ -z "$(git status --porcelain)" ] || die "the build changed files: $(git status --porcelain)"
git tag --annotate "v$version" --cleanup=whitespace --message "Rialto $version" --message "$(cat "$out/CHANGES.md")"
step "tagged v$version; target/dist has what to publish"
echo "git push --follow-tags"
