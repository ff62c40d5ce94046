"""The circuit of a handler: what opens it, what does not, and how it is probed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor import circuit
from processor.circuit import Circuit
from processor.handler import Handler, Outage

POLICY = Outage(share=0.5, window=30.0, minimum=5, base=1.0, cap=8.0)


def failing(found: Circuit, rows: range, now: float = 0.0) -> Circuit:
    """A try of each of these calls fails."""
    for row in rows:
        found.failed(b"%d" % row, "OSError: down", now=now, at=1_000)
    return found


def opened() -> Circuit:
    return failing(Circuit(POLICY), range(POLICY.minimum))


def succeeding(found: Circuit, times: int, now: float) -> None:
    for number in range(times):
        found.succeeded(b"good%d" % number, now)


def test_it_opens_when_several_fail_and_nothing_succeeds() -> None:
    found = failing(Circuit(POLICY), range(4))
    assert not found.is_open
    failing(found, range(4, 5))
    assert (found.is_open, found.since, found.reason) == (True, 1_000, "OSError: down")


def test_few_failures_among_many_successes_are_no_outage() -> None:
    found = Circuit(POLICY)
    succeeding(found, 100, 0.0)
    assert not failing(found, range(99)).is_open
    assert failing(found, range(99, 100)).is_open


def test_a_few_calls_that_are_tried_again_and_again_are_no_outage() -> None:
    found = Circuit(POLICY)
    for now in range(100):
        assert not failing(found, range(4), now).is_open


@pytest.mark.parametrize("base", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("begun", [0.01, 1, 7, 14.9, 15])
@pytest.mark.parametrize("bad", [0, 1, 4])
def test_whatever_was_before_an_outage_opens_it_before_a_call_has_no_try_left(
    base: float, begun: float, bad: int
) -> None:
    planned = [base * at for at in (0, 1, 3, 7, 15)]
    outage = 200.0
    # Many successes, a few calls that cannot succeed and were begun before the outage, and then the outage.
    steps = [(float(second), "good") for second in range(int(outage))]
    steps += [(outage - base * begun + at, "bad") for at in planned] if bad else []
    steps += [(outage + at, "all") for at in planned]
    found, tries = Circuit(POLICY), 0
    for now, what in sorted(steps):
        if what == "good":
            succeeding(found, 1_000, now)
        elif what == "all":
            failing(found, range(1_000, 1_500), now)
        else:
            tries += 1
            failing(found, range(bad), now)
            for row in range(bad if tries == len(planned) else 0):
                found.given_up(b"%d" % row, now)
        assert not found.is_open or now >= outage
    assert found.is_open


def test_calls_that_are_given_up_at_once_count_for_a_while() -> None:
    found = Circuit(POLICY)
    for row in range(5):
        assert not found.is_open
        failing(found, range(row, row + 1), now=row * 5.0)
        found.given_up(b"%d" % row, now=row * 5.0)
    assert found.is_open
    slow = Circuit(POLICY)
    for row in range(20):
        failing(slow, range(row, row + 1), now=row * 10.0)
        slow.given_up(b"%d" % row, now=row * 10.0)
    assert not slow.is_open


def test_a_handler_that_refuses_every_third_is_not_down() -> None:
    found = Circuit(POLICY)
    for number in range(300):
        if number % 3:
            succeeding(found, 1, number * 0.2)
        else:
            failing(found, range(number, number + 1), now=number * 0.2)
            found.given_up(b"%d" % number, now=number * 0.2)
        assert not found.is_open


def test_a_call_that_is_another_processors_now_does_not_count() -> None:
    found = failing(Circuit(POLICY), range(4))
    found.forget(b"0")
    assert not failing(found, range(4, 5)).is_open


def test_one_probe_at_a_time_at_growing_intervals_until_one_succeeds() -> None:
    found, now, waited = opened(), 0.0, []
    for _ in range(6):
        seconds = found.probe_in(now)
        assert seconds is not None
        assert not found.take_probe(now + seconds / 2)
        now += seconds
        waited.append(seconds)
        assert found.take_probe(now)
        assert (found.probe_in(now), found.take_probe(now)) == (None, False)
        found.probed(good=False, now=now)
    assert waited == [1, 2, 4, 8, 8, 8]
    now += 8
    assert found.take_probe(now)
    found.probed(good=True, now=now)
    assert (found.is_open, found.probe_in(now)) == (False, None)
    # The next outage begins with the shortest interval again, and needs failures of its own.
    assert not failing(found, range(4), now).is_open
    assert failing(found, range(4, 5), now).probe_in(now) == 1


def test_a_probe_that_was_given_up_is_made_by_somebody_else() -> None:
    found = opened()
    assert found.take_probe(1.0)
    found.dropped()
    assert found.take_probe(1.0)


def test_a_handler_that_asks_for_time_gets_it() -> None:
    found = Circuit(POLICY)
    for row in range(5):
        found.failed(b"%d" % row, "TryLater", now=0.0, at=1, wait=60.0)
    assert found.probe_in(0.0) == 60.0
    assert found.take_probe(60.0)
    found.probed(good=False, now=60.0, wait=100.0)
    assert found.probe_in(60.0) == 100.0


def test_whoever_watches_hears_of_every_change() -> None:
    found, heard = Circuit(POLICY), []
    found.watchers.add(lambda: heard.append(found.is_open))
    failing(found, range(7))
    found.take_probe(1.0)
    found.probed(good=False, now=1.0)
    found.take_probe(3.0)
    found.probed(good=True, now=3.0)
    assert heard == [True, True, False]


def test_an_open_circuit_is_not_opened_again() -> None:
    found = opened()
    found.open(5_000, "another reason", probe_at=0.0)
    assert (found.since, found.reason) == (1_000, "OSError: down")


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.floats(0, 3)), max_size=200))
def test_it_never_opens_while_fewer_than_the_minimum_fail(tries: list[tuple[int, bool, float]]) -> None:
    found, now = Circuit(POLICY), 0.0
    failing_now: set[int] = set()
    for row, good, pause in tries:
        now += pause
        if good:
            found.succeeded(b"%d" % row, now)
            failing_now.discard(row)
        else:
            failing(found, range(row, row + 1), now)
            failing_now.add(row)
        if found.is_open:
            assert len(failing_now) >= POLICY.minimum
            return


@pytest.mark.parametrize("probes", [0, 5, 5_000])
def test_no_pause_is_longer_than_the_cap(probes: int) -> None:
    assert 0 < POLICY.pause(probes) <= POLICY.cap


def test_every_handler_has_one_of_its_own() -> None:
    async def handle(*_: object) -> None: ...

    made = circuit.of({name: Handler(name, handle) for name in ("a", "b")})
    failing(made["a"], range(5))
    assert [made["a"].is_open, made["b"].is_open] == [True, False]
