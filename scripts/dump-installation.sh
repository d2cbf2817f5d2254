#!/usr/bin/env bash
# Fills a throw-away installation of the current program and writes a dump of it, from which the upgrade tests start.
#
#   scripts/dump-installation.sh [PROGRAM] [COMMIT]
#
# PROGRAM is a `cuponera` (target/debug/cuponera, built first, if absent), COMMIT the commit it was built from (HEAD if
# absent). Run it before a release, or before the first migration after one; the dumps that exist stay as they are.
# It writes two files to testkit/tests/dumps, named after the version and the highest migration:
#
#   v0.1.0-0007.sql.gz  schema and data as `pg_dump --inserts` writes them, without psql's own commands
#   v0.1.0-0007.json    what a client of that installation still has: passwords, tokens, keys, requests with their stored
#                       answers, ids of jobs and codes; and the installation's files
#
# All secrets in them belong to the throw-away installation. scripts/dump_installation.py says what is in it.
# Needs Python 3.11, and psql and pg_dump (Debian, Ubuntu: sudo apt-get install postgresql-client).
set -euo pipefail
cd "$(dirname "$0")/.."

./scripts/ensure-postgres.sh
program=${1:-}
if [ -z "$program" ]; then
    cargo build -q -p cuponera
    program=${CARGO_TARGET_DIR:-target}/debug/cuponera
fi
commit=${2:-$(git rev-parse --short HEAD)}
for tool in python3 psql pg_dump; do
    command -v "$tool" >/dev/null || {
        echo "scripts/dump-installation.sh needs $tool in PATH" >&2
        exit 1
    }
done
exec python3 scripts/dump_installation.py "$program" "$commit" testkit/tests/dumps
