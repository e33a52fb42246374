#!/bin/sh
# Writes jvb.conf to stdout from the environment variables of docker-jitsi-meet's jvb image, with the
# same defaults. What this bridge does not have yet is rendered too: the bridge itself names it at its
# start. A custom-jvb.conf in the directory of the file is included last, and wins.
#
#   render.sh > /run/jvb/config/jvb.conf
set -euf

# on NAME DEFAULT: whether a variable says yes.
on() {
    eval "value=\${$1:-$2}"
    case "$value" in true | TRUE | True | 1 | yes | t | T) true ;; *) false ;; esac
}

# bool NAME DEFAULT: as HOCON has it.
bool() { if on "$1" "$2"; then echo true; else echo false; fi; }

# quote TEXT: a string of HOCON.
quote() { printf '"%s"' "$(printf '%s' "$1" | tr -d '\n\r' | sed 's/\\/\\\\/g; s/"/\\"/g')"; }

# list TEXT: a comma-separated list as a list of strings.
list() {
    printf '['
    (IFS=,; for part in $1; do [ -z "$part" ] || { quote "$part"; printf ','; }; done)
    printf ']'
}

# The address that others reach this container by: mappings are for it alone.
local_address() {
    found=$(ip -4 route get 1.1.1.1 2>/dev/null | sed -n 's/.* src \([0-9.]*\).*/\1/p')
    [ -n "$found" ] || found=$(hostname -i 2>/dev/null | tr ' ' '\n' | grep -v ':' | head -n 1)
    echo "$found"
}

host=$(hostname)
address=${LOCAL_ADDRESS:-$(local_address)}
port=${JVB_PORT:-10000}
public=${JVB_ADVERTISE_IPS:-${DOCKER_HOST_ADDRESS:-}}
if on ENABLE_JVB_XMPP_SERVER 0; then
    servers=${JVB_XMPP_SERVER:-xmpp.jvb.meet.jitsi}
    server_port=${JVB_XMPP_PORT:-6222}
    domain=${JVB_XMPP_AUTH_DOMAIN:-auth.jvb.meet.jitsi}
    muc=${JVB_XMPP_INTERNAL_MUC_DOMAIN:-muc.jvb.meet.jitsi}
else
    servers=${XMPP_SERVER:-xmpp.meet.jitsi}
    server_port=${XMPP_PORT:-5222}
    domain=${XMPP_AUTH_DOMAIN:-auth.meet.jitsi}
    muc=${XMPP_INTERNAL_MUC_DOMAIN:-internal-muc.meet.jitsi}
fi

cat <<EOF
videobridge {
  ice {
    udp { port = $(quote "$port") }
    advertise-private-candidates = $(bool JVB_ADVERTISE_PRIVATE_CANDIDATES true)
  }
  cc {
    trust-bwe = $(bool JVB_CC_TRUST_BWE true)
    use-vla-target-bitrate = $(bool ENABLE_VLA false)
  }
  health { require-valid-address = $(bool JVB_REQUIRE_VALID_ADDRESS false) }
  apis {
    rest { enabled = $(bool COLIBRI_REST_ENABLED false) }
EOF

if ! on JVB_DISABLE_XMPP false; then
    echo '    xmpp-client {'
    echo '      configs {'
    number=0
    for server in $(printf '%s' "$servers" | tr ',' ' '); do
        # host, host:port, [IPv6], [IPv6]:port, or IPv6
        this_host=$server this_port=$server_port
        case "$server" in
            '['*']:'*) this_host=${server%%']:'*} this_port=${server##*:} ;;
            '['*']') this_host=${server%']'} ;;
            *:*:*) ;;
            *:*) this_host=${server%:*} this_port=${server##*:} ;;
        esac
        this_host=${this_host#'['}
        cat <<EOF
        shard$number {
          HOSTNAME = $(quote "$this_host")
          PORT = $(quote "$this_port")
          DOMAIN = $(quote "$domain")
          USERNAME = $(quote "${JVB_AUTH_USER:-jvb}")
          PASSWORD = $(quote "${JVB_AUTH_PASSWORD:-}")
          MUC_JIDS = $(quote "${JVB_BREWERY_MUC:-jvbbrewery}@$muc")
          MUC_NICKNAME = $(quote "${JVB_MUC_NICKNAME:-${JVB_INSTANCE_ID:-$host}}")
          DISABLE_CERTIFICATE_VERIFICATION = true
        }
EOF
        number=$((number + 1))
    done
    echo '      }'
    echo '    }'
fi

cat <<EOF
  }
  rest { shutdown { enabled = $(bool SHUTDOWN_REST_ENABLED false) } }
  http-servers {
    private { host = 0.0.0.0, port = 8080 }
EOF

# Images of before 2026 hand WebSockets to the bridge, and tell it the address of the site.
site=$(printf '%s' "${PUBLIC_URL:-}" | sed 's,^[a-z]*://,,; s,/.*,,')
sockets=${JVB_WS_DOMAIN:-$site}
if on ENABLE_COLIBRI_WEBSOCKET "${sockets:+true}"; then
    cat <<EOF
    public { host = 0.0.0.0, port = 9090 }
  }
  websockets {
    enabled = true
    domains = $(list "${sockets:-localhost:8443}")
    tls = $(bool JVB_WS_TLS true)
    server-id = $(quote "${JVB_WS_SERVER_ID:-$address}")
  }
EOF
else
    echo '  }'
fi

if on ENABLE_OCTO false; then
    cat <<EOF
  relay {
    enabled = true
    region = $(quote "${JVB_OCTO_REGION:-europe}")
    relay-id = $(quote "${JVB_OCTO_RELAY_ID:-${JVB_OCTO_BIND_ADDRESS:-$host}}")
  }
EOF
fi
echo '}'
[ -z "${BWE_ESTIMATOR_ENGINE:-}" ] || echo "jmt.bwe.estimator.engine = $(quote "$BWE_ESTIMATOR_ENGINE")"

echo 'ice4j { harvest { mapping {'
if on JVB_DISABLE_STUN false; then
    echo '  stun { addresses = [] }'
else
    # The image asks Jitsi's server unless another is named, or JVB_DISABLE_STUN is set.
    echo "  stun { addresses = $(list "${JVB_STUN_SERVERS:-meet-jit-si-turnrelay.jitsi.net:443}") }"
fi
if on DISABLE_AWS_HARVESTER true; then aws=false; else aws=true; fi
echo "  aws { enabled = $aws }"
echo '  static-mappings = ['
number=0
for to in $(printf '%s' "$public" | tr ',' ' '); do
    # address, or address#port
    ports=
    case "$to" in
        *'#'*) ports=", local-port = $(quote "$port"), public-port = $(quote "${to##*#}")" ;;
    esac
    printf '    { local-address = %s, public-address = %s%s, name = "ip-%s" },\n' \
        "$(quote "$address")" "$(quote "${to%%#*}")" "$ports" "$number"
    number=$((number + 1))
done
echo '  ]'
echo '} } }'
# How long a stop waits for conferences; the container's own stop time has to be longer.
[ -z "${RIALTO_SIGTERM_DRAIN:-}" ] || echo "rialto.sigterm-drain = $(quote "$RIALTO_SIGTERM_DRAIN")"
echo 'include "custom-jvb.conf"'
