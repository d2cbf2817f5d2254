#!/usr/bin/env bash
# Creates a temporary installation of the current program with test data, and writes a dump of it for the upgrade tests.
#
#   scripts/dump-installation.sh [PROGRAM] [COMMIT]
#
# PROGRAM is a `cuponera` (default: builds target/debug/cuponera), COMMIT the commit it was built from (default: HEAD).
# Run it before a release, or before the first migration after one. Existing dumps are not changed.
# Writes two files to testkit/tests/dumps, named after the version and the highest migration:
#
#   v0.1.0-0007.sql.gz  schema and data in the format of `pg_dump --inserts`, without psql commands
#   v0.1.0-0007.json    the data of a client of that installation: passwords, tokens, keys, requests with their stored
#                       answers, ids of jobs and codes; and the installation's files
#
# All secrets in them belong to the temporary installation. scripts/dump_installation.py describes its content.
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
