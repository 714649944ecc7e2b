"""Writes the keys of a Redis as a fixture, and what is true of its queues beside it. Standard library only.

    fixture.py FILE LIBRARY VERSION NOW_MS TRUTH    with REDIS_URL in the environment, TRUTH a JSON object

FILE.jsonl gets one JSON object a key: key, type, value. A string of bytes that is no UTF-8 is {"b64": "..."}. FILE.truth.json
gets what the producer and the workers know: a specification of each queue, and its numbers.
"""

import base64
import json
import os
import socket
import sys
from urllib.parse import urlparse


class Redis:
    def __init__(self, url):
        place = urlparse(url)
        self.file = socket.create_connection((place.hostname, place.port)).makefile("rwb")

    def __call__(self, *words):
        parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        self.file.write(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
        self.file.flush()
        return self.reply()

    def reply(self):
        line = self.file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise RuntimeError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        return rest


def text(value):
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}


def value(redis, key, kind):
    pairs = lambda flat: [[text(one), text(other)] for one, other in zip(flat[::2], flat[1::2])]
    if kind == "string":
        return text(redis("GET", key))
    if kind == "list":
        return [text(item) for item in redis("LRANGE", key, 0, -1)]
    if kind == "set":
        return [text(item) for item in sorted(redis("SMEMBERS", key))]
    if kind == "hash":
        return pairs(redis("HGETALL", key))
    if kind == "zset":
        return pairs(redis("ZRANGE", key, 0, -1, "WITHSCORES"))
    return [[text(id), [text(field) for field in fields]] for id, fields in redis("XRANGE", key, "-", "+")]


def write(file, library, version, now_ms, queues, notes=()):
    redis = Redis(os.environ["REDIS_URL"])
    with open(file + ".jsonl", "w") as out:
        for key in sorted(redis("KEYS", "*")):
            kind = redis("TYPE", key).decode()
            document = {"key": text(key), "type": kind, "value": value(redis, key, kind)}
            out.write(json.dumps(document, ensure_ascii=False) + "\n")
    truth = {"library": library, "version": version, "now_ms": now_ms, "notes": list(notes), "queues": queues}
    with open(file + ".truth.json", "w") as out:
        json.dump(truth, out, indent=1, ensure_ascii=False)
        out.write("\n")


if __name__ == "__main__":
    file, library, version, now_ms, queues = sys.argv[1:]
    write(file, library, version, float(now_ms), json.loads(queues))
