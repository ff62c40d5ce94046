// Fills the queue of bull_worker.js with the events in a file, one JSON object in a line, and ends.
const fs = require('fs');
const readline = require('readline');
const Queue = require('bull');

const BULK = 1000;

async function main() {
  const queue = new Queue('events', { redis: { host: '127.0.0.1', port: Number(process.env.REDIS_PORT) } });
  let jobs = [];
  for await (const line of readline.createInterface({ input: fs.createReadStream(process.env.EVENTS) })) {
    jobs.push({ data: JSON.parse(line), opts: { removeOnComplete: true } });
    if (jobs.length === BULK) await queue.addBulk(jobs.splice(0));
  }
  if (jobs.length) await queue.addBulk(jobs);
  await queue.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
