"""The short cut of `make chaos`: everything breaks for two minutes, and the promise is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.run import run

#: A plan in which two minutes hit brokers, network, disks, clocks and every service.
SEED, SECONDS, RATE = 3, 120.0, 60.0


@pytest.mark.timeout(1_200)  # it has its own bounds, and says more than a timeout could
async def test_nothing_is_lost_and_nothing_applied_twice_while_everything_breaks(tmp_path: Path) -> None:
    report = await run(tmp_path, seed=SEED, seconds=SECONDS, rate=RATE)
    assert report.passed, "\n".join([*report.log, *report.lines()])
    assert report.verdict.events > SECONDS
