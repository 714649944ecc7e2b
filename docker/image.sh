#!/usr/bin/env bash
# docker/image.sh NAME:TAG - builds the image with docker, podman or buildah, whichever is there, and its bill of materials
# (CycloneDX) into target/. Further arguments go to the build, such as --platform linux/arm64.
set -euo pipefail
cd "$(dirname "$0")/.."

image=$1
shift
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
for engine in docker podman buildah; do
    if command -v "$engine" >/dev/null && { [ "$engine" != docker ] || docker info >/dev/null 2>&1; }; then break; fi
    engine=
done
if [ -z "$engine" ]; then
    echo "image: neither docker (with a running engine) nor podman nor buildah is here; install one of them" >&2
    exit 1
fi
"$engine" build --file docker/Dockerfile --tag "$image" --build-arg "VERSION=$version" --build-arg "REVISION=$revision" "$@" .
cargo cyclonedx --format json --spec-version 1.5 --all-features --override-filename queue-exporter.cdx
mkdir -p target && mv queue-exporter.cdx.json target/
echo "built $image with $engine; its parts are in target/queue-exporter.cdx.json"
