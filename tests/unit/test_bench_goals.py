"""What a run says about each goal."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from bench import goals
from bench.figures import Medians, largest, size, text
from bench.goals import Row

Figures = Mapping[str, float]


def judged(found: Medians, what: str, wanted: str = "") -> Row:
    """The one goal with this name and, of several, with this text."""
    (row,) = [row for row in goals.rows(found) if row.what == what and wanted in row.wanted]
    return row


def ingress(**figures: float) -> Medians:
    """requests/s of candidates with 64 connections."""
    return {("ingress", "64 connections", name): {"requests/s": value} for name, value in figures.items()}


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    rows = goals.rows({})
    assert len(rows) == len(goals.GOALS)
    assert {(row.met, row.figure, row.told, row.verdict) for row in rows} == {(None, None, "–", "not measured")}


@pytest.mark.parametrize(("ours", "verdict"), [(649, "**missed**"), (650, "met"), (900, "met")])
def test_a_ratio_to_the_no_op_is_met_from_its_bound_on(ours: float, verdict: str) -> None:
    row = judged(ingress(**{"postlog": ours, "aiohttp no-op": 1000}), "Ingress, 1 process, 64 connections", "no-op")
    assert (row.verdict, row.told) == (verdict, f"{ours / 1000:.2f} × aiohttp no-op")
    assert row.wanted == "≥ 0.65 × aiohttp no-op"


def test_a_peer_that_did_nothing_is_not_divided_by() -> None:
    found = ingress(**{"postlog": 5, "aiohttp no-op": 0})
    assert judged(found, "Ingress, 1 process, 64 connections", "no-op").met is None


@pytest.mark.parametrize(("p99", "met"), [(15.0, True), (15.1, False)])
def test_a_time_may_be_at_most_its_bound(p99: float, met: bool) -> None:
    row = judged(
        {("ingress", "64 connections", "postlog"): {"p99 ms": p99}}, "Ingress, 1 process, 64 connections: p99"
    )
    assert row.met is met


@pytest.mark.parametrize(("share", "met"), [(2.9, True), (3.0, False)])
def test_less_than_is_not_at_most(share: float, met: bool) -> None:
    row = judged({("idle", "all services", "postlog"): {"% of a core": share}}, "Idle, all services")
    assert row.met is met


def test_processors_are_compared_also_if_a_slow_one_got_fewer_events() -> None:
    found = {
        ("processor", "2 million events", "postlog"): {"events/s": 60_000.0},
        ("processor", "40,000 events", "stock Faust"): {"events/s": 1_500.0},
    }
    assert judged(found, "Processor", "stock Faust").told == "40.0 × stock Faust (1 process)"
    found["processor", "2 million events", "postlog (2 processes)"] = {"events/s": 75_000.0}
    assert judged(found, "Processor", "stock Faust").told == "50.0 × stock Faust (2 processes)"


def test_no_latency_is_good_enough_at_a_rate_that_was_not_reached() -> None:
    what = "End to end, 2,000 events/s: p50"
    reached = {"p50 ms": 20.0, "events/s": 1_990.0}
    assert judged({("end to end", "2,000 events/s", "postlog"): reached}, what).met is True
    # A median may still have a latency, of the one round that reached it.
    row = judged({("end to end", "2,000 events/s", "postlog"): {**reached, "events/s": 1_291.7}}, what)
    assert (row.met, row.told) == (False, "none: 1,292 events/s were reached")


def test_the_largest_state_counts_and_is_named() -> None:
    found = {
        ("state", case, "postlog"): {"events/s": speed, "MB": memory, "restore records/s": restored}
        for case, speed, memory, restored in [
            ("0 live ids", 50_000.0, 100.0, 0.0),
            ("5 million live ids", 20_000.0, 140.0, 300_000.0),
            ("20 million live ids", 45_000.0, 260.0, 450_000.0),
        ]
    }
    memory = judged(found, "Processor, 20 million live ids: memory more than when empty")
    assert (memory.met, memory.told) == (False, "160 MB (at 20 million live ids)")
    assert judged(found, "Processor, 20 million live ids: speed").told.startswith("0.90 × its speed when empty")
    assert judged(found, "Restore").told == "450,000 changelog records/s (at 20 million live ids)"


def test_one_state_alone_says_nothing_about_growth() -> None:
    found = {("state", "0 live ids", "postlog"): {"events/s": 50_000.0, "MB": 100.0}}
    assert judged(found, "Processor, 20 million live ids: speed").met is None


@pytest.mark.parametrize(
    ("case", "number"),
    [
        ("0 live ids", 0),
        ("1 million live ids", 1e6),
        ("2.5 million events", 2.5e6),
        ("200,000 events", 2e5),
        ("64 connections", 64),
        ("GET one", None),
        ("all services", None),
    ],
)
def test_a_case_begins_with_its_size(case: str, number: float | None) -> None:
    assert size(case) == number


def test_the_largest_case_is_so_by_number_and_not_by_letter() -> None:
    found = {("state", f"{n} million live ids", "postlog"): {"MB": float(n)} for n in (5, 20, 1)}
    assert largest(found, "state", "postlog", "MB") == ("20 million live ids", 20.0)


@pytest.mark.parametrize(
    ("number", "told"), [(0, "0"), (0.123, "0.12"), (9.999, "10.00"), (12.34, "12.3"), (1234.5, "1,234")]
)
def test_a_figure_has_the_digits_that_count(number: float, told: str) -> None:
    assert text(number) == told
