"""Entries of the list under a key that an earlier release gave their address, and what they say under today's.

Pure. Nobody finds such an entry, because whoever asks is asked for the form of today. What it knows is told again, as
events of the address as it is written now: they join into the list like any others, so telling twice changes nothing,
and the log alone says it from then on. See docs/decisions/0036.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from typing import NamedTuple

from pipeline import contract, operators, suppression
from pipeline.addresses import address
from pipeline.contract import Event, EventType
from pipeline.operators import Said
from pipeline.suppression import Facts, Span, Word
from processor import suppressions

#: Who says it again, and why; of an operator's word these stay as they were.
SAID = Said("postlog replay --rebuild", "the entry had a key of an earlier release")


class Entry(NamedTuple):
    """An entry of the list under a former key; email is the address as it is written now."""

    key: bytes
    email: str
    facts: Facts


def written_now(key: bytes) -> str | None:
    """The key of today for the address that this is the key of; None if it is no address."""
    try:
        return address(key.decode())
    except UnicodeDecodeError:
        return None


def count(keys: Iterable[bytes]) -> int:
    """How many of these are keys that an address had and has no more."""
    return sum(1 for key in keys if (now := written_now(key)) is not None and now.encode() != key)


def entries(rows: Iterable[tuple[bytes, bytes]]) -> tuple[list[Entry], int]:
    """Those of the rows of a list whose key would be another one now, and how many keys are no address any more.

    Raises Undecodable.
    """
    found, nobodys = [], 0
    for key, value in rows:
        email = written_now(key)
        if email is None:
            nobodys += 1
        elif email.encode() != key:
            found.append(Entry(key, email, suppression.decode(value).facts))
    return found, nobodys


def told_again(email: str, facts: Facts, now: int) -> list[Event]:
    """Events that say all of these facts about an address, each at its own time; now in ms."""
    events = []
    for kind, span in ((EventType.HARD_BOUNCE, facts.hard_bounce), (EventType.COMPLAINT, facts.complaint)):
        events += [_event(email, kind, at, now) for at in _times(span)]
    if facts.choice:
        events.append(_event(email, EventType(facts.choice.type), facts.choice.at, now))
    if facts.word:
        events.append(_word(email, facts.word, now))
    if facts.reinstated is not None and not _says_reinstated(facts):
        events.append(_event(email, EventType.REINSTATED, facts.reinstated, now))
    return events


def facts_of(events: Sequence[Event], now: int) -> Facts:
    """What these events say together, once the log takes them at `now`, in ms."""
    return reduce(suppressions.join, [suppressions.facts_of(event, now) for event in events], Facts())


def _times(span: Span | None) -> tuple[int, ...]:
    return () if span is None else tuple(dict.fromkeys((span.first, span.latest)))


def _says_reinstated(facts: Facts) -> bool:
    return facts.word is not None and facts.word.type == "reinstated" and facts.word.at == facts.reinstated


def _word(email: str, word: Word, now: int) -> Event:
    return _event(email, EventType(word.type), word.at, now, Said(word.who, word.because))


def _event(email: str, kind: EventType, at: int, now: int, said: Said = SAID) -> Event:
    parts = ("former", email, kind.value, str(at), said.who, said.because)
    return operators.event(
        email,
        kind,
        said,
        id=contract.fingerprint(*(part.encode() for part in parts)),
        id_basis="fingerprint",
        now=now,
        at=at,
    )
