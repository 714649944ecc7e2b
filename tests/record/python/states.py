"""What the recorders of the Python libraries share: a job that never ends, and how a state is reached and written."""

import json
import os
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
DUMP = os.path.join(os.path.dirname(HERE), "dump.py")
sys.path.append(os.path.dirname(DUMP))
import dump

OUT = sys.argv[1] if len(sys.argv) > 1 else None
NAME = "почта-é"
LONG = "x" * 100_000
redis = dump.Redis(os.environ["REDIS_URL"])


def block(*_):
    """The job: it runs until its worker is killed."""
    time.sleep(3600)


def wait(what, condition):
    end = time.time() + 30
    while not condition():
        assert time.time() < end, f"waited in vain: {what}"
        time.sleep(0.02)


def stamp():
    return time.time() * 1000


class Workers:
    """Worker processes that are killed, not ended, so that what they were at stays as it is."""

    def __init__(self, *commands):
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        if "RECORD_DEBUG" in os.environ:
            quiet = {"stdin": subprocess.DEVNULL, "stdout": sys.stderr}
        self.started = [subprocess.Popen(command, cwd=HERE, start_new_session=True, **quiet) for command in commands]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for worker in self.started:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()


def write(library, version, state, queues, later=0.0, notes=()):
    """Writes a state as it is, to be read `later` seconds from now; `queues` by their specifications."""
    truth = {"library": library, "version": version, "state": state, "notes": list(notes), "queues": queues}
    if later:
        truth["now_ms"] = int(stamp() + later * 1000)
    words = [sys.executable, DUMP, os.environ["REDIS_URL"], OUT]
    subprocess.run(words, input=json.dumps(truth).encode(), check=True)
    redis("FLUSHALL")
