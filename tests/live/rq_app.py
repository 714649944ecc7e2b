"""RQ. A job leaves the list when a worker takes it, and is in `wip` until it has ended; the worker forks in between."""

import os
import sys

import common
import redis
from rq import Queue

queue = Queue("live", connection=redis.Redis.from_url(common.URL))

if __name__ == "__main__":
    worker = [os.path.join(os.path.dirname(sys.executable), "rq"), "worker", "-u", common.URL, "live"]
    common.drive(lambda job: queue.enqueue("common.run", job), [worker, worker])
