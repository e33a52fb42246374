#!/bin/sh
# Writes jvb.conf to stdout from the environment variables of docker-jitsi-meet's jvb image.
#
#   render.sh > /config/jvb.conf
#
# A file /config/custom-jvb.conf is included last, and wins. What this bridge does not have yet, the
# bridge itself names at its start.
set -eu

# on NAME DEFAULT: whether a variable says yes.
on() {
    eval "value=\${$1:-$2}"
    case "$value" in true | TRUE | True | 1 | yes | t) true ;; *) false ;; esac
}

# bool NAME DEFAULT: as HOCON has it.
bool() { if on "$1" "$2"; then echo true; else echo false; fi; }

# quote TEXT: a string of HOCON.
quote() { printf '"%s"' "$(printf '%s' "$1" | sed 's/\\/\\\\/g; s/"/\\"/g')"; }

# list TEXT: a comma-separated list as a list of strings.
list() {
    printf '['
    (IFS=,; for part in $1; do quote "$part"; printf ','; done)
    printf ']'
}

host=$(hostname)
address=${LOCAL_ADDRESS:-$(hostname -i 2>/dev/null | cut -d ' ' -f 1)}
servers=${JVB_XMPP_SERVER:-${XMPP_SERVER:-xmpp.meet.jitsi}}
domain=${JVB_XMPP_AUTH_DOMAIN:-${XMPP_AUTH_DOMAIN:-auth.meet.jitsi}}
muc=${JVB_XMPP_INTERNAL_MUC_DOMAIN:-${XMPP_INTERNAL_MUC_DOMAIN:-internal-muc.meet.jitsi}}
nickname=${JVB_MUC_NICKNAME:-${JVB_INSTANCE_ID:-$host}}

cat <<EOF
videobridge {
  ice {
    udp { port = ${JVB_PORT:-10000} }
    advertise-private-candidates = $(bool JVB_ADVERTISE_PRIVATE_CANDIDATES true)
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
        # host, or host:port
        name=${server%%:*}
        port=${JVB_XMPP_PORT:-${XMPP_PORT:-5222}}
        case "$server" in *:*) port=${server##*:} ;; esac
        cat <<EOF
        shard$number {
          HOSTNAME = $(quote "$name")
          PORT = "$port"
          DOMAIN = $(quote "$domain")
          USERNAME = $(quote "${JVB_AUTH_USER:-jvb}")
          PASSWORD = $(quote "${JVB_AUTH_PASSWORD:-}")
          MUC_JIDS = $(quote "${JVB_BREWERY_MUC:-jvbbrewery}@$muc")
          MUC_NICKNAME = $(quote "$nickname")
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
    private { host = 0.0.0.0, port = ${JVB_COLIBRI_PORT:-8080} }
    public { host = 0.0.0.0, port = 9090 }
  }
  websockets {
    enabled = $(bool ENABLE_COLIBRI_WEBSOCKET true)
    domains = $(list "${JVB_WS_DOMAIN:-$(printf '%s' "${PUBLIC_URL:-localhost:8443}" | sed 's,^[a-z]*://,,; s,/.*,,')}")
    tls = $(bool JVB_WS_TLS true)
    server-id = $(quote "${JVB_WS_SERVER_ID:-$address}")
  }
EOF
[ -z "${JVB_OCTO_REGION:-}" ] || echo "  relay { region = $(quote "$JVB_OCTO_REGION") }"
echo '}'

echo 'ice4j { harvest { mapping {'
if [ -n "${JVB_STUN_SERVERS:-}" ] && ! on JVB_DISABLE_STUN false; then
    echo "  stun { addresses = $(list "$JVB_STUN_SERVERS") }"
else
    echo '  stun { addresses = [] }'
fi
echo "  aws { enabled = $(bool JVB_AWS_HARVESTER true) }"
echo '  static-mappings = ['
for public in $(printf '%s' "${JVB_ADVERTISE_IPS:-}" | tr ',' ' '); do
    # address, or address#port
    port=
    case "$public" in *'#'*) port=", public-port = ${public##*#}, local-port = ${JVB_PORT:-10000}" ;; esac
    echo "    { local-address = $(quote "$address"), public-address = $(quote "${public%%#*}")$port },"
done
echo '  ]'
echo '} } }'
echo 'include "custom-jvb.conf"'
