#!/bin/sh
# Renders the configuration and becomes the bridge: signals are its own.
set -eu
mkdir -p /config
render.sh >/config/jvb.conf
exec rialto run --config /config/jvb.conf
