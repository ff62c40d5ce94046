"""When a service that ended is started again."""

from itertools import accumulate

import pytest

from console.restarts import FIRST_DELAY, GOOD_RUN, LONGEST_DELAY, Again, Never, after_exit


def delay_after(last: float | None, ready_for: float = 0.0) -> float:
    match after_exit(refused=False, last_delay=last, ready_for=ready_for):
        case Again(delay):
            return delay
        case Never():
            pytest.fail("it would never be started again")


def test_the_wait_doubles_up_to_the_longest() -> None:
    waits = list(accumulate(range(7), lambda last, _: delay_after(last), initial=delay_after(None)))
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0]
    assert (waits[0], waits[-1]) == (FIRST_DELAY, LONGEST_DELAY)


def test_a_service_that_was_ready_long_enough_begins_again_with_the_first_wait() -> None:
    assert delay_after(LONGEST_DELAY, ready_for=GOOD_RUN) == FIRST_DELAY
    assert delay_after(4.0, ready_for=GOOD_RUN - 0.1) == 8.0


@pytest.mark.parametrize("last", [None, 0.5, 10.0])
def test_a_service_that_refuses_to_start_is_not_started_again(last: float | None) -> None:
    assert after_exit(refused=True, last_delay=last, ready_for=100.0) == Never()
