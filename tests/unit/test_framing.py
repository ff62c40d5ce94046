"""How rows stand in a file of the spool: any damage is seen, and costs no row but those that it touches."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress import framing, spooling
from ingress.accept import Outgoing
from ingress.framing import START, Damaged, Intact, Loss, Torn
from ingress.spooling import Row


def value(number: int, size: int = 0) -> bytes:
    return spooling.encode(Row(1_000 + number, Outgoing("events", "opened", b"k", b"%d" % number + b" " * size, [])))


def file(count: int, first: int = 0) -> bytes:
    return framing.slot(first) + b"".join(framing.pack(n, value(n)) for n in range(first, first + count))


def numbers(data: bytes) -> list[int]:
    return [piece.number for piece in framing.walk(data, START) if isinstance(piece, Intact)]


def starts(data: bytes) -> list[int]:
    return [piece.start for piece in framing.walk(data, START) if isinstance(piece, Intact)]


def test_rows_come_back_as_they_were() -> None:
    data = file(5, first=7)
    pieces = list(framing.walk(data, START))
    assert [(p.number, p.value) for p in pieces if isinstance(p, Intact)] == [(n, value(n)) for n in range(7, 12)]
    found = framing.scan(data, 7)
    assert (found.rows, found.next, found.losses, found.broken) == (5, 12, [], False)
    assert (found.oldest, found.latest, found.size) == (1_007, 1_011, len(data) - START)


@given(st.integers(START, len(file(20)) - 1), st.integers(1, 255))
def test_a_changed_byte_costs_its_own_row_alone_and_is_seen(place: int, change: int) -> None:
    data = bytearray(file(20))
    hit = sum(start <= place for start in starts(bytes(data))) - 1
    data[place] ^= change
    found = framing.scan(bytes(data), 0)
    assert numbers(bytes(data)) == [n for n in range(20) if n != hit]
    if hit < 19:
        assert found.losses == [Loss(1, None if hit == 0 else 1_000 + hit - 1, 1_000 + hit + 1)]
    else:
        assert found.broken or data[-1] == 0  # no row that was whole ends with 0


@given(st.integers(START, len(file(3)) - 1))
def test_what_was_not_written_to_its_end_is_no_damage(end: int) -> None:
    whole = file(3)
    begun = max(start for start in starts(whole) if start <= end)
    for data in (whole[:end], whole[:end] + b"\0" * 5_000):
        pieces = list(framing.walk(data, START))
        assert not [piece for piece in pieces if isinstance(piece, Damaged)]
        found = framing.scan(data, 0)
        assert (found.broken, found.losses, found.rows) == (False, [], starts(whole).index(begun))
        assert pieces[-1:] == [Torn(begun)] or len(data) == begun


def test_a_missing_row_is_seen_by_its_number() -> None:
    data, places = file(10), starts(file(10))
    found = framing.scan(data[: places[3]] + data[places[6] :], 0)
    assert found.losses == [Loss(3, 1_002, 1_006)]
    assert (found.rows, found.next) == (7, 10)
    assert framing.scan(framing.slot(3) + file(10, first=5)[START:], 3).losses == [Loss(2, None, 1_005)]


def test_a_file_that_is_zeroed_or_noise_in_the_middle_keeps_what_is_around_it() -> None:
    data, places = file(50), starts(file(50))
    for filler in (b"\0", b"\xaa"):
        cut = places[10] + 3, places[20] + 3
        found = framing.scan(data[: cut[0]] + filler * (cut[1] - cut[0]) + data[cut[1] :], 0)
        assert found.losses == [Loss(11, 1_009, 1_021)]
        assert found.rows == 39


def test_what_is_sent_is_not_counted_and_a_slot_that_cannot_be_read_means_that_nothing_is() -> None:
    data = framing.slot(4) + file(10)[START:]
    found = framing.scan(data, 0)
    assert (found.rows, found.oldest, found.at) == (6, 1_004, starts(data)[4])
    assert framing.scan(framing.slot(10) + file(10)[START:], 0).rows == 0
    assert framing.scan(b"\xff" * START + file(10)[START:], 0).rows == 10


def test_damage_among_what_is_sent_is_no_loss() -> None:
    data = bytearray(framing.slot(4) + file(10)[START:])
    data[starts(bytes(data))[2] + 30] ^= 0xFF
    found = framing.scan(bytes(data), 0)
    assert (found.rows, found.losses) == (6, [])


@pytest.mark.parametrize("data", [b"", b"\0" * 5, framing.slot(0), framing.slot(9)])
def test_a_file_without_rows_has_none(data: bytes) -> None:
    assert framing.scan(data, 9).rows == 0
    assert framing.scan(data, 9).losses == []


@given(st.binary(max_size=200))
def test_any_bytes_can_be_read(data: bytes) -> None:
    assert framing.scan(data, 0).rows == 0


def test_a_whole_row_that_is_none_of_ours_is_missed() -> None:
    data = framing.slot(0) + framing.pack(0, value(0)) + framing.pack(1, b"\x01") + framing.pack(2, value(2))
    assert framing.scan(data, 0).losses == [Loss(1, 1_000, 1_002)]
