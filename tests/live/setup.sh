#!/bin/sh
# Installs the queue libraries of the live tests, in their pinned versions, into the folder that is given: one virtual
# environment for each file in requirements/, one folder of Node modules. What is there already is left alone.
set -eu
here=$(dirname "$(realpath "$0")")
cache=$1
mkdir -p "$cache"
python3 -c 'import ensurepip' 2>/dev/null || {
    echo "setup: python3 makes no virtual environments here; install the package python3-venv" >&2
    exit 1
}
for requirements in "$here"/requirements/*.txt; do
    environment=$cache/$(basename "$requirements" .txt)
    cmp -s "$requirements" "$environment/installed.txt" && continue
    rm -rf "$environment"
    python3 -m venv "$environment"
    "$environment/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements"
    cp "$requirements" "$environment/installed.txt"
done
node=$cache/node
if ! cmp -s "$here/package-lock.json" "$node/installed.json"; then
    rm -rf "$node"
    mkdir -p "$node"
    cp "$here/package.json" "$here/package-lock.json" "$node"
    (cd "$node" && npm ci --silent --no-audit --no-fund)
    cp "$here/package-lock.json" "$node/installed.json"
fi
