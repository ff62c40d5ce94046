"""How a rebuilt state differs from the one in use."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline import suppression
from pipeline.suppression import Facts, Span, Suppression
from processor.difference import Counts, changed, of_lists

ROWS = st.dictionaries(st.binary(max_size=2), st.binary(max_size=1))
BOUNCED = suppression.encode(Suppression.of("a@example.com", Facts(hard_bounce=Span(1, 2))))
CLEAN = suppression.encode(Suppression.of("a@example.com", Facts(reinstated=5)))


@given(ROWS, ROWS)
def test_the_difference_written_over_the_one_state_leaves_the_other_and_holds_nothing_else(
    was: dict[bytes, bytes], now: dict[bytes, bytes]
) -> None:
    result: dict[bytes, bytes | None] = dict(was)
    for key, former, new in changed(sorted(was.items()), sorted(now.items())):
        assert former == was.get(key)
        assert former != new
        result[key] = new
    assert {key: value for key, value in result.items() if value is not None} == now


def test_what_changes_for_addresses_is_counted() -> None:
    was = [(b"a", BOUNCED), (b"b", BOUNCED), (b"c", CLEAN), (b"d", b"nonsense"), (b"e", CLEAN), (b"g", BOUNCED)]
    now = [(b"a", CLEAN), (b"c", BOUNCED), (b"d", BOUNCED), (b"f", CLEAN), (b"g", BOUNCED)]
    rows, dropped, counts = of_lists(was, now)
    assert rows == {b"a": CLEAN, b"b": None, b"c": BOUNCED, b"d": BOUNCED, b"e": None, b"f": CLEAN}
    assert counts == Counts(entries=6, released=2, suppressed=2, unreadable=1)
    assert dropped == []
    assert counts + Counts(markers=3) == Counts(entries=6, released=2, suppressed=2, unreadable=1, markers=3)


def test_an_entry_that_stands_under_another_key_now_releases_nobody_and_goes_last() -> None:
    was = [(b"<a>", BOUNCED), (b"b", BOUNCED), (b"c", BOUNCED)]
    now = [(b"a", BOUNCED), (b"c", BOUNCED)]
    rows, dropped, counts = of_lists(was, now, {b"<a>", b"<z>"})
    assert (rows, dropped) == ({b"a": BOUNCED, b"b": None}, [b"<a>"])
    assert counts == Counts(entries=2, released=1, suppressed=1, former=1)
