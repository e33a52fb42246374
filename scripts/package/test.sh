#!/usr/bin/env bash
# Installs, upgrades, breaks, removes and purges the Debian package in a clean Debian that has booted, alone
# and in place of jitsi-videobridge2. Needs root.
#
#   scripts/package/test.sh [PACKAGE]
#
# PACKAGE: what to test instead of one that is built now. The clean Debian is made once, in target/package-test.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/lib.sh

[ "$(id -u)" = 0 ] || { echo "make package-test: this needs root" >&2; exit 1; }
need_packages debootstrap debootstrap
need_packages systemd-nspawn systemd-container
need_packages dpkg-deb dpkg
package=${1:-$(scripts/package/build.sh)}

base=target/package-test/base
if [ ! -e "$base/made" ]; then
    step "a clean Debian"
    release=$(. /etc/os-release && echo "$VERSION_CODENAME")
    mirror=$(apt-get indextargets --format '$(SITE) $(RELEASE)' | awk -v r="$release" '$2 == r { print $1; exit }')
    rm -rf "$base"
    mkdir -p "$base"
    debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,man-db,procps,ca-certificates "$release" "$base" "$mirror"
    touch "$base/made"
fi

step "packages to test with"
work=$(mktemp -d)
trap 'umount "$work/root" 2>/dev/null || true; rm -rf "$work"' EXIT
mkdir -p "$work"/{root,upper,workdir,give,result}
# again NAME SED-SCRIPT: the package with another control file, as NAME.deb
again() {
    cp -a "$work/unpacked" "$work/$1"
    sed -i "$2" "$work/$1/DEBIAN/control"
    dpkg-deb --root-owner-group -Zgzip -z1 --build "$work/$1" "$work/give/$1.deb" >/dev/null
    rm -r "${work:?}/$1"
}
jvb=2.3-160-g97a1f15b-1
dpkg-deb --raw-extract "$package" "$work/unpacked"
again new 's/^Version: .*/&.1/'
again old ''
again exact "s/^Provides: jitsi-videobridge2\$/Provides: jitsi-videobridge2 (= $jvb)/"
for stand_in in jitsi-videobridge2 jitsi-meet; do
    mkdir -p "$work/$stand_in"
    cp -r "scripts/package/$stand_in" "$work/$stand_in/DEBIAN"
done
mkdir -p "$work/jitsi-videobridge2/lib/systemd/system" "$work/jitsi-videobridge2/usr/share/jitsi-videobridge"
mv "$work/jitsi-videobridge2/DEBIAN/jitsi-videobridge2.service" "$work/jitsi-videobridge2/lib/systemd/system/"
cp tests/data/config/debian-2023-jvb.conf "$work/jitsi-videobridge2/usr/share/jitsi-videobridge/jvb.conf"
for stand_in in jitsi-videobridge2 jitsi-meet; do
    dpkg-deb --root-owner-group --build "$work/$stand_in" "$work/give/$stand_in.deb" >/dev/null
done
cp scripts/package/inside.sh "$work/give/"

step "in the clean Debian"
mount -t overlay overlay -o "lowerdir=$base,upperdir=$work/upper,workdir=$work/workdir" "$work/root"
cat >"$work/root/etc/systemd/system/package-test.service" <<'END'
[Unit]
After=multi-user.target
[Service]
ExecStart=/bin/sh /give/inside.sh
ExecStopPost=/bin/sh -c 'echo $EXIT_STATUS >/result/status; systemctl --no-block poweroff'
StandardOutput=append:/result/log
StandardError=append:/result/log
Environment=LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive HOME=/root
END
ln -s ../package-test.service "$work/root/etc/systemd/system/multi-user.target.wants/"
touch "$work/result/log"
tail -f "$work/result/log" &
follow=$!
systemd-nspawn --quiet --register=no --keep-unit --private-network --directory "$work/root" \
    --bind-ro="$work/give:/give" --bind="$work/result:/result" --console=pipe --boot \
    </dev/null >"$work/boot" 2>&1 || true
sleep 1
kill "$follow"
status=$(cat "$work/result/status" 2>/dev/null || echo "no status: $(tail -n 20 "$work/boot")")
[ "$status" = 0 ] || { echo "make package-test: failed ($status)" >&2; exit 1; }
