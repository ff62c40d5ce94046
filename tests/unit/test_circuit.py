"""The circuit of a handler: what opens it, what does not, and how it is probed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor import circuit
from processor.circuit import Circuit
from processor.handler import Handler, Outage

POLICY = Outage(share=0.5, window=30.0, minimum=5, base=1.0, cap=8.0)


def failing(found: Circuit, times: int, now: float = 0.0, *, first: bool = True) -> Circuit:
    for _ in range(times):
        found.failed("OSError: down", first=first, now=now, at=1_000)
    return found


def opened() -> Circuit:
    return failing(Circuit(POLICY), POLICY.minimum)


def test_it_opens_when_most_of_what_is_new_fails() -> None:
    found = failing(Circuit(POLICY), 4)
    assert not found.is_open
    failing(found, 1)
    assert (found.is_open, found.since, found.reason) == (True, 1_000, "OSError: down")


def test_few_failures_among_many_successes_are_no_outage() -> None:
    found = Circuit(POLICY)
    for _ in range(100):
        found.succeeded(0.0)
    assert not failing(found, 99).is_open
    assert failing(found, 1).is_open


def test_a_call_that_is_tried_again_and_again_is_one_failure() -> None:
    assert not failing(failing(Circuit(POLICY), 4), 100, first=False).is_open


def test_what_is_older_than_the_window_is_forgotten() -> None:
    found = failing(Circuit(POLICY), 4, now=0.0)
    assert not failing(found, 4, now=POLICY.window).is_open
    assert failing(found, 1, now=POLICY.window + 1).is_open


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
    assert not failing(found, 4, now=now).is_open
    assert failing(found, 1, now=now).probe_in(now) == 1


def test_a_probe_that_was_given_up_is_made_by_somebody_else() -> None:
    found = opened()
    assert found.take_probe(1.0)
    found.dropped()
    assert found.take_probe(1.0)


def test_a_handler_that_asks_for_time_gets_it() -> None:
    found = Circuit(POLICY)
    for _ in range(5):
        found.failed("TryLater", first=True, now=0.0, at=1, wait=60.0)
    assert found.probe_in(0.0) == 60.0
    assert found.take_probe(60.0)
    found.probed(good=False, now=60.0, wait=100.0)
    assert found.probe_in(60.0) == 100.0


def test_whoever_watches_hears_of_every_change() -> None:
    found, heard = Circuit(POLICY), []
    found.watchers.add(lambda: heard.append(found.is_open))
    failing(found, 7)
    found.take_probe(1.0)
    found.probed(good=False, now=1.0)
    found.take_probe(3.0)
    found.probed(good=True, now=3.0)
    assert heard == [True, True, False]


def test_an_open_circuit_is_not_opened_again() -> None:
    found = opened()
    found.open(5_000, "another reason", probe_at=0.0)
    assert (found.since, found.reason) == (1_000, "OSError: down")


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 3)), max_size=200))
def test_it_never_opens_below_the_minimum_or_the_share(tries: list[tuple[bool, float]]) -> None:
    found, now, seen = Circuit(POLICY), 0.0, []
    for good, pause in tries:
        now += pause
        seen.append((now, good))
        if good:
            found.succeeded(now)
        else:
            failing(found, 1, now)
        # The counts are forgotten in parts, so a little more than the window may be looked back.
        recent = [good for at, good in seen if at > now - POLICY.window * (1 + 1 / circuit.PARTS)]
        if found.is_open:
            assert recent.count(False) >= POLICY.minimum
            return


@pytest.mark.parametrize("probes", [0, 5, 5_000])
def test_no_pause_is_longer_than_the_cap(probes: int) -> None:
    assert 0 < POLICY.pause(probes) <= POLICY.cap


def test_every_handler_has_one_of_its_own() -> None:
    async def handle(*_: object) -> None: ...

    made = circuit.of({name: Handler(name, handle) for name in ("a", "b")})
    failing(made["a"], 5)
    assert [made["a"].is_open, made["b"].is_open] == [True, False]
