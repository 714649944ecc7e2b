"""Celery. With its defaults a message is acknowledged before the job starts, and up to 4 a slot are fetched ahead: those
are in `unacked`. With CELERY_ACKS_LATE a running job is there too."""

import os
import sys

import common
from celery import Celery

app = Celery("celery_app", broker=common.URL)
app.conf.task_default_queue = "live"
app.conf.broker_connection_retry_on_startup = True
if "CELERY_ACKS_LATE" in os.environ:
    app.conf.task_acks_late = True
    app.conf.worker_prefetch_multiplier = 1


@app.task
def run(job):
    common.run(job)


if __name__ == "__main__":
    worker = [sys.executable, "-m", "celery", "-A", "celery_app", "worker", "-c", "2", "-Q", "live", "-l", "ERROR"]
    # The task's name is that of the module that the workers import.
    common.drive(lambda job: app.send_task("celery_app.run", (job,)), [worker])
