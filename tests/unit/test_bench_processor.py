"""What the processor's benchmark names, counts and compares."""

import asyncio
from pathlib import Path

import pytest

from bench import workers
from bench.fill import Load
from bench.inputs import LETTERS, Input
from bench.processor import CANDIDATES
from bench.stand import Wrong
from pipeline import kafka


def given(events: int) -> Input:
    return Input("127.0.0.1:9092", Load(events), f"bench0-{events}-{'r' * LETTERS}")


def test_rounds_read_the_same_events_and_share_nothing_else(tmp_path: Path) -> None:
    topic = given(100)
    rounds = [topic.settings(number, tmp_path) for number in (1, LETTERS - 1)]
    one, other = (kafka.topics_of(topic.settings(number, tmp_path)) for number in (1, LETTERS - 1))
    assert one.events == other.events
    assert one.events.name == topic.topic
    assert {t.name for t in one.all()} & {t.name for t in other.all()} == {topic.topic}
    assert len({kafka.group_of(settings, "processor") for settings in rounds}) == 2


def test_what_is_right_follows_from_the_events_that_were_made() -> None:
    topic = given(1000)
    assert len(list(topic.lines())) == 1000
    assert topic.right.unique == 900  # each tenth repeats the one before it
    assert 200 < len(topic.right.suppressed) < 400


def test_the_latest_complete_line_of_a_log_counts(tmp_path: Path) -> None:
    log = tmp_path / "peer.log"
    log.write_text("starting\nprocessed 10 unique 9\nwarning\nprocessed 20 unique 18\nprocessed 3")
    assert [asyncio.run(workers._told(log, which)) for which in (0, 1)] == [20, 18]
    log.write_text("starting\n")
    assert asyncio.run(workers._told(log, 0)) == 0


def test_speed_counts_what_was_done_between_two_looks() -> None:
    figures = workers._speed(1000, (200, 10.0, 1.0), 12.0, 1.8)
    assert figures == {"events/s": 400.0, "cpu s/million": pytest.approx(1000.0)}
    with pytest.raises(Wrong, match="too few"):
        workers._speed(1000, (1000, 10.0, 1.0), 10.0, 1.0)


def test_a_list_with_one_address_too_few_is_wrong() -> None:
    topic = given(1000)
    list(topic.lines())
    workers._compare(set(topic.right.suppressed), topic)
    with pytest.raises(Wrong, match="1 missing, 0 more"):
        workers._compare(topic.right.suppressed - {min(topic.right.suppressed)}, topic)


def test_candidates_have_names_of_their_own() -> None:
    assert len({candidate.name for candidate in CANDIDATES}) == len(CANDIDATES)
