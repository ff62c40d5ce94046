"""What stands in the spool, and when it takes no more."""

from __future__ import annotations

from ingress import spooling
from ingress.accept import Outgoing
from ingress.spooling import Limits, Row

LIMITS = Limits(size=1_000, age=60.0)
NOW = 1_000_000


def test_a_row_comes_back_as_it_was_and_keys_keep_the_order() -> None:
    record = Outgoing("dead_letters", "unknown", None, b"\x00\xff", [("a", b"1"), ("a", b"\xfe")])
    assert spooling.decode(spooling.encode(Row(NOW, record))) == Row(NOW, record)
    numbers = [0, 1, 255, 256, 2**40, 2**64 - 1]
    assert [spooling.number(spooling.key(number)) for number in numbers] == numbers
    assert sorted(map(spooling.key, reversed(numbers))) == [spooling.key(number) for number in numbers]


def test_it_is_full_by_bytes_and_by_the_age_of_the_oldest() -> None:
    assert LIMITS.refusal(held=900, adding=100, oldest=NOW - 60_000, now=NOW) is None
    assert LIMITS.refusal(held=0, adding=100, oldest=None, now=NOW) is None
    assert "INGRESS_SPOOL_MAX_BYTES" in (LIMITS.refusal(held=901, adding=100, oldest=None, now=NOW) or "")
    assert "INGRESS_SPOOL_MAX_SECONDS" in (LIMITS.refusal(held=9, adding=1, oldest=NOW - 60_001, now=NOW) or "")
