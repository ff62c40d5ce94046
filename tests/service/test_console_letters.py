"""`postlog dlq redrive` and `discard`: what they ask before they do it. Kafka is in memory."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from click.testing import CliRunner, Result

from console import consent, dead_letters, redrive
from console.__main__ import main
from console.letters import Index
from pipeline import kafka
from pipeline.letters import Place
from pipeline.settings import Settings
from tests.service.test_console_redrive import TOPICS, Producer, fetched, parked


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Producer:
    """A log with the letters 3-0, 3-1 and 3-2, all open."""
    sender, records = Producer(), parked(3)
    index = Index()
    for each in records:
        index.add(each, 3)

    async def topics(_: Settings) -> Any:
        return TOPICS

    async def read(*_: object) -> Index:
        return index

    async def fetch(_: object, __: object, places: Iterable[Place]) -> AsyncIterator[Any]:
        for place in places:
            yield fetched(records[place.offset])

    @asynccontextmanager
    async def reader(_: Settings) -> AsyncIterator[None]:
        yield None

    @asynccontextmanager
    async def producer(_: Settings) -> AsyncIterator[Producer]:
        yield sender

    monkeypatch.setattr(kafka, "require_topics", topics)
    monkeypatch.setattr(dead_letters, "reader", reader)
    monkeypatch.setattr(dead_letters, "read_index", read)
    monkeypatch.setattr(dead_letters, "fetch", fetch)
    monkeypatch.setattr(redrive, "producer", producer)
    return sender


def dlq(*args: str) -> Result:
    return CliRunner().invoke(main, ["dlq", *args], obj={"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9"})


DISCARD = ("discard", "--because", "x")


@pytest.mark.parametrize("command", [("redrive",), DISCARD])
def test_all_that_match_are_shown_and_nothing_is_done_unasked(log: Producer, command: tuple[str, ...]) -> None:
    result = dlq(*command, "--all")
    assert (result.exit_code, log.log) == (1, [])
    assert result.stderr.endswith(f"error: {consent.NOBODY_THERE}\n")
    assert "NoRecipient" in result.stderr


@pytest.mark.parametrize("command", [("redrive",), DISCARD])
@pytest.mark.parametrize(
    ("choice", "count"),
    [
        (["--all", "--yes"], 3),
        (["3-0", "3-2"], 2),
        (["--all", "--yes", "--limit", "0"], 3),
        (["--all", "--yes", "--limit", "1"], 1),
    ],
)
def test_it_is_done_where_somebody_said_so_or_named_the_letters(
    log: Producer, command: tuple[str, ...], choice: list[str], count: int
) -> None:
    result = dlq(*command, *choice, "--json")
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)["letters"]) == count
    assert len(log.states) == count


@pytest.mark.parametrize("command", [("redrive",), DISCARD])
def test_a_dry_run_asks_nobody_and_changes_nothing(log: Producer, command: tuple[str, ...]) -> None:
    result = dlq(*command, "--all", "--dry-run")
    assert (result.exit_code, log.log) == (0, [])
    assert "3 letters would be" in result.stdout


@pytest.mark.parametrize("command", [("redrive",), DISCARD])
def test_nobody_is_asked_about_nothing(log: Producer, command: tuple[str, ...]) -> None:
    result = dlq(*command, "--all", "--error", "Unreadable")
    assert (result.exit_code, log.log) == (0, [])
    assert "0 letters" in result.stdout


def test_a_limit_of_zero_lists_all(log: Producer) -> None:
    for limit, count in ((["--limit", "0"], 3), (["--limit", "2"], 2), ([], 3)):
        assert len(json.loads(dlq("list", "--json", *limit).stdout)["letters"]) == count
        assert dlq("list", *limit).stdout.count("\n3-") == count
