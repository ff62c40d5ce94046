"""When a service that ended is started again.

Pure: how the last run ended and how long it was good for. stack.py watches the processes.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Seconds until the first new start; doubled for each one that follows, up to the longest.
FIRST_DELAY = 0.5
LONGEST_DELAY = 10.0
#: A run that was ready this many seconds was a good one: its end is a new problem, not the old one again.
GOOD_RUN = 30.0


@dataclass(frozen=True, slots=True)
class Again:
    """Start it again after `delay` seconds."""

    delay: float


@dataclass(frozen=True, slots=True)
class Never:
    """It refused its configuration, and would again; only a person can mend that."""


def after_exit(*, refused: bool, last_delay: float | None, ready_for: float) -> Again | Never:
    """What to do about a service that ended though nobody asked it to.

    refused     it exited with the code that says so (pipeline.service)
    last_delay  seconds waited before this run, None if it was the first
    ready_for   seconds since it was ready first in this run, 0 if it never was
    """
    if refused:
        return Never()
    if last_delay is None or ready_for >= GOOD_RUN:
        return Again(FIRST_DELAY)
    return Again(min(last_delay * 2, LONGEST_DELAY))
