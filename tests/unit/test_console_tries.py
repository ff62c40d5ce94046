"""What a sender does after an answer, and how a run is summed up."""

import pytest

from console import tries
from console.tries import GiveUp, Kept, Stop, Wait


def after(status: int | None, *, tried: int = 1, retry_after: str | None = None) -> Kept | Wait | GiveUp | Stop:
    return tries.after(status, tried=tried, most=5, retry_after=retry_after, chance=1.0)


def test_only_200_means_that_the_delivery_is_kept() -> None:
    assert after(200) == Kept()
    for status in (201, 204, 302, 400, 408, 413, 429, 500, 503, None):
        assert isinstance(after(status), Wait), status


def test_waits_grow_until_the_tries_are_used_up() -> None:
    assert [after(503, tried=n) for n in (1, 2, 3, 4)] == [Wait(0.25), Wait(0.5), Wait(1.0), Wait(2.0)]
    assert after(503, tried=5) == GiveUp()


def test_chance_spreads_the_waits_down_to_a_half() -> None:
    assert tries.after(503, tried=1, most=5, retry_after=None, chance=0.0) == Wait(0.125)


def test_retry_after_is_honoured_within_reason() -> None:
    assert after(503, retry_after="2") == Wait(2.5)
    assert tries.after(503, tried=1, most=5, retry_after="2", chance=0.0) == Wait(2.0)
    assert tries.after(503, tried=1, most=5, retry_after="86400", chance=0.0) == Wait(tries.LONGEST_RETRY_AFTER)


@pytest.mark.parametrize("text", ["", "soon", "-1", "Wed, 21 Oct 2026 07:28:00 GMT", "²"])
def test_a_retry_after_that_is_no_number_of_seconds_is_as_none(text: str) -> None:
    assert after(503, retry_after=text) == Wait(0.25)


@pytest.mark.parametrize("status", [401, 404, 405])
def test_what_no_further_try_can_change_stops_the_run(status: int) -> None:
    match after(status):
        case Stop(reason):
            assert str(status) in reason
        case other:
            pytest.fail(f"{status} led to {other}")


def test_a_percentile_is_the_nearest_rank() -> None:
    hundred = [n / 1000 for n in range(1, 101)]
    assert tries.percentile_ms(hundred, 0.50) == 50.0
    assert tries.percentile_ms(hundred, 0.99) == 99.0
    assert tries.percentile_ms([0.0071], 0.99) == 7.1
    assert tries.percentile_ms([], 0.5) is None


def test_the_summary_adds_up() -> None:
    found = tries.summary(
        latencies=[0.2, 0.1, 0.3], retried=1, failed=2, answers={"503": 12, "200": 3}, seconds=1.5, stopped=""
    )
    assert (found.sent, found.ok, found.failed, found.retried) == (5, 3, 2, 1)
    assert (found.per_second, found.p50_ms, found.p99_ms) == (2.0, 200.0, 300.0)
    assert list(found.answers) == ["200", "503"]
