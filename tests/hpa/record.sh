#!/bin/sh
# Runs the HPA controller of Kubernetes over recorded series and writes what it decided as JSON.
# Usage: record.sh FILE
# KUBERNETES names the folder of the Go module that requires k8s.io/kubernetes.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
module=$(cd "${KUBERNETES:-$(dirname "$0")/../cluster/kubernetes}" && pwd)
mkdir -p "$(dirname "$1")"
out=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cd "$module"
# Read-only: go.mod and go.sum stay as they are.
source=$(go list -mod=readonly -m -f '{{.Dir}}' k8s.io/kubernetes)
if [ -z "$source" ]; then
	go mod download k8s.io/kubernetes
	source=$(go list -mod=readonly -m -f '{{.Dir}}' k8s.io/kubernetes)
fi

# Go refuses to overlay files in its module cache. So the controller's package gets a second place, a folder of this
# module that exists in the overlay only: its own sources unchanged, less its tests, with the recorder beside them.
package=hpa_record
{
	printf '{"Replace": {\n'
	for file in "$source"/pkg/controller/podautoscaler/*.go; do
		case $file in *_test.go) continue ;; esac
		printf '"%s/%s/%s": "%s",\n' "$module" "$package" "$(basename "$file")" "$file"
	done
	printf '"%s/%s/record_test.go": "%s/record_test.go"\n}}\n' "$module" "$package" "$here"
} >"$work/overlay.json"

# Compiled first and run after: go test would start it in the package's folder, which isn't there.
go test -mod=readonly -overlay "$work/overlay.json" -vet=off -c -o "$work/record" "./$package"
cd "$work"
OUT=$out ./record -test.run '^TestRecord$' -test.count=1
