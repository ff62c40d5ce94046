"""What was answered 200 is applied exactly once, whatever dies in between."""

from __future__ import annotations

import asyncio
import random
import re
import signal
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from console.local_kafka import LocalKafka, tool
from pipeline import deadletter, kafka, topics
from pipeline.settings import Settings
from processor.place import Place
from processor.store import open_store
from tests.e2e.system import PATIENCE, SECRET, SESSION_SECONDS, Service, System, delivery, running, until

RESET = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
TOPICS_FILE = topics.default_file().read_text()
SUPPRESSING = ("bounced.hard", "complained", "unsubscribed")


@dataclass(frozen=True)
class Load:
    """Deliveries to send, and by a model of its own what must be left of them."""

    bodies: list[bytes]
    ids: int
    suppressed: set[str]
    nobody: int


def load(count: int, seed: int) -> Load:
    """count events over fewer addresses, of which some name nobody; a tenth is sent twice, in any order."""
    rng = random.Random(seed)
    bodies, suppressed, nobody = [], set(), 0
    for number in range(count):
        email, kind = f"p{rng.randrange(count // 3)}@x.io", rng.choice([*SUPPRESSING, "opened", "delivered"])
        if number % 100 == 0:
            nobody += 1
            bodies.append(delivery(f"e{number}", kind, None))
            continue
        bodies.append(delivery(f"e{number}", kind, email))
        if kind in SUPPRESSING:
            suppressed.add(email)
    sent = bodies + rng.sample(bodies, count // 10)
    rng.shuffle(sent)
    return Load(sent, count, suppressed, nobody)


async def check(system: System, sent: Load) -> None:
    """Every accepted event has one marker, each without recipient one letter, and the list is the model's."""
    await system.caught_up()
    markers = await system.markers()
    assert len(markers) == sent.ids
    assert set(markers.values()) == {1}
    assert await system.suppressed() == sent.suppressed
    letters = [deadletter.read(record) for record in await system.records(system.topics.dead_letters)]
    assert len(letters) == len({letter.id for letter in letters}) == sent.nobody


async def recovered(system: System, *services: Service) -> None:
    """What a supervisor does: start again what has ended, until all are ready."""

    async def all_ready() -> bool:
        for service in services:
            if service.process.poll() is not None:
                service.restart()
        return all([await system.status(f"{service.url}/health/ready") == 200 for service in services])

    await until(all_ready, "everything is ready again")


async def test_a_processor_killed_three_times_under_load_applies_everything_once(system: System) -> None:
    ingress, processor = system.start("ingress"), system.start("processor")
    await system.ready(ingress, processor)
    sent = load(6_000, seed=1)
    sending = asyncio.create_task(system.deliver(ingress, sent.bodies))
    for share in (0.2, 0.4, 0.6):
        await until(lambda s=share: _written(system, ingress, s * len(sent.bodies)), "more is accepted")  # type: ignore[misc]
        processor.kill()
        processor.restart()
        await system.ready(processor)
    await sending
    await check(system, sent)


async def _written(system: System, ingress: Service, count: float) -> bool:
    return sum((await system.metric(ingress, "postlog_ingress_events_total")).values()) >= count


async def test_a_processor_frozen_past_its_session_is_fenced_and_nothing_is_applied_twice(system: System) -> None:
    ingress = system.start("ingress")
    frozen, other = system.start("processor"), system.start("processor")
    await system.ready(ingress, frozen, other)
    sent = load(4_000, seed=2)
    sending = asyncio.create_task(system.deliver(ingress, sent.bodies, at_once=8))
    await until(lambda: _written(system, ingress, 500), "load is under way")
    frozen.send(signal.SIGSTOP)
    try:
        await sending
        # All of it is processed although half of the lanes froze: the other one has taken them over.
        await system.caught_up(SESSION_SECONDS + PATIENCE)
    finally:
        frozen.send(signal.SIGCONT)
    await system.deliver(ingress, sent.bodies[:1_000])  # all duplicates, while the thawed one finds itself replaced
    await system.caught_up()
    await recovered(system, frozen, other)
    await check(system, sent)


async def test_a_second_processor_takes_over_within_the_session_timeout(system: System) -> None:
    ingress = system.start("ingress")
    one, two = system.start("processor"), system.start("processor")
    await system.ready(ingress, one, two)
    await until(lambda: _shared(system, one, two), "both own lanes")
    one.kill()
    killed_at = time.monotonic()
    await system.deliver(ingress, load(500, seed=3).bodies)
    await system.caught_up()
    assert time.monotonic() - killed_at < SESSION_SECONDS + 5


@pytest.mark.parametrize("standbys", [0, 1])
async def test_who_keeps_a_copy_of_a_lane_restores_next_to_nothing_of_it(system: System, standbys: int) -> None:
    ingress = system.start("ingress")
    one, two = (system.start("processor", PROCESSOR_STANDBY_LANES=str(standbys)) for _ in range(2))
    await system.ready(ingress, one, two)
    await until(lambda: _shared(system, one, two), "both own lanes")
    sent = load(1_000, seed=13)
    await system.deliver(ingress, sent.bodies)
    await system.caught_up()
    if standbys:
        await until(lambda: _copied(system, two), "the second has copies of the first one's lanes")
    before = _restored(two)
    one.kill()
    await until(lambda: _owns_all(system, two), "the second owns everything")
    restored = _restored(two) - before
    assert restored <= 20 if standbys else restored > 300
    await system.deliver(ingress, sent.bodies)
    await check(system, sent)


async def _copied(system: System, processor: Service) -> bool:
    behind = (await system.metric(processor, "postlog_processor_standby_lag")).values()
    return len(behind) == 6 and not any(behind)


def _restored(processor: Service) -> int:
    """Records that its lanes have read when they opened."""
    return sum(int(count) for count in re.findall(r"restored=(\d+)", processor.said()))


async def test_lanes_that_do_not_move_go_on_when_a_processor_comes_and_goes(system: System) -> None:
    ingress, one = system.start("ingress"), system.start("processor")
    await system.ready(ingress, one)
    sent = load(3_000, seed=12)
    sending = asyncio.create_task(system.deliver(ingress, sent.bodies, at_once=8))
    await until(lambda: _written(system, ingress, 500), "load is under way")
    two = system.start("processor")
    await system.ready(two)
    await until(lambda: _shared(system, one, two), "both own lanes")
    assert one.said().count("lane open") == 12
    assert two.stop() == 0
    await until(lambda: _owns_all(system, one), "the first owns everything again")
    await sending
    await system.caught_up()
    assert one.said().count("lane open") == 18
    await check(system, sent)


async def _owns_all(system: System, one: Service) -> bool:
    return sum((await system.metric(one, "postlog_processor_lane_open")).values()) == 12.0


async def _shared(system: System, one: Service, two: Service) -> bool:
    owned = [sum((await system.metric(s, "postlog_processor_lane_open")).values()) for s in (one, two)]
    return owned == [6.0, 6.0]


async def test_offsets_moved_back_with_kafkas_own_tool_reprocess_originals_and_skip_duplicates(
    system: System,
) -> None:
    ingress, processor = system.start("ingress"), system.start("processor")
    await system.ready(ingress, processor)
    sent = load(600, seed=4)
    await system.deliver(ingress, sent.bodies)
    await check(system, sent)
    assert processor.stop() == 0
    group, topic = kafka.group_of(system.settings, "processor"), system.topics.events.name
    servers = system.settings.kafka_bootstrap_servers
    arguments = ["--bootstrap-server", servers, "--group", group, "--topic", topic]
    done = tool(RESET, *arguments, "--reset-offsets", "--to-earliest", "--execute")
    assert done.returncode == 0, done.stderr
    assert await system.lag() == len(sent.bodies)

    processor.restart()
    await system.ready(processor)
    await system.caught_up()
    processed = sum((await system.metric(processor, "postlog_processor_events_total")).values())
    duplicates = sum((await system.metric(processor, "postlog_processor_duplicates_total")).values())
    assert processed == sent.ids - sent.nobody
    assert duplicates == len(sent.bodies) - sent.ids
    assert set((await system.markers()).values()) == {1}
    assert await system.suppressed() == sent.suppressed


async def test_the_state_folder_may_be_lost(system: System) -> None:
    ingress, processor = system.start("ingress"), system.start("processor")
    await system.ready(ingress, processor)
    sent = load(400, seed=5)
    await system.deliver(ingress, sent.bodies)
    await system.caught_up()
    processor.kill()
    elsewhere = system.start("processor")  # a state folder of its own, empty
    await system.ready(elsewhere)
    await system.deliver(ingress, sent.bodies)
    await check(system, sent)


@pytest.fixture
async def fragile(own_kafka: LocalKafka, tmp_path: Path) -> Settings:
    """A broker that may be stopped, with topics on it."""
    mine = Settings(kafka_bootstrap_servers=own_kafka.bootstrap, state_dir=str(tmp_path / "state"))
    await kafka.apply(mine)
    return mine


async def test_a_full_disk_stops_the_processor_and_loses_nothing(system: System) -> None:
    ingress = system.start("ingress")
    small = system.start("processor", module=("tests.e2e.small_disk", "3", "STATE_DIR", "processor"))
    await system.ready(ingress, small)
    sent = load(10_000, seed=14)
    sending = asyncio.create_task(system.deliver(ingress, sent.bodies))
    assert await asyncio.to_thread(small.process.wait, PATIENCE) == 1
    assert "StoreBroken" in small.said()
    assert "No space left" in small.said()
    await sending
    await system.ready(system.start("processor"))
    await check(system, sent)


async def test_with_kafka_stopped_nobody_is_told_200_and_the_retry_is_applied_once(
    own_kafka: LocalKafka, fragile: Settings, tmp_path: Path
) -> None:
    async with running(fragile, tmp_path) as system:
        ingress, processor = system.start("ingress"), system.start("processor")
        await system.ready(ingress, processor)
        body = delivery("e1", "complained", "a@x.io")
        assert await system.post(ingress, delivery("e0", "opened", "a@x.io")) == 200
        own_kafka.kill()
        asked_at = time.monotonic()
        assert await system.post(ingress, body) == 503
        assert time.monotonic() - asked_at < 10
        own_kafka.start()
        await system.deliver(ingress, [body])
        await recovered(system, processor)
        await until(lambda: _is_suppressed(system, "a@x.io"), "the retry is applied")
        await system.caught_up()
        markers = await system.markers()
        assert len(markers) == 2
        assert set(markers.values()) == {1}


async def test_while_kafka_is_frozen_services_still_stop_when_asked(
    own_kafka: LocalKafka, fragile: Settings, tmp_path: Path
) -> None:
    async with running(fragile, tmp_path) as system:
        ingress = system.start("ingress", INGRESS_DRAIN_SECONDS="1")
        processor = system.start("processor")
        await system.ready(ingress, processor)
        own_kafka.process.send_signal(signal.SIGSTOP)
        try:
            late = system.start("ingress")
            assert await system.post(ingress, delivery("e1", "opened", "a@x.io")) == 503
            for service in (ingress, processor, late):
                service.send(signal.SIGTERM)
            for service in (ingress, processor, late):
                assert await asyncio.to_thread(service.process.wait, PATIENCE) == 0
        finally:
            own_kafka.process.send_signal(signal.SIGCONT)


async def test_a_log_that_lost_its_end_stops_the_processor_instead_of_dropping_events(system: System) -> None:
    group, topic = f"{system.settings.topic_prefix}postlog-processor", system.topics.events.name
    consumer = AIOKafkaConsumer(**kafka.client_options(system.settings), group_id=group, enable_auto_commit=False)
    await consumer.start()
    consumer.assign([TopicPartition(topic, 0)])
    await consumer.commit({TopicPartition(topic, 0): 1000})
    await consumer.stop()
    processor = system.start("processor")
    assert await asyncio.to_thread(processor.process.wait, PATIENCE) == 1
    assert "lost its end" in processor.said()
    assert "postlog replay --after-loss" in processor.said()


async def test_a_lane_does_not_open_on_half_of_its_state(system: System) -> None:
    """What comes after an open transaction is hidden; with nobody left to end that one, for ever."""
    ingress, processor = system.start("ingress"), system.start("processor")
    await system.ready(ingress, processor)
    sent, seen = load(300, seed=8), system.topics.seen.name
    await system.deliver(ingress, sent.bodies)
    await system.caught_up()
    processor.kill()
    somebody = AIOKafkaProducer(**kafka.client_options(system.settings), transactional_id=f"{seen}-somebody")
    async with somebody:
        await somebody.begin_transaction()
        await somebody.send_and_wait(seen, b"value", key=b"key", partition=3)
        processor.restart()
        assert await asyncio.to_thread(processor.process.wait, PATIENCE) == 1
        assert f"{seen}-3: a transaction is open since offset" in processor.said()
        await somebody.abort_transaction()
    processor.restart()
    await system.ready(processor)
    await system.deliver(ingress, sent.bodies)
    await check(system, sent)


async def test_a_store_of_another_log_is_restored_anew(system: System) -> None:
    ingress, processor = system.start("ingress"), system.start("processor")
    await system.ready(ingress, processor)
    sent = load(300, seed=7)
    await system.deliver(ingress, sent.bodies)
    await system.caught_up()
    assert processor.stop() == 0
    for lane in processor.state.glob("*/*/lane-*"):
        store = open_store(lane)
        store.write({}, {system.topics.seen.name: Place(10**9)})
        store.close()
    processor.restart()
    await system.ready(processor)
    assert "store discarded" in processor.said()
    await system.deliver(ingress, sent.bodies)
    await check(system, sent)


async def _is_suppressed(system: System, email: str) -> bool:
    return email in await system.suppressed()


async def test_an_ingress_that_is_asked_to_stop_finishes_what_is_in_flight(system: System) -> None:
    ingress = system.start("ingress", INGRESS_WORKERS="2")
    await system.ready(ingress)
    accepted: set[int] = set()

    async def sender(start: int) -> None:
        number = start
        while True:
            try:
                status = await system.post(ingress, delivery(f"e{number}", "opened", f"p{number}@x.io"))
            except (aiohttp.ClientError, OSError):
                return
            if status == 200:
                accepted.add(number)
            number += 10

    senders = [asyncio.create_task(sender(start)) for start in range(10)]
    await until(lambda: _written(system, ingress, 300), "posts are in flight")
    assert await asyncio.to_thread(ingress.stop) == 0
    await asyncio.wait_for(asyncio.gather(*senders), PATIENCE)
    kept = {event["id"] for event in await system.events()}
    assert {f"e{number}" for number in accepted} <= kept
    assert len(accepted) >= 300


async def test_an_ingress_process_that_dies_is_replaced_and_its_siblings_go_on(system: System) -> None:
    ingress = system.start("ingress", INGRESS_WORKERS="2")
    await system.ready(ingress)
    children = psutil.Process(ingress.process.pid).children()
    assert len(children) == 2
    children[0].kill()
    await system.deliver(ingress, load(200, seed=6).bodies)
    await until(lambda: _says(ingress, "starting another"), "the dead process is replaced")
    assert ingress.stop() == 0


@pytest.mark.parametrize("spool", [False, True])
async def test_ingress_processes_are_replaced_without_a_delivery_that_is_not_answered_200(
    system: System, tmp_path: Path, spool: bool
) -> None:
    more = {"INGRESS_SPOOL_DIR": str(tmp_path / "spool")} if spool else {}
    ingress = system.start("ingress", INGRESS_WORKERS="2", **more)  # type: ignore[arg-type]
    await system.ready(ingress)
    parent = psutil.Process(ingress.process.pid)
    former = {child.pid for child in parent.children()}
    answers: Counter[int] = Counter()
    enough = asyncio.Event()

    async def provider(number: int) -> None:
        while not enough.is_set():
            body = delivery(f"{number}-{answers.total()}", "opened", f"{number}@x.io")
            answers[await system.post(ingress, body)] += 1

    providers = [asyncio.create_task(provider(number)) for number in range(8)]
    ingress.send(signal.SIGHUP)
    await until(lambda: _replaced(parent, former), "other processes listen")
    enough.set()
    await asyncio.gather(*providers)
    assert list(answers) == [200]
    await until(lambda: _kept(system, answers[200]), "all of them are in Kafka")
    assert ingress.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_connection_that_an_ingress_process_did_not_accept_waits_for_the_next_one(
    system: System, number: signal.Signals
) -> None:
    ingress = system.start("ingress", INGRESS_WORKERS="2")
    await system.ready(ingress)
    # The connection that `ready` was asked on is not to be used again: it is accepted.
    async with system.http.get(f"{ingress.url}/health/live", headers={"Connection": "close"}) as answer:
        assert answer.status == 200
    children = psutil.Process(ingress.process.pid).children()
    for child in children:
        child.suspend()
    # More than one of them gets: which it is the kernel decides.
    bodies = [delivery(str(count), "opened", "ann@x.io") for count in range(32)]
    posts = [asyncio.create_task(system.post(ingress, body)) for body in bodies]
    await until(lambda: _connected(int(ingress.url.rpartition(":")[2]), 32), "all are in the queues")
    for child in children:
        child.send_signal(number)
        child.resume()
    assert await asyncio.gather(*posts) == [200] * 32
    assert ingress.stop() == 0


async def _connected(port: int, count: int) -> bool:
    """Whether as many of this process's connections to the port are established."""
    mine = [other for other in psutil.Process().net_connections("tcp") if other.raddr and other.raddr.port == port]
    return [each.status for each in mine].count(psutil.CONN_ESTABLISHED) >= count


async def _kept(system: System, count: int) -> bool:
    return len({event["id"] for event in await system.events()}) == count


async def _replaced(parent: psutil.Process, former: set[int]) -> bool:
    children = {child.pid for child in parent.children()}
    return len(children) == 2 and not children & former


async def _says(service: Service, text: str) -> bool:
    return text in service.said()


@pytest.mark.parametrize("name", ["ingress", "processor", "alerter", "lookup"])
async def test_a_service_refuses_to_start_on_topics_that_are_not_as_the_file_says(
    system: System, name: str, tmp_path: Path
) -> None:
    file = tmp_path / "topics.yaml"
    file.write_text(TOPICS_FILE.replace("partitions: 12", "partitions: 24"))
    service = system.start(name, TOPICS_FILE=str(file))
    assert await asyncio.to_thread(service.process.wait, PATIENCE) == 2
    assert "partitions is 12, topics.yaml says 24" in service.said()


async def test_an_ingress_without_a_secret_refuses_to_start(system: System) -> None:
    service = system.start("ingress", WEBHOOK_SECRET="")
    assert await asyncio.to_thread(service.process.wait, PATIENCE) == 2
    assert "WEBHOOK_SECRET" in service.said()
    assert SECRET not in service.said()
