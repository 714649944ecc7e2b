"""Celery: priorities, a global prefix, a name that is not ASCII, a long payload; and a list that is empty while jobs run."""

import os
import sys

import celery
import states
from celery import Celery

app = Celery("celery_states", broker=os.environ["REDIS_URL"])
app.conf.task_acks_late = True
app.conf.worker_prefetch_multiplier = 1
if "CELERY_PREFIX" in os.environ:
    app.conf.broker_transport_options = {"global_keyprefix": os.environ["CELERY_PREFIX"]}


@app.task(name="block")
def block(*args):
    states.block()


def worker(queue):
    return [sys.executable, "-m", "celery", "-A", "celery_states", "worker", "-c", "2", "-Q", queue, "-l", "ERROR"]


def send(queue, count=1, **options):
    for _ in range(count):
        block.apply_async(options.pop("args", ()), queue=queue, **options)


def with_prefix(version):
    with states.Workers(worker("emails")):
        send("emails", 5)
        states.wait("two run", lambda: states.redis("HLEN", "app:unacked") == 2)
    states.write("celery", version, "prefix", {"celery:emails?prefix=app:": {"length": 3, "in_flight": 2}})


def without(version):
    for priority in [0, 3, 5, 6, 9]:
        send("emails", priority=priority)
    send(states.NAME, args=(states.LONG,))
    send(states.NAME, 2)
    states.write("celery", version, "waiting", {
        "celery:emails": {"length": 5, "in_flight": 0},
        f"celery:{states.NAME}": {"length": 3, "in_flight": 0},
    }, notes=["priority 5 is stored as 3"])
    with states.Workers(worker("emails")):
        send("emails", 2)
        send("reports", 4)
        states.wait("both run", lambda: states.redis("HLEN", "unacked") == 2)
    states.write("celery", version, "drained", {
        "celery:emails": {"length": 0, "in_flight": 2},
        "celery:reports": {"length": 4, "in_flight": 0},
    }, notes=["acks_late, prefetch of 1"])


if __name__ == "__main__":
    (with_prefix if "CELERY_PREFIX" in os.environ else without)(celery.__version__)
