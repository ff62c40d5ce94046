"""Warm copies of lanes that other processes own, so that taking one over does not begin with reading all of it.

A shell. One consumer follows the changelogs of all of them into the stores that the lanes will have; what is missing
when one of them becomes ours is restored by the lane. The promise does not depend on it: without a copy a takeover
is only slower.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from pipeline import kafka
from pipeline.errors import StoreBroken, StoreLocked
from processor import changelog, dedup, metrics, store
from processor.site import Site
from processor.store import STANDBY_BUFFER, Store, Table, open_store

log = structlog.get_logger(__name__)

#: Bytes of one fetch of a partition, and records taken of all at once: our own lanes go first.
FETCH_BYTES, TAKE_RECORDS = 1024 * 1024, 4_000
#: How long to wait for records, in ms: as long it may take to notice that other lanes are to be followed.
WAIT_MS = 500
#: Seconds until following is tried again after an error.
PAUSE_SECONDS = 5.0


@dataclass(slots=True)
class _Copy:
    """One lane's store; markers below the floor are gone."""

    store: Store
    floor: bytes = b""


class Standbys:
    """The lanes that are followed: `follow` says which, `release` lets one go at once."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._wanted: set[int] = set()
        self._copies: dict[int, _Copy] = {}
        self._tables: dict[TopicPartition, Table] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def follow(self, numbers: Collection[int]) -> None:
        """Follow these lanes and no others, soon. None of them may be open here."""
        for number in self._wanted - set(numbers):
            self.release(number)
        self._wanted = set(numbers)
        self._changed.set()
        if self._wanted and self._task is None:
            self._task = asyncio.create_task(self._run(), name="standbys")

    def release(self, number: int) -> None:
        """Close the copy of a lane, if there is one: it becomes ours."""
        self._wanted.discard(number)
        if copy := self._copies.pop(number, None):
            self._changed.set()
            copy.store.close()
            metrics.forget_standby(number)

    async def close(self) -> None:
        """Follow nothing any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        for number in list(self._copies):
            self.release(number)

    async def _run(self) -> None:
        while True:
            try:
                await self._follow()
            except Exception as error:  # whatever it is, our own lanes do not depend on it
                known = isinstance(error, KafkaError | StoreBroken)
                log.warning("copies of lanes are not followed for now", reason=repr(error), exc_info=not known)
                for number in [number for number, copy in self._copies.items() if copy.store.broken]:
                    self._discard(number, "it is broken")
                await asyncio.sleep(PAUSE_SECONDS)

    async def _follow(self) -> None:
        consumer = AIOKafkaConsumer(
            **kafka.client_options(self._site.settings),
            enable_auto_commit=False,
            isolation_level="read_committed",
            max_partition_fetch_bytes=FETCH_BYTES,
        )
        try:
            await consumer.start()
            self._changed.set()
            while True:
                if self._changed.is_set():
                    self._changed.clear()
                    await self._assign(consumer)
                if not self._copies:
                    await self._changed.wait()
                    continue
                fetched = await consumer.getmany(timeout_ms=WAIT_MS, max_records=TAKE_RECORDS)
                # What was fetched for a copy that is another one by now is fetched again, from where that one is.
                if not self._changed.is_set():
                    for partition, records in fetched.items():
                        self._write(partition, records)
                    await self._count(consumer)
        finally:
            await kafka.let_go(consumer)

    async def _assign(self, consumer: AIOKafkaConsumer) -> None:
        """Open the copies that are missing, and read all of them on from where each is."""
        tried: set[int] = set()
        while missing := self._wanted - self._copies.keys() - tried:
            number = min(missing)
            tried.add(number)
            self._open(number)
            # Opening blocks for a moment, and lanes have their turn: what was wanted may be a lane of ours by now.
            await asyncio.sleep(0)
        self._tables = {tp: table for number in self._copies for tp, table in self._site.changelogs(number).items()}
        consumer.assign(list(self._tables))
        if not self._tables:
            return
        first, end = await consumer.beginning_offsets(self._tables), await consumer.end_offsets(self._tables)
        for partition in self._tables:
            if copy := self._copies.get(partition.partition):
                position = copy.store.position(partition.topic)
                if position is not None and not first[partition] <= position <= end[partition]:
                    self._discard(partition.partition, "it is of another log")
                else:
                    consumer.seek(partition, first[partition] if position is None else position)

    def _open(self, number: int) -> None:
        try:
            self._copies[number] = _Copy(open_store(self._site.store_of(number), STANDBY_BUFFER))
        except StoreLocked as error:
            log.warning("no copy of a lane is kept", partition=number, reason=str(error))

    def _discard(self, number: int, reason: str) -> None:
        """Begin anew with a copy."""
        log.warning("copy of a lane discarded", partition=number, reason=reason)
        self.release(number)
        store.discard(self._site.store_of(number))
        self._wanted.add(number)

    def _write(self, partition: TopicPartition, records: list[ConsumerRecord]) -> None:
        copy, table = self._copies[partition.partition], self._tables[partition]
        rows = changelog.rows_of(table, records)
        drop = None
        if table == "seen" and rows:
            floor = dedup.floor_of(max(key for key, _ in rows))
            if floor > copy.floor:
                drop = copy.floor = floor
        copy.store.write({table: rows}, {partition.topic: records[-1].offset + 1}, drop_markers_below=drop)

    async def _count(self, consumer: AIOKafkaConsumer) -> None:
        behind = dict.fromkeys(self._copies, 0)
        for partition in self._tables:
            end = consumer.last_stable_offset(partition)
            behind[partition.partition] += 0 if end is None else max(end - await consumer.position(partition), 0)
        for number in behind.keys() & self._copies.keys():
            metrics.STANDBY_LAG.labels(number).set(behind[number])
