"""Child processes: they stop when told, and never outlive us."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from console import processes

SLEEP = "import time; time.sleep(60)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"


@contextmanager
def child(code: str, output: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A Python child that runs `code`, says so and sleeps; and a descriptor at whose end all that hold its other
    side are gone."""
    ours, theirs = os.pipe()
    try:
        said = f"import os; os.write({theirs}, b'!')"
        process = processes.start(
            [sys.executable, "-c", f"{code}\n{said}\n{SLEEP}"], env={}, output=output, keep_open=[theirs]
        )
    finally:
        os.close(theirs)
    try:
        assert read(ours) == b"!"
        yield process, ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def read(descriptor: int) -> bytes:
    """What comes next on a pipe, b"" at its end; never waits for long."""
    ready, _, _ = select.select([descriptor], [], [], 10)
    assert ready, "nothing came"
    return os.read(descriptor, 100)


def test_a_child_stops_when_asked(tmp_path: Path) -> None:
    with child("", tmp_path / "log") as (process, _):
        assert processes.stop(process, 10) == -signal.SIGTERM


def test_a_child_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    with child(STUBBORN, tmp_path / "log") as (process, _):
        assert processes.stop(process, 0.1) == -signal.SIGKILL


def test_a_frozen_child_stops_when_asked(tmp_path: Path) -> None:
    with child("", tmp_path / "log") as (process, _):
        process.send_signal(signal.SIGSTOP)
        assert processes.stop(process, 10) == -signal.SIGTERM


def test_a_child_that_has_ended_can_be_stopped_again(tmp_path: Path) -> None:
    with child("", tmp_path / "log") as (process, _):
        processes.stop(process, 10)
        assert processes.stop(process, 10) == -signal.SIGTERM


def test_what_a_child_started_ends_with_it(tmp_path: Path) -> None:
    forked = f"{STUBBORN}\nimport os\nif os.fork() == 0:\n    {SLEEP}\nsignal.signal(signal.SIGTERM, signal.SIG_DFL)"
    with child(forked, tmp_path / "log") as (process, pipe):
        processes.stop(process, 10)
        assert read(pipe) == b""


def test_a_child_has_exactly_the_environment_it_is_given(tmp_path: Path) -> None:
    code = "import os; print(sorted(os.environ), flush=True)"
    env = {"ONE": "1", "LC_ALL": "C.UTF-8"}
    processes.start([sys.executable, "-c", code], env=env, output=tmp_path / "log").wait(10)
    assert (tmp_path / "log").read_text() == "['LC_ALL', 'ONE']\n"


def test_both_outputs_are_appended_to_the_file(tmp_path: Path) -> None:
    log = tmp_path / "new" / "log"
    for text in ("one", "two"):
        code = f"import sys; print('{text}', file=sys.stderr); print('out')"
        processes.start([sys.executable, "-c", code], env={}, output=log).wait(10)
    assert sorted(log.read_text().split()) == ["one", "out", "out", "two"]


def test_a_lock_that_a_child_keeps_open_is_held_until_it_ends(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        sleeper = processes.start(
            ["sleep", "60"], env=dict(os.environ), output=tmp_path / "log", keep_open=[lock.fileno()]
        )
    with (tmp_path / "lock").open("w") as again:
        try:
            with pytest.raises(BlockingIOError):
                fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            processes.stop(sleeper, 10)
        fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent was killed")
def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    ours, theirs = os.pipe()
    code = f"""
import os, sys, time
from pathlib import Path
from console import processes
processes.start(["sleep", "60"], env=dict(os.environ), output=Path({str(tmp_path / "log")!r}), keep_open=[{theirs}])
os.write({theirs}, b"!")
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], pass_fds=[theirs])
    os.close(theirs)
    try:
        assert read(ours) == b"!"
    finally:
        parent.kill()
        parent.wait()
    assert read(ours) == b""
    os.close(ours)


def test_a_free_port_is_none_that_an_outgoing_connection_could_take() -> None:
    port = processes.free_port()
    assert port < 32_768
    assert processes.can_bind("127.0.0.1", port)


def test_a_port_with_a_listener_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not processes.can_bind("127.0.0.1", server.getsockname()[1])
