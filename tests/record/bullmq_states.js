// BullMQ 5 (or 4, with BULLMQ=bullmq4): priorities, a paused queue, an overdue job, a prefix for a Cluster, a name that is not
// ASCII, a long payload; and a list that is empty while jobs run. `worker QUEUE` is the worker, that never ends a job.
const { execFileSync, spawn } = require('child_process');
const path = require('path');
const library = process.env.BULLMQ || 'bullmq5';
const { Queue, Worker } = require(library);
const { version } = require(`${library}/package.json`);

const url = new URL(process.env.REDIS_URL);
const connection = { host: url.hostname, port: Number(url.port), maxRetriesPerRequest: null };
const NAME = 'почта-é';
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function until(what, condition) {
  const end = Date.now() + 30e3;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`waited in vain: ${what}`);
    await sleep(20);
  }
}

async function write(state, queues) {
  const file = path.join(process.argv[2], `bullmq-${version}-${state}`);
  const words = [file, 'bullmq', version, String(Date.now()), JSON.stringify(queues)];
  execFileSync('python3', [path.join(__dirname, 'fixture.py'), ...words], { stdio: 'inherit' });
  await (await new Queue('any', { connection }).client).flushall();
}

async function main() {
  const emails = new Queue('emails', { connection });
  const mail = new Queue(NAME, { connection });
  const worker = spawn(process.execPath, [__filename, 'worker', 'emails'], { stdio: 'ignore' });
  await emails.add('block', {});
  await emails.add('block', {});
  await until('both run', async () => (await emails.getActiveCount()) === 2);
  worker.kill('SIGKILL');
  const first = Date.now();
  await mail.add('block', { text: 'x'.repeat(100_000) });
  await mail.add('block', {});
  await mail.add('block', {}, { delay: 1 });
  await mail.add('block', {}, { delay: 3600_000 });
  await sleep(10);
  await write('drained', {
    'bullmq:emails': { length: 0, in_flight: 2, due: 0, delayed: 0, dead: 0, paused: 0 },
    [`bullmq:${NAME}`]: { length: 2, in_flight: 0, due: 1, delayed: 1, paused: 0, oldest_ms: first, within_ms: 100 },
  });
  const prefixed = new Queue('emails', { connection, prefix: '{app}' });
  const second = Date.now();
  await prefixed.add('block', {});
  await prefixed.add('block', {});
  await prefixed.pause();
  const third = Date.now();
  await emails.add('block', {});
  await emails.add('block', {}, { priority: 5 });
  await emails.add('block', {}, { priority: 1 });
  await write('priority', {
    'bullmq:emails?prefix=%7Bapp%7D&name=paused': {
      length: 2, in_flight: 0, paused: 1, oldest_ms: second, within_ms: 100,
    },
    'bullmq:emails': { length: 3, in_flight: 0, paused: 0, at_least_ms: third, within_ms: 100 },
  });
  process.exit(0);
}

if (process.argv[2] === 'worker') {
  new Worker(process.argv[3], () => sleep(3600_000), { connection, concurrency: 2 });
} else {
  main().catch((error) => {
    console.error(error);
    process.exit(1);
  });
}
