"""The ports that `postlog up` settles on."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from console import plan, ports
from console.plan import Process
from pipeline.errors import ConfigError
from pipeline.settings import Settings


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


def test_auto_gives_every_process_another_free_port() -> None:
    settled = ports.settle(plan.processes(Settings(), 20), kafka=0, auto=True, patience=0)
    assert len({process.port for process in settled} - {0}) == len(settled) == 23


def test_a_planned_port_that_is_free_is_kept_and_any_port_is_found() -> None:
    [free] = ports.settle([Process("lookup", 1, "127.0.0.1", 0)], kafka=0, auto=False, patience=0)
    assert free.port
    assert ports.settle([free], kafka=0, auto=False, patience=0) == [free]


def test_taken_ports_are_all_named_with_a_way_out(taken: int) -> None:
    with pytest.raises(ConfigError) as error:
        ports.settle([Process("ingress", 1, "127.0.0.1", taken)], kafka=taken, auto=False, patience=0)
    assert f"port {taken} (ingress), port {taken} (kafka)" in str(error.value)
    assert "--ports auto" in str(error.value)
