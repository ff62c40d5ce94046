"""Whether the promise was kept: what was sent against what is there, by a model of its own.

Pure, and on purpose a stranger to the processor's rules: it knows the formats of the topics and the words of the
promise, and works everything out the plain way.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

#: Lines of each kind that a report shows.
MOST_SHOWN = 5
#: What can only speak against mailing, so that to hear it once too often is the safe side.
SUPPRESSING = frozenset({"hard_bounce", "complaint", "unsubscribed"})

#: A cause's first and latest time, in ms; what stands against an address, by cause.
Span = tuple[int, int]
Causes = dict[str, Span]


@dataclass(slots=True)
class Sent:
    """An event that a sender posted; accepted once any of its posts was answered 200.

    email     the one form of the address, however it was spelled
    at        when it happened, in ms, None if it does not tell
    nameless  it had no id, so its bytes are its identity: the same bytes again may be a new fact
    """

    email: str | None
    kind: str
    accepted: bool = False
    at: int | None = None
    nameless: bool = False


@dataclass
class Found:
    """What a run left, everything read with read_committed; each list in the order of its partitions.

    sent     by event id (without one: the fingerprint of its bytes), in the order in which its sender first posted
             the events of one address
    forged   ids that were posted with a wrong signature only
    events   (partition, offset, append time in ms, value) of the events topic
    markers  (key, value) of the markers' changelog
    listed   (address, value) of the suppressions topic
    letters  (event id, handler) of the dead letters; handler is empty if the record itself was the problem
    calls    (event id) of successful calls, in the order in which they ended
    lookup   (address, as it was asked for, whether it is suppressed, by what)
    lag      events not processed, calls not done
    """

    sent: dict[str, Sent] = field(default_factory=dict)
    forged: set[str] = field(default_factory=set)
    events: list[tuple[int, int, int, bytes]] = field(default_factory=list)
    markers: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    listed: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    letters: list[tuple[str, str]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    lookup: list[tuple[str, str, bool, frozenset[str]]] = field(default_factory=list)
    lag: int = 0
    refused: frozenset[str] = frozenset()


@dataclass(slots=True)
class Verdict:
    """wrong: a line for each violation, by what was violated; twice: successful calls made more than once."""

    wrong: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    events: int = 0
    twice: int = 0

    @property
    def kept(self) -> bool:
        return not any(self.wrong.values())

    def lines(self) -> list[str]:
        """The violations, some of each kind."""
        return [
            f"{what}: {len(found)}, for example {', '.join(found[:MOST_SHOWN])}"
            for what, found in self.wrong.items()
            if found
        ]


def check(found: Found) -> Verdict:
    """Every promise, one after the other."""
    verdict = Verdict()
    firsts = _first_occurrences(found.events)
    verdict.events = len(firsts)
    wrong = verdict.wrong
    wrong["answered 200 and not in the log"] += [i for i, s in found.sent.items() if s.accepted and i not in firsts]
    wrong["in the log and never signed"] += [i for i in firsts if i not in found.sent or i in found.forged]
    wrong["in the log and not as it was sent"] += [i for i, event in firsts.items() if _differs(event, found.sent)]
    _markers(found, firsts, wrong)
    _letters(found, firsts, wrong)
    _list(found, wrong)
    _order(found, firsts, wrong)
    verdict.twice = _calls(found, firsts, wrong)
    if found.lag:
        wrong["not processed in the end"].append(str(found.lag))
    return verdict


def _first_occurrences(events: Iterable[tuple[int, int, int, bytes]]) -> dict[str, dict[str, Any]]:
    """The event by id, as it stands first in the log; the order of the log within a partition."""
    firsts: dict[str, dict[str, Any]] = {}
    for event in _logged(events):
        firsts.setdefault(event["id"], event)
    return firsts


def _logged(events: Iterable[tuple[int, int, int, bytes]]) -> Iterator[dict[str, Any]]:
    """Everything on the log; the order of the log within a partition."""
    for _, _, appended, value in sorted(events, key=lambda each: each[:2]):
        yield json.loads(value) | {"appended": appended}


def _differs(event: dict[str, Any], sent: dict[str, Sent]) -> bool:
    """Whether what is in the log is about somebody else, or says something else, than what was posted."""
    was = sent.get(event["id"])
    if was is None:
        return False
    return (event.get("email"), event["provider_type"], event.get("occurred_at")) != (was.email, was.kind, was.at)


def _markers(found: Found, firsts: dict[str, dict[str, Any]], wrong: dict[str, list[str]]) -> None:
    written = Counter(key[4:] for key, value in found.markers if value is not None)
    expected = {digest(event): identity for identity, event in firsts.items()}
    wrong["in the log and not applied (no marker)"] += [i for digest, i in expected.items() if not written[digest]]
    wrong["applied twice (marker)"] += [expected.get(d, d.hex()) for d, count in written.items() if count > 1]
    wrong["a marker of nothing in the log"] += [d.hex() for d in written if d not in expected]


def digest(event: dict[str, Any]) -> bytes:
    """What the keys of an event's markers end with."""
    return hashlib.blake2b(f"{event['provider']}\0{event['id']}".encode(), digest_size=16).digest()


def _letters(found: Found, firsts: dict[str, dict[str, Any]], wrong: dict[str, list[str]]) -> None:
    counted = Counter(found.letters)
    expected = {(i, "") for i, event in firsts.items() if event.get("email") is None}
    expected |= {(i, "crm") for i, event in firsts.items() if event.get("email") in found.refused}
    wrong["a dead letter twice"] += [str(letter) for letter, count in counted.items() if count > 1]
    wrong["a dead letter that is missing"] += [str(letter) for letter in expected - counted.keys()]
    wrong["a dead letter of something sound"] += [str(letter) for letter in counted.keys() - expected]


def _list(found: Found, wrong: dict[str, list[str]]) -> None:
    expected = _model(_heard(found))
    latest: dict[str, str | None] = {}
    for key, value in found.listed:
        email, text = key.decode(), None if value is None else value.decode()
        if email in latest and latest[email] == text:
            wrong["an entry of the list written twice"].append(email)
        latest[email] = text
    said = {email: _verdict(value) for email, value in latest.items()}
    clean: tuple[bool, Causes] = (False, {})
    for email in said.keys() | expected.keys():
        causes = expected.get(email, {})
        if said.get(email, clean) != (bool(causes), causes):
            wrong["the list is not the model"].append(f"{email} {said.get(email)} {causes}")
    for email, asked, *answer in found.lookup:
        suppressed, known = said.get(email, clean)
        if answer != [suppressed, frozenset(known)]:
            wrong["the lookup is not the list"].append(f"{asked} {answer}")


def _verdict(value: str | None) -> tuple[bool, Causes]:
    if value is None:
        return False, {}
    entry = json.loads(value)
    return entry["suppressed"], {cause: (span["first"], span["latest"]) for cause, span in entry["causes"].items()}


def _heard(found: Found) -> Iterator[dict[str, Any]]:
    """What counts for the list: each event once, and every repeat that suppresses of one that has no id."""
    seen: set[str] = set()
    for event in _logged(found.events):
        sent = found.sent.get(event["id"])
        if event["id"] not in seen or (sent and sent.nameless and event["type"] in SUPPRESSING):
            yield event
        seen.add(event["id"])


def _model(events: Iterable[dict[str, Any]]) -> dict[str, Causes]:
    """What stands against each address and since when, worked out the plain way."""
    times: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    words: dict[str, list[tuple[int, bool]]] = defaultdict(list)
    for event in events:
        email, kind = event.get("email"), event["type"]
        if email is None:
            continue
        occurred = event.get("occurred_at")
        at = event["appended"] if occurred is None else min(occurred, event["appended"])
        if kind in ("hard_bounce", "complaint"):
            times[email][kind].append(at)
        elif kind in ("subscribed", "unsubscribed"):
            words[email].append((at, kind == "unsubscribed"))
    for email, said in words.items():
        # At one time the safe side stands.
        at, against = max(said)
        if against:
            times[email]["unsubscribed"].append(at)
    return {
        email: {cause: (min(several), max(several)) for cause, several in against.items()}
        for email, against in times.items()
    }


def _order(found: Found, firsts: dict[str, dict[str, Any]], wrong: dict[str, list[str]]) -> None:
    """A sender posts an address' next event once the one before was answered 200: that is the order of the log."""
    sent = _by_address((s.email, i) for i, s in found.sent.items() if s.accepted)
    logged = _by_address((event.get("email"), i) for i, event in firsts.items())
    for email, ids in sent.items():
        wanted = set(ids)
        there = [identity for identity in logged.get(email, []) if identity in wanted]
        for got, expected in zip_longest(there, [i for i in ids if i in firsts]):
            if got != expected:
                wrong["an address' events out of order in the log"].append(f"{email}: {got} before {expected}")
                break


def _calls(found: Found, firsts: dict[str, dict[str, Any]], wrong: dict[str, list[str]]) -> int:
    made = Counter(found.calls)
    wanted = [i for i, e in firsts.items() if e.get("email") is not None and e["email"] not in found.refused]
    wrong["a handler was never called"] += [identity for identity in wanted if not made[identity]]
    wrong["a handler was called for nothing"] += [identity for identity in made if identity not in firsts]
    logged = _by_address((firsts[i]["email"], i) for i in wanted)
    called = _by_address((firsts[i]["email"], i) for i in dict.fromkeys(found.calls) if i in firsts)
    for email, ids in logged.items():
        if called.get(email, []) != [identity for identity in ids if made[identity]]:
            wrong["a handler was called out of order"].append(email)
    return sum(count - 1 for count in made.values())


def _by_address(pairs: Iterable[tuple[str | None, str]]) -> dict[str, Sequence[str]]:
    ordered: dict[str, list[str]] = defaultdict(list)
    for email, identity in pairs:
        if email is not None:
            ordered[email].append(identity)
    return dict(ordered)
