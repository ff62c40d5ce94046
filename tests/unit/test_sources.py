"""A source of refusals is shut out for a while, and one that delivers something authentic never is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.sources import MOST, TRUSTED, WINDOW, Sources, source_of


def refuse(sources: Sources, source: str, times: int, now: float = 0.0) -> list[bool]:
    return [sources.refused(source, now) for _ in range(times)]


def test_the_one_refusal_too_many_shuts_out_for_a_while() -> None:
    sources = Sources(3)
    assert refuse(sources, "a", 4) == [False, False, False, True]
    assert sources.shut_out("a", 1.0) == WINDOW - 1.0
    assert sources.shut_out("b", 1.0) == 0.0
    assert sources.shut_out("a", WINDOW) == 0.0
    # Then it has as many again.
    assert refuse(sources, "a", 4, WINDOW) == [False, False, False, True]


def test_refusals_of_long_ago_do_not_count() -> None:
    sources = Sources(3)
    assert not any(refuse(sources, "a", 3, WINDOW * number) == [True] for number in range(10))
    assert sources.shut_out("a", WINDOW * 10) == 0.0


def test_who_delivered_something_authentic_is_listened_to_for_an_hour() -> None:
    sources = Sources(3)
    sources.authentic("a", 0.0)
    assert not any(refuse(sources, "a", 100, TRUSTED - 1))
    assert refuse(sources, "a", 4, TRUSTED)[-1]


def test_an_authentic_delivery_ends_being_shut_out() -> None:
    sources = Sources(3)
    refuse(sources, "a", 4)
    sources.authentic("a", 1.0)
    assert sources.shut_out("a", 1.0) == 0.0


def test_no_limit_shuts_nobody_out() -> None:
    assert not any(refuse(Sources(0), "a", 1000))


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans(), st.floats(0, 3)), max_size=300))
def test_nobody_is_shut_out_for_less_than_the_limit_nor_after_an_authentic_delivery(
    what: list[tuple[int, bool, float]],
) -> None:
    sources, now = Sources(5), 0.0
    refusals: dict[str, list[float]] = {}
    for number, authentic, pause in what:
        now += pause
        source = str(number % 3)
        if authentic:
            sources.authentic(source, now)
            refusals[source] = []
            continue
        lately = [at for at in refusals.get(source, []) if now - at < WINDOW] + [now]
        refusals[source] = lately
        assert not sources.refused(source, now) or len(lately) > 5


def test_what_is_remembered_is_bounded() -> None:
    sources = Sources(1)
    for number in range(MOST + 100):
        refuse(sources, str(number), 2)
        sources.authentic(f"good {number}", 0.0)
    assert sources.shut_out("0", 0.0) == 0.0
    assert sources.shut_out(str(MOST + 99), 0.0) == WINDOW
    assert max(len(sources._refused), len(sources._out), len(sources._authentic)) == MOST


@pytest.mark.parametrize(
    ("peer", "source"),
    [
        (("192.0.2.7", 5000), "192.0.2.7"),
        (("2001:db8:1:2:3:4:5:6", 5000, 0, 0), "2001:db8:1:2::"),
        (("2001:db8:1:2:ffff::1", 5000, 0, 0), "2001:db8:1:2::"),
        (("fe80::1%eth0", 5000, 0, 2), "fe80::"),
        (("::ffff:192.0.2.7", 5000, 0, 0), "192.0.2.7"),
        (("", 0), ""),
        ("", ""),
        (None, ""),
    ],
)
def test_a_source_is_an_address_or_a_network_of_ipv6(peer: object, source: str) -> None:
    assert source_of(peer) == source
