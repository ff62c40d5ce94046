"""Faust as it comes: an agent, a windowed table of ids and a table of suppressions, both in RocksDB with changelogs.

A tumbling window ends at a fixed time, so the one before it is asked too: otherwise a repeat shortly after that time
would pass.
"""

from __future__ import annotations

import os
from datetime import timedelta

import faust

from bench.peers.processor.progress import Progress

WINDOW = timedelta(hours=48)
SUPPRESSING = frozenset({"hard_bounce", "complaint", "unsubscribed"})
PARTITIONS = int(os.environ["PARTITIONS"])


class Event(faust.Record, serializer="json"):
    """The fields of an event that count here."""

    provider: str
    type: str
    id: str
    email: str | None = None
    received_at: int = 0


class Suppression(faust.Record, serializer="json"):
    """Why an address is not mailed, since when, and which event said so."""

    cause: str
    since: int
    event: str


app = faust.App(
    os.environ["APPLICATION"],
    broker=f"kafka://{os.environ['KAFKA_BOOTSTRAP_SERVERS']}",
    store="rocksdb://?driver=rocksdict",
    datadir=os.environ["STATE_DIR"],
    topic_partitions=PARTITIONS,
    topic_replication_factor=1,
)
events = app.topic(os.environ["EVENTS"], key_type=str, key_serializer="raw", value_type=Event)
changes = app.topic(os.environ["SUPPRESSIONS"], key_type=str, key_serializer="raw", value_type=Suppression)
seen = app.Table("seen", default=int).tumbling(WINDOW, expires=2 * WINDOW)
suppressions = app.Table("suppressions", value_type=Suppression)
progress = Progress()


@app.agent(events)
async def process(stream: faust.StreamT[Event]) -> None:
    """Drop repeats, keep the list, publish its changes."""
    async for event in stream:
        progress.processed += 1
        marker = f"{event.provider}:{event.id}"
        if seen[marker].current() or seen[marker].delta(WINDOW):
            continue
        seen[marker] = 1
        progress.unique += 1
        if event.type in SUPPRESSING and event.email not in suppressions:
            suppression = Suppression(cause=event.type, since=event.received_at, event=event.id)
            suppressions[event.email] = suppression
            await changes.send(key=event.email, value=suppression)


if __name__ == "__main__":
    app.main()
