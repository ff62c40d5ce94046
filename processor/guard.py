"""What keeps an outage or a wrong deployment from filling the dead letters; shared by the lanes of a process.

Pure. Circuits are for handlers (`circuit.py`); `Rejections` is for records that the processor itself cannot take.
What a lane knows to be wrong it keeps as incidents among its rows, see `pipeline/incidents.py`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from pipeline import incidents, masking
from pipeline.incidents import Incident
from processor import circuit, unknown_types
from processor.circuit import Circuits
from processor.handler import Handler
from processor.unknown_types import Unknown

#: Records that are looked back.
WINDOW = 1_000
#: Rejected records among them that may be accidents.
MINIMUM = 100
#: The same for a processor that was started again after it had stopped itself: restarts must not empty the topic.
SUSPICIOUS_MINIMUM = 10

#: Subjects of `processor_stopped`.
REJECTIONS = "rejections"
RECORDS_LOST = "records_lost"


class Rejections:
    """How many of the latest records became dead letters."""

    def __init__(self, most: float) -> None:
        """most  share of the records above which it is not the records that are wrong, 0 to 1; 1 is never"""
        self._most = most
        self._minimum = MINIMUM
        self._batches: deque[tuple[int, int]] = deque()
        self._records = 0
        self._rejected = 0

    def suspect(self) -> None:
        """A lane was stopped by this before: be quicker to stop again."""
        self._minimum = SUSPICIOUS_MINIMUM

    def add(self, records: int, rejected: int) -> str | None:
        """Count a batch that is not committed yet; why it must not be, None if it may."""
        self._batches.append((records, rejected))
        self._records += records
        self._rejected += rejected
        while self._records - self._batches[0][0] >= WINDOW:
            gone = self._batches.popleft()
            self._records -= gone[0]
            self._rejected -= gone[1]
        if not rejected or self._rejected < self._minimum or self._rejected <= self._most * self._records:
            return None
        return f"{self._rejected} of the latest {self._records} records would become dead letters"


@dataclass(frozen=True, slots=True)
class Guard:
    """One for a process."""

    circuits: Circuits = field(default_factory=dict)
    rejections: Rejections = field(default_factory=lambda: Rejections(1.0))
    unknown: Unknown = field(default_factory=Unknown)


def of(handlers: Mapping[str, Handler], most_rejected: float) -> Guard:
    """The guard of a process with these handlers."""
    return Guard(circuit.of(handlers), Rejections(most_rejected))


def changes(noted: Collection[bytes], circuits: Circuits, *, moved: bool) -> dict[bytes, bytes | None]:
    """Incidents that a lane has to write, by key; None for those that are over.

    noted  keys of those it has written
    moved  it is about to commit records, so what stopped it before is mended
    """
    present = {incident.key: incident for incident in _open(circuits)}
    rows: dict[bytes, bytes | None] = {
        key: incidents.encode(incident) for key, incident in present.items() if key not in noted
    }
    rejections = stopped(REJECTIONS, "", 0).key
    over = [key for key in noted if key not in present and not unknown_types.stands(key)]
    return rows | {key: None for key in over if moved or key != rejections}


def stopped(subject: str, reason: str, now: int) -> Incident:
    """The incident of a processor that stops itself; now in ms."""
    return Incident(kind="processor_stopped", subject=subject, since=now, reason=masking.cut(reason, 1000))


def _open(circuits: Circuits) -> list[Incident]:
    return [
        Incident(kind="circuit_open", subject=name, since=found.since, reason=masking.cut(found.reason, 1000))
        for name, found in circuits.items()
        if found.since is not None
    ]
