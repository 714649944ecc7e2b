"""SAQ. A job moves from the list `queued` to the list `active` when a worker takes it."""

import asyncio
import os
import sys

import common
from saq import Queue

queue = Queue.from_url(common.URL, name="live")


async def run(_context, *, job):
    common.log("start", job)
    await asyncio.sleep(common.seconds(job))
    common.finish(job)


settings = {"queue": queue, "functions": [run], "concurrency": 2}

if __name__ == "__main__":
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    put = lambda job: loop.run_until_complete(queue.enqueue("run", job=job, retries=1))
    common.drive(put, [[os.path.join(os.path.dirname(sys.executable), "saq"), "saq_app.settings"]])
