"""What do most teams begin with? Flask under gunicorn, and a Redis list that workers pop from.

A delivery is one event, whose raw bytes are pushed, or an array of them, which are pushed by one command. 200 once
Redis has answered; it syncs its file every second, so that is what a crash may cost. Gunicorn says where it listens.

SECRET      what deliveries are signed with
REDIS_PORT  of the Redis on 127.0.0.1
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os

import redis
from flask import Flask, Response, request

SECRET = os.environ["SECRET"].encode()
EVENTS = "events"

app = Flask(__name__)
# Requests wait for a connection: the default pool fails those for which there is none.
pool = redis.BlockingConnectionPool(host="127.0.0.1", port=int(os.environ["REDIS_PORT"]))
store = redis.Redis(connection_pool=pool)


@app.post("/webhooks/email")
def receive() -> Response:
    body = request.get_data()
    expected = hmac.new(SECRET, body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, request.headers.get("X-NexusProMail-Signature", "")):
        return Response(status=401)
    if body.startswith(b"["):
        store.lpush(EVENTS, *[json.dumps(event) for event in json.loads(body)])
    else:
        store.lpush(EVENTS, body)
    return Response(status=200)
