"""Which Kafka is used: the named one, else a container (in tests), else a local process, else a message of all."""

from __future__ import annotations

from pathlib import Path

import pytest

import tests.broker
from console import broker, kafka_jars
from pipeline.errors import BrokerStartFailed


@pytest.fixture
def nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable, no container engine, no jars."""

    def no_engine() -> str:
        raise BrokerStartFailed("no container engine answers")

    def no_jars(*_: object) -> list[Path]:
        raise BrokerStartFailed("no network")

    monkeypatch.delenv(broker.VARIABLE, raising=False)
    monkeypatch.setattr(tests.broker, "engine_host", no_engine)
    monkeypatch.setattr(kafka_jars, "class_path", no_jars)


@pytest.mark.usefixtures("nothing")
def test_named_brokers_are_used_and_nothing_else_is_tried(tmp_path: Path) -> None:
    with broker.open_broker({broker.VARIABLE: " kafka:9092 "}, tmp_path) as bootstrap:
        assert bootstrap == "kafka:9092"


@pytest.mark.usefixtures("nothing")
def test_tests_use_named_brokers_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(broker.VARIABLE, "kafka:9092")
    with tests.broker.open_broker(tmp_path) as bootstrap:
        assert bootstrap == "kafka:9092"


@pytest.mark.usefixtures("nothing")
def test_when_no_way_is_open_the_message_names_all_three(tmp_path: Path) -> None:
    every = r"KAFKA_BOOTSTRAP_SERVERS: not set.*\n.*no container engine answers\n.*local process: no network"
    with pytest.raises(BrokerStartFailed, match=every), tests.broker.open_broker(tmp_path):
        pass


@pytest.mark.usefixtures("nothing")
def test_an_empty_variable_names_no_broker(tmp_path: Path) -> None:
    with pytest.raises(BrokerStartFailed), broker.open_broker({broker.VARIABLE: ""}, tmp_path):
        pass
