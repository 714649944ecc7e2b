#!/usr/bin/env bash
# check.sh CACHE: compiles check.ts with the dashboards beside it, by the TypeScript and the types that package-lock.json pins.
set -euo pipefail
mkdir -p "$1"
cache=$(realpath "$1")
cd "$(dirname "$0")"
if ! cmp -s package-lock.json "$cache/package-lock.json" || [ ! -x "$cache/node_modules/.bin/tsc" ]; then
    cp package.json package-lock.json "$cache/"
    (cd "$cache" && npm ci --silent --no-audit --no-fund)
fi
cp check.ts ../../../dashboards/*.json "$cache/"
cd "$cache"
node_modules/.bin/tsc --noEmit --strict --resolveJsonModule --skipLibCheck --module esnext --moduleResolution bundler check.ts
