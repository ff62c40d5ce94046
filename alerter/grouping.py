"""Which dead letters people are told about, when, and up to where the topic is thereby covered.

Pure: the clock is an argument (`now`, seconds since the epoch, never going back). app.py owns Kafka, channels.py
sends. What always holds, unless the process dies: every letter is counted in exactly one alert that went out, and
`committable` never passes a letter that is in none. After a crash the letters behind it are read again; of those that
had been told, but stood behind another group's untold one, the records that `told` makes remind us. Only a crash
between a message and its record tells something twice, which is better than never. A group keeps counts and one
example, never the letters, and the number of groups is limited, so a flood cannot fill memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from alerter.group_told import GroupTold
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
        self._groups: dict[GroupKey, _Group] = {}
        self._on_their_way: set[Alert] = set()
        self._covered: dict[GroupKey, dict[int, int]] = {}  # by partition, the offset up to which people were told
        self._digest_at: float | None = None

    def remember(self, record: GroupTold) -> None:
        """Take a record of what was told, by us before a restart or by another alerter."""
        key = GroupKey(record.error, record.type, record.provider)
        self._covered[key] = covered = self._covered.pop(key, {})
        for partition, offset in record.covered.items():
            covered[partition] = max(offset, covered.get(partition, 0))
        while len(self._covered) > MOST_REMEMBERED:
            del self._covered[next(iter(self._covered))]
        group = self._groups.setdefault(key, _Group())
        if (group.told_at or 0.0) < record.told_at:
            group.told_at, group.quiet_until = record.told_at, record.quiet_until

    def forget(self, partition: int) -> None:
        """Its log has lost its end and gives offsets again: what was told by them says nothing any more."""
        for covered in self._covered.values():
            covered.pop(partition, None)

    def beyond(self, ends: Mapping[int, int]) -> list[int]:
        """Partitions in which people were told of letters that are behind the log's end, by partition."""
        told = {
            partition
            for covered in self._covered.values()
            for partition, offset in covered.items()
            if offset > ends.get(partition, offset)
        }
        return sorted(told)

    def add(self, letter: DeadLetter, place: Place, now: float) -> None:
        """Count a letter that was read, unless people were told of it."""
        key = self._limited(key_of(letter))
        if place.offset < self._covered.get(key, {}).get(place.partition, 0):
            return
        group = self._groups.setdefault(key, _Group())
        group.wait(
            Summary(
                key=key,
                count=1,
                first=letter.last_failure,
                last=letter.last_failure,
                example=example_of(letter, place),
                since=group.told_at,
                holds={place.partition: place.offset},
                covers={place.partition: place.offset + 1},
            )
        )
        self._expect_digest(key, now)

    def due(self, now: float) -> list[Alert]:
        """The alerts to send now, each to be answered by `told` or `unsent`. A group is in at most one of them."""
        self._forget(now)
        ready = [group for group in self._groups.values() if group.waiting and group.quiet_until <= now]
        alerts = [self._hand_out([group], now) for group in ready if group.waiting and group.waiting.key.critical]
        if self._digest_at is not None and self._digest_at <= now:
            calm = [group for group in ready if group.waiting]
            if calm:
                alerts.append(self._hand_out(calm, now))
            self._digest_at = None
            for summary in self._waiting():
                self._expect_digest(summary.key, now)
        return alerts

    def next_at(self) -> float | None:
        """When `due` will have something new; None if nothing waits."""
        times = [g.quiet_until for g in self._groups.values() if g.waiting and g.waiting.key.critical]
        return min([*times, self._digest_at] if self._digest_at is not None else times, default=None)

    def told(self, alert: Alert) -> list[GroupTold]:
        """The alert went out: its letters hold no commit back any more. The records to write, for `remember`."""
        self._on_their_way.discard(alert)
        return [self._record(summary) for summary in alert.summaries if summary.key.error != OTHER]

    def unsent(self, alert: Alert, now: float) -> None:
        """Nobody got the alert: its letters wait again, for a digest's time and not for the rest of the quiet."""
        if alert not in self._on_their_way:
            return  # Its partitions were taken away meanwhile, and whoever has them now reads the letters again.
        self._on_their_way.discard(alert)
        for summary in alert.summaries:
            group = self._groups.setdefault(summary.key, _Group())
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

    def _record(self, told: Summary) -> GroupTold:
        # Another alert of this group may be on its way still, with letters before these.
        before = [s for alert in self._on_their_way for s in alert.summaries if s.key == told.key]
        covered = {
            partition: min([offset, *(s.holds[partition] for s in before if partition in s.holds)])
            for partition, offset in told.covers.items()
        }
        group = self._groups.get(told.key) or _Group()
        return GroupTold(
            error=told.key.error,
            type=told.key.type,
            provider=told.key.provider,
            told_at=group.told_at or 0.0,
            quiet_until=group.quiet_until,
            covered=covered,
        )

    def _waiting(self) -> Iterator[Summary]:
        return (group.waiting for group in self._groups.values() if group.waiting)

    def _limited(self, key: GroupKey) -> GroupKey:
        full = key not in self._groups and len(self._groups) >= MOST_GROUPS
        return replace(key, error=OTHER, provider=OTHER) if full else key

    def _expect_digest(self, key: GroupKey, now: float) -> None:
        if self._digest_at is None and not key.critical:
            self._digest_at = now + self._policy.digest

    def _hand_out(self, groups: Iterable[_Group], now: float) -> Alert:
        summaries = []
        for group in groups:
            if group.waiting is not None:
                summaries.append(group.waiting)
            group.waiting, group.told_at, group.quiet_until = None, now, now + self._policy.despam
        alert = Alert(tuple(summaries))
        self._on_their_way.add(alert)
        return alert

    def _forget(self, now: float) -> None:
        over = [key for key, group in self._groups.items() if not group.waiting and group.quiet_until <= now]
        for key in over:
            del self._groups[key]
