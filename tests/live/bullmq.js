// BullMQ 5 (or 4 or 6, with BULLMQ=bullmq4 or bullmq6): the same course as common.py. The worker is this program again, with `worker` as its
// argument; metrics are on with BULLMQ_METRICS, so that the library counts what it has done.
const fs = require('fs');
const { spawn } = require('child_process');
const readline = require('readline');
const { Queue, Worker } = require(process.env.BULLMQ || 'bullmq5');

const BACKLOG = 40;
const url = new URL(process.env.REDIS_URL);
const connection = { host: url.hostname, port: Number(url.port), maxRetriesPerRequest: null };
const log = (event, job, more = {}) =>
  fs.appendFileSync(process.env.LIVE_LOG, JSON.stringify({ t: Date.now() / 1e3, event, job, ...more }) + '\n');
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function work() {
  const metrics = process.env.BULLMQ_METRICS ? { maxDataPoints: 60 } : undefined;
  new Worker('live', async (job) => {
    const number = job.data.job;
    log('start', number);
    await sleep(20 + (number * 37) % 100);
    if (number % 31 === 30) {
      log('fail', number);
      throw new Error('this one fails');
    }
    log('done', number);
  }, { connection, metrics, concurrency: 1 });
}

async function drive() {
  const queue = new Queue('live', { connection });
  const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  let count = 0;
  const put = async (jobs) => {
    for (let n = 0; n < jobs; n++) {
      const before = Date.now() / 1e3;
      await queue.add('run', { job: count });
      log('enqueue', count++, { before });
    }
  };
  await put(BACKLOG);
  console.log('backlog');
  await lines.next();
  const workers = [1, 2].map(() => spawn(process.execPath, [__filename, 'worker'], { stdio: ['ignore', 'ignore', 'inherit'] }));
  try {
    const end = Date.now() + 1e3 * Number(process.argv[2]);
    // The same course in each run.
    for (let step = 0; Date.now() < end; step++) {
      await put([0, 1, 1, 2, 2, 3][(step * 7) % 6]);
      await sleep(100);
      if (step % 50 === 49) await put(25);
    }
    const patience = Date.now() + 120e3;
    const finished = () => (fs.readFileSync(process.env.LIVE_LOG, 'utf8').match(/"(done|fail)"/g) || []).length;
    while (finished() < count) {
      if (Date.now() > patience) throw new Error(`${finished()} of ${count} jobs are finished`);
      await sleep(50);
    }
    console.log('drained');
    await lines.next();
  } finally {
    workers.forEach((worker) => worker.kill('SIGKILL'));
  }
  process.exit(0);
}

(process.argv[2] === 'worker' ? work() : drive()).catch((error) => {
  console.error(error);
  process.exit(1);
});
