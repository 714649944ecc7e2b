#!/bin/bash
# Records all fixtures anew: record.sh OUTDIR [NAME...]
#
# NAMEs: bullmq bull resque asynq apalis sidekiq laravel python; all without one. Installs what it needs (setup.sh), starts
# a Redis of its own, and stops it however it ends. Takes about 8 minutes, most of it Sidekiq's heartbeats and time limits.
# Celery 4 runs on Python 3.8 at most: PYTHON38 names one, else it is left out.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
[ $# -gt 0 ] || { echo "usage: record.sh OUTDIR [NAME...]" >&2; exit 64; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
shift
[ $# -gt 0 ] || set -- bullmq bull resque asynq apalis sidekiq laravel python
cache=${LIBRARIES_CACHE:-.cache/libraries}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
export LIBRARIES_CACHE=$cache NODE_PATH=$cache/node/node_modules

scratch=$(mktemp -d)
redis=
stop() {
  if [ -n "$redis" ]; then kill "$redis" 2> /dev/null && wait "$redis" || true; fi
  rm -rf "$scratch"
}
trap stop EXIT
trap 'exit 130' INT TERM

# A free port may be taken by the time the server binds it, so try a few.
for _ in 1 2 3 4 5; do
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  redis-server --port "$port" --bind 127.0.0.1 --save '' --appendonly no --dir "$scratch" > "$scratch/redis.log" &
  redis=$!
  for _ in $(seq 100); do
    redis-cli -p "$port" ping > /dev/null 2>&1 && break 2
    kill -0 "$redis" 2> /dev/null || break
    sleep 0.05
  done
done
url=redis://127.0.0.1:$port

debian_version() { sed -n "s/^php-illuminate-queue_\([0-9.]*\).*/\1/p" "$cache/$1/packages"; }

for name; do
  case $name in
    bullmq)
      "$here/setup.sh" node
      for major in 3 4 5 6; do node "$here/node/bullmq_record.js" "$url" "$out" "bullmq$major"; done
      ;;
    bull)
      "$here/setup.sh" node
      node "$here/node/bull_record.js" "$url" "$out"
      ;;
    resque)
      "$here/setup.sh" node
      node "$here/node/resque_record.js" "$url" "$out"
      ;;
    asynq)
      "$here/setup.sh" go
      "$cache/bin/asynq_record" "$url" "$out" "$here/dump.py"
      ;;
    apalis)
      "$here/setup.sh" apalis
      "$cache/bin/apalis_record" "$url" "$out" "$here/dump.py"
      ;;
    sidekiq)
      "$here/setup.sh" bookworm trixie forky
      for suite in bookworm trixie forky; do
        "$cache/bin/ruby-$suite" "$here/ruby/sidekiq_record.rb" "$url" "$out" "$cache/bin/ruby-$suite"
      done
      ;;
    laravel)
      "$here/setup.sh" bookworm trixie forky
      for suite in bookworm trixie forky; do
        python3 "$here/php/laravel_record.py" "$url" "$out" "$cache/bin/php-$suite" "$(debian_version $suite)"
      done
      ;;
    python)
      "$here/../live/setup.sh" "$cache/live"
      for program in current/rq_states rq2/rq_states current/dramatiq_states current/celery_states; do
        REDIS_URL=$url "$cache/live/${program%/*}/bin/python" "$here/python/${program#*/}.py" "$out"
      done
      REDIS_URL=$url CELERY_PREFIX=app: "$cache/live/current/bin/python" "$here/python/celery_states.py" "$out"
      if [ -n "${PYTHON38:-}" ]; then
        "$PYTHON38" -m venv "$cache/celery4"
        "$cache/celery4/bin/pip" install --quiet --requirement "$here/python/celery4.txt"
        REDIS_URL=$url "$cache/celery4/bin/python" "$here/python/celery_states.py" "$out"
      fi
      ;;
    *)
      echo "record.sh: no library $name" >&2
      exit 64
      ;;
  esac
done
