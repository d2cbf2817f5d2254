#!/usr/bin/env bash
# Writes the descriptions of all checked queries into a folder, using the database DATABASE_URL: see `make sqlx`.
set -euo pipefail

folder=$(realpath -m "${1:?name a folder}")
: "${DATABASE_URL:?name a database that has the schema}"
rm -rf "$folder"
mkdir -p "$folder"
touch core/store/src/lib.rs
SQLX_OFFLINE_DIR="$folder" cargo check -q -p cuponera-store
