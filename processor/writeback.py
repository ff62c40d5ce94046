"""What a kept copy of a lane knows, written back to the changelogs that lost it; or the copy given up.

A shell; `processor.lacking` says what is written. It fences the lane first, so that nobody writes beside it, and
writes all of a lane in one transaction. With it goes the lane's offset, as it is: its note of how far the changelogs
went is of a log that is no more. The copy is removed last, since whatever ends this before lets it be repeated.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from pipeline import kafka, offsets, rocks
from pipeline.errors import StateLost, StoreBroken, StoreLocked
from processor import changelog, dedup, kept, marks, store
from processor.lacking import Lacking
from processor.letters import Row
from processor.place import Fit
from processor.site import Site
from processor.store import Store, open_store
from processor.transaction import LONGEST_TIMEOUT_MS, Transactions

FETCH_BYTES = 8 * 1024 * 1024


class WriteBack:
    """An async context manager for one copy. First `look`, and for what is to be changed `fence` before it.

    path    the copy
    reason  why it cannot go on from the changelogs by itself; empty if it can
    """

    def __init__(self, number: int, site: Site, path: Path, scratch: Path) -> None:
        self.number = number
        self.path = path
        self.reason = ""
        self._site = site
        self._scratch = scratch / f"log-{number}"
        self._found = Lacking()
        self._exits = AsyncExitStack()
        self._reader: AIOKafkaConsumer
        self._transactions: Transactions | None = None

    async def __aenter__(self) -> WriteBack:
        self._reader = AIOKafkaConsumer(
            **kafka.client_options(self._site.settings),
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="none",
            max_partition_fetch_bytes=FETCH_BYTES,
        )
        self._exits.push_async_callback(self._reader.stop)
        await self._reader.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._exits.aclose()

    async def fence(self) -> None:
        """End what any owner of the lane might still commit; until a processor starts, nobody but us can."""
        self._transactions = Transactions(
            self._site.settings, self._site.group, self.number, timeout_ms=LONGEST_TIMEOUT_MS
        )
        self._exits.push_async_callback(self._transactions.stop)
        await self._transactions.start()

    async def look(self) -> Lacking:
        """What the changelogs lack; nothing if the copy can go on from them by itself.

        Raises StoreLocked if a processor has the copy, StoreBroken if it cannot be read.
        """
        copy = _opened(self.path)
        try:
            fit, self.reason = await changelog.judge(
                self._reader, copy, self._site.changelogs(self.number), self._site.tombstones
            )
            if fit is Fit.SUSPECT:
                self._found = await self._compare(copy, fenced=False)
            else:
                self.reason = ""
        finally:
            copy.close()
        return self._found

    async def _compare(self, copy: Store, *, fenced: bool) -> Lacking:
        store.discard(self._scratch)
        there = await asyncio.to_thread(open_store, self._scratch)
        try:
            return await kept.compare(self._reader, self._site, self.number, copy, there, lambda: None, fenced=fenced)
        finally:
            there.close()
            store.discard(self._scratch)

    async def write(self) -> None:
        """Write what was found back, and remove the copy.

        Raises Fenced if a processor was started, HangingTransaction if not all of the changelogs can be read, and
        KafkaError.
        """
        topics, found = self._site.topics, self._found
        rows: dict[str, list[Row]] = {
            topics.suppressions.name: [(key, value, []) for key, value in found.suppressions.items()],
            topics.seen.name: [(None, page, []) for page in dedup.pages(found.seen)],
            topics.calls.name: [(key, value, []) for key, value in found.calls.items()],
        }
        await self._commit(rows)
        await self._verify()
        store.discard(self.path)

    async def _verify(self) -> None:
        """Return only if everybody can read now what the copy knows: then it is not needed any more."""
        copy = _opened(self.path)
        try:
            left = (await self._compare(copy, fenced=True)).counts
        finally:
            copy.close()
        if left:
            raise StateLost(f"partition {self.number}: the log still lacks {kept.told(left)}; {self.path} is kept")

    async def give_up(self) -> None:
        """Remove the copy, and let the changelogs be what they are. Raises as `write` does."""
        await self._commit({})
        store.discard(self.path)

    async def _commit(self, rows: dict[str, list[Row]]) -> None:
        assert self._transactions is not None  # noqa: S101 - `fence` comes first
        source = TopicPartition(self._site.topics.events.name, self.number)
        at = await offsets.of_partition(self._site.settings, self._site.group, source)
        mark = msgspec.structs.replace(marks.read(at.metadata), logs={})
        moved = {source: OffsetAndMetadata(at.offset, marks.write(mark, at.offset))} if at.offset >= 0 else {}
        if moved or any(rows.values()):
            await self._transactions.commit(rows, moved)


def _opened(path: Path) -> Store:
    """The copy; never discarded here, whatever is wrong with it."""
    try:
        return Store(path, store.BUFFER, disposable=False)
    except Exception as error:  # rocksdict raises nothing narrower
        if rocks.is_locked(error):
            raise StoreLocked(f"{path} is in use: stop the processor that has it") from None
        raise StoreBroken(
            f"{path} cannot be opened, so that nothing of it can be written back: {error}. To go on without it, "
            "type: postlog state discard"
        ) from None
