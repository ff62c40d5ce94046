"""Large bodies share a budget: nobody exceeds it, nobody known waits for others, and who holds room has to use it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingress.room import Room


def room(*sizes: int, most: int = 100) -> Room[int]:
    """A room in which the unknown 0, 1, … asked for these sizes, and those that could have entered."""
    made: Room[int] = Room(most)
    for who, size in enumerate(sizes):
        made.ask(who, size, known=False)
    made.enter()
    return made


def test_who_does_not_fit_waits_and_enters_when_somebody_leaves() -> None:
    full = room(60, 40, 30, 10)
    assert [who for who in range(4) if full.has(who)] == [0, 1]
    assert full.leave(1)
    # In turn: the small one behind does not overtake, but follows.
    assert full.enter() == [2, 3]
    assert not full.anybody_waits()


def test_the_oldest_that_is_not_known_goes_for_who_is_known() -> None:
    full = room(50, 50, 50)
    assert full.in_the_way() is None
    full.ask(9, 50, known=True)
    full.enter()
    assert full.in_the_way() == 0
    full.leave(0)
    assert full.enter() == [9]
    assert full.in_the_way() is None


def test_who_sends_next_to_nothing_is_stalled_from_the_second_look_on() -> None:
    full = room(50, 50)
    received = {0: 49, 1: 10}
    assert full.stalled(received.__getitem__) == []
    received[1] = 13
    assert full.stalled(received.__getitem__) == [0]
    assert full.stalled(received.__getitem__) == [0, 1]


def test_of_those_that_are_stalled_the_known_go_last() -> None:
    full: Room[int] = Room(100)
    for who, known in ((0, True), (1, False)):
        full.ask(who, 50, known=known)
        full.enter()
    assert full.stalled(lambda who: 10) == []
    assert full.stalled(lambda who: 10) == [1, 0]


@given(st.lists(st.tuples(st.sampled_from(["ask", "leave"]), st.integers(0, 9), st.integers(1, 60), st.booleans())))
def test_whatever_happens_the_budget_holds_and_who_waits_alone_enters(
    what: list[tuple[str, int, int, bool]],
) -> None:
    made: Room[int] = Room(100)
    for verb, who, size, known in what:
        if verb == "ask":
            made.ask(who, size, known=known)
        else:
            made.leave(who)
        made.enter()
        assert sum(place.size for place in made._inside.values()) == 100 - made._free <= 100
        assert made._inside or not made.anybody_waits()
