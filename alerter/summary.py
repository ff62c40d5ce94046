"""What an alert is made of: dead letters of one group, counted together.

Pure; grouping.py decides when which of them are told. What always holds: merging loses no letter and no hold,
whatever is kept of a letter is bounded, and no address or payload is among it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce

from alerter.incidents import News
from pipeline import letters, masking
from pipeline.contract import EventType
from pipeline.deadletter import DeadLetter
from pipeline.incidents import NOTICES

#: Mail that goes on to these addresses harms the sender's reputation now, so nobody waits for a digest.
CRITICAL = frozenset({EventType.HARD_BOUNCE.value, EventType.COMPLAINT.value})

_TYPES = frozenset(known.value for known in EventType)
_ODD = re.compile(r"[^A-Za-z0-9_.-]")


@dataclass(frozen=True, slots=True)
class GroupKey:
    """What makes dead letters one piece of news: error is `package.module.Class`, type one of ours."""

    error: str
    type: str
    provider: str

    @property
    def critical(self) -> bool:
        """Whether it is told at once."""
        return self.type in CRITICAL

    @property
    def name(self) -> str:
        """Its name in records and at services that keep incidents."""
        return f"{self.type}/{self.provider}/{self.error}"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record stands."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Example:
    """One letter of a group, to start looking from. No address, no payload.

    letter    the letter's id, as `postlog dlq` takes it
    place     where the dead letter stands
    original  where the record stood that died; None for a delivery that never became one
    """

    letter: str
    place: Place
    original: Place | None
    stage: str
    id: str
    message: str


@dataclass(frozen=True, slots=True)
class Summary:
    """Letters of one group that are told together.

    first, last  times of their failures, ms since the epoch
    since        when the group was told before, seconds since the epoch; None: it is new
    holds        by partition, the lowest offset among them: no commit may pass it until they are told
    covers       by partition, the offset after the highest among them
    """

    key: GroupKey
    count: int
    first: int
    last: int
    example: Example
    since: float | None
    holds: Mapping[int, int]
    covers: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Alert:
    """What one message tells. Compared by identity: two alerts may say the same and both must go out.

    to  the channels that have yet to tell it, since the others did; None: all
    at  when it was handed out, seconds since the epoch
    """

    summaries: tuple[Summary, ...]
    news: tuple[News, ...] = ()
    to: frozenset[str] | None = None
    at: float = 0.0

    @property
    def critical(self) -> bool:
        """Whether anything in it is told at once."""
        urgent = [news for news in self.news if not news.over and news.incident.kind not in NOTICES]
        return bool(urgent) or any(summary.key.critical for summary in self.summaries)

    @property
    def over(self) -> bool:
        """Whether all that it tells is over."""
        return not self.summaries and all(news.over for news in self.news)


def key_of(letter: DeadLetter) -> GroupKey:
    """The letter's group. All of it comes from headers, so it is masked and cut down to what a title may show."""
    return GroupKey(
        error=_word(letter.error, 100),
        type=letter.type if letter.type in _TYPES else EventType.UNKNOWN.value,
        provider=_word(letter.provider, 32),
    )


def example_of(letter: DeadLetter, place: Place) -> Example:
    """What an alert shows of the letter that stands at this place."""
    source = letter.source
    original = Place(_word(source.topic, 249), source.partition, source.offset) if source else None
    return Example(
        letter=letters.identity(letter, letters.Place(place.partition, place.offset)),
        place=place,
        original=original,
        stage=letter.stage,
        id=shown(letter.id, 100),
        message=shown(letter.message, 300),
    )


def shown(text: str, longest: int) -> str:
    """Text of a letter in one line fit for a message: names in addresses masked, at most `longest` characters."""
    line = " ".join(text.split())
    # Masked last: without what cannot be printed two parts of an address may come together.
    return masking.cut("".join(character for character in line if character.isprintable()), longest)


def _word(text: str, longest: int) -> str:
    return _ODD.sub("_", masking.text(text))[:longest]


def merge(earlier: Summary, later: Summary) -> Summary:
    """Both told as one; they are of the same group."""
    holds = dict(earlier.holds)
    for partition, offset in later.holds.items():
        holds[partition] = min(offset, holds.get(partition, offset))
    covers = dict(earlier.covers)
    for partition, offset in later.covers.items():
        covers[partition] = max(offset, covers.get(partition, offset))
    return replace(
        earlier,
        covers=covers,
        count=earlier.count + later.count,
        first=min(earlier.first, later.first),
        last=max(earlier.last, later.last),
        holds=holds,
    )


def coalesce(alerts: Iterable[Alert]) -> Alert:
    """One alert that tells what these tell; earlier alerts come first."""
    by_group: dict[GroupKey, list[Summary]] = {}
    news: list[News] = []
    for alert in alerts:
        news += alert.news
        for summary in alert.summaries:
            by_group.setdefault(summary.key, []).append(summary)
    return Alert(tuple(reduce(merge, summaries) for summaries in by_group.values()), tuple(news))
