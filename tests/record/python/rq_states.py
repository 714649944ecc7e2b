"""RQ: jobs put in at the front, a suspended queue, ids whose hash is gone, jobs of a dead worker, an overdue job."""

import datetime
import os
import sys

import redis
import rq
import states

connection = redis.Redis.from_url(os.environ["REDIS_URL"])


def worker(queue):
    return [os.path.join(os.path.dirname(sys.executable), "rq"), "worker", "-u", os.environ["REDIS_URL"], queue]


if __name__ == "__main__":
    version = rq.VERSION
    emails, mail = rq.Queue("emails", connection=connection), rq.Queue(states.NAME, connection=connection)
    with states.Workers(worker("emails"), worker("emails")):
        emails.enqueue("states.block")
        emails.enqueue("states.block")
        states.wait("both run", lambda: connection.zcard("rq:wip:emails") == 2)
        states.wait("none is in between", lambda: connection.llen("rq:queue:emails:intermediate") == 0)
    first = states.stamp()
    mail.enqueue("states.block", states.LONG)
    mail.enqueue("states.block")
    mail.enqueue_in(datetime.timedelta(milliseconds=1), "states.block")
    mail.enqueue_in(datetime.timedelta(hours=1), "states.block")
    states.write("rq", version, "drained", {
        "rq:emails": {"length": 0, "in_flight": 2, "abandoned": 0, "due": 0, "delayed": 0, "dead": 0, "paused": 0},
        f"rq:{states.NAME}": {
            "length": 2, "in_flight": 0, "due": 1, "delayed": 1, "paused": 0, "oldest_ms": first, "within_ms": 1000,
        },
    }, notes=["the overdue job waits for a scheduler that does not run; due times are whole seconds"])
    with states.Workers(worker("emails")):
        emails.enqueue("states.block")
        states.wait("it runs", lambda: connection.zcard("rq:wip:emails") == 1)
        states.wait("none is in between", lambda: connection.llen("rq:queue:emails:intermediate") == 0)
    # The oldest is a ghost: its hash is gone, and with it the time.
    ghost = emails.enqueue("states.block")
    emails.enqueue("states.block")
    connection.delete(f"rq:job:{ghost.id}")
    connection.set("rq:suspended", 1)
    states.write("rq", version, "suspended", {
        "rq:emails": {"length": 2, "in_flight": 0, "abandoned": 1, "paused": 1, "oldest_ms": None},
    }, later=1200, notes=["read 20 minutes after the worker died", "the oldest id is a ghost"])
    first = states.stamp()
    emails.enqueue("states.block")
    emails.enqueue("states.block", at_front=True)
    states.write("rq", version, "at-front", {"rq:emails": {"length": 2, "in_flight": 0, "newest_in_front": True}},
                 notes=["the next job is the newest"])
