"""What stands in the spool, and when it takes no more."""

from __future__ import annotations

from ingress import spooling
from ingress.accept import Outgoing
from ingress.spooling import RESERVED_BYTES, Limits, Row

LIMITS = Limits(size=1_000, age=60.0, waiting=200)
NOW = 1_000_000
MIB = 1024 * 1024


def refusal(
    held: int, adding: int, *, waiting: int = 0, room: int = 10_000, oldest: int | None = None, now: int = NOW
) -> str | None:
    return LIMITS.refusal(held=held, waiting=waiting, adding=adding, room=room, oldest=oldest, now=now)


def test_a_row_comes_back_as_it_was() -> None:
    record = Outgoing("dead_letters", "unknown", None, b"\x00\xff", [("a", b"1"), ("a", b"\xfe")])
    assert spooling.decode(spooling.encode(Row(NOW, record))) == Row(NOW, record)


def test_it_is_full_by_bytes_and_by_the_age_of_the_oldest() -> None:
    assert refusal(900, 100, oldest=NOW - 60_000) is None
    assert refusal(0, 100) is None
    assert "INGRESS_SPOOL_MAX_BYTES" in (refusal(901, 100) or "")
    assert "INGRESS_SPOOL_MAX_SECONDS" in (refusal(9, 1, oldest=NOW - 60_001) or "")


def test_it_is_full_when_the_disk_is_whatever_it_may_hold() -> None:
    assert refusal(0, 100, room=100) is None
    assert "INGRESS_SPOOL_DIR" in (refusal(0, 100, room=99) or "")
    assert "INGRESS_SPOOL_DIR" in (refusal(50, 60, waiting=50, room=109) or "")


def test_what_waits_for_the_disk_is_bounded_and_one_delivery_always_may() -> None:
    assert refusal(100, 100, waiting=100) is None
    assert "INGRESS_MAX_PENDING_BYTES" in (refusal(101, 100, waiting=101) or "")
    assert refusal(0, 500) is None


def test_a_part_of_the_disk_stays_free() -> None:
    assert spooling.room(free=10 * MIB, disk=20 * MIB) == 9 * MIB
    assert spooling.room(free=MIB, disk=40 * MIB) == 0
    assert spooling.room(free=10**12, disk=10**12) == 10**12 - RESERVED_BYTES
