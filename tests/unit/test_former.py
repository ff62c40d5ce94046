"""What is told again of a former key says what the key said: any facts, in any order, as often as one likes."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import operators, suppression
from pipeline.suppression import Choice, Facts, Span, Suppression, Word
from processor import former, suppressions

NOW = 1_700_000_000_000
TIMES = st.integers(0, 12)
SPANS = st.tuples(TIMES, TIMES).map(lambda two: Span(min(two), max(two)))
TEXTS = st.sampled_from(["", "ann", "bob"])
FACTS = st.builds(
    Facts,
    hard_bounce=st.none() | SPANS,
    complaint=st.none() | SPANS,
    choice=st.none() | st.builds(Choice, TIMES, TEXTS, st.sampled_from(["subscribed", "unsubscribed"])),
    reinstated=st.none() | TIMES,
    word=st.none() | st.builds(Word, TIMES, TEXTS, st.sampled_from(["suppressed", "reinstated"]), TEXTS, TEXTS),
)


def sound(facts: Facts) -> bool:
    """As events make them: what was reinstated has had a word, which stands unless a later one does."""
    word, reinstated = facts.word, facts.reinstated
    if reinstated is None:
        return word is None or word.type == "suppressed"
    if word is None or word.at < reinstated:
        return False
    return word.type == "suppressed" or word.at == reinstated


def without_ids(facts: Facts) -> Facts:
    replace = msgspec.structs.replace
    return replace(
        facts,
        choice=facts.choice and replace(facts.choice, id=""),
        word=facts.word and replace(facts.word, id=""),
    )


@given(FACTS.filter(sound))
def test_what_is_told_again_says_every_fact_at_its_own_time(facts: Facts) -> None:
    events = former.told_again("ann@example.com", facts, NOW)
    assert without_ids(former.facts_of(events, NOW)) == without_ids(facts)
    assert {event.email for event in events} <= {"ann@example.com"}
    assert {(event.provider, event.id_basis) for event in events} <= {(operators.PROVIDER, "fingerprint")}


@given(FACTS.filter(sound), FACTS.filter(sound))
def test_telling_twice_changes_nothing_and_is_the_same_event(mine: Facts, his: Facts) -> None:
    once, again = (former.told_again("ann@example.com", mine, now) for now in (NOW, NOW + 1))
    assert [event.id for event in once] == [event.id for event in again]
    joined = suppressions.join(his, former.facts_of(once, NOW))
    assert suppressions.join(joined, former.facts_of(again, NOW + 1)) == joined


@pytest.mark.parametrize(
    ("key", "email"),
    [
        ("<ann@example.com>", "ann@example.com"),
        ("ann@bücher.example", "ann@xn--bcher-kva.example"),
        ("ａｎｎ＠example.com", "ann@example.com"),
        ("a@example.com,b@example.com", None),
        ("nobody", None),
    ],
)
def test_keys_of_an_earlier_release_are_found(key: str, email: str | None) -> None:
    value = suppression.encode(Suppression.of(key, Facts(complaint=Span(1, 1))))
    right = suppression.encode(Suppression.of("bob@example.com", Facts(complaint=Span(1, 1))))
    rows = [(key.encode(), value), (b"bob@example.com", right)]
    # What is no address any more is only counted: there is nobody to tell it of.
    taken = [] if email is None else [(key.encode(), email, Facts(complaint=Span(1, 1)))]
    assert former.entries(rows) == (taken, int(email is None))
    assert former.count([key.encode(), b"bob@example.com", b"\xff"]) == len(taken)
