"""Verified deliveries on this machine's disk while Kafka cannot take them.

A shell over files. What always holds: `append` returns only when the rows are synced to the disk; rows leave in the
order in which they came, and only when Kafka has them; a kill at any moment loses no row that was answered for; and
nothing but `append` needs space on the disk. Many deliveries share one sync. See docs/decisions/0013 and 0023.
"""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import structlog

from ingress import folders, framing, left, metrics, spooling
from ingress.accept import Outgoing
from ingress.folders import Folder
from ingress.left import Names, Source
from ingress.segments import SEGMENT_BYTES, Held, Segment
from ingress.spooling import Limits, Row
from pipeline import private
from pipeline.contract import Millis
from pipeline.errors import KafkaUnavailable, StoreLocked

log = structlog.get_logger(__name__)

#: Numbers that are tried for a folder: other processes may make theirs at the same moment.
MOST_NUMBERS = 256
#: Bytes that are read to learn when the oldest row was taken.
PEEK_BYTES = 64 * 1024
#: Errors of a disk that is full or failing: the ingress starts all the same, and spools when it can.
DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})


class Waiting(NamedTuple):
    """The rows of a delivery on their way to the disk, their bytes there, and who waits for them."""

    at: Millis
    values: list[bytes]
    size: int
    done: asyncio.Future[None]


class Spool:
    """The rows of one process, and those that processes left that are gone: they come first.

    filled  set while there is anything in it
    rows    how many it holds, those included that are being written
    """

    def __init__(self, place: Path, prefix: str, limits: Limits) -> None:
        """Raises ConfigError if the folder cannot be used. A full disk is none: it may be empty later."""
        self.filled = asyncio.Event()
        self._names = Names(place, prefix)
        self._limits = limits
        self._waiting: deque[Waiting] = deque()
        self._writing: asyncio.Task[None] | None = None
        self._own: Folder | None = None
        self._active: Segment | None = None
        self._next = 0
        self._under_way = 0
        self._queue: deque[Source] = deque()
        self._unreadable: list[Path] = []
        try:
            place.mkdir(parents=True, exist_ok=True)
            private.narrow(*self._names.all())
            found, self._unreadable = left.take_over(self._names)
            self._queue += found
            self._own = self._make()
        except OSError as error:
            if error.errno not in DISK_ERRORS and not self._queue:
                raise private.unusable(place, "INGRESS_SPOOL_DIR", error) from None
            log.warning("the disk of the spool takes nothing now", folder=str(place), error=str(error))
        self.rows = sum(source.rows for source in self._queue)
        self._bytes = sum(source.size for source in self._queue)
        self._oldest: Millis | None = None
        self._settle()

    def damaged(self) -> list[str]:
        """Names of what people have to look at: what is set aside, and what could not be read."""
        try:
            names = [path.name for path in (*self._names.damaged(), *self._unreadable)]
        except OSError as error:
            names = [f"{self._names.place}: {error}"]
        metrics.SPOOL_DAMAGED.set(len(names))
        return names

    async def append(self, records: Sequence[Outgoing]) -> None:
        """Return once the records are synced to the disk, behind all that came before.

        Raises KafkaUnavailable, so that the sender tries again, if the spool is full or the disk refuses.
        """
        now = int(time.time() * 1000)
        values = [spooling.encode(Row(now, record)) for record in records]
        size = sum(map(len, values)) + framing.AROUND * len(values)
        refused = self._limits.refusal(
            held=self._bytes,
            waiting=self._under_way,
            adding=size,
            room=self._room(),
            oldest=self._oldest,
            now=now,
        )
        if refused:
            raise KafkaUnavailable(refused)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(Waiting(now, values, size, done))
        self._count(len(values), size)
        self._under_way += size
        if self._oldest is None:
            self._oldest = now
        self._show()
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        await asyncio.shield(done)

    def head(self, rows: int, size: int) -> list[Held]:
        """The oldest rows that are on the disk, of so many bytes or one; none if there are none.

        Raises OSError for a disk that cannot be read now.
        """
        held: list[Held] = []
        while self._queue and not held:
            first = self._queue[0]
            try:
                held = first.head(rows, size)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                log.error("a file of the spool cannot be read", file=str(first.path), error=str(error))
            if first is self._active and self._writing is not None:
                break
            if not held:
                self._finish(first)
        waiting = self._waiting[0].at if self._waiting else None
        self._oldest = held[0].row.at if held else waiting
        self._show()
        return held

    def drop(self, rows: Sequence[Held]) -> None:
        """Kafka has these, the oldest ones."""
        self._queue[0].drop(rows)
        self._count(-len(rows), -sum(row.size for row in rows))
        self._settle()

    async def close(self) -> None:
        """Finish what is being written, and release everything; what is in it stays."""
        if self._writing is not None:
            await asyncio.wait([self._writing])
        self._settle()
        for source in self._queue:
            source.close()
            source.folder.release()
        if self._own is not None and not self.rows:
            left.discard(self._own)
        elif self._own is not None:
            self._own.release()

    def _finish(self, source: Source) -> None:
        """Nothing intact is left in the first of the queue: it goes, and its folder with the last one in it."""
        self._queue.popleft()
        if source is self._active:
            self._active = None
        if loss := source.lost():
            left.tell(source, loss)
            self._count(-source.rows, -source.size)
        if source.damaged:
            source.set_aside(self._names.aside(source.path))
        else:
            source.remove()
        folder = source.folder
        if source.path == folder.path:
            folder.release()  # the whole of it went, and nobody has its name any more
        elif folder is not self._own and all(other.folder is not folder for other in self._queue):
            left.discard(folder)

    async def _write(self) -> None:
        """Sync what waits, as much at once as a file takes, until nothing does."""
        while self._waiting:
            taken = [self._waiting.popleft()]
            size = taken[0].size
            while self._waiting and size + self._waiting[0].size <= SEGMENT_BYTES:
                taken.append(self._waiting.popleft())
                size += taken[-1].size
            values = [value for each in taken for value in each.values]
            try:
                segment, end = await asyncio.to_thread(self._store, values)
            except Exception as error:  # whatever it is, nobody may wait for ever
                self._failed(taken, size, error)
            else:
                self._stored(segment, end, taken, size)
            self._under_way -= size
            self._settle()
        self._writing = None

    def _store(self, values: Sequence[bytes]) -> tuple[Segment, int]:
        """In a thread: the file that has these rows now, synced, and where it ends. Raises OSError."""
        if self._own is None:
            self._own = self._make()
        segment, made = self._active, False
        if segment is None or segment.end >= SEGMENT_BYTES:
            segment, made = Segment.create(self._own, self._next), True
        rows = b"".join(framing.pack(self._next + index, value) for index, value in enumerate(values))
        try:
            return segment, segment.add(rows)
        except OSError:
            if made:
                segment.remove()
            raise

    def _stored(self, segment: Segment, end: int, taken: Sequence[Waiting], size: int) -> None:
        if segment is not self._active:
            if self._active is not None:
                self._active.close()
            self._queue.append(segment)
            self._active = segment
        rows = sum(len(each.values) for each in taken)
        segment.end = end
        segment.rows += rows
        segment.size += size
        segment.oldest = taken[0].at if segment.oldest is None else segment.oldest
        self._next += rows
        for each in taken:
            if not each.done.done():
                each.done.set_result(None)

    def _failed(self, taken: Sequence[Waiting], size: int, error: Exception) -> None:
        log.error("the spool cannot be written", folder=str(self._names.place), error=str(error))
        self._count(-sum(len(each.values) for each in taken), -size)
        for each in taken:
            each.done.set_exception(KafkaUnavailable(f"the spool cannot be written: {error}"))
            each.done.exception()  # retrieved, for when nobody waits any more

    def _make(self) -> Folder:
        """A folder of our own, behind all that are there: what is taken over leaves in the order of their numbers.

        Raises OSError.
        """
        first = self._names.next_number()
        for number in range(first, first + MOST_NUMBERS):
            try:
                return folders.make(self._names.folder(number))
            except (FileExistsError, StoreLocked):
                continue
        raise FileExistsError(f"{MOST_NUMBERS} other processes make their spools at this moment")

    def _room(self) -> int:
        """Bytes that the disk has for us."""
        try:
            self._names.place.mkdir(parents=True, exist_ok=True)
            disk = os.statvfs(self._names.place)
        except OSError as error:
            raise KafkaUnavailable(f"the spool cannot be written: {error}") from None
        return spooling.room(free=disk.f_bavail * disk.f_frsize, disk=disk.f_blocks * disk.f_frsize)

    def _count(self, rows: int, size: int) -> None:
        self.rows += rows
        self._bytes += size

    def _settle(self) -> None:
        """See what is left and what is the oldest of it; what is done goes."""
        try:
            self.head(1, PEEK_BYTES)
        except OSError as error:
            log.warning("the spool cannot be read", folder=str(self._names.place), error=str(error))

    def _show(self) -> None:
        if self.rows:
            self.filled.set()
        else:
            self.filled.clear()
        metrics.SPOOLED.set(self.rows)
        metrics.SPOOLED_BYTES.set(self._bytes)
        metrics.SPOOL_OLDEST.set(0 if self._oldest is None else self._oldest / 1000)
