// A Bull worker: `SET NX EX` for ids, a set of addresses. Prints how many jobs it has done.
const Queue = require('bull');

const CONCURRENCY = 25;
const WINDOW_SECONDS = 48 * 3600;
const SUPPRESSING = new Set(['hard_bounce', 'complaint', 'unsubscribed']);

const queue = new Queue('events', { redis: { host: '127.0.0.1', port: Number(process.env.REDIS_PORT) } });
let processed = 0;
let unique = 0;
let told = 0;

queue.process(CONCURRENCY, async ({ data: event }) => {
  const first = await queue.client.set(`seen:${event.provider}:${event.id}`, 1, 'EX', WINDOW_SECONDS, 'NX');
  if (first) {
    unique += 1;
    if (SUPPRESSING.has(event.type)) await queue.client.sadd('suppressed', event.email);
  }
});

queue.on('completed', () => {
  processed += 1;
});
queue.on('failed', (job, error) => console.error(error));
queue.on('error', (error) => console.error(error));

setInterval(() => {
  if (processed === told) return;
  told = processed;
  console.log(`processed ${processed} unique ${unique}`);
}, 100);

process.on('SIGTERM', () => queue.close(true).then(() => process.exit(0)));
