"""Runs the `postlog` command as a person would, and waits for what it does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests.e2e import access

T = TypeVar("T")

#: Seconds after which a command or a wait has failed.
PATIENCE = 90.0


def postlog(*args: str | Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    env = access.of(access.user_of(*args), env)
    return subprocess.run(argv(*args), env=whole(env), capture_output=True, text=True, timeout=PATIENCE, check=False)


def argv(*args: str | Path) -> list[str]:
    return [sys.executable, "-m", "console", *map(str, args)]


def whole(env: Mapping[str, str]) -> dict[str, str]:
    """The environment of a person's shell, without what would configure postlog."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "XDG_CACHE_HOME") if name in os.environ} | dict(env)


def until(answer: Callable[[], T | None], what: str, patience: float = PATIENCE) -> T:
    """The first answer that is not None (nor False)."""
    deadline = time.monotonic() + patience
    while (found := answer()) is None or found is False:
        assert time.monotonic() < deadline, f"waited {patience:g} s in vain until {what}"
        time.sleep(0.1)
    return found


def exists(pid: int) -> bool:
    """Whether a process lives; one that is only waiting to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return _answers(pid) if sys.platform != "linux" else False
    return state != "Z"


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@dataclass
class Up:
    """A `postlog up` that runs."""

    process: subprocess.Popen[bytes]
    data: Path
    env: Mapping[str, str]
    output: Path

    def run(self, *args: str | Path) -> subprocess.CompletedProcess[str]:
        """Run another command on the same data."""
        return postlog(*args, "--data", self.data, env=self.env)

    def ask(self, *args: str | Path) -> Any:
        """Run another command on the same data; the JSON that it prints."""
        result = self.run(*args, "--json")
        assert result.stdout, result.stderr
        return json.loads(result.stdout)

    def pids(self) -> dict[str, int]:
        """Process ids by service."""
        pids: dict[str, int] = json.loads((self.data / "run.json").read_text())["pids"]
        return pids

    def said(self) -> str:
        return self.output.read_text()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


@contextmanager
def up(folder: Path, *args: str | Path, **env: str) -> Iterator[Up]:
    """`postlog up` on free ports, once it said that it is ready; in the end killed with all it started."""
    ready, output = folder / "ready.json", folder / "up.log"
    env = {"XDG_STATE_HOME": str(folder / "remembered")} | env
    line = argv("up", "--data", folder / "data", "--ports", "auto", "--ready-file", ready, *args)
    with output.open("wb") as sink:
        process = subprocess.Popen(line, env=whole(env), stdin=subprocess.DEVNULL, stdout=sink, stderr=sink)
    found = Up(process, folder / "data", env, output)
    try:
        until(lambda: ready.exists() or process.poll() is not None, "everything is ready")
        assert process.poll() is None, found.said()
        yield found
    finally:
        # Its children end with it; see console/processes.py.
        process.kill()
        process.wait()
