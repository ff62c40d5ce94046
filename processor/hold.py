"""A lane's hold on its partition: the fence, the state behind it, and the commits that change both.

A shell: fence, restore, then one commit at a time, then close. A commit is one transaction {changelogs, dead letters,
source offset}; only then it is written to the local store. A crash between the two is repaired by the next `restore`.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from pipeline import incidents
from pipeline.errors import LaneClosed, StateLost
from processor import dedup, guard, kept, metrics
from processor.commit import Commit
from processor.letters import Row
from processor.site import Site
from processor.store import Store
from processor.transaction import Transactions


class Hold:
    """noted  keys of the incidents that are among the lane's rows"""

    def __init__(self, site: Site, number: int) -> None:
        self.noted: set[bytes] = set()
        self._site = site
        self._number = number
        self._source = TopicPartition(site.topics.events.name, number)
        self._store: Store | None = None
        self._transactions: Transactions | None = None
        self._floor = b""  # markers below are out of every window

    @property
    def store(self) -> Store:
        """Raises LaneClosed unless it is restored."""
        if self._store is None:
            raise LaneClosed(f"lane {self._number} is not open")
        return self._store

    async def fence(self) -> None:
        """End what the former owner of the partition has under way; it can commit nothing more."""
        self._transactions = Transactions(self._site.settings, self._site.group, self._number)
        await self._transactions.start()

    async def restore(self, reader: AIOKafkaConsumer, moved: Callable[[], None]) -> int:
        """Open the store and bring it to the changelogs' end; the number of rows that were read. Raises StateLost."""
        try:
            self._store, restored = await kept.opened(reader, self._site, self._number, moved)
        except StateLost as error:
            self.noted = set(error.noted)
            raise await self._state_lost(error) from None
        self.noted = {key for key, _ in self._store.rows("incidents")}
        return restored

    def reached(self) -> dict[str, int]:
        """By table, up to where its changelog is in the store."""
        tables = self._site.changelogs(self._number).items()
        return {table: self.store.position(tp.topic) or 0 for tp, table in tables}

    async def commit(self, commit: Commit, offset: OffsetAndMetadata | None) -> None:
        """Make it true, with the group's offset unless None. Raises StateLost, Fenced, KafkaError."""
        transactions = self._fenced
        rows = commit.topics(self._site.topics, self._source, self._site.group, now=_now())
        behind = {getattr(self._site.topics, table).name: reached for table, reached in self.reached().items()}
        try:
            places = await transactions.commit(rows, {self._source: offset} if offset else {}, behind)
        except StateLost as error:
            raise await self._state_lost(error) from None
        metrics.TRANSACTIONS.inc()
        places.pop(self._site.topics.dead_letters.name, None)  # no changelog of ours
        floor, drop = dedup.floor(commit.changes.newest), None
        if floor > self._floor:
            drop = self._floor = floor
        self.store.write(commit.tables(), places, drop_markers_below=drop)
        self.noted = {*self.noted, *commit.noted} - {key for key, value in commit.noted.items() if value is None}

    async def note_stop(self, subject: str, reason: str) -> None:
        """Let people know why there will be no lane here. It is not written locally: the next owner restores it."""
        incident = guard.stopped(subject, reason, _now())
        if self._transactions is not None and incident.key not in self.noted:
            row: Row = (incident.key, incidents.encode(incident), [])
            await self._transactions.commit({self._site.topics.incidents.name: [row]}, {})

    async def close(self) -> None:
        """Give the partition up; between commits only. Idempotent."""
        if self._transactions is not None:
            transactions, self._transactions = self._transactions, None
            await transactions.stop()
        if self._store is not None:
            closing, self._store = self._store, None
            closing.close()

    @property
    def _fenced(self) -> Transactions:
        if self._transactions is None:
            raise LaneClosed(f"lane {self._number} is not open")
        return self._transactions

    async def _state_lost(self, error: StateLost) -> StateLost:
        """Note that the changelogs know less than we do; the error to raise."""
        await self.note_stop(guard.RECORDS_LOST, f"partition {self._number}: {error}")
        return StateLost(f"partition {self._number}: {error}. {kept.CURE}")


def _now() -> int:
    return int(time.time() * 1000)
