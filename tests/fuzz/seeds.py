"""seeds.py FIXTURES CORPUS - writes every string of the recorded fixtures, up to 20 kB, as a seed of its own."""

import base64
import glob
import hashlib
import json
import os
import sys


def strings(value):
    if isinstance(value, str):
        yield value.encode()
    elif isinstance(value, dict) and set(value) == {"b64"}:
        yield base64.b64decode(value["b64"])
    elif isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings(item)


os.makedirs(sys.argv[2], exist_ok=True)
for file in glob.glob(os.path.join(sys.argv[1], "*.jsonl")):
    with open(file) as lines:
        for seed in (seed for line in lines for seed in strings(json.loads(line)) if 8 <= len(seed) <= 20_000):
            with open(os.path.join(sys.argv[2], hashlib.sha1(seed).hexdigest()), "wb") as out:
                out.write(seed)
