#!/usr/bin/env python3
"""Freezes a Redis and writes what is in it as a fixture.

    dump.py REDIS_URL OUTDIR < truth.json

The truth, as the producer and the workers know it, comes on standard input; `library`, `version` and `state` in it name
the files `<library>-<version>-<state>.jsonl` and `.truth.json`. `redis_version`, `file` and, unless the recorder sets another, `now_ms` are added here.
Writes by clients are held up while the keys are read (CLIENT PAUSE WRITE), so the dump is one moment, `now_ms`.

One JSON object a line, one line a key: {"key", "type", "value", "ttl_ms"}. A string is a JSON string where its bytes are
UTF-8, else {"b64": ...}. string: S; list: [S, ...] from index 0; set: [S, ...] sorted; hash: [[field, value], ...];
zset: [[member, "score"], ...] ascending; stream: [[id, [field, value, ...]], ...] without its groups; ttl_ms: -1 for none.
Standard library only, so that it runs wherever one of the recorders runs.
"""
import base64
import json
import os
import socket
import sys
from urllib.parse import urlsplit


class Redis:
    """RESP2 over TCP, as much of it as a dump needs."""

    def __init__(self, url):
        parts = urlsplit(url)
        self.socket = socket.create_connection((parts.hostname, parts.port or 6379), timeout=10)
        self.reader = self.socket.makefile("rb")
        if parts.path.strip("/"):
            self("SELECT", parts.path.strip("/"))

    def __call__(self, *args):
        args = [a if isinstance(a, bytes) else str(a).encode() for a in args]
        self.socket.sendall(b"*%d\r\n" % len(args) + b"".join(b"$%d\r\n%s\r\n" % (len(a), a) for a in args))
        return self.reply()

    def reply(self):
        line = self.reader.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self.reader.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return None if rest == b"-1" else [self.reply() for _ in range(int(rest))]
        raise SystemExit(f"redis answered {line!r}")


def text(raw):
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(raw).decode()}


def pairs(flat):
    return list(zip(flat[::2], flat[1::2]))


def keys(redis):
    found, cursor = set(), b"0"
    while True:
        cursor, some = redis("SCAN", cursor, "COUNT", 1000)
        found.update(some)
        if cursor == b"0":
            return sorted(found)


def value(redis, key, kind):
    if kind == "string":
        return text(redis("GET", key))
    if kind == "list":
        return [text(s) for s in redis("LRANGE", key, 0, -1)]
    if kind == "set":
        return [text(s) for s in sorted(redis("SMEMBERS", key))]
    if kind == "hash":
        return [[text(f), text(v)] for f, v in pairs(redis("HGETALL", key))]
    if kind == "zset":
        return [[text(m), s.decode()] for m, s in pairs(redis("ZRANGE", key, 0, -1, "WITHSCORES"))]
    if kind == "stream":
        return [[i.decode(), [text(s) for s in entry]] for i, entry in redis("XRANGE", key, "-", "+")]
    raise SystemExit(f"{key!r} is a {kind}, which a dump does not know")


def main(url, outdir):
    truth = json.load(sys.stdin)
    name = "-".join(truth[part] for part in ("library", "version", "state"))
    redis = Redis(url)
    redis("CLIENT", "PAUSE", 5000, "WRITE")
    seconds, micros = map(int, redis("TIME"))
    rows = []
    for key in keys(redis):
        kind = redis("TYPE", key).decode()
        if kind != "none":  # a key that expired since the SCAN
            rows.append({"key": text(key), "type": kind, "value": value(redis, key, kind), "ttl_ms": redis("PTTL", key)})
    server = dict(line.split(":", 1) for line in redis("INFO", "server").decode().splitlines() if ":" in line)
    redis("CLIENT", "UNPAUSE")

    truth = {
        "library": truth.pop("library"),
        "version": truth.pop("version"),
        "state": truth.pop("state"),
        "recorded": truth.pop("recorded", True),
        "now_ms": truth.pop("now_ms", seconds * 1000 + micros // 1000),
        "redis_version": server["redis_version"],
        "file": name + ".jsonl",
        **truth,
    }
    os.makedirs(outdir, exist_ok=True)
    with open(os.path.join(outdir, name + ".jsonl"), "w", encoding="utf-8") as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
    with open(os.path.join(outdir, name + ".truth.json"), "w", encoding="utf-8") as out:
        out.write(json.dumps(truth, ensure_ascii=False, indent=1) + "\n")
    print(f"{name}: {len(rows)} keys", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
