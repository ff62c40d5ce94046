"""Sample deliveries: exact counts, the same again, and what must be suppressed after them."""

import json
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console import sample
from console.sample import Delivery
from ingress import accept
from ingress.delivery import Delivery as Received
from ingress.providers import PROVIDERS
from pipeline import contract
from pipeline.contract import Event
from pipeline.suppression import Facts, Suppression
from processor import suppressions

#: Some day in 2026, ms.
NOW = 1_780_000_000_000


def test_a_hundred_thousand_with_a_tenth_of_duplicates_holds_ninety_thousand_ids() -> None:
    made = [delivery.id for delivery in sample.deliveries(100_000, 0.1, seed=1)]
    assert len(made) == 100_000
    assert len(set(made)) == 90_000 == sample.distinct(100_000, 0.1)


@given(count=st.integers(1, 300), duplicates=st.floats(0, 0.999), seed=st.integers(0, 2**32))
def test_the_counts_are_exact_for_any_share(count: int, duplicates: float, seed: int) -> None:
    made = [delivery.id for delivery in sample.deliveries(count, duplicates, seed)]
    assert len(made) == count
    assert len(set(made)) == max(round(count * (1 - duplicates)), 1)


def test_a_repeat_is_the_very_bytes_of_its_original() -> None:
    made = list(sample.deliveries(500, 0.5, seed=3))
    assert len({delivery.body() for delivery in made}) == len({delivery.id for delivery in made})


def test_a_seed_makes_the_same_sample_again_and_another_seed_other_ids() -> None:
    assert list(sample.deliveries(200, 0.2, seed=4)) == list(sample.deliveries(200, 0.2, seed=4))
    one, other = ({d.id for d in sample.deliveries(200, 0.2, seed=seed)} for seed in (4, 5))
    assert not one & other


def test_every_type_and_many_addresses_come_up() -> None:
    made = list(sample.deliveries(5_000, seed=6))
    assert set(Counter(delivery.type for delivery in made)) == set(sample.SHARES)
    assert sum(sample.SHARES.values()) == 100
    assert len({delivery.email.lower() for delivery in made}) > 1_000


def test_the_body_is_what_nexuspromail_posts() -> None:
    delivery = next(sample.deliveries(1, seed=7))
    body = json.loads(delivery.body())
    assert body == {
        "id": delivery.id,
        "type": delivery.type,
        "created_at": "2020-01-01T00:00:00Z",
        "data": {"email": delivery.email},
    }


def received(delivery: Delivery) -> Event:
    """The event that our own ingress makes of it."""
    posted = Received(method="POST", headers={}, body=delivery.body(), received_at=NOW)
    [record] = accept.records(PROVIDERS["nexuspromail"], posted, fresh_trace="00-0-0-00")
    return contract.decode(record.value)


@pytest.mark.parametrize("seed", range(3))
def test_what_it_says_must_be_suppressed_is_what_the_rules_make_of_it_in_any_order(seed: int) -> None:
    made = list(sample.deliveries(3_000, 0.2, seed))
    events = [received(delivery) for delivery in made]
    random.Random(seed).shuffle(events)
    facts: dict[str, Facts] = {}
    for event in events:
        facts[event.email or ""] = suppressions.join(
            facts.get(event.email or "", Facts()), suppressions.facts_of(event, NOW)
        )
    entries = [Suppression.of(email, known) for email, known in facts.items()]
    assert sample.suppressed(made) == {e.email: frozenset(e.causes) for e in entries if e.suppressed}
