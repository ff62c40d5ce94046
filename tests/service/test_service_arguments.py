"""A service takes its settings from the environment, and says so to who tries anything else."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pipeline import logs, service
from pipeline.errors import ConfigError, LanesFailed
from pipeline.settings import Settings


@pytest.mark.parametrize("name", ["processor", "alerter", "lookup"])
@pytest.mark.parametrize(("argument", "code"), [("--help", 0), ("--port=9", 2)])
def test_arguments_start_nothing(name: str, argument: str, code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", name, argument], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == code
    assert "postlog settings" in done.stdout


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("why"), 2),
        (ExceptionGroup("tasks", [ValueError(), ExceptionGroup("more", [ConfigError("why")])]), 2),
        (LanesFailed("why"), 1),
        (ExceptionGroup("tasks", [LanesFailed("why")]), 1),
        (ZeroDivisionError(), 1),
    ],
)
def test_what_a_person_must_mend_is_told_by_the_exit_code_also_from_among_several_tasks(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "configure", lambda *_: None)  # for the whole process

    def start(_: Settings) -> None:
        raise error

    assert service.exit_code("service", start, {}) == code
