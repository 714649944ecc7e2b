#!/usr/bin/env bash
# tests/servers.sh FOLDER - fetches into FOLDER/NAME/bin the servers that this machine does not have, under the names redis-server and
# redis-cli: Redis of an older and of a newer release of Debian, and Valkey. Each comes with the libraries that it was built with, so
# that it runs beside those of this machine. Needs apt with Debian's packages, on amd64.
set -euo pipefail

mkdir -p "$1"
folder=$(cd "$1" && pwd)
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | sort -u | head -1)
if [ -z "$mirror" ]; then
    echo "servers: apt has no packages of Debian here, from which other servers are taken" >&2
    exit 1
fi

fetch() {
    local name=$1 suite=$2 product=$3 place=$folder/$1 root=$folder/$1/root apt=$folder/$1/apt
    if [ -x "$place/bin/redis-server" ]; then return; fi
    echo "fetching $name"
    mkdir -p "$place/bin" "$root" "$apt/lists/partial" "$apt/archives/partial"
    echo "deb [arch=amd64] $mirror $suite main" >"$apt/sources.list"
    # An empty machine of that release, so that all it needs comes along.
    local options=(-qq -y -o "Dir::Etc::SourceList=$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o "Dir::State::Lists=$apt/lists" -o Dir::State::Status=/dev/null -o "Dir::Cache=$apt"
        -o Acquire::Languages=none -o APT::Install-Recommends=false)
    apt-get "${options[@]}" update
    apt-get "${options[@]}" --download-only install "$product-server" >/dev/null
    local package
    for package in "$apt"/archives/*.deb; do dpkg-deb -x "$package" "$root"; done
    rm -r "$apt"
    local loader program
    loader=$(find "$root" -name ld-linux-x86-64.so.2 | head -1)
    for program in cli server; do
        printf '#!/bin/sh\nexec %s --library-path %s %s "$@"\n' "$loader" \
            "$root/lib/x86_64-linux-gnu:$root/usr/lib/x86_64-linux-gnu" "$root/usr/bin/$product-$program" \
            >"$place/bin/redis-$program"
        chmod +x "$place/bin/redis-$program"
    done
    "$place/bin/redis-server" --version
}

fetch redis-6.0 bullseye redis
fetch redis-8.0 trixie redis
fetch valkey-8.1 trixie valkey
