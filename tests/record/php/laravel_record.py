#!/usr/bin/env python3
"""Records Laravel: laravel_record.py REDIS_URL OUTDIR PHP VERSION

PHP is the command that runs laravel.php beside this file, once for each push and once for each worker; what it does to
the jobs it tells in a file. The database is flushed before each state.
"""
import json
import os
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.append(os.path.dirname(HERE))
from dump import Redis  # noqa: E402

URL, OUTDIR, PHP, VERSION = sys.argv[1:]
HOUR = 3600
WORDS = {"start": "in_flight"}


def until(what, condition, seconds=30):
    """A recording must never depend on how fast the machine is."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"waited {seconds} s in vain: {what}")
        time.sleep(0.02)


class State:
    """A flushed database, the workers on it, and what producer and workers know of their jobs without asking Redis."""

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        self.log = os.path.join(self.folder.name, "jobs.log")
        self.gate = os.path.join(self.folder.name, "gate")
        open(self.log, "w").close()
        self.added, self.abandoned, self.workers = {}, set(), []
        Redis(URL)("FLUSHDB")
        return self

    def __exit__(self, *_):
        open(self.gate, "w").close()
        for worker in self.workers:
            try:
                worker.wait(timeout=5)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
        self.folder.cleanup()

    def command(self, *args, retry_after=90):
        env = dict(os.environ, REDIS_URL=URL, JOB_LOG=self.log, GATE=self.gate, RETRY_AFTER=str(retry_after))
        return {"args": [PHP, os.path.join(HERE, "laravel.php"), *map(str, args)], "env": env}

    def push(self, queue, kind, delay=0, size=0, times=1):
        for _ in range(times):
            out = subprocess.run(**self.command("push", queue, kind, delay, size), check=True, stdout=subprocess.PIPE)
            job, at = out.stdout.decode().split()
            self.added[job] = {"queue": queue, "at": int(at), "due": int(at) + delay * 1000 if delay else None}

    def work(self, queue, **options):
        self.workers.append(subprocess.Popen(**self.command("work", queue, **options)))
        return self.workers[-1]

    def kill(self, worker, queue):
        worker.kill()
        worker.wait()
        self.workers.remove(worker)
        self.abandoned |= {job for job, state in self.states().items() if state == "in_flight" and self.added[job]["queue"] == queue}

    def lines(self):
        with open(self.log, encoding="utf-8") as log:
            return [line.split("\t") for line in log.read().splitlines()]

    def states(self):
        states = {job: "delayed" if added["due"] else "waiting" for job, added in self.added.items()}
        for word, _, job in self.lines():
            states[job] = WORDS.get(word, word)
        return {job: "abandoned" if job in self.abandoned else state for job, state in states.items()}

    def count(self, queue, state):
        return sum(s == state and self.added[job]["queue"] == queue for job, s in self.states().items())

    def reaches(self, queue, state, count):
        until(f"{count} {state} in {queue}", lambda: self.count(queue, state) == count)

    def truths(self):
        now, states, lines = time.time() * 1000, self.states(), self.lines()
        truths = {}
        for queue in dict.fromkeys(added["queue"] for added in self.added.values()):
            mine = {job: added for job, added in self.added.items() if added["queue"] == queue}
            truths[queue] = {
                **{state: self.count(queue, state) for state in ("waiting", "in_flight", "delayed", "retrying", "dead")},
                "delayed_overdue": sum(states[job] == "delayed" and added["due"] <= now for job, added in mine.items()),
                "processed_total": sum(word == "done" and of == queue for word, of, _ in lines),
                "failed_total": sum(word in ("dead", "retrying") and of == queue for word, of, _ in lines),
                "oldest_enqueued_at_ms": min((added["at"] for job, added in mine.items() if states[job] == "waiting"), default=None),
                "paused": False,
                "abandoned": self.count(queue, "abandoned"),
            }
        return truths

    def record(self, name, notes):
        truth = {"library": "laravel", "version": VERSION, "state": name, "queues": self.truths(), "notes": notes + [
            "keys carry the prefix laravel_database_ of a new application; no counter is in Redis, and failed jobs are in SQL",
            "oldest_enqueued_at_ms is the producer's clock just before the push; createdAt (whole s) is in the payload of 13.31, not of 10.48",
        ]}
        subprocess.run([sys.executable, os.path.join(HERE, "..", "dump.py"), URL, OUTDIR], input=json.dumps(truth).encode(), check=True)


with State() as state:
    state.push("emails", "Quick", times=3)
    state.push("emails", "Fail")
    state.push("emails", "Retry")
    state.work("emails")
    state.work("emails")
    state.reaches("emails", "done", 3)
    state.reaches("emails", "dead", 1)
    state.reaches("emails", "retrying", 1)
    state.push("emails", "Hold", times=2)
    state.reaches("emails", "in_flight", 2)
    state.push("emails", "Quick", times=6)
    state.push("emails", "Quick", size=100_000)
    state.push("emails", "Quick", delay=HOUR, times=2)
    state.push("emails", "Quick", delay=1)
    state.push("почта-é", "Quick", times=2)
    state.push("doomed", "Hold")
    doomed = state.work("doomed", retry_after=1)
    state.reaches("doomed", "in_flight", 1)
    state.kill(doomed, "doomed")
    state.push("doomed", "Quick")
    until("overdue", lambda: state.truths()["emails"]["delayed_overdue"] == 1)
    key = "laravel_database_queues:doomed:reserved"
    until("expired", lambda: Redis(URL)("ZCOUNT", key, "-inf", int(time.time()) - 1) == 1)
    state.record("busy", [
        "delayed counts the overdue job too, which no worker has looked for; the retrying job sits in the same zset",
        "doomed: its worker was killed, its job is in reserved with a score (s) in the past: the next pop would move it to the list",
        "notify has one element for each push that no blocking worker took: no jobs; emails: one waiting job carries 100 kB",
    ])

with State() as state:
    state.work("emails")
    state.work("emails")
    state.push("emails", "Quick", times=2)
    state.reaches("emails", "done", 2)
    state.push("emails", "Hold")
    state.reaches("emails", "in_flight", 1)
    state.record("drained", ["nothing waits, one of two workers works: only reserved (score = start + retry_after, s) is left"])
