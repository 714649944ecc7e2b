"""Dramatiq: jobs in flight and none waiting, fetched ahead; dead letters; a long message; a delayed one."""

import os
import sys

import dramatiq
import states
from dramatiq.brokers.redis import RedisBroker

dramatiq.set_broker(RedisBroker(url=os.environ["REDIS_URL"]))


@dramatiq.actor(queue_name="emails", max_retries=0)
def block(*args):
    if args == ("fail",):
        raise ValueError
    states.block()


if __name__ == "__main__":
    worker = [sys.executable, "-m", "dramatiq", "dramatiq_states", "-p", "1", "-t", "2", "-Q", "emails"]
    with states.Workers(worker):
        block.send("fail")
        states.wait("one is dead", lambda: states.redis("ZCARD", "dramatiq:emails.XQ") == 1)
        for _ in range(4):
            block.send()
        states.wait("two run and two are fetched ahead", lambda: states.redis("LLEN", "dramatiq:emails") == 0)
    states.write("dramatiq", dramatiq.__version__, "drained", {
        "dramatiq:emails": {"length": 0, "in_flight": 4, "delayed": 0, "dead": 1},
    }, notes=["2 of the 4 run, 2 are fetched ahead"])
    first = states.stamp()
    block.send(states.LONG)
    block.send()
    block.send_with_options(delay=3_600_000)
    states.write("dramatiq", dramatiq.__version__, "long", {
        "dramatiq:emails": {"length": 2, "in_flight": 0, "delayed": 1, "dead": 0, "oldest_ms": None},
    }, notes=["the oldest message is too long to be read for its time"])
