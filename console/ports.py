"""Which ports `postlog up` uses: the planned ones if they are free, or any that are."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from console import broker, processes
from console.plan import Process
from pipeline import listening
from pipeline.errors import ConfigError

_PAUSE = 0.25
KAFKA = "kafka"


def settle(planned: Sequence[Process], *, kafka: int, auto: bool, patience: float) -> list[Process]:
    """The processes on ports that are free now; a planned port of 0, and with `auto` every port, is any free one.

    kafka     port of the local broker, 0 if that is none of our business
    patience  seconds to wait for ports to get free

    Raises ConfigError naming those that are taken, or that nobody could have.
    """
    used: set[int] = set()
    settled = [process if process.port and not auto else replace(process, port=_another(used)) for process in planned]
    wanted = [(process.name, process.host, process.port) for process in settled]
    if kafka:
        wanted.append((KAFKA, "127.0.0.1", kafka))
    deadline = time.monotonic() + patience
    while taken := [f"port {port} ({name})" for name, host, port in wanted if not _free(name, host, port)]:
        if time.monotonic() >= deadline:
            raise ConfigError(
                f"taken by another process: {', '.join(taken)}. Stop what listens there, set other ports "
                "(see postlog settings), or take any that are free with --ports auto."
            )
        time.sleep(_PAUSE)
    return settled


def _free(name: str, host: str, port: int) -> bool:
    try:
        return processes.can_bind(host, port)
    except (OSError, UnicodeError) as error:
        # `processor-2` shares its host with the first one.
        its_own = listening.settings_of(name.partition("-")[0])
        names = (broker.VARIABLE, broker.VARIABLE) if name == KAFKA else its_own
        raise listening.refused(host, port, error, *names) from None


def _another(used: set[int]) -> int:
    """A free port that this call has not given out yet."""
    port = processes.free_port()
    while port in used:
        port = processes.free_port()
    used.add(port)
    return port
