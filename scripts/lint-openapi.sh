#!/bin/sh
# Checks an OpenAPI document with a fixed version of redocly, run by npx: no installation, no telemetry.
set -eu

version=2.77.0

cd "$(dirname "$0")/.."
command -v npx >/dev/null || {
    echo "make lint-openapi needs npx: install Node.js 20 or newer (Debian, Ubuntu: sudo apt-get install npm)" >&2
    exit 1
}
export REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true
exec npx --yes --loglevel=error "@redocly/cli@$version" lint --config redocly.yaml --format=stylish "${1:?name a document}"
