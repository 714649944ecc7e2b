// Records Bull: bull_record.js REDIS_URL OUTDIR. The database is flushed before each state.
'use strict';
const { fork } = require('child_process');
const Queue = require('bull');
const { version } = require('bull/package.json');
const { until, dump, Ledger, HOUR, BIG } = require('./common.js');

const [url, outdir, role] = process.argv.slice(2);

async function state(name, notes, act) {
  const ledger = new Ledger();
  const queues = [];
  const open = (name, options = {}) => {
    // A short guard interval would promote the overdue jobs, so it's longer than a recording takes.
    const queue = new Queue(name, url, { settings: { guardInterval: HOUR }, ...options });
    queue.on('error', (error) => console.error(error.message));
    queues.push(queue);
    return queue;
  };
  await open('x').isReady();
  await queues[0].client.flushdb();

  const hand = {
    ledger,
    queue(name, options = {}) {
      const label = options.prefix ? `${options.prefix}:${name}` : name;
      const queue = open(name, options);
      if (options.prefix) ledger.queue(label).extra.prefix = options.prefix;
      return {
        bull: queue,
        add: async (kind, options = {}, data = { for: 'somebody@example.test' }) => {
          const job = await queue.add({ kind, ...data }, options);
          ledger.added(label, String(job.id), job.timestamp, options.delay ? job.timestamp + options.delay : 0);
          return job;
        },
        times: async function (count, kind, options, data) {
          for (let i = 0; i < count; i += 1) await this.add(kind, options, data);
        },
        work: (concurrency) =>
          void queue.process(concurrency, (job) =>
            ledger.run(label, String(job.id), job.data.kind, job.attemptsMade + 1 >= (job.opts.attempts || 1)),
          ),
        reaches: (state, count) => until(`${count} ${state} in ${label}`, () => ledger.count(label, state) === count),
        paused: async () => {
          await queue.pause();
          ledger.queue(label).extra.paused = true;
        },
      };
    },
  };
  await act(hand);
  dump(url, outdir, { library: 'bull', version, state: name, queues: ledger.truths(), notes });
  ledger.release();
  await Promise.all(queues.map((queue) => queue.close()));
}

async function overdue(queue) {
  const job = await queue.add('quick', { delay: 200 });
  await until('overdue', () => Date.now() > job.timestamp + 400);
  if ((await job.getState()) !== 'delayed') throw new Error('the overdue job was promoted');
}

// The process that gets killed: tells which jobs it holds, and never ends them.
function doomed() {
  const queue = new Queue('emails', url, { settings: { lockDuration: 1000 } });
  queue.process(2, (job) => (process.send(job.id), new Promise(() => {})));
  process.on('disconnect', () => process.exit(1));
}

async function main() {
  await state(
    'busy',
    [
      'emails: queue with metrics, some jobs removed on completion and on failure: only metrics:* counts all. metrics:failed counts final failures, failed_total every failed attempt',
      'reports: queue without metrics; orders: prefix {app}; почта-é: never had a worker, and its delayed job is overdue',
      'delayed counts the overdue ones too; the retrying job sits in the delayed zset beside them',
      'one waiting job of emails carries 100 kB',
    ],
    async (hand) => {
      const emails = hand.queue('emails', { metrics: { maxDataPoints: 60 } });
      await emails.times(3, 'quick');
      await emails.times(2, 'quick', { removeOnComplete: true });
      await emails.add('fail', { removeOnFail: true });
      await emails.add('fail');
      await emails.add('fail', { attempts: 3, backoff: { type: 'fixed', delay: HOUR } });
      emails.work(2);
      await emails.reaches('retrying', 1);
      await emails.reaches('done', 5);
      await emails.reaches('dead', 2);
      await until('settled', async () => (await emails.bull.getActiveCount()) === 0);
      // The job that was removed on failure is in no key any more.
      hand.ledger.set('emails', '6', 'gone');
      await emails.times(2, 'hold');
      await emails.reaches('in_flight', 2);
      await emails.times(6, 'quick');
      await emails.add('quick', {}, { blob: BIG });
      await emails.times(3, 'quick', { delay: HOUR });

      const reports = hand.queue('reports');
      await reports.times(3, 'quick');
      await reports.add('fail');
      reports.work(2);
      await reports.reaches('done', 3);
      await reports.reaches('dead', 1);
      await reports.times(2, 'hold');
      await reports.reaches('in_flight', 2);
      await reports.times(4, 'quick');

      const orders = hand.queue('orders', { prefix: '{app}' });
      await orders.add('hold');
      orders.work(1);
      await orders.reaches('in_flight', 1);
      await orders.times(2, 'quick');
      await orders.add('quick', { delay: HOUR });

      const post = hand.queue('почта-é');
      await post.times(3, 'quick');
      await overdue(post);
    },
  );

  await state(
    'drained',
    ['emails: nothing waits, 2 of 4 slots work; reports: all done; later: only a delayed job, worker idle'],
    async (hand) => {
      const emails = hand.queue('emails', { metrics: { maxDataPoints: 60 } });
      emails.work(4);
      await emails.times(3, 'quick');
      await emails.times(2, 'hold');
      await emails.reaches('done', 3);
      await emails.reaches('in_flight', 2);
      const reports = hand.queue('reports');
      reports.work(1);
      await reports.times(2, 'quick');
      await reports.reaches('done', 2);
      await until('settled', async () => (await reports.bull.getActiveCount()) === 0);
      const later = hand.queue('later');
      later.work(1);
      await later.add('quick', { delay: HOUR });
    },
  );

  await state(
    'paused',
    [
      'emails is paused: its jobs lie in the list paused, wait is gone',
      'emails: a job still runs, since a pause does not stop those; reports: not paused',
    ],
    async (hand) => {
      const emails = hand.queue('emails');
      await emails.add('hold');
      emails.work(2);
      await emails.reaches('in_flight', 1);
      await emails.paused();
      await emails.times(3, 'quick');
      await emails.times(2, 'quick', { priority: 5 });
      await emails.add('quick', { delay: HOUR });
      await hand.queue('reports').times(2, 'quick');
    },
  );

  await state(
    'priority',
    [
      'jobs with a priority lie in wait, ahead of the others, and once more in the zset priority',
      'emails: the lifo jobs are at the end of wait that is taken first, though they are the newest: the head is not the oldest',
      'only-prio: no job without a priority, the most urgent is not the oldest',
    ],
    async (hand) => {
      const emails = hand.queue('emails');
      await emails.add('hold');
      emails.work(1);
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
      const worker = fork(__filename, [url, outdir, 'doomed']);
      process.once('exit', () => worker.kill('SIGKILL'));
      worker.on('message', (id) => hand.ledger.set('emails', String(id), 'abandoned'));
      await emails.reaches('abandoned', 2);
      worker.kill('SIGKILL');
      const client = emails.bull.client;
      await until('locks ran out', async () => (await client.keys('bull:emails:*:lock')).length === 0);
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
