"""What a chaos run has to have done to pass."""

from __future__ import annotations

from tests.chaos.run import Report


def test_a_run_in_which_a_service_asked_for_a_person_has_failed() -> None:
    report = Report(1, 60.0, "", ended={"processor": 2})
    assert report.passed
    report.refused.append("processor: refused by Kafka")
    assert not report.passed
    assert "REFUSED processor: refused by Kafka" in report.lines()
