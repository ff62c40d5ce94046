"""All dead letters that are open, and what is wrong with their number or their age.

Pure. Other than grouping.py, which tells of letters as they come, this looks at the whole: too many within a window,
or one that nobody has dealt with for long. Both last until they do not, so they are incidents like those of lanes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from alerter.summary import GroupKey, key_of
from pipeline import letters
from pipeline.deadletter import DeadLetter
from pipeline.incidents import Incident
from pipeline.letters import Failure, LetterState, Place, Standing


@dataclass(frozen=True, slots=True)
class Limits:
    """What is wrong; times in ms.

    letters  more than these within `window` are too many
    age      an open letter that failed longer ago has waited for too long
    kept     how long the topic keeps letters: an older one is gone
    """

    letters: int
    window: int
    age: int
    kept: int


class Ledger:
    """Fed with both topics from their beginning, each in the order of its partitions."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._failures: dict[str, tuple[Failure, ...]] = {}  # by letter, the latest one last
        self._latest: dict[str, int] = {}  # by letter: when it failed last
        self._groups: dict[GroupKey, set[str]] = {}
        self._read: dict[int, int] = {}
        self._states: dict[str, LetterState] = {}
        self._lately: deque[int] = deque()

    def add(self, letter: DeadLetter, place: Place, at: int) -> None:
        """A failure that stands at this place of the dead letters since `at`, ms."""
        identity = letters.identity(letter, place)
        self._failures[identity] = (*self._failures.get(identity, ()), letters.failure(letter, place))
        self._latest[identity] = at
        self._groups.setdefault(key_of(letter), set()).add(identity)
        self._read[place.partition] = place.offset + 1
        self._lately.append(at)
        if len(self._lately) > self._limits.letters + 1:
            self._lately.popleft()

    def note(self, identity: str, state: LetterState | None) -> None:
        """What somebody did about a letter."""
        if state is None:
            self._states.pop(identity, None)
        else:
            self._states[identity] = state

    def conditions(self, now: int) -> list[Incident]:
        """What is wrong at this time, ms."""
        self._forget(now - self._limits.kept)
        return [found for found in (self._flood(now), self._waiting(now)) if found]

    def standings(self, group: GroupKey) -> set[Standing]:
        """How the letters of a group stand, those that left it for another reason too; empty if it has none."""
        members = self._groups.get(group, ())
        return {self._standing(member) for member in members}

    def has_read(self, covered: Mapping[int, int]) -> bool:
        """Whether all letters before these offsets, by partition, are in here."""
        return all(self._read.get(partition, 0) >= offset for partition, offset in covered.items())

    def _flood(self, now: int) -> Incident | None:
        # The oldest of the latest N + 1: if that is within the window, more than N are.
        if len(self._lately) <= self._limits.letters or self._lately[0] <= now - self._limits.window:
            return None
        reason = f"more than {self._limits.letters:,} within {_span(self._limits.window)}"
        return Incident(kind="letters_flood", subject="dead letters", since=max(self._lately[0], 0), reason=reason)

    def _waiting(self, now: int) -> Incident | None:
        standing = [
            (at, identity)
            for identity, at in self._latest.items()
            if at < now - self._limits.age and self._standing(identity) == "open"
        ]
        if not standing:
            return None
        at, identity = min(standing)
        reason = f"{len(standing):,} open for more than {_span(self._limits.age)}; the oldest is {identity}"
        return Incident(kind="letters_waiting", subject="dead letters", since=max(at, 0), reason=reason)

    def _standing(self, identity: str) -> Standing:
        return letters.standing(self._failures[identity], self._states.get(identity))

    def _forget(self, before: int) -> None:
        gone = {identity for identity, at in self._latest.items() if at < before}
        if gone:
            for identity in gone:
                del self._latest[identity], self._failures[identity]
            self._groups = {key: left for key, members in self._groups.items() if (left := members - gone)}


def _span(ms: int) -> str:
    for length, unit in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min")):
        if ms >= length and ms % length == 0:
            return f"{ms // length} {unit}"
    return f"{ms / 1000:g} s"
