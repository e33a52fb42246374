#!/usr/bin/env bash
# What a focus asks of a bridge, by hand: makes a conference of two over COLIBRI2 in JSON, looks at it, and
# ends it.
#
#   examples/colibri2.sh [http://127.0.0.1:8080]
#
# The bridge needs videobridge.apis.rest.enabled (`rialto dev` has it), and its token, where it has one, is read
# from RIALTO_HTTP_TOKEN. Nobody sends media here: ICE credentials and SSRCs are made up, and media would need a
# client (examples/listen.rs, rialto-load).
set -euo pipefail

bridge=${1:-http://127.0.0.1:8080}
conferences=$bridge/colibri/v2/conferences
meeting=example-$$

say() { printf '\n== %s\n' "$*"; }

# ask METHOD URL [BODY]: prints the answer, and fails where the bridge refuses. The token comes by a file
# descriptor: everybody on a machine can read its command lines.
ask() {
    curl --silent --show-error --fail-with-body --request "$1" --header 'Content-Type: application/json' \
        --header @<([ -z "${RIALTO_HTTP_TOKEN:-}" ] || echo "Authorization: Bearer $RIALTO_HTTP_TOKEN") \
        ${3:+--data "$3"} "$2" || return
    echo
}

# What an endpoint can receive, as its browser would say it.
media='[
  { "type": "audio", "payload-types": [{ "id": 111, "name": "opus", "clockrate": 48000, "channels": 2 }] },
  { "type": "video", "payload-types": [{ "id": 100, "name": "VP8", "clockrate": 90000,
      "rtcp-fbs": [{ "type": "nack" }, { "type": "nack", "subtype": "pli" }, { "type": "transport-cc" }] }] }
]'

say "a conference with alice; the answer has the bridge's ICE credentials, candidates and fingerprint"
ask POST "$conferences" '{
  "meeting-id": "'"$meeting"'", "name": "'"$meeting"'@conference.example.com", "create": true,
  "endpoints": [{
    "id": "alice", "create": true, "medias": '"$media"',
    "transport": { "ice-controlling": true }, "capabilities": ["source-names"]
  }]
}'

say "bob joins it"
ask PATCH "$conferences/$meeting" '{
  "endpoints": [{
    "id": "bob", "create": true, "medias": '"$media"',
    "transport": { "ice-controlling": true }, "capabilities": ["source-names"]
  }]
}'

say "alice has answered: her side of the transport, and what she sends"
ask PATCH "$conferences/$meeting" '{
  "endpoints": [{
    "id": "alice",
    "transport": { "transport": {
      "xmlns": "urn:xmpp:jingle:transports:ice-udp:1", "rtcp-mux": true,
      "ufrag": "alice", "pwd": "alices-password-of-22-characters",
      "fingerprints": [{ "hash": "sha-256", "setup": "active", "fingerprint":
        "00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF" }],
      "candidates": [{ "foundation": "1", "component": 1, "protocol": "udp", "priority": 2130706431,
        "ip": "192.0.2.1", "port": 10000, "type": "host" }]
    } },
    "sources": [
      { "type": "audio", "id": "alice-a0", "sources": [1001] },
      { "type": "video", "id": "alice-v0", "sources": [2001, 2002],
        "ssrc-groups": [{ "semantics": "FID", "sources": [2001, 2002] }] }
    ]
  }]
}'

say "what the bridge says of the conference (also: $bridge/_rialto/status in a browser, rialto top)"
ask GET "$bridge/_rialto/status.json?conference=$meeting"

say "bob is muted by a moderator, then leaves"
ask PATCH "$conferences/$meeting" '{ "endpoints": [{ "id": "bob", "force-mute": { "audio": true, "video": true } }] }'
ask PATCH "$conferences/$meeting" '{ "endpoints": [{ "id": "bob", "expire": true }] }'

say "the conference ends, and is not there any more"
ask PATCH "$conferences/$meeting" '{ "expire": true }'
if answer=$(ask PATCH "$conferences/$meeting" '{ "endpoints": [] }' 2>&1); then
    echo "it is still there: $answer" >&2
    exit 1
fi
echo "$answer"
