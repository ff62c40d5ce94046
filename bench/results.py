"""What was measured, as values: samples of rounds, their medians, and ratios between candidates.

Pure. Absolute figures belong to one machine and one run; what is compared with anything is a ratio of two of them.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable

import msgspec

Figures = dict[str, float]


class Sample(msgspec.Struct, frozen=True):
    """One candidate in one round of one case.

    section    ingress, processor, end_to_end, state, lookup, idle
    case       what it was asked to do: `64 connections`, `batches of 100`
    candidate  who was asked: `postlog`, or a peer
    figures    by name with the unit in it: `events/s`, `p99 ms`
    """

    section: str
    case: str
    candidate: str
    round: int
    figures: Figures


class Run(msgspec.Struct, frozen=True):
    """A whole run: where and of what, and every sample. machine, versions  facts by name, for people."""

    machine: dict[str, str]
    versions: dict[str, str]
    samples: list[Sample]
    quick: bool = False


Place = tuple[str, str, str]


def medians(samples: Iterable[Sample]) -> dict[Place, Figures]:
    """The median of each figure over the rounds, by (section, case, candidate), in the order they were measured."""
    collected: dict[Place, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for sample in samples:
        for name, value in sample.figures.items():
            collected[sample.section, sample.case, sample.candidate][name].append(value)
    return {
        place: {name: statistics.median(values) for name, values in figures.items()}
        for place, figures in collected.items()
    }


def ratio(found: dict[Place, Figures], figure: str, one: Place, other: Place) -> float | None:
    """How many times the other's median figure the one's is; None if either was not measured, or is 0."""
    upper, lower = found.get(one, {}).get(figure), found.get(other, {}).get(figure)
    return None if upper is None or not lower else upper / lower
