#!/usr/bin/env bash
# draw.sh PICTURES.json CACHE DOCS: the dashboards as docs/dashboard-NAME.png, by Chromium.
set -euo pipefail
pictures=$(realpath "$1") cache=$2 docs=$(realpath "$3")
mkdir -p "$cache"
cache=$(realpath "$cache")
cd "$(dirname "$0")"
cp package.json package-lock.json draw.js page.js page.css "$cache/"
(cd "$cache" && npm ci --silent --no-audit --no-fund)
(cd "$cache" && node draw.js "$pictures" "$cache") | while read -r name height; do
    profile=$(mktemp -d)
    chromium --headless --no-sandbox --disable-gpu --disable-quic --hide-scrollbars --user-data-dir="$profile" \
        --window-size="1280,$height" --screenshot="$docs/dashboard-$name.png" "file://$cache/$name.html" 2>/dev/null
    rm -r "$profile"
    echo "docs/dashboard-$name.png"
done
