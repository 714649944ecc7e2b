#!/bin/sh
# record.sh OUT CACHE - runs the real libraries on a Redis of its own, and writes each state that is reached as a fixture
# into OUT. What it needs: redis-server, Node, Go, Rust, and in CACHE what tests/live/setup.sh installs. Celery 4 runs on
# Python 3.8 at most: PYTHON38 names one, else it is left out.
set -eu
here=$(dirname "$(realpath "$0")")
mkdir -p "$1"
out=$(realpath "$1") cache=$(realpath "$2")
work=$(mktemp -d)
trap 'kill "$redis" 2>/dev/null || true; rm -rf "$work"' EXIT
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
redis-server --port "$port" --bind 127.0.0.1 --save '' --dir "$work" >/dev/null &
redis=$!
export REDIS_URL="redis://127.0.0.1:$port" RECORD_DIR="$here" PYTHONDONTWRITEBYTECODE=1
until redis-cli -u "$REDIS_URL" ping >/dev/null 2>&1; do sleep 0.1; done

run() {
    redis-cli -u "$REDIS_URL" flushall >/dev/null
    "$@" "$out"
}

run "$cache/current/bin/python" "$here/rq_states.py"
run "$cache/rq2/bin/python" "$here/rq_states.py"
run "$cache/current/bin/python" "$here/dramatiq_states.py"
run "$cache/current/bin/python" "$here/celery_states.py"
run env CELERY_PREFIX=app: "$cache/current/bin/python" "$here/celery_states.py"
if [ -n "${PYTHON38:-}" ]; then
    "$PYTHON38" -m venv "$work/celery4"
    "$work/celery4/bin/pip" install --quiet --requirement "$here/celery4.txt"
    run "$work/celery4/bin/python" "$here/celery_states.py"
fi
run env NODE_PATH="$cache/node/node_modules" node "$here/bullmq_states.js"
run env NODE_PATH="$cache/node/node_modules" BULLMQ=bullmq4 node "$here/bullmq_states.js"
(cd "$here/asynq" && go build -o "$work/asynq" .)
run "$work/asynq"
cargo build --quiet --locked --manifest-path "$here/apalis/Cargo.toml" --target-dir "$cache/apalis"
run "$cache/apalis/debug/apalis-states"
