"""In which order a rebuild writes, so that whatever breaks off between, no fact is without an entry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest

from console import event_log, rebuild
from pipeline.contract import Event
from pipeline.errors import Fenced, PostlogError
from pipeline.settings import Settings
from pipeline.suppression import Facts, Span
from processor import former
from processor.rebuild import Rebuild

SETTINGS = Settings()
TOLD = former.told_again("ann@example.com", Facts(complaint=Span(1, 2)), 3)


class Written(list[str]):
    """What was done, in order; doing `fails` fails."""

    fails = ""

    def did(self, what: str) -> None:
        if what == self.fails:
            raise Fenced("partition 1 has another owner now")
        self.append(what)


class FakeLane:
    def __init__(self, number: int, written: Written) -> None:
        self.number = number
        self._written = written

    async def commit(self) -> None:
        self._written.did(f"commit {self.number}")

    async def drop_former(self) -> None:
        self._written.did(f"drop {self.number}")


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Written:
    written = Written()

    async def append(_: Settings, events: Sequence[Event]) -> None:
        written.did(f"tell {len(events)}")

    monkeypatch.setattr(event_log, "append", append)
    return written


def lanes(written: Written) -> list[Rebuild]:
    return [cast("Rebuild", FakeLane(number, written)) for number in range(2)]


async def test_the_log_is_told_first_and_former_keys_go_when_every_lane_is_written(written: Written) -> None:
    await rebuild._commit(SETTINGS, lanes(written), TOLD)
    assert written == ["tell 2", "commit 0", "commit 1", "drop 0", "drop 1"]


@pytest.mark.parametrize("fails", ["tell 2", "commit 0", "commit 1"])
async def test_no_former_key_goes_if_anything_before_that_fails(written: Written, fails: str) -> None:
    written.fails = fails
    with pytest.raises((PostlogError, Fenced)):
        await rebuild._commit(SETTINGS, lanes(written), TOLD)
    assert not [what for what in written if what.startswith("drop")]


async def test_nothing_is_told_where_there_is_nothing_to_tell(written: Written) -> None:
    await rebuild._commit(SETTINGS, lanes(written), [])
    assert written == ["commit 0", "commit 1", "drop 0", "drop 1"]
