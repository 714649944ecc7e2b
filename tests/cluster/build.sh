#!/usr/bin/env bash
# tests/cluster/build.sh FOLDER - builds into FOLDER/bin the real programs that the cluster tests run: etcd, the control plane, KEDA, kwok,
# kube-state-metrics and the metrics server. Each is built anew only when the versions in its go.mod have changed; the first time
# takes a quarter of an hour on two cores. Needs Go 1.26.
set -euo pipefail

mkdir -p "$1/bin"
folder=$(cd "$1" && pwd)
cd "$(dirname "$0")"

kubernetes=$(grep -o 'k8s.io/kubernetes v[0-9.]*' kubernetes/go.mod | head -1 | cut -d' ' -f2)
version="-X k8s.io/component-base/version.gitVersion=$kubernetes -X k8s.io/component-base/version.gitMajor=1"
version="$version -X k8s.io/component-base/version.gitMinor=$(echo "$kubernetes" | cut -d. -f2)"

for module in */go.mod; do
    module=$(dirname "$module")
    state=$(cat "$module/go.mod" "$module/go.sum" build.sh | sha256sum)
    if [ "$(cat "$folder/$module.state" 2>/dev/null)" = "$state" ]; then continue; fi
    echo "building $module"
    # its tools, as go.mod names them
    (cd "$module" && go build -trimpath -ldflags "-s -w $version" -o "$folder/bin/" tool)
    echo "$state" >"$folder/$module.state"
done
# etcd's folder is called server
if [ -e "$folder/bin/server" ]; then mv "$folder/bin/server" "$folder/bin/etcd"; fi
if [ -e "$folder/bin/v2" ]; then mv "$folder/bin/v2" "$folder/bin/kube-state-metrics"; fi
