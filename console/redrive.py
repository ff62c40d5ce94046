"""Sends letters round again, and notes what was done about them.

A shell over aiokafka: redrives.py says what a letter becomes, letters.py whether it may. A letter is sent first and
noted once Kafka has acknowledged it. If we die between the two, it stays open and is sent a second time, which is
harmless: a record carries the place of its first, so the processor takes both for that one; the events of a
delivery carry the provider's ids or are known by their bytes, so the second ones are duplicates. The other order
could lose a letter that says it was sent.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

from console import dead_letters, redrives
from console.endings import to_its_end
from console.letters import Index, Letter, Refused, may_redrive
from console.redrives import Again
from pipeline import contract, kafka, letters, security
from pipeline.errors import Interrupted, LetterRefused, PostlogError
from pipeline.letters import Action, LetterState
from pipeline.settings import Settings
from pipeline.topics import Topics

#: Letters that are sent before their acknowledgements are awaited and noted, and seconds after which fewer are.
MOST_UNNOTED = 200
LONGEST_UNNOTED = 1.0

#: Called with the number of letters that are done, one way or the other.
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Order:
    """How to redrive. rate is letters per second, None as fast as Kafka takes them; who is noted."""

    who: str
    force: bool = False
    dry_run: bool = False
    rate: float | None = None


@dataclass(slots=True)
class Outcome:
    """What came of it: letters sent (or that would be), the records they made, letters refused."""

    sent: list[Letter] = field(default_factory=list)
    records: int = 0
    refused: list[Refused] = field(default_factory=list)


@asynccontextmanager
async def producer(settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    """Idempotent, so that its own retries double nothing; not transactional, since markers of transactions would
    leave gaps in the events topic, and the processor stops at one."""
    found = AIOKafkaProducer(
        **kafka.client_options(settings),
        acks="all",
        enable_idempotence=True,
        max_request_size=kafka.LARGEST_REQUEST,
    )
    await found.start()
    try:
        yield found
    finally:
        await found.stop()


async def note(sender: AIOKafkaProducer, topics: Topics, states: Sequence[LetterState]) -> None:
    """Write the states; return once Kafka has them all."""
    topic, noted = topics.letter_states, []
    for state in states:
        key = state.id.encode()
        # By the file's count: the cluster may have partitions that nobody reads.
        partition = contract.partition_of(key, topic.partitions)
        noted.append(await sender.send(topic.name, key=key, value=letters.encode(state), partition=partition))
    await asyncio.gather(*noted)


class Redrive:
    """One run over some letters. consumer and sender are its own while it lasts."""

    def __init__(
        self, consumer: AIOKafkaConsumer, sender: AIOKafkaProducer, topics: Topics, index: Index, order: Order
    ) -> None:
        self.outcome = Outcome()
        self._consumer = consumer
        self._sender = sender
        self._topics = topics
        self._index = index
        self._order = order
        self._unnoted: list[tuple[Letter, str, list[asyncio.Future[object]]]] = []
        self._noted_at = time.monotonic()
        self._next_at = 0.0

    async def run(self, chosen: Sequence[Letter], progress: Progress) -> Outcome:
        """Send these letters round; what was sent is noted, also if it ends early.

        Raises PostlogError if Kafka does not take one, Interrupted if it is cancelled.
        """
        try:
            return await self._all(chosen, progress)
        except asyncio.CancelledError:
            await self._note()
            raise Interrupted(self._came_to(len(chosen))) from None

    async def _all(self, chosen: Sequence[Letter], progress: Progress) -> Outcome:
        by_place = {letter.latest: letter for letter in chosen if self._allowed(letter)}
        topic = self._topics.dead_letters
        async for record in dead_letters.fetch(self._consumer, topic, list(by_place)):
            letter = by_place.pop(letters.Place(record.partition, record.offset))
            try:
                made = redrives.again(
                    record,
                    events=self._topics.events,
                    redrives=self._index.redrives(letter) + 1,
                    fresh_trace=contract.traceparent(secrets.token_bytes(24)),
                )
            except LetterRefused as error:
                self.outcome.refused.append(Refused(letter.id, str(error)))
            else:
                await self._send(letter, made)
            progress(len(self.outcome.sent) + len(self._unnoted) + len(self.outcome.refused))
        await self._note()
        self.outcome.refused += [Refused(letter.id, "it has expired meanwhile") for letter in by_place.values()]
        return self.outcome

    def _allowed(self, letter: Letter) -> bool:
        reason = may_redrive(self._index, letter, force=self._order.force)
        if reason is not None:
            self.outcome.refused.append(Refused(letter.id, reason))
        return reason is None

    async def _send(self, letter: Letter, made: Again) -> None:
        self.outcome.records += len(made.records)
        if self._order.dry_run:
            self._done(letter, made.left)
            return
        await self._pace()
        name = self._topics.events.name
        try:
            futures = [
                await self._sender.send(name, key=r.key, value=r.value, headers=r.headers, partition=r.partition)
                for r in made.records
            ]
        except KafkaError as error:
            await self._note()
            raise self._stopped(error) from None
        self._unnoted.append((letter, made.left, futures))
        if len(self._unnoted) >= MOST_UNNOTED or time.monotonic() - self._noted_at >= LONGEST_UNNOTED:
            await self._note()

    async def _pace(self) -> None:
        """Wait until the rate allows the next letter; time that was lost is not made up for."""
        if self._order.rate is None:
            return
        now = time.monotonic()
        if now < self._next_at:
            await asyncio.sleep(self._next_at - now)
        self._next_at = max(now, self._next_at) + 1 / self._order.rate

    async def _note(self) -> None:
        """Await the acknowledgements, and note the letters that have theirs; whoever cancels waits for that."""
        await to_its_end(self._note_all())

    async def _note_all(self) -> None:
        unnoted, self._unnoted = self._unnoted, []
        answers = [await asyncio.gather(*futures, return_exceptions=True) for _, _, futures in unnoted]
        failed = [error for answer in answers for error in answer if isinstance(error, BaseException)]
        sent = [
            (letter, left)
            for (letter, left, _), answer in zip(unnoted, answers, strict=True)
            if not any(isinstance(each, BaseException) for each in answer)
        ]
        # What is left of a letter stays in it, so that one stays open.
        await note(self._sender, self._topics, [self._state(letter) for letter, left in sent if not left])
        for letter, left in sent:
            self._done(letter, left)
        self._noted_at = time.monotonic()
        if failed:
            raise self._stopped(failed[0])

    def _done(self, letter: Letter, left: str) -> None:
        if left:
            self.outcome.refused.append(Refused(letter.id, left))
        else:
            self.outcome.sent.append(letter)

    def _state(self, letter: Letter) -> LetterState:
        now = int(time.time() * 1000)
        action = Action(did="redriven", at=now, who=self._order.who, answers=letter.latest)
        times = self._index.redrives(letter) + 1
        return letters.acted(letter.id, self._index.state(letter), action, redrives=times)

    def _came_to(self, chosen: int) -> str:
        if self._order.dry_run:
            return "nothing was sent, it was a dry run"
        return (
            f"{len(self.outcome.sent):,} of {chosen:,} letters were sent and are noted, the others are as they were. "
            "The same command can be typed again: nothing is applied twice."
        )

    def _stopped(self, error: BaseException) -> PostlogError:
        if not isinstance(error, KafkaError):
            raise error
        reason = security.denied(error) or f"Kafka refused a record: {error!r}."
        return PostlogError(
            f"{reason} {len(self.outcome.sent)} letters were sent and are noted, the "
            "others are as they were: mend it and run this again."
        )
