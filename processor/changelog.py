"""How a lane gets its state back: the changelogs, read to their end into the local store.

A shell over one aiokafka consumer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from pipeline import peek
from pipeline.errors import HangingTransaction, StaleStore
from pipeline.last_read import Last
from processor import dedup, place
from processor.place import Extent, Fit, Place
from processor.store import Store, Table

#: How long a transaction may seem to be open when nobody can have one open, in seconds.
PATIENCE = 10.0
#: Bytes of values that are written to the store at once, while nothing else can be done.
PORTION_BYTES = 512 * 1024


async def restore(
    consumer: AIOKafkaConsumer,
    store: Store,
    changelogs: dict[TopicPartition, Table],
    moved: Callable[[], None],
    *,
    fenced: bool,
    keep_done: bool = False,
) -> int:
    """Bring the store to the changelogs' end; the number of rows read. `moved` is called with every step.

    consumer  read_committed and nobody else's; its assignment is replaced
    fenced    nobody else can write to these changelogs, so all of them must be readable
    keep_done  calls that are done stay as empty rows, so that they can be told from those that were never owed

    Raises StaleStore if the store has read what these changelogs do not hold (`judge` says before what that means),
    HangingTransaction if what was committed to them cannot be read.
    """
    consumer.assign(list(changelogs))
    first, end = await consumer.beginning_offsets(list(changelogs)), await consumer.end_offsets(list(changelogs))
    for partition in changelogs:
        position = store.position(partition.topic)
        if position is not None and not first[partition] <= position <= end[partition]:
            raise StaleStore(f"{partition.topic}-{partition.partition}: {position} is outside of the log")
        consumer.seek(partition, first[partition] if position is None else position)
    lasts = {partition: _last(store, partition) for partition in changelogs}
    restored = 0
    places: dict[TopicPartition, int] = {}
    moved_at = time.monotonic()
    # The end counts control records, which are never handed out: so the position tells, not a record's offset.
    while behind := [
        p for p in changelogs if await consumer.position(p) < end[p] or (fenced and not _all_readable(consumer, p))
    ]:
        for partition, records in (await consumer.getmany(*behind, timeout_ms=100)).items():
            table = changelogs[partition]
            for portion in _portions(records):
                rows = rows_of(table, portion)
                if keep_done and table == "calls":
                    rows = [(key, value or b"") for key, value in rows]
                reached = place.after(portion)
                lasts[partition] = reached.last
                store.write({table: rows}, {partition.topic: reached})
                restored += len(rows)
                await asyncio.sleep(0)  # others have their turn
        # Over control records it gets on without a record; over nothing at all it does not.
        if places != (places := {partition: await consumer.position(partition) for partition in changelogs}):
            moved_at = time.monotonic()
            moved()
        hidden = [p for p in behind if places[p] >= end[p] and _hides_some(consumer, p)]
        if hidden and time.monotonic() - moved_at > PATIENCE:
            raise HangingTransaction(_hanging(hidden[0], consumer.last_stable_offset(hidden[0])))
    store.write({}, {tp.topic: Place(await consumer.position(tp), lasts[tp]) for tp in changelogs})
    return restored


async def judge(
    consumer: AIOKafkaConsumer, store: Store, changelogs: Collection[TopicPartition], tombstones: Mapping[str, int]
) -> tuple[Fit, str]:
    """Whether a store may go on from these changelogs, and why not. The consumer's assignment stays as it is.

    tombstones  by topic, how long it keeps a deletion at least, ms; only those that are compacted
    """
    first, end = await consumer.beginning_offsets(changelogs), await consumer.end_offsets(changelogs)
    found = {}
    for partition in changelogs:
        known = store.place(partition.topic)
        if known is None:
            continue
        reached, former = known
        there = None
        if reached.last is not None and first[partition] <= reached.last.offset < end[partition]:
            looked = await peek.at(consumer, partition, reached.last.offset)
            there = looked.record if looked else None
        found[f"{partition.topic}-{partition.partition}"] = place.judge(
            reached,
            Extent(first[partition], end[partition], there),
            former=former,
            now=int(time.time() * 1000),
            tombstones_last=tombstones.get(partition.topic),
        )
    return place.worst(found)


def _last(store: Store, partition: TopicPartition) -> Last | None:
    known = store.place(partition.topic)
    return None if known is None else known[0].last


def rows_of(table: Table, records: Iterable[ConsumerRecord]) -> list[tuple[bytes, bytes | None]]:
    """The rows of a table that records of its changelog hold. Raises Undecodable."""
    if table == "seen":
        return [row for record in records for row in dedup.rows_of(record.key, record.value)]
    return [(record.key, record.value) for record in records]


def _portions(records: Sequence[ConsumerRecord]) -> Iterator[list[ConsumerRecord]]:
    """Records in parts of PORTION_BYTES."""
    portion: list[ConsumerRecord] = []
    size = 0
    for record in records:
        portion.append(record)
        size += len(record.value or b"")
        if size >= PORTION_BYTES:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def _all_readable(consumer: AIOKafkaConsumer, partition: TopicPartition) -> bool:
    """Whether a fetch has told that no transaction is open."""
    return consumer.highwater(partition) is not None and not _hides_some(consumer, partition)


def _hides_some(consumer: AIOKafkaConsumer, partition: TopicPartition) -> bool:
    """Whether records stand behind the start of an open transaction, where read_committed does not get."""
    stable, end = consumer.last_stable_offset(partition), consumer.highwater(partition)
    return stable is not None and end is not None and stable < end


def _hanging(partition: TopicPartition, offset: int) -> str:
    return (
        f"{partition.topic}-{partition.partition}: a transaction is open since offset {offset} and nobody is left to "
        "end it, so what was committed after it cannot be read. Kafka 4.1 to 4.3.1 does that (KAFKA-20734). "
        'docs/operations.md, "a transaction is open and nobody is left to end it", says how to mend it'
    )
