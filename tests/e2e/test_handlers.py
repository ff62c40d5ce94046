"""A handler is called for every event, whatever dies, and one that fails holds up its own address alone."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from console.local_kafka import tool
from pipeline import deadletter
from pipeline.deadletter import DeadLetter
from tests.e2e.system import Service, System, delivery, until
from tests.e2e.test_faults import RESET

#: Seconds before the second try; the others follow after 2, 4 and 8 times that.
BASE = 0.2

MODULE = """
import asyncio, json, os, time
from processor.handler import Handler, Retry

FOLDER = {folder!r}

def note(word, event):
    line = json.dumps([word, event.email, event.id, time.time()]) + "\\n"
    file = os.open(FOLDER + "/calls", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, line.encode())
    os.close(file)

async def handle(event, suppression):
    note("begun", event)
    if event.email.startswith("slow"):
        while not os.path.exists(FOLDER + "/go"):
            await asyncio.sleep(0.05)
    if os.path.exists(FOLDER + "/down"):
        raise OSError("the other side is down")
    if event.email.startswith("bad") and not event.id.startswith("later"):
        raise OSError("the other side is down")
    note("done", event)

handlers = [Handler("crm", handle, timeout=30, retry=Retry(base={base}))]
"""


class Calls:
    """What the handler noted, and how to start a processor with it."""

    def __init__(self, system: System, folder: Path) -> None:
        self.system = system
        self.folder = folder
        folder.mkdir()

    def start(self, base: float = BASE) -> Service:
        (self.folder / "plugged.py").write_text(MODULE.format(folder=str(self.folder), base=base))
        return self.system.start("processor", HANDLERS="plugged", PYTHONPATH=str(self.folder))

    def noted(self, word: str, email: str = "") -> list[tuple[str, float]]:
        """(event id, time) of every note of a kind, in order."""
        file = self.folder / "calls"
        lines: list[Any] = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        return [(event, at) for kind, to, event, at in lines if kind == word and email in ("", to)]

    def ids(self, word: str, email: str = "") -> list[str]:
        return [event for event, _ in self.noted(word, email)]

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        async def met() -> bool:
            return condition()

        await until(met, what)

    async def letters(self) -> list[DeadLetter]:
        return [deadletter.read(r) for r in await self.system.records(self.system.topics.dead_letters)]

    async def owed(self) -> int:
        """How many calls the log says are owed."""
        latest = {record.key: record.value for record in await self.system.records(self.system.topics.calls)}
        return sum(value is not None for value in latest.values())


@pytest.fixture
def calls(system: System, tmp_path: Path) -> Calls:
    return Calls(system, tmp_path / "plugged")


async def test_one_failing_address_gets_five_tries_and_a_letter_and_holds_up_nobody_else(calls: Calls) -> None:
    system = calls.system
    ingress, processor = system.start("ingress"), calls.start()
    await system.ready(ingress, processor)
    await system.deliver(ingress, [delivery("bad", "bounced.hard", "bad@x.io")])
    await calls.until(lambda: len(calls.ids("begun")) > 0, "the first try is made")
    await system.deliver(ingress, [delivery("later-1", "opened", "bad@x.io")])
    await system.deliver(ingress, [delivery("later-2", "opened", "bad@x.io")])
    good = [delivery(f"e{n}", "opened", f"p{n % 50}@x.io") for n in range(300)]
    await system.deliver(ingress, good + good[:50])  # some of them twice: duplicates are not called for
    await calls.until(lambda: len(calls.ids("done")) >= 302, "everything is called")

    assert sorted(calls.ids("done")) == sorted([f"e{n}" for n in range(300)] + ["later-1", "later-2"])
    assert calls.ids("begun", "bad@x.io") == ["bad"] * 5 + ["later-1", "later-2"]
    tries = [at for event, at in calls.noted("begun", "bad@x.io") if event == "bad"]
    for at, planned in zip(tries, (0, 1, 3, 7, 15), strict=True):
        # Each of the pauses is at least what it must be, and what a try and a transaction take longer adds up.
        assert planned * BASE - 0.05 <= at - tries[0] <= planned * BASE + 2
    await system.caught_up()
    (letter,) = await calls.letters()
    assert (letter.handler, letter.tries, letter.id, letter.error) == ("crm", 5, "bad", "builtins.OSError")
    assert letter.source is not None
    assert letter.source.topic == system.topics.events.name
    assert await calls.owed() == 0
    assert sum((await system.metric(processor, "postlog_processor_calls_owed")).values()) == 0
    assert await system.suppressed() == {"bad@x.io"}


@pytest.mark.parametrize("tries_before_the_kill", [0, 2, 5])
async def test_a_killed_processor_makes_at_most_one_try_more_and_leaves_one_letter(
    calls: Calls, tries_before_the_kill: int
) -> None:
    system = calls.system
    ingress, processor = system.start("ingress"), calls.start(base=0.3)
    await system.ready(ingress, processor)
    await system.deliver(ingress, [delivery("bad", "opened", "bad@x.io")])
    if tries_before_the_kill == 0:
        await system.caught_up()
    else:
        await calls.until(lambda: len(calls.ids("begun")) >= tries_before_the_kill, "it was tried so often")
    processor.kill()
    processor.restart()
    await system.ready(processor)
    await until(calls.letters, "there is a letter")
    assert 5 <= len(calls.ids("begun")) <= 6
    (letter,) = await calls.letters()
    assert (letter.handler, letter.tries) == ("crm", 5)
    assert await calls.owed() == 0


async def test_what_is_asked_to_stop_finishes_calls_under_way_and_the_rest_is_called_after_the_next_start(
    calls: Calls,
) -> None:
    system = calls.system
    ingress, processor = system.start("ingress"), calls.start()
    await system.ready(ingress, processor)
    await system.deliver(
        ingress, [delivery("s1", "opened", "slow@x.io"), delivery("s2", "opened", "slow@x.io")], at_once=1
    )
    await system.caught_up()
    await calls.until(lambda: len(calls.ids("begun")) > 0, "a call is under way")
    assert calls.ids("done") == []
    processor.send(signal.SIGTERM)
    (calls.folder / "go").touch()
    assert processor.stop() == 0
    assert calls.ids("begun") == calls.ids("done") == ["s1"]
    assert await calls.owed() == 1
    processor.restart()
    await calls.until(lambda: len(calls.ids("done")) == 2, "the other one is called")
    assert calls.ids("begun") == ["s1", "s2"]


async def test_a_processor_whose_handlers_cannot_be_loaded_refuses_to_start(system: System) -> None:
    processor = system.start("processor", HANDLERS="nowhere.to_be_found")
    assert processor.process.wait(30) == 2
    assert "HANDLERS: nowhere.to_be_found cannot be loaded" in processor.said()


async def test_a_record_that_is_processed_again_is_called_for_again_with_the_same_id(calls: Calls) -> None:
    system = calls.system
    ingress, processor = system.start("ingress"), calls.start()
    await system.ready(ingress, processor)
    sent = [delivery(f"e{n}", "opened", f"p{n}@x.io") for n in range(20)]
    await system.deliver(ingress, sent + sent[:5])
    await calls.until(lambda: len(calls.ids("done")) == 20, "each is called for once")
    await system.caught_up()
    assert processor.stop() == 0
    group, topic = f"{system.settings.topic_prefix}postlog-processor", system.topics.events.name
    arguments = ["--bootstrap-server", system.settings.kafka_bootstrap_servers, "--group", group, "--topic", topic]
    done = tool(RESET, *arguments, "--reset-offsets", "--to-earliest", "--execute")
    assert done.returncode == 0, done.stderr
    processor.restart()
    await system.ready(processor)
    await system.caught_up()
    await calls.until(lambda: len(calls.ids("done")) >= 40, "each is called for again")
    assert sorted(calls.ids("done")) == sorted(2 * [f"e{n}" for n in range(20)])
