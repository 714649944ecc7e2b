// What the recorders of the JavaScript libraries share.
'use strict';
const { execFileSync } = require('child_process');
const path = require('path');

// Waits for a condition: a recording must never depend on how fast the machine is.
async function until(what, condition, ms = 30000) {
  const end = Date.now() + ms;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`waited ${ms} ms in vain: ${what}`);
    await new Promise((go) => setTimeout(go, 20));
  }
}

// Blocks this process too, so that its workers write nothing meanwhile.
function dump(url, outdir, truth) {
  execFileSync('python3', [path.join(__dirname, '..', 'dump.py'), url, outdir], {
    input: JSON.stringify(truth),
    stdio: ['pipe', 'inherit', 'inherit'],
  });
}

// What producers and workers know of their jobs, without asking Redis.
class Ledger {
  constructor() {
    this.queues = new Map();
    this.open();
  }

  // Jobs named `hold` stay in flight until release().
  open() {
    this.gate = new Promise((go) => (this.release = go));
  }

  queue(name) {
    if (!this.queues.has(name)) this.queues.set(name, { jobs: new Map(), processed: 0, failed: 0, extra: {} });
    return this.queues.get(name);
  }

  // `at` is the time that the library stamps on the job, `due` that at which its delay ends.
  added(name, id, at, due, state = due ? 'delayed' : 'waiting') {
    const jobs = this.queue(name).jobs;
    // A quick worker may have begun the job before add() returned.
    const seen = jobs.get(id);
    jobs.set(id, { at, due, state: seen ? seen.state : state });
  }

  set(name, id, state) {
    const jobs = this.queue(name).jobs;
    if (!jobs.has(id)) jobs.set(id, {});
    jobs.get(id).state = state;
  }

  // The body of every job: what it does is in its name.
  async run(name, id, kind, last) {
    const queue = this.queue(name);
    this.set(name, id, 'in_flight');
    if (kind === 'hold') await this.gate;
    if (kind === 'fail') {
      queue.failed += 1;
      this.set(name, id, last ? 'dead' : 'retrying');
      const error = new Error('failed on purpose');
      // The libraries keep the stack, and the paths in it are this machine's.
      error.stack = String(error);
      throw error;
    }
    queue.processed += 1;
    this.set(name, id, 'done');
    return 'ok';
  }

  count(name, state) {
    return [...this.queue(name).jobs.values()].filter((job) => job.state === state).length;
  }

  truth(name) {
    const { jobs, processed, failed, extra } = this.queue(name);
    const waiting = [...jobs.values()].filter((job) => job.state === 'waiting');
    const overdue = [...jobs.values()].filter((job) => job.state === 'delayed' && job.due <= Date.now());
    return {
      waiting: waiting.length,
      in_flight: this.count(name, 'in_flight'),
      delayed: this.count(name, 'delayed'),
      delayed_overdue: overdue.length,
      retrying: this.count(name, 'retrying'),
      dead: this.count(name, 'dead'),
      processed_total: processed,
      failed_total: failed,
      oldest_enqueued_at_ms: waiting.length ? Math.min(...waiting.map((job) => job.at)) : null,
      paused: false,
      ...extra,
    };
  }

  truths() {
    return Object.fromEntries([...this.queues.keys()].map((name) => [name, this.truth(name)]));
  }
}

const HOUR = 3600 * 1000;
const BIG = 'x'.repeat(100 * 1000);

module.exports = { until, dump, Ledger, HOUR, BIG };
