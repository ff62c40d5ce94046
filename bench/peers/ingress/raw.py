"""What is the least that puts an authentic delivery into Kafka? The signature, aiokafka, and nothing else.

A delivery is one event, or an array of them; each becomes a record whose key is its address. 200 once all are
acknowledged by all in-sync replicas.

PORT                     where to listen, on 127.0.0.1
SECRET                   what deliveries are signed with
KAFKA_BOOTSTRAP_SERVERS  brokers
TOPIC                    where events go
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
from collections.abc import AsyncIterator

import msgspec
import uvloop
from aiohttp import web
from aiokafka import AIOKafkaProducer

SECRET = os.environ.get("SECRET", "").encode()
TOPIC = os.environ.get("TOPIC", "")
PRODUCER: web.AppKey[AIOKafkaProducer] = web.AppKey("producer", AIOKafkaProducer)


class Data(msgspec.Struct):
    email: str


class Event(msgspec.Struct):
    data: Data


one = msgspec.json.Decoder(Event)
several = msgspec.json.Decoder(list[msgspec.Raw])


async def receive(request: web.Request) -> web.Response:
    body = await request.read()
    expected = hmac.new(SECRET, body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, request.headers.get("X-NexusProMail-Signature", "")):
        return web.Response(status=401)
    producer = request.app[PRODUCER]
    if body.startswith(b"["):
        # Sent in turn, awaited together: a task for each would make thousands of them wait for room in one batch.
        events = [bytes(raw) for raw in several.decode(body)]
        await asyncio.gather(*[await producer.send(TOPIC, event, key=address(event)) for event in events])
    else:
        await producer.send_and_wait(TOPIC, body, key=address(body))
    return web.Response()


def address(event: bytes) -> bytes:
    return one.decode(event).data.email.encode()


async def kafka(app: web.Application) -> AsyncIterator[None]:
    brokers = os.environ["KAFKA_BOOTSTRAP_SERVERS"]
    app[PRODUCER] = AIOKafkaProducer(bootstrap_servers=brokers, acks="all", enable_idempotence=True)
    await app[PRODUCER].start()
    yield
    await app[PRODUCER].stop()


def main() -> None:
    app = web.Application()
    app.add_routes([web.post("/webhooks/email", receive)])
    app.cleanup_ctx.append(kafka)
    loop = uvloop.new_event_loop()
    web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), access_log=None, print=None, loop=loop)


if __name__ == "__main__":
    main()
