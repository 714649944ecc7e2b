// Records BullMQ: bullmq_record.js REDIS_URL OUTDIR [MODULE]
//
// MODULE is one of the aliases of package.json (bullmq3 .. bullmq6). The database is flushed before each state.
'use strict';
const path = require('path');
const { fork } = require('child_process');
const Redis = require('ioredis');
const { until, dump, Ledger, HOUR, BIG } = require('./common.js');

const [url, outdir, module_ = 'bullmq5', role] = process.argv.slice(2);
const { Queue, Worker, FlowProducer } = require(module_);
// package.json is not among the module's exports, so it's found from the entry point.
const entry = require.resolve(module_);
const root = entry.slice(0, entry.lastIndexOf(module_) + module_.length);
const { version } = require(path.join(root, 'package.json'));
const major = Number(version.split('.')[0]);

// Workers block on Redis and so must not give up on a command.
const { hostname, port, pathname } = new URL(url);
const connection = { host: hostname, port: Number(port) || 6379, db: Number(pathname.slice(1)) || 0, maxRetriesPerRequest: null };

// One state: a flushed database, and a hand that opens queues and workers and closes them all at the end.
async function state(name, notes, act) {
  const ledger = new Ledger();
  const open = [];
  const track = (thing) => {
    thing.on('error', (error) => console.error(error.message));
    open.push(thing);
    return thing;
  };
  const client = new Redis(url);
  await client.flushdb();

  const hand = {
    ledger,
    client,
    flow: () => track(new FlowProducer({ connection })),
    queue(name, options = {}) {
      const queue = track(new Queue(name, { connection, ...options }));
      // The truth's name of a queue under another prefix says so.
      const label = options.prefix ? `${options.prefix}:${name}` : name;
      if (options.prefix) ledger.queue(label).extra.prefix = options.prefix;
      return {
        bull: queue,
        label,
        add: async (kind, options = {}, data = { for: 'somebody@example.test' }) => {
          const job = await queue.add(kind, data, options);
          ledger.added(label, job.id, job.timestamp, options.delay ? job.timestamp + options.delay : 0);
          return job;
        },
        work: (options = {}) =>
          track(
            new Worker(
              name,
              (job) => ledger.run(label, job.id, job.name, job.attemptsMade + 1 >= (job.opts.attempts || 1)),
              { connection, prefix: queue.opts.prefix, drainDelay: 1, ...options },
            ),
          ),
        times: async function (count, kind, options, data) {
          for (let i = 0; i < count; i += 1) await this.add(kind, options, data);
        },
        reaches: (state, count) => until(`${count} ${state} in ${label}`, () => ledger.count(label, state) === count),
        paused: async () => {
          await queue.pause();
          ledger.queue(label).extra.paused = true;
        },
      };
    },
  };
  await act(hand);
  dump(url, outdir, { library: 'bullmq', version, state: name, queues: ledger.truths(), notes });
  ledger.release();
  await Promise.all(open.filter((thing) => thing instanceof Worker).map((worker) => worker.close()));
  await Promise.all(open.filter((thing) => !(thing instanceof Worker)).map((thing) => thing.close()));
  client.disconnect();
}

// The overdue job proves that a due time that has come is not enough to be moved to `wait`: a worker has to fetch.
async function overdue(queue, client, prefix = 'bull') {
  const job = await queue.add('quick', { delay: 200 });
  const key = `${prefix}:${queue.bull.name}:delayed`;
  await until('overdue', () => Date.now() > job.timestamp + 400);
  if ((await client.zscore(key, job.id)) === null) throw new Error('the overdue job was promoted');
}

// The process that gets killed: tells which jobs it holds, and never ends them.
function doomed() {
  const hold = (job) => (process.send(job.id), new Promise(() => {}));
  new Worker('emails', hold, { connection, concurrency: 2, lockDuration: 1000 });
  process.on('disconnect', () => process.exit(1));
}

async function main() {
  await state(
    'busy',
    [
      'emails: worker with metrics, some jobs removed on completion and on failure: only metrics:* counts all. metrics:failed counts final failures, failed_total every failed attempt',
      'reports: worker without metrics; orders: prefix {app}; почта-é: never had a worker, its delayed job is overdue',
      'delayed counts the overdue ones too; the retrying job sits in the delayed zset beside them',
      'parents: 1 job in waiting-children, which is neither waiting nor delayed; children: its 2 jobs',
      'one waiting job of emails carries 100 kB',
    ],
    async (hand) => {
      const emails = hand.queue('emails');
      await emails.times(3, 'quick');
      await emails.times(2, 'quick', { removeOnComplete: true });
      await emails.add('fail', { removeOnFail: true });
      await emails.add('fail');
      await emails.add('fail', { attempts: 3, backoff: { type: 'fixed', delay: HOUR } });
      emails.work({ concurrency: 2, metrics: { maxDataPoints: 60 } });
      await emails.reaches('retrying', 1);
      await emails.reaches('done', 5);
      await emails.reaches('dead', 2);
      // The job that was removed on failure is in no key any more.
      await until('settled', async () => (await emails.bull.getActiveCount()) === 0);
      hand.ledger.set('emails', '6', 'gone');
      await emails.times(2, 'hold');
      await emails.reaches('in_flight', 2);
      await emails.times(6, 'quick');
      await emails.add('quick', {}, { blob: BIG });
      await emails.times(2, 'quick', { delay: HOUR });
      await overdue(emails, hand.client);

      const reports = hand.queue('reports');
      await reports.times(3, 'quick');
      await reports.add('fail');
      reports.work({ concurrency: 2 });
      await reports.reaches('done', 3);
      await reports.reaches('dead', 1);
      await reports.times(2, 'hold');
      await reports.reaches('in_flight', 2);
      await reports.times(4, 'quick');

      const orders = hand.queue('orders', { prefix: '{app}' });
      await orders.add('hold');
      orders.work({ concurrency: 1 });
      await orders.reaches('in_flight', 1);
      await orders.times(2, 'quick');
      await orders.add('quick', { delay: HOUR });

      const post = hand.queue('почта-é');
      await post.times(3, 'quick');
      await overdue(post, hand.client);

      const child = { name: 'quick', queueName: 'children', data: {} };
      const tree = await hand.flow().add({ name: 'quick', queueName: 'parents', data: {}, children: [child, child] });
      hand.ledger.added('parents', tree.job.id, tree.job.timestamp, 0, 'waiting-children');
      hand.ledger.queue('parents').extra.waiting_children = 1;
      for (const { job } of tree.children) hand.ledger.added('children', job.id, job.timestamp, 0);
    },
  );

  await state(
    'drained',
    [
      'emails: nothing waits, 2 of 4 slots work; reports: all done, no list is left; later: only a delayed job, worker idle',
      major < 5
        ? 'later: wait holds a marker, an id that starts with 0:, which is no job'
        : 'later: the marker zset holds the next due time, which is no job',
    ],
    async (hand) => {
      const emails = hand.queue('emails');
      emails.work({ concurrency: 4, metrics: { maxDataPoints: 60 } });
      await emails.times(3, 'quick');
      await emails.times(2, 'hold');
      await emails.reaches('done', 3);
      await emails.reaches('in_flight', 2);
      const reports = hand.queue('reports');
      reports.work();
      await reports.times(2, 'quick');
      await reports.reaches('done', 2);
      await until('settled', async () => (await reports.bull.getActiveCount()) === 0);
      const later = hand.queue('later');
      await later.add('quick', { delay: HOUR });
    },
  );

  await state(
    'paused',
    [
      major < 6
        ? 'emails is paused: its jobs lie in the list paused, wait is gone'
        : 'emails is paused: since BullMQ 6 its jobs stay in the list wait, only meta says that it is paused',
      'emails: a job still runs, since a pause does not stop those; reports: not paused',
    ],
    async (hand) => {
      const emails = hand.queue('emails');
      await emails.add('hold');
      emails.work({ concurrency: 2 });
      await emails.reaches('in_flight', 1);
      await emails.paused();
      await emails.times(3, 'quick');
      await emails.add('quick', { delay: HOUR });
      if (major > 3) await emails.times(2, 'quick', { priority: 5 });
      await hand.queue('reports').times(2, 'quick');
    },
  );

  await state(
    'priority',
    [
      major > 3
        ? 'emails: jobs with a priority lie in the zset prioritized and not in wait'
        : 'emails: jobs with a priority lie in wait, ahead of the others, and once more in the zset priority',
      'emails: the lifo jobs are at the end of wait that is taken first, though they are the newest: the head is not the oldest',
      'only-prio: no job without a priority, the most urgent is not the oldest',
    ],
    async (hand) => {
      const emails = hand.queue('emails');
      await emails.add('hold');
      emails.work({ concurrency: 1 });
      await emails.reaches('in_flight', 1);
      await emails.add('quick', { priority: 10 });
      await emails.times(3, 'quick');
      await emails.add('quick', { priority: 1 });
      await emails.times(2, 'quick', { priority: 5 });
      await emails.times(2, 'quick', { lifo: true });
      const only = hand.queue('only-prio');
      await only.add('quick', { priority: 9 });
      await only.add('quick', { priority: 3 });
      await only.add('quick', { priority: 3 });
    },
  );

  await state(
    'killed',
    [
      'the worker was killed: its 2 jobs are still in active, but their locks (<id>:lock) have run out; in_flight counts live workers only',
      'no other worker lives, so nobody moves them back to wait',
    ],
    async (hand) => {
      const emails = hand.queue('emails');
      await emails.times(3, 'hold');
      const worker = fork(__filename, [url, outdir, module_, 'doomed']);
      process.once('exit', () => worker.kill('SIGKILL'));
      worker.on('message', (id) => hand.ledger.set('emails', String(id), 'abandoned'));
      await emails.reaches('abandoned', 2);
      worker.kill('SIGKILL');
      await until('locks ran out', async () => (await hand.client.keys('bull:emails:*:lock')).length === 0);
      hand.ledger.queue('emails').extra.abandoned = 2;
    },
  );
}

if (role === 'doomed') doomed();
else main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
