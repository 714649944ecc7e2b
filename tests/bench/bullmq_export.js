// BullMQ's own export method behind a server, as its users run it: `bullmq_export.js PORT QUEUES`, with REDIS_URL.
const http = require('http');
const { Queue } = require('bullmq5');

const url = new URL(process.env.REDIS_URL);
const connection = { host: url.hostname, port: Number(url.port) };
const first = new Queue('q0', { connection });
first.client.then((client) => {
  // One connection for all, or there would be a thousand.
  const queues = [first];
  for (let number = 1; number < Number(process.argv[3]); number++) {
    queues.push(new Queue(`q${number}`, { connection: client }));
  }
  http
    .createServer(async (_request, response) => {
      response.end((await Promise.all(queues.map((queue) => queue.exportPrometheusMetrics()))).join('\n'));
    })
    .listen(Number(process.argv[2]), '127.0.0.1');
});
