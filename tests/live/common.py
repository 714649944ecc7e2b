"""What the live programs of the Python libraries share: the job, its log, and the course of a run.

A program is started as `python LIBRARY_app.py SECONDS`, with REDIS_URL and LIVE_LOG (a file) in its environment. It
puts in BACKLOG jobs, prints `backlog` and waits for a line; starts the workers, puts in jobs at a rate near to what they
can do, with bursts, for SECONDS; prints `drained` when all are finished, waits for a line, and ends the workers.

The log has one JSON object a line: `enqueue` (with `before`, the time before the call, and `t` after it), `start` as the
first thing that the job does, and `done` or `fail` as the last.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time

BACKLOG = 40
LOG = os.open(os.environ["LIVE_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
URL = os.environ["REDIS_URL"]


class Failure(Exception):
    """What a job that fails raises."""


def log(event, job, **more):
    # One write a line: lines of several processes do not mix.
    os.write(LOG, (json.dumps({"t": time.time(), "event": event, "job": job, **more}) + "\n").encode())


def seconds(job):
    """How long a job takes: 20 to 120 ms, the same in each run."""
    return 0.02 + job * 37 % 100 / 1000


def run(job):
    """The job."""
    log("start", job)
    time.sleep(seconds(job))
    finish(job)


def finish(job):
    if job % 31 == 30:
        log("fail", job)
        raise Failure(job)
    log("done", job)


def finished():
    with open(os.environ["LIVE_LOG"]) as lines:
        return sum('"done"' in line or '"fail"' in line for line in lines)


def drive(enqueue, commands):
    """Runs it all: `enqueue(job)` puts a job in, `commands` start one worker each."""
    count = 0

    def put(jobs):
        nonlocal count
        for _ in range(jobs):
            before = time.time()
            enqueue(count)
            log("enqueue", count, before=before)
            count += 1

    put(BACKLOG)
    print("backlog", flush=True)
    sys.stdin.readline()
    here = os.path.dirname(os.path.abspath(__file__))
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    if "LIVE_DEBUG" in os.environ:
        quiet = {"stdout": sys.stderr}
    # A session of its own, so that a worker ends with all of its children.
    workers = [subprocess.Popen(command, cwd=here, start_new_session=True, **quiet) for command in commands]
    try:
        end = time.time() + float(sys.argv[1])
        chance = random.Random(7)
        while time.time() < end:
            put(chance.choice([0, 1, 1, 2, 2, 3]))
            time.sleep(0.1)
            if chance.random() < 0.02:
                put(25)
        patience = time.time() + 120
        while finished() < count:
            assert time.time() < patience, f"{finished()} of {count} jobs are finished"
            time.sleep(0.05)
        print("drained", flush=True)
        sys.stdin.readline()
    finally:
        for worker in workers:
            try:
                os.killpg(worker.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            worker.wait()
