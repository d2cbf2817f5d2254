#!/bin/sh
# Installs the AWS emulator of the tests into target/emulator if it is missing, and prints the path of its program.
#
# Needs Python 3.10 or newer with venv, and a package index for the installation. Does not start the emulator. Several
# processes may run this concurrently.
set -eu

cd "$(dirname "$0")/.."
requirements=scripts/emulator-requirements.txt
folder=$PWD/target/emulator
program=$folder/venv/bin/ministack

mkdir -p "$folder"
exec 9>"$folder/lock"
flock 9

if ! [ -x "$program" ] || ! cmp -s "$requirements" "$folder/installed"; then
    echo "Installing the AWS emulator from the package index" >&2
    rm -rf "$folder/venv" "$folder/installed"
    python3 -m venv "$folder/venv" >&2 || {
        echo "Python with venv is missing: install it (Debian, Ubuntu: sudo apt-get install python3-venv) and run this again" >&2
        exit 1
    }
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps -r "$requirements" >&2
    cp "$requirements" "$folder/installed"
fi
echo "$program"
