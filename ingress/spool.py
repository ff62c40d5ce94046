"""Verified deliveries on this machine's disk while Kafka cannot take them.

A shell over RocksDB. What always holds: `append` returns only when the rows are synced to the disk; rows leave in the
order in which they came, and only when Kafka has them; a kill at any moment loses no row that was answered for. Many
deliveries share one sync. See docs/decisions/0013.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import structlog
from rocksdict import Options, Rdict, WriteBatch, WriteOptions

from ingress import metrics, spooling
from ingress.accept import Outgoing
from ingress.spooling import Limits, Row
from pipeline import rocks
from pipeline.errors import ConfigError, KafkaUnavailable, StoreBroken, StoreLocked

log = structlog.get_logger(__name__)

#: Folders that are tried for one that no other process has.
MOST_FOLDERS = 256


class Held(NamedTuple):
    """A row on the disk: its number, its bytes, and what it is."""

    number: int
    size: int
    row: Row


class Spool:
    """One folder of rows, for one process at a time.

    filled  set while there is anything in it
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        """Raises StoreLocked if another process has the folder, ConfigError if it cannot be had."""
        self.folder = folder
        self.filled = asyncio.Event()
        self._limits = limits
        self._db = _open(folder)
        self._waiting: list[tuple[list[tuple[bytes, bytes]], asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None
        self._synced = WriteOptions()
        self._synced.sync = True
        self._rows = self._bytes = 0
        self._next = self._first = 0
        self._oldest: int | None = None
        for row_key, value in self._items():
            self._oldest = spooling.decode(value).at if self._oldest is None else self._oldest
            self._rows += 1
            self._bytes += len(value)
            self._next = spooling.number(row_key) + 1
        if self._rows:
            self.filled.set()
        self._show()

    @property
    def rows(self) -> int:
        """How many rows it holds, those included that are being written."""
        return self._rows

    async def append(self, records: Sequence[Outgoing]) -> None:
        """Return once the records are synced to the disk, behind all that came before.

        Raises KafkaUnavailable, so that the sender tries again, if the spool is full or the disk refuses.
        """
        now = int(time.time() * 1000)
        values = [spooling.encode(Row(now, record)) for record in records]
        size = sum(map(len, values))
        refused = self._limits.refusal(held=self._bytes, adding=size, oldest=self._oldest, now=now)
        if refused:
            raise KafkaUnavailable(refused)
        rows = [(spooling.key(self._next + index), value) for index, value in enumerate(values)]
        self._next += len(rows)
        self._rows += len(rows)
        self._bytes += size
        self._oldest = now if self._oldest is None else self._oldest
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((rows, done))
        self.filled.set()
        self._show()
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        await asyncio.shield(done)

    def head(self, most: int) -> list[Held]:
        """The oldest rows that are on the disk; empty if there are none."""
        return [
            Held(spooling.number(key), len(value), spooling.decode(value))
            for key, value in islice(self._items(), most)
        ]

    def drop(self, rows: Sequence[Held]) -> None:
        """Kafka has these, the oldest ones. Not synced: what a crash brings back is sent twice, and dropped there."""
        self._first = rows[-1].number + 1
        batch = WriteBatch(raw_mode=True)
        batch.delete_range(spooling.key(rows[0].number), spooling.key(self._first))
        self._db.write(batch)
        self._bytes -= sum(row.size for row in rows)
        self._rows -= len(rows)
        self.settle()

    def settle(self) -> None:
        """See what is left, once rows are gone or could not be written."""
        following = self.head(1)
        self._oldest = following[0].row.at if following else None
        if not following and not self._waiting and (self._writing is None or self._writing.done()):
            self._rows = self._bytes = 0
            self.filled.clear()
        self._show()

    async def close(self) -> None:
        """Finish what is being written, and release the folder."""
        if self._writing is not None:
            await asyncio.wait([self._writing])
        self._db.close()

    async def discard(self) -> None:
        """Close it and remove its folder; it is empty."""
        await self.close()
        await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)

    async def _write(self) -> None:
        """Sync what waits, all of it at once, until nothing does."""
        while self._waiting:
            taken, self._waiting = self._waiting, []
            batch = WriteBatch(raw_mode=True)
            for rows, _ in taken:
                for row_key, value in rows:
                    batch[row_key] = value
            try:
                await asyncio.to_thread(self._db.write, batch, self._synced)
            except Exception as error:  # rocksdict raises nothing narrower
                log.error("the spool cannot be written", folder=str(self.folder), error=str(error))
                failure = KafkaUnavailable(f"the spool cannot be written: {error}")
                for _, done in taken:
                    done.set_exception(failure)
                    done.exception()  # retrieved, for when nobody waits any more
            else:
                for _, done in taken:
                    done.set_result(None)

    def _items(self) -> Iterator[tuple[bytes, bytes]]:
        # From the first row on: what was dropped before it would be walked over again and again.
        try:
            yield from rocks.rows(self._db, spooling.key(self._first))
        except Exception as error:  # rocksdict raises nothing narrower
            raise StoreBroken(
                f"the spool in {self.folder} is damaged, and holds deliveries that are nowhere else: {error}"
            ) from error

    def _show(self) -> None:
        metrics.SPOOLED.set(self._rows)
        metrics.SPOOLED_BYTES.set(self._bytes)
        metrics.SPOOL_OLDEST.set(0 if self._oldest is None else self._oldest / 1000)


def claim(folder: Path, prefix: str, limits: Limits) -> tuple[Spool, list[Spool]]:
    """A spool of our own, and those that processes left behind that are gone: their rows have to be sent, too.

    Raises ConfigError if the folder cannot be used.
    """
    found: list[Spool] = []
    names = sorted(path.name for path in folder.glob(f"{prefix}spool-*")) if folder.exists() else []
    for name in [*names, *(f"{prefix}spool-{number}" for number in range(MOST_FOLDERS))]:
        if name in {spool.folder.name for spool in found} or (found and name not in names):
            continue
        try:
            found.append(Spool(folder / name, limits))
        except StoreLocked:
            continue
    if not found:
        raise ConfigError(f"INGRESS_SPOOL_DIR: {folder} has {MOST_FOLDERS} spools, and processes have them all")
    own, *left = found
    return own, left


def _open(folder: Path) -> Rdict:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_size(16 * 1024 * 1024)
    options.set_keep_log_file_num(2)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return Rdict(str(folder), options)
    except Exception as error:  # rocksdict raises nothing narrower
        if "/LOCK:" in str(error):
            raise StoreLocked(f"{folder} is open in another process") from None
        # Never discarded: what is in it was answered 200 and is nowhere else.
        raise ConfigError(f"INGRESS_SPOOL_DIR: {folder} cannot be opened, and may hold deliveries: {error}") from None
