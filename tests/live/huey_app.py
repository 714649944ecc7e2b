"""Huey. A job is gone from Redis when a worker takes it."""

import os
import sys

import common
from huey import RedisHuey

huey = RedisHuey("live", url=common.URL)


@huey.task()
def run(job):
    common.run(job)


if __name__ == "__main__":
    consumer = os.path.join(os.path.dirname(sys.executable), "huey_consumer")
    # The task's name holds that of its module, which the consumer imports.
    import huey_app

    common.drive(huey_app.run, [[consumer, "huey_app.huey", "-w", "2"]])
