"""Ctrl-C in the middle of a command: it says how far it came, and what it says is true."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError
from click.testing import CliRunner

from console import asking, dead_letters, event_log
from console.__main__ import main
from console.endings import to_its_end
from console.letters import Index, Wanted, select
from console.redrive import Order, Redrive
from pipeline import contract, kafka, operators
from pipeline.contract import Event, EventType
from pipeline.errors import Interrupted, KafkaUnavailable
from pipeline.operators import Said
from pipeline.settings import Settings
from tests.service.test_console_redrive import TOPICS, Producer, fetched, parked


def test_every_command_ends_with_130_and_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(asking, "one", interrupted)
    result = CliRunner().invoke(main, ["suppressions", "get", "a@example.com", "--url", "http://x.example"], obj={})
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr == "stopped: the same command can be typed again\n"


async def test_work_that_is_cancelled_is_done_before_the_cancellation_goes_on() -> None:
    began, may_end, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        began.set()
        await may_end.wait()
        done.set()

    task = asyncio.create_task(to_its_end(work()))
    await began.wait()
    task.cancel()
    await asyncio.sleep(0)
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done.is_set()


@pytest.mark.parametrize("dry_run", [False, True])
async def test_a_redrive_notes_what_it_has_sent_and_says_how_many(
    monkeypatch: pytest.MonkeyPatch, dry_run: bool
) -> None:
    records, index, sender = parked(5), Index(), Producer()
    for each in records:
        index.add(each, 3)
    reached = asyncio.Event()

    async def fetch(*_: object) -> AsyncIterator[Any]:
        for each in records[:3]:
            yield fetched(each)
        reached.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(dead_letters, "fetch", fetch)
    run = Redrive(None, sender, TOPICS, index, Order(who="me", dry_run=dry_run))
    task = asyncio.create_task(run.run(select(index, Wanted()), lambda _: None))
    await reached.wait()
    task.cancel()
    with pytest.raises(
        Interrupted, match="nothing was sent" if dry_run else "3 of 5 letters were sent and are noted"
    ):
        await task
    assert set(sender.states) == (set() if dry_run else {"3-0", "3-1", "3-2"})


@dataclass
class Log:
    """A producer in memory: it acknowledges `taken` events at once, and the others when `rest` is called."""

    taken: int
    fails: bool = False
    sent: list[asyncio.Future[Any]] = field(default_factory=list)
    full: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def send(self, *_: object, **__: object) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.sent.append(future)
        if len(self.sent) <= self.taken:
            future.set_result(Acknowledged())
        else:
            self.full.set()
        return future

    def rest(self) -> None:
        for future in self.sent[self.taken :]:
            if self.fails:
                future.set_exception(KafkaTimeoutError())
            else:
                future.set_result(Acknowledged())


@dataclass(frozen=True)
class Acknowledged:
    timestamp: int = 7


@pytest.mark.parametrize("fails", [False, True])
async def test_an_import_waits_for_what_is_under_way_and_counts_it(
    monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    log = Log(taken=3, fails=fails)

    async def topics(_: Settings) -> Any:
        return TOPICS

    monkeypatch.setattr(kafka, "require_topics", topics)
    monkeypatch.setattr(event_log, "AIOKafkaProducer", lambda **_: log)
    monkeypatch.setattr(event_log, "AT_ONCE", 4)
    events = (event(number) for number in range(100))
    task = asyncio.create_task(event_log.append(Settings(), events))
    await log.full.wait()
    task.cancel()
    await asyncio.sleep(0)
    log.rest()
    error = KafkaUnavailable if fails else Interrupted
    with pytest.raises(error, match="3 are written" if fails else r"4 events are on the log\. The same command can"):
        await task
    assert len(log.sent) == 4
    assert not any(future.cancelled() for future in log.sent)


def event(number: int) -> Event:
    said = Said("me", "x")
    email = f"user{number}@example.com"
    identity = contract.fingerprint(email.encode())
    return operators.event(email, EventType.SUPPRESSED, said, id=identity, id_basis="fingerprint", now=1)
