"""arq. A job stays in the sorted set while it runs, marked by a key of its own."""

import asyncio
import os
import sys

import common
from arq import create_pool
from arq.connections import RedisSettings

SETTINGS = RedisSettings.from_dsn(common.URL)


async def run(_context, job):
    common.log("start", job)
    await asyncio.sleep(common.seconds(job))
    common.finish(job)


class Worker:
    functions = [run]
    redis_settings = SETTINGS
    queue_name = "live"
    max_jobs = 2
    max_tries = 1
    poll_delay = 0.05


if __name__ == "__main__":
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    pool = loop.run_until_complete(create_pool(SETTINGS))
    put = lambda job: loop.run_until_complete(pool.enqueue_job("run", job, _queue_name="live"))
    common.drive(put, [[os.path.join(os.path.dirname(sys.executable), "arq"), "arq_app.Worker"]])
