"""What stops a processor before it empties a topic into the dead letters, and which incidents a lane notes."""

from __future__ import annotations

import pytest

from pipeline import incidents
from pipeline.incidents import Incident
from processor import guard
from processor.circuit import Circuit
from processor.guard import MINIMUM, SUSPICIOUS_MINIMUM, WINDOW, Rejections
from processor.handler import Outage


def test_accidents_are_let_through() -> None:
    rejections = Rejections(0.5)
    assert rejections.add(MINIMUM - 1, MINIMUM - 1) is None
    assert rejections.add(MINIMUM + 2, 1) is None


def test_most_of_the_latest_records_are_not() -> None:
    rejections = Rejections(0.5)
    assert rejections.add(50, 50) is None
    assert rejections.add(50, 50) == "100 of the latest 100 records would become dead letters"


def test_a_batch_that_brings_no_dead_letter_never_stops() -> None:
    rejections = Rejections(0.5)
    rejections.add(99, 99)
    rejections.add(20, 20)
    assert rejections.add(1, 0) is None


def test_what_was_long_ago_is_forgotten() -> None:
    rejections = Rejections(0.5)
    for _ in range(100):
        assert rejections.add(WINDOW, 99) is None
    assert rejections.add(150, 150) is None
    assert rejections.add(900, 900) is not None


def test_one_that_was_stopped_before_stops_sooner() -> None:
    rejections = Rejections(0.5)
    rejections.suspect()
    assert rejections.add(SUSPICIOUS_MINIMUM - 1, SUSPICIOUS_MINIMUM - 1) is None
    assert rejections.add(1, 1) is not None


@pytest.mark.parametrize("suspect", [False, True])
def test_a_share_of_one_is_never_exceeded(suspect: bool) -> None:
    rejections = Rejections(1.0)
    if suspect:
        rejections.suspect()
    assert all(rejections.add(500, 500) is None for _ in range(10))


def outage(since: int | None) -> Circuit:
    found = Circuit(Outage())
    if since is not None:
        found.open(since, "OSError: down", probe_at=0.0)
    return found


def test_an_open_circuit_is_noted_once_and_ended_once() -> None:
    rows = guard.changes((), {"crm": outage(7), "mail": outage(None)}, moved=False)
    expected = Incident(kind="circuit_open", subject="crm", since=7, reason="OSError: down")
    assert rows == {expected.key: incidents.encode(expected)}
    assert guard.changes(rows, {"crm": outage(9)}, moved=True) == {}
    assert guard.changes(rows, {"crm": outage(None)}, moved=False) == {expected.key: None}


def test_the_circuit_of_a_handler_that_is_gone_is_over() -> None:
    (key,) = guard.changes((), {"crm": outage(7)}, moved=False)
    assert guard.changes([key], {}, moved=False) == {key: None}


def test_a_stop_is_over_when_records_are_committed_again() -> None:
    rejections, lost = (guard.stopped(subject, "", 0).key for subject in (guard.REJECTIONS, guard.RECORDS_LOST))
    assert guard.changes([rejections], {}, moved=False) == {}
    assert guard.changes([rejections], {}, moved=True) == {rejections: None}
    # The lane could be opened, so nothing is missing any more.
    assert guard.changes([lost], {}, moved=False) == {lost: None}
