"""TaskIQ, with the list broker, or with TASKIQ_STREAM the stream broker, whose pending entries may be fetched ahead."""

import asyncio
import os
import sys

import common
from taskiq_redis import ListQueueBroker, RedisStreamBroker

broker = (RedisStreamBroker if "TASKIQ_STREAM" in os.environ else ListQueueBroker)(common.URL, queue_name="live")


@broker.task(task_name="run")
async def run(job):
    common.log("start", job)
    await asyncio.sleep(common.seconds(job))
    common.finish(job)


if __name__ == "__main__":
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(broker.startup())
    taskiq = os.path.join(os.path.dirname(sys.executable), "taskiq")
    worker = [taskiq, "worker", "taskiq_app:broker", "-w", "1", "--max-async-tasks", "2", "--max-prefetch", "1"]
    common.drive(lambda job: loop.run_until_complete(run.kiq(job)), [worker])
