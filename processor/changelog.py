"""How a lane gets its state back: the changelogs, read to their end into the local store.

A shell over one aiokafka consumer.
"""

from __future__ import annotations

from collections.abc import Callable

from aiokafka import AIOKafkaConsumer, TopicPartition

from pipeline.errors import StaleStore
from processor.store import Store, Table


async def restore(
    consumer: AIOKafkaConsumer, store: Store, changelogs: dict[TopicPartition, Table], moved: Callable[[], None]
) -> int:
    """Bring the store to the changelogs' end; the number of records read. `moved` is called with every step.

    consumer  read_committed and nobody else's; its assignment is replaced

    Raises StaleStore if the store holds positions that these changelogs cannot have given it.
    """
    consumer.assign(list(changelogs))
    first, end = await consumer.beginning_offsets(list(changelogs)), await consumer.end_offsets(list(changelogs))
    for partition in changelogs:
        position = store.position(partition.topic)
        if position is not None and not first[partition] <= position <= end[partition]:
            raise StaleStore(f"{partition.topic}-{partition.partition}: {position} is outside of the log")
        consumer.seek(partition, first[partition] if position is None else position)
    restored = 0
    places: dict[TopicPartition, int] = {}
    # The end counts control records, which are never handed out: so the position tells, not a record's offset.
    while behind := [p for p in changelogs if await consumer.position(p) < end[p]]:
        for partition, records in (await consumer.getmany(*behind, timeout_ms=500)).items():
            rows = [(record.key, record.value) for record in records]
            position = records[-1].offset + 1
            store.write({changelogs[partition]: rows}, {partition.topic: position})
            restored += len(records)
        # Over control records it gets on without a record; over nothing at all it does not.
        if places != (places := {partition: await consumer.position(partition) for partition in changelogs}):
            moved()
    store.write({}, {partition.topic: await consumer.position(partition) for partition in changelogs})
    return restored
