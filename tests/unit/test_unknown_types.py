"""Types that nobody knows: each is noted once, stands until it is known, and few are told apart."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import incidents
from pipeline.contract import EventType
from processor import guard, unknown_types
from processor.unknown_types import ANOTHER, MOST, Unknown, stands

NEXUS = "nexuspromail"


def note(unknown: Unknown, *words: str, provider: str = NEXUS) -> list[str]:
    """What is noted for events of these types; the subjects."""
    rows = unknown.news([(provider, word) for word in words], now=5)
    unknown.take_up(rows)
    return [incidents.decode(value).subject for value in rows.values()]


def test_each_type_is_noted_once_by_a_process() -> None:
    unknown = Unknown()
    assert note(unknown, "domain.verified", "ping") == ["nexuspromail domain.verified", "nexuspromail ping"]
    assert note(unknown, "ping", "pong") == ["nexuspromail pong"]


def test_the_next_owner_of_a_lane_knows_what_was_noted() -> None:
    rows = Unknown().news([(NEXUS, "ping")], now=5)
    successor = Unknown()
    assert successor.take_up([*rows, b"circuit_open/crm"]) == [(NEXUS, "ping")]
    assert note(successor, "ping") == []


@given(st.lists(st.text(max_size=80), max_size=200), st.lists(st.text(max_size=80), max_size=200))
def test_however_many_types_somebody_sends_few_are_told_apart(one: list[str], two: list[str]) -> None:
    unknown = Unknown()
    told = note(unknown, *one) + note(unknown, *two)
    assert len(told) == len(set(told)) <= MOST + 1
    counted = unknown.counted(Counter((NEXUS, word) for word in one + two))
    assert len(counted) <= MOST + 1
    assert counted.total() == len(one + two)


def test_all_types_beyond_those_are_one() -> None:
    unknown = Unknown()
    note(unknown, *(f"t{number}" for number in range(MOST)))
    assert note(unknown, "x1", "x2") == [f"nexuspromail {ANOTHER}"]
    assert note(unknown, "x3", "t0") == []
    assert unknown.counted(Counter({(NEXUS, "x1"): 2, (NEXUS, "x3"): 1})) == {(NEXUS, ANOTHER): 3}


@pytest.mark.parametrize("word", ["ann@example.com", "", "a b", "x" * 65, "é", "ping\n", "a\\u0040b", "(another)"])
def test_what_may_be_an_address_or_is_no_plain_word_is_not_told(word: str) -> None:
    assert note(Unknown(), word) == [f"nexuspromail {ANOTHER}"]


def test_a_provider_that_nobody_knows_is_not_told_either() -> None:
    assert note(Unknown(), "ping", provider="ann@example.com") == [f"{ANOTHER} {ANOTHER}"]


def test_it_is_over_when_a_release_knows_the_type_and_not_before() -> None:
    (key,) = Unknown().news([(NEXUS, "ping")], now=5)
    assert stands(key)
    assert guard.changes([key], {}, moved=True) == {}
    assert not stands(key, {NEXUS: {"ping": EventType.OPENED}})
    (known,) = Unknown().news([(NEXUS, "opened")], now=5)
    assert guard.changes([known], {}, moved=False) == {known: None}


def test_other_incidents_do_not_stand_for_a_type() -> None:
    assert not stands(b"circuit_open/unknown_type")
    assert unknown_types.word_of(b"unknown_type/\xff") == ("\N{REPLACEMENT CHARACTER}", "")
