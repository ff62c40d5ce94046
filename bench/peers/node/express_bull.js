// What would a team on Node take? Express, and Bull's queue on Redis.
//
// A delivery is one event, which becomes one job. 200 once Redis has it; Redis syncs its file every second, so that is
// what a crash may cost.
//
// PORT        where to listen, on 127.0.0.1
// SECRET      what deliveries are signed with
// REDIS_PORT  of the Redis on 127.0.0.1
'use strict';

const crypto = require('node:crypto');
const Queue = require('bull');
const express = require('express');

const { PORT, SECRET, REDIS_PORT } = process.env;
const events = new Queue('events', { redis: { host: '127.0.0.1', port: Number(REDIS_PORT) } });
const app = express();

function authentic(body, signature) {
  const expected = Buffer.from(crypto.createHmac('sha256', SECRET).update(body).digest('hex'));
  const given = Buffer.from(signature);
  return expected.length === given.length && crypto.timingSafeEqual(expected, given);
}

app.post('/webhooks/email', express.raw({ type: 'application/json', limit: '1mb' }), async (request, response) => {
  if (!authentic(request.body, request.get('X-NexusProMail-Signature') ?? '')) {
    response.sendStatus(401);
    return;
  }
  await events.add(JSON.parse(request.body));
  response.sendStatus(200);
});

events.isReady().then(() => {
  const server = app.listen(Number(PORT), '127.0.0.1');
  process.on('SIGTERM', () => {
    server.close();
    server.closeAllConnections();
    events.close();
  });
});
