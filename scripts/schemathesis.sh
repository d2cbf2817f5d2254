#!/usr/bin/env bash
# Checks a running server against its OpenAPI document, with schemathesis at the versions of its requirements file.
#
# The tools are in a virtual environment in the build folder. The requests are the same in each run.
# SCHEMATHESIS_EXAMPLES=200 sends more requests, SCHEMATHESIS_ROLES=USER only those of the given roles.
set -euo pipefail
cd "$(dirname "$0")/.."

work=${CARGO_TARGET_DIR:-target}/schemathesis
requirements=api/schemathesis/requirements.txt

python3 -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
    echo "make schemathesis needs Python 3.11 or newer with venv (Debian, Ubuntu: sudo apt-get install python3-venv)" >&2
    exit 1
}
if ! cmp -s "$requirements" "$work/venv/requirements.txt"; then
    python3 -m venv --clear "$work/venv"
    "$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps -r "$requirements"
    cp "$requirements" "$work/venv/requirements.txt"
fi
exec "$work/venv/bin/python" api/schemathesis/run.py "${1:?name the program}" "$PWD/$work/venv/bin/schemathesis" "$work"
