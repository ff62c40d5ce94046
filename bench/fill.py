"""Fill the events topic with records as the ingress writes them, as fast as one process can."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer

from pipeline import contract, kafka
from pipeline.contract import Event, EventType
from pipeline.settings import Settings
from pipeline.topics import Topics

SPEAKING = (EventType.HARD_BOUNCE, EventType.COMPLAINT, EventType.UNSUBSCRIBED)


@dataclass(frozen=True, slots=True)
class Load:
    """events in all; share of them that repeat an earlier id, and that speak about suppression; addresses in use."""

    events: int
    duplicates: float = 0.1
    speaking: float = 0.3
    addresses: int = 300_000


def event(load: Load, number: int) -> Event:
    """The number-th event: the same for every run."""
    every = round(1 / load.duplicates) if load.duplicates else 0
    original = number - 1 if every and number % every == every - 1 else number
    speaks = (original * 7919) % 1000 < load.speaking * 1000
    kind = SPEAKING[original % 3] if speaks else EventType.DELIVERED
    email = f"person{(original * 2654435761) % load.addresses}@example.com"
    identity = f"evt_{original:012d}"
    raw = msgspec.json.encode({"id": identity, "type": kind.value, "data": {"email": email}})
    return Event(
        provider="nexuspromail",
        type=kind,
        provider_type=kind.value,
        id=identity,
        id_basis="id",
        provider_event_id=identity,
        email=email,
        email_given=email,
        received_at=1_760_000_000_000 + number,
        raw=msgspec.Raw(raw),
    )


async def fill(settings: Settings, topics: Topics, load: Load, make: Callable[[Load, int], Event] = event) -> float:
    """Write the load to the events topic; events per second that went in."""
    topic, partitions = topics.events.name, topics.events.partitions
    producer = AIOKafkaProducer(**kafka.client_options(settings), max_batch_size=512 * 1024, acks="all")
    await producer.start()
    started = time.perf_counter()
    try:
        builders = [producer.create_batch() for _ in range(partitions)]
        for number in range(load.events):
            made = make(load, number)
            key = contract.key(made)
            partition = contract.partition_of(key, partitions)
            row: dict[str, Any] = {"key": key, "value": contract.encode(made), "timestamp": None}
            row["headers"] = contract.headers(made, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")
            if builders[partition].append(**row) is None:
                builders[partition].close()
                await producer.send_batch(builders[partition], topic, partition=partition)
                builders[partition] = producer.create_batch()
                builders[partition].append(**row)
        for partition, builder in enumerate(builders):
            if builder.record_count():
                builder.close()
                await producer.send_batch(builder, topic, partition=partition)
        await producer.flush()
    finally:
        await producer.stop()
    return load.events / (time.perf_counter() - started)


async def forget(settings: Settings) -> None:
    """Delete every topic of these settings: make room on the disk for what is measured next."""
    async with kafka.admin(settings) as client:
        await client.delete_topics([topic.name for topic in kafka.topics_of(settings).all()])
