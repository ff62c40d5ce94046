"""A ratio that fell is named; one that was not measured is said; nothing to compare is a failure."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import regress, runs
from bench.regress import Recorded
from bench.results import Run, Sample

INGRESS = "ingress, 64 connections: postlog / aiohttp no-op"
LOOKUP = "lookup, GET one: postlog / aiohttp no-op"


def measured(ours: float, *, quick: bool = True) -> Run:
    """A run in which the no-op answers 1,000 requests."""
    figures = {"postlog": ours, "aiohttp no-op": 1000.0}
    samples = [Sample("ingress", "64 connections", who, 0, {"requests/s": v}) for who, v in figures.items()]
    return Run({}, {}, samples, quick)


def test_ratios_are_those_of_the_run() -> None:
    found = {
        ("ingress", "64 connections", "postlog"): {"requests/s": 700.0},
        ("ingress", "64 connections", "aiohttp no-op"): {"requests/s": 1000.0},
        ("ingress", "batches of 100", "postlog"): {"events/s": 7_000.0},
        ("processor", "200,000 events", "postlog"): {"events/s": 600.0},
        ("processor", "10,000 events", "stock Faust"): {"events/s": 20.0},
    }
    assert regress.ratios(found) == {
        INGRESS: 0.7,
        "ingress: events/s in batches of 100 / requests/s": 10.0,
        "processor: postlog / stock Faust": 30.0,
    }


@pytest.mark.parametrize(("now", "verdict"), [(0.43, "ok"), (0.41, "FELL"), (9.0, "ok")])
def test_a_ratio_may_fall_to_its_least_share_of_what_was_recorded(now: float, verdict: str) -> None:
    (row,) = regress.compare({INGRESS: Recorded(0.7, 0.6)}, {INGRESS: now})
    assert row.verdict == verdict


def test_what_fell_is_named_and_nothing_else() -> None:
    rows = regress.compare({INGRESS: Recorded(1.0), LOOKUP: Recorded(1.0)}, {INGRESS: 0.1, LOOKUP: 0.9})
    assert regress.problem(rows) == f"fell: {INGRESS}"


def test_a_missing_ratio_is_said_and_passed_over() -> None:
    rows = regress.compare({INGRESS: Recorded(1.0), "gone": Recorded(1.0)}, {INGRESS: 1.0, LOOKUP: 1.0})
    assert [(row.name, row.verdict) for row in rows] == [
        (INGRESS, "ok"),
        (LOOKUP, "not recorded"),
        ("gone", "not measured"),
    ]
    assert regress.problem(rows) is None


@pytest.mark.parametrize(
    ("recorded", "now"), [({}, {}), ({INGRESS: Recorded(1.0)}, {LOOKUP: 1.0}), ({}, {INGRESS: 1.0})]
)
def test_nothing_to_compare_is_a_failure(recorded: dict[str, Recorded], now: dict[str, float]) -> None:
    assert "nothing could be compared" in (regress.problem(regress.compare(recorded, now)) or "")


def test_recording_keeps_shares_and_what_was_not_measured() -> None:
    recorded = {INGRESS: Recorded(0.5, 0.8), LOOKUP: Recorded(0.9)}
    assert regress.record(recorded, {INGRESS: 0.70004}) == {INGRESS: Recorded(0.7, 0.8), LOOKUP: Recorded(0.9)}


def test_the_command_records_passes_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, ratios = tmp_path / "run.json", ["--ratios", str(tmp_path / "ratios.json")]
    runs.write(run, measured(700))
    assert regress.main([str(run), *ratios]) == 1
    assert regress.main([str(run), *ratios, "--record"]) == 0
    runs.write(run, measured(500))
    assert regress.main([str(run), *ratios]) == 0
    runs.write(run, measured(300, quick=False))
    capsys.readouterr()
    assert regress.main([str(run), *ratios]) == 1
    said = capsys.readouterr().out
    assert f"| {INGRESS} | 0.70 | 0.42 | 0.30 | FELL |" in said
    assert "no quick run" in said


@pytest.mark.parametrize("content", ["", '{"x": {"value": 0}}', '{"x": {"value": 1, "least": 2}}'])
def test_ratios_that_cannot_be_read_are_no_pass(tmp_path: Path, content: str) -> None:
    runs.write(tmp_path / "run.json", measured(700))
    (tmp_path / "ratios.json").write_text(content)
    assert regress.main([str(tmp_path / "run.json"), "--ratios", str(tmp_path / "ratios.json")]) == 2
