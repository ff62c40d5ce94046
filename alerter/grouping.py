"""Which dead letters people are told about, when, and up to where the topic is thereby covered.

Pure: the clock is an argument (`now`, seconds since the epoch, never going back). loop.py owns Kafka, channels.py
sends. What always holds, unless the process dies: every letter is counted in exactly one alert that went out, and
`committable` never passes a letter that is in none. After a crash the letters behind it are read again; of those that
had been told, but stood behind another group's untold one, the records that `told` makes remind us, and by
which channels: one that was away is told what the others told already, and they do not tell it again. Only a crash
between a message and its record tells something twice, which is better than never. A group keeps counts and one
example, never the letters, and the number of groups is limited, so a flood cannot fill memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from alerter.group_told import GroupTold, joined
from alerter.summary import Alert, GroupKey, Place, Summary, example_of, key_of, merge
from pipeline.deadletter import DeadLetter

#: Groups in memory. Their names come from record headers; what exceeds this shares one group per event type.
MOST_GROUPS = 500
OTHER = "other"
#: Groups whose records are remembered, the latest ones.
MOST_REMEMBERED = 5_000


@dataclass(frozen=True, slots=True)
class Policy:
    """When to tell, in seconds.

    digest  how often everything that is not critical is told, in one alert
    despam  a group that was told is told again after this at the earliest
    """

    digest: float
    despam: float


class _Slot(NamedTuple):
    """A group, and whom its letters are for: all channels, or those that missed what others told."""

    key: GroupKey
    to: frozenset[str] | None = None


@dataclass(slots=True)
class _Group:
    """waiting: what no alert tells yet; quiet_until: no alert before this time."""

    waiting: Summary | None = None
    told_at: float | None = None
    quiet_until: float = 0.0

    def wait(self, summary: Summary) -> None:
        self.waiting = summary if self.waiting is None else merge(self.waiting, summary)


class Grouping:
    """The letters that were read: which ones wait, which alerts are on their way, which groups are quiet."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._groups: dict[_Slot, _Group] = {}
        self._on_their_way: dict[Alert, frozenset[str] | None] = {}  # channels that have yet to take it; None: all
        self._records: dict[GroupKey, GroupTold] = {}  # what was told, by us or others
        self._digest_at: float | None = None

    def remember(self, record: GroupTold) -> None:
        """Take a record of what was told, by us before a restart or by another alerter."""
        self._keep(record)
        group = self._groups.setdefault(_Slot(record.group), _Group())
        if (group.told_at or 0.0) < record.told_at:
            group.told_at, group.quiet_until = record.told_at, record.quiet_until

    def forget(self, partition: int) -> None:
        """Its log has lost its end and gives offsets again: what was told by them says nothing any more."""
        self._records = {key: record.without(partition) for key, record in self._records.items()}

    def beyond(self, ends: Mapping[int, int]) -> list[int]:
        """Partitions in which people were told of letters that are behind the log's end, by partition."""
        told = {
            partition
            for record in self._records.values()
            for partition, offset in record.covered.items()
            if offset > ends.get(partition, offset)
        }
        return sorted(told)

    def add(self, letter: DeadLetter, place: Place, now: float) -> None:
        """Count a letter that was read, unless people were told of it."""
        slot = _Slot(key_of(letter))
        told = self._records.get(slot.key)
        if told and place.offset < told.covered.get(place.partition, 0):
            slot = _Slot(slot.key, told.missed_by(place.partition, place.offset))
            if not slot.to:
                return
        slot = self._limited(slot)
        group = self._groups.setdefault(slot, _Group())
        group.wait(
            Summary(
                key=slot.key,
                count=1,
                first=letter.last_failure,
                last=letter.last_failure,
                example=example_of(letter, place),
                since=group.told_at,
                holds={place.partition: place.offset},
                covers={place.partition: place.offset + 1},
            )
        )
        self._expect_digest(slot.key, now)

    def due(self, now: float) -> list[Alert]:
        """The alerts to send now, each to be answered by `told` or `unsent`. A group is in at most one of them."""
        self._forget(now)
        ready = {slot: group for slot, group in self._groups.items() if group.waiting and group.quiet_until <= now}
        # How far a channel has told is one offset, so what it missed goes out before what came later. Of a partition
        # the later letters are missed by more channels.
        ready = dict(sorted(ready.items(), key=lambda item: (item[0].to is None, len(item[0].to or ()))))
        alerts = [self._hand_out([group], slot.to, now) for slot, group in ready.items() if slot.key.critical]
        if self._digest_at is not None and self._digest_at <= now:
            calm = {slot: group for slot, group in ready.items() if not slot.key.critical}
            for to in dict.fromkeys(slot.to for slot in calm):
                alerts.append(self._hand_out([group for slot, group in calm.items() if slot.to == to], to, now))
            self._digest_at = None
            for summary in self._waiting():
                self._expect_digest(summary.key, now)
        return alerts

    def next_at(self) -> float | None:
        """When `due` will have something new; None if nothing waits."""
        times = [g.quiet_until for g in self._groups.values() if g.waiting and g.waiting.key.critical]
        return min([*times, self._digest_at] if self._digest_at is not None else times, default=None)

    def told(self, alert: Alert, waiting: frozenset[str] = frozenset()) -> list[GroupTold]:
        """A channel told the alert. The records to write, for `remember`.

        waiting  the channels that have yet to take it; once there are none, its letters hold no commit back any more
        """
        if alert in self._on_their_way:  # Or its partitions were taken away meanwhile.
            del self._on_their_way[alert]
            if waiting:
                self._on_their_way[alert] = waiting
        return [self._record(summary, alert, waiting) for summary in alert.summaries if summary.key.error != OTHER]

    def unsent(self, alert: Alert, now: float) -> None:
        """Nobody got the alert: its letters wait again, for a digest's time and not for the rest of the quiet."""
        if alert not in self._on_their_way:
            return  # Its partitions were taken away meanwhile, and whoever has them now reads the letters again.
        del self._on_their_way[alert]
        for summary in alert.summaries:
            group = self._groups.setdefault(_Slot(summary.key), _Group())
            group.waiting = merge(summary, group.waiting) if group.waiting else summary
            group.told_at = summary.since
            group.quiet_until = min(group.quiet_until, now + self._policy.digest)
            self._expect_digest(summary.key, now)

    def committable(self, positions: Mapping[int, int]) -> dict[int, int]:
        """By partition, the offset up to which every letter is in an alert that went out.

        positions  by partition, the offset of the next record to be read
        """
        offsets = dict(positions)
        for summary in (*self._waiting(), *(s for alert in self._on_their_way for s in alert.summaries)):
            for partition, offset in summary.holds.items():
                if partition in offsets:
                    offsets[partition] = min(offsets[partition], offset)
        return offsets

    def reset(self) -> None:
        """The partitions were taken away: what is untold will be read again, by us or by another alerter.

        What was told lately stays known, so coming back makes no noise.
        """
        self._on_their_way.clear()
        self._digest_at = None
        for group in self._groups.values():
            group.waiting = None

    @property
    def unsent_alerts(self) -> int:
        """Alerts that were handed out and have not gone out."""
        return len(self._on_their_way)

    @property
    def untold_letters(self) -> int:
        """Letters that wait for an alert."""
        return sum(summary.count for summary in self._waiting())

    def _record(self, told: Summary, alert: Alert, waiting: frozenset[str]) -> GroupTold:
        # Another alert of this group may be on its way still, or be due again, with letters before these.
        others = [pair for pair in self._untold(told.key) if pair[0] is not told]
        behind = {
            name: _up_to(told, [s for s, to in others if to is None or name in to] + [told] * (name in waiting))
            for name in waiting.union(*(to for _, to in others if to is not None))
        }
        before = self._records.get(told.key)
        if before and alert.to is not None:
            # Who was not asked has told no more than before.
            behind |= {name: upto for name, upto in before.behind.items() if name not in alert.to}
        group = self._groups.get(_Slot(told.key)) or _Group()
        return self._keep(
            GroupTold(
                error=told.key.error,
                type=told.key.type,
                provider=told.key.provider,
                # That it is told to a channel that missed it is no news to the others.
                told_at=max(group.told_at or 0.0, alert.at if alert.to is None else 0.0),
                quiet_until=group.quiet_until,
                covered=_up_to(told, [s for s, to in others if to is None]),
                behind=behind,
            )
        )

    def _keep(self, record: GroupTold) -> GroupTold:
        """Remember the record, with all that was known before; that."""
        key = record.group
        self._records[key] = found = joined(self._records.pop(key, None), record)
        while len(self._records) > MOST_REMEMBERED:
            del self._records[next(iter(self._records))]
        return found

    def _untold(self, key: GroupKey) -> Iterator[tuple[Summary, frozenset[str] | None]]:
        """What is not told of a group, and which channels have yet to tell it; None: all of them."""
        for alert, to in self._on_their_way.items():
            yield from ((summary, to) for summary in alert.summaries if summary.key == key)
        for slot, group in self._groups.items():
            if slot.key == key and group.waiting:
                yield group.waiting, slot.to

    def _waiting(self) -> Iterator[Summary]:
        return (group.waiting for group in self._groups.values() if group.waiting)

    def _limited(self, slot: _Slot) -> _Slot:
        full = slot not in self._groups and len(self._groups) >= MOST_GROUPS
        return slot._replace(key=replace(slot.key, error=OTHER, provider=OTHER)) if full else slot

    def _expect_digest(self, key: GroupKey, now: float) -> None:
        if self._digest_at is None and not key.critical:
            self._digest_at = now + self._policy.digest

    def _hand_out(self, groups: Iterable[_Group], to: frozenset[str] | None, now: float) -> Alert:
        summaries = []
        for group in groups:
            if group.waiting is not None:
                summaries.append(group.waiting)
            group.waiting, group.told_at = None, now
            group.quiet_until = now + (self._policy.despam if to is None else 0.0)
        alert = Alert(tuple(summaries), to=to, at=now)
        self._on_their_way[alert] = to
        return alert

    def _forget(self, now: float) -> None:
        over = [slot for slot, group in self._groups.items() if not group.waiting and group.quiet_until <= now]
        for slot in over:
            del self._groups[slot]


def _up_to(told: Summary, untold: Iterable[Summary]) -> dict[int, int]:
    """By partition, the offset up to which these letters are told, without a gap that others leave."""
    holds = [summary.holds for summary in untold]
    return {p: min([offset, *(hold[p] for hold in holds if p in hold)]) for p, offset in told.covers.items()}
