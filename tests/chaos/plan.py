"""Which faults happen when: a plan that follows from its seed alone.

Pure. Every kind of fault comes once before any comes twice, in an order of the seed's. At most one fault of brokers
and network is there at a time, since two of them together are a kind of their own; a service may be hit meanwhile.
Most faults of the cluster wait until it has recovered, or it would hardly ever work; the others hit it before.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

Card = TypeVar("Card")

SERVICES = ("ingress", "processor", "processor-2", "alerter", "lookup")
PROCESSORS = ("processor", "processor-2")
BROKERS = ("1", "2", "3")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: what it may hit, and how long it lasts at least and at most, in seconds.

    patient  it always waits until the cluster has recovered: before that it would destroy the only copy of a record,
             or find nobody to do it
    once     it cannot be undone, and comes once in a run
    """

    name: str
    targets: tuple[str, ...]
    least: float
    most: float
    patient: bool = False
    once: bool = False


#: `kill`, `stop`: a supervisor starts it again when the fault ends. `freeze` outlasts the session timeout.
#: `slow_bodies`, `large_bodies`, `foreign`: what others do to the ingress and to the log, see `strangers.py`.
SERVICE_KINDS = (
    Kind("kill", SERVICES, 0.5, 3),
    Kind("freeze", SERVICES, 8, 11),
    Kind("stop", SERVICES, 0.5, 3),
    Kind("wipe", PROCESSORS, 0.5, 1),
    Kind("corrupt", PROCESSORS, 0.5, 1),
    Kind("full_disk", ("ingress", *PROCESSORS), 4, 8),
    Kind("clock_ahead", SERVICES, 5, 10),
    Kind("clock_behind", SERVICES, 5, 10),
    Kind("slow_bodies", ("ingress",), 4, 7),
    Kind("large_bodies", ("ingress",), 4, 7),
    Kind("foreign", ("aborts", "hangs"), 2, 3),
)
CLUSTER_KINDS = (
    Kind("broker_kill", BROKERS, 2, 6),
    Kind("broker_stop", BROKERS, 2, 4),
    Kind("broker_freeze", BROKERS, 4, 8),
    Kind("two_away", BROKERS, 5, 9),
    Kind("all_away", ("all",), 2, 4),
    Kind("cut", BROKERS, 3, 6),
    Kind("delay", BROKERS, 5, 10),
    Kind("blackhole", BROKERS, 6, 12),
    Kind("cut_log", BROKERS, 8, 10, patient=True),
    Kind("more_partitions", ("events",), 2, 3, patient=True, once=True),
)
#: What comes at the end of a run, once: the events topic is deleted and made anew. See `epilogue.py`.
REMADE = "remade"
_OF_CLUSTER = {kind.name for kind in CLUSTER_KINDS}
_NAMES = {REMADE} | {
    name
    for kind in (*SERVICE_KINDS, *CLUSTER_KINDS)
    for name in (kind.name, *[f"{kind.name}:{target}" for target in kind.targets])
}
_ALWAYS_PATIENT = {kind.name for kind in CLUSTER_KINDS if kind.patient}
#: Seconds between the end of a fault and the next one of its sort, at least and at most.
PAUSE = (1.0, 4.0)
CLUSTER_PAUSE = (5.0, 9.0)
#: Share of the faults of brokers and network that wait, besides, until the cluster has all its replicas again.
PATIENT = 2 / 3


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault; times in seconds from the beginning.

    patient  it begins later, if the cluster has not recovered by then
    """

    kind: str
    target: str
    begins: float
    ends: float
    patient: bool = False

    @property
    def of_cluster(self) -> bool:
        """Whether it hits brokers or network, and not a service."""
        return self.kind in _OF_CLUSTER


def plan(seed: int, seconds: float, only: Collection[str] = ()) -> list[Fault]:
    """The faults of a run, in the order of their beginnings; each ends within the time.

    only  kinds to take, `kill` or `kill:ingress`; all of them if it is empty

    Raises ValueError for a kind that there is not: a run without faults proves nothing.
    """
    if unknown := set(only) - _NAMES:
        raise ValueError(f"no such faults: {', '.join(sorted(unknown))}; there are {', '.join(sorted(_NAMES))}")
    rng = random.Random(seed)
    services = _track(rng, _chosen(SERVICE_KINDS, only), PAUSE, seconds)
    patience = random.Random(f"{seed}/patience")
    cluster = [
        replace(fault, patient=patience.random() < PATIENT or fault.kind in _ALWAYS_PATIENT)
        for fault in _track(rng, _chosen(CLUSTER_KINDS, only), CLUSTER_PAUSE, seconds)
    ]
    return sorted([*services, *cluster], key=lambda fault: fault.begins)


def _chosen(kinds: tuple[Kind, ...], only: Collection[str]) -> tuple[Kind, ...]:
    if not only:
        return kinds
    chosen = []
    for kind in kinds:
        targets = tuple(target for target in kind.targets if {kind.name, f"{kind.name}:{target}"} & set(only))
        if targets:
            chosen.append(replace(kind, targets=targets))
    return tuple(chosen)


def _track(
    rng: random.Random, kinds: tuple[Kind, ...], pause: tuple[float, float], seconds: float
) -> Iterator[Fault]:
    """Faults one after the other."""
    now = rng.uniform(2, 5)
    targets = {kind.name: _deck(rng, kind.targets) for kind in kinds}
    for kind in _sequence(rng, kinds):
        ends = now + rng.uniform(kind.least, kind.most)
        if ends > seconds:
            return
        yield Fault(kind.name, next(targets[kind.name]), now, ends)
        now = ends + rng.uniform(*pause)


def _sequence(rng: random.Random, kinds: tuple[Kind, ...]) -> Iterator[Kind]:
    """All kinds in any order, then again and again those that may come more than once."""
    yield from rng.sample(kinds, len(kinds))
    yield from _deck(rng, tuple(kind for kind in kinds if not kind.once))


def _deck(rng: random.Random, cards: tuple[Card, ...]) -> Iterator[Card]:
    """All cards in any order, again and again."""
    while cards:
        yield from rng.sample(cards, len(cards))
