"""The skewed events are skewed as they say, and else like the even ones."""

from __future__ import annotations

from collections import Counter

import msgspec

from bench import scaling
from bench.fill import Load, event

LOAD = Load(10_000)


def test_one_address_has_a_fifth_of_all_events() -> None:
    addresses = Counter(scaling.skewed(LOAD, number).email for number in range(LOAD.events))
    assert addresses[scaling.HOT] == LOAD.events / 5
    assert max(count for address, count in addresses.items() if address != scaling.HOT) < 10


def test_a_repeat_has_the_address_of_its_original() -> None:
    of_id: dict[str, set[str | None]] = {}
    for number in range(LOAD.events):
        made = scaling.skewed(LOAD, number)
        of_id.setdefault(made.id, set()).add(made.email)
        assert msgspec.json.decode(made.raw)["data"]["email"] == made.email
    assert len(of_id) < LOAD.events
    assert all(len(addresses) == 1 for addresses in of_id.values())


def test_nothing_but_the_address_differs() -> None:
    for number in range(100):
        even, made = event(LOAD, number), scaling.skewed(LOAD, number)
        assert (made.id, made.type, made.received_at) == (even.id, even.type, even.received_at)
