"""Runs services as child processes: starts them, watches them, starts again what dies, stops them in order.

Synchronous and without threads: the owner calls `tick()` a few times a second and shows what it returns. When a
service is started again is restarts.py's business. What always holds: `stop()` leaves no process behind.
"""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from console import processes, restarts
from console.fetch import Answer, fetch
from pipeline.errors import ConfigError
from pipeline.service import REFUSED

State = Literal["starting", "ready", "not ready", "waiting", "stopped"]
Probe = Callable[[Collection[str]], Mapping[str, Answer | None]]

#: Where every service says how it is (pipeline.service).
READY = "/health/ready"
LIVE = "/health/live"
#: Seconds between two looks at a service's health, while it starts and after.
PROBE_STARTING = 0.25
PROBE_READY = 1.0
#: Looks in a row at which a service says that it is not live, before it is believed and started again.
NOT_LIVE = 3
#: Seconds a service that is not live has to stop before it is killed.
STOP_SECONDS = 5.0
#: Seconds of the time to stop that are kept for each later stage.
RESERVED = 0.75


@dataclass(frozen=True, slots=True)
class Service:
    """One process to run.

    url    where it serves /health/live and /health/ready
    stage  started in rising order, stopped in falling order; one stage is stopped at once
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    log: Path
    url: str
    stage: int = 0


@dataclass(frozen=True, slots=True)
class Change:
    """A service came into a state; detail says why, and is empty where the state says it all."""

    service: str
    state: State
    detail: str = ""


@dataclass(slots=True)
class Child:
    """A service and what became of it; times are of the monotonic clock. Only the stack changes it."""

    service: Service
    state: State = "starting"
    detail: str = ""
    restarts: int = 0
    process: subprocess.Popen[bytes] | None = None
    start_at: float = 0.0
    probe_at: float = 0.0
    kill_at: float | None = None
    ready_since: float | None = None
    last_delay: float | None = None
    not_live: int = 0
    log_from: int = 0

    @property
    def pid(self) -> int | None:
        """Its process id while it has one."""
        return self.process.pid if self.process else None


@dataclass(slots=True)
class Stack:
    """The services and their processes. Call it from the main thread (see processes.start)."""

    services: Iterable[Service]
    probe: Probe = fetch
    children: list[Child] = field(init=False)

    def __post_init__(self) -> None:
        self.children = [Child(service) for service in sorted(self.services, key=lambda s: s.stage)]

    @property
    def ready(self) -> bool:
        """Whether every service is ready."""
        return all(child.state == "ready" for child in self.children)

    def pids(self) -> dict[str, int]:
        """The process ids of what runs, by service name."""
        return {child.service.name: child.process.pid for child in self.children if child.process}

    def tick(self) -> list[Change]:
        """Look at everything once, start what is due; the states that changed since the last call.

        Raises ConfigError with its reason when a service refused to start.
        """
        now = time.monotonic()
        before = [child.state for child in self.children]
        for child in self.children:
            self._look_at_process(child, now)
        self._look_at_health(now)
        return [
            Change(child.service.name, child.state, child.detail)
            for child, was in zip(self.children, before, strict=True)
            if child.state != was
        ]

    def stop(self, within: float) -> None:
        """Stop everything, stage by stage, and kill what has not stopped after `within` seconds in all."""
        deadline = time.monotonic() + within
        stages = sorted({child.service.stage for child in self.children}, reverse=True)
        for later, stage in zip(reversed(range(len(stages))), stages, strict=True):
            running = [(c, c.process) for c in self.children if c.service.stage == stage and c.process]
            for _, process in running:
                processes.ask_to_stop(process)
            for child, process in running:
                processes.end(process, max(0.0, deadline - RESERVED * later - time.monotonic()))
                child.process, child.state, child.detail = None, "stopped", ""

    def _look_at_process(self, child: Child, now: float) -> None:
        if child.process is None:
            if now >= child.start_at:
                self._start(child, now)
        elif child.process.poll() is not None:
            self._ended(child, child.process, now)
        elif child.kill_at is not None and now >= child.kill_at:
            child.process.kill()

    def _start(self, child: Child, now: float) -> None:
        service = child.service
        child.log_from = service.log.stat().st_size if service.log.exists() else 0
        child.process = processes.start(service.argv, env=service.env, output=service.log)
        child.state, child.detail = "starting", ""
        child.probe_at, child.kill_at, child.ready_since, child.not_live = now, None, None, 0

    def _ended(self, child: Child, process: subprocess.Popen[bytes], now: float) -> None:
        processes.kill_children_of(process)
        child.process = None
        code, reason = process.returncode, last_line(child.service.log, child.log_from)
        ready_for = now - child.ready_since if child.ready_since is not None else 0.0
        match restarts.after_exit(refused=code == REFUSED, last_delay=child.last_delay, ready_for=ready_for):
            case restarts.Never():
                told = reason or f"see {child.service.log}"
                raise ConfigError(f"{child.service.name} refused to start: {told}")
            case restarts.Again(delay):
                child.last_delay, child.start_at = delay, now + delay
                child.restarts += 1
                ended = f"{exit_words(code)}, again in {delay:g} s"
                child.state, child.detail = "waiting", f"{ended}: {reason}" if reason else ended

    def _look_at_health(self, now: float) -> None:
        due = [child for child in self.children if child.process and now >= child.probe_at]
        if not due:
            return
        answers = self.probe([f"{child.service.url}{path}" for child in due for path in (READY, LIVE)])
        for child in due:
            self._ready_or_not(child, answers[f"{child.service.url}{READY}"], now)
            self._live_or_not(child, answers[f"{child.service.url}{LIVE}"], now)
            child.probe_at = now + (PROBE_READY if child.state == "ready" else PROBE_STARTING)

    def _ready_or_not(self, child: Child, answer: Answer | None, now: float) -> None:
        if answer is not None and answer.status == 200:
            child.state, child.detail = "ready", ""
            child.ready_since = child.ready_since or now
        elif child.ready_since is not None:
            child.state, child.detail = "not ready", unready(answer)
        else:
            # Its own words are shown, but a silent one is only starting.
            child.detail = unready(answer) if answer else ""

    def _live_or_not(self, child: Child, answer: Answer | None, now: float) -> None:
        """Start again what says of itself that it should be; silence is not that: a loaded machine is silent too."""
        child.not_live = child.not_live + 1 if answer is not None and answer.status == 503 else 0
        if child.not_live >= NOT_LIVE and child.kill_at is None and child.process:
            processes.ask_to_stop(child.process)
            child.kill_at = now + STOP_SECONDS


def unready(answer: Answer | None) -> str:
    """What a service says about not being ready, in one line; its details are JSON by `pipeline.service`."""
    if answer is None:
        return "no answer"
    try:
        details = json.loads(answer.body)
    except ValueError:
        details = None
    if not isinstance(details, dict):
        return f"answered {answer.status}"
    plain = {name: value for name, value in details.items() if name != "ok" and not isinstance(value, dict)}
    told = [f"{name} {value}" for name, value in plain.items() if not (isinstance(value, list) and _nested(value))]
    return ", ".join(told) or f"answered {answer.status}"


def _nested(values: list[object]) -> bool:
    """Whether this is too much for one line, such as a list of what each lane does."""
    return not values or any(isinstance(value, dict | list) for value in values)


def exit_words(code: int) -> str:
    """An exit code in words; negative codes are signals."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def last_line(log: Path, start: int) -> str:
    """The last line that is not blank of what was written to a log from byte `start` on, "" if there is none."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(start, size - 8192))
            lines = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
