"""Which groups of dead letters people were told of have nothing open any more, and have not been told so.

Pure: the clock is an argument (`now`, seconds since the epoch, never going back). What always holds: an end is told
once for what was told, and never before everything that people were told of was looked at.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import msgspec

from alerter.group_told import GroupTold, joined
from alerter.incidents import News
from alerter.ledger import Ledger
from alerter.summary import GroupKey
from pipeline.incidents import Incident

#: Groups that are remembered, the latest ones told.
MOST_REMEMBERED = 5_000


@dataclass(frozen=True, slots=True)
class Recovery:
    """A group that has nothing open any more.

    to  the channels that have yet to tell it, since the others did; None: all
    """

    told: GroupTold
    to: frozenset[str] | None = None

    @property
    def news(self) -> News:
        """What people are told."""
        told = self.told
        name = f"{told.type}, {told.provider}: {told.error.rpartition('.')[2]}"
        since = max(int(told.told_at * 1000), 0)
        ended = Incident(kind="letters_group", subject=name[:200], since=since)
        return News(ended, over=True, to=self.to, name=told.group.name)


class Recoveries:
    """Fed with what was told of groups, by us or by another alerter."""

    def __init__(self, settle: float) -> None:
        """settle  seconds that nothing must be open: what was sent round again may come back"""
        self._settle = settle
        self._told: dict[GroupKey, GroupTold] = {}
        self._quiet_since: dict[GroupKey, float] = {}
        self._on_their_way: set[GroupKey] = set()

    def remember(self, record: GroupTold) -> None:
        """Take a record of what was told."""
        # Our own records come back to us, maybe after we told more.
        self._told[record.group] = joined(self._told.pop(record.group, None), record)
        while len(self._told) > MOST_REMEMBERED:
            del self._told[next(iter(self._told))]

    def due(self, ledger: Ledger, now: float) -> list[Recovery]:
        """What is over now, each to be answered by `told` or `unsent`."""
        quiet = {
            key: self._quiet_since.get(key, now)
            for key, record in self._told.items()
            if not record.over and _is_over(ledger.standings(key)) and ledger.has_read(record.covered)
        }
        self._quiet_since = quiet
        ready = [key for key, since in quiet.items() if now - since >= self._settle and key not in self._on_their_way]
        missed = [key for key, record in self._told.items() if record.over_behind and key not in self._on_their_way]
        self._on_their_way.update(ready, missed)
        return [Recovery(self._told[key]) for key in ready] + [
            Recovery(self._told[key], frozenset(self._told[key].over_behind)) for key in missed
        ]

    def told(self, recovery: Recovery, waiting: Collection[str] = ()) -> GroupTold | None:
        """A channel told people; the record to write, None if more was told of the group meanwhile.

        waiting  the channels that have yet to take it
        """
        key = recovery.told.group
        if not waiting:
            self._on_their_way.discard(key)
        latest = self._told.get(key)
        if latest is None or latest.told_at > recovery.told.told_at:
            return None
        self._told[key] = over = msgspec.structs.replace(latest, over=True, over_behind=sorted(waiting))
        return over

    def unsent(self, recovery: Recovery) -> None:
        """Nobody was told; it is due again."""
        self._on_their_way.discard(recovery.told.group)


def _is_over(standings: Collection[str]) -> bool:
    # Of a group without letters nothing is known: they expired, and nobody dealt with them.
    return bool(standings) and "open" not in standings
