"""The local Kafka: it keeps what it acknowledged, comes back where it was, and leaves nothing running."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from console import kafka_jars, local_kafka, processes
from console.local_kafka import LocalKafka
from pipeline import kafka
from pipeline.errors import BrokerStartFailed
from pipeline.settings import Settings

TOPIC_COMMAND = "org.apache.kafka.tools.TopicCommand"


def create(broker: LocalKafka, topic: str) -> None:
    created = broker.tool(TOPIC_COMMAND, "--bootstrap-server", broker.bootstrap, "--create", "--topic", topic)
    assert created.returncode == 0, created.stdout + created.stderr


async def write(broker: LocalKafka, topic: str, value: bytes) -> None:
    """One record, in a transaction: that needs the broker's own topic to be writable by one node."""
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap, transactional_id=topic)
    async with producer, producer.transaction():
        await producer.send_and_wait(topic, value)


async def read(broker: LocalKafka, topic: str) -> bytes | None:
    """The first record of a topic that has one."""
    consumer = AIOKafkaConsumer(bootstrap_servers=broker.bootstrap, isolation_level="read_committed")
    async with consumer:
        consumer.assign([TopicPartition(topic, 0)])
        await consumer.seek_to_beginning()
        value: bytes | None = (await consumer.getone()).value
    return value


async def test_a_record_survives_a_kill_and_the_broker_comes_back_where_it_was(own_kafka: LocalKafka) -> None:
    address, killed = own_kafka.bootstrap, own_kafka.process
    create(own_kafka, "kept")
    await write(own_kafka, "kept", b"value")

    own_kafka.kill()
    assert killed.poll() == -signal.SIGKILL
    own_kafka.start()

    assert own_kafka.bootstrap == address
    assert own_kafka.process.pid != killed.pid
    assert await read(own_kafka, "kept") == b"value"
    await write(own_kafka, "kept", b"another")


def test_the_same_folder_is_the_same_cluster_and_nothing_runs_after_a_stop(own_kafka: LocalKafka) -> None:
    create(own_kafka, "kept")
    own_kafka.start()  # nothing happens
    own_kafka.stop()
    assert own_kafka.process.returncode == 128 + signal.SIGTERM
    assert processes.can_bind("127.0.0.1", int(own_kafka.bootstrap.partition(":")[2]))
    own_kafka.stop()

    with LocalKafka(own_kafka.folder) as again:
        assert again.bootstrap == own_kafka.bootstrap
        listed = again.tool(TOPIC_COMMAND, "--bootstrap-server", again.bootstrap, "--list")
    assert listed.stdout.split() == ["kept"]
    assert listed.stderr == ""


PARENT = """
import json, sys
from pathlib import Path
from console.local_kafka import LocalKafka
kafka = LocalKafka(Path(sys.argv[1]))
kafka.start()
resolvers = sorted({"jgo", "requests"} & set(sys.modules))
print(json.dumps({"pid": kafka.process.pid, "bootstrap": kafka.bootstrap, "resolvers": resolvers}), flush=True)
sys.stdin.read()
"""


@contextmanager
def parent(folder: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """Another process that runs a broker, and what it says about it; every network but loopback is closed to it."""
    nowhere = f"http://127.0.0.1:{processes.free_port()}"
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(folder)],
        env={**os.environ, "HTTPS_PROXY": nowhere, "HTTP_PROXY": nowhere},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


def test_a_start_from_the_cache_needs_neither_network_nor_resolver(tmp_path: Path) -> None:
    kafka_jars.class_path()
    with parent(tmp_path) as (_, said):
        assert said["resolvers"] == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent was killed")
def test_a_broker_ends_with_its_killed_parent_and_its_folder_is_free_at_once(tmp_path: Path) -> None:
    kafka_jars.class_path()
    with parent(tmp_path) as (process, said):
        process.send_signal(signal.SIGKILL)
        process.wait()
        # It waits for the folder, and the folder for the old broker's end.
        with LocalKafka(tmp_path) as again:
            assert again.bootstrap == said["bootstrap"]
            assert not runs(said["pid"])


def runs(pid: int) -> bool:
    """Whether this process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_two_brokers_never_share_a_folder(own_kafka: LocalKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_kafka, "_FOLDER_SECONDS", 0.2)
    with pytest.raises(BrokerStartFailed, match="another Kafka runs in"):
        LocalKafka(own_kafka.folder).start()
    assert own_kafka.process.poll() is None


def test_a_remembered_port_that_somebody_has_taken_is_changed_and_a_folder_may_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "Kafkas Dätä"
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        taken = somebody.getsockname()[1]
        (folder / "ports.json").write_text(json.dumps({"broker": taken, "controller": processes.free_port()}))
        with LocalKafka(folder) as broker:
            assert broker.bootstrap != f"127.0.0.1:{taken}"
            assert LocalKafka(folder).bootstrap == broker.bootstrap


def test_a_port_that_was_asked_for_and_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        port = somebody.getsockname()[1]
        with pytest.raises(BrokerStartFailed, match=rf"port {port} .* is taken"):
            LocalKafka(tmp_path, port=port).start()


def test_a_broker_that_ends_while_it_starts_shows_the_end_of_its_log(tmp_path: Path) -> None:
    broker = LocalKafka(tmp_path, heap_mib=1)
    with pytest.raises(BrokerStartFailed, match=r"ended with exit code 1[\s\S]*heap"):
        broker.start()
    assert broker.process.poll() is not None


async def test_a_test_has_the_topics_of_topics_yaml_for_itself(settings: Settings) -> None:
    assert await kafka.check(settings) == []
    assert settings.topic_prefix
