"""Joining facts: any order and any repetition of the same events leaves the same suppression."""

from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import suppression
from pipeline.contract import Event, EventType
from pipeline.suppression import Facts, Suppression
from processor.suppressions import SPEAKING, facts_of, join
from tests.unit.records import event

ALL = list(EventType)
# Few distinct times and ids, so that ties happen.
EVENTS = st.builds(
    lambda kind, identity, at: event(kind=kind, id=identity, occurred_at=at),
    st.sampled_from(ALL),
    st.sampled_from(["a", "b", "c"]),
    st.integers(0, 5),
)


def facts(events: list[Event]) -> Facts:
    return reduce(join, map(facts_of, events), Facts())


def causes(*events: Event) -> set[str]:
    return set(facts(list(events)).causes())


@given(st.lists(EVENTS, max_size=8).flatmap(lambda e: st.tuples(st.just(e), st.permutations(e))))
def test_any_order_of_the_same_events_leaves_the_same_suppression(orders: tuple[list[Event], list[Event]]) -> None:
    one, other = (Suppression.of("ann@example.com", facts(events)) for events in orders)
    assert suppression.encode(one) == suppression.encode(other)


@given(st.lists(EVENTS, max_size=6), st.data())
def test_repeating_events_changes_nothing(events: list[Event], data: st.DataObject) -> None:
    again = data.draw(st.lists(st.sampled_from(events), max_size=6)) if events else []
    assert facts(events + again) == facts(events)


@given(st.lists(EVENTS, max_size=4), st.lists(EVENTS, max_size=4), st.lists(EVENTS, max_size=4))
def test_joining_does_not_depend_on_how_a_batch_was_cut(
    one: list[Event], two: list[Event], three: list[Event]
) -> None:
    a, b, c = facts(one), facts(two), facts(three)
    assert join(join(a, b), c) == join(a, join(b, c)) == facts(one + two + three)


@pytest.mark.parametrize("kind", ALL)
def test_every_type_has_an_answer(kind: EventType) -> None:
    assert (facts_of(event(kind=kind)) != Facts()) == (kind in SPEAKING)


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        (EventType.HARD_BOUNCE, "hard_bounce"),
        (EventType.COMPLAINT, "complaint"),
        (EventType.UNSUBSCRIBED, "unsubscribed"),
    ],
)
def test_bounce_complaint_and_unsubscribe_suppress(kind: EventType, cause: str) -> None:
    assert causes(event(kind=kind)) == {cause}


@pytest.mark.parametrize("kind", [EventType.SOFT_BOUNCE, EventType.DEFERRED, EventType.OPENED, EventType.UNKNOWN])
def test_a_passing_trouble_suppresses_nobody(kind: EventType) -> None:
    assert causes(event(kind=kind)) == set()


def test_of_unsubscribed_and_subscribed_the_later_word_counts() -> None:
    left = event(kind=EventType.UNSUBSCRIBED, id="a", occurred_at=1)
    came = event(kind=EventType.SUBSCRIBED, id="b", occurred_at=2)
    left_again = event(kind=EventType.UNSUBSCRIBED, id="c", occurred_at=3)
    assert causes(came, left) == set()
    assert causes(left_again, came, left) == {"unsubscribed"}


def test_subscribing_does_not_excuse_a_hard_bounce() -> None:
    bounce = event(kind=EventType.HARD_BOUNCE, occurred_at=1)
    assert causes(bounce, event(kind=EventType.SUBSCRIBED, id="b", occurred_at=2)) == {"hard_bounce"}


def test_a_reinstatement_outdates_what_is_older_and_nothing_else() -> None:
    bounce = event(kind=EventType.HARD_BOUNCE, occurred_at=10)
    complaint = event(kind=EventType.COMPLAINT, occurred_at=30)
    same_moment = event(kind=EventType.UNSUBSCRIBED, occurred_at=20)
    word = event(kind=EventType.REINSTATED, occurred_at=20)
    assert causes(bounce, word) == set()
    assert causes(complaint, word, bounce) == {"complaint"}
    assert causes(same_moment, word) == {"unsubscribed"}


def test_a_time_in_the_far_future_counts_as_the_arrival() -> None:
    future = event(kind=EventType.UNSUBSCRIBED, id="a", occurred_at=99_999_999_999_999, received_at=1000)
    later = event(kind=EventType.SUBSCRIBED, id="b", occurred_at=2000, received_at=2000)
    assert causes(future, later) == set()


def test_a_suppression_survives_its_encoding_and_says_what_follows_from_its_facts() -> None:
    known = facts([event(kind=EventType.COMPLAINT, occurred_at=5), event(kind=EventType.REINSTATED, occurred_at=9)])
    written = Suppression.of("ann@example.com", known)
    assert suppression.decode(suppression.encode(written)) == written
    assert not written.suppressed
    assert written.updated_at == 9
