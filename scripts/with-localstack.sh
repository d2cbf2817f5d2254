#!/usr/bin/env bash
# Runs a command with LocalStack, without Docker: with-localstack.sh COMMAND ARGS…
#
# Tests that run this way use LocalStack instead of the small emulator. The first run installs LocalStack from the
# package index into target/localstack. It needs Python 3.13 with venv: $PYTHON, in PATH, or from pyenv. LocalStack
# listens only on loopback and ends with the command, whose exit status is returned. If CUPONERA_TEST_LOCALSTACK_URL is
# set, that instance is used. Several processes may run this concurrently.
set -euo pipefail
cd "$(dirname "$0")/.."
requirements=scripts/localstack-requirements.txt
folder=$PWD/target/localstack

if [ -n "${CUPONERA_TEST_LOCALSTACK_URL:-}" ]; then
    exec "$@"
fi

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3.13 python3.14 python3 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[34].*/bin/python; do
        if [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 13))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "LocalStack needs Python 3.13 or newer: install it, or set PYTHON to its path" >&2
    return 1
}

install_it() {
    local python
    python=$(find_python)
    echo "Installing LocalStack from the package index" >&2
    rm -rf "$folder/venv" "$folder/installed"
    "$python" -m venv "$folder/venv" >&2
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps -r "$requirements" >&2
    cp "$requirements" "$folder/installed"
}

mkdir -p "$folder"
exec 9>"$folder/lock"
flock 9
cmp -s "$requirements" "$folder/installed" || install_it
exec 9>&-

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
own=$folder/$port
rm -rf "$own"
mkdir -p "$own"
env SERVICES=sqs,s3 "GATEWAY_LISTEN=127.0.0.1:$port" DNS_ADDRESS=0 SKIP_SSL_CERT_DOWNLOAD=1 DISABLE_EVENTS=1 \
    "FILESYSTEM_ROOT=$own/state" "$folder/venv/bin/python" -m localstack.runtime.main >"$own/log" 2>&1 &
localstack=$!
trap 'kill "$localstack" 2>/dev/null; wait "$localstack" 2>/dev/null || true; rm -rf "$own/state"' EXIT

url=http://127.0.0.1:$port
for _ in $(seq 240); do
    kill -0 "$localstack" 2>/dev/null || break
    if curl --noproxy '*' -sf "$url/_localstack/health" >/dev/null; then
        CUPONERA_TEST_LOCALSTACK_URL=$url "$@"
        exit
    fi
    sleep 0.25
done
echo "LocalStack does not answer; its log $own/log ends with:" >&2
tail -n 20 "$own/log" >&2
exit 1
