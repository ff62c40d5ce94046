"""A service takes its settings from the environment, and says so to who tries anything else."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("name", ["processor", "alerter", "lookup"])
@pytest.mark.parametrize(("argument", "code"), [("--help", 0), ("--port=9", 2)])
def test_arguments_start_nothing(name: str, argument: str, code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", name, argument], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == code
    assert "postlog settings" in done.stdout
