"""Who is let in next of those that are shut out: sources take turns, and each keeps few waiting."""

from __future__ import annotations

from ingress.outside import MOST, MOST_OF_ONE, Outside


def test_sources_take_turns_whatever_their_number_of_connections() -> None:
    outside: Outside[str] = Outside()
    for source, who in (("a", "a1"), ("a", "a2"), ("a", "a3"), ("b", "b1")):
        outside.add(source, who)
    assert [outside.next() for _ in range(5)] == ["a1", "b1", "a2", "a3", None]
    assert len(outside) == 0


def test_the_oldest_of_a_source_goes_when_it_has_too_many() -> None:
    outside: Outside[int] = Outside()
    assert [outside.add("a", who) for who in range(MOST_OF_ONE)] == [None] * MOST_OF_ONE
    assert outside.add("a", 999) == 0
    outside.discard(0)
    assert outside.next() == 1


def test_the_oldest_of_all_goes_when_there_are_too_many() -> None:
    outside: Outside[int] = Outside()
    assert [outside.add(str(who), who) for who in range(MOST)] == [None] * MOST
    assert outside.add("more", 999) == 0


def test_all_of_a_source_can_be_had_and_one_that_left_has_no_turn() -> None:
    outside: Outside[int] = Outside()
    for who in (1, 2):
        outside.add("a", who)
    outside.discard(1)
    outside.discard(1)
    assert (outside.of("a"), outside.of("b"), 1 in outside, 2 in outside) == ([2], [], False, True)
