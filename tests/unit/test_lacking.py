"""What a copy knows and its changelogs do not: writing it back takes nothing away."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import suppression
from pipeline.suppression import Choice, Facts, Span, Suppression
from processor import lacking, suppressions
from processor.lacking import Counts, Lacking

BOUNCED = Facts(hard_bounce=Span(5, 5))
LEFT = Facts(choice=Choice(7, "e7", "unsubscribed"))
BACK = Facts(choice=Choice(9, "e9", "subscribed"))


def entry(facts: Facts, email: str = "a@example.com") -> bytes:
    return suppression.encode(Suppression.of(email, facts))


def rows(**entries: bytes) -> list[tuple[bytes, bytes]]:
    return sorted((name.encode(), value) for name, value in entries.items())


@pytest.mark.parametrize(
    ("there", "known", "written", "suppresses"),
    [
        (None, entry(BOUNCED), entry(BOUNCED), True),
        (None, entry(BACK), entry(BACK), False),
        (entry(BOUNCED), entry(BOUNCED), None, False),
        (entry(suppressions.join(BOUNCED, LEFT)), entry(LEFT), None, False),
        (entry(BACK), entry(BOUNCED), entry(suppressions.join(BACK, BOUNCED)), True),
        (entry(BACK), entry(LEFT), None, False),  # said later, so it stands
        (entry(LEFT), entry(BACK), entry(BACK), False),
        (b"nonsense", entry(BOUNCED), entry(BOUNCED), False),
        (entry(BOUNCED), b"nonsense", None, False),
        (None, b"nonsense", b"nonsense", True),
        (entry(BOUNCED), None, None, False),
    ],
)
def test_an_entry_is_written_back_where_it_adds_a_fact(
    there: bytes | None, known: bytes | None, written: bytes | None, suppresses: bool
) -> None:
    log, copy = rows(**({"a": there} if there else {})), rows(**({"a": known} if known else {}))
    assert list(lacking.of_lists(log, copy)) == ([] if written is None else [(b"a", written, suppresses)])


spans = st.builds(lambda first, more: Span(first, first + more), st.integers(0, 9), st.integers(0, 9))
choices = st.builds(
    Choice, st.integers(0, 9), st.sampled_from("xyz"), st.sampled_from(["subscribed", "unsubscribed"])
)
facts = st.builds(Facts, hard_bounce=st.none() | spans, complaint=st.none() | spans, choice=st.none() | choices)
lists = st.dictionaries(st.sampled_from(["a", "b", "c"]), facts.map(entry))


@given(lists, lists)
def test_once_it_is_written_the_topic_lacks_nothing_and_has_lost_nothing(
    there: dict[str, bytes], known: dict[str, bytes]
) -> None:
    after = there | {key.decode(): value for key, value, _ in lacking.of_lists(rows(**there), rows(**known))}
    assert not list(lacking.of_lists(rows(**after), rows(**known)))
    assert not list(lacking.of_lists(rows(**after), rows(**there)))


def test_markers_and_calls_are_put_back_where_there_is_none() -> None:
    log, copy = rows(b=b"other", d=b"4"), rows(a=b"1", b=b"2", c=b"3")
    assert list(lacking.missing(log, copy)) == [(b"a", b"1"), (b"c", b"3")]
    assert list(lacking.missing(log, copy, floor=b"b")) == [(b"c", b"3")]


def test_nothing_that_is_lacking_counts_as_nothing() -> None:
    assert not Lacking().counts
    some = Lacking(suppressions={b"a": b"1"}, calls={b"c": b"2"}, suppressed=1).counts
    assert some == Counts(entries=1, suppressed=1, calls=1)
    assert some
    assert some + some == Counts(entries=2, suppressed=2, calls=2)
