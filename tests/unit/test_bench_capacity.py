"""The model's arithmetic, and that its document and topics.yaml agree with it."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import capacity, runs
from bench.capacity import Assumed, Measured
from bench.results import Run, Sample
from pipeline import topics
from pipeline.errors import ConfigError

MEASURED, ASSUMED = Measured(), Assumed()


def test_the_document_holds_what_the_model_says() -> None:
    document = capacity.DOCUMENT.read_text()
    run = runs.read(capacity.RUN) if capacity.RUN.exists() else None
    assert capacity.renewed(document, run) == document


@pytest.mark.parametrize("document", ["", f"{capacity._BEGIN}\n{capacity._END}" * 2])
def test_a_document_without_one_place_for_the_tables_is_refused(document: str) -> None:
    with pytest.raises(ConfigError, match="one pair"):
        capacity.renewed(document, None)


def test_assumptions_about_topics_are_those_of_the_file() -> None:
    wanted = topics.load(topics.default_file())
    days = {topic.name: int(topic.config.get("retention.ms", 0)) / 86_400_000 for topic in wanted.all()}
    assert days[wanted.events.name] == ASSUMED.retention_days
    assert days[wanted.seen.name] == ASSUMED.changelog_days
    assert wanted.events.partitions == ASSUMED.least_partitions
    assert sum(topic.key in ("email", "lane") for topic in wanted.all()) == ASSUMED.laned_topics


def test_ingress_cores_reproduce_both_points_that_were_measured() -> None:
    alone, batched = (replace(ASSUMED, events_per_delivery=size, utilisation=1.0) for size in (1, 100))
    assert capacity.ingress_cores(8_000, MEASURED, alone) == pytest.approx(1)
    assert capacity.ingress_cores(60_000, MEASURED, batched) == pytest.approx(1)


def test_a_small_load_still_has_a_process_more_for_its_copies() -> None:
    plan = capacity.plan(1_000, MEASURED, ASSUMED)
    assert (plan.processors, plan.partitions, plan.brokers) == (2, 12, 3)


@given(st.floats(1, 1e8), st.floats(1e3, 1e6), st.integers(1, 20))
def test_lanes_are_shared_out_evenly_and_more_events_never_take_less(events: float, speed: float, lanes: int) -> None:
    measured, assumed = replace(MEASURED, processor_events=speed), replace(ASSUMED, lanes_per_process=lanes)
    plan, more = (capacity.plan(events * times, measured, assumed) for times in (1, 2))
    assert plan.partitions % plan.processors == 0
    assert plan.partitions >= max(ASSUMED.least_partitions, lanes * plan.processors)
    assert plan.processors * speed * ASSUMED.utilisation >= events * 0.999
    for name in ("processors", "brokers", "ingress_cores", "events_bytes", "written_bytes", "cross_zone_bytes"):
        assert getattr(more, name) >= getattr(plan, name)


def test_disk_is_what_is_kept_in_every_replica() -> None:
    plan = capacity.plan(1, replace(MEASURED, event_bytes=1_000), ASSUMED)
    assert plan.events_bytes == 1_000 * 86_400 * 14 * 3


def test_a_billion_events_cost_what_their_parts_cost() -> None:
    free = replace(ASSUMED, core_hour=0, disk_gb_month=0, cross_zone_gb=0)
    assert capacity.plan(1e6, MEASURED, free).cost_per_billion == 0
    crossing = replace(free, cross_zone_gb=1)
    # To the leader 2 of 3 times, to two followers, and to the processor 2 of 3 times; changelogs to one copy.
    assert capacity.plan(1e6, MEASURED, crossing).cost_per_billion == pytest.approx((950 + 120) * (2 / 3 + 2 + 2 / 3))


def test_one_address_with_a_fifth_of_all_events_bounds_the_whole() -> None:
    assert capacity.hot_address(MEASURED, 0.2) == pytest.approx(300_000)


RUN = Run(
    {},
    {},
    [
        Sample("ingress", "64 connections", "postlog", 0, {"requests/s": 7_000.0}),
        Sample("ingress", "batches of 100", "postlog", 0, {"events/s": 50_000.0}),
        Sample(
            "processor",
            "2 million events",
            "postlog",
            0,
            {"events/s": 40_000.0, "cpu s/million": 30.0, "changelog B/event": 111.0},
        ),
        Sample("scaling", "2 processes", "postlog", 0, {"cpu s/million": 35.0, "topic B/event": 600.0}),
        Sample("state", "0 live ids", "postlog", 0, {"events/s": 1.0, "MB": 100.0, "disk MB": 10.0}),
        Sample(
            "state",
            "1 million live ids",
            "postlog",
            0,
            {"events/s": 1.0, "MB": 102.0, "disk MB": 50.0, "restore records/s": 2e5},
        ),
    ],
)


def test_every_figure_comes_from_a_run_that_has_it() -> None:
    figures, missing = capacity.measured(RUN)
    assert missing == []
    assert figures == Measured(
        ingress_requests=7_000,
        ingress_batched=50_000,
        processor_events=40_000,
        processor_cores=1.4,
        event_bytes=600,
        changelog_bytes=111,
        restore_records=2e5,
        state_bytes=40 * 2**20 / 1e6,
        state_memory=2 * 2**20 / 1e6,
        live_ids=1e6,
    )


def test_figures_that_a_run_does_not_have_stay_stand_ins_and_are_named() -> None:
    figures, missing = capacity.measured(Run({}, {}, []))
    assert figures == Measured()
    assert missing == [field.name for field in fields(Measured)]
    assert capacity.tables(figures, missing, ASSUMED).count("stand-in") == len(missing)


def test_the_command_prints_a_plan_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert capacity.main(["--million", "1", "--json", "--set", "events_per_delivery=100"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["plan"]["events"] == 1e6
    assert said["assumed"]["events_per_delivery"] == 100
    assert said["plan"]["cost_per_billion"] == pytest.approx(sum(said["plan"]["cost"].values()))


@pytest.mark.parametrize(
    "setting", ["nonsense=1", "unique", "unique=much", "replication=0", "core_hour=-1", "core_hour=inf"]
)
def test_an_assumption_that_is_none_is_refused(setting: str) -> None:
    assert capacity.main(["--set", setting]) == 2
