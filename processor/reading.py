"""Where a lane is on its partition of the events, and whether the log is still the one that it has processed.

A shell; `source.py` looks at the log, `position.py` and `marks.py` say what contradicts it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from pipeline import kafka, last_read, offsets, peek, topic_ids
from pipeline.contract import Record
from pipeline.errors import ForeignOffset, OffsetGap, RecordsLost
from pipeline.last_read import Last
from pipeline.settings import Settings
from processor import guard, kept, marks, position, source
from processor.fetches import Span
from processor.marks import Mark
from processor.site import Site

RESTORE_FETCH_BYTES = 8 * 1024 * 1024


@asynccontextmanager
async def reader(settings: Settings) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer for what a lane looks at before its records arrive, or beside them."""
    consumer = AIOKafkaConsumer(
        **kafka.client_options(settings),
        enable_auto_commit=False,
        isolation_level="read_committed",
        # A position outside of the log is for us to judge: jumping to its end would pass over what is lost.
        auto_offset_reset="none",
        max_partition_fetch_bytes=RESTORE_FETCH_BYTES,
        fetch_max_bytes=4 * RESTORE_FETCH_BYTES,
        fetch_max_wait_ms=50,
    )
    try:
        await consumer.start()
        yield consumer
    finally:
        # Over TLS a connection may take 30 s to be closed by both sides, and nothing here waits for that.
        await kafka.let_go(consumer)


class Reading:
    """Raises RecordsLost wherever the log cannot be believed; `note_stop` is told of it first.

    partition  of the events
    next       offset of the first record that is not processed yet
    mark       what stands with that offset where it is committed
    """

    def __init__(self, site: Site, number: int, note_stop: Callable[[str, str], Awaitable[None]]) -> None:
        self.partition = TopicPartition(site.topics.events.name, number)
        self.next = 0
        self.mark = Mark()
        self._site = site
        self._note_stop = note_stop
        self._name = f"{self.partition.topic}-{number}"
        self._epoch = -1  # of the log, as far as it is known to go on from the last record

    async def committed(self) -> int | None:
        """The committed offset, None if there is none; what stands with it is noted. Raises ForeignOffset."""
        found = await offsets.of_partition(self._site.settings, self._site.group, self.partition)
        try:
            self.mark = marks.read(found.metadata)
        except ForeignOffset as error:
            raise ForeignOffset(
                f"{self._name}: the committed offset {found.offset} is not as postlog writes "
                f"it, {error}. To start there all the same, stop all processors and type: postlog replay --after-loss"
            ) from None
        return found.offset if found.offset >= 0 else None

    async def start(
        self, consumer: AIOKafkaConsumer, committed: int | None, reached: Mapping[str, int], made_of: str | None
    ) -> None:
        """Go on from the committed offset, or on the very first start from the oldest there is.

        reached  up to where each changelog goes, by table
        made_of  id of the topic whose events made the state, empty if nobody knows; None if there is no state

        Raises RecordsLost if the log, the offset and the restored state contradict each other.
        """
        # Together with a topic Kafka forgets the group's offsets, and what stands with them.
        known = made_of if committed is None else self.mark.topic
        remade = topic_ids.another(known or "", self._site.source_id)
        used = made_of is not None
        found = await source.check(consumer, self.partition, committed, self.mark.last, used=used, remade=remade)
        if found.problem:
            await self.lost(found.problem)
        self._epoch = found.epoch
        if problem := position.shortened(self.mark.logs, reached):
            await self.lost(f"{problem}. {kept.ELSEWHERE}", "postlog replay --rebuild, and then ")
        self.next = position.start_of(committed, first=found.first)

    async def fresh(self, span: Span) -> Sequence[Record]:
        """The records that are to be processed, none behind a hole. Raises OffsetGap, RecordsLost."""
        if span.start > self.next:
            raise OffsetGap(
                f"{self._name}: expected offset {self.next}, got {span.start}; "
                "starting again from the committed offset"
            )
        last = self.mark.last
        if last is not None and span.epoch > self._epoch:
            # A broker has taken the lead since. Its log may have ended earlier, and have grown beyond again.
            await self._verify(last)
        if span.start >= self.next and span.hole is None:
            return span
        # The former owner's last transaction may have landed between the consumer's seek and our fence:
        # what is below `next` is done. It is the same if a log has lost its end and is read from its beginning.
        if last is not None and last.offset < self.next:
            for record in span:
                if record.offset == last.offset and (problem := last_read.replaced(last, record, first=0)):
                    await self.lost(problem)
        return [record for record in span if record.offset >= self.next and record.offset < (span.hole or span.end)]

    def verified(self, epoch: int) -> None:
        """The log goes on from the last record in this epoch."""
        self._epoch = max(self._epoch, epoch)

    def marked(self, fresh: Sequence[Record], reached: dict[str, int]) -> Mark:
        """What stands with the offset once these are committed; of changelogs it can only tell up to now."""
        found = last_read.last_of(fresh[-1], self._epoch) if fresh else None
        last = marks.newest(self.mark.last, found)
        return Mark(topic=self._site.source_id, last=last, bounds=self.mark.bounds, logs=reached)

    def offset(self, end: int, mark: Mark) -> OffsetAndMetadata | None:
        """What to commit for the group when everything before `end` is done; None if that is committed."""
        return OffsetAndMetadata(end, marks.write(mark, end)) if end > self.next else None

    def advance(self, end: int, mark: Mark) -> None:
        """That is committed."""
        self.next, self.mark = end, mark

    async def lost(self, problem: str, cure: str = "") -> None:
        """Note it, and raise RecordsLost with what to do."""
        await self._note_stop(guard.RECORDS_LOST, f"{self._name}: {problem}")
        raise RecordsLost(f"{self._name}: {problem}. {position.cure(cure)}")

    async def _verify(self, last: Last) -> None:
        """Return only if the record that was processed last still stands where it stood. Raises RecordsLost."""
        async with reader(self._site.settings) as consumer:
            problem = await peek.replaced(consumer, self.partition, last)
        if problem:
            await self.lost(problem)
