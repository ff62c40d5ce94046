"""Which types of events nobody knows, and of which of them people are told.

Pure. Such an event is kept and counted and changes nothing else, so somebody has to learn that there is one: it may
be a bounce by a new name. The first event of each type is an incident of its lane, which stands until a release knows
the type. However many words somebody sends, few are told apart: MOST by a process, and the rest is one more.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from pipeline import incidents
from pipeline.incidents import Incident
from pipeline.providers import TYPES, Types

#: Types that a process tells apart.
MOST = 20
#: Stands for every type beyond them, and for those whose name is no plain word: it may be anything, also an address.
ANOTHER = "(another)"
_PLAIN = re.compile(r"[A-Za-z0-9._:/-]{1,64}")
_KIND = b"unknown_type/"

#: A provider and its word.
Word = tuple[str, str]


class Unknown:
    """The types that lanes of this process have noted."""

    def __init__(self) -> None:
        self._noted: set[Word] = set()

    def take_up(self, keys: Iterable[bytes]) -> list[Word]:
        """Know what a lane has noted, by the keys of its incidents; those of them that are types."""
        found = [word_of(key) for key in keys if key.startswith(_KIND)]
        self._noted.update(found)
        return found

    def news(self, seen: Iterable[Word], now: int) -> dict[bytes, bytes]:
        """The incidents to note for what was seen, by key; now in ms."""
        rows: dict[bytes, bytes] = {}
        fresh: set[Word] = set()
        for word in seen:
            name = self._name(word, fresh)
            if name not in self._noted | fresh:
                fresh.add(name)
                incident = _incident(name, now)
                rows[incident.key] = incidents.encode(incident)
        return rows

    def counted(self, seen: Mapping[Word, int]) -> Counter[Word]:
        """How many events there were of each type that is told apart."""
        found: Counter[Word] = Counter()
        for word, count in seen.items():
            found[self._name(word)] += count
        return found

    def _name(self, word: Word, fresh: Iterable[Word] = ()) -> Word:
        known = self._noted.union(fresh)
        provider, said = word
        if provider not in TYPES:
            return ANOTHER, ANOTHER
        plain = _PLAIN.fullmatch(said) and (word in known or len(known) < MOST)
        return word if plain else (provider, ANOTHER)


def word_of(key: bytes) -> Word:
    """The provider and its word in an incident's key."""
    provider, _, word = key.removeprefix(_KIND).decode(errors="replace").partition(" ")
    return provider, word


def stands(key: bytes, types: Types = TYPES) -> bool:
    """Whether this is the incident of a type that is still unknown."""
    if not key.startswith(_KIND):
        return False
    provider, word = word_of(key)
    return word not in types.get(provider, {})


def _incident(word: Word, now: int) -> Incident:
    return Incident(
        kind="unknown_type",
        subject=" ".join(word),
        since=now,
        reason="this release does not know the type; its events are kept and counted, and suppress nobody",
    )
