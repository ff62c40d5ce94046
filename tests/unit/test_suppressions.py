"""Joining facts: any order and any repetition of the same events leaves the same suppression."""

from functools import reduce

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.providers import PROVIDERS
from pipeline import operators, suppression
from pipeline.contract import Event, EventType
from pipeline.operators import Said
from pipeline.suppression import Facts, Suppression, Word
from processor.suppressions import SPEAKING, before, facts_of, join
from tests.unit.records import NOON, OPERATORS, event

ALL = list(EventType)
# Few distinct times and ids, so that ties happen.
EVENTS = st.builds(
    lambda kind, identity, at, raw: event(kind=kind, id=identity, occurred_at=at, raw=raw),
    st.sampled_from(ALL),
    st.sampled_from(["a", "b", "c"]),
    st.integers(0, 5),
    st.sampled_from([b"null", b'{"who":"a","because":"b"}', b'{"who":"c"}', b'{"who":5}', b'"\\ud800"']),
)


def facts(events: list[Event]) -> Facts:
    """With a log that took each event when the ingress had it."""
    return reduce(join, [facts_of(event, event.received_at) for event in events], Facts())


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
    assert (facts_of(event(kind=kind), NOON) != Facts()) == (kind in SPEAKING)


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


@pytest.mark.parametrize(("joined", "left"), [("evt_9", "evt_10"), ("evt_10", "evt_9"), ("same", "same")])
def test_at_one_time_the_unsubscribe_stands_whatever_the_ids_are(joined: str, left: str) -> None:
    yes = event(kind=EventType.SUBSCRIBED, id=joined, occurred_at=5)
    no = event(kind=EventType.UNSUBSCRIBED, id=left, occurred_at=5)
    assert causes(yes, no) == causes(no, yes) == {"unsubscribed"}


@pytest.mark.parametrize(("no_id", "yes_id"), [("9", "10"), ("10", "9")])
def test_at_one_time_an_operators_suppression_stands_whatever_the_ids_are(no_id: str, yes_id: str) -> None:
    no = event(kind=EventType.SUPPRESSED, id=no_id, occurred_at=5)
    yes = event(kind=EventType.REINSTATED, id=yes_id, occurred_at=5)
    assert causes(yes, no) == causes(no, yes) == {"operator"}


@pytest.mark.parametrize("kind", [EventType.HARD_BOUNCE, EventType.COMPLAINT, EventType.UNSUBSCRIBED])
def test_what_happened_at_the_very_moment_of_a_reinstatement_stands(kind: EventType) -> None:
    yes, no = event(kind=EventType.REINSTATED, id="9", occurred_at=5), event(kind=kind, id="10", occurred_at=5)
    assert len(causes(yes, no)) == len(causes(no, yes)) == 1


WORDS = st.builds(
    lambda kind, identity, at: event(kind=kind, id=identity, occurred_at=at),
    st.sampled_from(
        [EventType.SUBSCRIBED, EventType.UNSUBSCRIBED, EventType.SUPPRESSED, EventType.REINSTATED],
    ),
    st.sampled_from(["a", "b", "c"]),
    st.integers(0, 1),
)


@given(st.lists(WORDS, max_size=5), st.permutations(["a", "b", "c"]))
def test_no_id_decides_who_is_mailed(events: list[Event], names: list[str]) -> None:
    renamed = dict(zip(["a", "b", "c"], names, strict=True))
    other = [msgspec.structs.replace(each, id=renamed[each.id]) for each in events]
    assert causes(*other) == causes(*events)


@given(st.lists(EVENTS, min_size=1, max_size=6).flatmap(lambda e: st.tuples(st.just(e), st.permutations(e))))
def test_an_entry_of_a_former_release_joins_in_any_order_though_it_kept_the_greater_id(
    orders: tuple[list[Event], list[Event]],
) -> None:
    value = (
        b'{"v":1,"email":"a@example.com","suppressed":false,"causes":{},"updated_at":5,"facts":'
        b'{"choice":{"at":5,"id":"evt_9","type":"subscribed"},"reinstated":5,'
        b'"word":{"at":5,"id":"zz","type":"reinstated","who":"","because":""}}}'
    )
    former = suppression.decode(value).facts
    one, other = (reduce(join, [facts([each]) for each in events], former) for events in orders)
    assert one == other == join(facts(orders[0]), former)


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


def test_of_an_operators_words_the_later_one_counts() -> None:
    no = event(kind=EventType.SUPPRESSED, id="a", occurred_at=10)
    yes = event(kind=EventType.REINSTATED, id="b", occurred_at=20)
    no_again = event(kind=EventType.SUPPRESSED, id="c", occurred_at=30)
    assert causes(no) == {"operator"}
    assert causes(yes, no) == set()
    assert causes(no_again, yes, no) == {"operator"}


def test_what_a_reinstatement_outdated_stays_outdated_whatever_the_operator_says_later() -> None:
    bounce = event(kind=EventType.HARD_BOUNCE, occurred_at=10)
    yes = event(kind=EventType.REINSTATED, id="b", occurred_at=20)
    no = event(kind=EventType.SUPPRESSED, id="c", occurred_at=30)
    assert causes(no, bounce, yes) == {"operator"}


def test_after_a_reinstatement_a_new_complaint_suppresses_again() -> None:
    yes = event(kind=EventType.REINSTATED, occurred_at=20)
    assert causes(event(kind=EventType.COMPLAINT, occurred_at=30), yes) == {"complaint"}


@pytest.mark.parametrize("kind", sorted(OPERATORS))
def test_a_provider_that_speaks_an_operators_word_is_not_heard(kind: EventType) -> None:
    assert facts_of(event(kind=kind, provider="nexuspromail"), NOON) == Facts()


def test_no_provider_can_speak_for_an_operator() -> None:
    assert operators.PROVIDER not in {provider.name for provider in PROVIDERS.values()} | PROVIDERS.keys()
    assert not {kind for provider in PROVIDERS.values() for kind in provider.types.values()} & OPERATORS


def test_who_and_why_are_kept_with_the_word_and_bounded() -> None:
    said = Said("w" * 2000, "b" * 2000)
    made = operators.event("a@example.com", EventType.SUPPRESSED, said, id="1", id_basis="id", now=5)
    word = facts_of(made, 5).word
    assert word == Word(5, "1", "suppressed", "w" * operators.LONGEST_WHO, "b" * operators.LONGEST_BECAUSE)


@pytest.mark.parametrize(
    "raw", [b"null", b"{", b"[1]", b'{"who":5}', b"\xff", b'"\\ud800"', b"[" * 100_000, b""], ids=repr
)
def test_a_word_counts_whatever_its_raw_tells(raw: bytes) -> None:
    word = facts_of(event(kind=EventType.SUPPRESSED, id="1", occurred_at=5, raw=raw), NOON).word
    assert word == Word(5, "1", "suppressed", "", "")


def test_facts_that_were_written_before_operators_spoke_are_read() -> None:
    old = (
        b'{"v":1,"email":"a@example.com","suppressed":false,"causes":{},"updated_at":9,'
        b'"facts":{"hard_bounce":{"first":1,"latest":5},"reinstated":9}}'
    )
    assert suppression.encode(suppression.decode(old)) == old


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


@given(st.lists(EVENTS, max_size=8), st.integers(0, 6))
def test_what_happened_before_a_time_is_what_only_older_events_leave_but_for_what_newer_ones_hid(
    events: list[Event], horizon: int
) -> None:
    old, new = [e for e in events if e.at < horizon], [e for e in events if e.at >= horizon]
    kept = before(facts(events), horizon)
    assert before(kept, horizon) == kept
    assert before(facts(old), horizon) == facts(old)
    # Joined with the newer events again it says what it said.
    assert join(kept, facts(new)).causes().keys() == facts(events).causes().keys()
