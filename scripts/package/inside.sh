# What scripts/package/test.sh runs in the clean Debian. The first thing that does not hold ends it.
set -eu

conf=/etc/jitsi/videobridge/jvb.conf

step() { printf '\n== %s\n' "$*"; }
fail() { echo "FAILED: $*"; exit 1; }
# hold COMMAND...: it succeeds
hold() { "$@" || fail "$*"; }
# not COMMAND...: it does not
not() { if "$@"; then fail "should not: $*"; fi; }
# says TEXT COMMAND...: it succeeds, and its output has the text
says() {
    text=$1
    shift
    out=$("$@" 2>&1) || fail "$*: $out"
    case "$out" in *"$text"*) ;; *) fail "$*: no '$text' in: $out" ;; esac
}
# Prints what the package itself says.
install() {
    apt-get install -q -y --allow-downgrades "$@" >/tmp/out 2>&1 || fail "$(cat /tmp/out)"
    grep '^rialto: ' /tmp/out || true
}
pid() { systemctl show --property MainPID --value rialto; }
state() { dpkg-query --show --showformat '${db:Status-Status}' "$1" 2>/dev/null || true; }
files() {
    find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /result \
        -o -path /give -o -path /var/log -o -path /var/cache -o -path /var/lib/apt -o -path /var/lib/dpkg \
        -o -path /var/lib/systemd \) -prune -o ! -name '*-' -print | sort
}

step "a new installation"
files >/tmp/before
install /give/old.deb
hold systemctl --quiet is-active rialto
hold systemctl --quiet is-enabled rialto
[ "$(ps -o user= -p "$(pid)")" = jvb ] || fail "it runs as somebody else"
[ "$(stat -c '%a %U %G' $conf)" = "640 root jitsi" ] || fail "$(stat -c '%a %U %G' $conf)"
says "(" rialto --version
says "videobridge.apis.rest.enabled = true" rialto check-config $conf
# In this network nobody has a public address: it answers and says so, or is healthy.
rialto health 2>/tmp/out || grep "not healthy" /tmp/out || fail "$(cat /tmp/out)"
says "EXIT STATUS" man --pager=cat rialto
says "--connect" man --pager=cat rialto-check-config
says "_rialto rialto" bash -c '. /usr/share/bash-completion/completions/rialto; complete -p rialto'
hold test -s /usr/share/zsh/vendor-completions/_rialto
hold test -s /usr/share/fish/vendor_completions.d/rialto.fish
hold grep -q rmem_max /usr/lib/sysctl.d/60-rialto.conf
hold test -s /usr/share/rialto/alerts.yml
hold test -s /usr/share/doc/rialto/copyright
[ -z "$(dpkg --verify rialto)" ] || fail "$(dpkg --verify rialto)"

step "an upgrade keeps the configuration and runs what is new"
echo "# mine" >>$conf
before=$(pid)
install /give/new.deb
hold systemctl --quiet is-active rialto
[ "$(pid)" != "$before" ] || fail "the old process runs on"
hold grep -q "# mine" $conf

step "a failed start says what to change"
cp $conf /tmp/good
echo "videobridge.ice.udp.port = many" >>$conf
not systemctl restart rialto
[ "$(systemctl show --property ExecMainStatus --value rialto)" = 78 ] || fail "$(systemctl status rialto)"
journalctl --quiet --output cat --unit rialto | tail -n 5
install --reinstall /give/new.deb
hold grep -q "rialto: the service does not run" /tmp/out
hold grep -q "jvb.conf:[0-9]*: videobridge.ice.udp.port" /tmp/out
cp /tmp/good $conf
hold systemctl restart rialto

step "a service that was switched off stays off"
systemctl disable --now --quiet rialto
install /give/old.deb
not systemctl --quiet is-active rialto
not systemctl --quiet is-enabled rialto
systemctl enable --now --quiet rialto

step "removed, and purged"
apt-get remove -q -y rialto >/tmp/out 2>&1
not systemctl --quiet is-active rialto
hold grep -q "# mine" $conf
apt-get purge -q -y rialto >/tmp/out 2>&1
files >/tmp/after
diff /tmp/before /tmp/after || fail "files are left, or gone"
[ -z "$(state rialto)" ] || [ "$(state rialto)" = not-installed ] || fail "$(state rialto)"

step "in place of jitsi-videobridge2"
install /give/jitsi-videobridge2.deb /give/jitsi-meet.deb
hold systemctl --quiet is-active jitsi-videobridge2
sum=$(sha256sum $conf)
install /give/exact.deb
[ "$(state jitsi-videobridge2)" = config-files ] || fail "JVB is $(state jitsi-videobridge2)"
[ "$(state jitsi-meet)" = installed ] || fail "jitsi-meet is $(state jitsi-meet)"
hold grep -q "Do not purge" /tmp/out
not systemctl --quiet is-active jitsi-videobridge2
hold systemctl --quiet is-active rialto
[ "$(sha256sum $conf)" = "$sum" ] || fail "the configuration changed"
says "config" systemctl show --property EnvironmentFiles rialto

step "and back"
install /give/jitsi-videobridge2.deb
hold systemctl --quiet is-active jitsi-videobridge2
not systemctl --quiet is-active rialto
apt-get purge -q -y rialto >/tmp/out 2>&1
[ "$(sha256sum $conf)" = "$sum" ] || fail "the configuration is not JVB's any more"

step "where a package asks for a version of JVB that is not provided, it goes"
install /give/old.deb
[ "$(state jitsi-meet)" != installed ] || fail "jitsi-meet stays without what it needs"

step "all of it holds"
