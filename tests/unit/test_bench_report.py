"""The page and its pictures say what a run measured."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import capacity, plot, report, runs
from bench.__main__ import write_papers
from bench.results import Run, Sample, medians
from pipeline.errors import ConfigError


def sample(section: str, case: str, candidate: str, number: int = 0, **figures: float) -> Sample:
    return Sample(section, case, candidate, number, {name.replace("_per_", "/"): v for name, v in figures.items()})


def run(*samples: Sample, quick: bool = False) -> Run:
    return Run({"processors": "2"}, {"aiohttp": "3.14"}, list(samples), quick)


INGRESS = (
    sample("ingress", "64 connections", "aiohttp no-op", 0, requests_per_s=9_000.0),
    sample("ingress", "64 connections", "aiohttp no-op", 1, requests_per_s=10_000.0),
    sample("ingress", "64 connections", "aiohttp no-op", 2, requests_per_s=12_000.0),
    sample("ingress", "64 connections", "postlog", 0, requests_per_s=7_000.0),
    sample("ingress", "batches of 10", "postlog", 0, events_per_s=20_000.0),
    sample("ingress", "batches of 100", "postlog", 0, events_per_s=61_000.0),
)
STATE = (
    sample("state", "0 live ids", "postlog", 0, events_per_s=50_000.0, MB=100.0),
    sample("state", "20 million live ids", "postlog", 0, events_per_s=40_000.0, MB=130.0),
)


def lines_of(section: str, *samples: Sample) -> list[str]:
    (found,) = [s for s in report.SECTIONS if s.name == section]
    return report.section_text(found, samples).splitlines()


def test_candidates_of_a_case_are_compared_with_the_base() -> None:
    lines = lines_of("ingress", *INGRESS)
    assert "|  | × aiohttp no-op | requests/s | lowest – highest |" in lines
    assert "| aiohttp no-op | 1.00 | 10,000 | 9,000 – 12,000 |" in lines
    assert "| **postlog** | 0.70 | 7,000 | 7,000 – 7,000 |" in lines


def test_a_pace_that_was_given_is_not_compared() -> None:
    both = [sample("ingress", "60 % load", who, 0, requests_per_s=5.0) for who in ("aiohttp no-op", "postlog")]
    lines = lines_of("ingress", *both)
    assert "|  | requests/s |" in lines
    assert "| **postlog** | 5.00 |" in lines


def test_cases_of_one_candidate_stand_below_each_other() -> None:
    lines = lines_of("ingress", *INGRESS)
    assert "| batches of 10 | 20,000 | 20,000 – 20,000 |" in lines
    assert "| batches of 100 | 61,000 | 61,000 – 61,000 |" in lines


def test_a_state_is_compared_with_the_empty_one() -> None:
    lines = lines_of("state", *STATE)
    assert "|  | × 0 live ids | events/s | lowest – highest | MB |" in lines
    assert "| 20 million live ids | 0.80 | 40,000 | 40,000 – 40,000 | 130 |" in lines


def test_a_figure_that_only_some_have_leaves_a_dash() -> None:
    more = sample("state", "5 million live ids", "postlog", 0, restores_per_s=4.0)
    assert "| 5 million live ids | – | – | – | – | 4.00 |" in lines_of("state", *STATE, more)


def test_a_peer_with_fewer_events_is_compared_all_the_same() -> None:
    ours = sample("processor", "2 million events", "postlog", 0, events_per_s=60_000.0)
    theirs = [sample("processor", "40,000 events", name, 0, events_per_s=3_000.0) for name in ("Faust", "Quix")]
    assert "| Faust | 0.05 | 3,000 | 3,000 – 3,000 |" in lines_of("processor", ours, *theirs)


def test_goals_come_before_sections_and_what_must_be_said_is_said() -> None:
    page = report.document(run(*INGRESS, *STATE))
    titles = re.findall(r"^## (.*)$", page, re.MULTILINE)
    assert titles[0] == "Goals"
    assert titles[-1].startswith("Machine")
    assert "| Ingress, 1 process, 64 connections | ≥ 0.65 × aiohttp no-op | 0.70 × aiohttp no-op | met |" in page
    assert "One machine, two cores" in page
    assert f"({report.LIMITS})" in page
    assert "| processors | 2 |" in page
    assert "| aiohttp | 3.14 |" in page
    assert "quick run" not in page
    assert "quick run" in report.document(run(*INGRESS, quick=True))


def test_only_who_was_measured_is_told_about() -> None:
    page = report.document(run(*INGRESS))
    assert "the ceiling of this HTTP server" in page
    assert "Bull" not in page


def test_every_table_row_has_as_many_cells_as_its_head() -> None:
    blocks = re.findall(r"(?:^\|.*\n)+", report.document(run(*INGRESS, *STATE)), re.MULTILINE)
    assert blocks
    for block in blocks:
        assert len({line.count("|") for line in block.splitlines()}) == 1, block


def test_every_picture_that_the_page_shows_is_drawn() -> None:
    measured = run(*INGRESS, *STATE)
    shown = set(re.findall(rf"\]\({report.PICTURES}/(.*?)\)", report.document(measured)))
    assert shown == set(report.pictures(measured)) == {"ingress.svg", "state-speed.svg", "state-memory.svg"}


def test_every_candidate_of_the_sections_has_a_promise() -> None:
    assert {section.base for section in report.SECTIONS if section.base} <= report.PROMISES.keys()


@pytest.mark.parametrize("picture", [plot.bars("a < b", [("postlog", 2.0), ("x & y", 0.0)]), plot.bars("none", [])])
def test_bars_are_well_formed_and_bring_nothing_along(picture: str) -> None:
    root = ElementTree.fromstring(picture)
    assert {element.tag.rpartition("}")[2] for element in root.iter()} <= {"svg", "title", "text", "rect"}
    assert "http" not in picture.replace('xmlns="http://www.w3.org/2000/svg"', "")


def test_a_bar_is_as_long_as_its_value() -> None:
    root = ElementTree.fromstring(plot.bars("t", [("postlog", 50.0), ("other", 100.0)]))
    ours, other = (float(e.attrib["width"]) for e in root.iter() if e.tag.endswith("rect"))
    assert other == pytest.approx(2 * ours)


def test_a_line_stands_on_zero_and_marks_each_point() -> None:
    root = ElementTree.fromstring(plot.line("t", "million", [(0.0, 10.0), (20.0, 5.0)]))
    first, second = ([float(e.attrib[a]) for a in ("cx", "cy")] for e in root.iter() if e.tag.endswith("circle"))
    assert first[0] < second[0]
    assert first[1] < second[1]


@pytest.mark.parametrize("points", [[], [(0.0, 0.0)]])
def test_a_line_of_nothing_is_no_error(points: list[tuple[float, float]]) -> None:
    ElementTree.fromstring(plot.line("t", "million", points))


def test_of_a_section_in_several_runs_the_last_counts() -> None:
    older = run(*INGRESS, *STATE)
    newer = Run({"processors": "4"}, {}, [sample("state", "0 live ids", "postlog", 0, events_per_s=1.0)])
    both = runs.merged([older, newer])
    found = medians(both.samples)
    assert found["state", "0 live ids", "postlog"] == {"events/s": 1.0}
    assert ("state", "20 million live ids", "postlog") not in found
    assert found["ingress", "64 connections", "postlog"] == {"requests/s": 7_000.0}
    assert (both.machine, both.versions) == ({"processors": "4"}, {"aiohttp": "3.14"})


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    runs.write(tmp_path / "deep" / "run.json", run(*INGRESS))
    assert runs.read(tmp_path / "deep" / "run.json") == run(*INGRESS)


@pytest.mark.parametrize("content", [None, b"", b'{"samples": 1}'])
def test_a_file_that_holds_no_run_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "run.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"run\.json"):
        runs.read(path)


def test_papers_are_written_and_pictures_of_nothing_removed(tmp_path: Path) -> None:
    pictures = tmp_path / report.PICTURES
    pictures.mkdir()
    (pictures / "lookup.svg").write_text("of an earlier run")
    (tmp_path / "capacity.md").write_text(capacity.DOCUMENT.read_text())
    measured = run(*INGRESS, *STATE)
    write_papers(measured, tmp_path)
    assert runs.read(tmp_path / "benchmarks.json") == measured
    assert (tmp_path / "benchmarks.md").read_text() == report.document(measured)
    assert {path.name for path in pictures.iterdir()} == report.pictures(measured).keys()
    assert (
        "| ingress: deliveries of one event /s, per core | 7,000 | measured |"
        in (tmp_path / "capacity.md").read_text()
    )


def test_a_section_with_fewer_rounds_is_named() -> None:
    assert "| rounds | 3; 1 of state |" in report.document(run(*INGRESS, *STATE))
