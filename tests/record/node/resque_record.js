// Records node-resque, which shares its keys with Ruby's Resque and resque-scheduler: resque_record.js REDIS_URL OUTDIR
//
// The database is flushed before each state.
'use strict';
const Redis = require('ioredis');
const path = require('path');
const { Queue, Worker } = require('node-resque');
const { until, dump, Ledger, HOUR, BIG } = require('./common.js');

const [url, outdir] = process.argv.slice(2);
const entry = require.resolve('node-resque');
const { version } = require(path.join(entry.slice(0, entry.lastIndexOf('node-resque')), 'node-resque', 'package.json'));
const { hostname, port, pathname } = new URL(url);
const connection = { pkg: 'ioredis', host: hostname, port: Number(port) || 6379, database: Number(pathname.slice(1)) || 0, namespace: 'resque' };

async function state(name, notes, act) {
  const ledger = new Ledger();
  const client = new Redis(url);
  await client.flushdb();
  const jobs = {};
  for (const kind of ['quick', 'hold', 'fail']) {
    jobs[kind] = { perform: ({ queue, id }) => ledger.run(queue, id, kind, true) };
  }
  const producer = new Queue({ connection }, jobs);
  await producer.connect();
  const workers = [];
  let next = 0;
  const hand = {
    ledger,
    client,
    add: async (queue, kind, delay = 0, blob = '') => {
      const id = (next += 1);
      const at = Date.now();
      // Told before the call: a worker in this very process may take it at once.
      ledger.added(queue, id, at, delay ? at + delay : 0);
      const args = [{ queue, id, blob }];
      await (delay ? producer.enqueueIn(delay, queue, kind, args) : producer.enqueue(queue, kind, args));
    },
    times: async (count, queue, kind, delay) => {
      for (let i = 0; i < count; i += 1) await hand.add(queue, kind, delay);
    },
    // A worker of Resque runs one job at a time.
    work: async (queue) => {
      const worker = new Worker({ connection, queues: [queue], timeout: 50, name: `host:${process.pid}+${workers.length}` }, jobs);
      worker.on('error', (error) => console.error(error.message));
      workers.push(worker);
      await worker.connect();
      await worker.start();
    },
    reaches: (queue, state, count) => until(`${count} ${state} in ${queue}`, () => ledger.count(queue, state) === count),
    counted: (count) => until('counters', async () => Number(await client.get('resque:stat:processed')) + Number(await client.get('resque:stat:failed')) === count),
  };
  await act(hand);
  dump(url, outdir, {
    library: 'node-resque',
    version,
    state: name,
    queues: ledger.truths(),
    notes: [...notes, 'stat:* and failed are global; a job carries no time: oldest_enqueued_at_ms is the clock of the producer, and no key tells it'],
  });
  ledger.release();
  await Promise.all(workers.map((worker) => worker.end()));
  await producer.end();
  client.disconnect();
}

async function main() {
  await state(
    'busy',
    [
      'delayed jobs (of resque-scheduler): zset delayed_queue_schedule of whole seconds, one list delayed:<s> for each; delayed counts the overdue one too',
      'node-resque counts a failed job in stat:failed alone, Ruby in stat:processed too',
      'one waiting job of emails carries 100 kB; почта-é and reports never had a worker',
    ],
    async (hand) => {
      await hand.times(3, 'emails', 'quick');
      await hand.add('emails', 'fail');
      await hand.work('emails');
      await hand.work('emails');
      await hand.reaches('emails', 'done', 3);
      await hand.reaches('emails', 'dead', 1);
      await hand.counted(4);
      await hand.times(2, 'emails', 'hold');
      await hand.reaches('emails', 'in_flight', 2);
      await hand.times(6, 'emails', 'quick');
      await hand.add('emails', 'quick', 0, BIG);
      await hand.times(2, 'emails', 'quick', HOUR);
      await hand.times(4, 'reports', 'quick');
      await hand.add('reports', 'quick', 1000);
      await hand.times(3, 'почта-é', 'quick');
      await until('overdue', () => hand.ledger.truths().reports.delayed_overdue === 1);
    },
  );
  await state('drained', ['nothing waits, one of two workers works: no list is left'], async (hand) => {
    await hand.work('emails');
    await hand.work('emails');
    await hand.times(3, 'emails', 'quick');
    await hand.reaches('emails', 'done', 3);
    await hand.counted(3);
    await hand.add('emails', 'hold');
    await hand.reaches('emails', 'in_flight', 1);
  });
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
