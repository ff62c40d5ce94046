"""What others do to an ingress and to the log: senders who prove nothing, and transactions that are not ours."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable
from urllib.parse import urlsplit

from aiokafka import AIOKafkaProducer

from ingress.batches import place_of
from pipeline import contract, kafka
from pipeline.contract import Event, EventType
from pipeline.settings import Settings

#: Connections that each send all but the last byte of a body, and its length.
SLOW, SLOW_BYTES = 120, 1024 * 1024
#: After this the broker aborts a transaction that nobody ends, in ms. Nobody reads beyond it until then.
TRANSACTION_MS = 4_000
#: How long a stranger's client waits for the cluster, in seconds; a fault of the cluster may be under way.
PATIENCE = 3.0


def slow_bodies(url: str) -> Callable[[], None]:
    """Begin unsigned requests, each of which lacks the last byte of its body; what ends them."""
    tasks = [asyncio.create_task(_slow_body(url)) for _ in range(SLOW)]

    def end() -> None:
        for task in tasks:
            task.cancel()

    return end


async def _slow_body(url: str) -> None:
    """One such request; what the other side does with it is its own affair."""
    where = urlsplit(url)
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection(where.hostname, where.port)
        try:
            head = f"POST /webhooks/email HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Length: {SLOW_BYTES}\r\n\r\n"
            writer.write(head.encode() + b"[" * (SLOW_BYTES - 1))
            await writer.drain()
            await asyncio.Event().wait()
        finally:
            writer.transport.abort()


async def foreign_transaction(settings: Settings, email: str, identity: str, *, aborts: bool) -> None:
    """Write an event to the events topic in a transaction, and never commit it.

    email, identity  what the event says; nothing of it may ever be applied
    aborts           it is aborted at once; else nobody ends it, and the broker does after TRANSACTION_MS

    Raises KafkaError or TimeoutError if the cluster does not take it, as while a fault of its own is under way.
    """
    topic = kafka.topics_of(settings).events
    event = Event(
        provider="nexuspromail",
        type=EventType.COMPLAINT,
        provider_type="complained",
        id=identity,
        id_basis="id",
        email=email,
        email_given=email,
        received_at=0,
    )
    producer = AIOKafkaProducer(
        **kafka.client_options(settings),
        transactional_id=f"stranger-{uuid.uuid4()}",
        transaction_timeout_ms=TRANSACTION_MS,
    )
    try:
        async with asyncio.timeout(PATIENCE):
            await producer.start()
            await producer.begin_transaction()
            key, partition = email.encode(), place_of(email.encode(), topic.partitions)
            await producer.send_and_wait(topic.name, contract.encode(event), key=key, partition=partition)
            if aborts:
                await producer.abort_transaction()
    finally:
        await kafka.let_go(producer)  # which ends no transaction
