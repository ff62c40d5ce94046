"""What `postlog dlq` asks of Kafka, with a progress bar where a person watches.

A shell: opens the clients, reads the index, and hands both to whoever does the work.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from console import dead_letters, letter_view, letters, redrive
from console.letter_options import Choice
from console.letters import Index, Letter, Refused
from console.redrive import Order, Outcome, Redrive
from pipeline import kafka, security
from pipeline import letters as states
from pipeline.errors import PostlogError
from pipeline.letters import Action, LetterState
from pipeline.settings import Settings
from pipeline.topics import Topics

T = TypeVar("T")
#: Called with the letters that something is about to happen to; returns only if it may.
Consent = Callable[[Sequence[Letter]], None]
Show = Callable[[int, int], None]


def asked(question: Coroutine[Any, Any, T]) -> T:
    """The answer, for a command that is not asynchronous. Raises PostlogError if Kafka refuses."""
    try:
        return asyncio.run(question)
    except KafkaError as error:
        raise security.told(error) from None


async def index_of(settings: Settings) -> Index:
    """All letters there are. Raises as every function here: ConfigError, KafkaUnavailable, KafkaError."""
    topics = await kafka.require_topics(settings)
    async with dead_letters.reader(settings) as consumer:
        return await _read(consumer, topics)


async def _read(consumer: AIOKafkaConsumer, topics: Topics) -> Index:
    with _bar("reading dead letters") as show:
        return await dead_letters.read_index(consumer, topics, show)


async def whole(settings: Settings, identity: str, *, reveal: bool) -> letter_view.Whole:
    """All of one letter. Raises PostlogError if there is none."""
    topics = await kafka.require_topics(settings)
    async with dead_letters.reader(settings) as consumer:
        index = await _read(consumer, topics)
        letter = index.letters.get(identity)
        found = dead_letters.fetch(consumer, topics.dead_letters, letter.places if letter else ())
        records = [(record.partition, record) async for record in found]
        if letter is None or not records:
            raise PostlogError(f"no letter has the id {identity}; it may have expired. See postlog dlq list.")
        return letter_view.whole(index, letter, records, reveal=reveal)


@dataclass(frozen=True, slots=True)
class PuttingAway:
    """How to discard letters: who says that nobody needs them, and why."""

    who: str
    because: str
    dry_run: bool

    def state(self, index: Index, letter: Letter) -> LetterState:
        """What is noted about a letter."""
        now = int(time.time() * 1000)
        action = Action(did="discarded", at=now, who=self.who, because=self.because, answers=letter.latest)
        return states.acted(letter.id, index.state(letter), action, redrives=index.redrives(letter))


async def redriven(settings: Settings, choice: Choice, order: Order, consent: Consent) -> Outcome:
    """Send the letters of a choice round again. Raises PostlogError if Kafka does not take one."""
    topics = await kafka.require_topics(settings)
    async with dead_letters.reader(settings) as consumer:
        index = await _read(consumer, topics)
        chosen, unknown = choice.of(index)
        consent([each for each in chosen if letters.may_redrive(index, each, force=order.force) is None])
        async with redrive.producer(settings) as sender:
            with _bar("redriving") as show:
                run = Redrive(consumer, sender, topics, index, order)
                outcome = await run.run(chosen, lambda done: show(done, len(chosen)))
        outcome.refused[:0] = unknown
        return outcome


async def discarded(settings: Settings, choice: Choice, putting: PuttingAway, consent: Consent) -> Outcome:
    """Note that nobody needs the letters of a choice."""
    topics = await kafka.require_topics(settings)
    async with dead_letters.reader(settings) as consumer:
        index = await _read(consumer, topics)
        chosen, unknown = choice.of(index)
        outcome = Outcome(refused=unknown)
        for letter in chosen:
            if reason := letters.may_discard(index, letter):
                outcome.refused.append(Refused(letter.id, reason))
            else:
                outcome.sent.append(letter)
        consent(outcome.sent)
        if not putting.dry_run:
            async with redrive.producer(settings) as sender:
                await redrive.note(sender, topics, [putting.state(index, letter) for letter in outcome.sent])
        return outcome


@contextmanager
def _bar(what: str) -> Iterator[Show]:
    """A progress bar on the terminal, nothing where there is none."""
    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
