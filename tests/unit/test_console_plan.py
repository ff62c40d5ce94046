"""What `postlog up` starts, and what it shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from console import display, options, plan
from console.metrics import Alerts, Rates, Totals
from console.plan import Process
from console.running import Folder
from console.stack import Change, exit_words
from console.system import Wish
from pipeline.settings import Settings, load

FOLDER = Folder(Path("data"))


def test_everything_else_runs_without_processors() -> None:
    planned = plan.processes(Settings(), processors=0)
    assert [process.name for process in planned] == ["alerter", "lookup", "ingress"]
    running = plan.running(planned, "127.0.0.1:9092", {})
    assert (running.processor, running.processors) == ("", [])


def test_every_service_runs_once_and_the_processor_as_often_as_wished() -> None:
    planned = plan.processes(Settings(), processors=3)
    assert [process.name for process in planned] == [
        "alerter",
        "lookup",
        "processor",
        "processor-2",
        "processor-3",
        "ingress",
    ]
    ports = {process.name: process.port for process in planned}
    assert ports == {
        "ingress": 8080,
        "processor": 8081,
        "alerter": 8082,
        "lookup": 8083,
        "processor-2": 0,
        "processor-3": 0,
    }


def test_a_process_gets_the_environment_with_its_own_port_and_state() -> None:
    environ = {"WEBHOOK_SECRET": "long-enough", "PROCESSOR_PORT": "1", "PATH": "/bin"}
    service = plan.service(Process("processor", 2, "127.0.0.1", 4711), FOLDER, environ)
    settings = load(service.env)
    assert (settings.processor_port, settings.state_dir) == (4711, "data/state/processor-2")
    assert (settings.webhook_secret, service.env["PATH"]) == ("long-enough", "/bin")
    assert service.log == Path("data/logs/processor-2.log")
    assert service.argv[1:] == ("-m", "processor")


def test_what_takes_work_in_stops_first() -> None:
    planned = plan.processes(Settings(), processors=2)
    services = [plan.service(process, FOLDER, {}) for process in planned]
    stopping = [service.name for service in sorted(services, key=lambda s: -s.stage)]
    assert stopping[0] == "ingress"
    assert stopping[1:3] == ["processor", "processor-2"]
    assert set(stopping[3:]) == {"alerter", "lookup"}


@pytest.mark.parametrize(
    ("environ", "auto", "port"),
    [
        ({}, False, 9092),
        ({}, True, 0),
        ({"KAFKA_BOOTSTRAP_SERVERS": " "}, False, 9092),
        ({"KAFKA_BOOTSTRAP_SERVERS": "b:1"}, True, None),
    ],
)
def test_a_kafka_of_our_own_runs_only_if_none_is_named(environ: dict[str, str], auto: bool, port: int | None) -> None:
    assert Wish(load(environ), environ, FOLDER, auto=auto).kafka_port == port


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:1"),
        ("0.0.0.0", "http://127.0.0.1:1"),
        ("::", "http://[::1]:1"),
        ("fd00::7", "http://[fd00::7]:1"),
        ("ingress.internal", "http://ingress.internal:1"),
    ],
)
def test_a_server_on_all_interfaces_is_reached_by_the_loopback_one(host: str, url: str) -> None:
    assert options.url(host, 1) == url


def test_the_numbers_fit_into_one_line() -> None:
    totals = Totals(
        deliveries=1200,
        refused=0,
        events_in=1200,
        pending=0,
        processed=1100,
        duplicates=90,
        suppression_writes=300,
        dead_letters=2,
        owed=0,
        lag=100,
    )
    assert display.numbers(totals, Rates(events_in=250.4, processed=None)) == (
        "1,200 events in (250/s) · 1,100 processed · 90 duplicates · 300 suppressions written · 2 dead letters"
        " · lag 100"
    )
    assert display.alerts(Alerts(0.5, 1, 3)).startswith("alerter: heartbeat 0.5 s ago · 1 alerts")


def test_a_change_is_one_line_with_its_reason() -> None:
    assert display.line(Change("ingress", "ready")) == "ingress: ready"
    assert display.line(Change("ingress", "waiting", exit_words(-9))) == "ingress: waiting (killed by SIGKILL)"
    assert exit_words(1) == "exit code 1"
