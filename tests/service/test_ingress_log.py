"""The ingress's way to Kafka, with a producer in memory at its edge."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, OutOfOrderSequenceNumber
from msgspec.structs import replace

from ingress import log as module
from ingress.accept import Outgoing
from ingress.app import require_room
from ingress.batches import TURNS, weight
from ingress.log import Log
from pipeline import topics
from pipeline.errors import ConfigError, KafkaUnavailable
from pipeline.settings import Settings
from tests.chaos import broken

TOPICS = topics.load(topics.default_file())
RECORD = Outgoing("events", "opened", b"a@x.io", b"{}", [])
OTHER = Outgoing("events", "opened", b"c@x.io", b"{}", [])  # of another partition


class FakeBatch:
    """Takes records until there are `most`, as the real one does until its bytes are used up."""

    most = 100

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.closed = False

    def append(self, **record: Any) -> object | None:
        if self.closed or len(self.records) == self.most:
            return None
        self.records.append(record)
        return object()

    def close(self) -> None:
        self.closed = True

    def record_count(self) -> int:
        return len(self.records)


class FakeProducer:
    """Acknowledges batches when it is told to; like the real one it may let senders wait inside send_batch()."""

    def __init__(self, **options: object) -> None:
        self.options = options
        self.sent: list[asyncio.Future[object]] = []
        self.batches: list[tuple[int, FakeBatch]] = []
        self._came = asyncio.Event()
        self.room = asyncio.Event()
        self.room.set()
        self.stuck = asyncio.Event()
        self.stuck.set()

    def create_batch(self) -> FakeBatch:
        return FakeBatch()

    async def send_batch(self, batch: FakeBatch, topic: str, *, partition: int) -> asyncio.Future[object]:
        await self.room.wait()
        assert batch.closed
        self.batches.append((partition, batch))
        self.sent.append(asyncio.get_running_loop().create_future())
        self._came.set()
        return self.sent[-1]

    async def has_sent(self, batches: int) -> None:
        while len(self.sent) < batches:
            self._came.clear()
            await asyncio.wait_for(self._came.wait(), 5)

    async def stop(self) -> None:
        await self.stuck.wait()


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> type[FakeProducer]:
    monkeypatch.setattr(module, "AIOKafkaProducer", FakeProducer)
    return FakeProducer


def log(**changes: object) -> tuple[Log, FakeProducer]:
    made = Log(Settings(**changes), TOPICS)  # type: ignore[arg-type]
    return made, made._producer


async def turn() -> None:
    for _ in range(3 * TURNS):
        await asyncio.sleep(0)


async def test_it_returns_when_every_record_is_acknowledged(producer: type[FakeProducer]) -> None:
    made, fake = log()
    appending = asyncio.create_task(made.append([RECORD, OTHER]))
    await turn()
    fake.sent[0].set_result(None)
    await turn()
    assert not appending.done()
    fake.sent[1].set_result(None)
    await appending


async def test_what_comes_meanwhile_goes_as_one_batch_in_order(producer: type[FakeProducer]) -> None:
    made, fake = log()
    values = [b"%d" % number for number in range(5)]
    appending = [asyncio.create_task(made.append([replace(RECORD, value=values[0])]))]
    await turn()
    for value in values[1:]:
        appending.append(asyncio.create_task(made.append([replace(RECORD, value=value)])))
    await turn()
    assert len(fake.batches) == 1
    fake.sent[0].set_result(None)
    await turn()
    await turn()
    assert [record["value"] for _, batch in fake.batches for record in batch.records] == values
    assert len(fake.batches) == 2
    fake.sent[1].set_result(None)
    await asyncio.gather(*appending)


async def test_a_partition_that_is_slow_holds_up_no_other(producer: type[FakeProducer]) -> None:
    made, fake = log()
    slow = asyncio.create_task(made.append([RECORD]))
    await turn()
    other = asyncio.create_task(made.append([OTHER]))
    await fake.has_sent(2)
    fake.sent[1].set_result(None)
    await other
    assert not slow.done()
    fake.sent[0].set_result(None)
    await slow


async def test_a_full_batch_is_followed_by_another(
    producer: type[FakeProducer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeBatch, "most", 2)
    made, fake = log()
    appending = asyncio.create_task(made.append([RECORD] * 5))
    for number in range(3):
        await fake.has_sent(number + 1)
        assert not appending.done()
        fake.sent[number].set_result(None)
    await appending
    assert [batch.record_count() for _, batch in fake.batches] == [2, 2, 1]


async def test_stopping_sends_what_waits(producer: type[FakeProducer]) -> None:
    made, fake = log()
    appending = asyncio.create_task(made.append([RECORD]))
    await asyncio.sleep(0)
    stopping = asyncio.create_task(made.stop())
    await turn()
    assert not stopping.done()
    fake.sent[0].set_result(None)
    await asyncio.gather(appending, stopping)


async def test_a_delivery_without_events_needs_no_kafka(producer: type[FakeProducer]) -> None:
    await log()[0].append([])


async def test_after_the_deadline_the_sender_tries_again_and_the_sending_is_not_cancelled(
    producer: type[FakeProducer],
) -> None:
    made, fake = log(ingress_deadline_seconds=0.01)
    with pytest.raises(KafkaUnavailable, match="no acknowledgement"):
        await made.append([RECORD])
    assert not fake.sent[0].cancelled()


async def test_what_waits_inside_the_producer_counts_against_the_limit(producer: type[FakeProducer]) -> None:
    made, fake = log(ingress_max_pending=3)
    fake.room.clear()
    waiting = [asyncio.create_task(made.append([RECORD])) for _ in range(3)]
    await turn()
    with pytest.raises(KafkaUnavailable, match="waiting for Kafka already"):
        await made.append([RECORD])
    fake.room.set()
    await turn()
    for future in fake.sent:
        future.set_result(None)
    await asyncio.gather(*waiting)


async def test_the_bytes_that_wait_count_against_the_limit_until_kafka_has_them(producer: type[FakeProducer]) -> None:
    large = replace(RECORD, value=b" " * 1_000)
    most = 3 * weight([large])
    made, fake = log(ingress_max_pending_bytes=most, ingress_deadline_seconds=0.01)
    # The deadline ends the waiting, and not what they take.
    for result in await asyncio.gather(*[made.append([large]) for _ in range(3)], return_exceptions=True):
        assert isinstance(result, KafkaUnavailable)
    assert made._batches.held == most
    with pytest.raises(KafkaUnavailable, match="waiting for Kafka already"):
        await made.append([RECORD])
    for future in fake.sent:
        future.set_result(None)
    await turn()
    assert (made._batches.held, made._batches.pending) == (0, 0)
    appending = asyncio.create_task(made.append([RECORD]))
    await turn()
    fake.sent[-1].set_result(None)
    await appending


async def test_a_delivery_of_many_partitions_weighs_until_the_last_of_them_has_it(
    producer: type[FakeProducer],
) -> None:
    made, fake = log()
    appending = asyncio.create_task(made.append([RECORD, OTHER]))
    await turn()
    assert made._batches.held == weight([RECORD, OTHER])
    fake.sent[0].set_result(None)
    await turn()
    assert made._batches.held == weight([RECORD, OTHER])
    fake.sent[1].set_exception(KafkaConnectionError())
    with pytest.raises(KafkaUnavailable):
        await appending
    assert made._batches.held == 0


@pytest.mark.parametrize("answer", ["none", "an error"])
async def test_a_delivery_that_is_given_up_is_not_kept_by_what_still_waits(
    producer: type[FakeProducer], monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    class Records(list[Outgoing]):
        """A list that says when it is gone."""

    monkeypatch.setattr(FakeBatch, "append", lambda batch, **_: batch.records.append({}) or object())
    made, fake = log(ingress_deadline_seconds=0.01 if answer == "none" else 60)

    async def deliver() -> weakref.ref[Records]:
        records = Records([RECORD])
        try:
            await made.append(records)
        except KafkaUnavailable:
            return weakref.ref(records)
        raise AssertionError("it was not given up")

    gc.disable()
    try:
        appending = asyncio.create_task(deliver())
        await turn()
        if answer == "an error":
            fake.sent.pop().set_exception(KafkaConnectionError())  # kept nowhere else
        assert (await appending)() is None
    finally:
        gc.enable()


def test_a_dead_letter_weighs_its_headers_too() -> None:
    letter = Outgoing("dead_letters", "unreadable", None, b"x" * 100, [("a", b"x" * 8_000)])
    assert weight([letter]) >= 4 * 8_100


async def test_a_delivery_larger_than_the_limit_gets_its_turn_alone(producer: type[FakeProducer]) -> None:
    made, fake = log(ingress_max_pending=1, ingress_max_pending_bytes=1)
    appending = asyncio.create_task(made.append([RECORD] * 5))
    await turn()
    for future in fake.sent:
        future.set_result(None)
    await appending


async def test_a_failure_that_passes_is_tried_again_and_another_ends_the_process(
    producer: type[FakeProducer],
) -> None:
    made, fake = log()
    for error, final in ((KafkaConnectionError(), False), (OutOfOrderSequenceNumber(), True)):
        appending = asyncio.create_task(made.append([RECORD]))
        await turn()
        fake.sent[-1].set_exception(error)
        with pytest.raises(KafkaUnavailable):
            await appending
        assert made.failed.is_set() is final


async def test_stopping_does_not_wait_for_ever_for_a_kafka_that_is_away(producer: type[FakeProducer]) -> None:
    made, fake = log(ingress_drain_seconds=0.01)
    fake.stuck.clear()
    await asyncio.wait_for(made.stop(), 5)


def test_a_body_limit_above_what_kafka_takes_is_refused_at_the_start() -> None:
    require_room(Settings(), TOPICS)
    with pytest.raises(ConfigError, match="INGRESS_MAX_BODY_BYTES"):
        require_room(Settings(ingress_max_body_bytes=5_000_000), TOPICS)


async def test_the_build_that_breaks_the_promise_on_purpose_answers_before_kafka_has_it(
    producer: type[FakeProducer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Log, "append", Log.append)  # what is put back after this
    broken.answer_before_the_ack()
    kafka, fake = log()
    await asyncio.wait_for(kafka.append([RECORD]), 5)
    await fake.has_sent(1)
    assert not fake.sent[0].done()


async def test_who_sends_nothing_learns_within_seconds_that_a_topic_is_there_again(
    producer: type[FakeProducer],
) -> None:
    found = Log(Settings(), TOPICS)
    made: Any = found._producer
    assert made.options["metadata_max_age_ms"] <= 10_000
