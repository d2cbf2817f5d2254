#!/usr/bin/env bash
# Writes the descriptions of all checked queries into a folder, using the database DATABASE_URL: see `make sqlx`.
set -euo pipefail

folder=$(realpath -m "${1:?name a folder}")
: "${DATABASE_URL:?name a database that has the schema}"
rm -rf "$folder"
mkdir -p "$folder"
# Checks all queries again. Afterwards the file is as old as before, so that other builds remain current.
source=core/store/src/lib.rs
age=$(mktemp)
touch -r "$source" "$age"
trap 'touch -r "$age" "$source"; rm "$age"' EXIT
touch "$source"
# The store alone: what depends on it need not be checked.
SQLX_OFFLINE_DIR="$folder" cargo check -q -p cuponera-store --lib
