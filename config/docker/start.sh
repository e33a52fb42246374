#!/bin/sh
# Renders the configuration and becomes the bridge: signals and exit status are its own. Nothing is
# written to the image or to /config, which may be read-only.
set -eu
umask 077

say() { echo "start.sh: $*" >&2; }

case "${JVB_DISABLE_XMPP:-}" in
    '' | 0 | false)
        if [ -z "${JVB_AUTH_PASSWORD:-}" ]; then
            say "JVB_AUTH_PASSWORD must be set (or JVB_DISABLE_XMPP)"
            exit 78
        fi
        ;;
esac
if [ -z "${JVB_ADVERTISE_IPS:-}" ] && [ -n "${DOCKER_HOST_ADDRESS:-}" ]; then
    say "DOCKER_HOST_ADDRESS is deprecated: set JVB_ADVERTISE_IPS"
fi
no_effect() {
    eval "value=\${$1:-}"
    case "$value" in '' | 0 | '"0"') ;; *) say "$1 has no effect: $2" ;; esac
}
no_effect AUTOSCALER_URL "there is no autoscaler sidecar in this image"
no_effect SENTRY_DSN "errors are not reported to Sentry"
no_effect VIDEOBRIDGE_MAX_MEMORY "there is no JVM"

case "${RIALTO_SIGTERM_DRAIN:-0}" in
    0 | '0 '* | 0s) ;;
    *) say "a stop waits for conferences for up to $RIALTO_SIGTERM_DRAIN: the container's stop time" \
        "(docker run --stop-timeout, stop_grace_period of a compose file) must be longer" ;;
esac

config=${CONFIG_DIR:-/config}
run=${RUN_DIR:-/run/jvb}
if ! mkdir -p "$run/config" 2>/dev/null; then
    run=/tmp/jvb
    mkdir -p "$run/config"
fi
[ ! -d "$config" ] || cp -r "$config/." "$run/config/"
old=$run/config/custom-sip-communicator.properties
[ ! -f "$old" ] || mv "$old" "$run/config/sip-communicator.properties"
"$(dirname "$0")/render.sh" >"$run/config/jvb.conf"

if [ -n "${JVB_LOG_FILE:-}" ]; then
    # To both, without a shell between the bridge and its signals.
    rm -f "$run/log"
    mkfifo "$run/log"
    tee -a "$JVB_LOG_FILE" <"$run/log" >&2 &
    exec rialto run --config "$run/config/jvb.conf" >"$run/log" 2>&1
fi
exec rialto run --config "$run/config/jvb.conf"
