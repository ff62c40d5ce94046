"""The stack with real child processes that only answer health checks."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from console import processes, stack
from console.fetch import Answer
from console.stack import Change, Service, Stack
from pipeline.errors import ConfigError

FAKE = Path(__file__).parent / "fake_service.py"
#: Seconds after which a test that waits gives up.
PATIENCE = 20.0


def fake(folder: Path, name: str, *what: str, stage: int = 0) -> Service:
    port = processes.free_port()
    return Service(
        name=name,
        argv=[sys.executable, str(FAKE), str(port), str(folder / "events"), f"name={name}", *what],
        env={},
        log=folder / f"{name}.log",
        url=f"http://127.0.0.1:{port}",
        stage=stage,
    )


@contextmanager
def running(*services: Service) -> Iterator[Stack]:
    found = Stack(services)
    try:
        yield found
    finally:
        found.stop(within=5.0)


def until(run: Stack, reached: Callable[[], bool]) -> list[Change]:
    """Tick until then; all that changed."""
    changes = run.tick()
    deadline = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < deadline, changes
        time.sleep(0.02)
        changes += run.tick()
    return changes


def events(folder: Path) -> list[str]:
    return (folder / "events").read_text().splitlines()


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_stack_is_ready_when_every_service_is(tmp_path: Path) -> None:
    with running(fake(tmp_path, "one"), fake(tmp_path, "two")) as run:
        assert not run.ready
        changes = until(run, lambda: run.ready)
    assert {(change.service, change.state) for change in changes} == {("one", "ready"), ("two", "ready")}


def test_a_service_that_dies_is_started_again_with_growing_waits(tmp_path: Path) -> None:
    with running(fake(tmp_path, "frail", "die=0.1", "code=7")) as run:
        changes = until(run, lambda: run.children[0].restarts == 3)
    waits = [change.detail for change in changes if change.state == "waiting"]
    assert waits == [f"exit code 7, again in {delay} s: something broke" for delay in ("0.5", "1", "2")]
    assert events(tmp_path).count("started frail") == 3


def test_after_a_good_run_the_waits_begin_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("console.restarts.GOOD_RUN", 0.0)  # every run is good
    with running(fake(tmp_path, "frail", "die=0.1")) as run:
        changes = until(run, lambda: run.children[0].restarts == 3)
    waits = [change.detail for change in changes if change.state == "waiting"]
    assert waits == ["exit code 1, again in 0.5 s: something broke"] * 3


def test_a_service_that_refuses_its_configuration_ends_it_all_with_its_reason(tmp_path: Path) -> None:
    good = fake(tmp_path, "good")
    with running(good, fake(tmp_path, "bad", "refuse")) as run, pytest.raises(ConfigError) as error:
        until(run, lambda: False)
    assert str(error.value) == "bad refused to start: [error] refused to start: FAKE_SETTING is not set"
    assert events(tmp_path).count("started bad") == 1
    assert not run.pids()


def test_the_reason_shown_is_never_one_of_an_earlier_run(tmp_path: Path) -> None:
    service = fake(tmp_path, "frail")
    service.log.write_text("an old story\n")
    with running(service) as run:
        until(run, lambda: run.ready)
        os.kill(run.pids()["frail"], signal.SIGKILL)
        until(run, lambda: run.children[0].restarts == 1)
        assert "old story" not in run.children[0].detail


def test_stages_start_in_rising_and_stop_in_falling_order(tmp_path: Path) -> None:
    first, second, third = (fake(tmp_path, name, stage=stage) for stage, name in enumerate(("a", "b", "c")))
    with running(third, first, second) as run:
        until(run, lambda: run.ready)
        assert [child.service.name for child in run.children] == ["a", "b", "c"]
        pids = run.pids()
    assert [event for event in events(tmp_path) if event.startswith("stopped")] == [
        "stopped c",
        "stopped b",
        "stopped a",
    ]
    assert not any(exists(pid) for pid in pids.values())


def test_stopping_is_bounded_although_a_service_does_not_listen(tmp_path: Path) -> None:
    with running(fake(tmp_path, "deaf", "stubborn", stage=1), fake(tmp_path, "good", "slow=0.2")) as run:
        until(run, lambda: run.ready)
        pids = run.pids()
        started = time.monotonic()
        run.stop(within=2.0)
        assert time.monotonic() - started < 2.5
    assert not any(exists(pid) for pid in pids.values())
    assert "stopped good" in events(tmp_path), "what comes after a deaf service still has time to stop in order"


def test_a_service_that_says_it_is_not_live_is_started_again(tmp_path: Path) -> None:
    with running(fake(tmp_path, "ill", "sick")) as run:
        until(run, lambda: run.children[0].restarts == 1)
    assert events(tmp_path)[:2] == ["started ill", "stopped ill"]


def test_a_silent_service_is_shown_as_not_ready_and_left_alone(tmp_path: Path) -> None:
    with running(fake(tmp_path, "frozen")) as run:
        until(run, lambda: run.ready)
        pid = run.pids()["frozen"]
        os.kill(pid, signal.SIGSTOP)
        until(run, lambda: run.children[0].state == "not ready")
        assert run.children[0].detail == "no answer"
        os.kill(pid, signal.SIGCONT)
        until(run, lambda: run.ready)
        assert run.pids() == {"frozen": pid}


def test_what_a_service_says_about_not_being_ready_fits_into_a_line() -> None:
    body = b'{"ok": false, "joined": true, "opening": [3, 7], "lanes": [{"partition": 3}], "none": []}'
    assert stack.unready(Answer(503, body)) == "joined True, opening [3, 7]"
    assert stack.unready(Answer(502, b"<html>")) == "answered 502"
    assert stack.unready(None) == "no answer"
