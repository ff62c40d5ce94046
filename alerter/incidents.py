"""Which incidents people are told of, when they begin and when they are over.

Pure: the clock is an argument (`now`, seconds since the epoch, never going back). watch.py reads and writes Kafka.
What always holds: an incident that was told is told to be over, one that shows in many lanes is told once, and one
that comes and goes is told to have begun once in the quiet time at most. What was told is a record, so a restart
repeats nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

import msgspec

from pipeline import incidents
from pipeline.contract import Millis, explain
from pipeline.errors import Undecodable
from pipeline.incidents import NOTICES, Incident


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """Value of a record of the alerts; its key is the incident's. What people were told last.

    begun    when they were told that it began, ms
    over     whether they were told that it is over, too
    waiting  channels that have yet to tell the latest of it, since others did; a former release waited for all
    """

    v: Literal[1] = 1
    incident: Incident
    begun: Millis
    over: bool
    waiting: list[str] = []


@dataclass(frozen=True, slots=True)
class News:
    """An incident began, or is over.

    to    the channels that have yet to tell it, since the others did; None: all
    name  what it is about, if that is not the incident's own key
    """

    incident: Incident
    over: bool
    to: frozenset[str] | None = None
    name: str = ""

    @property
    def about(self) -> str:
        """The name of what begins and ends, the same for both."""
        return self.name or self.incident.key.decode()


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Told)


def encode(told: Told) -> bytes:
    """The record's value: JSON."""
    return _encoder.encode(told)


def decode(value: bytes) -> Told:
    """What was told, from a record's value. Raises Undecodable naming the field and the reason."""
    try:
        return _decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Undecodable(explain(error)) from None


class Board:
    """What is wrong now, and what was told of it."""

    def __init__(self, quiet: float) -> None:
        """quiet  seconds before the beginning of the same incident is told again"""
        self._quiet = quiet
        self._rows: dict[bytes, dict[int, Incident]] = {}
        self._told: dict[bytes, Told] = {}
        self._handed: dict[bytes, News] = {}  # the latest of each, while a channel has yet to take it
        self._untaken: set[bytes] = set()  # of those, what no channel has taken

    def note(self, partition: int, key: bytes, value: bytes | None) -> None:
        """Take a record of the incidents. Raises Undecodable."""
        lanes = self._rows.setdefault(key, {})
        if value is None:
            lanes.pop(partition, None)
        else:
            lanes[partition] = incidents.decode(value)
        if not lanes:
            del self._rows[key]

    def hold(self, kinds: Collection[str], present: Iterable[Incident]) -> None:
        """Take everything of these kinds that is wrong now; what is not among it is over."""
        by_key = {incident.key: incident for incident in present}
        for key in [key for key, lanes in self._rows.items() if next(iter(lanes.values())).kind in kinds]:
            if key not in by_key:
                del self._rows[key]
        for key, incident in by_key.items():
            self._rows[key] = {0: incident}

    def remember(self, key: bytes, value: bytes | None) -> None:
        """Take a record of what was told, by us or by another alerter. Raises Undecodable."""
        if value is None:
            self._told.pop(key, None)
        else:
            told, before = decode(value), self._told.get(key)
            # Our own records come back to us, maybe after we told more.
            if before is None or _age(told) > _age(before):
                self._told[key] = told

    def standing(self, kind: str) -> list[Incident]:
        """What people were last told of this kind, and not that it is over."""
        return [told.incident for told in self._told.values() if told.incident.kind == kind and not told.over]

    @property
    def present(self) -> int:
        """How many incidents there are now, but for those that are only to be known."""
        return sum(next(iter(lanes.values())).kind not in NOTICES for lanes in self._rows.values())

    def due(self, now: float) -> list[News]:
        """What is to be told now, each to be answered by `told` or `unsent`."""
        found = []
        for key in sorted((self._rows.keys() | self._told.keys()) - self._untaken):
            if news := self._news(key, now):
                self._untaken.add(key)
                self._handed[key] = news
                found.append(news)
        return found

    def told(self, news: News, now: float, waiting: Collection[str] = ()) -> Told | None:
        """A channel told people; the record to write, None if more was handed out of the incident since.

        waiting  the channels that have yet to take it
        """
        key = news.incident.key
        if self._handed.get(key) is not news:
            return None
        self._untaken.discard(key)
        if not waiting:
            del self._handed[key]
        before = self._told.get(key)
        # The end and a second channel leave the time of the beginning as it is.
        begun = before.begun if before and (news.over or not before.over) else int(now * 1000)
        self._told[key] = told = Told(incident=news.incident, begun=begun, over=news.over, waiting=sorted(waiting))
        return told

    def unsent(self, news: News) -> None:
        """Nobody was told; it is due again."""
        self._untaken.discard(news.incident.key)
        self._handed.pop(news.incident.key, None)

    def _news(self, key: bytes, now: float) -> News | None:
        told, lanes = self._told.get(key), self._rows.get(key)
        if lanes is None and told and not told.over:
            return News(told.incident, over=True)
        if lanes is not None and (told is None or (told.over and told.begun / 1000 + self._quiet <= now)):
            return News(min(lanes.values(), key=lambda incident: incident.since), over=False)
        if told and told.waiting and key not in self._handed:
            return News(told.incident, over=told.over, to=frozenset(told.waiting))
        return None


def _age(told: Told) -> tuple[int, bool, int]:
    """Greater for what was told later."""
    return told.begun, told.over, -len(told.waiting)
