"""What postlog wants to be, as figures: each goal, whether a run met it, and by which figure.

Pure. A goal whose figures were not measured is neither met nor missed. Where a goal speaks of millions of ids and
fewer were measured, the largest case counts, and the row says which one it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from bench.figures import Medians, cases, largest, quotient, size, text, value

#: A figure, and the case that it is of where that is not plain from the goal.
Found = tuple[float, str]
Compute = Callable[[Medians], Found | None]
_NO_OP, _SYNC = "aiohttp no-op", "Flask + Redis (sync)"
_64 = "64 connections"
#: Share of a rate that must have been reached for a latency to count.
REACHED = 0.95
#: Who is ours in the section of the processor, and what a row says of it.
_OURS = {"postlog": "1 process", "postlog (2 processes)": "2 processes"}


@dataclass(frozen=True, slots=True)
class Goal:
    """One goal: the figure that `compute` gives is to be at least, or at most, the bound.

    unit  what stands behind the figure and the bound: `× aiohttp no-op`, `ms`
    """

    what: str
    sense: Literal["≥", "≤", "<"]
    bound: float
    unit: str
    compute: Compute

    @property
    def wanted(self) -> str:
        """The goal in words."""
        return f"{self.sense} {self.bound:,g} {self.unit}"


@dataclass(frozen=True, slots=True)
class Row:
    """What became of a goal: its figure, and the case it is of, where that matters.

    figure  None if it was not measured, infinite if what was measured is beyond any bound
    """

    what: str
    wanted: str
    figure: float | None
    unit: str
    case: str
    met: bool | None

    @property
    def told(self) -> str:
        """The figure in words."""
        if self.figure is None:
            return "–"
        if math.isinf(self.figure):
            return f"none: {self.case}"
        return f"{text(self.figure)} {self.unit}" + (f" ({self.case})" if self.case else "")

    @property
    def verdict(self) -> str:
        """met, missed or not measured."""
        return {None: "not measured", True: "met", False: "**missed**"}[self.met]


def rows(found: Medians) -> list[Row]:
    """Every goal against these medians."""
    return [_judged(goal, goal.compute(found)) for goal in GOALS]


def _judged(goal: Goal, answer: Found | None) -> Row:
    if answer is None:
        return Row(goal.what, goal.wanted, None, goal.unit, "", None)
    figure, case = answer
    met = {"≥": figure >= goal.bound, "≤": figure <= goal.bound, "<": figure < goal.bound}[goal.sense]
    return Row(goal.what, goal.wanted, figure, goal.unit, case, met)


def _figure(section: str, case: str, figure: str, candidate: str = "postlog") -> Compute:
    def compute(found: Medians) -> Found | None:
        number = value(found, section, case, candidate, figure)
        return None if number is None else (number, "")

    return compute


def _after(rate: str, figure: str) -> Compute:
    """A latency end to end; none is good enough if the rate was not reached."""

    def compute(found: Medians) -> Found | None:
        reached = value(found, "end to end", rate, "postlog", "events/s")
        number = value(found, "end to end", rate, "postlog", figure)
        if reached is not None and reached < REACHED * (size(rate) or 0):
            return math.inf, f"{text(reached)} events/s were reached"
        return None if number is None else (number, "")

    return compute


def _times(section: str, case: str, figure: str, other: str) -> Compute:
    """How many times the other's figure ours is, in the same case."""

    def compute(found: Medians) -> Found | None:
        ours, theirs = (value(found, section, case, who, figure) for who in ("postlog", other))
        times = quotient(ours, theirs)
        return None if times is None else (times, "")

    return compute


def _faster(other: str) -> Compute:
    """How many times the other's events/s of the processor ours are; each in the largest case that it has.

    Ours is what the machine gets done, with one process or two; the row says which.
    """

    def compute(found: Medians) -> Found | None:
        theirs = largest(found, "processor", other, "events/s")
        ours = [(largest(found, "processor", who, "events/s"), who) for who in _OURS]
        times = [(quotient(each[1], theirs[1]), who) for each, who in ours if each and theirs]
        return max(((t, _OURS[who]) for t, who in times if t is not None), default=None)

    return compute


def _ends(found: Medians, figure: str) -> tuple[float, float, str] | None:
    """The figure of an empty state and of the largest one, and which that is."""
    names = cases(found, "state", "postlog", figure)
    if len(names) < 2:
        return None
    first, last = (found["state", name, "postlog"][figure] for name in (names[0], names[-1]))
    return first, last, names[-1]


def _growth(found: Medians) -> Found | None:
    ends = _ends(found, "MB")
    return None if ends is None else (ends[1] - ends[0], f"at {ends[2]}")


def _kept(found: Medians) -> Found | None:
    ends = _ends(found, "events/s")
    times = quotient(ends[1], ends[0]) if ends else None
    return None if ends is None or times is None else (times, f"at {ends[2]}")


def _restored(found: Medians) -> Found | None:
    answer = largest(found, "state", "postlog", "restore records/s")
    return None if answer is None else (answer[1], f"at {answer[0]}")


GOALS = (
    Goal(
        "Ingress, 1 process, 64 connections",
        "≥",
        0.65,
        "× aiohttp no-op",
        _times("ingress", _64, "requests/s", _NO_OP),
    ),
    Goal(
        "Ingress, 1 process, 64 connections",
        "≥",
        6,
        "× Flask + Redis (sync)",
        _times("ingress", _64, "requests/s", _SYNC),
    ),
    Goal("Ingress, 1 process, 64 connections: p99", "≤", 15, "ms", _figure("ingress", _64, "p99 ms")),
    Goal("Ingress, batches of 100", "≥", 60_000, "events/s", _figure("ingress", "batches of 100", "events/s")),
    Goal("Processor", "≥", 2, "× Kafka Streams (exactly_once_v2)", _faster("Kafka Streams (exactly_once_v2)")),
    Goal("Processor", "≥", 3, "× Quix Streams", _faster("Quix Streams")),
    Goal("Processor", "≥", 30, "× stock Faust", _faster("stock Faust")),
    Goal("Processor, 20 million live ids: memory more than when empty", "<", 150, "MB", _growth),
    Goal("Processor, 20 million live ids: speed", "≥", 0.8, "× its speed when empty", _kept),
    Goal("Restore", "≥", 400_000, "changelog records/s", _restored),
    Goal("End to end, 2,000 events/s: p50", "≤", 30, "ms", _after("2,000 events/s", "p50 ms")),
    Goal("End to end, 2,000 events/s: p99", "≤", 80, "ms", _after("2,000 events/s", "p99 ms")),
    Goal(
        "Lookup, 1 process, GET one", "≥", 0.8, "× aiohttp no-op", _times("lookup", "GET one", "requests/s", _NO_OP)
    ),
    Goal("Idle, all services", "<", 3, "% of a core", _figure("idle", "all services", "% of a core")),
    Goal("Idle, all services without the broker", "<", 600, "MB", _figure("idle", "all services", "MB")),
)
