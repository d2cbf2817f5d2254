#!/usr/bin/env bash
# Builds the API and the worker of COMMIT, by default the last merged commit, into target/previous/debug.
set -euo pipefail
cd "$(dirname "$0")/.."

commit="$(git rev-parse --verify --quiet "${COMMIT:-origin/main}" || git rev-parse --verify HEAD^)"
source=target/previous/source
rm -rf "$source"
mkdir -p "$source"
git archive "$commit" | tar -x -C "$source"
echo "the previous version is ${commit:0:10}" >&2
SQLX_OFFLINE=true CARGO_TARGET_DIR="$PWD/target/previous" \
	cargo build -q --manifest-path "$source/Cargo.toml" -p cuponera-api -p cuponera-worker --bins
