"""Dramatiq. A worker fetches up to twice as many jobs as it has threads: those are in flight for Redis."""

import sys

import common
import dramatiq
from dramatiq.brokers.redis import RedisBroker

dramatiq.set_broker(RedisBroker(url=common.URL))


@dramatiq.actor(queue_name="live", max_retries=0)
def run(job):
    common.run(job)


if __name__ == "__main__":
    worker = [sys.executable, "-m", "dramatiq", "dramatiq_app", "-p", "1", "-t", "2", "-Q", "live"]
    common.drive(run.send, [worker])
