"""Warm copies of lanes that other processes own, so that taking one over does not begin with reading all of it.

A shell. One consumer follows the changelogs of all of them into the stores that the lanes will have; what is missing
when one of them becomes ours is restored by the lane. The promise does not depend on it: without a copy a takeover
is only slower.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from pipeline import kafka
from pipeline.errors import StoreBroken, StoreLocked
from processor import changelog, dedup, kept, metrics, place, store
from processor.place import Fit
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
        self._suspect: set[int] = set()
        self._copies: dict[int, _Copy] = {}
        self._tables: dict[TopicPartition, Table] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def follow(self, numbers: Collection[int]) -> None:
        """Follow these lanes and no others, soon. None of them may be open here."""
        for number in (self._wanted | self._suspect) - set(numbers):
            self.release(number)
        self._wanted = set(numbers) - self._suspect
        self._changed.set()
        if self._wanted and self._task is None:
            self._task = asyncio.create_task(self._run(), name="standbys")

    def release(self, number: int) -> None:
        """Close the copy of a lane, if there is one: it becomes ours."""
        self._wanted.discard(number)
        self._suspect.discard(number)
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
            auto_offset_reset="none",
            max_partition_fetch_bytes=FETCH_BYTES,
        )
        try:
            await consumer.start()
            self._changed.set()
            while True:
                if self._changed.is_set():
                    self._changed.clear()
                    await self._assign(consumer)
                    continue  # what was wanted may have changed meanwhile
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
        first = await consumer.beginning_offsets(self._tables)
        for number in list(self._copies):
            await self._seek(consumer, number, first)

    async def _seek(self, consumer: AIOKafkaConsumer, number: int, first: Mapping[TopicPartition, int]) -> None:
        """Read a copy on from where it is, if it may go on from there; first says where logs begin."""
        copy, changelogs = self._copies.get(number), self._site.changelogs(number)
        if copy is None:
            return
        fit, reason = await changelog.judge(consumer, copy.store, changelogs, self._site.tombstones)
        if self._copies.get(number) is not copy:
            return  # it has become ours meanwhile
        if fit is Fit.SUSPECT:
            self._keep(number, reason)
        elif fit is Fit.STALE:
            self._discard(number, reason)
        else:
            for partition in changelogs:
                position = copy.store.position(partition.topic)
                consumer.seek(partition, first[partition] if position is None else position)

    def _open(self, number: int) -> None:
        try:
            self._copies[number] = copy = _Copy(open_store(self._site.store_of(number), STANDBY_BUFFER))
            if not copy.store.source():
                copy.store.note_source(self._site.source_id)
        except StoreLocked as error:
            log.warning("no copy of a lane is kept", partition=number, reason=str(error))

    def _keep(self, number: int, reason: str) -> None:
        """Follow a copy no further, and leave it as it is: it may know what its log does not know any more."""
        log.error("copy of a lane is kept and not followed", partition=number, reason=reason, cure=kept.CURE)
        self.release(number)
        self._suspect.add(number)

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
        copy.store.write({table: rows}, {partition.topic: place.after(records)}, drop_markers_below=drop)

    async def _count(self, consumer: AIOKafkaConsumer) -> None:
        behind = dict.fromkeys(self._copies, 0)
        for partition in self._tables:
            end = consumer.last_stable_offset(partition)
            behind[partition.partition] += 0 if end is None else max(end - await consumer.position(partition), 0)
        for number in behind.keys() & self._copies.keys():
            metrics.STANDBY_LAG.labels(number).set(behind[number])
