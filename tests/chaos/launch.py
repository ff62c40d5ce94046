"""Runs a service as `python -m SERVICE` would, with a clock that can be stepped and, if asked, deliberately broken.

    python -m tests.chaos.launch SERVICE CLOCKFILE [BREAKAGE]

The clock file holds seconds to add to the time of day, as text; it is read again at every look at the clock. What
counts seconds that pass (the monotonic clock) is not stepped, as on a real machine.
"""

from __future__ import annotations

import runpy
import sys
import time
from pathlib import Path

from tests.chaos import broken

#: Seconds between two looks at the file: services ask for the time tens of thousands of times a second.
LOOK_SECONDS = 0.2


def step_with(file: Path) -> None:
    """Let the time of day follow the file."""
    real, monotonic = time.time, time.monotonic
    state = [0.0, 0.0]  # when it was looked at, and what it said

    def now() -> float:
        passed = monotonic()
        if passed - state[0] > LOOK_SECONDS:
            state[0] = passed
            state[1] = float(file.read_text() or 0) if file.exists() else 0.0
        return real() + state[1]

    time.time = now
    time.time_ns = lambda: int(now() * 1e9)


if __name__ == "__main__":
    service, clock, *breakage = sys.argv[1:]
    step_with(Path(clock))
    for name in breakage:
        broken.BUILDS[name]()
    sys.argv = [service]
    runpy.run_module(service, run_name="__main__", alter_sys=True)
