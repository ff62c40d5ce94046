"""The redrive, over a producer in memory: what is noted, when, and what not."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError

from console import dead_letters
from console.letters import Index, Wanted, select
from console.redrive import Order, Outcome, Redrive
from pipeline import contract, letters, topics
from pipeline.deadletter import Source
from pipeline.errors import PostlogError, Unreadable
from pipeline.letters import Place
from tests.unit.records import NOON, SOURCE, FakeRecord, letter

TOPICS = topics.load(topics.default_file())


@dataclass
class Producer:
    """Acknowledges what it is sent on the next turn of the loop; values in `lost` fail, in `refused` at once."""

    lost: set[bytes] = field(default_factory=set)
    refused: set[bytes] = field(default_factory=set)
    log: list[str] = field(default_factory=list)
    states: dict[str, letters.LetterState] = field(default_factory=dict)
    partitions: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))

    async def send(self, topic: str, *, key: bytes, value: bytes, partition: int, **_: Any) -> asyncio.Future[None]:
        self.partitions[topic].add(partition)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if value in self.refused:
            raise KafkaTimeoutError
        if topic == TOPICS.letter_states.name:
            state = letters.decode(value)
            self.states[key.decode()] = state
            self.log.append(f"noted {state.id}")
        asyncio.get_running_loop().call_soon(self._answer, future, topic, value)
        return future

    def _answer(self, future: asyncio.Future[None], topic: str, value: bytes) -> None:
        if value in self.lost:
            future.set_exception(KafkaTimeoutError())
            return
        if topic == TOPICS.events.name:
            self.log.append(f"acknowledged {value.decode()}")
        future.set_result(None)


def parked(count: int) -> list[FakeRecord]:
    """Letters 3-0, 3-1, … whose payloads are their numbers."""
    sources = [Source(SOURCE.topic, 3, number, NOON, SOURCE.group) for number in range(count)]
    return [letter(n, value=b"%d" % n, source=source) for n, source in enumerate(sources)]


async def run(
    monkeypatch: pytest.MonkeyPatch,
    sender: Producer,
    records: list[FakeRecord],
    order: Order,
    index: Index | None = None,
) -> Outcome:
    async def fetch(_: object, __: object, places: Iterable[Place]) -> AsyncIterator[Any]:
        by_offset = {found.offset: found for found in records}
        for place in places:
            if place.offset in by_offset:
                yield fetched(by_offset[place.offset])

    monkeypatch.setattr(dead_letters, "fetch", fetch)
    index = index or Index()
    for found in records:
        index.add(found, 3)
    redrive = Redrive(None, sender, TOPICS, index, order)
    return await redrive.run(select(index, Wanted()), lambda _: None)


def fetched(found: FakeRecord) -> _Fetched:
    """The record as Kafka's client hands it out."""
    return _Fetched(found)


class _Fetched:
    """A record as Kafka's client hands it out, which knows its partition."""

    partition = 3

    def __init__(self, found: FakeRecord) -> None:
        self.offset, self.timestamp, self.key = found.offset, found.timestamp, found.key
        self.value, self.headers = found.value, found.headers


async def test_a_letter_is_noted_once_it_is_acknowledged_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    sender = Producer()
    outcome = await run(monkeypatch, sender, parked(3), Order(who="me"))
    assert [sent.id for sent in outcome.sent] == ["3-0", "3-1", "3-2"]
    assert sender.log[:3] == ["acknowledged 0", "acknowledged 1", "acknowledged 2"]
    assert sender.log[3:] == ["noted 3-0", "noted 3-1", "noted 3-2"]
    state = sender.states["3-1"]
    assert (state.redrives, state.actions[0].who, state.actions[0].answers) == (1, "me", Place(3, 1))


async def test_states_go_to_the_partitions_that_the_file_says_whatever_the_cluster_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sender = Producer()
    await run(monkeypatch, sender, parked(20), Order(who="me"))
    assert sender.partitions[TOPICS.letter_states.name] == {0}


async def test_redrives_add_up_though_none_has_failed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    sender, index = Producer(), Index()
    for times in (1, 2, 3):
        assert len((await run(monkeypatch, sender, parked(1), Order(who="me"), Index(states=index.states))).sent) == 1
        assert sender.states["3-0"].redrives == times
        index.states["3-0"] = letters.encode(sender.states["3-0"])
    outcome = await run(monkeypatch, sender, parked(1), Order(who="me"), Index(states=index.states))
    assert (outcome.sent, [refused.id for refused in outcome.refused]) == ([], ["3-0"])


async def test_a_dry_run_sends_and_notes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    sender = Producer()
    outcome = await run(monkeypatch, sender, parked(3), Order(who="me", dry_run=True))
    assert (len(outcome.sent), outcome.records, sender.log) == (3, 3, [])


@pytest.mark.parametrize("how", ["lost", "refused"])
async def test_what_kafka_does_not_take_stays_open_and_the_rest_is_noted(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = Producer(lost={b"2"}) if how == "lost" else Producer(refused={b"2"})
    with pytest.raises(PostlogError, match="2 letters were sent and are noted"):
        await run(monkeypatch, sender, parked(3), Order(who="me"))
    assert set(sender.states) == {"3-0", "3-1"}


async def test_what_expired_between_the_look_and_the_sending_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    index = Index()
    index.add(parked(5)[4], 3)
    outcome = await run(monkeypatch, Producer(), parked(2), Order(who="me"), index)
    assert [sent.id for sent in outcome.sent] == ["3-0", "3-1"]
    assert [(refused.id, refused.reason) for refused in outcome.refused] == [("3-4", "it has expired meanwhile")]


async def test_a_rate_spreads_the_letters_over_time(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    await run(monkeypatch, Producer(), parked(5), Order(who="me", rate=10))
    assert sum(waits[-1:]) == pytest.approx(0.4, abs=0.1)  # the clock stood still, so the last one waits for all
    assert len(waits) == 4


async def test_a_letter_of_which_a_part_is_still_unreadable_is_sent_and_stays_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    headers = [(contract.HEADER_PROVIDER, b"nexuspromail")]
    one = b'{"id":"1","type":"opened","data":{"email":"a@x.io"}}'
    array = letter(0, value=b"[" + one + b",7]", key=None, source=None, error=Unreadable("x"), headers=headers)
    sender = Producer()
    outcome = await run(monkeypatch, sender, [array], Order(who="me"))
    assert (outcome.sent, outcome.records, sender.states) == ([], 1, {})
    assert [line for line in sender.log if line.startswith("acknowledged")]
    assert [refused.reason[:32] for refused in outcome.refused] == ["1 of its 2 events are still unre"]
