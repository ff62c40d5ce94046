"""Sample deliveries as NexusProMail would post them: many addresses, all types, and repeats.

Pure and reproducible: the same (count, duplicates, seed) is always the same deliveries in the same order, and nothing
is kept in memory, so a million costs no more than one. `suppressed` says what must be on the list afterwards, from
the deliveries alone, so that a test can compare the whole list.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec

from pipeline import contract
from pipeline.suppression import Cause

#: NexusProMail's types, and how many of a hundred events are of each.
SHARES = {
    "delivered": 38,
    "opened": 15,
    "clicked": 6,
    "deferred": 6,
    "bounced.soft": 8,
    "bounced.hard": 9,
    "complained": 5,
    "unsubscribed": 7,
    "subscribed": 6,
}
#: A hundred names, so that a number below 100 picks a type by its share.
_TYPES = [name for name, share in SHARES.items() for _ in range(share)]
#: Reserved for documentation (RFC 2606): nobody's mail.
_DOMAINS = ("example.com", "example.net", "example.org")
#: Events per address, so that later facts meet earlier ones.
_EVENTS_PER_ADDRESS = 3
#: The first event's time, one second before the next; the past, because a time after its arrival is cut to that.
_START = datetime(2020, 1, 1, tzinfo=UTC)
_CAUSES: dict[str, Cause] = {"bounced.hard": "hard_bounce", "complained": "complaint"}
#: The person's own word: of several the latest counts.
_CHOICES = frozenset({"subscribed", "unsubscribed"})


@dataclass(frozen=True, slots=True)
class Delivery:
    """One delivery; email as the provider writes it."""

    id: str
    type: str
    email: str
    at: datetime

    def body(self) -> bytes:
        """The bytes that are posted and signed."""
        return msgspec.json.encode(
            {"id": self.id, "type": self.type, "created_at": self.at, "data": {"email": self.email}}
        )


def distinct(count: int, duplicates: float) -> int:
    """How many of `count` deliveries are not repeats, if a share of `duplicates` (0 to below 1) is."""
    return max(round(count * (1 - duplicates)), min(count, 1))


def deliveries(count: int, duplicates: float = 0.0, seed: int = 0) -> Iterator[Delivery]:
    """`count` deliveries of which exactly `distinct(count, duplicates)` differ; a repeat comes after its original."""
    chance = random.Random(seed)
    originals = distinct(count, duplicates)
    made = 0
    for position in range(count):
        # Selection sampling: what is left to make out of the places that are left comes out exactly.
        repeat = made > 0 and chance.random() * (count - position) >= originals - made
        if repeat:
            yield original(chance.randrange(made), originals, seed)
        else:
            yield original(made, originals, seed)
            made += 1


def original(number: int, originals: int, seed: int) -> Delivery:
    """The delivery with this number of `originals`, counted from 0."""
    digest = hashlib.blake2b(b"%d:%d" % (seed, number), digest_size=24).digest()
    pick = int.from_bytes(digest[16:20])
    person = int.from_bytes(digest[20:]) % max(1, originals // _EVENTS_PER_ADDRESS)
    email = f"person{person}.{seed}@{_DOMAINS[person % len(_DOMAINS)]}"
    return Delivery(
        id=f"evt_{digest[:16].hex()}",
        type=_TYPES[pick % len(_TYPES)],
        # Some providers pass on what the person typed: it must still be the same person.
        email=email.title() if pick // 100 % 10 == 0 else email,
        at=_START + timedelta(seconds=number),
    )


def suppressed(sent: Iterable[Delivery]) -> dict[str, frozenset[Cause]]:
    """The addresses that must be on the suppression list after these, and why; the order does not matter."""
    causes: dict[str, set[Cause]] = {}
    choices: dict[str, tuple[datetime, str, str]] = {}
    for delivery in sent:
        address = contract.address(delivery.email) or delivery.email
        if cause := _CAUSES.get(delivery.type):
            causes.setdefault(address, set()).add(cause)
        if delivery.type in _CHOICES:
            choice = (delivery.at, delivery.id, delivery.type)
            choices[address] = max(choice, choices.get(address, choice))
    for address, (_, _, word) in choices.items():
        if word == "unsubscribed":
            causes.setdefault(address, set()).add("unsubscribed")
    return {address: frozenset(found) for address, found in causes.items()}
