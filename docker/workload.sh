#!/bin/sh
# workload.sh HOST PORT - jobs and workers for three queues, until it is stopped: each worker moves a job to the processing
# list, works on it and removes it. The crawler keeps up, the parser gets bursts, OCR falls behind for a while in each hour.
set -eu
host=$1 port=$2
redis() { redis-cli -h "$host" -p "$port" "$@" >/dev/null; }

worker() { # QUEUE SECONDS
    while true; do
        job=$(redis-cli -h "$host" -p "$port" BLMOVE "$1" "$1:processing" RIGHT LEFT 5)
        [ -n "$job" ] || continue
        sleep "$2"
        redis LREM "$1:processing" 1 "$job"
    done
}

producer() { # QUEUE SECONDS BURST
    n=0
    while true; do
        n=$((n + 1))
        redis LPUSH "$1" "$1-$n-$(date +%s)"
        if [ $((n % 100)) -eq 1 ]; then
            i=0
            while [ $i -lt "$3" ]; do i=$((i + 1)) && redis LPUSH "$1" "$1-$n-$i-$(date +%s)"; done
        fi
        sleep "$2"
    done
}

trap 'kill 0' TERM INT
for _ in 1 2; do worker crawler 0.5 & worker parser 0.2 & done
for _ in 1 2 3; do worker ocr 2 & done
producer crawler 0.4 5 &
producer parser 0.3 60 &
producer ocr 0.65 40 &
wait
